//! Records of all other types, the unnamed ones too: what every record shares, an object that is an address, and what
//! a few of them say in their own way.
//!
//! Comes in: a record. Goes out: facts in a draft.

use crate::record::Field;

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{sharepoint, verb};

pub static FAMILY: Family = Family { name: "All others", record_types: &[], rules: RULES, describe };

/// Mail of encrypted messages that was opened in the portal (`OMEPortal`).
const ENCRYPTED_MESSAGE: i64 = 154;

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation, RecordType",
        "where the table of operations says nothing and the name has a verb: Sway, Stream: `file`; policies and settings: `configuration`; queries in the lake of Sentinel: `database`",
    ),
    made(Ecs::EventType, "Operation", "of the same: by the verb; of a query access"),
    made(
        Ecs::EventOutcome,
        "ResultStatus; AuthenticationStatus",
        "Planner: 1 success, 2 and 3 failure; an encrypted message: 0 success, 1 failure",
    ),
    made(Ecs::UrlOriginal, "ObjectId; ResourceUrl", "where it is an address of the web"),
    made(Ecs::UrlDomain, "ObjectId; ResourceUrl", "of the same"),
    copied(Ecs::FileName, Field::FormName),
    copied(Ecs::FileName, Field::ResourceTitle),
    made(Ecs::EmailMessageId, "MessageId", "of an encrypted message"),
    made(Ecs::EmailFrom, "Sender", "of an encrypted message"),
    made(Ecs::EmailTo, "Recipient", "of an encrypted message"),
];

fn describe(draft: &mut Draft<'_>) {
    let url = draft.said(Field::ObjectId).filter(|url| sharepoint::host_of(url).is_some());
    if let Some(url) = url.or_else(|| draft.said(Field::ResourceUrl)) {
        sharepoint::set_url(draft, url);
    }
    match draft.record_type {
        Some(12 | 32) => verb::describe(draft, "file"),
        Some(188..=194 | 231 | 386 | 387 | 401 | 402) => {
            draft.outcome = draft.said(Field::ResultStatus).and_then(planner_outcome).or(draft.outcome);
            verb::describe(draft, "file");
        }
        // Policies, backups and settings.
        Some(217 | 251..=253 | 269 | 288 | 298 | 302..=304 | 336..=339 | 372 | 375 | 376 | 427) => {
            verb::describe(draft, "configuration");
        }
        Some(365..=367 | 371) if !draft.has(Ecs::EventCategory) => {
            draft.add(Ecs::EventCategory, Value::Text("database"));
            draft.add(Ecs::EventType, Value::Text("access"));
        }
        Some(ENCRYPTED_MESSAGE) => describe_encrypted_message(draft),
        _ => {}
    }
}

/// `ResultStatus` of Planner's schema: 1 Success, 2 Failure, 3 AuthorizationFailure.
fn planner_outcome(status: &str) -> Option<Outcome> {
    match status {
        "1" => Some(Outcome::Success),
        "2" | "3" => Some(Outcome::Failure),
        _ => None,
    }
}

fn describe_encrypted_message(draft: &mut Draft<'_>) {
    // The schema of the portal: 0 is a success, 1 a failure, of the sign-in and of what was asked for.
    let states = [Field::AuthenticationStatus, Field::OperationStatus].map(|field| draft.said(field));
    draft.outcome = draft.outcome.or(match states {
        [Some("1"), _] | [_, Some("1")] => Some(Outcome::Failure),
        [Some("0"), _] | [_, Some("0")] => Some(Outcome::Success),
        _ => None,
    });
    if !draft.has(Ecs::EventCategory) {
        let (category, kind) =
            match draft.operation().starts_with("Authenticat") || draft.operation().ends_with("SignIn") {
                true => ("authentication", "start"),
                false => ("email", "info"),
            };
        draft.add(Ecs::EventCategory, Value::Text(category));
        draft.add(Ecs::EventType, Value::Text(kind));
    }
    draft.fill_text(Ecs::EmailMessageId, draft.said(Field::MessageId));
    draft.add_text(Ecs::EmailFrom, draft.said(Field::Sender).unwrap_or_default());
    draft.add_text(Ecs::EmailTo, draft.said(Field::Recipient).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn numbers_of_planner_are_outcomes_and_those_of_others_are_not() {
        let outcome = |record: &str| document_of(record)["event"].get("outcome").cloned();
        for (status, expected) in
            [("1", Some("success")), ("\"2\"", Some("failure")), ("3", Some("failure")), ("4", None)]
        {
            let record = format!(r#"{{"RecordType":188,"ResultStatus":{status}}}"#);
            assert_eq!(outcome(&record), expected.map(|text| json!(text)), "{status}");
        }
        assert_eq!(outcome(r#"{"RecordType":66,"ResultStatus":2}"#), None);
        assert_eq!(outcome(r#"{"RecordType":154,"AuthenticationStatus":1}"#), Some(json!("failure")));
        assert_eq!(outcome(r#"{"RecordType":155,"AuthenticationStatus":1}"#), None);
    }

    #[test]
    fn mail_is_only_what_an_encrypted_message_says() {
        let mail = |number: i64| {
            let record = json!({"RecordType":number,"MessageId":"<m@x>","Sender":"a@b","Recipient":"c@d"});
            document_of(&record.to_string())
        };
        assert_eq!(
            mail(154)["email"],
            json!({"from":{"address":["a@b"]},"message_id":"<m@x>","to":{"address":["c@d"]}})
        );
        assert_eq!(mail(154)["related"]["user"], json!(["a@b", "c@d"]));
        assert_eq!(mail(66).get("email"), None);
        let read = document_of(
            r#"{"RecordType":32,"Operation":"OddView","ObjectId":"x","ResourceUrl":"https://v.example/1"}"#,
        );
        assert_eq!((&read["url"]["domain"], &read["event"]["type"]), (&json!("v.example"), &json!(["access"])));
    }
}
