//! The sink's producers: made when one is needed, replaced when librdkafka has declared one dead or the
//! login has changed. What a producer that goes has not reported is sent again by the next, and may
//! be doubled without a crash of ours, so it is said and counted.

use super::*;

impl KafkaSink {
    /// The producer of a slot, made where there is none yet.
    pub(super) async fn producer(&self, alone: bool) -> Result<Arc<Producer>, SendError> {
        let slot = if alone { &self.single } else { &self.many };
        let there = || slot.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(producer) = there() {
            return Ok(producer);
        }
        let _one_makes_it = self.renewing.lock().await;
        if let Some(producer) = there() {
            return Ok(producer);
        }
        let generation = self.generations.fetch_add(1, Ordering::AcqRel);
        let (config, kafka, shared) = (self.config.clone(), self.kafka.clone(), Arc::clone(&self.shared));
        let make = move || {
            let recipe = Recipe::read(&config, &kafka).map_err(|error| error.to_string())?;
            Producer::make(recipe, &shared, generation, alone)
        };
        let made = tokio::task::spawn_blocking(make).await.unwrap_or_else(|join| Err(join.to_string()));
        let producer = Arc::new(made.map_err(|reason| self.fatal(format!("librdkafka makes no producer: {reason}")))?);
        *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&producer));
        Ok(producer)
    }

    /// Lets go of a producer, if it is still the one in its slot; the next send makes a new one. False
    /// when somebody else did so before.
    pub(super) fn discard(&self, producer: &Producer, reason: &str) -> bool {
        let mut was_there = false;
        for slot in [&self.many, &self.single] {
            let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|there| there.generation == producer.generation) {
                *slot = None;
                self.shared.metrics.kafka_renewed.with_label_values(&[self.name.as_str(), reason]).inc();
                was_there = true;
            }
        }
        was_there
    }

    /// `Err` when a producer had ended fatally; the next try makes a new one.
    pub(super) async fn bury_the_dead(&self) -> Result<(), SendError> {
        for slot in [&self.many, &self.single] {
            let there = slot.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(producer) = there
                && let Some((code, said)) = producer.fatal()
            {
                return Err(self.bury(&producer, code, &said).await);
            }
        }
        Ok(())
    }

    /// Returns when these producers owe no report any more, or after [`LAST_REPORTS`].
    pub(super) async fn last_reports(&self, generations: &[u64]) {
        let deadline = Instant::now() + LAST_REPORTS;
        while generations.iter().any(|one| self.shared.ledger.owes(*one)) && Instant::now() < deadline {
            tokio::time::sleep(WAIT_ON).await;
        }
    }

    /// Ends a producer that librdkafka has declared dead, after what it still reports.
    pub(super) async fn bury(&self, producer: &Producer, code: Code, said: &str) -> SendError {
        self.last_reports(&[producer.generation]).await;
        let unreported = self.shared.ledger.owes(producer.generation);
        let was_there = self.discard(producer, "fatal");
        // A right that is missing ends each producer anew; that is said once, by the circuit.
        if was_there && class(code) != Class::Held {
            tracing::warn!(sink = %self.name, ?code, reason = said, unreported,
                "the idempotent producer ended; a new one takes over, and what has no report is sent again");
        }
        match class(code) {
            Class::Held => self.fatal(held(code, "")),
            _ => self.retry(format!("the idempotent producer ended: {said}")),
        }
    }
}
