//! What an answer of a Splunk HTTP Event Collector means. Pure.
//!
//! Comes in: status, `Retry-After`, body. Goes out: taken, or one of the [`SendError`]s. Splunk's own
//! code decides where there is one ("Troubleshoot HTTP Event Collector", possible error codes; newer
//! servers also say 23 to 27: shutting down, queue or acknowledgement channel at capacity); the status
//! only where the answer is a proxy's.

use std::time::Duration;

use serde::Deserialize;

use crate::sink::SendError;
use crate::sink::web::{self, Heard, excerpt_of_text};

/// An answer as received.
pub(super) struct Answer<'a> {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    pub fn of(heard: &'a Heard) -> Answer<'a> {
        Answer { status: heard.status, retry_after: heard.retry_after, body: &heard.body }
    }
}

/// What was asked.
pub(super) struct Asked<'a> {
    /// Named in every text.
    pub sink: &'a str,
    /// In the batch.
    pub events: usize,
    /// Whether the request named a data channel.
    pub with_channel: bool,
    /// Whether the events of a batch may be for different indexes.
    pub index_by_event: bool,
}

/// The batch was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// What to ask its acknowledgement by, where the receiver acknowledges.
    pub ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    code: Option<i64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

/// What the answer to a batch means.
pub(super) fn classify(asked: &Asked<'_>, answer: &Answer<'_>) -> Result<Taken, SendError> {
    let body: Option<Body> = serde_json::from_slice(answer.body).ok();
    let code = body.as_ref().and_then(|body| body.code);
    let said = |advice: &str| said(asked, answer, advice);
    // What stands between may add a number of the request to its words.
    let cause = || format!("{} {code:?}", answer.status);
    let fatal = |advice: &str| Err(SendError::Fatal { reason: said(advice) });
    let retry = |advice: &str| Err(SendError::Retry { after: answer.retry_after, reason: said(advice) });
    match code {
        Some(0) if answer.status / 100 == 2 => return Ok(Taken { ack_id: body.and_then(|body| body.ack_id) }),
        Some(1 | 22) => return fatal("the token is disabled: enable it in Splunk"),
        Some(2..=4 | 21) => return fatal("check `token`; a changed token file is read again by itself"),
        // One index for all events: nothing will be taken until it is there. Else only some events may be
        // meant; their number in this answer counts otherwise than in all others, so it is not relied on.
        Some(7) if asked.index_by_event => {
            return Err(SendError::Misplaced {
                reason: said("create the index and allow it for the token, then replay the event, or change `index`"),
            });
        }
        Some(7) => return fatal("create the index, allow it for the token, or change `index`"),
        Some(10 | 11) if !asked.with_channel => {
            return fatal("the token wants indexer acknowledgement: set `indexer_acknowledgement.enabled` to `auto`");
        }
        Some(10 | 11) => {
            return fatal("a channel was sent: let what stands between pass the header `X-Splunk-Request-Channel`");
        }
        Some(14) => return fatal("indexer acknowledgement is disabled: enable it for the token"),
        Some(16) => return fatal("the receiver reads the token from the URL only: allow header authorization"),
        Some(8) => return retry("an internal error of the receiver; sent again"),
        Some(9 | 18..=20 | 23..=27) => return retry("the receiver is busy or shutting down; sent again"),
        Some(5 | 6 | 12 | 13 | 15) => {
            let advice = "see the event in the dead letters";
            return Err(match body.and_then(|body| body.invalid_event_number) {
                Some(index) if index < asked.events => SendError::Reject { events: vec![index], reason: said(advice) },
                _ => SendError::Split { cause: cause(), reason: said(advice) },
            });
        }
        _ => {}
    }
    match answer.status {
        200..=299 => {
            retry("that is not a collector's answer, so nothing counts as taken; check `url` and what stands between")
        }
        300..=399 => fatal("redirects are not followed: put the final address into `url`"),
        401 | 403 | 407 => fatal("check `token` and any proxy in between"),
        404 | 405 => fatal("there is no collector at this address: check `url` and that the collector is enabled"),
        408 | 429 | 500.. => retry("sent again"),
        413 => Err(SendError::Split {
            cause: cause(),
            reason: said(
                "too large for the receiver: lower `batch.max_bytes`, or raise `max_content_length` in Splunk's limits.conf and the limit of any proxy in between",
            ),
        }),
        _ => Err(SendError::Split { cause: cause(), reason: said("see the event in the dead letters") }),
    }
}

/// Whether a collector said this, and not something between it and us.
pub(super) fn is_of_a_collector(answer: &Answer<'_>) -> bool {
    serde_json::from_slice::<Body>(answer.body).is_ok_and(|body| body.code.is_some())
}

/// The answer in words, with what to do.
pub(super) fn said(asked: &Asked<'_>, answer: &Answer<'_>, advice: &str) -> String {
    format!("sink `{}`: the receiver answered {} `{}`; {advice}", asked.sink, answer.status, excerpt(answer.body))
}

/// Whether an answer to `GET …/health` says that events are taken. `None`: this receiver cannot say,
/// so ask it otherwise (old servers answer 400 or 404). In maintenance it says 503: not yet.
pub(super) fn classify_health(asked: &Asked<'_>, answer: &Answer<'_>) -> Option<Result<(), SendError>> {
    match answer.status {
        200 => Some(Ok(())),
        400 | 404 => None,
        _ => Some(classify(asked, answer).map(drop)),
    }
}

/// Whether the answer to an authenticated, empty batch says that events are taken: it must complain
/// that there is no data (code 5), which it does only after it has looked at the token.
pub(super) fn classify_empty(asked: &Asked<'_>, answer: &Answer<'_>) -> Result<(), SendError> {
    match serde_json::from_slice::<Body>(answer.body) {
        Ok(Body { code: Some(5), .. }) => Ok(()),
        _ => classify(asked, answer).map(drop),
    }
}

/// The answer's text, cut, with control characters escaped: it ends in logs and dead letters.
fn excerpt(body: &[u8]) -> String {
    // Splunk's own words are enough; the number of the event is left out, so that refusals for one
    // reason read alike.
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(fields) => match (fields.get("text").and_then(|text| text.as_str()), fields.get("code")) {
            (Some(text), Some(code)) => excerpt_of_text(&format!("{text} (code {code})")),
            (Some(text), None) => excerpt_of_text(text),
            _ => web::excerpt(body),
        },
        Err(_) => web::excerpt(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { sink: "splunk", events: 10, with_channel: true, index_by_event: false };

    fn verdict(status: u16, body: &str) -> String {
        verdict_of(&ASKED, status, body)
    }

    fn verdict_of(asked: &Asked<'_>, status: u16, body: &str) -> String {
        let answer = Answer { status, retry_after: Some(Duration::from_secs(7)), body: body.as_bytes() };
        match classify(asked, &answer) {
            Ok(Taken { ack_id: None }) => "ok".into(),
            Ok(Taken { ack_id: Some(id) }) => format!("ok, ack {id}"),
            Err(SendError::Retry { after, .. } | SendError::Slow { after, .. }) => {
                format!("retry {}", after.unwrap().as_secs())
            }
            Err(SendError::Reject { events, .. }) => format!("reject {events:?}"),
            Err(SendError::Split { .. }) => "split".into(),
            Err(SendError::Misplaced { .. }) => "misplaced".into(),
            Err(SendError::Partial(_)) => "partial".into(),
            Err(SendError::Fatal { .. }) => "fatal".into(),
        }
    }

    /// Splunk's table of codes, and what a proxy may say in its place.
    #[test]
    fn every_answer_has_one_meaning() {
        let coded = |code: u32| format!("{{\"text\":\"x\",\"code\":{code}}}");
        let numbered = |code: u32, n: u32| format!("{{\"text\":\"x\",\"code\":{code},\"invalid-event-number\":{n}}}");
        let cases = [
            (200, coded(0), "ok"),
            (200, "{\"text\":\"Success\",\"code\":0,\"ackId\":0}".into(), "ok, ack 0"),
            (200, "{\"text\":\"Success\",\"code\":0,\"ackId\":-1}".into(), "retry 7"),
            (403, coded(1), "fatal"),
            (401, coded(2), "fatal"),
            (401, coded(3), "fatal"),
            (403, coded(4), "fatal"),
            (400, coded(5), "split"),
            (400, coded(6), "split"),
            (400, numbered(6, 3), "reject [3]"),
            (400, numbered(5, 0), "reject [0]"),
            (400, numbered(12, 9), "reject [9]"),
            (400, numbered(12, 10), "split"),
            (400, numbered(13, 1), "reject [1]"),
            (400, numbered(15, 1), "reject [1]"),
            (400, numbered(7, 1), "fatal"),
            (400, coded(7), "fatal"),
            (500, coded(8), "retry 7"),
            (503, coded(9), "retry 7"),
            (400, coded(10), "fatal"),
            (400, coded(11), "fatal"),
            (400, coded(14), "fatal"),
            (400, coded(16), "fatal"),
            (503, coded(18), "retry 7"),
            (503, coded(19), "retry 7"),
            (503, coded(20), "retry 7"),
            (400, coded(21), "fatal"),
            (400, coded(22), "fatal"),
            (503, coded(23), "retry 7"),
            (429, coded(24), "retry 7"),
            (429, coded(26), "retry 7"),
            (503, coded(27), "retry 7"),
            (200, coded(4), "fatal"),
            (200, coded(99), "retry 7"),
            (200, "<html>log in</html>".into(), "retry 7"),
            (200, String::new(), "retry 7"),
            (204, String::new(), "retry 7"),
            (302, String::new(), "fatal"),
            (400, "<html>".into(), "split"),
            (401, "<html>".into(), "fatal"),
            (403, "<html>".into(), "fatal"),
            (404, "<html>".into(), "fatal"),
            (408, String::new(), "retry 7"),
            (413, String::new(), "split"),
            (422, String::new(), "split"),
            (429, String::new(), "retry 7"),
            (502, "<html>".into(), "retry 7"),
            (503, "<html>".into(), "retry 7"),
        ];
        for (status, body, expected) in cases {
            assert_eq!(verdict(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn advice_and_verdict_go_by_what_was_asked() {
        let text = |asked: &Asked<'_>, code: u32| {
            let body = format!("{{\"text\":\"x\",\"code\":{code},\"invalid-event-number\":1}}");
            classify(asked, &Answer { status: 400, retry_after: None, body: body.as_bytes() }).unwrap_err().to_string()
        };
        let without = Asked { with_channel: false, ..ASKED };
        assert!(text(&without, 10).contains("indexer_acknowledgement.enabled"));
        assert!(text(&ASKED, 10).contains("X-Splunk-Request-Channel"));
        let by_event = Asked { index_by_event: true, ..ASKED };
        let body = "{\"text\":\"Incorrect index\",\"code\":7,\"invalid-event-number\":1}";
        assert_eq!((verdict(400, body), verdict_of(&by_event, 400, body)), ("fatal".into(), "misplaced".into()));
    }

    #[test]
    fn an_answer_is_shown_cut_and_without_control_characters() {
        let body = format!("\u{1b}[31m{}\r\n", "é".repeat(500));
        let answer = Answer { status: 503, retry_after: None, body: body.as_bytes() };
        let text = classify(&ASKED, &answer).unwrap_err().to_string();
        assert!(
            !text.contains(char::is_control) && text.contains("\\u{1b}[31m") && text.chars().count() < 300,
            "{text}"
        );
        assert!(text.contains("sink `splunk`"));
    }

    #[test]
    fn refusals_for_one_reason_read_alike_whatever_the_event() {
        let reason = |n: u32| {
            let body = format!("{{\"text\":\"Event field is required\",\"code\":12,\"invalid-event-number\":{n}}}");
            classify(&ASKED, &Answer { status: 400, retry_after: None, body: body.as_bytes() }).unwrap_err().to_string()
        };
        assert_eq!(reason(1), reason(2));
    }

    #[test]
    fn health_is_asked_otherwise_where_it_is_not_known() {
        let health = |status| classify_health(&ASKED, &Answer { status, retry_after: None, body: b"" });
        assert!(matches!(health(200), Some(Ok(()))));
        assert!(health(400).is_none() && health(404).is_none());
        assert!(matches!(health(503), Some(Err(SendError::Retry { .. }))));
        let empty = |status, body: &'static str| {
            classify_empty(&ASKED, &Answer { status, retry_after: None, body: body.as_bytes() })
        };
        assert!(empty(400, "{\"text\":\"No data\",\"code\":5}").is_ok());
        assert!(matches!(empty(403, "{\"text\":\"Invalid token\",\"code\":4}"), Err(SendError::Fatal { .. })));
    }
}
