//! The answers of a receiver under trial: what `fuzzing` gives bytes to. Only with the feature `failpoints`.

use super::ack::{Indexed, classify_ack};
use super::answer::{Answer, Asked, classify};
use crate::sink::SendError;

/// Any answer has a meaning; only a collector's own word takes a batch or acknowledges it, and what is rejected is in
/// the batch. The first bytes are status, events and what was asked; the rest is the body.
pub(crate) fn answers(bytes: &[u8]) {
    let Some(([high, low, events, flags], body)) = bytes.split_first_chunk::<4>() else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let (events, id) = (usize::from(*events) + 1, u64::from(*flags >> 2));
    let asked = Asked { sink: "s", events, with_channel: flags & 1 == 1, index_by_event: flags & 2 == 2 };
    let answer = Answer { status, retry_after: None, body };
    let has = |text: &[u8]| memchr::memmem::find(body, text).is_some();
    match classify(&asked, &answer) {
        Ok(taken) => {
            assert!(status / 100 == 2 && has(b"0"), "taken by accident");
            assert!(taken.ack_id.is_none_or(|id| has(id.to_string().as_bytes())), "an ackId that nobody gave");
        }
        Err(SendError::Reject { events: rejected, reason }) => {
            assert!(!rejected.is_empty() && rejected.iter().all(|event| *event < events), "no such event");
            assert_said(&reason);
        }
        Err(error) => assert_said(&error.to_string()),
    }
    if matches!(classify_ack(&asked, &answer, id), Indexed::Yes) {
        assert!(status / 100 == 2 && has(b"true"), "acknowledged by accident");
    }
}

fn assert_said(reason: &str) {
    assert!(reason.contains("`s`") && reason.len() < 2000, "{reason}");
    assert!(!reason.contains(char::is_control), "{reason:?} breaks a log line");
}
