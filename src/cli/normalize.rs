//! `normalize`: audit records from files or standard input, one line each on standard output.
//!
//! Comes in: NDJSON, a JSON array, or JSON printed prettily one after the other. Goes out: the same
//! bytes that a sink of that format would be sent, in order. No network, no state. What cannot be
//! read becomes a pipeline-error document and is counted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::Exit;
use super::elements::Elements;
use crate::normalize::{self, Context, Profile, Scratch, hec};
use crate::record::{Field, RecordKey, View, ViewBuffer};

/// Turn audit records into what a sink would be sent, without a network.
#[derive(Debug, clap::Args)]
pub struct NormalizeArgs {
    /// Files with audit records: one a line, an array, or printed prettily; `-` or none: standard input
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = OutputFormat::Ecs)]
    pub format: OutputFormat,
    /// Whose habits the documents follow
    #[arg(long, value_enum, default_value_t = Profile::Auditferry)]
    pub profile: Profile,
    /// Configuration to take the names of the tenants from; the rest of it may be missing
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What a line of output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// ECS documents
    Ecs,
    /// Records as Microsoft sent them
    Raw,
    /// Records in the envelope of Splunk's HTTP Event Collector
    Hec,
}

/// Does it, on standard output. Exit code 0 when everything could be read, else 1; the output is
/// complete in both cases.
///
/// # Errors
/// A file or the configuration cannot be read, or standard output cannot be written.
pub fn run(args: &NormalizeArgs) -> anyhow::Result<Exit> {
    let names = match &args.config {
        Some(path) => tenant_names(path)?,
        None => HashMap::new(),
    };
    let mut out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let result = normalize_all(args, names, &mut out);
    match result.and_then(|unreadable| out.flush().map(|()| unreadable).map_err(anyhow::Error::from)) {
        Ok(0) => Ok(Exit::Good),
        Ok(unreadable) => {
            writeln!(
                io::stderr(),
                "{unreadable} could not be read as audit records; see `error.message` in the output"
            )?;
            Ok(Exit::No)
        }
        // The reader has seen enough (`| head`).
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Good),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn normalize_all(args: &NormalizeArgs, names: HashMap<String, String>, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut lines = Lines {
        format: args.format,
        profile: args.profile,
        names,
        buffer: ViewBuffer::default(),
        scratch: Scratch::default(),
        event: Vec::new(),
    };
    if args.files.is_empty() {
        return lines.normalize(io::stdin().lock(), out);
    }
    let mut unreadable = 0;
    for path in &args.files {
        unreadable += if path.as_os_str() == "-" {
            lines.normalize(io::stdin().lock(), out)?
        } else {
            let cannot_read = || format!("cannot read `{}`", path.display());
            let file = File::open(path).with_context(cannot_read)?;
            lines.normalize(file, out)?
        };
    }
    Ok(unreadable)
}

/// What is kept from one record to the next.
struct Lines {
    format: OutputFormat,
    profile: Profile,
    /// Names of the tenants by directory id.
    names: HashMap<String, String>,
    buffer: ViewBuffer,
    scratch: Scratch,
    event: Vec<u8>,
}

impl Lines {
    /// Writes one line an element and says how many could not be read.
    fn normalize(&mut self, input: impl Read, out: &mut impl Write) -> anyhow::Result<u64> {
        let mut elements = Elements::new(input);
        let mut line = Vec::new();
        let mut unreadable = 0;
        while let Some(element) = elements.next_element()? {
            line.clear();
            match View::parse_in(element, std::mem::take(&mut self.buffer)) {
                Ok(view) => {
                    self.readable(&view, &mut line);
                    self.buffer = view.into_buffer();
                }
                Err(error) => {
                    unreadable += 1;
                    self.unreadable(element, &error.to_string(), &mut line);
                }
            }
            line.push(b'\n');
            out.write_all(&line)?;
        }
        Ok(unreadable)
    }

    fn readable(&mut self, view: &View<'_>, line: &mut Vec<u8>) {
        let tenant_id = view.string(Field::OrganizationId).unwrap_or_default().to_ascii_lowercase();
        let tenant_name = self.names.get(&tenant_id).map_or("", String::as_str);
        let context = Context { tenant_id: &tenant_id, tenant_name, ..Context::default() };
        let key = RecordKey::of(&tenant_id, view);
        match self.format {
            OutputFormat::Ecs => self.scratch.document(&context, self.profile, key, view, line),
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
        if self.format != OutputFormat::Hec {
            return normalize::pipeline_error(&Context::default(), key, element, reason, line);
        }
        self.event.clear();
        normalize::pipeline_error(&Context::default(), key, element, reason, &mut self.event);
        let sourcetype = hec::ECS_SOURCETYPE;
        hec::Envelope { source: hec::SOURCE, sourcetype, key, ..hec::Envelope::default() }.write(&self.event, line);
    }
}

/// The part of a configuration that is read here; everything else may be there or not.
#[derive(Deserialize)]
struct Tenants {
    #[serde(default)]
    tenants: Vec<NamedTenant>,
}

#[derive(Deserialize)]
struct NamedTenant {
    name: Option<String>,
    tenant_id: Option<String>,
}

fn tenant_names(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let tenants: Tenants =
        serde_saphyr::from_str(&text).with_context(|| format!("cannot take the tenants from `{}`", path.display()))?;
    let named = tenants.tenants.into_iter().filter_map(|t| Some((t.tenant_id?.to_ascii_lowercase(), t.name?)));
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn lines(format: OutputFormat, input: &str) -> (Vec<Value>, u64) {
        let names = HashMap::from([("aa00".to_owned(), "contoso".to_owned())]);
        let mut lines = Lines {
            format,
            profile: Profile::Auditferry,
            names,
            buffer: ViewBuffer::default(),
            scratch: Scratch::default(),
            event: Vec::new(),
        };
        let mut out = Vec::new();
        let unreadable = lines.normalize(input.as_bytes(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), unreadable)
    }

    const INPUT: &str = "{\"Id\":\"1\",\n \"OrganizationId\":\"AA00\",\"CreationTime\":\"2026-01-02T03:04:05\"}\n{\"Id\":NaN}\n[{\"Id\":\"3\"}]";

    #[test]
    fn ecs_is_in_order_with_the_tenants_name_and_counts_what_is_unreadable() {
        let (lines, unreadable) = lines(OutputFormat::Ecs, INPUT);
        assert_eq!((lines.len(), unreadable), (3, 1));
        assert_eq!((&lines[0]["event"]["id"], &lines[2]["event"]["id"]), (&"1".into(), &"3".into()));
        assert_eq!(lines[0]["organization"]["name"], "contoso");
        assert_eq!(lines[1]["event"]["original"], "{\"Id\":NaN}");
    }

    #[test]
    fn raw_is_the_record_and_hec_has_it_inside() {
        let (raw, _) = lines(OutputFormat::Raw, INPUT);
        assert_eq!(raw[0], serde_json::json!({"Id":"1","OrganizationId":"AA00","CreationTime":"2026-01-02T03:04:05"}));
        let (hec, _) = lines(OutputFormat::Hec, INPUT);
        assert_eq!(hec[0]["event"], raw[0]);
        assert_eq!(hec[0]["time"], 1_767_323_045.0);
        assert_eq!(hec[0]["fields"]["tenant"], "contoso");
        assert_eq!(hec[1]["sourcetype"], "auditferry:ecs");
        assert_eq!(hec[1]["event"]["event"]["kind"], "pipeline_error");
    }

    #[test]
    fn a_configuration_needs_only_the_tenants() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.yaml");
        std::fs::write(
            &path,
            "tenants:\n  - { name: contoso, tenant_id: AA00, other: [1] }\n  - { name: x }\nsinks: 5\n",
        )
        .unwrap();
        assert_eq!(tenant_names(&path).unwrap(), HashMap::from([("aa00".to_owned(), "contoso".to_owned())]));
        assert!(tenant_names(&directory.path().join("none")).is_err());
    }
}
