//! Alerts of Microsoft Defender and Purview: record types 40, 78, 98, 113 and 307.
//!
//! Comes in: a record. Goes out: facts in a draft. What the alert is about stands in `Data`, JSON inside of a text,
//! whose short names are Microsoft's own (activity-api, section 5, item 41; ecs-mapping, sections 5 and 6).

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made, moved};
use super::{identity, nested};

pub static FAMILY: Family = Family { name: "Alerts", record_types: &[40, 78, 98, 113, 307], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::EventKind, "RecordType", "`alert`"),
    made(Ecs::EventCategory, "Category", "AccessGovernance: iam; MailFlow: email; else intrusion_detection"),
    made(Ecs::EventType, "Category", "`info`"),
    copied(Ecs::RuleName, Field::PolicyName),
    moved(Ecs::RuleName, Field::Name),
    moved(Ecs::RuleId, Field::PolicyId),
    moved(Ecs::RuleCategory, Field::Category),
    made(Ecs::RuleReference, "AlertLinks[].AlertLinkHref", "all that say something"),
    made(Ecs::Message, "Name", "what the alert is called"),
    made(
        Ecs::UserTargetId,
        "AlertEntityId, TargetUser, Data f3u, rcpt, user",
        "the entity where EntityType is User and it is not who did it; else whom an alert of insider risk is about; else the user that Data names",
    ),
    made(Ecs::UserTargetName, "as user.target.id", "of the same, where it is an address"),
    made(Ecs::UserTargetDomain, "as user.target.id", "of the same"),
    made(Ecs::UserTargetEmail, "as user.target.id", "of the same"),
    made(Ecs::EmailSender, "Data.tsd", "who sent the mail that the alert is about"),
    made(Ecs::EmailTo, "Data.trc", "who was sent it"),
    made(Ecs::EmailSubject, "Data.ms", "its subject"),
    made(Ecs::EmailMessageId, "Data.imsgid", "its message id"),
    made(Ecs::EmailLocalId, "Data.aii", "its id at Microsoft"),
    made(Ecs::RelatedUser, "Data f3u, suid, user, rcpt; AlertEntityId", "every address"),
    made(Ecs::RelatedIp, "Data sip, ips[]", "every address"),
    copied(Ecs::HostName, Field::DeviceName),
];

fn describe(draft: &mut Draft<'_>) {
    draft.kind = "alert";
    // The operation only says that there is an alert.
    draft.clear(Ecs::EventCategory);
    draft.clear(Ecs::EventType);
    let category = match draft.said(Field::Category).unwrap_or_default() {
        "AccessGovernance" => "iam",
        "MailFlow" => "email",
        _ => "intrusion_detection",
    };
    draft.add(Ecs::EventCategory, Value::Text(category));
    draft.add(Ecs::EventType, Value::Text("info"));
    draft.set_text(Ecs::Message, draft.said(Field::Name));
    links(draft);
    let data = draft.said(Field::Data).and_then(|data| draft.embedded(data)).unwrap_or_default();
    if let Some(entity) = draft.said(Field::AlertEntityId) {
        // Of what somebody did (`suid`) the entity is who did it.
        let is_actor = nested::text_member(data, "suid").is_some_and(|actor| actor.eq_ignore_ascii_case(entity));
        if draft.said(Field::EntityType) == Some("User") && !is_actor {
            identity::set(draft, identity::TARGET, entity);
        }
        identity::add_related(draft, entity);
    }
    if let Some(target) = draft.said(Field::TargetUser).filter(|_| !draft.has(Ecs::UserTargetId)) {
        identity::set(draft, identity::TARGET, target);
    }
    describe_data(draft, data);
}

fn links(draft: &mut Draft<'_>) {
    let links = draft.raw(Field::AlertLinks).unwrap_or_default();
    let mut only_links = links.starts_with('[');
    for link in nested::elements(links) {
        only_links &= nested::members(link).count() == 1;
        match nested::text_member(link, "AlertLinkHref") {
            Some(href) => draft.add_text(Ecs::RuleReference, href),
            None => only_links = false,
        }
    }
    if only_links {
        draft.moved.insert(Field::AlertLinks);
    }
}

/// The short names of `Data`; a name given twice has its last value.
fn describe_data<'a>(draft: &mut Draft<'a>, data: &'a str) {
    for ip in nested::texts(nested::member(data, "ips").unwrap_or_default()) {
        if let Some(ip) = Address::parse(ip).and_then(|address| address.ip) {
            draft.add(Ecs::RelatedIp, Value::Ip(ip));
        }
    }
    for (name, value) in nested::members(data) {
        let Some(text) = scalar(value).filter(|text| !text.is_empty()) else { continue };
        let field = match name {
            "tsd" => Ecs::EmailSender,
            "trc" => Ecs::EmailTo,
            "ms" => Ecs::EmailSubject,
            "imsgid" => Ecs::EmailMessageId,
            "aii" => Ecs::EmailLocalId,
            "suid" => {
                identity::add_related(draft, text);
                continue;
            }
            "f3u" | "rcpt" | "user" => {
                if !draft.has(Ecs::UserTargetId) && identity::address(draft.canonical(text)).is_some() {
                    identity::set(draft, identity::TARGET, text);
                }
                identity::add_related(draft, text);
                continue;
            }
            "sip" => {
                if let Some(ip) = Address::parse(text).and_then(|address| address.ip) {
                    draft.add(Ecs::RelatedIp, Value::Ip(ip));
                }
                continue;
            }
            _ => continue,
        };
        draft.set_text(field, Some(text));
    }
}
