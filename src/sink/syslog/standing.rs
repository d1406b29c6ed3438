//! The one connection that a sink has at a time, made when it is needed, and the ring that outlives it.
//!
//! Comes in: the wish for a way to the receiver. Goes out: the standing connection, or a new one that begins with what
//! the old one may have lost. After a break it is made anew even if nobody asks: what may be lost must not wait for the
//! next record.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::datagram::{Datagrams, Left};
use super::dial::{Peer, Trouble, dial};
use super::link::{End, Link};
use super::ring::{Ring, Sent};
use crate::config::SyslogConfig;
use crate::metrics::Metrics;
use crate::retry::Backoff;

/// A peer that closes in order has read all that its kernel had (else Linux resets, RFC 2525, 2.17); after so long
/// its process is taken to have done its work with it too. So an idle connection that a firewall or the receiver
/// closes doubles nothing.
const SETTLED: Duration = Duration::from_secs(60);
/// Connections in a row that last less than [`SETTLED`] before less is sent again on the next: more than a restart or two
/// that go wrong.
const SHORT_ENDS: u32 = 5;
/// Between two tries to send again what may be lost.
const FIRST_TRY: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a receiver may take to read the rest and close its side: a little less than the driver waits for it.
const FAREWELL: Duration = Duration::from_millis(900);

/// A way to the receiver.
#[derive(Clone)]
pub(super) enum Way {
    Link(Arc<Link>),
    Datagrams(Arc<Datagrams>),
}

/// See the module's head.
pub(super) struct Standing {
    name: String,
    config: SyslogConfig,
    ring: Arc<Mutex<Ring>>,
    now: tokio::sync::Mutex<Now>,
    /// What has left of batches of datagrams that are not done.
    pub left: tokio::sync::Mutex<Left>,
    closing: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Now {
    way: Option<Way>,
    /// The last failure to connect: who waited for that try need not make another.
    failed: Option<(Instant, Trouble)>,
    /// Connections in a row that ended soon, each followed by the next at once.
    short: u32,
}

impl Standing {
    pub fn new(name: &str, config: &SyslogConfig, metrics: Arc<Metrics>) -> Arc<Standing> {
        Arc::new(Standing {
            name: name.to_owned(),
            config: config.clone(),
            ring: Arc::new(Mutex::new(Ring::new(config.resend))),
            now: tokio::sync::Mutex::default(),
            left: tokio::sync::Mutex::default(),
            closing: AtomicBool::new(false),
            metrics,
        })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that stands, or a new one.
    pub async fn way(self: &Arc<Standing>) -> Result<Way, Trouble> {
        let asked = Instant::now();
        let mut now = self.now.lock().await;
        match &now.way {
            Some(Way::Link(link)) if link.has_ended() => {}
            Some(way) => return Ok(way.clone()),
            None => {}
        }
        if let Some((_, trouble)) = now.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(trouble.clone());
        }
        let before = match now.way.take() {
            Some(Way::Link(link)) => link.ended.borrow().clone(),
            _ => None,
        };
        if before.as_ref().is_some_and(has_read_everything) {
            self.ring().clear();
        }
        match &before {
            Some(end) if end.lived < SETTLED => now.short += 1,
            Some(_) => now.short = 0,
            None => {}
        }
        if before.is_some() && now.short >= SHORT_ENDS {
            self.shorten_the_ring(now.short);
        }
        match dial(&self.config).await {
            Ok(Peer::Datagrams(datagrams)) => now.way = Some(Way::Datagrams(Arc::new(datagrams))),
            Ok(Peer::Stream(stream, meter)) => {
                let again = self.to_send_again();
                let link = Link::start(stream, meter, again, Arc::clone(&self.ring), self.config.timeout);
                let link = Arc::new(link);
                tokio::spawn(after_a_break(Arc::downgrade(self), link.ended.clone()));
                now.way = Some(Way::Link(link));
            }
            Err(trouble) => {
                // Nobody was there: it is restarted, and does not hang up on what it is sent.
                now.short = 0;
                now.failed = Some((Instant::now(), trouble.clone()));
                return Err(trouble);
            }
        }
        now.failed = None;
        now.way.clone().ok_or_else(|| Trouble { reason: "there is no connection".to_owned(), is_final: false })
    }

    /// What is sent again may itself be what the receiver hangs up on: a message that is too long for it, which its kernel
    /// had acknowledged. Of what stands before it nothing is lost, for that was read on the way to it.
    fn shorten_the_ring(&self, ends: u32) {
        let events = self.ring().forget_older_half();
        if events > 0 {
            tracing::warn!(sink = %self.name, events, ends,
                "the receiver hangs up again and again while the last messages are sent again; the older half of them is not sent any more, and what it had not read of that is lost; it may be sent a longer message than it takes: set `max_size` to its limit");
        }
    }

    fn to_send_again(&self) -> Vec<Sent> {
        let ring = self.ring();
        let events = ring.messages();
        if events > 0 {
            self.metrics.sink_resent.with_label_values(&[self.name.as_str(), "connection_broke"]).inc_by(events as u64);
            tracing::warn!(sink = %self.name, events,
                "the connection had broken; the last messages are sent again, since the receiver may not have read them: duplicates have the same key");
        }
        ring.all()
    }

    /// Datagrams begin anew: the socket's other end may be another one.
    pub async fn give_up_datagrams(&self) {
        let mut now = self.now.lock().await;
        if matches!(now.way, Some(Way::Datagrams(_))) {
            now.way = None;
        }
    }

    /// Ends the connection in order, so that the receiver reads everything; where it breaks instead, what may be lost
    /// is sent once more. Takes no longer than [`FAREWELL`].
    pub async fn close(self: &Arc<Standing>) {
        self.closing.store(true, Ordering::Release);
        let all = async {
            let way = self.now.lock().await.way.clone();
            let has_read = match way {
                Some(Way::Datagrams(_)) => return true,
                // A connection that ended before us: only what has settled since is taken for read.
                Some(Way::Link(link)) if link.has_ended() => {
                    link.ended.borrow().as_ref().is_some_and(has_read_everything)
                }
                Some(Way::Link(link)) => ended_in_order(&link).await,
                None => false,
            };
            has_read
                || self.ring().messages() == 0
                || match self.way().await {
                    Ok(Way::Link(link)) => ended_in_order(&link).await,
                    _ => false,
                }
        };
        if !timeout(FAREWELL, all).await.unwrap_or(false) {
            tracing::warn!(sink = %self.name, events = self.ring().messages(),
                "the receiver was not reached, or did not close the connection in time; its kernel had these last messages, its process may not have read them: they may be lost");
        }
    }
}

/// Ends it and hears how.
async fn ended_in_order(link: &Link) -> bool {
    link.close();
    let mut ended = link.ended.clone();
    let end = ended.wait_for(Option::is_some).await;
    end.is_ok_and(|end| end.as_ref().is_some_and(|end| end.in_order))
}

fn has_read_everything(end: &End) -> bool {
    end.in_order && end.quiet_since.elapsed() >= SETTLED
}

/// Makes the connection anew after a break that may have lost something, and ends.
fn after_a_break(
    standing: Weak<Standing>,
    ended: watch::Receiver<Option<End>>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(stand_again(standing, ended))
}

async fn stand_again(standing: Weak<Standing>, mut ended: watch::Receiver<Option<End>>) {
    let Ok(end) = ended.wait_for(Option::is_some).await.map(|end| end.clone()) else { return };
    let Some(end) = end else { return };
    tracing::debug!(reason = %end.trouble.reason, in_order = end.in_order, "a syslog connection ended");
    if has_read_everything(&end) {
        return;
    }
    let mut backoff = Backoff::new(FIRST_TRY, LONGEST_WAIT);
    loop {
        tokio::time::sleep(backoff.next_delay(None)).await;
        let Some(standing) = standing.upgrade() else { return };
        let is_done = standing.closing.load(Ordering::Acquire) || standing.ring().messages() == 0;
        if is_done || standing.way().await.is_ok() {
            return;
        }
    }
}
