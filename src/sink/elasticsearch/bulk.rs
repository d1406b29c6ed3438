//! What the answer to a bulk request says of each document. Pure.
//!
//! Comes in: the items of an answer. Goes out: for each event whether the cluster has it, wants it again, or never takes
//! it, and why: in words that hold nothing of a record, since they end in logs, and as a cause that the driver compares.
//! By status first, by the name of Elasticsearch's exception where one status has two meanings ("Bulk API", response;
//! OpenSearch has the same names).

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use crate::sink::{Partial, Refusal, SendError};

/// What of an answer is asked for: an item without its error is then 28 bytes.
pub(super) const WANTED: &str = "errors,items.*.status,items.*.failure_store,items.*.error.type,items.*.error.reason,items.*.error.caused_by.type,items.*.error.caused_by.reason,error,status";

/// Characters of a reason that are kept.
const SHOWN: usize = 400;

#[derive(Deserialize)]
pub(super) struct Items<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    create: Outcome<'a>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    status: u16,
    /// `used`: the document is in the data stream's failure store instead of the stream, and the status is 201
    /// (Elasticsearch from 8.19 and 9.1, "Failure store").
    #[serde(borrow, default)]
    failure_store: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
}

/// An exception, as the cluster tells of it.
#[derive(Default, Deserialize)]
pub(super) struct Failure<'a> {
    #[serde(rename = "type", borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub caused_by: Option<Cause<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Cause<'a> {
    #[serde(rename = "type", borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

/// What one document's outcome means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// It was there: sent before, and the answer or our memory of it was lost.
    There,
    /// Nothing is wrong with it; the cluster could not take it now.
    Again,
    /// Refused for good.
    Refused,
    /// Its index is not there or not ours to write to.
    Misplaced,
    /// Nothing can be taken until somebody mends the cluster or the configuration.
    Held,
}

/// A batch after its answer.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Of the events taken, how many were there before.
    pub there: usize,
    pub taken: Vec<usize>,
    refused: Vec<Refusal>,
    /// The last reason for what is sent again.
    again: Option<String>,
    held: Option<String>,
}

/// Sorts the events of a batch of `events`; `None` where the answer is not one to so many. `fixed`: the one index of
/// all, where there is one: what is wrong with it is wrong for all.
pub(super) fn sort(items: &Items<'_>, events: usize, fixed: Option<&str>) -> Option<Sorted> {
    if items.items.len() != events {
        return None;
    }
    let mut sorted = Sorted::default();
    for (event, item) in items.items.iter().enumerate() {
        let outcome = &item.create;
        let verdict = verdict(outcome);
        if matches!(verdict, Verdict::Taken | Verdict::There) {
            sorted.there += usize::from(verdict == Verdict::There);
            sorted.taken.push(event);
            continue;
        }
        let (said, cause) = (said(outcome), cause(outcome));
        match verdict {
            Verdict::Again => sorted.again = Some(said),
            Verdict::Held => sorted.held = Some(format!("{said}; {ADVICE_OF_PIPELINE}")),
            Verdict::Misplaced => match fixed {
                Some(name) => {
                    sorted.held = Some(format!("`{name}` takes nothing from us: {said}; {}", advice_of_place(outcome)));
                }
                None => {
                    let reason = format!("{said}; {}", advice_of_place(outcome));
                    sorted.refused.push(Refusal { event, reason, cause, misplaced: true });
                }
            },
            Verdict::Refused | Verdict::Taken | Verdict::There => {
                sorted.refused.push(Refusal { event, reason: said, cause, misplaced: false });
            }
        }
    }
    Some(sorted)
}

/// A pipeline that is not there.
pub(super) const ADVICE_OF_PIPELINE: &str = "create the pipeline, or change `pipeline` of the sink";

fn advice_of_place(outcome: &Outcome<'_>) -> String {
    match outcome.status {
        403 => {
            let rights = advice_of_rights(outcome.error.as_ref(), "it");
            format!("{rights}, or change the target")
        }
        _ => "create it (`auditferry setup` installs the template), let `action.auto_create_index` allow it, or change the target".to_owned(),
    }
}

/// What lets us write to `place`, after the failure that says we may not.
pub(super) fn advice_of_rights(failure: Option<&Failure<'_>>, place: &str) -> String {
    if failure.is_some_and(Failure::is_of_opensearch) {
        return format!(
            "a role of our user needs the permissions cluster `indices:data/write/bulk` and, on {place}, `create_index` and `indices:data/write/*`"
        );
    }
    format!("grant our user or API key `create_doc` and `auto_configure` on {place}")
}

impl Sorted {
    /// What the driver does next; `Ok` where everything is taken. `sink` is named in every text.
    pub fn into_result(self, sink: &str, after: Option<Duration>) -> Result<(), SendError> {
        let named = |said: String| format!("sink `{sink}`: {said}");
        if let Some(held) = self.held {
            return Err(SendError::Fatal { reason: named(held) });
        }
        let mut refused = self.refused;
        refused.iter_mut().for_each(|refusal| refusal.reason = named(std::mem::take(&mut refusal.reason)));
        let again = self.again.map(|said| named(format!("{said}; sent again")));
        match (refused.last().map(|refusal| refusal.reason.clone()), again) {
            (None, None) => Ok(()),
            (None, Some(reason)) if self.taken.is_empty() => Err(SendError::Retry { after, reason }),
            (last, again) => {
                let reason = again.or(last).unwrap_or_default();
                Err(SendError::Partial(Box::new(Partial { taken: self.taken, refused, after, reason })))
            }
        }
    }
}

/// What became of a document that an index or a pipeline refused, where the stream keeps such.
const FAILURE_STORE: &str = ", but put the document into the data stream's failure store, not into the stream: its mapping or a pipeline refused it; the cause stands there (`GET STREAM::failures/_search`), the record is in the dead letters too";

impl Outcome<'_> {
    fn is_in_failure_store(&self) -> bool {
        self.failure_store.as_deref() == Some("used")
    }
}

fn verdict(outcome: &Outcome<'_>) -> Verdict {
    let name = outcome.error.as_ref().map_or("", |error| &error.name);
    let reason = outcome.error.as_ref().and_then(|error| error.reason.as_deref()).unwrap_or_default();
    match (outcome.status, name) {
        _ if outcome.is_in_failure_store() => Verdict::Refused,
        (200 | 201, _) => Verdict::Taken,
        (409, _) => Verdict::There,
        // A write block, of a full disk mostly; Elasticsearch 7.x below .8 says 403 of it.
        (_, "cluster_block_exception" | "es_rejected_execution_exception") => Verdict::Again,
        // Two requests made the index at once.
        (400, "resource_already_exists_exception") => Verdict::Again,
        // The cluster has as many shards as it may: no new index, though this one may come to be.
        (400, "validation_exception") if reason.contains("shards") => Verdict::Again,
        (_, "index_not_found_exception" | "security_exception" | "index_closed_exception") => Verdict::Misplaced,
        (_, "invalid_index_name_exception") => Verdict::Misplaced,
        (400, "illegal_argument_exception") if reason.contains("no write index is defined for alias") => {
            Verdict::Misplaced
        }
        (400, "illegal_argument_exception") if reason.starts_with("pipeline with id") => Verdict::Held,
        (401 | 403 | 404, _) => Verdict::Misplaced,
        (408 | 429 | 500.., _) => Verdict::Again,
        _ => Verdict::Refused,
    }
}

/// What stays the same from document to document: no field, no place, no words. A mapping that refuses most of
/// everything is one thing to mend, whichever field each document fails at.
fn cause(outcome: &Outcome<'_>) -> String {
    let name = outcome.error.as_ref().map_or("", |error| &error.name);
    format!("{} {name}", outcome.status)
}

/// The outcome in words that hold nothing of the document.
fn said(outcome: &Outcome<'_>) -> String {
    let mut text = format!("the cluster answered {}", outcome.status);
    if outcome.is_in_failure_store() {
        text.push_str(FAILURE_STORE);
    }
    if let Some(error) = &outcome.error {
        text.push_str(" `");
        text.push_str(&error.words());
        text.push('`');
    }
    text
}

impl Failure<'_> {
    /// Whether OpenSearch's security plugin says it, which knows other rights than Elasticsearch does
    /// (opensearch-security 2.19, `SecurityFilter`: "no permissions for [ACTIONS] and User […]").
    pub fn is_of_opensearch(&self) -> bool {
        self.reason.as_deref().is_some_and(|reason| reason.starts_with("no permissions for ["))
    }

    /// Its name, reason and cause, without values of a document and places in it.
    pub fn words(&self) -> String {
        let mut text = self.name.clone().into_owned();
        if let Some(reason) = &self.reason {
            text += ": ";
            text += &steady(reason);
        }
        if let Some(cause) = &self.caused_by {
            text += "; caused by ";
            text += &cause.name;
            if let Some(reason) = &cause.reason {
                text += ": ";
                text += &steady(reason);
            }
        }
        text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// A reason without what differs from document to document: its id, what it held (in quotes, in the preview, in brackets
/// behind certain words), and places in its text. Names of fields and settings stand in square brackets and stay.
fn steady(reason: &str) -> String {
    let cut =
        [" in document with id ", ". Preview of field's value: "].iter().filter_map(|mark| reason.find(mark)).min();
    let reason = &reason[..cut.unwrap_or(reason.len())];
    let mut out = String::with_capacity(reason.len());
    let mut rest = reason.chars();
    let mut depth = 0_usize;
    while let Some(character) = rest.next() {
        match character {
            // An apostrophe within a word is none.
            '"' | '\'' if !out.ends_with(char::is_alphanumeric) => {
                out.push(character);
                out.push('…');
                // The last of its kind: what was refused may hold some itself.
                if let Some(last) = rest.as_str().rfind(character) {
                    rest = rest.as_str()[last + 1..].chars();
                    out.push(character);
                } else {
                    rest = "".chars();
                }
            }
            '[' => {
                let inside = rest.as_str().split(']').next().unwrap_or_default();
                let is_place = inside.contains(':') && inside.chars().all(|c| c.is_ascii_digit() || c == ':');
                let holds_value = OF_VALUES.iter().any(|words| out.ends_with(words));
                out.push('[');
                if is_place || holds_value {
                    out.push('…');
                    rest = rest.as_str()[inside.len()..].chars();
                }
                depth += 1;
            }
            ']' => {
                depth = depth.saturating_sub(1);
                out.push(']');
            }
            digit if digit.is_ascii_digit() && depth == 0 => {
                out.push('…');
                rest = rest.as_str().trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').chars();
            }
            other => out.push(other),
        }
    }
    out
}

/// What stands before a value of a document in square brackets.
const OF_VALUES: [&str; 5] = ["date field ", "value ", "Value ", "text ", "value: "];

#[cfg(test)]
mod tests {
    use super::*;

    fn item(status: u16, name: &str, reason: &str) -> String {
        match name {
            "" => format!("{{\"create\":{{\"status\":{status}}}}}"),
            _ => format!(
                "{{\"create\":{{\"status\":{status},\"error\":{}}}}}",
                serde_json::json!({ "type": name, "reason": reason })
            ),
        }
    }

    fn sorted(items: &[String], fixed: Option<&str>) -> Result<(), SendError> {
        let text = format!("{{\"errors\":true,\"items\":[{}]}}", items.join(","));
        let parsed: Items<'_> = serde_json::from_str(&text).unwrap();
        sort(&parsed, items.len(), fixed).unwrap().into_result("es", None)
    }

    fn verdict_of(status: u16, name: &str, reason: &str) -> String {
        let text = format!("{{\"items\":[{}]}}", item(status, name, reason));
        let parsed: Items<'_> = serde_json::from_str(&text).unwrap();
        format!("{:?}", verdict(&parsed.items[0].create)).to_lowercase()
    }

    /// Statuses and exceptions of single documents, of Elasticsearch 7 to 9 and OpenSearch.
    #[test]
    fn every_outcome_of_a_document_has_one_meaning() {
        for (status, name, reason, expected) in [
            (201, "", "", "taken"),
            (200, "", "", "taken"),
            (409, "version_conflict_engine_exception", "[x]: version conflict, document already exists", "there"),
            (429, "es_rejected_execution_exception", "rejected execution", "again"),
            (429, "circuit_breaking_exception", "Data too large", "again"),
            (429, "cluster_block_exception", "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage]", "again"),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/12/index read-only]", "again"),
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)]", "again"),
            (503, "unavailable_shards_exception", "[x][0] primary shard is not active", "again"),
            (503, "process_cluster_event_timeout_exception", "failed to process cluster event", "again"),
            (500, "mapper_exception", "timed out while waiting for a dynamic mapping update", "again"),
            (400, "resource_already_exists_exception", "index [x] already exists", "again"),
            (400, "validation_exception", "this action would add [2] total shards, but", "again"),
            (400, "mapper_parsing_exception", "failed to parse field [n] of type [long]", "refused"),
            (400, "document_parsing_exception", "[1:9] failed to parse field [n] of type [long]", "refused"),
            (400, "strict_dynamic_mapping_exception", "dynamic introduction of [n]", "refused"),
            (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", "refused"),
            (400, "illegal_argument_exception", "pipeline with id [o365] does not exist", "held"),
            (400, "illegal_argument_exception", "no write index is defined for alias [x].", "misplaced"),
            (400, "invalid_index_name_exception", "Invalid index name [X], must be lowercase", "misplaced"),
            (400, "index_closed_exception", "closed", "misplaced"),
            (404, "index_not_found_exception", "no such index [x]", "misplaced"),
            (403, "security_exception", "action [indices:data/write/bulk[s]] is unauthorized", "misplaced"),
            (413, "", "", "refused"),
        ] {
            assert_eq!(verdict_of(status, name, reason), expected, "{status} {name} {reason}");
        }
    }

    #[test]
    fn an_answer_is_sorted_by_event() {
        let items = [
            item(201, "", ""),
            item(409, "version_conflict_engine_exception", "[k]: version conflict"),
            item(400, "mapper_parsing_exception", "failed to parse field [n] of type [long] in document with id 'k'"),
            item(429, "es_rejected_execution_exception", "rejected execution"),
        ];
        let Err(SendError::Partial(partial)) = sorted(&items, Some("logs")) else { panic!("not sorted") };
        assert_eq!(partial.taken, [0, 1]);
        assert_eq!((partial.refused[0].event, partial.refused.len()), (2, 1));
        let reason = &partial.refused[0].reason;
        assert!(
            reason.ends_with("400 `mapper_parsing_exception: failed to parse field [n] of type [long]`"),
            "{reason}"
        );
        assert!(partial.reason.contains("es_rejected_execution_exception") && partial.reason.starts_with("sink `es`"));
        assert_eq!(partial.refused[0].cause, "400 mapper_parsing_exception", "whatever the field");
        assert!(sorted(&items[..2], None).is_ok());
        assert!(matches!(sorted(&items[3..], None), Err(SendError::Retry { .. })), "nothing was taken");
    }

    #[test]
    fn what_went_to_the_failure_store_is_refused_and_says_where_it_is() {
        let stored = |said: &str| format!("{{\"create\":{{\"status\":201,\"failure_store\":\"{said}\"}}}}");
        let items = [item(201, "", ""), stored("used"), stored("not_enabled")];
        let Err(SendError::Partial(partial)) = sorted(&items, Some("logs")) else { panic!("counted as taken") };
        assert_eq!((partial.taken.as_slice(), partial.refused[0].event), ([0, 2].as_slice(), 1));
        assert!(partial.refused[0].reason.contains("`GET STREAM::failures/_search`") && !partial.refused[0].misplaced);
        assert!(WANTED.contains("items.*.failure_store"), "it must be asked for");
    }

    #[test]
    fn a_missing_index_holds_everything_where_it_is_the_only_one() {
        let items = [item(201, "", ""), item(404, "index_not_found_exception", "no such index [o365]")];
        let Err(SendError::Fatal { reason }) = sorted(&items, Some("o365")) else { panic!("not held") };
        assert!(reason.contains("`o365` takes nothing from us") && reason.contains("auditferry setup"), "{reason}");
        let Err(SendError::Partial(partial)) = sorted(&items, None) else { panic!("not by event") };
        assert!(partial.refused[0].misplaced && partial.refused[0].reason.contains("no such index [o365]"));
        let piped = [item(400, "illegal_argument_exception", "pipeline with id [x] does not exist")];
        let Err(SendError::Fatal { reason }) = sorted(&piped, None) else { panic!("not held") };
        assert!(reason.contains("change `pipeline` of the sink"), "{reason}");
        let forbidden = [item(403, "security_exception", "action [x] is unauthorized for API key id [k]")];
        let Err(SendError::Fatal { reason }) = sorted(&forbidden, Some("o365")) else { panic!("not held") };
        assert!(reason.contains("`create_doc`"), "{reason}");
        // As OpenSearch 2.19.3 says it, which knows no such privilege.
        let words =
            "no permissions for [indices:data/write/bulk[s]] and User [name=u, backend_roles=[], requestedTenant=null]";
        let forbidden = [item(403, "security_exception", words)];
        let Err(SendError::Fatal { reason }) = sorted(&forbidden, Some("o365")) else { panic!("not held") };
        assert!(
            reason.contains(words) && reason.contains("`create_index`") && !reason.contains("create_doc"),
            "{reason}"
        );
    }

    #[test]
    fn an_answer_to_another_number_of_documents_is_none() {
        let text = format!("{{\"items\":[{}]}}", item(201, "", ""));
        let parsed: Items<'_> = serde_json::from_str(&text).unwrap();
        assert!(sort(&parsed, 2, None).is_none() && sort(&parsed, 0, None).is_none());
        assert!(serde_json::from_str::<Items<'_>>("{\"took\":1}").is_err());
    }

    #[test]
    fn reasons_are_alike_for_one_cause_and_hold_nothing_of_a_record() {
        for (reason, expected) in [
            (
                "failed to parse field [n] of type [long] in document with id 'a1'. Preview of field's value: 'secret'",
                "failed to parse field [n] of type [long]",
            ),
            ("For input string: \"secret\"", "For input string: \"…\""),
            ("For input string: \"x\" jane@contoso.com\"", "For input string: \"…\""),
            ("[1:343] failed to parse field [a.b]", "[…] failed to parse field [a.b]"),
            ("Can't get text on a START_OBJECT at 1:343", "Can't get text on a START_OBJECT at …"),
            (
                "failed to parse date field [2026-99-99] with format [strict_date]",
                "failed to parse date field […] with format [strict_date]",
            ),
            ("'secret' is not an IP string literal.", "'…' is not an IP string literal."),
            ("Limit of total fields [1000] has been exceeded", "Limit of total fields [1000] has been exceeded"),
            (
                "data stream timestamp field [@timestamp] is missing",
                "data stream timestamp field [@timestamp] is missing",
            ),
            ("unbalanced \"quote", "unbalanced \"…"),
            ("unbalanced [quote", "unbalanced [quote"),
        ] {
            assert_eq!(steady(reason), expected);
        }
    }
}
