//! What a receiver's answer means. Pure. Comes in: status, `Retry-After`, body. Goes out: taken, or one of the
//! [`SendError`]s. Sources: RFC 9110, 15; for `otlp` the OTLP specification ("OTLP/HTTP Response": which failures are
//! retryable, partial success); for `slack` "Handling errors" of incoming webhooks.

use serde::Deserialize;

use crate::config::HttpPreset;
use crate::sink::SendError;
use crate::sink::web::{Heard, excerpt, excerpt_of_text};

/// What was asked.
pub(super) struct Asked<'a> {
    /// Named in every text.
    pub sink: &'a str,
    pub preset: Option<HttpPreset>,
    /// Statuses that mean "taken", both ends included.
    pub success: &'a [(u16, u16)],
}

/// What the answer to a batch means.
pub(super) fn classify(asked: &Asked<'_>, heard: &Heard) -> Result<(), SendError> {
    let said = |advice: &str| {
        format!("sink `{}`: the receiver answered {} `{}`; {advice}", asked.sink, heard.status, excerpt(&heard.body))
    };
    let fatal = |advice: &str| Err(SendError::Fatal { reason: said(advice) });
    let again = |advice: &str| Err(SendError::Retry { after: heard.retry_after, reason: said(advice) });
    let retry = || again("sent again");
    // What a receiver says may hold a number of the request: never alike.
    let split =
        |advice: &str| Err(SendError::Split { cause: format!("{}; {advice}", heard.status), reason: said(advice) });
    let refused = "see the event in the dead letters";
    if asked.success.iter().any(|(from, to)| (*from..=*to).contains(&heard.status)) {
        return match asked.preset {
            // Something between us and Slack may say 200 to everything.
            Some(HttpPreset::Slack) if heard.body.trim_ascii() != b"ok" => again(&not_theirs("Slack")),
            Some(HttpPreset::Otlp) => partial(asked, heard),
            _ => Ok(()),
        };
    }
    match heard.status {
        // No refusal of the events: something else answered, or what counts as taken is not what the receiver says.
        100..=299 => again(&match asked.preset {
            Some(HttpPreset::Sentinel) => not_theirs("Azure Monitor"),
            Some(HttpPreset::Teams) => not_theirs("a flow"),
            _ => "a success that `success_codes` does not have, so nothing counts as taken; add it if the receiver means that, else check `url` and what stands between".to_owned(),
        }),
        // What our `Idempotency-Key` asks for while the first request is under way (draft-ietf-httpapi-idempotency-key-header, 2.7).
        409 => again("sent again; where it means \"I have it already\", add 409 to `success_codes`"),
        408 | 425 | 429 => retry(),
        // The rest of 5xx is for good (OTLP/HTTP Response, "Failures").
        500 | 501 | 505..=599 if asked.preset == Some(HttpPreset::Otlp) => split(refused),
        500.. => retry(),
        300..=399 => fatal("redirects are not followed: put the final address into `url`"),
        401 | 403 => fatal("check `auth`, or the address where that is the right to send, and any proxy in between"),
        404 | 405 | 410 => fatal("nobody takes events at this address: check `url` and `method`"),
        407 => fatal("a proxy in between wants a login: check `proxy`"),
        406 | 415 => {
            fatal("the receiver does not know this kind of body: check `encoding`, `compression` and `headers`")
        }
        413 => split("too large for the receiver: lower `batch.max_bytes`, or raise the receiver's limit"),
        _ => split(refused),
    }
}

fn not_theirs(who: &str) -> String {
    format!("that is not what {who} says, so nothing counts as taken; check `url` and what stands between")
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "partialSuccess")]
    partial: Option<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    /// 64 bits: a text in JSON, and of some receivers a number.
    #[serde(rename = "rejectedLogRecords", default)]
    rejected: serde_json::Value,
    #[serde(rename = "errorMessage", default)]
    message: String,
}

/// A receiver of OTLP may take some records and refuse others, and says how many but not which: so they are found by
/// halving. The specification would have them dropped.
fn partial(asked: &Asked<'_>, heard: &Heard) -> Result<(), SendError> {
    // Nothing at all is the empty answer of the other encoding.
    if heard.body.trim_ascii().is_empty() {
        return Ok(());
    }
    let Ok(body) = serde_json::from_slice::<Body>(&heard.body) else {
        let reason = format!(
            "sink `{}`: the receiver answered {} with `{}`, which is not OTLP's, so nothing counts as taken; check `url` and what stands between",
            asked.sink,
            heard.status,
            excerpt(&heard.body)
        );
        return Err(SendError::Retry { after: heard.retry_after, reason });
    };
    let Some(partial) = body.partial else { return Ok(()) };
    let rejected = match &partial.rejected {
        serde_json::Value::Number(number) => number.as_i64().unwrap_or(0),
        serde_json::Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    };
    if rejected <= 0 {
        if !partial.message.is_empty() {
            tracing::debug!(
                sink = asked.sink,
                message = excerpt_of_text(&partial.message),
                "the receiver has a remark"
            );
        }
        return Ok(());
    }
    Err(SendError::Split {
        cause: "a partial success".to_owned(),
        reason: format!(
            "sink `{}`: the receiver took a batch and refused some of its records: `{}`; see the event in the dead letters",
            asked.sink,
            excerpt_of_text(&partial.message)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verdict(preset: Option<HttpPreset>, status: u16, body: &str) -> String {
        let heard = Heard {
            status,
            retry_after: Some(Duration::from_secs(7)),
            headers: Default::default(),
            body: body.as_bytes().to_vec(),
            is_whole: true,
        };
        let asked = Asked { sink: "soc", preset, success: &[(200, 299), (409, 409)] };
        match classify(&asked, &heard) {
            Ok(()) => "ok".into(),
            Err(error) => {
                assert!(error.to_string().starts_with("sink `soc`: "), "{error}");
                match error {
                    SendError::Retry { after, .. } => format!("retry {}", after.unwrap().as_secs()),
                    SendError::Split { .. } => "split".into(),
                    SendError::Fatal { .. } => "fatal".into(),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn every_answer_has_one_meaning() {
        let plain = [
            (200, "ok"),
            (202, "ok"),
            (204, "ok"),
            (409, "ok"),
            (301, "fatal"),
            (307, "fatal"),
            (400, "split"),
            (401, "fatal"),
            (403, "fatal"),
            (404, "fatal"),
            (405, "fatal"),
            (407, "fatal"),
            (408, "retry 7"),
            (410, "fatal"),
            (413, "split"),
            (415, "fatal"),
            (422, "split"),
            (425, "retry 7"),
            (429, "retry 7"),
            (500, "retry 7"),
            (503, "retry 7"),
            (504, "retry 7"),
        ];
        for (status, expected) in plain {
            assert_eq!(verdict(None, status, "whatever"), expected, "{status}");
        }
    }

    #[test]
    fn a_success_that_counts_for_nothing_and_a_conflict_bury_no_event() {
        let asked = |preset, success: (u16, u16), status| {
            let heard = Heard {
                status,
                retry_after: None,
                headers: Default::default(),
                body: b"<html>log in</html>".to_vec(),
                is_whole: true,
            };
            match classify(&Asked { sink: "soc", preset, success: &[success] }, &heard) {
                Err(SendError::Retry { reason, .. }) => reason,
                other => panic!("{status}: {other:?}"),
            }
        };
        for status in [200, 202, 204] {
            assert!(asked(None, (201, 201), status).contains("`success_codes` does not have"), "{status}");
        }
        assert!(asked(None, (200, 299), 409).contains("add 409 to `success_codes`"));
        for (preset, taken) in [(HttpPreset::Sentinel, 204), (HttpPreset::Teams, 202)] {
            assert_eq!(preset.defaults().success, (taken, taken));
            assert!(asked(Some(preset), (taken, taken), 200).contains("that is not what"), "{taken}");
        }
    }

    #[test]
    fn answers_that_differ_in_their_words_have_one_cause() {
        let cause = |preset, status, body: &str| {
            let heard =
                Heard { status, retry_after: None, headers: Default::default(), body: body.into(), is_whole: true };
            match classify(&Asked { sink: "soc", preset, success: &[(200, 299)] }, &heard) {
                Err(SendError::Split { cause, reason }) => {
                    assert!(reason.contains(&excerpt(body.as_bytes())) || preset.is_some(), "{reason}");
                    cause
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(cause(None, 400, "trace 81f2"), cause(None, 400, "trace 9c07"));
        assert_ne!(cause(None, 400, "x"), cause(None, 422, "x"));
        assert_ne!(cause(None, 400, "x"), cause(None, 413, "x"));
        let some = |id: &str| format!("{{\"partialSuccess\":{{\"rejectedLogRecords\":1,\"errorMessage\":\"{id}\"}}}}");
        let otlp = Some(HttpPreset::Otlp);
        assert_eq!(cause(otlp, 200, &some("a1")), cause(otlp, 200, &some("b2")));
    }

    #[test]
    fn slack_says_ok_and_nothing_else_is() {
        let slack = Some(HttpPreset::Slack);
        assert_eq!(verdict(slack, 200, "ok"), "ok");
        assert_eq!(verdict(slack, 200, "<html>log in</html>"), "retry 7");
        assert_eq!(verdict(slack, 400, "invalid_payload"), "split");
        assert_eq!(verdict(slack, 403, "action_prohibited"), "fatal");
        assert_eq!(verdict(slack, 404, "no_service"), "fatal");
        assert_eq!(verdict(slack, 410, "channel_is_archived"), "fatal");
    }

    #[test]
    fn a_partial_success_of_otlp_is_none_for_what_was_refused() {
        let otlp = Some(HttpPreset::Otlp);
        for taken in ["", "{}", "{\"partialSuccess\":{}}", "{\"partialSuccess\":{\"errorMessage\":\"remark\"}}"] {
            assert_eq!(verdict(otlp, 200, taken), "ok", "{taken}");
        }
        assert_eq!(verdict(otlp, 200, "<html>log in</html>"), "retry 7");
        for some in ["\"3\"", "3"] {
            let body = format!("{{\"partialSuccess\":{{\"rejectedLogRecords\":{some},\"errorMessage\":\"x\"}}}}");
            assert_eq!(verdict(otlp, 200, &body), "split", "{some}");
        }
        let statuses =
            [(400, "split"), (429, "retry 7"), (500, "split"), (502, "retry 7"), (503, "retry 7"), (504, "retry 7")];
        for (status, expected) in statuses {
            assert_eq!(verdict(otlp, status, ""), expected, "{status}");
        }
    }
}
