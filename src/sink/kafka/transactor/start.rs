//! A producer that may write: made, initialised, and everything committed before it read back. Done at the
//! first work, and again after each end of a transaction that was not certain.
//!
//! Who was fenced finds out here why: the brokers say the same word to a process whose successor has begun and to
//! one whose transaction they ended because of its time-out. A successor has put its name into the checkpoints.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::Message as _;

use super::call::{Call, Failure};
use super::checkpoint::{self, Entry, Instance};
use super::reader::{Positions, ReadError};
use super::{Actor, Stop};
use crate::clock::world_ms;
use crate::sink::kafka::clients::Clients;
use crate::sink::kafka::ledger::Wait;
use crate::sink::kafka::producer::{CHECKPOINT, Producer, Recipe};

/// How long a successor may take from initialising to its name in the checkpoints.
const NAMED: Duration = Duration::from_secs(2);
/// Key of the message that names who writes; a feed's key has no `@`.
const OWNER_KEY: &str = "@owner";
/// Where such messages are, whatever the partitioner and however many partitions there are by now: the last one
/// tells only where all are in one row.
const OWNER_PARTITION: i32 = 0;
/// Keys handed on at once: a megabyte.
const CHUNK: usize = 16 << 16;
/// How long reading waits for the state to make room for more keys.
const ROOM: Duration = Duration::from_secs(10);

/// This process.
fn instance() -> Instance {
    static INSTANCE: std::sync::OnceLock<Instance> = std::sync::OnceLock::new();
    *INSTANCE.get_or_init(|| fastrand::u128(..).to_le_bytes())
}

/// What the checkpoints say from some place on.
#[derive(Default)]
struct Found {
    positions: Positions,
    /// The last process to take over.
    owner: Option<Instance>,
}

impl Actor {
    /// The producer that may write.
    pub(super) async fn ready(&mut self) -> Result<Arc<Producer>, Stop> {
        if let Some(producer) = self.producer.clone() {
            match producer.fatal() {
                None => {
                    self.know_keys().await?;
                    return Ok(producer);
                }
                Some((code, said)) => {
                    tracing::warn!(sink = %self.shared.sink, ?code, reason = said, "the transactional producer ended; a new one takes over");
                    self.let_go("fatal");
                }
            }
        }
        if self.work.is_closed() && self.work.is_empty() {
            // Its sink is gone, and another may own the id by now.
            return Err(Stop::Later("the sink has ended".to_owned()));
        }
        if self.fenced {
            if self.is_superseded().await? {
                return Err(Stop::Superseded);
            }
            self.fenced = false;
        }
        self.generation += 1;
        let (config, kafka) = (self.config.clone(), self.kafka.clone());
        let (shared, generation) = (Arc::clone(&self.shared), self.generation);
        let topic = (!self.is_prepared).then(|| self.checkpoints.clone());
        let make = move || {
            let recipe = Recipe::read(&config, &kafka).map_err(|error| Stop::Held(error.to_string()))?;
            let clients = Clients::of(&recipe, &config.name);
            // First, since it is the one that hears what is wrong with the connection.
            let producer = Producer::make(recipe, &shared, generation, false)
                .map_err(|reason| Stop::Held(format!("librdkafka makes no producer: {reason}")))?;
            if let Some(topic) = topic {
                topic.prepare(&clients).map_err(|error| stop(&shared, error))?;
            }
            Ok(producer)
        };
        let made = tokio::task::spawn_blocking(make).await;
        let producer = Arc::new(made.unwrap_or_else(|join| Err(Stop::Later(join.to_string())))?);
        self.is_prepared = true;
        let done = self.take_over(&producer).await;
        match done {
            Ok(()) => {
                self.producer = Some(Arc::clone(&producer));
                Ok(producer)
            }
            Err(stop) => Err(stop),
        }
    }

    async fn take_over(&mut self, producer: &Arc<Producer>) -> Result<(), Stop> {
        let id = self.transactional.id.clone();
        Call::Init.on(producer, &id).await.map_err(|failure| self.not_begun(failure))?;
        let owned = self.owns;
        // What has been read before ends where a successor would have put its name: little is left to read.
        if owned && self.read().await?.owner.is_some_and(|owner| owner != instance()) {
            return Err(Stop::Superseded);
        }
        // The name goes first, because whoever we fenced by this waits for it no longer than `NAMED`, and days of keys
        // take longer to read. Nothing of ours is written before they are read.
        if let Err(failure) = self.name_us(producer).await {
            // Somebody has begun after us, and may be about to say so.
            self.fenced |= matches!(failure, Failure::Fenced(_)) && self.positions.is_some();
            return Err(self.not_begun(failure));
        }
        self.owns = true;
        // A first start without anybody to tell reads them later.
        if !owned && self.known.get().is_some() && self.read().await?.owner.is_some_and(|owner| owner != instance()) {
            return Err(Stop::Superseded);
        }
        self.landed();
        self.resolve();
        if !owned {
            tracing::info!(sink = %self.shared.sink, transactional_id = id, "the transactional producer has begun");
        }
        Ok(())
    }

    /// Puts our name into the checkpoints: it tells whoever we fenced why.
    async fn name_us(&mut self, producer: &Arc<Producer>) -> Result<(), Failure> {
        let id = self.transactional.id.clone();
        let value = checkpoint::owner(&id, instance(), world_ms());
        Call::Begin.on(producer, &id).await?;
        self.tickets += 1;
        let (ticket, wait) = (self.tickets | CHECKPOINT, Arc::new(Wait::default()));
        self.shared.ledger.queue(ticket, producer.generation, &wait);
        let produced = producer.note(&self.checkpoints.name, ticket, OWNER_KEY, Some(&value), Some(OWNER_PARTITION));
        let done = match produced {
            Ok(()) => Call::Commit.on(producer, &id).await,
            Err(code) => Err(Failure::Unsure(format!("{code:?}"))),
        };
        self.shared.ledger.forget(std::iter::once(ticket));
        done
    }

    fn not_begun(&self, failure: Failure) -> Stop {
        match failure {
            Failure::Held(reason) => Stop::Held(reason),
            Failure::Abort(reason) | Failure::Unsure(reason) | Failure::Fenced(reason) => {
                let trouble = self.shared.trouble();
                stop_with(trouble, format!("no transaction could be begun: {reason}"))
            }
        }
    }

    /// Takes note of where the checkpoints of a transaction landed that was committed.
    pub(super) fn landed(&mut self) {
        let Some(positions) = &mut self.positions else { return };
        for (partition, next) in self.shared.take_landed() {
            let at = positions.entry(partition).or_insert(next);
            *at = next.max(*at);
        }
    }

    /// Whether a successor has put its name into the checkpoints.
    pub(super) async fn is_superseded(&mut self) -> Result<bool, Stop> {
        for wait in [Duration::ZERO, NAMED] {
            tokio::time::sleep(wait).await;
            if self.read().await?.owner.is_some_and(|owner| owner != instance()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the state came later than the producer, reads the keys now.
    async fn know_keys(&mut self) -> Result<(), Stop> {
        if self.keys_known || self.known.get().is_none() {
            return Ok(());
        }
        self.positions = None;
        // A successor may have begun since we named ourselves, and its name is behind `positions` from now on.
        match self.read().await?.owner {
            Some(owner) if owner != instance() => Err(Stop::Superseded),
            _ => Ok(()),
        }
    }

    /// Reads what has been committed since it was last read, into the delivered map.
    async fn read(&mut self) -> Result<Found, Stop> {
        let from = self.positions.clone().unwrap_or_default();
        let (config, kafka, shared) = (self.config.clone(), self.kafka.clone(), Arc::clone(&self.shared));
        let (topic, id, known) = (self.checkpoints.clone(), self.transactional.id.clone(), Arc::clone(&self.known));
        let knows = known.get().is_some();
        let began = std::time::Instant::now();
        let read = tokio::task::spawn_blocking(move || {
            let clients = Clients::read(&config, &kafka).map_err(|error| Stop::Held(error.to_string()))?;
            let (mut found, mut keys, mut damaged) = (Found::default(), Vec::new(), 0_u64);
            let mut total = 0;
            let hand_on = |keys: &mut Vec<u8>| {
                if let Some(known) = known.get() {
                    let until = std::time::Instant::now() + ROOM;
                    // The journal's thread turns full memory into a file meanwhile.
                    while !known.state.restored(known.sink, keys)
                        && known.makes_room
                        && std::time::Instant::now() < until
                    {
                        std::thread::park_timeout(Duration::from_millis(20));
                        keys.clear();
                    }
                }
                keys.clear();
            };
            let read = topic.read(&clients, &from, &mut |message| {
                match checkpoint::read(message.payload().unwrap_or_default(), &id, &shared.sink) {
                    Ok(Some(Entry::Keys(more))) => {
                        total += more.len() / 16;
                        keys.extend_from_slice(more);
                        if keys.len() >= CHUNK {
                            hand_on(&mut keys);
                        }
                    }
                    Ok(Some(Entry::Owner(owner))) if message.partition() == OWNER_PARTITION => {
                        found.owner = Some(owner);
                    }
                    Ok(Some(Entry::Owner(_))) => {}
                    Ok(None) => {}
                    Err(checkpoint::Unreadable::Damaged) => damaged += 1,
                    Err(error) => return Err(ReadError::Held(format!("the topic `{}`: {error}", topic.name))),
                }
                Ok(())
            });
            found.positions = read.map_err(|error| stop(&shared, error))?;
            hand_on(&mut keys);
            if damaged > 0 {
                tracing::warn!(
                    topic = topic.name,
                    messages = damaged,
                    "messages in the checkpoint topic are none of ours; they are passed over"
                );
            }
            Ok((found, total))
        });
        let (found, total) = read.await.unwrap_or_else(|join| Err(Stop::Later(join.to_string())))?;
        if total > 0 {
            tracing::info!(sink = %self.shared.sink, keys = total, ms = began.elapsed().as_millis() as u64, "read back what the brokers have");
        }
        self.positions = Some(found.positions.clone());
        self.keys_known |= knows;
        Ok(found)
    }
}

fn stop(shared: &super::Shared, error: ReadError) -> Stop {
    match error {
        ReadError::Held(reason) | ReadError::Unfit(reason) => Stop::Held(reason),
        ReadError::Later(reason) => stop_with(shared.trouble(), reason),
    }
}

/// A login or a handshake that is refused says more than that nothing came.
fn stop_with(trouble: Option<(super::Trouble, String)>, reason: String) -> Stop {
    match trouble {
        Some((trouble @ (super::Trouble::Login | super::Trouble::Tls), said)) => Stop::Held(trouble.words(&said)),
        Some((trouble, said)) => Stop::Later(trouble.words(&said)),
        None => Stop::Later(reason),
    }
}
