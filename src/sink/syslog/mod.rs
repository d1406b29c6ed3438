//! Syslog: RFC 5424 or RFC 3164 over TLS, TCP, UDP or a unix socket.
//!
//! Comes in: events. Goes out: messages on one connection at a time. The protocol has no acknowledgement, so this is
//! what counts as taken: over TCP and TLS that the *kernel* of the receiver has acknowledged every byte of a batch
//! ([`unacknowledged`]), over a unix socket that it is in the socket, over UDP that it has left. What the receiver's
//! kernel had and its process may never have read is kept ([`ring`]) and sent again after a break, so a restart of the
//! receiver doubles messages rather than losing them; the record key tells. Never cuts a message without saying so in it.

mod datagram;
mod dial;
mod link;
mod message;
mod ring;
mod standing;
#[cfg(test)]
mod tests;
mod tls;
mod unacknowledged;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError, locked};
use crate::config::{Framing, Oversize, SinkConfig, SyslogAddress, SyslogConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use datagram::Stopped;
use dial::Trouble;
use link::{Link, Offered};
use message::Writer;
use ring::Sent;
use standing::{Standing, Way};
pub use tls::TlsError;

/// How long one `send` waits before the driver is told that the receiver is slow or takes nothing. The batch stays
/// where it is, and the next `send` of it waits on.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a receiver takes whatever it is (RFC 5425, 4.3.1: SHOULD, for TLS; rsyslog's default): a shorter message is not
/// what it hangs up on.
const TAKEN_BY_ALL: usize = 8192;
/// Times in a row that a receiver hangs up on a batch before the batch is to blame.
const BREAKS: u32 = 3;

/// Values of the label `reason` of `sink_resent_events_total`.
const RESENT_REASONS: [&str; 2] = ["no_answer", "connection_broke"];

/// One receiver.
pub struct SyslogSink {
    name: String,
    config: SyslogConfig,
    writer: Writer,
    standing: Arc<Standing>,
    warned_of_cuts: AtomicBool,
    /// How often the receiver hung up on a batch, by its hash; of batches that are on their way only.
    breaks: Mutex<HashMap<[u8; 32], u32>>,
    metrics: Arc<Metrics>,
}

impl SyslogSink {
    /// Checks everything that can be checked without the network, the files of TLS included.
    pub fn new(
        config: &SinkConfig,
        syslog: &SyslogConfig,
        metrics: Arc<Metrics>,
    ) -> Result<SyslogSink, SinkBuildError> {
        if let SyslogAddress::Tls { host, .. } = &syslog.address {
            let wrong = |source| SinkBuildError::SyslogTls { sink: config.name.clone(), source };
            tls::Outfit::read(&syslog.tls, host).map_err(wrong)?;
            if syslog.tls.verify == Some(false) {
                tracing::warn!(sink = %config.name,
                    "tls verification is off: anybody on the way can read every record; give `ca_file` instead");
            }
        }
        metrics.sink_bytes.with_label_values(&[&config.name, "identity"]);
        metrics.syslog_truncated.with_label_values(&[&config.name]);
        for reason in RESENT_REASONS {
            metrics.sink_resent.with_label_values(&[config.name.as_str(), reason]);
        }
        Ok(SyslogSink {
            name: config.name.clone(),
            writer: Writer::new(config, syslog)?,
            standing: Standing::new(&config.name, syslog, Arc::clone(&metrics)),
            config: syslog.clone(),
            warned_of_cuts: AtomicBool::new(false),
            breaks: Mutex::default(),
            metrics,
        })
    }

    fn error(&self, trouble: &Trouble) -> SendError {
        let reason = format!("sink `{}`: `{}`: {}", self.name, self.config.address, trouble.reason);
        if trouble.is_final { SendError::Fatal { reason } } else { SendError::Retry { after: None, reason } }
    }

    fn retry(&self, reason: &str) -> SendError {
        self.error(&Trouble { reason: reason.to_owned(), is_final: false })
    }

    /// Messages that may not leave, told before any of the others leaves.
    fn refuse_the_long(&self, messages: &[Framed<'_>]) -> Result<(), SendError> {
        let Some(most) = self.config.max_size else { return Ok(()) };
        let long = |message: &Framed<'_>| message.text.len() > most;
        let events: Vec<usize> = (0..messages.len()).filter(|index| long(&messages[*index])).collect();
        let Some(first) = events.first() else { return Ok(()) };
        let hint = match self.config.oversize {
            Oversize::DeadLetter if !self.config.address.is_udp() => {
                "raise `max_size` where the receiver takes more, or set `oversize: truncate`"
            }
            Oversize::DeadLetter => "use `tcp://` or `tls://`, or set `oversize: truncate`",
            Oversize::Truncate => "the header alone does not fit: shorten its templates or raise `max_size`",
        };
        let size = messages[*first].text.len();
        tracing::debug!(sink = %self.name, size, most, events = events.len(), "messages are above `max_size`");
        Err(SendError::Reject { events, reason: too_long(&self.name, most, hint) })
    }

    fn taken(&self, messages: &[Framed<'_>]) -> Accepted {
        let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
        self.metrics.sink_bytes.with_label_values(&[self.name.as_str(), "identity"]).inc_by(bytes as u64);
        let cut = messages.iter().filter(|message| message.is_cut).count();
        if cut > 0 {
            self.metrics.syslog_truncated.with_label_values(&[&self.name]).inc_by(cut as u64);
            if !self.warned_of_cuts.swap(true, Ordering::Relaxed) {
                tracing::warn!(sink = %self.name, max_size = self.config.max_size,
                    "messages above `max_size` were cut and delivered, each marked as such; this is said once and counted in syslog_truncated_events_total");
            }
        }
        Accepted::default()
    }

    async fn over_stream(&self, link: &Link, batch: &EncodedBatch, messages: &[Framed<'_>]) -> Result<(), SendError> {
        let id = *blake3::hash(&batch.bytes).as_bytes();
        let before = link.progress.load(Ordering::Acquire);
        let entry = match link.offer(id, messages.len(), || self.framed(messages)) {
            Offered::Taken(entry) => entry,
            Offered::NoRoom => return Err(self.retry("too many batches wait for the receiver")),
            Offered::Ended => return Err(self.retry("the connection has ended; it is made anew")),
        };
        let (mut done, mut ended) = (entry.done.subscribe(), link.ended.clone());
        tokio::select! {
            biased;
            _ = done.wait_for(|done| *done) => {}
            _ = ended.wait_for(Option::is_some) => {}
            () = tokio::time::sleep(PATIENCE) => {
                let words = "the receiver reads slowly or not at all: what was sent is not acknowledged yet";
                return Err(match link.progress.load(Ordering::Acquire) > before {
                    true => SendError::Slow { after: None, reason: format!("sink `{}`: {words}", self.name) },
                    false => self.retry(words),
                });
            }
        }
        link.forget(&id);
        if *entry.done.borrow() {
            locked(&self.breaks).remove(&id);
            return Ok(());
        }
        if entry.begun.load(Ordering::Acquire) {
            let resent = self.metrics.sink_resent.with_label_values(&[self.name.as_str(), "no_answer"]);
            resent.inc_by(entry.events as u64);
        }
        if entry.broke.load(Ordering::Acquire)
            && let Some(error) = self.blamed(id, messages)
        {
            return Err(error);
        }
        let trouble = ended.borrow().as_ref().map(|end| end.trouble.clone());
        Err(trouble.map_or_else(|| self.retry("the connection ended"), |trouble| self.error(&trouble)))
    }

    /// The receiver hung up on this batch, and on nothing else. After some times of that a long message in it is what it
    /// hangs up on: halved, until that one is alone.
    fn blamed(&self, id: [u8; 32], messages: &[Framed<'_>]) -> Option<SendError> {
        let longest = messages.iter().map(|message| message.text.len()).max().unwrap_or_default();
        if longest <= TAKEN_BY_ALL {
            return None;
        }
        let mut breaks = locked(&self.breaks);
        let times = breaks.entry(id).or_default();
        *times += 1;
        if *times < BREAKS {
            return None;
        }
        breaks.remove(&id);
        let reason = format!(
            "sink `{}`: `{}`: the receiver hung up {BREAKS} times while it was sent a batch whose longest message has {longest} bytes; set `max_size` to what it takes (`log-msg-size` of syslog-ng, `maxFrameSize` of rsyslog), or raise that; see the event in the dead letters",
            self.name, self.config.address
        );
        Some(SendError::Split { cause: "the receiver hangs up in this batch".to_owned(), reason })
    }

    /// The batch as it stands on the wire (RFC 6587, 3.4).
    fn framed(&self, messages: &[Framed<'_>]) -> Sent {
        let bytes: usize = messages.iter().map(|message| message.text.len() + 12).sum();
        let (mut wire, mut ends) = (Vec::with_capacity(bytes), Vec::with_capacity(messages.len()));
        for message in messages {
            match self.config.framing {
                Framing::OctetCounting => {
                    wire.extend_from_slice(message.text.len().to_string().as_bytes());
                    wire.push(b' ');
                    wire.extend_from_slice(message.text);
                }
                Framing::Newline => {
                    wire.extend_from_slice(message.text);
                    wire.push(b'\n');
                }
            }
            ends.push(wire.len());
        }
        Sent { wire: Bytes::from(wire), ends }
    }
}

/// Why a message may not leave. Its own size is not told: reasons must be alike for the driver to see that all are
/// refused for one.
fn too_long(sink: &str, most: usize, hint: &str) -> String {
    format!("sink `{sink}`: a message is above `max_size` ({most} bytes); {hint}")
}

/// A message of a batch.
struct Framed<'a> {
    text: &'a [u8],
    is_cut: bool,
}

fn messages(batch: &EncodedBatch) -> Vec<Framed<'_>> {
    let mut from = 0;
    let one = |end: &usize| {
        let bytes = batch.bytes.get(from..*end).unwrap_or_default();
        from = *end;
        Framed { text: bytes.get(1..).unwrap_or_default(), is_cut: bytes.first() == Some(&message::CUT) }
    };
    batch.ends.iter().map(one).collect()
}

impl Sink for SyslogSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.writer.write(event, out);
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        let messages = messages(batch);
        self.refuse_the_long(&messages)?;
        let way = self.standing.way().await.map_err(|trouble| self.error(&trouble))?;
        match &way {
            Way::Link(link) => self.over_stream(link, batch, &messages).await?,
            Way::Datagrams(datagrams) => {
                let texts: Vec<&[u8]> = messages.iter().map(|message| message.text).collect();
                let mut left = self.standing.left.lock().await;
                match datagrams.send(&texts, &mut left).await {
                    Ok(()) => {}
                    Err(Stopped::TooLarge(events)) => {
                        let size = texts[events[0]].len();
                        tracing::debug!(sink = %self.name, size, events = events.len(), "messages are too large for a datagram");
                        let reason = format!(
                            "sink `{}`: a message is more than a datagram to `{}` can be; use a stream, or set `max_size` and `oversize: truncate`",
                            self.name, self.config.address
                        );
                        return Err(SendError::Reject { events, reason });
                    }
                    Err(Stopped::NoRoom { some_left }) => {
                        let words = "the reader of the socket takes nothing";
                        return Err(match some_left {
                            true => SendError::Slow { after: None, reason: format!("sink `{}`: {words}", self.name) },
                            false => self.retry(words),
                        });
                    }
                    Err(Stopped::Failed(error)) => {
                        drop(left);
                        self.standing.give_up_datagrams().await;
                        return Err(self.error(&Trouble::of(&error)));
                    }
                }
            }
        }
        Ok(self.taken(&messages))
    }

    /// Connects where there is no connection, TLS and all.
    async fn probe(&self) -> Result<(), SendError> {
        self.standing.way().await.map(|_| ()).map_err(|trouble| self.error(&trouble))
    }

    async fn close(&self) {
        self.standing.close().await;
    }
}
