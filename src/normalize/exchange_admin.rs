//! Exchange administration, by cmdlet: record type 1, and the cmdlets of the data centre (10).
//!
//! Comes in: a record. Goes out: facts in a draft. What a cmdlet was told stands in `Parameters`, in any order, as a
//! list, as one text, or not at all (activity-api, section 5, items 21 to 28).

use crate::record::Field;
use crate::record::address::Address;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::{cmdlet, identity, nested, verb};
use crate::record::view::scalar;

pub static FAMILY: Family = Family { name: "Exchange administration", record_types: &[1, 10], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(
        Ecs::EventCategory,
        "Operation",
        "`iam` where GrantSendOnBehalfTo is given; `configuration` for a cmdlet that the table of operations does not know",
    ),
    made(
        Ecs::EventType,
        "Operation",
        "of such a cmdlet, by its verb: New: creation; Remove: deletion; Get, Search, Test: access; Set, Add, Enable, Disable and the like: change",
    ),
    made(
        Ecs::UserTargetId,
        "Parameters Member, User, Identity, MicrosoftOnlineServicesID; ObjectId",
        "whom it was done to: the new member, or who was given a role; of a cmdlet about mailboxes the mailbox; else Identity where it is an address",
    ),
    made(Ecs::UserTargetName, "as user.target.id", "what stands before the one `@`"),
    made(Ecs::UserTargetDomain, "as user.target.id", "what stands behind the one `@`"),
    made(Ecs::UserTargetEmail, "as user.target.id", "where it is an address"),
    made(Ecs::UserTargetRoles, "Parameters Role", "of New-ManagementRoleAssignment"),
    made(Ecs::EventStart, "StartTime", "of a cmdlet of the data centre"),
    made(Ecs::GroupName, "Parameters Identity", "of a cmdlet about members of a role group or of a distribution group"),
    made(Ecs::ServerDomain, "OriginatingServer", "the name in front of the brackets"),
    made(Ecs::ServerAddress, "OriginatingServer", "the IP address in the brackets, else the name"),
    made(Ecs::ServerIp, "OriginatingServer", "where that is an IP address"),
    made(
        Ecs::RelatedUser,
        "Parameters User, Trustee, Member, Identity, From, ForwardTo, RedirectTo, ForwardingSmtpAddress and the like",
        "every address among them, and User whatever it is",
    ),
];

/// Parameters whose value is somebody, or a list of people. Also what takes mail elsewhere.
pub const PEOPLE: [&str; 22] = [
    "AddToRecipients",
    "BlindCopyTo",
    "CopyTo",
    "ForwardAsAttachmentTo",
    "ForwardTo",
    "ForwardingAddress",
    "ForwardingSmtpAddress",
    "From",
    "GrantSendOnBehalfTo",
    "Identity",
    "Mailbox",
    "Member",
    "Members",
    "MicrosoftOnlineServicesID",
    "Owner",
    "PrimarySmtpAddress",
    "RedirectMessageTo",
    "RedirectTo",
    "RedirectToRecipients",
    "Trustee",
    "User",
    "UserPrincipalName",
];

/// Nouns of cmdlets whose Identity is a mailbox or somebody who has one.
const OF_MAILBOXES: [&str; 6] = ["Mailbox", "CASMailbox", "Recipient", "InboxRule", "MailUser", "CalendarProcessing"];

/// Cmdlets that Microsoft's own people run in the data centre (`DataCenterSecurityCmdlet`).
const DATA_CENTRE: i64 = 10;

fn describe(draft: &mut Draft<'_>) {
    let parameters = parameters(draft);
    describe_cmdlet(draft, &parameters);
    server(draft);
    if draft.record_type == Some(DATA_CENTRE) {
        draft.copy(Ecs::EventStart, Field::StartTime);
        if !draft.has(Ecs::EventCategory) {
            draft.add(Ecs::EventCategory, Value::Text("iam"));
            draft.add(Ecs::EventType, Value::Text("admin"));
        }
    }
}

/// What is known of a cmdlet and its parameters; Purview's cmdlets are like Exchange's.
pub fn describe_cmdlet<'a>(draft: &mut Draft<'a>, parameters: &[Parameter<'a>]) {
    let operation = draft.operation();
    verb::describe_cmdlet(draft);
    let noun = operation.split_once('-').map_or("", |(_, noun)| noun);
    let of_group = noun.ends_with("GroupMember");
    let (mut member, mut identity, mut account) = (None, None, None);
    for &(name, value) in parameters {
        if PEOPLE.contains(&name) {
            value.split([';', ',']).for_each(|one| identity::add_related(draft, one));
        }
        match name {
            "Member" => member = Some(value),
            "Identity" => identity = Some(value),
            "MicrosoftOnlineServicesID" => account = Some(value),
            "User" if !value.is_empty() => {
                // Everybody of the organization, and everybody else, are nobody.
                if !["Default", "Anonymous"].contains(&value) {
                    draft.add_text(Ecs::RelatedUser, value);
                }
                if noun == "ManagementRoleAssignment" {
                    member = Some(value);
                }
            }
            "Role" if noun == "ManagementRoleAssignment" => draft.add_text(Ecs::UserTargetRoles, value),
            "GrantSendOnBehalfTo" => {
                draft.add(Ecs::EventCategory, Value::Text("iam"));
                draft.add(Ecs::EventType, Value::Text("change"));
                draft.add(Ecs::EventType, Value::Text("user"));
            }
            _ => {}
        }
    }
    if of_group {
        draft.set_text(Ecs::GroupName, identity);
    }
    // `Mailbox` and what begins so, but no plan, which is a template, and no policy.
    let of_mailbox = OF_MAILBOXES.iter().any(|prefix| noun.starts_with(prefix))
        && !["Plan", "Policy", "Search"].iter().any(|end| noun.ends_with(end));
    let said = |text: &&str| !text.is_empty();
    let (member, identity, account) = (member.filter(said), identity.filter(said), account.filter(said));
    let mailbox = || account.or(identity).or_else(|| draft.said(Field::ObjectId));
    let target = match member {
        Some(member) => Some(member),
        None if of_mailbox => mailbox().map(|text| person(draft, text)),
        None => identity.filter(|text| !of_group && identity::address(draft.canonical(text)).is_some()),
    };
    if let Some(target) = target.filter(|text| !text.is_empty()) {
        identity::set(draft, identity::TARGET, target);
    }
}

/// Who is meant by the identity of a mailbox, a folder in it (`a@b:\Calendar`) or a rule of it (`a@b\rule`), which may
/// be spelt as a path of the directory (`org/Users/a`).
fn person<'a>(draft: &Draft<'a>, escaped: &'a str) -> &'a str {
    let plain = draft.plain(escaped);
    let of_folder = plain.split_once(":\\").map_or(plain, |(mailbox, _)| mailbox);
    let of_rule = of_folder.split_once('\\').map_or(of_folder, |(mailbox, _)| mailbox);
    let name = of_rule.rsplit('/').next().unwrap_or(of_rule);
    if name.len() == plain.len() { escaped } else { draft.escaped(name) }
}

/// `OriginatingServer`: `NAME (ADDR)`, in brackets or not, perhaps with a line break behind it. What is in the
/// brackets may be the version of the server.
pub fn server(draft: &mut Draft<'_>) {
    let Some(server) = originating_server(draft) else { return };
    draft.set_text(Ecs::ServerDomain, server.domain);
    match server.ip {
        Some(ip) => {
            draft.set(Ecs::ServerIp, Value::Ip(ip));
            draft.set(Ecs::ServerAddress, Value::Ip(ip));
            draft.add(Ecs::RelatedIp, Value::Ip(ip));
        }
        // What the brackets hold is the build of the server, which is no address.
        None => draft.set_text(Ecs::ServerAddress, Some(server.domain.unwrap_or(server.text))),
    }
}

/// `OriginatingServer` in its parts.
pub fn originating_server<'a>(draft: &Draft<'a>) -> Option<Address<'a>> {
    let text = draft.said(Field::OriginatingServer)?;
    // Line ends behind it come escaped; `\\n` may also be a backslash and an n.
    let text = if text.contains('\\') { draft.escaped(draft.plain(text).trim_end()) } else { text };
    Address::parse(text)
}

/// Name and value of a parameter, escaped.
pub type Parameter<'a> = (&'a str, &'a str);

/// The parameters of a cmdlet, in order: of a list of names and values, of an object, or of one text
/// (`-Identity "x" -Force`).
pub fn parameters<'a>(draft: &Draft<'a>) -> Vec<Parameter<'a>> {
    let Some(parameters) = draft.raw(Field::Parameters) else { return Vec::new() };
    match parameters.as_bytes().first() {
        Some(b'"') => {
            let text = draft.plain(&parameters[1..parameters.len() - 1]);
            cmdlet::parameters(text).map(|(name, value)| (name, draft.escaped(value))).collect()
        }
        Some(b'{') => nested::members(parameters).filter_map(|(name, value)| Some((name, scalar(value)?))).collect(),
        _ => {
            let entries = draft.list(Field::Parameters).iter().filter_map(|element| element.entry);
            entries.filter_map(|entry| Some((entry.name, scalar(entry.value?)?))).collect()
        }
    }
}

/// The value of a parameter, still escaped; of the last of its name.
pub fn parameter<'a>(parameters: &[Parameter<'a>], name: &str) -> Option<&'a str> {
    let of_name = parameters.iter().rfind(|(known, _)| *known == name);
    of_name.map(|(_, value)| *value).filter(|value| !value.is_empty())
}
