//! What is wrong with a configuration: every fault with its place, what was meant and a hint, all of
//! them at once. Comes in: faults from every step of reading. Goes out: text for a person.
//! A fault quotes what the file says, never what a variable or a secret file holds.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::credential::CertificateConfig;
use super::inputs::Inputs;
use super::snippet;

/// Where something stands: file, line and column (both from 1; line 0 means the file as a whole).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Place of the file in the order of reading, so that faults print in that order.
    pub order: u32,
    pub file: Arc<str>,
    pub line: u64,
    pub column: u64,
}

impl Place {
    /// The file as a whole.
    pub fn whole(order: u32, file: &Arc<str>) -> Place {
        Place { order, file: Arc::clone(file), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A fault stops the program, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub severity: Severity,
    pub text: String,
    /// What to do; empty when the text says it.
    pub hint: String,
    /// The line with a sign below the place, and the key; without values that the text does not quote.
    pub snippet: String,
}

impl Fault {
    /// Says it in the log, as a warning.
    pub fn log(&self) {
        tracing::warn!(place = %self.place, hint = self.hint, "configuration: {}", self.text);
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.place, self.text)?;
        if !self.snippet.is_empty() {
            write!(f, "\n{}", self.snippet)?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// All faults of a configuration, in the order of the files; at least one is an error.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigFaults(pub Vec<Fault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        let count = |wanted| self.0.iter().filter(|fault| fault.severity == wanted).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        write!(f, "{errors} error{}", plural(errors))?;
        if warnings > 0 {
            write!(f, ", {warnings} warning{}", plural(warnings))?;
        }
        Ok(())
    }
}

/// What every step of reading carries: the faults so far, what was read, and where variables come from.
pub(super) struct Reader<'a> {
    pub faults: Vec<Fault>,
    /// So many of them, the first ones, are of the syntax of the file that was read first.
    pub of_syntax: usize,
    /// Every file that was looked at, so that a reload can tell changes.
    pub inputs: Inputs,
    /// Certificates of applications, each once and with the place of its file.
    pub certificates: Vec<(CertificateConfig, Place)>,
    /// The texts that were read, by their order.
    texts: HashMap<u32, Arc<str>>,
    /// The keys on the way to each place.
    names: HashMap<(u32, u64, u64), String>,
    /// Where a value refers to a variable or a file, so that no fault may quote it.
    referring: HashSet<(u32, u64, u64)>,
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    pub fn new(variables: &'a dyn Fn(&str) -> Option<String>) -> Reader<'a> {
        Reader {
            faults: Vec::new(),
            of_syntax: 0,
            inputs: Inputs::default(),
            certificates: Vec::new(),
            texts: HashMap::new(),
            names: HashMap::new(),
            referring: HashSet::new(),
            variables,
        }
    }

    /// Keeps where a certificate was written; that of the defaults comes once a tenant.
    pub fn certificate(&mut self, files: &CertificateConfig, place: &Place) {
        if !self.certificates.iter().any(|(_, known)| known == place) {
            self.certificates.push((files.clone(), place.clone()));
        }
    }

    /// Keeps a file's text, to show lines of it.
    pub fn text(&mut self, order: u32, text: &str) {
        self.texts.insert(order, Arc::from(text));
    }

    /// Keeps which key stands at a place; the first that says so is right.
    pub fn name(&mut self, place: &Place, way: &[String]) {
        if !way.is_empty() {
            self.names.entry((place.order, place.line, place.column)).or_insert_with(|| way.join("."));
        }
    }

    /// Keeps that the value at a place refers to something outside of the file.
    pub fn refers(&mut self, place: &Place) {
        self.referring.insert((place.order, place.line, place.column));
    }

    /// Whether the value at a place stands in the file as it is, so that a fault may quote it.
    pub fn is_literal(&self, place: &Place) -> bool {
        !self.referring.contains(&(place.order, place.line, place.column))
    }

    pub fn fault(&mut self, place: &Place, text: impl Into<String>, hint: impl Into<String>) {
        self.push(place, Severity::Error, text.into(), hint.into());
    }

    pub fn warning(&mut self, place: &Place, text: impl Into<String>, hint: impl Into<String>) {
        self.push(place, Severity::Warning, text.into(), hint.into());
    }

    /// Whether an error has been said.
    fn has_errors(&self) -> bool {
        self.faults.iter().any(|fault| fault.severity == Severity::Error)
    }

    fn push(&mut self, place: &Place, severity: Severity, text: String, hint: String) {
        let fault = Fault { place: place.clone(), severity, text, hint, snippet: String::new() };
        // Tenant defaults are read once and used by many; their faults are said once.
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// The line of `place` with its sign; of its words those that `said` quotes.
    pub fn snippet(&self, place: &Place, said: &str) -> String {
        let Place { order, line, column, .. } = *place;
        let name = self.names.get(&(order, line, column)).map(String::as_str);
        let text = self.texts.get(&order).map_or("", |text| text.as_ref());
        snippet::render(text, line, column, name, said)
    }

    /// Ends the reading: the warnings, or everything when something is wrong.
    pub fn finish(mut self) -> Result<Vec<Fault>, ConfigFaults> {
        self.faults.sort_by(|a, b| a.place.cmp(&b.place));
        let snippets: Vec<String> = self.faults.iter().map(|fault| self.snippet(&fault.place, &fault.text)).collect();
        for (fault, snippet) in self.faults.iter_mut().zip(snippets) {
            fault.snippet = snippet;
        }
        if self.has_errors() {
            return Err(ConfigFaults(self.faults));
        }
        Ok(self.faults)
    }
}
