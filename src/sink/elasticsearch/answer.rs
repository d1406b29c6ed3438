//! What the answer to a whole bulk request means. Pure.
//!
//! Comes in: status and body. Goes out: the items, to be judged one by one ([`bulk`](super::bulk)), or one of the
//! [`SendError`]s. What is no bulk answer never counts as one: a proxy's page with status 200 delivers nothing.

use std::borrow::Cow;

use serde::Deserialize;

use super::bulk::{ADVICE_OF_PIPELINE, Failure, Items, Sorted, advice_of_rights, sort};
use crate::sink::SendError;
use crate::sink::web::{Heard, excerpt, excerpt_of_text};

/// What was asked.
pub(super) struct Asked<'a> {
    /// Named in every text.
    pub sink: &'a str,
    /// In the batch.
    pub events: usize,
    /// The one index or data stream of all, where there is one.
    pub fixed: Option<&'a str>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: Option<Told<'a>>,
    /// Elastic Cloud's proxy tells so.
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Told<'a> {
    Failure(#[serde(borrow)] Failure<'a>),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// The outcomes of all events, or why there are none.
pub(super) fn read(asked: &Asked<'_>, heard: &Heard) -> Result<Sorted, SendError> {
    if heard.status / 100 != 2 {
        return Err(refusal(asked, heard));
    }
    if !heard.is_whole && asked.events > 1 {
        let reason = format!(
            "sink `{}`: the answer to a bulk request is longer than is read of it ({} bytes); tried in halves",
            asked.sink,
            heard.body.len()
        );
        return Err(SendError::Split { cause: "too long an answer".to_owned(), reason });
    }
    let sorted = serde_json::from_slice::<Items<'_>>(&heard.body).ok();
    let sorted = sorted.and_then(|items| sort(&items, asked.events, asked.fixed));
    sorted.ok_or_else(|| SendError::Retry {
        after: heard.retry_after,
        reason: said(
            asked,
            heard,
            "that is no bulk answer to these documents, so nothing counts as taken; check `url` and what stands between; sent again",
        ),
    })
}

/// What an answer means that refuses the request as a whole.
pub(super) fn refusal(asked: &Asked<'_>, heard: &Heard) -> SendError {
    let failure = failure_of(heard);
    let reason = failure.reason.as_deref().unwrap_or_default();
    let fatal = |advice: &str| SendError::Fatal { reason: said(asked, heard, advice) };
    // Only of documents can be said that they are.
    let again = if asked.events > 0 { "sent again" } else { "the cluster is not ready, or has too much to do" };
    let retry = || SendError::Retry { after: heard.retry_after, reason: said(asked, heard, again) };
    // The name of the error, not its words: those may hold a number of the request.
    let cause = || format!("{} {}", heard.status, failure.name);
    let place = asked.fixed.map_or_else(|| "the indices".to_owned(), |name| format!("`{name}`"));
    match (heard.status, failure.name.as_ref()) {
        (_, "cluster_block_exception" | "es_rejected_execution_exception" | "circuit_breaking_exception") => retry(),
        (400, "illegal_argument_exception") if reason.starts_with("pipeline with id") => fatal(ADVICE_OF_PIPELINE),
        (_, "index_not_found_exception") => fatal(&format!(
            "{place} takes nothing: create it, or let `action.auto_create_index` allow it; `auditferry setup` installs the template"
        )),
        (300..=399, _) => fatal("redirects are not followed: put the final address into `url`"),
        (401, _) => fatal(
            "check `auth` or the client certificate: an API key is given in its `encoded` form; a changed secret file is read again by itself",
        ),
        (403, _) => fatal(&advice_of_rights(Some(&failure), &place)),
        (407, _) => fatal("check the proxy's credentials"),
        (404 | 405, _) => fatal("there is no Elasticsearch or OpenSearch at this address: check `url`"),
        (406 | 415, _) => fatal("this server takes no bulk requests: check `url`"),
        (413, _) => SendError::Split {
            cause: cause(),
            reason: said(
                asked,
                heard,
                "too large for the cluster: lower `batch.max_bytes`, or raise `http.max_content_length` and the limit of any proxy in between",
            ),
        },
        (408 | 429 | 500.., _) => retry(),
        _ => SendError::Split { cause: cause(), reason: said(asked, heard, "see the event in the dead letters") },
    }
}

/// The exception that an answer tells of, if it is one of a cluster.
fn failure_of(heard: &Heard) -> Failure<'_> {
    let told: Option<Refusal<'_>> = serde_json::from_slice(&heard.body).ok();
    match told.and_then(|told| told.error) {
        Some(Told::Failure(failure)) => failure,
        _ => Failure::default(),
    }
}

/// What an answer to `GET /` means that is none of a cluster. Nothing of a batch was sent, so nothing of one is to blame.
pub(super) fn refusal_of_contact(asked: &Asked<'_>, heard: &Heard) -> SendError {
    match refusal(asked, heard) {
        SendError::Split { .. } => SendError::Fatal {
            reason: said(asked, heard, "`url` does not answer as a cluster: check it and what stands between"),
        },
        other => other,
    }
}

/// What an answer means that refuses a step of a set-up.
pub(super) fn refusal_of_setup(asked: &Asked<'_>, heard: &Heard) -> SendError {
    match heard.status {
        403 if failure_of(heard).is_of_opensearch() => SendError::Fatal {
            reason: said(
                asked,
                heard,
                "our user may not set the cluster up: for `setup` a role of it needs the permissions cluster `cluster:monitor/main`, `cluster_manage_index_templates`, `cluster:admin/opendistro/ism/policy/*` and, on the data stream, `indices:admin/data_stream/get` and `indices:admin/data_stream/create`; `run` needs none of these",
            ),
        },
        403 => SendError::Fatal {
            reason: said(
                asked,
                heard,
                "our user or API key may not set the cluster up: `setup` needs the cluster privileges `monitor`, `manage_index_templates` and `manage_ilm` and the index privilege `manage`; `run` needs none of these",
            ),
        },
        400 => SendError::Fatal { reason: said(asked, heard, "this cluster does not take it") },
        _ => refusal_of_contact(asked, heard),
    }
}

/// The answer in words, with what to do.
fn said(asked: &Asked<'_>, heard: &Heard, advice: &str) -> String {
    let told: Option<Refusal<'_>> = serde_json::from_slice(&heard.body).ok();
    let words = match told {
        Some(Refusal { error: Some(Told::Failure(failure)), .. }) => excerpt_of_text(&failure.words()),
        Some(Refusal { error: Some(Told::Text(text)), .. } | Refusal { message: Some(text), .. }) => {
            excerpt_of_text(&text)
        }
        _ => excerpt(&heard.body),
    };
    format!("sink `{}`: the cluster answered {} `{words}`; {advice}", asked.sink, heard.status)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ASKED: Asked<'_> = Asked { sink: "es", events: 2, fixed: Some("logs-o365.audit-default") };

    /// As OpenSearch 2.19.3 says it.
    const OPENSEARCH: &str =
        "no permissions for [indices:data/write/bulk] and User [name=u, backend_roles=[], requestedTenant=null]";

    fn heard(status: u16, body: &str, is_whole: bool) -> Heard {
        let retry_after = Some(Duration::from_secs(7));
        Heard { status, retry_after, headers: Default::default(), body: body.into(), is_whole }
    }

    fn verdict(asked: &Asked<'_>, status: u16, body: &str, is_whole: bool) -> (&'static str, String) {
        match read(asked, &heard(status, body, is_whole)).and_then(|sorted| sorted.into_result("es", None)) {
            Ok(()) => ("ok", String::new()),
            Err(error) => {
                let kind = match &error {
                    SendError::Retry { after: Some(_), .. } => "retry",
                    SendError::Split { .. } => "split",
                    SendError::Fatal { .. } => "fatal",
                    SendError::Partial(_) => "partial",
                    _ => "other",
                };
                (kind, error.to_string())
            }
        }
    }

    #[test]
    fn every_answer_has_one_meaning_and_names_its_cause() {
        let error = |name: &str, reason: &str| {
            serde_json::json!({ "error": { "root_cause": [], "type": name, "reason": reason }, "status": 0 })
                .to_string()
        };
        let item = "{\"create\":{\"status\":201}}";
        for (status, body, expected, part) in [
            (200, format!("{{\"errors\":false,\"items\":[{item},{item}]}}"), "ok", ""),
            (200, format!("{{\"errors\":false,\"items\":[{item}]}}"), "retry", "no bulk answer"),
            (200, "<html>log in</html>".into(), "retry", "check `url`"),
            (200, "{}".into(), "retry", "no bulk answer"),
            (204, String::new(), "retry", "no bulk answer"),
            (302, String::new(), "fatal", "redirects"),
            (400, error("illegal_argument_exception", "pipeline with id [x] does not exist"), "fatal", "`pipeline`"),
            (400, error("illegal_argument_exception", "Malformed action/metadata line [1]"), "split", "Malformed"),
            (401, error("security_exception", "unable to authenticate user [u]"), "fatal", "check `auth`"),
            (401, "Unauthorized".into(), "fatal", "Unauthorized"),
            (403, error("security_exception", "action [x] is unauthorized"), "fatal", "`logs-o365.audit-default`"),
            (403, error("security_exception", "action [x] is unauthorized"), "fatal", "`create_doc`"),
            (403, error("security_exception", OPENSEARCH), "fatal", "`indices:data/write/bulk`"),
            (403, error("cluster_block_exception", "index [x] blocked by: [FORBIDDEN/12]"), "retry", "FORBIDDEN/12"),
            (404, error("index_not_found_exception", "no such index [x]"), "fatal", "no such index [x]"),
            (404, "{\"ok\":false,\"message\":\"Unknown deployment.\"}".into(), "fatal", "`Unknown deployment.`"),
            (405, "{\"error\":\"Incorrect HTTP method\",\"status\":405}".into(), "fatal", "Incorrect HTTP method"),
            (408, String::new(), "retry", ""),
            (413, "<html>".into(), "split", "`batch.max_bytes`"),
            (415, String::new(), "fatal", "takes no bulk requests"),
            (429, error("circuit_breaking_exception", "Data too large"), "retry", "Data too large"),
            (502, "<html>".into(), "retry", "502"),
            (503, error("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/1/state]"), "retry", "state"),
        ] {
            let (kind, text) = verdict(&ASKED, status, &body, true);
            assert_eq!(kind, expected, "{status} {body}: {text}");
            assert!(text.contains(part), "{status} {body}: {text}");
            assert!(text.is_empty() || text.starts_with("sink `es`: "), "{text}");
        }
    }

    #[test]
    fn refusals_that_differ_in_their_words_have_one_cause() {
        let cause = |status, body: &str| match refusal(&ASKED, &heard(status, body, true)) {
            SendError::Split { cause, .. } => cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(400, "trace 81f2"), cause(400, "trace 9c07"));
        let of = |name: &str, id: &str| {
            serde_json::json!({ "error": { "type": name, "reason": id }, "status": 400 }).to_string()
        };
        assert_eq!(cause(400, &of("parse_exception", "1")), cause(400, &of("parse_exception", "2")));
        assert_ne!(cause(400, &of("parse_exception", "1")), cause(400, &of("other_exception", "1")));
    }

    #[test]
    fn a_setup_that_may_not_is_told_the_rights_that_its_engine_knows() {
        let asked = Asked { events: 0, fixed: None, ..ASKED };
        for (reason, named, other) in [
            ("action [x] is unauthorized for user [u]", "`manage_ilm`", "cluster:monitor/main"),
            (OPENSEARCH, "`cluster:monitor/main`", "manage_ilm"),
        ] {
            let body = serde_json::json!({ "error": { "type": "security_exception", "reason": reason } }).to_string();
            let said = refusal_of_setup(&asked, &heard(403, &body, true)).to_string();
            assert!(said.contains(named) && !said.contains(other), "{said}");
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_asked_for_in_halves_down_to_one() {
        assert_eq!(verdict(&ASKED, 200, "{\"items\":[", false).0, "split");
        assert_eq!(verdict(&Asked { events: 1, ..ASKED }, 200, "{\"items\":[", false).0, "retry");
    }

    #[test]
    fn no_answer_to_the_first_question_blames_a_record_or_says_that_one_was_sent() {
        let asked = Asked { events: 0, ..ASKED };
        for status in [200, 204, 400, 409, 410, 413, 418, 429, 451, 500, 503] {
            let error = refusal_of_contact(&asked, &heard(status, "<html>", true));
            assert!(matches!(error, SendError::Fatal { .. } | SendError::Retry { .. }), "{status}: {error}");
            assert!(!error.to_string().contains("sent again"), "{error}");
            let error = refusal_of_setup(&asked, &heard(status, "<html>", true));
            assert!(!error.to_string().contains("sent again") && !matches!(error, SendError::Split { .. }), "{error}");
        }
        let said = refusal_of_contact(&asked, &heard(410, "<html>", true)).to_string();
        assert!(said.contains("`url` does not answer as a cluster"), "{said}");
    }
}
