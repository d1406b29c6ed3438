//! `normalize`: audit records from files or standard input, one line each on standard output.
//!
//! Comes in: JSON one a line, in an array, printed prettily or as the bodies of blobs, also with what a service or a
//! shell puts around records, and the CSV exports of the portal; packed with gzip or not, in any mix. Goes out: the same bytes that a sink of that format would
//! be sent, in order; on stderr what could not be read, and a bar for long files. No network, no state,
//! and never a whole file in memory.

mod audit_data;
mod elements;
mod faults;
mod input;
mod lines;
mod other_table;
mod portal;
mod progress;
mod settings;
#[cfg(feature = "failpoints")]
pub(super) mod trial;
mod utf16;
mod window;
mod wrapper;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use super::Exit;
use crate::config::{Fault, load_parts};
use crate::normalize::Profile;
use faults::Faults;
use input::Input;
use lines::{Lines, OutputFormat};
use settings::Settings;

/// Turn audit records into what a sink would be sent, without a network.
#[derive(Debug, clap::Args)]
pub struct NormalizeArgs {
    /// Files with audit records: JSON in any form, or the portal's CSV export; gzip too. `-` or none: standard input.
    /// Lists in an object (`{"value":[…]}`) and records in the member `AuditData` of one (Search-UnifiedAuditLog |
    /// ConvertTo-Json, Microsoft Graph) are taken out of it
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = OutputFormat::Ecs)]
    pub format: OutputFormat,
    /// Whose habits ECS documents follow, in place of what the configuration says; with `--format ecs` only
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// Configuration to take `tenants`, `tenants_from` (names and ids), `normalize` and `enrich` from; the rest is not read
    #[arg(short, long, value_name = "FILE", env = "AUDITFERRY_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Does it, on standard output. Exit code 0 when everything could be read, else 1; the output has all the rest
/// in both cases. [`Exit::Usage`], and nothing else, where the configuration cannot be read.
///
/// # Errors
/// An option that would have no effect, or standard output cannot be written.
pub fn run(args: &NormalizeArgs) -> anyhow::Result<Exit> {
    if args.profile.is_some() && args.format != OutputFormat::Ecs {
        anyhow::bail!(
            "`--profile` says how ECS documents are written; with another `--format` than `ecs` leave it out"
        );
    }
    let parts = match args.config.as_deref().map(load_parts).transpose() {
        Ok(found) => {
            let (parts, warnings) = found.unwrap_or_default();
            warnings.iter().for_each(Fault::log);
            parts
        }
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(Exit::Usage);
        }
    };
    let mut settings = Settings::of(parts);
    settings.profile = args.profile.unwrap_or(settings.profile);
    let bar = progress::bar(&args.files);
    let mut verb = Verb {
        lines: Lines::new(args.format, settings),
        faults: Faults::new(io::stderr(), bar.clone()),
        out: BufWriter::with_capacity(256 * 1024, io::stdout().lock()),
    };
    let standard_input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &standard_input[..] } else { &args.files };
    let done = files.iter().try_for_each(|path| {
        if path.as_os_str() == "-" {
            return verb.input(&"stdin", bar.wrap_read(io::stdin().lock()));
        }
        match File::open(path) {
            Ok(file) => verb.input(&path.display(), bar.wrap_read(file)),
            Err(error) => {
                verb.faults.broken(&path.display(), None, &error);
                Ok(())
            }
        }
    });
    let done = done.and_then(|()| verb.out.flush());
    match (done, verb.faults.finish()) {
        (Ok(()), false) => Ok(Exit::Good),
        (Ok(()), true) => Ok(Exit::No),
        // The reader has seen enough (`| head`).
        (Err(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Good),
        (Err(error), _) => Err(error.into()),
    }
}

/// What all inputs share.
struct Verb<O, E> {
    lines: Lines,
    faults: Faults<E>,
    out: O,
}

impl<O: Write, E: Write> Verb<O, E> {
    /// Writes one line an element of one input.
    ///
    /// # Errors
    /// Of the output; what is wrong with the input is a fault.
    fn input(&mut self, name: &dyn std::fmt::Display, reader: impl Read) -> io::Result<()> {
        let mut input = match Input::new(reader) {
            Ok(input) => input,
            Err(error) => {
                self.faults.broken(name, None, &error);
                return Ok(());
            }
        };
        let mut line = Vec::new();
        while let Some(element) = input.next_element() {
            line.clear();
            if let Err(reason) = self.lines.write(element.bytes, element.remark, &mut line) {
                self.faults.unreadable(name, element.line, &reason);
            }
            line.push(b'\n');
            self.out.write_all(&line)?;
        }
        if let Some((line, error)) = input.failure() {
            self.faults.broken(name, Some(line), &error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressBar;
    use serde_json::Value;
    use std::collections::HashMap;

    /// The lines of output, what is said of faults, and whether there were any.
    fn normalized(format: OutputFormat, inputs: &[&str]) -> (Vec<Value>, String, bool) {
        let settings =
            Settings { names: HashMap::from([("aa00".to_owned(), "contoso".to_owned())]), ..Settings::default() };
        let (mut out, mut said) = (Vec::new(), Vec::new());
        let faults = Faults::new(&mut said, ProgressBar::hidden());
        let mut verb = Verb { lines: Lines::new(format, settings), faults, out: &mut out };
        for (index, input) in inputs.iter().enumerate() {
            verb.input(&format!("file{index}"), input.as_bytes()).unwrap();
        }
        let any = verb.faults.finish();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines, String::from_utf8(said).unwrap(), any)
    }

    const INPUT: &str = "{\"Id\":\"1\",\n \"OrganizationId\":\"AA00\",\"CreationTime\":\"2026-01-02T03:04:05\"}\n{\"Id\":NaN}\n[{\"Id\":\"3\"}]";

    #[test]
    fn ecs_is_in_order_with_the_tenants_name_and_counts_what_is_unreadable() {
        let (lines, said, any) = normalized(OutputFormat::Ecs, &[INPUT]);
        assert_eq!((lines.len(), any), (3, true));
        assert_eq!((&lines[0]["event"]["id"], &lines[2]["event"]["id"]), (&"1".into(), &"3".into()));
        assert_eq!(lines[0]["organization"]["name"], "contoso");
        assert_eq!(lines[1]["event"]["original"], "{\"Id\":NaN}");
        let expected = "file0:3: not a JSON object: expected value at line 1 column 7 of the record\n";
        assert!(said.starts_with(expected), "{said}");
    }

    #[test]
    fn raw_is_the_record_and_hec_has_it_inside() {
        let (raw, _, _) = normalized(OutputFormat::Raw, &[INPUT]);
        assert_eq!(raw[0], serde_json::json!({"Id":"1","OrganizationId":"AA00","CreationTime":"2026-01-02T03:04:05"}));
        let (hec, _, _) = normalized(OutputFormat::Hec, &[INPUT]);
        assert_eq!(hec[0]["event"], raw[0]);
        assert_eq!(hec[0]["time"], 1_767_323_045.0);
        assert_eq!(hec[0]["fields"]["tenant"], "contoso");
        assert_eq!(hec[1]["sourcetype"], "auditferry:ecs");
        assert_eq!(hec[1]["event"]["event"]["kind"], "pipeline_error");
    }

    #[test]
    fn a_row_that_was_cut_is_named_with_its_file_and_line_and_all_others_are_done() {
        let export = "a,AuditData\n1,\"{\"\"Id\"\":\"\"1\"\"}\"\n2,\"{\"\"Id\n3,\"{\"\"Id\"\":\"\"3\"\"}\"\n4,\n";
        let (lines, said, any) = normalized(OutputFormat::Raw, &[export, "{\"Id\":\"5\"}"]);
        assert_eq!((lines.len(), any), (5, true));
        assert_eq!((&lines[2]["Id"], &lines[4]["Id"]), (&"3".into(), &"5".into()));
        assert_eq!(lines[1]["event"]["original"], "2,\"{\"\"Id");
        assert!(said.contains("file0:3: the quotes of this CSV row"), "{said}");
        assert!(said.contains("file0:5: this CSV row has nothing in the column `AuditData`"), "{said}");
    }

    #[test]
    fn what_can_all_be_read_is_done_in_silence() {
        assert_eq!(normalized(OutputFormat::Raw, &["{}", "[]"]), (vec![serde_json::json!({})], String::new(), false));
    }
}
