//! Power BI and Fabric (20, 357), Dynamics (21, 278), Power Automate (30), Power Apps (45, 46, 79) and the
//! administration of Power Platform (186, 187, 256).
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, items 49 and 51). Dynamics sends one
//! operation for everything; what was done stands in `Message`.

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::scalar;

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::{base, identity, name_value, nested, sharepoint, verb};

pub static FAMILY: Family = Family {
    name: "Power BI and Power Platform",
    record_types: &[20, 21, 30, 45, 46, 79, 186, 187, 256, 278, 357],
    rules: RULES,
    describe,
};

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation, Message, RecordType",
        "where the table of operations says nothing: of Dynamics by Message: UserSignIn authentication, what changes or reads rows `database`; else, where the name has a verb, `file` for Power BI and Fabric, `configuration` for the others",
    ),
    made(Ecs::EventType, "Operation, Message", "of the same: of Dynamics start, change or access; else by the verb"),
    made(Ecs::EventOutcome, "IsSuccess", "where there is no ResultStatus: true success, false failure"),
    made(Ecs::FileName, "ItemName; ObjectDisplayName", "of Power BI and Fabric, where the category is `file`"),
    made(Ecs::UrlOriginal, "ItemUrl, FlowDetailsUrl; else InstanceUrl", "where it is an address of the web"),
    made(Ecs::UrlDomain, "ItemUrl, FlowDetailsUrl; else InstanceUrl", "of the same"),
    made(Ecs::UserId, "UserUPN, UserUpn", "where there is no UserId"),
    made(Ecs::UserName, "UserUPN, UserUpn", "where UserId is no address"),
    made(Ecs::UserDomain, "UserUPN, UserUpn", "of the same"),
    made(Ecs::UserEmail, "UserUPN, UserUpn", "of the same"),
    made(
        Ecs::UserTargetId,
        "RecipientUPN; SharingInformation[].RecipientEmail; MembershipInformation[].MemberEmail",
        "with whom it was shared, where that is one",
    ),
    made(Ecs::UserTargetName, "RecipientUPN; SharingInformation[]; MembershipInformation[]", "of the same"),
    made(Ecs::UserTargetDomain, "RecipientUPN; SharingInformation[]; MembershipInformation[]", "of the same"),
    made(Ecs::UserTargetEmail, "RecipientUPN; SharingInformation[]; MembershipInformation[]", "of the same"),
    made(Ecs::UserTargetFullName, "SharingInformation[].RecipientName", "of the same"),
    made(Ecs::RelatedUser, "SharingInformation[].RecipientEmail, MembershipInformation[].MemberEmail", "every address"),
    made(Ecs::SourceAddress, "PropertyCollection enduser.ip_address", "where the record has no other address"),
    made(Ecs::SourceIp, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::SourcePort, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::SourcePlace, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::ClientAddress, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::ClientIp, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::ClientPort, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::NetworkType, "PropertyCollection enduser.ip_address", "of the same"),
    made(Ecs::RelatedIp, "PropertyCollection enduser.ip_address", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    let is_power_bi = matches!(draft.record_type, Some(20 | 357));
    match draft.record_type {
        Some(21 | 278) => describe_message(draft),
        _ if is_power_bi => verb::describe(draft, "file"),
        _ => verb::describe(draft, "configuration"),
    }
    draft.outcome = draft.outcome.or(match draft.said(Field::IsSuccess) {
        Some("true") => Some(Outcome::Success),
        Some("false") => Some(Outcome::Failure),
        _ => None,
    });
    if is_power_bi && draft.all(Ecs::EventCategory).any(|category| category == Value::Text("file")) {
        let name = draft.said(Field::ItemName).or_else(|| draft.said(Field::ObjectDisplayName));
        draft.fill_text(Ecs::FileName, name);
    }
    for field in [Field::InstanceUrl, Field::FlowDetailsUrl, Field::ItemUrl] {
        sharepoint::set_url(draft, draft.said(field).unwrap_or_default());
    }
    if let Some(user) = draft.said(Field::UserUPN).or_else(|| draft.said(Field::UserUpn)) {
        draft.fill_text(Ecs::UserId, Some(user));
        if !draft.has(Ecs::UserEmail) {
            identity::set_address(draft, identity::USER, user);
        }
    }
    describe_targets(draft);
    describe_source(draft);
}

/// What Dynamics did: the name of its message, or the operation where there is none.
fn describe_message(draft: &mut Draft<'_>) {
    if draft.has(Ecs::EventCategory) {
        return;
    }
    let message = draft.raw(Field::Message).and_then(scalar).filter(|text| !text.is_empty());
    let meaning = match message.unwrap_or(draft.operation()) {
        "UserSignIn" => ("authentication", "start"),
        "Create" | "Update" | "Delete" | "Upsert" | "Assign" | "Merge" | "SetState" | "Associate" | "Disassociate"
        | "GrantAccess" | "ModifyAccess" | "RevokeAccess" | "BulkDelete" => ("database", "change"),
        "Retrieve" | "RetrieveMultiple" | "ExportToExcel" | "ReportExport" => ("database", "access"),
        _ => return,
    };
    draft.add(Ecs::EventCategory, Value::Text(meaning.0));
    draft.add(Ecs::EventType, Value::Text(meaning.1));
}

/// With whom something was shared, or who was let in.
fn describe_targets(draft: &mut Draft<'_>) {
    let mut one = draft.said(Field::RecipientUPN).map(|address| (address, None));
    let mut count = usize::from(one.is_some());
    for (field, name) in [(Field::SharingInformation, "RecipientEmail"), (Field::MembershipInformation, "MemberEmail")]
    {
        for element in nested::elements(draft.raw(field).unwrap_or_default()) {
            let Some(address) = nested::text_member(element, name) else { continue };
            count += 1;
            one = Some((address, nested::text_member(element, "RecipientName")));
            if identity::address(address).is_some() {
                draft.add_text(Ecs::RelatedUser, address);
            }
        }
    }
    if let (Some((address, name)), 1) = (one, count) {
        identity::set(draft, identity::TARGET, address);
        draft.set_text(Ecs::UserTargetFullName, name);
    }
}

fn describe_source(draft: &mut Draft<'_>) {
    let properties = draft.raw(Field::PropertyCollection).unwrap_or_default();
    let from = name_value::last_value(properties, "enduser.ip_address").filter(|text| !text.contains('\\'));
    if !draft.has(Ecs::SourceAddress)
        && let Some(from) = from.and_then(Address::parse).filter(|from| from.ip.is_some())
    {
        base::set_source(draft, from);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn dynamics_says_what_it_did_in_its_message() {
        let event = |record: &str| document_of(record)["event"].clone();
        let read = event(r#"{"RecordType":21,"Operation":"CrmDefaultActivity","Message":"UserSignIn"}"#);
        assert_eq!((&read["category"], &read["type"]), (&json!(["authentication"]), &json!(["start"])));
        let read = event(r#"{"RecordType":21,"Operation":"Create"}"#);
        assert_eq!((&read["category"], &read["type"]), (&json!(["database"]), &json!(["change"])));
        assert_eq!(event(r#"{"RecordType":21,"Operation":"Odd","Message":{"Kind":"Update"}}"#).get("category"), None);
    }

    #[test]
    fn the_target_is_the_one_with_whom_it_was_shared() {
        let read = document_of(
            r#"{"RecordType":20,"IsSuccess":false,"SharingInformation":[{"RecipientEmail":"a@b","RecipientName":"A"},{"x":1}]}"#,
        );
        assert_eq!(read["user"]["target"], json!({"domain":"b","email":"a@b","full_name":"A","id":"a@b","name":"a"}));
        assert_eq!(read["event"]["outcome"], "failure");
        let read = document_of(
            r#"{"RecordType":20,"IsSuccess":false,"ResultStatus":"Succeeded","MembershipInformation":[{"MemberEmail":"a@b"},{"MemberEmail":"c@d"}]}"#,
        );
        assert_eq!((read.get("user"), &read["related"]["user"]), (None, &json!(["a@b", "c@d"])));
        assert_eq!(read["event"]["outcome"], "success");
    }

    #[test]
    fn an_address_among_the_properties_counts_where_there_is_no_other() {
        let properties = r#""PropertyCollection":[{"Name":"enduser.ip_address","Value":"198.51.100.17"}]"#;
        let source = |record: String| document_of(&record)["source"].clone();
        assert_eq!(source(format!(r#"{{"RecordType":256,{properties}}}"#))["ip"], "198.51.100.17");
        assert_eq!(source(format!(r#"{{"RecordType":256,"ClientIP":"192.0.2.1",{properties}}}"#))["ip"], "192.0.2.1");
    }

    #[test]
    fn a_report_has_a_name_and_a_setting_has_none() {
        let file = |operation: &str| {
            document_of(&json!({"RecordType":20,"Operation":operation,"ItemName":"Sales"}).to_string())["file"].clone()
        };
        assert_eq!((file("ViewReport"), file("UpdatedAdminFeatureSwitch")), (json!({"name":"Sales"}), json!(null)));
        let read =
            document_of(r#"{"RecordType":21,"InstanceUrl":"https://i.example/","ItemUrl":"https://j.example/"}"#);
        assert_eq!(read["url"]["domain"], "j.example");
    }
}
