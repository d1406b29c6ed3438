//! What a sink is shown of an event: all of it, or what `drop_fields`, `hash_fields` and `add_fields` leave. Once
//! for all kinds of sinks, around them, so that none of them can send what it was not shown.
//!
//! Comes in: an event. Goes out: the same event with an edited body to the sink, and to a dead letter what the
//! sink would have got. Never shows the record where the edit fails: then the key alone.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::ExposeSecret;

use super::template::Template;
use super::{Accepted, AnySink, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::config::{EditConfig, Format, SinkConfig};
use crate::edit::{FieldPath, KEY_BYTES, Plan, Pseudonyms};
use crate::event::Event;
use crate::normalize::{Form, Profile};

/// A sink and what it is shown.
pub struct ShapedSink {
    sink: AnySink,
    /// `None`: everything.
    shape: Option<Shape>,
    /// Where it is given what it was shown before: as what a dead letter keeps that.
    shown_as: Option<(Format, Form)>,
}

/// What a dead letter keeps of an event that was edited for its sink.
pub struct Kept {
    pub format: Format,
    /// Of an ECS document.
    pub profile: Profile,
    /// One JSON object.
    pub json: Vec<u8>,
}

struct Shape {
    sink: String,
    format: Format,
    form: Form,
    /// For what the sink is usually sent, and for the document of a record that could not be read.
    plan: Plan,
    unreadable: Plan,
    added: Vec<Template>,
    /// The last edited body's allocation.
    body: Mutex<Vec<u8>>,
    warned: AtomicBool,
}

impl ShapedSink {
    pub(super) fn new(config: &SinkConfig, sink: AnySink) -> Result<ShapedSink, SinkBuildError> {
        let shape = if config.edit.is_empty() { None } else { Some(Shape::new(config)?) };
        Ok(ShapedSink { sink, shape, shown_as: None })
    }

    /// The configuration of the same sink for what was edited for it, as a dead letter has it: fields are dropped that
    /// it may not see by now, nothing is hashed or added twice.
    pub fn config_again(config: &SinkConfig) -> SinkConfig {
        let edit = EditConfig { drop: config.edit.drop.clone(), ..Default::default() };
        SinkConfig { edit, ..config.clone() }
    }

    /// The sink, built from the configuration that [`config_again`](Self::config_again) makes, for events whose body was
    /// edited before: what is refused again is kept as what it is.
    pub fn again(self, config: &SinkConfig) -> ShapedSink {
        ShapedSink { shown_as: Some((config.format, config.form())), ..self }
    }
}

impl Shape {
    fn new(config: &SinkConfig) -> Result<Shape, SinkBuildError> {
        let (edit, sink) = (&config.edit, || config.name.clone());
        let (mut hashed, mut pseudonyms) = (&[][..], None);
        if let Some(hash) = &edit.hash {
            let key = hash.key.read().map_err(|source| SinkBuildError::Secret { sink: sink(), source })?;
            let bytes = key.expose_secret().as_bytes();
            let short = || SinkBuildError::ShortKey { sink: sink(), bytes: bytes.len(), least: KEY_BYTES };
            pseudonyms = Some(Pseudonyms::new(bytes).ok_or_else(short)?);
            hashed = &hash.fields;
        }
        let paths: Vec<FieldPath> = edit.add.iter().map(|(path, _)| path.clone()).collect();
        let parse = |text: &String| {
            let wrong = |source| SinkBuildError::Template { sink: sink(), field: "add_fields", source };
            Template::parse(text).map_err(wrong)
        };
        let make = match config.format {
            Format::Raw => Plan::of_record,
            // The configuration refuses edits of what is no JSON.
            Format::Ecs | Format::Cef | Format::Leef => Plan::of_document,
        };
        Ok(Shape {
            unreadable: Plan::of_unreadable(edit.takes_away(), &paths),
            plan: make(&edit.drop, hashed, &paths, pseudonyms),
            added: edit.add.iter().map(|(_, text)| parse(text)).collect::<Result<_, _>>()?,
            sink: sink(),
            format: config.format,
            form: config.form(),
            body: Mutex::default(),
            warned: AtomicBool::new(false),
        })
    }

    /// Appends the event's body as the sink is to see it.
    fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let (plan, json) = match (self.format, event.meta.readable) {
            (Format::Raw, true) => (&self.plan, event.raw()),
            (_, true) => (&self.plan, event.doc(self.form)),
            (_, false) => (&self.unreadable, event.doc(self.form)),
        };
        let added = |number: usize, out: &mut Vec<u8>| {
            out.push(b'"');
            if let Some(template) = self.added.get(number) {
                template.render(event, out);
            }
            out.push(b'"');
        };
        if let Err(error) = plan.apply(json, &added, out) {
            out.extend_from_slice(b"{\"auditferry\":{\"key\":\"");
            out.extend_from_slice(&event.meta.key.to_hex());
            out.extend_from_slice(
                b"\"},\"error\":{\"message\":\"the fields of this record could not be edited, so none is shown\"}}",
            );
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::error!(sink = %self.sink, key = %event.meta.key, %error,
                    "a record could not be edited and left without its fields; this is a fault of auditferry and is said once");
            }
        }
    }
}

impl Sink for ShapedSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let Some(shape) = &self.shape else { return self.sink.encode(event, out) };
        let mut body = std::mem::take(&mut *shape.body.lock().unwrap_or_else(PoisonError::into_inner));
        body.clear();
        shape.write(event, &mut body);
        self.sink.encode(&event.edited(&body), out);
        *shape.body.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }

    fn kept(&self, event: &Event<'_>) -> Option<Kept> {
        let profile_of = |form| if let Form::Ecs(profile) = form { profile } else { Profile::default() };
        if let Some(shape) = &self.shape {
            let mut json = Vec::new();
            shape.write(event, &mut json);
            let format = if event.meta.readable { shape.format } else { Format::Ecs };
            return Some(Kept { format, profile: profile_of(shape.form), json });
        }
        let (format, form) = self.shown_as?;
        let json = if format == Format::Raw { event.raw() } else { event.doc(form) };
        Some(Kept { format, profile: profile_of(form), json: json.to_vec() })
    }

    fn serial(&self) -> bool {
        self.sink.serial()
    }

    fn in_the_air(&self, configured: usize) -> usize {
        self.sink.in_the_air(configured)
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        self.sink.send(batch).await
    }

    async fn probe(&self) -> Result<(), SendError> {
        self.sink.probe().await
    }

    async fn close(&self) {
        self.sink.close().await;
    }
}

#[cfg(test)]
mod tests;
