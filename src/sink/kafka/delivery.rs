//! A batch on its way: what of it is produced, and what its delivery reports mean. Comes in: frames.
//! Goes out: one answer for the driver. A message is produced once; it is produced again only when
//! librdkafka has let go of it, by the ledger's word.

use super::*;

impl KafkaSink {
    /// Produces what of `frames` is neither queued nor answered, and says how many that were. Waits for
    /// room inside librdkafka at most until `deadline`.
    pub(super) async fn produce(
        &self,
        frames: &[Frame<'_>],
        wait: &Arc<Wait>,
        deadline: Instant,
    ) -> Result<usize, SendError> {
        let ledger = &self.shared.ledger;
        let standings = ledger.adopt(frames.iter().map(|frame| frame.ticket), wait);
        let (mut taken_up, mut bytes) = (0, 0);
        for (frame, standing) in frames.iter().zip(standings) {
            let alone = match standing {
                None => false,
                Some(Standing::Failed { code, alone: false }) if class(code) == Class::Refused => true,
                Some(_) => continue,
            };
            let producer = self.producer(alone).await?;
            loop {
                ledger.queue(frame.ticket, producer.generation, wait);
                let Err(code) = producer.produce(frame, &self.header_names) else { break };
                match code {
                    Code::QueueFull => {
                        // Cannot be while the bound is the driver's; it passes with the next report, or
                        // never, while the brokers are away.
                        ledger.report(frame.ticket, producer.generation, Standing::Failed { code, alone });
                        ledger.forget(std::iter::once(frame.ticket));
                        if Instant::now() >= deadline {
                            return Err(self.retry("the queue of librdkafka is full; sent again"));
                        }
                        tokio::time::sleep(WAIT_ON).await;
                    }
                    // What librdkafka refuses by itself is about this message alone.
                    code => {
                        let standing = Standing::Failed { code, alone: true };
                        ledger.report(frame.ticket, producer.generation, standing);
                        break;
                    }
                }
            }
            taken_up += 1;
            bytes += frame.value.len() as u64;
            if taken_up % PRODUCED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.shared.metrics.sink_bytes.with_label_values(&[self.name.as_str(), "identity"]).inc_by(bytes);
        Ok(taken_up)
    }

    /// What the reports mean for the batch as a whole; forgets the tickets that have a verdict.
    /// `taken_before`: messages that the brokers had taken when this send began.
    pub(super) fn judge(
        &self,
        frames: &[Frame<'_>],
        wait: &Arc<Wait>,
        taken_before: u64,
    ) -> Result<Accepted, SendError> {
        let ledger = &self.shared.ledger;
        let standings = ledger.adopt(frames.iter().map(|frame| frame.ticket), wait);
        let (mut taken, mut queued, mut again) = (0, 0, None);
        let (mut misplaced, mut hold, mut refused) = (Vec::new(), None, Vec::new());
        for (index, (frame, standing)) in frames.iter().zip(&standings).enumerate() {
            match standing {
                Some(Standing::Taken) => taken += 1,
                Some(Standing::Queued { .. }) => queued += 1,
                None => again = again.or(Some(Code::PurgeQueue)),
                Some(Standing::Failed { code, alone }) => match class(*code) {
                    Class::Refused if *alone => refused.push((index, *code)),
                    // Of the whole request; the next send tries it alone.
                    Class::Refused => again = again.or(Some(*code)),
                    kind => {
                        if kind == Class::Held && self.topic_by_event && is_of_topic(*code) {
                            misplaced.push((index, *code));
                        } else if kind == Class::Held {
                            self.topics().troubled.insert(frame.topic.to_owned());
                            hold = hold.or(Some(held(*code, frame.topic)));
                        } else {
                            again = again.or(Some(*code));
                        }
                        // To be produced anew: librdkafka has let go of it.
                        ledger.forget(std::iter::once(frame.ticket));
                    }
                },
            }
        }
        if let Some(reason) = hold {
            return Err(self.fatal(reason));
        }
        if queued > 0 {
            let moves = self.shared.taken.load(Ordering::Acquire) > taken_before;
            return Err(match self.still_queued(queued) {
                SendError::Retry { after, reason } if moves => SendError::Slow { after, reason },
                other => other,
            });
        }
        if let Some(code) = again {
            return Err(self.retry(format!("the brokers did not take a message: {code:?}; sent again")));
        }
        if let Some((first, code)) = misplaced.first().copied() {
            return Err(self.misplaced(frames, &misplaced, frames[first].topic, code, taken));
        }
        let Some((first, code)) = refused.first().copied() else {
            ledger.forget(frames.iter().map(|frame| frame.ticket));
            return Ok(Accepted::default());
        };
        // One answer has one reason; the others follow with the next send, which produces nothing.
        let reason = self.refusal(&frames[first], code);
        let alike = |(index, other): &&(usize, Code)| *other == code && self.refusal(&frames[*index], code) == reason;
        let events: Vec<usize> = refused.iter().filter(alike).map(|(index, _)| *index).collect();
        ledger.forget(events.iter().map(|index| frames[*index].ticket));
        Err(SendError::Reject { events, reason })
    }

    /// Topics that are not there, of records that choose their topic. Among more neighbours that were `taken`
    /// they are refused, so that one odd record does not hold everybody; else everything is held.
    fn misplaced(
        &self,
        frames: &[Frame<'_>],
        misplaced: &[(usize, Code)],
        topic: &str,
        code: Code,
        taken: usize,
    ) -> SendError {
        let mut topics = self.topics();
        if misplaced.len() > taken {
            topics.troubled.extend(misplaced.iter().map(|(index, _)| frames[*index].topic.to_owned()));
            drop(topics);
            return self.fatal(held(code, topic));
        }
        let events: Vec<usize> = misplaced
            .iter()
            .filter(|(index, other)| *other == code && frames[*index].topic == topic)
            .map(|(index, _)| *index)
            .collect();
        // A probe asks for a topic that is in use.
        let in_use = |(index, _): &(usize, &Frame<'_>)| misplaced.iter().all(|(other, _)| other != index);
        topics.last = frames.iter().enumerate().find(in_use).map(|(_, frame)| frame.topic.to_owned());
        drop(topics);
        SendError::Reject {
            events,
            reason: format!("sink `{}`: {}; then replay the record", self.name, held(code, topic)),
        }
    }

    /// Reports are overdue.
    pub(super) fn still_queued(&self, queued: usize) -> SendError {
        match self.shared.trouble() {
            Some((trouble @ (Trouble::Login | Trouble::Tls), said)) => self.fatal(trouble.words(&said)),
            found => {
                let reason = match found {
                    Some((trouble, said)) => trouble.words(&said),
                    None if self.shared.is_throttled() => "the brokers throttle us because of a quota".to_owned(),
                    None => "the brokers have not answered yet (too few replicas in sync, or slow)".to_owned(),
                };
                let reason = format!("sink `{}`: {queued} messages wait inside librdkafka: {reason}", self.name);
                SendError::Retry { after: Some(WAIT_ON), reason }
            }
        }
    }

    /// Why a message is refused for good, with the limit.
    pub(super) fn refusal(&self, frame: &Frame<'_>, code: Code) -> String {
        let theirs = self.topics().limits.get(frame.topic).copied().flatten();
        let bytes = frame.value.len() as u64 + frame.key.len() as u64;
        let reason = refusal(bytes, frame.topic, code, self.kafka.max_message_bytes(), theirs);
        format!("sink `{}`: {reason}", self.name)
    }

    /// Asks for the limits of the topics that found a message too large, each once in a process.
    pub(super) async fn learn_limits(&self, frames: &[Frame<'_>], wait: &Arc<Wait>) {
        let standings = self.shared.ledger.adopt(frames.iter().map(|frame| frame.ticket), wait);
        let large = Some(Standing::Failed { code: Code::MessageSizeTooLarge, alone: true });
        for (frame, _) in frames.iter().zip(standings).filter(|(_, standing)| *standing == large) {
            let ours = frame.value.len() as u64 >= self.kafka.max_message_bytes();
            if !ours && !self.topics().limits.contains_key(frame.topic) {
                let bytes = limit::of_topic(&self.config, &self.kafka, frame.topic, QUESTION).await;
                self.topics().limits.insert(frame.topic.to_owned(), bytes);
            }
        }
    }
}
