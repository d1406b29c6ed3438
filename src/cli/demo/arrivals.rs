//! What arrived, read from the file that the sink wrote and from nothing else: how many lines, which
//! record ids, whether any record key came twice. Reads on from where it stood, so that it can follow
//! the file while it grows.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

#[derive(Default)]
pub(super) struct Arrivals {
    reader: Option<BufReader<File>>,
    /// A line that the sink is still writing.
    partial: Vec<u8>,
    /// Lines read.
    pub lines: u64,
    /// Lines whose record key was there before.
    pub doubled: u64,
    ids: HashSet<String>,
    keys: HashSet<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    event: EventFields,
    auditferry: OurFields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventFields {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OurFields {
    key: String,
}

impl Arrivals {
    /// Reads what has been written since the last call.
    pub fn follow(&mut self, path: &Path) -> std::io::Result<()> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None if path.exists() => BufReader::with_capacity(1 << 20, File::open(path)?),
            None => return Ok(()),
        };
        while reader.read_until(b'\n', &mut self.partial)? > 0 {
            if self.partial.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.partial);
                self.take(&line);
            }
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        self.lines += 1;
        let document: Document = serde_json::from_slice(line).unwrap_or_default();
        if !document.auditferry.key.is_empty() && !self.keys.insert(document.auditferry.key) {
            self.doubled += 1;
        }
        self.ids.insert(document.event.id.to_ascii_lowercase());
    }

    /// How many of these records are not there. Records without an id cannot be told apart: of those
    /// as many are missing as there are fewer lines than records in all.
    pub fn missing(&self, owed: &[Option<String>]) -> u64 {
        let named = owed.iter().flatten().filter(|id| !self.ids.contains(&id.to_ascii_lowercase())).count() as u64;
        named.max((owed.len() as u64).saturating_sub(self.lines - self.doubled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn follows_the_file_and_finds_what_is_missing_or_doubled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut out = file.reopen().unwrap();
        let line =
            |id: &str, key: &str| format!("{{\"event\":{{\"id\":\"{id}\"}},\"auditferry\":{{\"key\":\"{key}\"}}}}\n");
        let owed = [Some("A".to_owned()), Some("b".to_owned()), None];
        let mut arrivals = Arrivals::default();
        let (first, second) = (line("a", "1"), line("b", "2"));
        out.write_all(first.as_bytes()).unwrap();
        out.write_all(&second.as_bytes()[..9]).unwrap();
        arrivals.follow(file.path()).unwrap();
        assert_eq!((arrivals.lines, arrivals.missing(&owed)), (1, 2), "half a line is none");
        out.write_all(&second.as_bytes()[9..]).unwrap();
        arrivals.follow(file.path()).unwrap();
        assert_eq!((arrivals.lines, arrivals.doubled, arrivals.missing(&owed)), (2, 0, 1));
        out.write_all(second.as_bytes()).unwrap();
        arrivals.follow(file.path()).unwrap();
        assert_eq!((arrivals.doubled, arrivals.missing(&owed)), (1, 1), "a copy stands in for nobody");
        out.write_all(line("", "3").as_bytes()).unwrap();
        arrivals.follow(file.path()).unwrap();
        assert_eq!(arrivals.missing(&owed), 0);
    }
}
