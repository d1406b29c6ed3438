//! One element, one line: what a sink of that format would be sent.
//!
//! Comes in: the bytes of an element. Goes out: a line without its end, and what is wrong with the element
//! if it is no record. What is no record becomes a pipeline error in every format, so that nothing is dropped.

use clap::ValueEnum;

use super::portal::Remark;
use super::settings::Settings;
use crate::normalize::{self, Context, Form, Scratch, hec};
use crate::record::{Field, RecordKey, View, ViewBuffer};

/// What a line of output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// ECS documents
    Ecs,
    /// Records as Microsoft sent them
    Raw,
    /// Messages of ArcSight's Common Event Format
    Cef,
    /// Messages of IBM's Log Event Extended Format 2.0
    Leef,
    /// Records in the envelope of Splunk's HTTP Event Collector
    Hec,
}

/// What is kept from one record to the next.
pub struct Lines {
    format: OutputFormat,
    settings: Settings,
    buffer: ViewBuffer,
    scratch: Scratch,
    event: Vec<u8>,
}

impl Lines {
    pub fn new(format: OutputFormat, settings: Settings) -> Lines {
        Lines { format, settings, buffer: ViewBuffer::default(), scratch: Scratch::default(), event: Vec::new() }
    }

    /// Appends the line of an element.
    ///
    /// # Errors
    /// Why it is no record; the line is then that of a pipeline error. `remark` is said with it.
    pub fn write(&mut self, element: &[u8], remark: Option<Remark>, line: &mut Vec<u8>) -> Result<(), String> {
        if let Some(remark @ Remark::NoRecordInside) = remark {
            self.unreadable(element, remark.text(), line);
            return Err(remark.text().to_owned());
        }
        let reason = match View::parse_in(element, std::mem::take(&mut self.buffer)) {
            Ok(view) => {
                self.readable(&view, line);
                self.buffer = view.into_buffer();
                return Ok(());
            }
            Err(error) => match remark {
                Some(remark) => format!("{}; {error}", remark.text()),
                None => error.to_string(),
            },
        };
        self.unreadable(element, &reason, line);
        Err(reason)
    }

    fn readable(&mut self, view: &View<'_>, line: &mut Vec<u8>) {
        let tenant_id = view.string(Field::OrganizationId).unwrap_or_default().to_ascii_lowercase();
        let tenant_name = self.settings.names.get(&tenant_id).map_or("", String::as_str);
        let Settings { original, enricher, .. } = &self.settings;
        let (original, enrich) = (*original, enricher.as_deref());
        let context = Context { tenant_id: &tenant_id, tenant_name, original, enrich, ..Context::default() };
        let key = RecordKey::of(&tenant_id, view);
        match self.format {
            OutputFormat::Ecs => self.scratch.write(Form::Ecs(self.settings.profile), &context, key, view, line),
            OutputFormat::Cef => self.scratch.write(Form::Cef, &context, key, view, line),
            OutputFormat::Leef => self.scratch.write(Form::Leef, &context, key, view, line),
            OutputFormat::Raw => normalize::raw(view, line),
            OutputFormat::Hec => {
                self.event.clear();
                normalize::raw(view, &mut self.event);
                let envelope = hec::Envelope {
                    time_ms: view.creation_time_ms(),
                    source: hec::SOURCE,
                    sourcetype: hec::SOURCETYPE,
                    key,
                    tenant_name,
                    ..hec::Envelope::default()
                };
                envelope.write(&self.event, line);
            }
        }
    }

    fn unreadable(&mut self, element: &[u8], reason: &str, line: &mut Vec<u8>) {
        let key = RecordKey::of_bytes("", element);
        let context = Context::default();
        let form = match self.format {
            OutputFormat::Cef => Form::Cef,
            OutputFormat::Leef => Form::Leef,
            OutputFormat::Ecs | OutputFormat::Raw | OutputFormat::Hec => Form::Ecs(self.settings.profile),
        };
        if self.format != OutputFormat::Hec {
            return normalize::write_error(form, &context, key, element, reason, line);
        }
        self.event.clear();
        normalize::write_error(form, &context, key, element, reason, &mut self.event);
        let sourcetype = hec::ECS_SOURCETYPE;
        hec::Envelope { source: hec::SOURCE, sourcetype, key, ..hec::Envelope::default() }.write(&self.event, line);
    }
}
