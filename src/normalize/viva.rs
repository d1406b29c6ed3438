//! Viva: Engage (Yammer, 22), Insights, Goals, Learning, Pulse, Glint and Amplify.
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, item 50; ecs-mapping, section 5).

use crate::record::Field;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made, moved};
use super::{identity, verb};

pub static FAMILY: Family = Family {
    name: "Viva Engage and Viva",
    record_types: &[
        22, 44, 105, 216, 265, 266, 280, 281, 282, 283, 346, 347, 348, 349, 350, 351, 352, 353, 354, 355, 356, 374,
        378, 414, 422,
    ],
    rules: RULES,
    describe,
};

const ENGAGE: i64 = 22;

/// Records of what users make and keep; all others are about how Viva is set up.
const CONTENT: [i64; 5] = [216, 265, 280, 281, 283];

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation, RecordType",
        "where the table of operations says nothing and the name has a verb: `file` for goals, courses and surveys; else `configuration`; of a message in Engage `web`",
    ),
    made(Ecs::EventType, "Operation", "of the same: by the verb; of a message info"),
    moved(Ecs::FileName, Field::FileName),
    made(Ecs::FileExtension, "FileName", "what stands behind the last dot"),
    moved(Ecs::GroupName, Field::GroupName),
    copied(Ecs::UserFullName, Field::Username),
    copied(Ecs::UserRoles, Field::UserRole),
    copied(Ecs::UserRoles, Field::WpaUserRole),
    made(Ecs::UserId, "ActorYammerUserId; else ActorUserId", "where there is no UserId"),
    made(Ecs::UserName, "ActorUserId", "where UserId is no address"),
    made(Ecs::UserDomain, "ActorUserId", "of the same"),
    made(Ecs::UserEmail, "ActorUserId", "of the same"),
    made(Ecs::UserTargetId, "TargetUserId; else TargetYammerUserId", "whom it was done to"),
    made(Ecs::UserTargetEmail, "TargetUserId", "where it is an address"),
    made(Ecs::UserTargetName, "TargetUserId", "of the same"),
    made(Ecs::UserTargetDomain, "TargetUserId", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    describe_meaning(draft);
    let actor = draft.said(Field::ActorUserId);
    if !draft.has(Ecs::UserId) {
        draft.set_text(Ecs::UserId, draft.said(Field::ActorYammerUserId).or(actor));
    }
    if !draft.has(Ecs::UserEmail)
        && let Some(actor) = actor
    {
        identity::set_address(draft, identity::USER, actor);
    }
    match draft.said(Field::TargetUserId) {
        Some(target) => identity::set(draft, identity::TARGET, target),
        None => draft.set_text(Ecs::UserTargetId, draft.said(Field::TargetYammerUserId)),
    }
}

fn describe_meaning(draft: &mut Draft<'_>) {
    let number = draft.record_type.unwrap_or_default();
    if number == ENGAGE && draft.operation().starts_with("Message") {
        if !draft.has(Ecs::EventCategory) {
            draft.add(Ecs::EventCategory, Value::Text("web"));
            draft.add(Ecs::EventType, Value::Text("info"));
        }
        return;
    }
    verb::describe(draft, if CONTENT.contains(&number) { "file" } else { "configuration" });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn the_actor_is_who_is_left_where_no_user_is_named() {
        let read = document_of(r#"{"RecordType":22,"ActorUserId":"a@b","ActorYammerUserId":36787265537}"#);
        assert_eq!(read["user"], json!({"domain":"b","email":"a@b","id":"36787265537","name":"a"}));
        let read = document_of(r#"{"RecordType":22,"UserId":"c@d","ActorUserId":"a@b","ActorYammerUserId":1}"#);
        assert_eq!(read["user"]["email"], "c@d");
        assert_eq!(document_of(r#"{"RecordType":22,"TargetYammerUserId":7}"#)["user"]["target"]["id"], "7");
    }

    #[test]
    fn a_name_that_no_table_knows_says_by_its_verb_what_was_done() {
        let event = |record: &str| document_of(record)["event"].clone();
        let read = event(r#"{"RecordType":216,"Operation":"Objective created"}"#);
        assert_eq!((&read["category"], &read["type"]), (&json!(["file"]), &json!(["creation"])));
        let read = event(r#"{"RecordType":414,"Operation":"SegmentDeleted"}"#);
        assert_eq!((&read["category"], &read["type"]), (&json!(["configuration"]), &json!(["deletion"])));
        assert_eq!(event(r#"{"RecordType":22,"Operation":"MessageDeletion"}"#)["category"], json!(["web"]));
    }
}
