//! Quarantined mail (65), and senders that were restricted or released (51).
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, items 44 and 45). ECS has no type for
//! what is done to a mail, so what was asked for is said in `event.reason`.

use crate::record::Field;
use crate::record::address::Address;

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::identity;

pub static FAMILY: Family = Family { name: "Quarantine and hygiene", record_types: &[51, 65], rules: RULES, describe };

const HYGIENE: i64 = 51;

const RULES: &[Rule] = &[
    made(Ecs::EventCategory, "RecordType", "`email`, unless the operation says more"),
    made(Ecs::EventType, "RecordType", "`info`, unless the operation says more"),
    made(Ecs::EventOutcome, "ResultStatus", "Successful: success, too"),
    copied(Ecs::EventReason, Field::Reason),
    made(
        Ecs::EventReason,
        "RequestType",
        "of a quarantined mail the name of the number: 0 Preview, 1 Delete, 2 Release, 3 Export, 4 ViewHeader, 5 ReleaseRequest",
    ),
    made(Ecs::EmailTo, "ReleaseTo", "to whom the mail was released, separated by `;` or `,`"),
    made(Ecs::UserTargetId, "EventValue", "who was restricted or released, where it is an address of mail"),
    made(Ecs::UserTargetEmail, "EventValue", "of the same"),
    made(Ecs::UserTargetName, "EventValue", "of the same"),
    made(Ecs::UserTargetDomain, "EventValue", "of the same"),
    made(Ecs::RelatedIp, "EventValue", "where it is an IP address"),
];

fn describe(draft: &mut Draft<'_>) {
    if !draft.has(Ecs::EventCategory) {
        draft.add(Ecs::EventCategory, Value::Text("email"));
        draft.add(Ecs::EventType, Value::Text("info"));
    }
    if draft.said(Field::ResultStatus).is_some_and(|status| status.eq_ignore_ascii_case("Successful")) {
        draft.outcome = Some(Outcome::Success);
    }
    if draft.record_type == Some(HYGIENE) {
        return describe_sender(draft);
    }
    draft.set_text(Ecs::EventReason, draft.said(Field::RequestType).and_then(request));
    for address in draft.said(Field::ReleaseTo).unwrap_or_default().split([';', ',']).map(str::trim) {
        draft.add_text(Ecs::EmailTo, address);
    }
}

/// Names of the schema's enumeration `RequestType`.
fn request(number: &str) -> Option<&'static str> {
    const NAMES: [&str; 6] = ["Preview", "Delete", "Release", "Export", "ViewHeader", "ReleaseRequest"];
    NAMES.get(number.parse::<usize>().ok()?).copied()
}

fn describe_sender(draft: &mut Draft<'_>) {
    let Some(sender) = draft.said(Field::EventValue) else { return };
    if identity::address(sender).is_some() {
        identity::set(draft, identity::TARGET, sender);
    } else if let Some(ip) = Address::parse(sender).and_then(|address| address.ip) {
        draft.add(Ecs::RelatedIp, Value::Ip(ip));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn what_was_asked_for_is_said_and_to_whom_the_mail_went() {
        let read = document_of(
            r#"{"RecordType":65,"ResultStatus":"Successful","RequestType":2,"ReleaseTo":"a@b; c@d;all","NetworkMessageId":"n"}"#,
        );
        assert_eq!((&read["event"]["outcome"], &read["event"]["reason"]), (&json!("success"), &json!("Release")));
        assert_eq!(read["email"], json!({"local_id":"n","to":{"address":["a@b","c@d","all"]}}));
        assert_eq!(read["related"]["user"], json!(["a@b", "c@d"]));
        let read = document_of(r#"{"RecordType":65,"RequestType":6,"ReleaseTo":null}"#);
        assert_eq!((read["event"].get("reason"), read.get("email")), (None, None));
    }

    #[test]
    fn a_restricted_sender_is_a_user_or_a_host() {
        let read = document_of(r#"{"RecordType":51,"EventValue":"a@b","Reason":"spam"}"#);
        assert_eq!((&read["user"]["target"]["email"], &read["event"]["reason"]), (&json!("a@b"), &json!("spam")));
        let read = document_of(r#"{"RecordType":51,"EventValue":"203.0.113.5"}"#);
        assert_eq!((read.get("user"), &read["related"]["ip"]), (None, &json!(["203.0.113.5"])));
    }
}
