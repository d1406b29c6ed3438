//! Microsoft Purview: cmdlets (18), eDiscovery (24), sensitivity labels and protection of files and mail (43, 71, 75,
//! 82 to 84, 93 to 97), communication compliance (68), retention, insider risk and searches of the audit log.
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, items 46, 47 and 51). A cmdlet's
//! parameters come as one text; what a label was put on is a file, a page or a mail, told apart by the form of
//! `ObjectId`.

use crate::record::Field;
use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::exchange_admin::Parameter;
use super::family::{Family, Rule, copied, made};
use super::{defender, dlp, exchange_admin, identity, nested, sharepoint, verb};

pub static FAMILY: Family = Family {
    name: "Purview",
    record_types: &[
        18, 24, 31, 38, 42, 43, 48, 52, 53, 58, 61, 68, 71, 72, 75, 82, 83, 84, 87, 91, 93, 94, 95, 96, 97, 103, 106,
        109, 147, 148, 157, 285, 286, 291, 292, 295, 296, 297, 306, 308, 329, 330, 331, 332, 333, 335, 358, 361, 385,
        430,
    ],
    rules: RULES,
    describe,
};

/// Records that are about mail, whatever was done.
const MAIL: [i64; 4] = [43, 68, 75, 285];
/// Records that are about files or pages.
const FILES: [i64; 8] = [71, 82, 83, 84, 93, 94, 95, 286];

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation, RecordType",
        "where the table of operations says nothing: cmdlets by their verb (those about quarantined mail `email`); labels and protection `email` of mail, else `file`",
    ),
    made(Ecs::EventType, "Operation, RecordType", "of the same: by the verb, or info; of mail info; of files change"),
    copied(Ecs::EventStart, Field::StartTime),
    copied(Ecs::ErrorMessage, Field::ErrorMessage),
    copied(Ecs::HostName, Field::DeviceName),
    copied(Ecs::ProcessName, Field::Application),
    copied(Ecs::ProcessName, Field::ProcessName),
    made(Ecs::RuleName, "SRPolicyMatchDetails.SRPolicyName; else SRPolicyName", "the policy that the message matched"),
    made(Ecs::RuleId, "SRPolicyMatchDetails.SRPolicyId; else SRPolicyId", "of the same"),
    copied(Ecs::EventReason, Field::SensitivityLabelJustificationText),
    made(Ecs::EventReason, "SensitivityLabelEventData.JustificationText", "why the user changed the label"),
    made(Ecs::FileName, "FileName; ObjectId", "as sent; of a path what stands behind the last separator"),
    made(Ecs::FileName, "ItemName", "unless the record is about mail"),
    made(Ecs::FileExtension, "file.name", "where the record names none"),
    made(Ecs::FilePath, "FilePath; TargetFilePath; ObjectId", "where it is a path"),
    made(Ecs::UrlOriginal, "ObjectId", "where it is an address of the web"),
    made(Ecs::UrlDomain, "ObjectId", "of the same"),
    made(Ecs::HostOsPlatform, "Platform", "the name of the number, or the text"),
    made(Ecs::HostOsType, "Platform", "where it is an operating system"),
    made(Ecs::OurApplicationName, "ApplicationName, Application", "where there is no other"),
    made(Ecs::EmailMessageId, "ExchangeDetails.InternetMessageId; ObjectId", "where it stands in angle brackets"),
    made(
        Ecs::EmailLocalId,
        "ExchangeDetails.NetworkMessageId; Parameters Identity",
        "of a cmdlet about a quarantined mail, what stands before the backslash",
    ),
    made(Ecs::EmailFrom, "ExchangeDetails.From; Sender", "an address"),
    made(Ecs::EmailTo, "ExchangeDetails.Recipients; Receivers", "all"),
    made(Ecs::EmailSubject, "ExchangeDetails.Subject; ItemName", "of a record about mail"),
    made(
        Ecs::EmailDirection,
        "ExchangeDetails.Directionality",
        "Inbound: inbound; Outbound: outbound; IntraOrg: internal",
    ),
    made(Ecs::EmailDeliveryTimestamp, "ExchangeDetails.MessageTime", "where it is a time"),
    made(Ecs::EmailAttachments, "ExchangeDetails.AttachmentData[]", "name, extension and SHA-256 of each"),
    made(Ecs::ThreatIndicatorType, "ExchangeDetails.AttachmentData[]", "file, where its verdict is 1 (bad)"),
    made(Ecs::ThreatIndicatorName, "ExchangeDetails.AttachmentData[].FileName", "of the same"),
    made(Ecs::RelatedHash, "ExchangeDetails.AttachmentData[].SHA256", "all"),
    made(Ecs::GroupName, "Parameters Identity", "of a cmdlet about members of a role group"),
    made(
        Ecs::UserTargetId,
        "Parameters Member, Identity; Object1Name, Object2Name; TargetUser",
        "where it is an address: the member, else the mailbox; of eDiscovery a member of a case or a custodian; whom a case of insider risk is about",
    ),
    made(Ecs::UserTargetName, "Parameters Member, Identity; Object1Name, Object2Name; TargetUser", "of the same"),
    made(Ecs::UserTargetDomain, "Parameters Member, Identity; Object1Name, Object2Name; TargetUser", "of the same"),
    made(Ecs::UserTargetEmail, "Parameters Member, Identity; Object1Name, Object2Name; TargetUser", "of the same"),
    made(
        Ecs::RelatedUser,
        "Parameters; Object1Name, Object2Name; ProtectionOwner, SensitivityLabelEventData owners",
        "every address",
    ),
];

fn describe(draft: &mut Draft<'_>) {
    let is_mail = draft.record_type.is_some_and(|number| MAIL.contains(&number));
    describe_meaning(draft, is_mail);
    let parameters = exchange_admin::parameters(draft);
    exchange_admin::describe_cmdlet(draft, &parameters);
    describe_parameters(draft, &parameters);
    describe_objects(draft);
    if let Some(target) = draft.said(Field::TargetUser) {
        identity::set(draft, identity::TARGET, target);
    }
    let policy = draft.raw(Field::SRPolicyMatchDetails).unwrap_or_default();
    let [name, id] = nested::text_members(policy, ["SRPolicyName", "SRPolicyId"]);
    draft.set_text(Ecs::RuleName, name.or_else(|| draft.said(Field::SRPolicyName)));
    draft.set_text(Ecs::RuleId, id.or_else(|| draft.said(Field::SRPolicyId)));
    describe_label(draft, is_mail);
    describe_item(draft, is_mail);
    if let Some(mail) = draft.raw(Field::ExchangeDetails) {
        describe_mail(draft, mail);
    }
    describe_device(draft);
    verb::describe(draft, "configuration");
}

fn describe_meaning(draft: &mut Draft<'_>, is_mail: bool) {
    let is_file = draft.record_type.is_some_and(|number| FILES.contains(&number));
    let meaning = match draft.operation() {
        operation if operation.ends_with("-QuarantineMessage") => ("email", "info"),
        _ if is_mail => ("email", "info"),
        _ if is_file => ("file", "change"),
        _ => return,
    };
    if !draft.has(Ecs::EventCategory) {
        draft.add(Ecs::EventCategory, Value::Text(meaning.0));
        draft.add(Ecs::EventType, Value::Text(meaning.1));
    }
}

/// A mail in quarantine is named by its id, a backslash, and the recipient's.
fn describe_parameters<'a>(draft: &mut Draft<'a>, parameters: &[Parameter<'a>]) {
    if draft.operation().contains("QuarantineMessage")
        && let Some(identity) = exchange_admin::parameter(parameters, "Identity")
    {
        let id = draft.plain(identity).split('\\').next().unwrap_or_default();
        draft.fill_text(Ecs::EmailLocalId, Some(draft.escaped(id)));
    }
}

/// What an operation of eDiscovery was about.
fn describe_objects(draft: &mut Draft<'_>) {
    for (name, kind) in [(Field::Object2Name, Field::Object2Type), (Field::Object1Name, Field::Object1Type)] {
        let Some(name) = draft.said(name).filter(|name| identity::address(name).is_some()) else { continue };
        match draft.said(kind) {
            Some("CaseMember" | "Custodian" | "User" | "Member") => identity::set(draft, identity::TARGET, name),
            _ => identity::add_related(draft, name),
        }
    }
}

fn describe_label(draft: &mut Draft<'_>, is_mail: bool) {
    for (name, value) in nested::members(draft.raw(Field::SensitivityLabelEventData).unwrap_or_default()) {
        match name {
            "JustificationText" => draft.set_text(Ecs::EventReason, scalar(value)),
            "SensitivityLabelOwnerEmail" | "OldSensitivityLabelOwnerEmail" => {
                identity::add_related(draft, scalar(value).unwrap_or_default());
            }
            _ => {}
        }
    }
    identity::add_related(draft, draft.said(Field::ProtectionOwner).unwrap_or_default());
    if let Some(sender) = draft.said(Field::Sender).filter(|sender| identity::address(sender).is_some()) {
        draft.add_text(Ecs::EmailFrom, sender);
    }
    for receiver in nested::texts(draft.raw(Field::Receivers).unwrap_or_default()) {
        draft.add_text(Ecs::EmailTo, receiver);
    }
    let subject = draft.said(Field::ItemName).filter(|_| is_mail);
    draft.fill_text(Ecs::EmailSubject, subject);
}

/// The file, the page or the mail that the record is about.
fn describe_item(draft: &mut Draft<'_>, is_mail: bool) {
    let object = draft.said(Field::ObjectId).unwrap_or_default();
    if object.starts_with('<') && object.ends_with('>') && object.contains('@') {
        draft.fill_text(Ecs::EmailMessageId, Some(object));
    }
    sharepoint::set_url(draft, object);
    let path = [Field::FilePath, Field::TargetFilePath, Field::ObjectId]
        .into_iter()
        .filter_map(|field| draft.said(field))
        .find(|text| is_path(draft.plain(text)));
    draft.set_text(Ecs::FilePath, path);
    let name = path.and_then(|path| draft.plain(path).rsplit(['\\', '/']).next());
    let of_path = name.map(|name| draft.escaped(name));
    let item = draft.said(Field::ItemName).filter(|_| !is_mail);
    draft.set_text(Ecs::FileName, draft.said(Field::FileName).or(of_path).or(item));
}

/// `C:\…`, `\\server\…` or `/…`.
fn is_path(text: &str) -> bool {
    let behind_drive = text.strip_prefix(|drive: char| drive.is_ascii_alphabetic());
    text.starts_with(['/', '\\']) || behind_drive.is_some_and(|rest| rest.starts_with(":\\") || rest.starts_with(":/"))
}

fn describe_mail<'a>(draft: &mut Draft<'a>, mail: &'a str) {
    for (name, value) in nested::members(mail) {
        match name {
            "InternetMessageId" => draft.set_raw(Ecs::EmailMessageId, value),
            "NetworkMessageId" => draft.set_raw(Ecs::EmailLocalId, value),
            "Subject" => draft.set_raw(Ecs::EmailSubject, value),
            "MessageTime" => draft.set_raw(Ecs::EmailDeliveryTimestamp, value),
            "Directionality" => {
                draft.set_text(Ecs::EmailDirection, scalar(value).and_then(defender::direction));
            }
            "From" | "Recipients" => {
                let to = if name == "From" { Ecs::EmailFrom } else { Ecs::EmailTo };
                nested::texts(value).for_each(|address| draft.add_text(to, address));
            }
            "AttachmentData" => defender::attachments(draft, value),
            _ => {}
        }
    }
}

fn describe_device(draft: &mut Draft<'_>) {
    let name = draft.said(Field::ApplicationName).or_else(|| draft.said(Field::Application));
    draft.fill_text(Ecs::OurApplicationName, name);
    dlp::platform(draft, draft.said(Field::Platform));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn parameters_that_are_one_text_name_the_group_the_member_and_the_mail() {
        let read = document_of(
            r#"{"RecordType":87,"Operation":"Add-RoleGroupMember","Parameters":"-Identity \"eDiscovery \u00e4\" -Member smtp:x -Member \"bo@b\""}"#,
        );
        assert_eq!(read["group"]["name"], "eDiscovery ä");
        assert_eq!((&read["user"]["target"]["id"], &read["related"]["user"]), (&json!("bo@b"), &json!(["bo@b", "bo"])));
        let read = document_of(
            r#"{"RecordType":18,"Operation":"Get-QuarantineMessage","Parameters":"-Identity \"1-2\\\\3\""}"#,
        );
        assert_eq!((&read["email"]["local_id"], &read["event"]["category"]), (&json!("1-2"), &json!(["email"])));
        let read = document_of(r#"{"RecordType":18,"Operation":"Set-Label","Parameters":"-Identity \"x\\\\y\""}"#);
        assert_eq!((read.get("email"), read.get("user")), (None, None));
    }

    #[test]
    fn the_object_of_a_label_is_a_file_a_page_or_a_mail() {
        let read = document_of(
            r#"{"RecordType":83,"ObjectId":"C:\\d\\Offer \u00e4.docx","Platform":1,"DeviceName":"pc","Application":"Word","ProcessName":"WINWORD.EXE",
                "SensitivityLabelEventData":{"JustificationText":"asked","SensitivityLabelOwnerEmail":"o@b"}}"#,
        );
        assert_eq!(read["file"], json!({"extension":"docx","name":"Offer ä.docx","path":"C:\\d\\Offer ä.docx"}));
        assert_eq!(read["host"], json!({"name":"pc","os":{"platform":"Windows","type":"windows"}}));
        assert_eq!((&read["process"]["name"], &read["event"]["reason"]), (&json!("WINWORD.EXE"), &json!("asked")));
        assert_eq!(read["auditferry"]["application"]["name"], "Word");
        assert_eq!(read["related"]["user"], json!(["o@b"]));
        let read = document_of(
            r#"{"RecordType":43,"ObjectId":"<m@x>","Sender":"a@b","Receivers":["c@d","e@f"],"ItemName":"Offer","Platform":"Mac"}"#,
        );
        assert_eq!(
            read["email"],
            json!({"from":{"address":["a@b"]},"message_id":"<m@x>","subject":"Offer","to":{"address":["c@d","e@f"]}})
        );
        assert_eq!((read.get("file"), &read["host"]["os"]["type"]), (None, &json!("macos")));
        let read = document_of(r#"{"RecordType":286,"ObjectId":"https://x.example/a.docx","ItemName":"\u00e4"}"#);
        assert_eq!((&read["url"]["domain"], &read["file"]), (&json!("x.example"), &json!({"name":"ä"})));
    }

    #[test]
    fn members_of_a_case_are_targets_and_its_searches_are_not() {
        let object =
            |kind: &str| document_of(&json!({"RecordType":24,"Object1Name":"bo@b","Object1Type":kind}).to_string());
        assert_eq!(object("CaseMember")["user"]["target"]["email"], "bo@b");
        let search = object("Search");
        assert_eq!((search.get("user"), &search["related"]["user"]), (None, &json!(["bo@b"])));
        assert_eq!(document_of(r#"{"RecordType":306,"TargetUser":"jo@b"}"#)["user"]["target"]["name"], "jo");
    }
}
