//! The profile `elastic`: the same mapping with the habits of Elastic's o365 integration, for its dashboards and
//! rules.
//!
//! Comes in: a finished draft of profile `auditferry`. Goes out: the same draft, changed. All that the two profiles
//! do differently stands in [`DIFFERENCES`], each by what the fields mean, never by a case; docs/fields.md is made of
//! it, and a test over all fixtures holds that no field differs for which no row stands. Truth: ecs-mapping.

use std::net::{IpAddr, Ipv4Addr};

use crate::record::Field;
use crate::record::address::Address;

use super::base;
use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::{dlp, exchange_admin, identity, nested};

/// Which habits a document has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Profile {
    /// ECS 8.17 by its meaning.
    #[default]
    Auditferry,
    /// ECS 8.11 as Elastic's o365 integration writes it.
    Elastic,
}

impl Profile {
    pub const ALL: [Profile; 2] = [Profile::Auditferry, Profile::Elastic];

    /// As the configuration writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Auditferry => "auditferry",
            Profile::Elastic => "elastic",
        }
    }

    /// `ecs.version` of its documents.
    pub const fn ecs_version(self) -> &'static str {
        match self {
            Profile::Auditferry => "8.17.0",
            Profile::Elastic => "8.11.0",
        }
    }
}

/// One thing that profile `elastic` does in another way.
pub struct Difference {
    pub name: &'static str,
    /// The fields that may differ by it; a name of an object stands for all below it.
    pub fields: &'static [&'static str],
    /// What `elastic` does.
    pub elastic: &'static str,
    /// Why `auditferry` does not.
    pub reason: &'static str,
    apply: for<'a> fn(&mut Draft<'a>),
}

/// All of them, in the order in which they are applied.
pub static DIFFERENCES: &[Difference] = &[
    Difference {
        name: "version",
        fields: &["ecs.version"],
        elastic: "8.11.0, which the integration's documents name",
        reason: "the mapping is held to ECS 8.17",
        apply: |_| {},
    },
    Difference {
        name: "web",
        fields: &["event.category", "event.type"],
        elastic: "`web` and `info` on every record; `access` on sign-ins and mail access; a new name of a file is `creation`; `file` and `access` on the DLP records of types 11 and 13",
        reason: "a record of an audit log is no request to a web server, and ECS has no such pairs",
        apply: web,
    },
    Difference {
        name: "action",
        fields: &["event.action"],
        elastic: "seven operations about users, teams and members get names of Elastic's own; o365.audit.Operation keeps Microsoft's",
        reason: "the operation is what Microsoft documents, and what people search for",
        apply: action,
    },
    Difference {
        name: "outcome",
        fields: &["event.outcome"],
        elastic: "by ResultStatus alone: Failed and False are failures, everything else is a success, Entra's Failure and a record without a status too; DLP: blocked is failed",
        reason: "failed sign-ins are sent with the status Success, and a record that says nothing has no outcome",
        apply: outcome,
    },
    Difference {
        name: "kind",
        fields: &["event.kind"],
        elastic: "`alert` for record types 11, 13 and 40, whatever the operation",
        reason: "a DLP match that was undone alerts nobody, and other record types are alerts as well",
        apply: kind,
    },
    Difference {
        name: "severity",
        fields: &["event.severity"],
        elastic: "0 where no DLP rule has one",
        reason: "no severity is no number",
        apply: severity,
    },
    Difference {
        name: "provider",
        fields: &["event.provider"],
        elastic: "the number of the user type where there is no Workload",
        reason: "a user type provides nothing",
        apply: provider,
    },
    Difference {
        name: "tenant as host",
        fields: &["host.id", "host.name", "host.os", "related.hosts"],
        elastic: "the tenant's id and name, or the user's domain, with Platform as its system; the domains of people among the related hosts",
        reason: "neither a tenant nor the domain of an account is a host; the tenant is organization.* and cloud.account.*",
        apply: host,
    },
    Difference {
        name: "client",
        fields: &["client", "source", "network.type", "related.hosts"],
        elastic: "the first address field that is there, even if it is empty; a text that is no address stands whole, its port too, as client.domain",
        reason: "an empty field hid a good address, and a port is no part of a domain",
        apply: client,
    },
    Difference {
        name: "object as target",
        fields: &["user.target", "related.user", "related.hosts"],
        elastic: "ObjectId of every directory record, `Not Available` and applications included; roles and full names are not said",
        reason: "not every object is a user",
        apply: object_as_target,
    },
    Difference {
        name: "owner as actor",
        fields: &["user.email", "related.user"],
        elastic: "MailboxOwnerUPN of a mailbox item, where UserId is no address; whom an alert is about",
        reason: "the owner of a mailbox is not who read it: that is user.target.*",
        apply: owner_as_actor,
    },
    Difference {
        name: "accounts of services",
        fields: &["user.name", "user.domain", "user.email", "related.user", "related.hosts"],
        elastic: "every text with one `@` is an address, `app@sharepoint` and `urn:spo:guest#a@b` too; whoever is in user.id is a related user",
        reason: "the service's own accounts are nobody's, and a guest's address begins behind the number sign",
        apply: accounts,
    },
    Difference {
        name: "entity as rule",
        fields: &["rule.description", "rule.ruleset"],
        elastic: "of an alert: what it is about and that thing's kind",
        reason: "what an alert is about describes no rule; of a DLP record rule.ruleset is the policy",
        apply: entity_as_rule,
    },
    Difference {
        name: "people of mail and files",
        fields: &["source.user", "destination.user", "file.inode", "message", "related.user", "related.hosts"],
        elastic: "sender and recipients of DLP as users of source and destination, ids of items as inodes, a sentence about the mail; of Viva Engage the target user as that of the destination",
        reason: "ECS has email.* and user.target.* for them, and an id is no inode",
        apply: people,
    },
    Difference {
        name: "server as destination",
        fields: &["destination.ip", "server.address"],
        elastic: "the address of the Exchange server; what stands in the brackets is its address, whatever it is",
        reason: "server.ip is the same, and the brackets may hold the build",
        apply: destination,
    },
    Difference {
        name: "names outside of ECS",
        fields: &["token.id", "session.id", "application.name"],
        elastic: "token, session and application of the record's AppAccessContext and display name",
        reason: "ECS has no such fields; they stand below o365.audit and auditferry.application",
        apply: outside,
    },
    Difference {
        name: "application as process",
        fields: &["process.name"],
        elastic: "Application, of whatever record",
        reason: "only on an endpoint is it the name of a program",
        apply: application,
    },
    Difference {
        name: "rules as mail",
        fields: &["email.from.address", "email.to.address"],
        elastic: "From and the forwarding addresses of a mailbox rule",
        reason: "a rule is no mail that was sent",
        apply: rules_as_mail,
    },
];

/// Makes a draft one of profile `elastic`.
pub fn apply_elastic(draft: &mut Draft<'_>) {
    for difference in DIFFERENCES {
        (difference.apply)(draft);
    }
}

const DLP: [i64; 2] = [11, 13];

fn is_of(draft: &Draft<'_>, types: &[i64]) -> bool {
    draft.record_type.is_some_and(|number| types.contains(&number))
}

fn web(draft: &mut Draft<'_>) {
    draft.add(Ecs::EventCategory, Value::Text("web"));
    draft.add(Ecs::EventType, Value::Text("info"));
    if is_of(draft, &DLP) {
        draft.add(Ecs::EventCategory, Value::Text("file"));
    }
    if is_of(draft, &[11, 13, 15, 50]) {
        draft.add(Ecs::EventType, Value::Text("access"));
    }
    if is_of(draft, &[15]) {
        draft.add(Ecs::EventType, Value::Text("start"));
    }
    if is_of(draft, &[22]) && draft.operation() == "FileUpdateName" {
        draft.add(Ecs::EventType, Value::Text("creation"));
    }
}

fn action(draft: &mut Draft<'_>) {
    let action = match (draft.record_type, draft.operation()) {
        (Some(8), "Add user.") => "added-user-account",
        (Some(8), "Update user.") => "modified-user-account",
        (Some(8 | 25), "Delete user.") => "deleted-user-account",
        (Some(25), "TeamCreated") => "added-group-account-to",
        (Some(25), "MemberAdded") => "added-users-to-group",
        _ => return,
    };
    draft.set(Ecs::EventAction, Value::Text(action));
}

fn outcome(draft: &mut Draft<'_>) {
    let status = draft.said(Field::ResultStatus).unwrap_or_default();
    let has_failed = match is_of(draft, &DLP) {
        true => dlp_has_failed(draft),
        false => ["failed", "false"].iter().any(|failed| status.eq_ignore_ascii_case(failed)),
    };
    draft.outcome = Some(if has_failed { Outcome::Failure } else { Outcome::Success });
}

fn dlp_has_failed(draft: &Draft<'_>) -> bool {
    let policies = nested::elements(draft.raw(Field::PolicyDetails).unwrap_or_default());
    let rules = policies.flat_map(|policy| nested::elements(nested::member(policy, "Rules").unwrap_or_default()));
    let mut actions = rules.flat_map(|rule| nested::texts(nested::member(rule, "Actions").unwrap_or_default()));
    if !actions.any(|action| action == "BlockAccess") {
        return false;
    }
    match draft.operation() {
        "DlpRuleUndo" => false,
        "DlpInfo" => true,
        _ => draft.raw(Field::ExceptionInfo).is_none_or(|exception| exception == "null"),
    }
}

fn kind(draft: &mut Draft<'_>) {
    draft.kind = if is_of(draft, &[11, 13, 40]) { "alert" } else { "event" };
}

fn severity(draft: &mut Draft<'_>) {
    if is_of(draft, &DLP) && !draft.has(Ecs::EventSeverity) && draft.raw(Field::PolicyDetails).is_some() {
        draft.set(Ecs::EventSeverity, Value::Number(0));
    }
}

fn provider(draft: &mut Draft<'_>) {
    draft.fill_text(Ecs::EventProvider, draft.said(Field::UserType));
}

fn host(draft: &mut Draft<'_>) {
    if let Some(id) = draft.get(Ecs::OrganizationId) {
        draft.set(Ecs::HostId, id);
    }
    let configured = draft.configured_name;
    let device = draft.text(Ecs::HostName).or_else(|| draft.said(Field::DeviceName));
    let organization = draft.text(Ecs::OrganizationName).filter(|_| is_of(draft, &[1, 2]));
    let name = configured.or(device).or(organization).or_else(|| draft.text(Ecs::UserDomain));
    draft.set_text(Ecs::HostName, name);
    dlp::platform(draft, draft.said(Field::Platform));
}

fn application(draft: &mut Draft<'_>) {
    draft.set_text(Ecs::ProcessName, draft.said(Field::Application));
}

fn client(draft: &mut Draft<'_>) {
    let is_there = |field: &Field| draft.raw(*field).is_some_and(|raw| raw != "null");
    let text = base::ADDRESSES.into_iter().find(is_there).and_then(|field| draft.said(field)).map(str::trim);
    for field in [
        Ecs::ClientAddress,
        Ecs::ClientDomain,
        Ecs::ClientIp,
        Ecs::ClientPort,
        Ecs::SourceAddress,
        Ecs::SourceDomain,
        Ecs::SourceIp,
        Ecs::SourcePort,
        Ecs::SourcePlace,
        Ecs::NetworkType,
    ] {
        draft.clear(field);
    }
    let Some(text) = text.filter(|text| !text.is_empty()) else { return };
    let address = Address::parse(text).filter(|_| is_of_elastics_forms(text));
    match address {
        Some(address) if address.ip.is_some() => {
            base::set_source(draft, address);
            draft.set_text(Ecs::ClientDomain, address.domain);
        }
        Some(address) if address.domain.is_some() && text.contains(' ') => {
            draft.set_text(Ecs::ClientDomain, address.domain);
            draft.set_text(Ecs::ClientAddress, Some(address.text));
        }
        _ if !text.contains(' ') && text.contains(|c: char| c.is_ascii_alphabetic()) => {
            draft.set_text(Ecs::ClientDomain, Some(text));
        }
        _ => draft.set_text(Ecs::ClientAddress, Some(text)),
    }
}

/// `IP`, `[IP]`, `[IP]:port`, `a.b.c.d:port`, `NAME (ADDR)`: the forms that the integration reads (ecs-mapping, section 2).
fn is_of_elastics_forms(text: &str) -> bool {
    let bare = text.strip_prefix("::ffff:").unwrap_or(text);
    let host = bare.strip_prefix('[').map_or(bare, |rest| rest.split(']').next().unwrap_or(rest));
    let v4 = bare.split(':').next().unwrap_or(bare);
    text.contains(' ') || host.parse::<IpAddr>().is_ok() || v4.parse::<Ipv4Addr>().is_ok()
}

fn object_as_target(draft: &mut Draft<'_>) {
    if is_of(draft, &[8])
        && let Some(object) = draft.said(Field::ObjectId)
    {
        for field in [
            Ecs::UserTargetName,
            Ecs::UserTargetDomain,
            Ecs::UserTargetEmail,
            Ecs::UserTargetFullName,
            Ecs::UserTargetRoles,
        ] {
            draft.clear(field);
        }
        identity::set(draft, identity::TARGET, object);
    }
}

fn owner_as_actor(draft: &mut Draft<'_>) {
    if is_of(draft, &[2]) && !draft.has(Ecs::UserName) {
        draft.set_text(Ecs::UserEmail, draft.said(Field::MailboxOwnerUPN));
    }
    if is_of(draft, &[40])
        && !draft.has(Ecs::UserEmail)
        && let Some(data) = draft.said(Field::Data).and_then(|data| draft.embedded(data))
        && let Some(user) = nested::text_member(data, "f3u").filter(|user| identity::address(user).is_some())
    {
        draft.set_text(Ecs::UserEmail, Some(user));
    }
}

fn accounts(draft: &mut Draft<'_>) {
    if let Some(id) = draft.said(Field::UserId) {
        identity::set_address(draft, identity::USER, id);
    }
}

fn entity_as_rule(draft: &mut Draft<'_>) {
    if is_of(draft, &[40]) {
        draft.set_text(Ecs::RuleDescription, draft.said(Field::AlertEntityId));
        draft.set_text(Ecs::RuleRuleset, draft.said(Field::EntityType));
    }
    if is_of(draft, &DLP) {
        draft.clear(Ecs::RuleRuleset);
    }
}

fn people(draft: &mut Draft<'_>) {
    if is_of(draft, &DLP) {
        copy_all(draft, Ecs::EmailFrom, Ecs::SourceUserEmail);
        for from in [Ecs::EmailTo, Ecs::EmailCc, Ecs::EmailBcc] {
            copy_all(draft, from, Ecs::DestinationUserEmail);
        }
        let file = draft.raw(Field::SharePointMetaData).unwrap_or_default();
        let id = nested::text_member(file, "UniqueId").or_else(|| nested::text_member(file, "UniqueID"));
        draft.set_text(Ecs::FileInode, id);
    }
    if is_of(draft, &[13])
        && let Some(subject) = draft.text(Ecs::EmailSubject)
    {
        let user = draft.text(Ecs::UserId).unwrap_or_default();
        let action = draft.text(Ecs::EventAction).unwrap_or_default();
        let sentence =
            ["Office365 Alert: ", action, " detected in email sent by ", user, " with subject '", subject, "'"]
                .concat();
        let sentence = draft.keep(&sentence);
        draft.set_text(Ecs::Message, Some(sentence));
    }
    if is_of(draft, &[22]) {
        draft.set_text(Ecs::FileInode, draft.said(Field::FileId));
        draft.set_text(Ecs::DestinationUserEmail, draft.said(Field::TargetUserId));
        draft.set_text(Ecs::DestinationUserId, draft.said(Field::TargetYammerUserId));
    }
}

fn copy_all(draft: &mut Draft<'_>, from: Ecs, to: Ecs) {
    let values: Vec<_> = draft.all(from).collect();
    values.into_iter().for_each(|value| draft.add(to, value));
}

fn destination(draft: &mut Draft<'_>) {
    if !is_of(draft, &[1, 2]) {
        return;
    }
    if let Some(ip) = draft.get(Ecs::ServerIp) {
        draft.set(Ecs::DestinationIp, ip);
    } else if let Some(server) = exchange_admin::originating_server(draft) {
        draft.set_text(Ecs::ServerAddress, Some(server.text));
    }
}

fn outside(draft: &mut Draft<'_>) {
    let context = draft.raw(Field::AppAccessContext).unwrap_or_default();
    for (name, to) in [("UniqueTokenId", Ecs::TokenId), ("AADSessionId", Ecs::SessionId)] {
        draft.set_text(to, nested::text_member(context, name));
    }
    draft.set_text(Ecs::ApplicationName, draft.said(Field::ApplicationDisplayName));
}

fn rules_as_mail(draft: &mut Draft<'_>) {
    if draft.raw(Field::Parameters).is_none() {
        return;
    }
    let parameters = exchange_admin::parameters(draft);
    draft.set_text(Ecs::EmailFrom, exchange_admin::parameter(&parameters, "From"));
    for name in ["ForwardTo", "ForwardAsAttachmentTo", "RedirectTo"] {
        for one in exchange_admin::parameter(&parameters, name).unwrap_or_default().split(';') {
            draft.add_text(Ecs::EmailTo, one.trim());
        }
    }
}

/// What the profile adds to the related hosts, after the lists of the document are gathered.
pub const HOSTS: &[Ecs] = &[Ecs::UserDomain, Ecs::UserTargetDomain, Ecs::ClientDomain];
