//! What happens in mailboxes: record types 2, 3, 19, 29, 50, 101.
//!
//! Comes in: a record. Goes out: facts in a draft. The actor is who logged on, which may not be the owner of the
//! mailbox; the owner is whom it was done to (activity-api, section 5, items 29 to 34).

use crate::escape::escape;
use crate::record::Field;
use crate::record::text::unescape;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{base, exchange_admin, identity, json, name_value, nested, sharepoint};

pub static FAMILY: Family =
    Family { name: "Exchange mailboxes", record_types: &[2, 3, 19, 29, 50, 101], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::EventCategory, "RecordType", "`email`, whatever the operation"),
    made(Ecs::EventType, "RecordType", "`info`, unless the operation says more"),
    made(Ecs::UserId, "UserId; else LogonUserSid", "who logged on"),
    copied(Ecs::UserFullName, Field::LogonUserDisplayName),
    made(Ecs::UserTargetId, "MailboxOwnerUPN; else MailboxOwnerSid", "the owner of the mailbox"),
    made(Ecs::UserTargetEmail, "MailboxOwnerUPN", "the owner of the mailbox"),
    made(Ecs::UserTargetName, "MailboxOwnerUPN", "of the same"),
    made(Ecs::UserTargetDomain, "MailboxOwnerUPN", "of the same"),
    copied(Ecs::ProcessName, Field::ClientProcessName),
    made(Ecs::UserAgentOriginal, "ClientInfoString", "where there is no other"),
    made(Ecs::UserAgentParts, "ClientInfoString", "of the same"),
    made(Ecs::EmailSubject, "Item.Subject; AffectedItems[].Subject", "of the one item"),
    made(Ecs::EmailMessageId, "Item.InternetMessageId; AffectedItems[].InternetMessageId", "of the one item"),
    made(
        Ecs::EmailAttachments,
        "Item.Attachments; AffectedItems[].Attachments",
        "`name (123b); name2 (4b)`: name, extension and size of each",
    ),
    made(Ecs::ServerDomain, "OriginatingServer", "the name in front of the brackets"),
    made(Ecs::ServerAddress, "OriginatingServer", "the IP address in the brackets, else the name"),
    made(Ecs::EmailFrom, "SendAsUserSmtp, SendOnBehalfOfUserSmtp", "in whose name it was sent"),
    made(Ecs::EmailSender, "UserId", "of what was sent in another's name"),
    made(
        Ecs::RelatedUser,
        "DestMailboxOwnerUPN; OperationProperties RuleActions[].Recipients",
        "every address; whom a rule sends mail to",
    ),
    made(Ecs::ServerIp, "OriginatingServer", "where that is an IP address"),
];

fn describe(draft: &mut Draft<'_>) {
    draft.add(Ecs::EventCategory, Value::Text("email"));
    if !draft.has(Ecs::EventType) {
        draft.add(Ecs::EventType, Value::Text("info"));
    }
    if !draft.has(Ecs::UserId) {
        draft.set_text(Ecs::UserId, draft.said(Field::LogonUserSid));
    }
    let owner = draft.said(Field::MailboxOwnerUPN);
    if let Some(owner) = owner {
        identity::set(draft, identity::TARGET, owner);
    }
    draft.fill_text(Ecs::UserTargetId, draft.said(Field::MailboxOwnerSid));
    identity::add_related(draft, draft.said(Field::DestMailboxOwnerUPN).unwrap_or_default());
    for field in [Field::SendAsUserSmtp, Field::SendOnBehalfOfUserSmtp] {
        if draft.copy(Ecs::EmailFrom, field) {
            let sender = draft.text(Ecs::UserEmail);
            draft.set_text(Ecs::EmailSender, sender);
        }
    }
    describe_rule(draft);
    base::fill_user_agent(draft, draft.said(Field::ClientInfoString));
    describe_items(draft);
    exchange_admin::server(draft);
}

/// Whom a rule that a client has set sends mail to (`UpdateInboxRules`).
fn describe_rule(draft: &mut Draft<'_>) {
    let properties = draft.raw(Field::OperationProperties).unwrap_or_default();
    let actions = name_value::last_value(properties, "RuleActions").and_then(|text| draft.embedded(text));
    for action in nested::elements(actions.unwrap_or_default()) {
        for recipient in nested::texts(nested::member(action, "Recipients").unwrap_or_default()) {
            identity::add_related(draft, recipient);
        }
    }
}

/// The items of the record: the attachments of each, and what it was about where it is one alone.
fn describe_items(draft: &mut Draft<'_>) {
    const MEMBERS: [&str; 3] = ["Subject", "InternetMessageId", "Attachments"];
    let mut about = [None; 2];
    let mut count = 0;
    for item in nested::elements(draft.raw(Field::AffectedItems).unwrap_or_default()) {
        let [subject, id, files] = nested::text_members(item, MEMBERS);
        attachments(draft, files.unwrap_or_default());
        about = [subject, id];
        count += 1;
    }
    if let Some(item) = draft.raw(Field::Item).filter(|item| item.starts_with('{')) {
        let [subject, id, files] = nested::text_members(item, MEMBERS);
        attachments(draft, files.unwrap_or_default());
        if count == 0 {
            about = [subject, id];
        }
    }
    if count < 2 {
        draft.set_text(Ecs::EmailSubject, about[0]);
        draft.set_text(Ecs::EmailMessageId, about[1]);
    }
}

/// `name.ext (123b); other (4b)` as a list of files. An entry without a size is a name.
fn attachments(draft: &mut Draft<'_>, escaped: &str) {
    let plain = unescape(escaped);
    for one in plain.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        let (name, size) = match one.rsplit_once(" (") {
            Some((name, size)) => match size.strip_suffix("b)").and_then(|size| size.parse::<u64>().ok()) {
                Some(size) => (name, i64::try_from(size).ok()),
                None => (one, None),
            },
            None => (one, None),
        };
        let mut out = b"{\"file\":{\"name\":\"".to_vec();
        escape(name, &mut out);
        out.extend_from_slice(b"\",");
        if let Some(extension) = sharepoint::extension(name) {
            json::text("extension", extension, &mut out);
        }
        if let Some(size) = size {
            json::number("size", size, &mut out);
        }
        json::end(b'}', &mut out);
        out.push(b'}');
        let object = draft.keep(&String::from_utf8_lossy(&out));
        draft.add(Ecs::EmailAttachments, Value::Json(object));
    }
}
