//! The calls of the transaction protocol, one by one, off the async threads, and what their errors
//! mean for what comes next. Comes in: a producer. Goes out: done, or one of four ways to go on.
//!
//! librdkafka says of an error whether it may be tried again, whether the transaction must be aborted, or
//! whether the producer is at its end. After a call without a certain end the same producer must not go on, though
//! librdkafka would: a request of it that is late could end the transaction after (Jepsen, "Bufstream 0.1.0";
//! KAFKA-14402). A new producer raises the epoch, and what is late is refused.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::super::producer::{Context, Producer};
use crate::failpoint;

/// How long a call may take. Longer, and its end is not certain.
pub(super) const CALL: Duration = Duration::from_secs(15);

/// A call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init,
    Begin,
    Commit,
    Abort,
}

/// What a failed call means.
#[derive(Debug)]
pub(super) enum Failure {
    /// This transaction comes to nothing; the producer may go on after an abort.
    Abort(String),
    /// Whether it took effect is not known.
    Unsure(String),
    /// Our epoch is over: somebody else has initialised the id, or the brokers ended our transaction because of its
    /// time-out.
    Fenced(String),
    /// Nothing goes until somebody mends something.
    Held(String),
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Init => "init",
            Call::Begin => "begin",
            Call::Commit => "commit",
            Call::Abort => "abort",
        }
    }

    fn make(self, producer: &ThreadedProducer<Context>) -> KafkaResult<()> {
        match self {
            Call::Init => producer.init_transactions(CALL),
            Call::Begin => producer.begin_transaction(),
            Call::Commit => producer.commit_transaction(CALL),
            Call::Abort => producer.abort_transaction(CALL),
        }
    }

    /// Makes the call for the owner of `id`.
    pub async fn on(self, producer: &Arc<Producer>, id: &str) -> Result<(), Failure> {
        injected(self.name(), "before", id)?;
        let (producer, kept) = (Arc::clone(producer), Arc::clone(producer));
        let done = tokio::task::spawn_blocking(move || producer.call(|inner| self.make(inner))).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failure(&kept, id, error)),
            Err(join) => return Err(Failure::Unsure(join.to_string())),
        }
        failpoint::pass(match self {
            Call::Init => "txn_init",
            Call::Begin => "txn_begin",
            Call::Commit => "txn_commit",
            Call::Abort => "txn_abort",
        });
        injected(self.name(), "after", id)
    }
}

/// An error that a test has ordered: the call is not made, or its answer is lost.
pub(super) fn injected(call: &str, side: &str, id: &str) -> Result<(), Failure> {
    if cfg!(feature = "failpoints") && failpoint::fails(&format!("{call}.{side}"), id) {
        return Err(Failure::Unsure(format!("injected {side} `{call}`")));
    }
    Ok(())
}

fn failure(producer: &Producer, id: &str, error: KafkaError) -> Failure {
    let (mut code, mut said, abort) = match &error {
        KafkaError::Transaction(error) => (error.code(), error.string(), error.txn_requires_abort()),
        other => (other.rdkafka_error_code().unwrap_or(Code::Fail), other.to_string(), false),
    };
    if let Some((fatal, reason)) = producer.fatal() {
        (code, said) = (fatal, reason);
    }
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Failure::Fenced(said),
        Code::TransactionalIdAuthorizationFailed => Failure::Held(format!(
            "we are not authorised for the transactional id `{id}` ({said}); allow our user WRITE and DESCRIBE on it"
        )),
        Code::ClusterAuthorizationFailed | Code::InvalidTransactionTimeout => Failure::Held(said),
        _ if abort => Failure::Abort(said),
        _ => Failure::Unsure(format!("{said} ({code:?})")),
    }
}
