//! What an answer of `…/services/collector/ack` says of one batch. Pure. Source: Splunk's "About HTTP
//! Event Collector Indexer Acknowledgment"; a receiver says `true` only of what is indexed, and `false`
//! of everything else, what it never heard of included.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::answer::{Answer, Asked, classify, said};
use crate::sink::SendError;

/// What is known of a batch that waits for its acknowledgement.
#[derive(Debug)]
pub(super) enum Indexed {
    Yes,
    NotYet,
    /// The receiver no longer knows the channel, or no longer acknowledges: it will never say yes.
    Forgotten {
        /// Splunk's own, where it gave one.
        code: Option<i64>,
        reason: String,
    },
    /// The receiver could not be reached.
    Unreached {
        reason: String,
    },
    /// No answer to the question this time.
    Later {
        after: Option<Duration>,
        reason: String,
    },
    /// The receiver takes nothing from us any more.
    Refused(SendError),
}

#[derive(Deserialize)]
struct Body {
    acks: Option<HashMap<String, bool>>,
    code: Option<i64>,
}

/// The body of the question.
pub(super) fn question(id: u64) -> String {
    format!("{{\"acks\":[{id}]}}")
}

/// What the answer says of the batch `id`.
pub(super) fn classify_ack(asked: &Asked<'_>, answer: &Answer<'_>, id: u64) -> Indexed {
    let body: Option<Body> = serde_json::from_slice(answer.body).ok();
    if answer.status / 100 == 2
        && let Some(acks) = body.as_ref().and_then(|body| body.acks.as_ref())
    {
        return if acks.get(&id.to_string()) == Some(&true) { Indexed::Yes } else { Indexed::NotYet };
    }
    let told = |advice| said(asked, answer, advice);
    let code = body.and_then(|body| body.code);
    let forgotten = || Indexed::Forgotten { code, reason: told("its acknowledgements are not to be had") };
    match (code, answer.status) {
        // Channel missing or unknown, acknowledgement disabled.
        (Some(10 | 11 | 14), _) => forgotten(),
        (Some(1..=4 | 16 | 21 | 22), _) | (_, 401 | 403 | 407) => match classify(asked, answer) {
            Err(refused @ SendError::Fatal { .. }) => Indexed::Refused(refused),
            _ => forgotten(),
        },
        (_, 408 | 429) => Indexed::Later { after: answer.retry_after, reason: told("asked again") },
        (_, 400..=499) => forgotten(),
        _ => Indexed::Later { after: answer.retry_after, reason: told("asked again") },
    }
}

/// Whether the receiver acknowledges, as far as we have heard.
#[derive(Default)]
pub(super) struct Offer(AtomicU8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Offered {
    Unknown = 0,
    No = 1,
    Yes = 2,
}

impl Offer {
    pub fn get(&self) -> Offered {
        match self.0.load(Ordering::Acquire) {
            0 => Offered::Unknown,
            1 => Offered::No,
            _ => Offered::Yes,
        }
    }

    /// Returns what was known before.
    pub fn set(&self, offered: Offered) -> Offered {
        let before = self.get();
        self.0.store(offered as u8, Ordering::Release);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> &'static str {
        let answer = Answer { status, retry_after: None, body: body.as_bytes() };
        let asked = Asked { sink: "s", events: 0, with_channel: true, index_by_event: false };
        match classify_ack(&asked, &answer, 7) {
            Indexed::Yes => "yes",
            Indexed::NotYet => "not yet",
            Indexed::Forgotten { .. } => "forgotten",
            Indexed::Later { .. } => "later",
            Indexed::Unreached { .. } => "unreached",
            Indexed::Refused(_) => "refused",
        }
    }

    #[test]
    fn only_true_of_this_very_batch_is_an_acknowledgement() {
        assert_eq!(question(7), "{\"acks\":[7]}");
        let cases = [
            (200, "{\"acks\":{\"7\":true}}", "yes"),
            (200, "{\"acks\":{\"7\":false}}", "not yet"),
            (200, "{\"acks\":{\"8\":true}}", "not yet"),
            (200, "{\"acks\":{}}", "not yet"),
            (500, "{\"acks\":{\"7\":true}}", "later"),
            (200, "{\"text\":\"Success\",\"code\":0}", "later"),
            (200, "<html>log in</html>", "later"),
            (400, "{\"text\":\"Data channel is missing\",\"code\":10}", "forgotten"),
            (400, "{\"text\":\"Invalid data channel\",\"code\":11}", "forgotten"),
            (400, "{\"text\":\"ACK is disabled\",\"code\":14}", "forgotten"),
            (400, "error: invalid HTTP endpoint", "forgotten"),
            (404, "<html>", "forgotten"),
            (403, "{\"text\":\"Invalid token\",\"code\":4}", "refused"),
            (403, "{\"text\":\"Token disabled\",\"code\":1}", "refused"),
            (401, "", "refused"),
            (429, "{\"text\":\"Queue at capacity\",\"code\":26}", "later"),
            (503, "{\"text\":\"Server is busy\",\"code\":9}", "later"),
            (502, "<html>", "later"),
        ];
        for (status, body, expected) in cases {
            assert_eq!(verdict(status, body), expected, "{status} {body}");
        }
    }
}
