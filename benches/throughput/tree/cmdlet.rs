//! Cmdlets of Exchange and of what is administered like it, by way of a tree: what was done to whom, and where.

use auditferry::record::address::Address;
use serde_json::Value;

use super::Record;
use super::doc::{Doc, address, member, scalar, set_user, text};

/// Record types 1 and 10.
pub fn administration(record: &Record, doc: &mut Doc, record_type: i64, operation: &str) {
    describe(record, doc, operation);
    server(record, doc);
    if record_type == 10 {
        doc.set_time("event.start", text(record, "StartTime"));
        if !doc.has("event.category") {
            doc.add("event.category", "iam");
            doc.add("event.type", "admin");
        }
    }
}

/// Parameters whose value is somebody, or a list of people.
const PEOPLE: [&str; 22] = [
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

/// A cmdlet of Exchange or Purview.
pub fn describe(record: &Record, doc: &mut Doc, operation: &str) {
    if !doc.has("event.category")
        && let Some(kind) = kind_of_verb(operation)
    {
        doc.add("event.category", "configuration");
        doc.add("event.type", kind);
    }
    let noun = operation.split_once('-').map_or("", |(_, noun)| noun);
    let gives_role = noun == "ManagementRoleAssignment";
    let (mut new_member, mut identity, mut account) = (None, None, None);
    for (name, value) in parameters(record) {
        if PEOPLE.contains(&name.as_str()) {
            value.split([';', ',']).for_each(|one| doc.add_person(one));
        }
        match name.as_str() {
            "Member" => new_member = Some(value),
            "Identity" => identity = Some(value),
            "MicrosoftOnlineServicesID" => account = Some(value),
            "User" if !value.is_empty() => {
                // Everybody of the organization, and everybody else, are nobody.
                if value != "Default" && value != "Anonymous" {
                    doc.add("related.user", value.clone());
                }
                if gives_role {
                    new_member = Some(value);
                }
            }
            "Role" if gives_role => doc.add_text("user.target.roles", value),
            "GrantSendOnBehalfTo" => {
                doc.add("event.category", "iam");
                doc.add("event.type", "change");
                doc.add("event.type", "user");
            }
            _ => {}
        }
    }
    let of_group = noun.ends_with("GroupMember");
    if of_group {
        doc.set_text("group.name", identity.clone());
    }
    let target = if new_member.is_some() {
        new_member
    } else if is_of_mailbox(noun) {
        account.or(identity).or_else(|| text(record, "ObjectId")).map(|sent| owner(&sent).to_owned())
    } else {
        identity.filter(|identity| !of_group && address(identity).is_some())
    };
    if let Some(target) = target.filter(|target| !target.is_empty()) {
        set_user(doc, "user.target", &target);
    }
}

/// The parameters of a cmdlet: a list of names and values, an object, or one text (`-Identity "x" -Force`).
fn parameters(record: &Record) -> Vec<(String, String)> {
    match record.get("Parameters") {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|one| Some((member(one, "Name").or_else(|| member(one, "Key"))?, member(one, "Value")?)))
            .collect(),
        Some(Value::Object(members)) => {
            members.iter().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
        }
        Some(Value::String(text)) => parameters_of(text),
        _ => Vec::new(),
    }
}

/// Words are apart by blanks, unless they stand in quotation marks. One that begins with a minus and a letter is a
/// name; what follows it is its value, if that is no name.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut words: Vec<(String, bool)> = Vec::new();
    let (mut word, mut is_quoted) = (String::new(), false);
    for character in text.chars().chain([' ']) {
        if character == '"' {
            is_quoted = !is_quoted;
            if !is_quoted {
                words.push((std::mem::take(&mut word), true));
            }
        } else if character.is_whitespace() && !is_quoted {
            if !word.is_empty() {
                words.push((std::mem::take(&mut word), false));
            }
        } else {
            word.push(character);
        }
    }
    let mut found: Vec<(String, String)> = Vec::new();
    let mut has_value = true;
    for (word, is_quoted) in words {
        let is_name = |rest: &&str| !is_quoted && rest.starts_with(|first: char| first.is_ascii_alphabetic());
        if let Some(rest) = word.strip_prefix('-').filter(is_name) {
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            has_value = !value.is_empty();
            found.push((name.to_owned(), value.to_owned()));
        } else if let Some((_, value)) = found.last_mut().filter(|_| !has_value) {
            *value = word;
            has_value = true;
        }
    }
    found
}

/// Whether the Identity of such a cmdlet is a mailbox: none of a plan, which is a template, of a policy, of a search.
fn is_of_mailbox(noun: &str) -> bool {
    ["Mailbox", "CASMailbox", "Recipient", "InboxRule", "MailUser", "CalendarProcessing"]
        .iter()
        .any(|prefix| noun.starts_with(prefix))
        && !["Plan", "Policy", "Search"].iter().any(|end| noun.ends_with(end))
}

/// Who has the mailbox, of itself, of a folder in it (`a@b:\Calendar`), of a rule of it (`a@b\rule`), or of its path
/// in the directory (`org/Users/a`).
fn owner(identity: &str) -> &str {
    let mailbox = identity.split(":\\").next().unwrap_or_default();
    let mailbox = mailbox.split('\\').next().unwrap_or_default();
    mailbox.rsplit('/').next().unwrap_or_default()
}

fn kind_of_verb(operation: &str) -> Option<&'static str> {
    let (verb, noun) = operation.split_once('-')?;
    match verb {
        _ if noun.is_empty() => None,
        "New" => Some("creation"),
        "Remove" | "Delete" => Some("deletion"),
        "Get" | "Search" | "Test" | "Export" => Some("access"),
        // What makes is `New`.
        "Set" | "Add" | "Enable" | "Disable" | "Update" | "Install" | "Uninstall" | "Start" | "Stop" | "Move"
        | "Undo" | "Clear" | "Restore" | "Import" | "Connect" | "Disconnect" | "Release" | "Suspend" | "Resume" => {
            Some("change")
        }
        _ => None,
    }
}

/// `OriginatingServer`.
pub fn server(record: &Record, doc: &mut Doc) {
    let sent = text(record, "OriginatingServer").unwrap_or_default();
    let Some(server) = Address::parse(&sent) else { return };
    doc.set_text("server.domain", server.domain.map(str::to_owned));
    match server.ip {
        Some(ip) => {
            doc.set("server.ip", ip.to_string());
            doc.set("server.address", ip.to_string());
            doc.add("related.ip", ip.to_string());
        }
        // What the brackets hold is the build of the server, which is no address.
        None => doc.set_text("server.address", Some(server.domain.unwrap_or(server.text).to_owned())),
    }
}
