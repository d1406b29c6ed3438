//! What an answer of a Splunk HTTP Event Collector means. Pure.
//!
//! Comes in: status, `Retry-After`, body. Goes out: taken, or one of the [`SendError`]s. Splunk's own
//! code decides where there is one ("Troubleshoot HTTP Event Collector", possible error codes); the
//! status only where the answer is a proxy's.

use std::time::Duration;

use serde::Deserialize;

use super::SendError;

/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// An answer as received.
pub(super) struct Answer<'a> {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: &'a [u8],
}

#[derive(Deserialize)]
struct Body {
    code: Option<i64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<usize>,
}

/// What the answer to a batch of `events` events means. `sink` is named in every text.
pub(super) fn classify(sink: &str, answer: &Answer<'_>, events: usize) -> Result<(), SendError> {
    let body: Option<Body> = serde_json::from_slice(answer.body).ok();
    let code = body.as_ref().and_then(|body| body.code);
    let said = |advice: &str| {
        format!("sink `{sink}`: the receiver answered {} `{}`; {advice}", answer.status, excerpt(answer.body))
    };
    let fatal = |advice: &str| Err(SendError::Fatal { reason: said(advice) });
    let retry = |advice: &str| Err(SendError::Retry { after: answer.retry_after, reason: said(advice) });
    match code {
        Some(0) if answer.status / 100 == 2 => return Ok(()),
        Some(1) => return fatal("the token is disabled: enable it in Splunk"),
        Some(2..=4) => return fatal("check `token`; a changed token file is read again by itself"),
        Some(7) => return fatal("create the index, allow it for the token, or change `index`"),
        // 10, 11, 14: data channel missing or wrong, acknowledgement disabled.
        Some(10 | 11) => return fatal("the token asks for indexer acknowledgement: use a token without it"),
        Some(16) => return fatal("the receiver reads the token from the URL only: allow header authorization"),
        Some(8) => return retry("an internal error of the receiver; sent again"),
        Some(9 | 18..=20 | 23..=27) => return retry("the receiver is busy or shutting down; sent again"),
        Some(5 | 6 | 12 | 13 | 15) => {
            let advice = "see the event in the dead letters";
            return Err(match body.and_then(|body| body.invalid_event_number) {
                Some(index) if index < events => SendError::Reject { events: vec![index], reason: said(advice) },
                _ => SendError::Split { reason: said(advice) },
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
        413 => {
            Err(SendError::Split { reason: said("the batch is too large for the receiver: lower `batch.max_bytes`") })
        }
        _ => Err(SendError::Split { reason: said("see the event in the dead letters") }),
    }
}

/// Whether an answer to `GET …/health` says that events are taken. `None`: this receiver cannot say,
/// so ask it otherwise (old servers answer 400 or 404).
pub(super) fn classify_health(sink: &str, answer: &Answer<'_>) -> Option<Result<(), SendError>> {
    match answer.status {
        200 => Some(Ok(())),
        400 | 404 => None,
        _ => Some(classify(sink, answer, 0)),
    }
}

/// Whether the answer to an authenticated, empty batch says that events are taken: it must complain
/// that there is no data (code 5), which it does only after it has looked at the token.
pub(super) fn classify_empty(sink: &str, answer: &Answer<'_>) -> Result<(), SendError> {
    match serde_json::from_slice::<Body>(answer.body) {
        Ok(Body { code: Some(5), .. }) => Ok(()),
        _ => classify(sink, answer, 0),
    }
}

/// The answer's text, cut, with control characters escaped: it ends in logs and dead letters.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]).into_owned();
    // Splunk's own words are enough; the number of the event is left out, so that refusals for one
    // reason read alike.
    let text = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(fields) => match (fields.get("text").and_then(|text| text.as_str()), fields.get("code")) {
            (Some(text), Some(code)) => format!("{text} (code {code})"),
            (Some(text), None) => text.to_owned(),
            _ => text,
        },
        Err(_) => text,
    };
    text.trim().chars().take(SHOWN).flat_map(show).collect()
}

fn show(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> String {
        let answer = Answer { status, retry_after: Some(Duration::from_secs(7)), body: body.as_bytes() };
        match classify("splunk", &answer, 10) {
            Ok(()) => "ok".into(),
            Err(SendError::Retry { after, .. }) => format!("retry {}", after.unwrap().as_secs()),
            Err(SendError::Reject { events, .. }) => format!("reject {events:?}"),
            Err(SendError::Split { .. }) => "split".into(),
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
            (503, coded(23), "retry 7"),
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
    fn an_answer_is_shown_cut_and_without_control_characters() {
        let body = format!("\u{1b}[31m{}\r\n", "é".repeat(500));
        let answer = Answer { status: 503, retry_after: None, body: body.as_bytes() };
        let text = classify("splunk", &answer, 1).unwrap_err().to_string();
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
            classify("s", &Answer { status: 400, retry_after: None, body: body.as_bytes() }, 10)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(reason(1), reason(2));
    }

    #[test]
    fn health_is_asked_otherwise_where_it_is_not_known() {
        let health = |status| classify_health("s", &Answer { status, retry_after: None, body: b"" });
        assert!(matches!(health(200), Some(Ok(()))));
        assert!(health(400).is_none() && health(404).is_none());
        assert!(matches!(health(503), Some(Err(SendError::Retry { .. }))));
        let empty = |status, body: &'static str| {
            classify_empty("s", &Answer { status, retry_after: None, body: body.as_bytes() })
        };
        assert!(empty(400, "{\"text\":\"No data\",\"code\":5}").is_ok());
        assert!(matches!(empty(403, "{\"text\":\"Invalid token\",\"code\":4}"), Err(SendError::Fatal { .. })));
    }
}
