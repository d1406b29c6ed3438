//! The facts that every record shares.
//!
//! Comes in: a record and where it came from. Goes out: facts in a [`Draft`]. Rules: ecs-mapping, sections 1, 2 and
//! 6; where we leave Elastic's habits (section 9), `profile` has the difference and its reason.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::enrich::application;
use crate::record::address::{self, Address};
use crate::record::{Field, types};

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::family::{Rule, apply_base, copied, made, moved};
use super::{Context, identity, name_value, nested, operations};

static USER_AGENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"UserAgent\""));
static DETAILS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("User-Agent"));

/// What holds for every record.
pub const RULES: &[Rule] = &[
    made(
        Ecs::Timestamp,
        "CreationTime",
        "to the millisecond; no zone means UTC. Without one: when the record reached us, which the verb `normalize` cannot know and leaves out",
    ),
    made(Ecs::EcsVersion, "the profile", "8.17.0, or 8.11.0 in profile `elastic`"),
    made(Ecs::DataStreamType, "", "`logs`"),
    made(Ecs::DataStreamDataset, "", "`o365.audit`"),
    made(Ecs::DataStreamNamespace, "", "`default`"),
    made(Ecs::EventModule, "", "`o365`"),
    made(Ecs::EventDataset, "", "`o365.audit`"),
    made(
        Ecs::EventKind,
        "RecordType",
        "`event`, unless the family says `alert`; `pipeline_error` for what is no record",
    ),
    moved(Ecs::EventId, Field::Id),
    moved(Ecs::EventAction, Field::Operation),
    moved(Ecs::EventProvider, Field::Workload),
    made(Ecs::EventCode, "RecordType", "its name in Microsoft's table; none for a number that is not in it"),
    made(Ecs::EventCategory, "Operation, RecordType", "by the table of operations, else by the family"),
    made(Ecs::EventType, "Operation, RecordType", "by the table of operations, else by the family"),
    made(
        Ecs::EventOutcome,
        "ResultStatus, Operation",
        "UserLoginFailed and what says in its name that it was blocked or failed: failure; succeeded, success, partiallysucceeded, true: success; failed, failure, false: failure; else none",
    ),
    made(Ecs::EventSeverity, "Severity", "informational 1, low 2, medium 3, high 4, whatever the case; else none"),
    made(Ecs::EventOriginal, "the record", "whole, as a text, where `normalize.original` asks for it"),
    made(Ecs::UserId, "UserId", "as sent"),
    made(Ecs::UserName, "UserId", "what stands before the one `@`; as user.email"),
    made(Ecs::UserDomain, "UserId", "what stands behind the one `@`"),
    made(
        Ecs::UserEmail,
        "UserId",
        "where it has exactly one `@`; of a guest by a link what stands behind `urn:spo:guest#`; none of `app@sharepoint`",
    ),
    made(Ecs::UserTargetId, "TargetUserId, TargetUser, RecipientUPN", "where it is an address"),
    made(Ecs::UserTargetName, "TargetUserId, TargetUser, RecipientUPN", "of the same"),
    made(Ecs::UserTargetDomain, "TargetUserId, TargetUser, RecipientUPN", "of the same"),
    made(Ecs::UserTargetEmail, "TargetUserId, TargetUser, RecipientUPN", "of the same"),
    made(Ecs::OurUserType, "UserType", "the name of the number"),
    made(
        Ecs::UserAgentOriginal,
        "UserAgent; ExtendedProperties.UserAgent; User-Agent of additionalDetails",
        "the first that says something",
    ),
    made(
        Ecs::UserAgentParts,
        "UserAgent; ExtendedProperties.UserAgent; User-Agent of additionalDetails",
        "name, version, os and device, where `enrich` is asked to read it",
    ),
    made(
        Ecs::SourceAddress,
        "ClientIPAddress, ClientIP, ActorIpAddress",
        "without port and brackets; the name where it is none",
    ),
    made(Ecs::SourceIp, "ClientIPAddress, ClientIP, ActorIpAddress", "the first that is a valid address"),
    made(
        Ecs::SourcePort,
        "ClientIPAddress, ClientIP, ActorIpAddress",
        "of whichever names the same address with a port",
    ),
    made(Ecs::SourceDomain, "ClientIPAddress, ClientIP, ActorIpAddress", "a host name, where it is one"),
    made(Ecs::SourcePlace, "source.ip", "`source.geo` and `source.as`, of the databases that are configured"),
    made(Ecs::ClientAddress, "source.address", "the same: who asks is the client"),
    made(Ecs::ClientIp, "source.ip", "the same"),
    made(Ecs::ClientPort, "source.port", "the same"),
    made(Ecs::ClientDomain, "source.domain", "the same"),
    made(Ecs::NetworkType, "source.ip", "ipv4 or ipv6"),
    made(Ecs::OrganizationId, "OrganizationId; else the tenant of the feed", "in lower case"),
    made(
        Ecs::OrganizationName,
        "the configured name of the tenant; else OrganizationName",
        "the configured name belongs to its tenant alone",
    ),
    made(Ecs::CloudAccountId, "organization.id", "the tenant is the account"),
    made(Ecs::CloudAccountName, "organization.name", "the same"),
    made(Ecs::CloudServiceName, "Workload", "the same as event.provider"),
    made(Ecs::DeviceId, "AppAccessContext.DeviceId; DeviceId", "the first that says something"),
    made(
        Ecs::OurApplicationId,
        "AppId, ApplicationId, ClientAppId, AADAppId, AppAccessContext.ClientAppId",
        "the first that says something",
    ),
    made(
        Ecs::OurApplicationName,
        "ApplicationDisplayName, AppAccessContext.ClientAppName",
        "else the name of a well-known application of Microsoft's by its id",
    ),
    moved(Ecs::EmailMessageId, Field::InternetMessageId),
    moved(Ecs::EmailLocalId, Field::NetworkMessageId),
    moved(Ecs::EmailSender, Field::P1Sender),
    moved(Ecs::EmailFrom, Field::P2Sender),
    made(Ecs::EmailTo, "Recipients", "a list, or a text that holds one in brackets"),
    moved(Ecs::EmailSubject, Field::Subject),
    copied(Ecs::FileExtension, Field::FileExtension),
    made(Ecs::FileName, "file.path", "what stands behind its last separator, where the record has no other"),
    made(Ecs::FileExtension, "file.name", "what stands behind its last dot, where the record has no other"),
    copied(Ecs::FilePath, Field::TargetFilePath),
    copied(Ecs::FilePath, Field::FilePath),
    copied(Ecs::UrlDomain, Field::OriginatingDomain),
    made(Ecs::FileSize, "FileSizeBytes, FileSize", "a whole number, however it is spelt"),
    copied(Ecs::FileHashSha1, Field::Sha1),
    copied(Ecs::FileHashSha256, Field::Sha256),
    made(Ecs::RelatedIp, "every address of the record, SenderIp", "none twice"),
    made(
        Ecs::RelatedUser,
        "every user of the document, by id, name and address, but accounts of the service itself; every address among the people of a mail (`email.*`)",
        "none twice",
    ),
    made(Ecs::RelatedHosts, "source.domain, server.domain, destination.domain, url.domain, host.name", "none twice"),
    made(Ecs::RelatedHash, "file.hash.*", "none twice"),
    made(Ecs::OurContentType, "the feed", "the content type that the record was listed under"),
    made(
        Ecs::OurKey,
        "tenant, Id, CreationTime, RecordType, Operation",
        "128 bits, the same for every copy of the record",
    ),
];

/// Finds what every record shares.
pub fn describe<'a>(context: &Context<'a>, draft: &mut Draft<'a>) {
    describe_event(draft);
    apply_base(draft);
    describe_user(draft);
    describe_source(draft);
    describe_organization(context, draft);
    describe_application(draft);
    describe_mail_and_file(draft);
}

fn describe_event(draft: &mut Draft<'_>) {
    if let Some(time) = draft.said(Field::CreationTime) {
        draft.time_ms = draft.view().creation_time_ms();
        // Moved only where `@timestamp` says all of it: zone-less or `Z`, to the millisecond.
        let exact = time.strip_suffix('Z').unwrap_or(time);
        if draft.time_ms.is_some() && matches!(exact.len(), 19 | 23) && exact.as_bytes()[10] == b'T' {
            draft.moved.insert(Field::CreationTime);
        }
    }
    draft.set_text(Ecs::EventCode, draft.record_type.and_then(types::name));
    // Unescaped, because an en dash may come as `\u2013`.
    if let Some(operation) = operations::find(draft.operation()) {
        for category in operation.categories {
            draft.add(Ecs::EventCategory, Value::Text(category.as_str()));
        }
        for kind in operation.types {
            draft.add(Ecs::EventType, Value::Text(kind.as_str()));
        }
    }
    // A failed sign-in is sent with `ResultStatus: Success` as well (activity-api, section 5, item 1).
    draft.outcome = match draft.operation() {
        "UserLoginFailed"
        | "SharingInvitationBlocked"
        | "UnmanagedSyncClientBlocked"
        | "FileAccessFailure"
        | "MessageAccessFailure"
        | "CommunityAccessFailure" => Some(Outcome::Failure),
        _ => draft.said(Field::ResultStatus).and_then(outcome_of_status),
    };
    if let Some(severity) = draft.said(Field::Severity).and_then(severity) {
        draft.set(Ecs::EventSeverity, Value::Number(severity));
    }
}

/// Only what the status says; a family knows better where the record does.
pub fn outcome_of_status(status: &str) -> Option<Outcome> {
    let is_one_of = |names: &[&str]| names.iter().any(|name| status.eq_ignore_ascii_case(name));
    if is_one_of(&["succeeded", "success", "partiallysucceeded", "true"]) {
        Some(Outcome::Success)
    } else if is_one_of(&["failed", "failure", "false"]) {
        Some(Outcome::Failure)
    } else {
        None
    }
}

/// The number of a severity, as Elastic's rules compare it.
pub fn severity(text: &str) -> Option<i64> {
    const NAMES: [&str; 4] = ["informational", "low", "medium", "high"];
    let place = NAMES.iter().position(|name| text.eq_ignore_ascii_case(name))?;
    Some(place as i64 + 1)
}

fn describe_user(draft: &mut Draft<'_>) {
    if let Some(id) = draft.said(Field::UserId) {
        let id = draft.canonical(id);
        draft.set(Ecs::UserId, Value::Text(id));
        // A guest who came by a link has the address behind the number sign; SharePoint's own account is nobody.
        match id.strip_prefix("urn:spo:guest#") {
            Some(guest) => identity::set_address(draft, identity::USER, guest),
            None if id.eq_ignore_ascii_case("app@sharepoint") => {}
            None => identity::set_address(draft, identity::USER, id),
        }
    }
    for field in [Field::TargetUserId, Field::TargetUser, Field::RecipientUPN] {
        if let Some(target) = draft.said(field).filter(|text| identity::address(draft.canonical(text)).is_some()) {
            identity::set(draft, identity::TARGET, target);
        }
    }
    draft.set_text(Ecs::OurUserType, draft.said(Field::UserType).and_then(types::user_type));
    if !draft.take(Ecs::UserAgentOriginal, Field::UserAgent) {
        let agent = draft.raw(Field::ExtendedProperties).and_then(|properties| user_agent(draft, properties));
        draft.set_text(Ecs::UserAgentOriginal, agent);
    }
    if let Some(agent) = draft.get(Ecs::UserAgentOriginal) {
        draft.set(Ecs::UserAgentParts, agent);
    }
}

/// Says with what it was done, where nothing else has.
pub fn fill_user_agent<'a>(draft: &mut Draft<'a>, agent: Option<&'a str>) {
    if let Some(agent) = agent.filter(|agent| !agent.is_empty() && !draft.has(Ecs::UserAgentOriginal)) {
        draft.set(Ecs::UserAgentOriginal, Value::Text(agent));
        draft.set(Ecs::UserAgentParts, Value::Text(agent));
    }
}

/// Most records of Entra have the list, few have the entry: look before reading.
fn user_agent<'a>(draft: &Draft<'a>, properties: &'a str) -> Option<&'a str> {
    if USER_AGENT.find(properties.as_bytes()).is_some() {
        return name_value::last_of(draft.list(Field::ExtendedProperties), "UserAgent");
    }
    DETAILS.find(properties.as_bytes())?;
    let details = draft.embedded(name_value::last_of(draft.list(Field::ExtendedProperties), "additionalDetails")?)?;
    nested::text_member(details, "User-Agent")
}

/// The fields that an actor's address may stand in, in Elastic's order, which matters only where they name
/// different hosts.
pub const ADDRESSES: [Field; 3] = [Field::ClientIPAddress, Field::ClientIP, Field::ActorIpAddress];

fn describe_source(draft: &mut Draft<'_>) {
    // Only texts: a number is none of the forms that are sent.
    let is_text = |field: &Field| draft.raw(*field).is_some_and(|raw| raw.starts_with('"'));
    let read = |field| {
        Some(field).filter(is_text).and_then(|field| {
            Address::parse(draft.canonical(draft.said(field)?)).filter(|address| !address.text.contains('\\'))
        })
    };
    let mut addresses: [Option<Address<'_>>; ADDRESSES.len()] = [None; ADDRESSES.len()];
    for (place, field) in ADDRESSES.into_iter().enumerate() {
        // Most sign-ins have the same text twice.
        let earlier = (0..place).find(|earlier| draft.raw(ADDRESSES[*earlier]) == draft.raw(field));
        addresses[place] = earlier.map_or_else(|| read(field), |earlier| addresses[earlier]);
    }
    for ip in addresses.iter().flatten().filter_map(|address| address.ip) {
        draft.add(Ecs::RelatedIp, Value::Ip(ip));
    }
    if let Some(source) = address::best(addresses) {
        set_source(draft, source);
    }
}

/// Says where the actor was.
pub fn set_source<'a>(draft: &mut Draft<'a>, source: Address<'a>) {
    for field in [Ecs::SourcePort, Ecs::SourceDomain, Ecs::ClientPort, Ecs::ClientDomain] {
        draft.clear(field);
    }
    // What stands in brackets behind a name may be a build, which is no address.
    let address = source.ip.map_or(Value::Text(source.domain.unwrap_or(source.text)), Value::Ip);
    draft.set(Ecs::SourceAddress, address);
    draft.set(Ecs::ClientAddress, address);
    if let Some(ip) = source.ip {
        draft.set(Ecs::SourceIp, Value::Ip(ip));
        draft.set(Ecs::SourcePlace, Value::Ip(ip));
        draft.set(Ecs::ClientIp, Value::Ip(ip));
        draft.set(Ecs::NetworkType, Value::Text(if ip.is_ipv4() { "ipv4" } else { "ipv6" }));
        draft.add(Ecs::RelatedIp, Value::Ip(ip));
    }
    if let Some(port) = source.port {
        draft.set(Ecs::SourcePort, Value::Number(port.into()));
        draft.set(Ecs::ClientPort, Value::Number(port.into()));
    }
    if let Some(domain) = source.domain {
        draft.set(Ecs::SourceDomain, Value::Text(domain));
        draft.set(Ecs::ClientDomain, Value::Text(domain));
    }
}

/// The record's own organization; of a record that names none, the tenant whose feed it came by. The configured
/// name belongs to that tenant alone.
fn describe_organization<'a>(context: &Context<'a>, draft: &mut Draft<'a>) {
    let said = draft.said(Field::OrganizationId);
    if said.is_some() {
        draft.moved.insert(Field::OrganizationId);
    }
    let id = said.unwrap_or(context.tenant_id);
    if !id.is_empty() {
        draft.set(Ecs::OrganizationId, Value::Lower(id));
        draft.set(Ecs::CloudAccountId, Value::Lower(id));
    }
    if id.eq_ignore_ascii_case(context.tenant_id) && !context.tenant_name.is_empty() {
        draft.configured_name = Some(draft.escaped(context.tenant_name));
    }
    let name = draft.configured_name.or_else(|| draft.said(Field::OrganizationName));
    draft.set_text(Ecs::OrganizationName, name);
    draft.set_text(Ecs::CloudAccountName, name);
    draft.set_text(Ecs::CloudServiceName, draft.text(Ecs::EventProvider));
}

fn describe_application(draft: &mut Draft<'_>) {
    let context = draft.raw(Field::AppAccessContext).unwrap_or_default();
    let id = [Field::AppId, Field::ApplicationId, Field::ClientAppId, Field::AADAppId]
        .into_iter()
        .find_map(|field| draft.said(field));
    let [client_id, client_name, client_device] =
        nested::text_members(context, ["ClientAppId", "ClientAppName", "DeviceId"]);
    let id = id.or(client_id);
    draft.set_text(Ecs::OurApplicationId, id);
    let name = draft.said(Field::ApplicationDisplayName).or(client_name);
    let name = name.or_else(|| id.and_then(application));
    draft.set_text(Ecs::OurApplicationName, name);
    let device = client_device.or_else(|| draft.said(Field::DeviceId));
    draft.set_text(Ecs::DeviceId, device);
}

/// What follows from the facts of a family.
pub fn finish(draft: &mut Draft<'_>) {
    if let Some(path) = draft.text(Ecs::FilePath).filter(|_| !draft.has(Ecs::FileName)) {
        // Unescaped, because a cut behind a backslash would leave half an escape.
        let name = draft.plain(path).rsplit(['\\', '/']).next().unwrap_or_default();
        draft.set_text(Ecs::FileName, Some(draft.escaped(name)));
    }
    if draft.count(Ecs::FileName) == 1
        && let Some((stem, extension)) = draft.text(Ecs::FileName).and_then(|name| name.rsplit_once('.'))
        && !stem.is_empty()
    {
        draft.fill_text(Ecs::FileExtension, Some(extension));
    }
    add_people_of_mail(draft);
}

/// Fields whose values are people of a mail.
const PEOPLE_OF_MAIL: [Ecs; 5] = [Ecs::EmailSender, Ecs::EmailFrom, Ecs::EmailTo, Ecs::EmailCc, Ecs::EmailBcc];

/// Adds the people of a mail to the related users, whatever told of it.
pub fn add_people_of_mail(draft: &mut Draft<'_>) {
    for field in PEOPLE_OF_MAIL {
        let mut at = draft.first(field);
        while let Some((value, next)) = draft.at(at) {
            if let Value::Text(person) = value {
                identity::add_related(draft, person);
            }
            at = next;
        }
    }
}

fn describe_mail_and_file(draft: &mut Draft<'_>) {
    if !draft.copy(Ecs::FileSize, Field::FileSizeBytes) {
        draft.copy(Ecs::FileSize, Field::FileSize);
    }
    if let Some(recipients) = draft.raw(Field::Recipients) {
        // Seen as a list, and as a text that holds one: `[a@b, c@d]`.
        match recipients.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(text) => {
                let inside = text.trim_start_matches('[').trim_end_matches(']');
                inside.split([',', ';']).for_each(|one| draft.add_text(Ecs::EmailTo, one.trim()));
            }
            None => _ = draft.take(Ecs::EmailTo, Field::Recipients),
        }
    }
    for field in [Field::SenderIp, Field::SenderIP] {
        if let Some(ip) = draft.said(field).and_then(|text| Address::parse(text)?.ip) {
            draft.add(Ecs::RelatedIp, Value::Ip(ip));
        }
    }
}
