//! Files → [`Config`]: reads the file and the directory of tenants, and hands everything to the
//! check. Comes in: a path. Goes out: the configuration and its warnings, or all faults of all files.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::check::check;
use super::faults::{ConfigFaults, Fault, Place, Reader, Severity};
use super::file::{File, TenantFile};
use super::inputs::Inputs;
use super::tree::{Node, Value, parse};
use super::values::FromNode;
use crate::config::{CertificateConfig, Config, SinkConfig};

/// A configuration that may run, and what is still worth a word.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Fault>,
    /// Certificates of applications, for whoever can read one.
    pub certificates: Vec<WrittenCertificate>,
}

impl Loaded {
    /// Says the warnings in the log.
    pub fn log_warnings(&self) {
        self.warnings.iter().for_each(Fault::log);
    }
}

/// A certificate and where it was written. The configuration looks into none.
#[derive(Debug)]
pub struct WrittenCertificate {
    pub files: CertificateConfig,
    place: Place,
    snippet: String,
}

impl WrittenCertificate {
    /// A fault of it, at its place. `text` ends with what to do.
    pub fn fault(&self, text: String) -> Fault {
        let (place, snippet) = (self.place.clone(), self.snippet.clone());
        let (text, hint) = text.split_once("; ").unwrap_or((&text, ""));
        Fault { place, severity: Severity::Error, text: text.to_owned(), hint: hint.to_owned(), snippet }
    }
}

/// Reads `path` and what it refers to; warnings go to the log. The error holds every fault found.
pub fn load(path: &Path) -> Result<Config, ConfigFaults> {
    let loaded = load_with_warnings(path)?;
    loaded.log_warnings();
    Ok(loaded.config)
}

/// As [`load`], with the warnings handed over instead of logged.
pub fn load_with_warnings(path: &Path) -> Result<Loaded, ConfigFaults> {
    load_with_inputs(path).1
}

/// As [`load_with_warnings`], and what was read on the way, whether it was good or not: it tells when to read again.
pub fn load_with_inputs(path: &Path) -> (Inputs, Result<Loaded, ConfigFaults>) {
    let variables = |name: &str| std::env::var(name).ok();
    let mut reader = Reader::new(&variables);
    let config = read_file(0, path, &mut reader).and_then(|root| read(&root, &mut reader));
    if let Some(config) = config.as_ref().filter(|config| config.state_topic.is_none()) {
        warn_of_memory(&config.state.dir, &Place::whole(0, &Arc::from(path.to_string_lossy())), &mut reader);
    }
    let mut inputs = std::mem::take(&mut reader.inputs);
    for path in config.iter().flat_map(|config| &config.sinks).flat_map(SinkConfig::files) {
        inputs.note(path);
    }
    (inputs, finish(config, reader))
}

/// Reads a text that is called `name` in faults.
pub fn load_str(name: &str, text: &str) -> Result<Config, ConfigFaults> {
    load_text(name, text, &|variable| std::env::var(variable).ok()).map(|loaded| loaded.config)
}

/// As [`load_str`], with the variables given, for tests and for the demo.
pub(super) fn load_text(
    name: &str,
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigFaults> {
    let mut reader = Reader::new(variables);
    reader.text(0, text);
    let config = parse(0, &Arc::from(name), text, &mut reader).and_then(|root| read(&root, &mut reader));
    finish(config, reader)
}

fn finish(config: Option<Config>, mut reader: Reader<'_>) -> Result<Loaded, ConfigFaults> {
    if config.is_none() && reader.faults.is_empty() {
        reader.fault(&Place::default(), "the configuration could not be read", "");
    }
    let written = |(files, place): (CertificateConfig, Place)| {
        let snippet = reader.snippet(&place, &format!("`{}`", files.file.display()));
        WrittenCertificate { files, place, snippet }
    };
    let certificates = reader.certificates.iter().cloned().map(written).collect();
    let warnings = reader.finish()?;
    match config {
        Some(config) => Ok(Loaded { config, warnings, certificates }),
        None => Err(ConfigFaults(warnings)),
    }
}

fn read(root: &Node, reader: &mut Reader<'_>) -> Option<Config> {
    if matches!(root.value, Value::Null) {
        reader.fault(&root.place, "the configuration is empty", "`auditferry config example` prints a complete one");
        return None;
    }
    let file = File::from_node(root, reader)?;
    let mut tenants = file.tenants.clone().value().unwrap_or_default();
    if let Some(dir) = file.tenants_from.clone().given() {
        tenants.extend(tenants_from::<TenantFile>(&dir.value, &dir.place, reader));
    }
    check(file, tenants, reader)
}

/// The tree of one file; a fault where there is none.
pub(super) fn read_file(order: u32, path: &Path, reader: &mut Reader<'_>) -> Option<Node> {
    let name: Arc<str> = Arc::from(path.to_string_lossy());
    let whole = Place::whole(order, &name);
    let bytes = match reader.inputs.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::IsADirectory => "name the file in it; a directory of tenants goes into `tenants_from`",
                ErrorKind::FileTooLarge => "a configuration is text; is this the right file?",
                _ => "check the path and the permissions",
            };
            reader.fault(&whole, format!("cannot read the file: {error}"), hint);
            return None;
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => {
            // A mark of byte order is no part of the text, and would move the first line's columns.
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            reader.text(order, text);
            parse(order, &name, text, reader)
        }
        Err(_) if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => {
            reader.fault(&whole, "the file is in UTF-16, a configuration is in UTF-8", "save it as UTF-8");
            None
        }
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = memchr::memchr_iter(b'\n', before).count() as u64 + 1;
            let begin = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(&before[begin..]).chars().count() as u64 + 1;
            let place = Place { line, column, ..whole };
            let hint = "save the file as UTF-8; an older editor may have written it as Latin-1 or Windows-1252";
            reader.fault(&place, "here stands a byte that is not UTF-8", hint);
            None
        }
    }
}

/// A state that lies in memory is gone after a restart of the machine or of the container.
fn warn_of_memory(dir: &Path, place: &Place, reader: &mut Reader<'_>) {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h).
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    let there = dir.ancestors().find(|dir| dir.exists());
    let Some(Ok(found)) = there.map(rustix::fs::statfs) else { return };
    #[allow(clippy::useless_conversion, reason = "its width differs between platforms")]
    if i64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)) {
        reader.warning(
            place,
            format!("`state.dir` ({}) lies on a file system in memory", dir.display()),
            "give it a disk: without its state a start lists 7 days again and may deliver them twice",
        );
    }
}

/// Every `*.yaml`, `*.yml` and `*.json` of the directory, by name; each one tenant or a list of them.
/// Names that begin with a dot are left out: Kubernetes keeps the older versions of a mount there.
pub(super) fn tenants_from<T: FromNode>(dir: &Path, place: &Place, reader: &mut Reader<'_>) -> Vec<T> {
    reader.inputs.note(dir);
    let listed = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) => {
            reader.fault(
                place,
                format!("cannot list `{}`: {error}", dir.display()),
                "name a directory that holds a file for each tenant",
            );
            return Vec::new();
        }
    };
    paths.retain(|path| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        !hidden && known
    });
    paths.sort();
    let mut tenants = Vec::new();
    for (order, path) in (1..).zip(&paths) {
        let Some(node) = read_file(order, path, reader) else { continue };
        match &node.value {
            Value::List(items) => tenants.extend(items.iter().filter_map(|item| T::from_node(item, reader))),
            _ => tenants.extend(T::from_node(&node, reader)),
        }
    }
    tenants
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
