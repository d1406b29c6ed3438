//! Record to ECS document, pure: no IO, no state, cannot fail.
//!
//! Comes in: a [`View`] of one record and where it came from. Goes out: one JSON object on one line, appended to
//! the caller's buffer. [`base`] finds the facts every record shares, one file a [`family`] adds its own,
//! [`profile`] changes them where Elastic's habits are asked for, [`document`](mod@document) writes them in the order
//! of the table of fields ([`ecs`]); everything without a place in ECS goes out under `o365.audit` (`rest`).
//! What the record does not say is not written. Mapping: ecs-mapping and docs of ECS 8.17; docs/fields.md is
//! made of the rules here.

mod alerts;
pub mod base;
mod cef;
mod cmdlet;
mod copilot;
mod defender;
mod distinct;
mod dlp;
mod document;
mod draft;
pub mod ecs;
mod entra;
mod exchange_admin;
pub mod family;
mod flat;
mod generic;
pub mod hec;
mod identity;
mod investigation;
mod json;
mod leef;
mod location;
mod mailbox;
mod name_value;
mod nested;
pub mod operations;
mod pipeline_error;
mod power_platform;
pub mod profile;
mod purview;
mod quarantine;
mod related;
pub mod rest;
mod sharepoint;
mod sign_in;
mod teams;
mod verb;
mod viva;

use std::net::IpAddr;

use bumpalo::Bump;

use crate::enrich::Enricher;
use crate::feed::ContentType;
use crate::record::{RecordKey, View};

pub use draft::Outcome;
use draft::{Draft, Value};
use ecs::Ecs;
pub use flat::{ERROR_SEVERITY, ErrorKey, Key};
pub use profile::Profile;

/// Where a record came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Directory id of the feed, lower-case GUID; empty if not known.
    pub tenant_id: &'a str,
    /// The configured name, for `organization.name`; empty if not known.
    pub tenant_name: &'a str,
    pub content_type: Option<ContentType>,
    /// When the record reached us, milliseconds since 1970 UTC. ECS has this as `@timestamp` of what
    /// carries no time of its own; `None` leaves it out.
    pub received_ms: Option<i64>,
    /// Whether `event.original` holds the whole record once more, as a text.
    pub original: bool,
    /// Where places and parts of user agents are looked up; `None`: nowhere.
    pub enrich: Option<&'a Enricher>,
}

/// Memory that documents are made in, used again from one record to the next. For one thread at a time.
#[derive(Debug, Default)]
pub struct Scratch {
    arena: Bump,
}

/// A scratch that a large record has made larger than this is not kept, bytes.
const KEPT_SCRATCH: usize = 256 * 1024;

/// How far [`Scratch::document_until`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// What is known of the record; nothing is written.
    Draft,
    /// The ECS fields, without what has no place in ECS.
    Fields,
    Whole,
}

impl Scratch {
    /// Appends the ECS document of a record: one JSON object, no newline.
    pub fn document(
        &mut self,
        context: &Context<'_>,
        profile: Profile,
        key: RecordKey,
        view: &View<'_>,
        out: &mut Vec<u8>,
    ) {
        self.document_until(Step::Whole, context, profile, key, view, out);
    }

    /// The first steps of a document, for who measures where the time goes.
    pub fn document_until(
        &mut self,
        step: Step,
        context: &Context<'_>,
        profile: Profile,
        key: RecordKey,
        view: &View<'_>,
        out: &mut Vec<u8>,
    ) {
        let arena = self.cleared();
        let mut draft = drawn(context, profile, view, arena);
        if let Some(content_type) = context.content_type {
            draft.set(Ecs::OurContentType, Value::Text(content_type.as_str()));
        }
        if context.original {
            draft.set(Ecs::EventOriginal, Value::Record);
        }
        let key = arena.alloc_slice_copy(&key.to_hex());
        draft.set_text(Ecs::OurKey, std::str::from_utf8(key).ok());
        if step > Step::Draft {
            document::write(context, &draft, profile.ecs_version(), step, out);
        }
    }

    /// Appends a record in a form, on one line without its end.
    pub fn write(&mut self, form: Form, context: &Context<'_>, key: RecordKey, view: &View<'_>, out: &mut Vec<u8>) {
        if let Form::Ecs(profile) = form {
            return self.document(context, profile, key, view, out);
        }
        let draft = drawn(context, Profile::Auditferry, view, self.cleared());
        match form {
            Form::Leef => leef::write(context, key, &draft, out),
            // ECS has gone its own way above.
            Form::Cef | Form::Ecs(_) => cef::write(context, key, &draft, out),
        }
    }

    fn cleared(&mut self) -> &Bump {
        match self.arena.allocated_bytes() > KEPT_SCRATCH {
            true => self.arena = Bump::new(),
            false => self.arena.reset(),
        }
        &self.arena
    }
}

/// The same as [`Scratch::document`], for one record alone.
pub fn document(context: &Context<'_>, profile: Profile, key: RecordKey, view: &View<'_>, out: &mut Vec<u8>) {
    Scratch::default().document(context, profile, key, view, out);
}

/// What a record may be written as, beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One ECS document.
    Ecs(Profile),
    /// One message of ArcSight's Common Event Format.
    Cef,
    /// One message of IBM's Log Event Extended Format.
    Leef,
}

impl Form {
    pub const COUNT: usize = 4;
    /// All of them, each at [`Form::place`].
    pub const ALL: [Form; Form::COUNT] =
        [Form::Ecs(Profile::Auditferry), Form::Ecs(Profile::Elastic), Form::Cef, Form::Leef];

    pub const fn place(self) -> usize {
        match self {
            Form::Ecs(Profile::Auditferry) => 0,
            Form::Ecs(Profile::Elastic) => 1,
            Form::Cef => 2,
            Form::Leef => 3,
        }
    }
}

/// The keys of a form that is a message, in their order.
pub fn keys(form: Form) -> &'static [Key] {
    match form {
        Form::Ecs(_) => &[],
        Form::Cef => cef::KEYS,
        Form::Leef => leef::KEYS,
    }
}

/// The keys of the message of what is no record, in their order.
pub fn error_keys(form: Form) -> &'static [ErrorKey] {
    match form {
        Form::Ecs(_) => &[],
        Form::Cef => &cef::ERROR_KEYS,
        Form::Leef => &leef::ERROR_KEYS,
    }
}

/// The same as [`Scratch::write`], for one record alone.
pub fn write(form: Form, context: &Context<'_>, key: RecordKey, view: &View<'_>, out: &mut Vec<u8>) {
    Scratch::default().write(form, context, key, view, out);
}

/// Appends what is no readable record, in a form: an ECS document holds all of it, a message of the others its beginning.
pub fn write_error(form: Form, context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    match form {
        Form::Ecs(_) => pipeline_error(context, key, record, reason, out),
        Form::Cef => cef::write_error(context, key, record, reason, out),
        Form::Leef => leef::write_error(context, key, record, reason, out),
    }
}

/// All that is known of a record.
fn drawn<'a>(context: &Context<'a>, profile: Profile, view: &'a View<'a>, arena: &'a Bump) -> Draft<'a> {
    let mut draft = Draft::new(view, arena);
    base::describe(context, &mut draft);
    family::describe(&mut draft);
    base::finish(&mut draft);
    if profile == Profile::Elastic {
        profile::apply_elastic(&mut draft);
    }
    related::gather(&mut draft, profile == Profile::Elastic);
    if profile == Profile::Elastic {
        profile::HOSTS.iter().for_each(|field| related::add_all(&mut draft, Ecs::RelatedHosts, *field, true));
    }
    if let Some(outcome) = draft.outcome {
        draft.set(Ecs::EventOutcome, Value::Text(outcome.as_str()));
    }
    draft
}

/// Appends the document of something that is no readable record: whole, as a string. `record` is any bytes.
pub fn pipeline_error(context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    pipeline_error::write(context, key, record, reason, out);
}

/// Appends a readable record as it was sent, on one line: white space between tokens that would break
/// the line becomes blanks.
pub fn raw(view: &View<'_>, out: &mut Vec<u8>) {
    json::one_line(view.record().trim_ascii(), out);
}

/// What `event.outcome` of the record's document says (profile `auditferry`), without writing one.
pub fn outcome(view: &View<'_>) -> Option<Outcome> {
    drawn(&Context::default(), Profile::Auditferry, view, &Bump::new()).outcome
}

/// How grave the record is, as its CEF message says it, without writing one.
pub fn severity(view: &View<'_>) -> u8 {
    let (context, arena) = (Context::default(), Bump::new());
    let draft = drawn(&context, Profile::Auditferry, view, &arena);
    flat::Facts { context: &context, key: RecordKey::default(), draft: &draft }.severity()
}

/// What `source.ip` of the record's document says (profile `auditferry`), without writing one.
pub fn source_ip(view: &View<'_>) -> Option<IpAddr> {
    match drawn(&Context::default(), Profile::Auditferry, view, &Bump::new()).get(Ecs::SourceIp) {
        Some(Value::Ip(ip)) => Some(ip),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
