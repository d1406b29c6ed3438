//! The ECS fields that a document of ours can have: one line each, in the order in which they are written.
//!
//! Comes in: nothing. Goes out: [`Ecs`], with the path, the type and the shape of each field. The writer, the
//! index template, the JSON schema, docs/fields.md and what an edit may name are all made of this table, so that
//! they cannot disagree. Truth: the ECS 8.17 field reference; what is not of ECS says so.

use std::sync::LazyLock;

/// The type that Elasticsearch gives the field (ECS 8.17), and what a value must be to be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Keyword,
    /// Free text that is searched by word.
    Text,
    Wildcard,
    Ip,
    Long,
    Float,
    Date,
    Boolean,
    GeoPoint,
    /// A list of objects that are searched one by one.
    Nested,
    /// Members that a table outside of the record gives (places, user agents); never a field by itself.
    LookUp,
}

/// How many values the field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One; several are written as a list, which Elasticsearch takes for every field.
    One,
    /// Always a list ("normalize: array" in ECS).
    List,
}

/// Whose field it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Ecs,
    /// Below `auditferry.*`.
    Ours,
    /// Of no schema; Elastic's integration writes it, and so does the profile that follows it.
    ElasticOnly,
}

macro_rules! ecs {
    ($($name:ident $path:literal $kind:ident $shape:ident $origin:ident;)*) => {
        /// A field of the document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Ecs { $($name,)* }

        impl Ecs {
            /// Every field, in the order in which they are written.
            pub const ALL: &'static [Ecs] = &[$(Ecs::$name,)*];

            /// The dotted name.
            pub const fn path(self) -> &'static str {
                match self { $(Ecs::$name => $path,)* }
            }

            pub const fn kind(self) -> Kind {
                match self { $(Ecs::$name => Kind::$kind,)* }
            }

            pub const fn shape(self) -> Shape {
                match self { $(Ecs::$name => Shape::$shape,)* }
            }

            pub const fn origin(self) -> Origin {
                match self { $(Ecs::$name => Origin::$origin,)* }
            }
        }
    };
}

// The members of an object stand together. Those of the head come first; a draft never holds them.
ecs! {
    Timestamp "@timestamp" Date One Ecs;
    EcsVersion "ecs.version" Keyword One Ecs;
    DataStreamType "data_stream.type" Keyword One Ecs;
    DataStreamDataset "data_stream.dataset" Keyword One Ecs;
    DataStreamNamespace "data_stream.namespace" Keyword One Ecs;
    EventModule "event.module" Keyword One Ecs;
    EventDataset "event.dataset" Keyword One Ecs;
    EventKind "event.kind" Keyword One Ecs;
    EventId "event.id" Keyword One Ecs;
    EventAction "event.action" Keyword One Ecs;
    EventProvider "event.provider" Keyword One Ecs;
    EventCode "event.code" Keyword One Ecs;
    EventCategory "event.category" Keyword List Ecs;
    EventType "event.type" Keyword List Ecs;
    EventOutcome "event.outcome" Keyword One Ecs;
    EventSeverity "event.severity" Long One Ecs;
    EventOriginal "event.original" Keyword One Ecs;
    EventReason "event.reason" Keyword One Ecs;
    EventUrl "event.url" Keyword One Ecs;
    EventStart "event.start" Date One Ecs;
    EventEnd "event.end" Date One Ecs;
    ApplicationName "application.name" Keyword One ElasticOnly;
    ClientAddress "client.address" Keyword One Ecs;
    ClientDomain "client.domain" Keyword One Ecs;
    ClientIp "client.ip" Ip One Ecs;
    ClientPort "client.port" Long One Ecs;
    CloudAccountId "cloud.account.id" Keyword One Ecs;
    CloudAccountName "cloud.account.name" Keyword One Ecs;
    CloudServiceName "cloud.service.name" Keyword One Ecs;
    DestinationDomain "destination.domain" Keyword One Ecs;
    DestinationIp "destination.ip" Ip One Ecs;
    DestinationUserEmail "destination.user.email" Keyword One Ecs;
    DestinationUserId "destination.user.id" Keyword One Ecs;
    DeviceId "device.id" Keyword One Ecs;
    EmailAttachments "email.attachments" Nested List Ecs;
    EmailBcc "email.bcc.address" Keyword List Ecs;
    EmailCc "email.cc.address" Keyword List Ecs;
    EmailDeliveryTimestamp "email.delivery_timestamp" Date One Ecs;
    EmailDirection "email.direction" Keyword One Ecs;
    EmailFrom "email.from.address" Keyword List Ecs;
    EmailLocalId "email.local_id" Keyword One Ecs;
    EmailMessageId "email.message_id" Wildcard One Ecs;
    EmailOriginationTimestamp "email.origination_timestamp" Date One Ecs;
    EmailSender "email.sender.address" Keyword One Ecs;
    EmailSubject "email.subject" Keyword One Ecs;
    EmailTo "email.to.address" Keyword List Ecs;
    ErrorCode "error.code" Keyword One Ecs;
    ErrorMessage "error.message" Text One Ecs;
    FileCreated "file.created" Date One Ecs;
    FileDirectory "file.directory" Keyword One Ecs;
    FileExtension "file.extension" Keyword One Ecs;
    FileHashMd5 "file.hash.md5" Keyword One Ecs;
    FileHashSha1 "file.hash.sha1" Keyword One Ecs;
    FileHashSha256 "file.hash.sha256" Keyword One Ecs;
    FileInode "file.inode" Keyword One Ecs;
    FileMtime "file.mtime" Date One Ecs;
    FileName "file.name" Keyword One Ecs;
    FileOwner "file.owner" Keyword One Ecs;
    FilePath "file.path" Keyword One Ecs;
    FileSize "file.size" Long One Ecs;
    FileTargetPath "file.target_path" Keyword One Ecs;
    FileType "file.type" Keyword One Ecs;
    GroupId "group.id" Keyword One Ecs;
    GroupName "group.name" Keyword One Ecs;
    HostId "host.id" Keyword One Ecs;
    HostName "host.name" Keyword One Ecs;
    HostOsPlatform "host.os.platform" Keyword One Ecs;
    HostOsType "host.os.type" Keyword One Ecs;
    Message "message" Text One Ecs;
    NetworkType "network.type" Keyword One Ecs;
    OrganizationId "organization.id" Keyword One Ecs;
    OrganizationName "organization.name" Keyword One Ecs;
    ProcessName "process.name" Keyword One Ecs;
    RelatedHash "related.hash" Keyword List Ecs;
    RelatedHosts "related.hosts" Keyword List Ecs;
    RelatedIp "related.ip" Ip List Ecs;
    RelatedUser "related.user" Keyword List Ecs;
    RuleCategory "rule.category" Keyword One Ecs;
    RuleDescription "rule.description" Keyword One Ecs;
    RuleId "rule.id" Keyword One Ecs;
    RuleName "rule.name" Keyword One Ecs;
    RuleReference "rule.reference" Keyword One Ecs;
    RuleRuleset "rule.ruleset" Keyword One Ecs;
    ServerAddress "server.address" Keyword One Ecs;
    ServerDomain "server.domain" Keyword One Ecs;
    ServerIp "server.ip" Ip One Ecs;
    SessionId "session.id" Keyword One ElasticOnly;
    SourceAddress "source.address" Keyword One Ecs;
    SourceDomain "source.domain" Keyword One Ecs;
    SourceIp "source.ip" Ip One Ecs;
    SourcePlace "source.geo" LookUp One Ecs;
    SourcePort "source.port" Long One Ecs;
    SourceUserEmail "source.user.email" Keyword One Ecs;
    ThreatIndicatorName "threat.indicator.name" Keyword One Ecs;
    ThreatIndicatorType "threat.indicator.type" Keyword One Ecs;
    TokenId "token.id" Keyword One ElasticOnly;
    UrlDomain "url.domain" Keyword One Ecs;
    UrlOriginal "url.original" Wildcard One Ecs;
    UserChangesEmail "user.changes.email" Keyword One Ecs;
    UserDomain "user.domain" Keyword One Ecs;
    UserEmail "user.email" Keyword One Ecs;
    UserFullName "user.full_name" Keyword One Ecs;
    UserId "user.id" Keyword One Ecs;
    UserName "user.name" Keyword One Ecs;
    UserRoles "user.roles" Keyword List Ecs;
    UserTargetDomain "user.target.domain" Keyword One Ecs;
    UserTargetEmail "user.target.email" Keyword One Ecs;
    UserTargetFullName "user.target.full_name" Keyword One Ecs;
    UserTargetId "user.target.id" Keyword One Ecs;
    UserTargetName "user.target.name" Keyword One Ecs;
    UserTargetRoles "user.target.roles" Keyword List Ecs;
    UserAgentOriginal "user_agent.original" Keyword One Ecs;
    UserAgentParts "user_agent.name" LookUp One Ecs;
    OurApplicationId "auditferry.application.id" Keyword One Ours;
    OurApplicationName "auditferry.application.name" Keyword One Ours;
    OurContentType "auditferry.content_type" Keyword One Ours;
    OurKey "auditferry.key" Keyword One Ours;
    OurUserType "auditferry.user_type" Keyword One Ours;
}

impl Ecs {
    /// How many there are.
    pub const COUNT: usize = Ecs::ALL.len();

    /// The field of this dotted name.
    pub fn of(path: &str) -> Option<Ecs> {
        Ecs::ALL.iter().copied().find(|field| field.path() == path)
    }
}

/// A member that a table outside of the record gives, where `enrich` is asked for it.
#[derive(Clone, Copy, Debug)]
pub struct LookUp {
    /// The field of [`Kind::LookUp`] at whose place it is written.
    pub at: Ecs,
    pub path: &'static str,
    pub kind: Kind,
}

const fn look_up(at: Ecs, path: &'static str, kind: Kind) -> LookUp {
    LookUp { at, path, kind }
}

/// All of them (ECS 8.17, field sets `as`, `geo` and `user_agent`).
pub const LOOK_UPS: &[LookUp] = &[
    look_up(Ecs::SourcePlace, "source.as.number", Kind::Long),
    look_up(Ecs::SourcePlace, "source.as.organization.name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.city_name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.continent_code", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.continent_name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.country_iso_code", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.country_name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.location", Kind::GeoPoint),
    look_up(Ecs::SourcePlace, "source.geo.name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.postal_code", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.region_iso_code", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.region_name", Kind::Keyword),
    look_up(Ecs::SourcePlace, "source.geo.timezone", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.device.name", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.name", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.os.full", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.os.name", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.os.version", Kind::Keyword),
    look_up(Ecs::UserAgentParts, "user_agent.version", Kind::Keyword),
];

/// What a pipeline error has besides (`super::pipeline_error`), and no record: the bytes that nobody could read.
pub const OF_ERRORS: &[(&str, Kind)] = &[("auditferry.original_base64", Kind::Keyword)];

/// Every field that a document of ours can have outside of `o365.audit`, by name, with its type.
pub fn written() -> impl Iterator<Item = (&'static str, Kind)> {
    let own = Ecs::ALL.iter().filter(|field| field.kind() != Kind::LookUp).map(|field| (field.path(), field.kind()));
    own.chain(LOOK_UPS.iter().map(|member| (member.path, member.kind))).chain(OF_ERRORS.iter().copied())
}

/// Where a field lies, and the bytes that lead to it.
pub(super) struct Slot {
    /// The number of its object; [`Layout::TOP`] is that of the document.
    pub object: u8,
    pub is_list: bool,
    pub is_look_up: bool,
    /// `"name":"`
    pub key_and_quote: Box<[u8]>,
}

impl Slot {
    /// `"name":`
    pub fn key(&self) -> &[u8] {
        &self.key_and_quote[..self.key_and_quote.len() - 1]
    }
}

/// The objects of a document and what of it lies in which.
pub(super) struct Layout {
    /// By field.
    pub slots: Vec<Slot>,
    /// By the object that is open and the one that is asked for: what closes the one and opens the other.
    between: Vec<Box<[u8]>>,
    objects: usize,
}

impl Layout {
    pub const TOP: u8 = 0;

    fn new() -> Layout {
        // By number: the names from the outermost on. `user.target` is below `user`.
        let mut objects: Vec<Vec<&'static str>> = vec![Vec::new()];
        let mut slots = Vec::with_capacity(Ecs::COUNT);
        for field in Ecs::ALL {
            let mut parents: Vec<&str> = field.path().split('.').collect();
            let leaf = parents.pop().unwrap_or_default();
            let object = objects.iter().position(|known| *known == parents).unwrap_or_else(|| {
                objects.push(parents);
                objects.len() - 1
            });
            slots.push(Slot {
                object: object as u8,
                is_list: field.shape() == Shape::List,
                is_look_up: field.kind() == Kind::LookUp,
                key_and_quote: format!("\"{leaf}\":\"").into_bytes().into(),
            });
        }
        let pairs = objects.iter().flat_map(|from| objects.iter().map(move |to| path_between(from, to)));
        Layout { slots, between: pairs.collect(), objects: objects.len() }
    }

    /// What leads from inside of one object into another, where a member with a comma behind it was the last. Where
    /// it begins with a brace, that comma must go.
    pub fn between(&self, from: u8, to: u8) -> &[u8] {
        &self.between[from as usize * self.objects + to as usize]
    }
}

fn path_between(from: &[&str], to: &[&str]) -> Box<[u8]> {
    let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
    let mut path = "}".repeat(from.len() - shared);
    if !path.is_empty() {
        path.push(',');
    }
    to[shared..].iter().for_each(|name| path.extend(["\"", name, "\":{"]));
    path.into_bytes().into()
}

/// Made once, of the table above.
pub(super) static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::new);

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EcsSet([u64; EcsSet::WORDS]);

impl EcsSet {
    const WORDS: usize = Ecs::COUNT.div_ceil(64);
    pub const EMPTY: EcsSet = EcsSet([0; EcsSet::WORDS]);

    pub fn insert(&mut self, field: Ecs) {
        self.0[field as usize / 64] |= 1 << (field as usize % 64);
    }

    pub fn remove(&mut self, field: Ecs) {
        self.0[field as usize / 64] &= !(1 << (field as usize % 64));
    }

    pub fn contains(&self, field: Ecs) -> bool {
        self.0[field as usize / 64] & 1 << (field as usize % 64) != 0
    }

    /// The fields of the set, in the order in which they are written.
    pub fn iter(self) -> impl Iterator<Item = Ecs> {
        self.0.into_iter().enumerate().flat_map(|(word, bits)| {
            let mut rest = bits;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(Ecs::ALL[word * 64 + bit])
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_opened_once_and_no_field_is_an_object_too() {
        let mut closed: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = Vec::new();
        for field in Ecs::ALL {
            let path = field.path();
            let parents: Vec<&str> = path.match_indices('.').map(|(at, _)| &path[..at]).collect();
            while open.last().is_some_and(|object| !parents.contains(object)) {
                closed.extend(open.pop());
            }
            for parent in parents {
                assert!(!closed.contains(&parent), "`{path}`: the members of `{parent}` do not stand together");
                if !open.contains(&parent) {
                    open.push(parent);
                }
                assert_eq!(Ecs::of(parent), None, "`{parent}` is a field and an object");
            }
        }
        let mut paths: Vec<&str> = Ecs::ALL.iter().map(|field| field.path()).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), Ecs::COUNT, "a name stands twice");
    }

    #[test]
    fn a_set_gives_back_what_was_put_in_in_order() {
        let mut set = EcsSet::EMPTY;
        for field in [Ecs::OurUserType, Ecs::EventId, Ecs::UserId] {
            set.insert(field);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [Ecs::EventId, Ecs::UserId, Ecs::OurUserType]);
        set.remove(Ecs::UserId);
        assert!(!set.contains(Ecs::UserId) && set.contains(Ecs::EventId));
    }

    #[test]
    fn what_is_not_of_ecs_says_so() {
        for field in Ecs::ALL {
            assert_eq!(field.origin() == Origin::Ours, field.path().starts_with("auditferry."), "{}", field.path());
        }
    }
}
