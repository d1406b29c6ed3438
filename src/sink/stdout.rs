//! The standard output: newline-delimited JSON, for `demo`, pipes and containers whose logs are
//! collected. Best effort: what a pipe has taken may never be read.
//!
//! Comes in: batches of lines. Goes out: bytes. Never blocks a worker thread; a reader that is slow
//! slows the source down.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::line::Written;
use super::{Accepted, EncodedBatch, SendError, Sink, line};
use crate::config::SinkConfig;
use crate::event::Event;
use crate::metrics::Metrics;

/// Writes to the standard output, or to what a test gives.
pub struct StdoutSink {
    name: String,
    written: Written,
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    metrics: Arc<Metrics>,
}

impl StdoutSink {
    /// The process's own standard output.
    pub fn new(config: &SinkConfig, metrics: Arc<Metrics>) -> StdoutSink {
        StdoutSink::to(&config.name, Written::of(config), Box::new(io::stdout()), metrics)
    }

    fn to(name: &str, written: Written, out: Box<dyn Write + Send>, metrics: Arc<Metrics>) -> StdoutSink {
        metrics.sink_bytes.with_label_values(&[name, "identity"]);
        StdoutSink { name: name.to_owned(), written, out: Arc::new(Mutex::new(out)), metrics }
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        let out = Arc::clone(&self.out);
        let written = tokio::task::spawn_blocking(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(&bytes)?;
            out.flush()
        });
        let result = written.await.unwrap_or_else(|join| Err(io::Error::other(join)));
        result.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => SendError::Fatal {
                reason: format!(
                    "sink `{}`: nobody reads the standard output any more; start the reader again",
                    self.name
                ),
            },
            _ => SendError::Retry {
                after: None,
                reason: format!("sink `{}`: cannot write to the standard output: {error}", self.name),
            },
        })
    }
}

impl Sink for StdoutSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        line::push_event(event, self.written, out);
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        self.write(batch.bytes.clone()).await?;
        self.metrics.sink_bytes.with_label_values(&[&self.name, "identity"]).inc_by(batch.bytes.len() as u64);
        Ok(Accepted::default())
    }

    fn serial(&self) -> bool {
        true
    }

    /// An empty write says nothing about a pipe, so this only lets the driver try its batch again.
    async fn probe(&self) -> Result<(), SendError> {
        self.write(Vec::new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;
    use crate::normalize::Form;

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_broken_pipe_is_fatal() {
        let sink = StdoutSink::to("out", Written::new(Format::Raw, Form::Cef), Box::new(Closed), Metrics::new());
        let batch = EncodedBatch { bytes: b"{}\n".to_vec(), ends: vec![3] };
        assert!(matches!(sink.send(&batch).await, Err(SendError::Fatal { .. })));
    }
}
