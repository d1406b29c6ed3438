//! Where letters are read from, and how those that are done leave it. A file is set aside under a name of its own, so that
//! `run` appends to a new one meanwhile; what is not done is appended to that at the end. Beside it grows a list of what is done,
//! so that a replay that was killed goes on where it was. A file that is to stay is only read. Blocking.
//!
//! Comes in: a path. Goes out: letters with their places. Never loses one: a crash at any point leaves it in
//! one of the files, at worst in both.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::disk::{self, File, Fsync};
use crate::sink::dead_letters::{SetAside, put_back, set_aside};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;
/// The longest letter that is sent. Records are at most 8 MiB unless `collect.max_record` says more; what is longer was
/// too large for the sinks, too.
pub(super) const LONGEST: u64 = 64 << 20;
/// Letters that are done and may be done again after a crash, unless a second has passed.
const UNNOTED: usize = 1000;

/// Where a letter begins in its file, or its partition and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PlaceOf {
    pub partition: i32,
    pub offset: i64,
}

/// A line of the file.
pub(super) struct Line {
    pub place: PlaceOf,
    /// `None`: longer than [`LONGEST`].
    pub text: Option<Vec<u8>>,
    pub bytes: u64,
}

/// Letters of a file.
pub(super) struct Letters {
    /// Where the letters were, and where those that are not done go again.
    path: PathBuf,
    /// What is read; `None` where letters stay where they are.
    aside: Option<SetAside>,
    file: File,
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    done: HashSet<u64>,
    /// What is done and not in the list yet.
    unnoted: Vec<u64>,
    list: Option<File>,
}

impl Letters {
    /// The letters at `path`, which stay there with `keep`. `None`: there are none.
    ///
    /// # Errors
    /// `WouldBlock`: another replay is at them. Else those of the operating system.
    pub fn open(path: &Path, keep: bool) -> io::Result<Option<Letters>> {
        let aside = match keep {
            true => None,
            false => match set_aside(path)? {
                Some(aside) => Some(aside),
                None => return Ok(None),
            },
        };
        let from = aside.as_ref().map_or(path, |aside| &aside.path);
        let file = match disk::open(from) {
            Err(error) if keep && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let end = file.about()?.length;
        let mut letters = Letters {
            path: path.to_owned(),
            aside,
            file,
            next: 0,
            end,
            buffer: Vec::new(),
            done: HashSet::new(),
            unnoted: Vec::new(),
            list: None,
        };
        letters.read_list()?;
        Ok((end > 0).then_some(letters))
    }

    /// The list of what is done; its lines are offsets, a torn last one counts for nothing.
    fn list_path(&self) -> Option<PathBuf> {
        let path = &self.aside.as_ref()?.path;
        let name = format!("{}.done", path.file_name().unwrap_or_default().to_string_lossy());
        Some(path.with_file_name(name))
    }

    fn read_list(&mut self) -> io::Result<()> {
        let Some(path) = self.list_path() else { return Ok(()) };
        let (file, _) = disk::append(&path, 0o600)?;
        let text = String::from_utf8(disk::read(&path)?).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        self.done = text[..whole].lines().filter_map(|line| line.parse().ok()).collect();
        self.list = Some(file);
        Ok(())
    }

    /// Where the letters were.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error at work on them.
    pub fn error(&self, source: io::Error) -> super::ReplayError {
        super::ReplayError::File { path: self.path.clone(), source }
    }

    /// How many an earlier replay that was cut short had done.
    pub fn done_before(&self) -> usize {
        self.done.len()
    }

    /// The next letter that is not done.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let offset = u64::try_from(line.place.offset).unwrap_or_default();
            let is_blank = line.text.as_ref().is_some_and(|text| text.iter().all(u8::is_ascii_whitespace));
            if !is_blank && !self.done.contains(&offset) {
                return Ok(Some(line));
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let start = self.next;
        let place = PlaceOf { partition: 0, offset: i64::try_from(start).unwrap_or(i64::MAX) };
        let (mut text, mut bytes) = (Vec::new(), 0);
        loop {
            if self.buffer.is_empty() {
                let at = start + bytes;
                let more = usize::try_from(self.end - at).unwrap_or(CHUNK).min(CHUNK);
                if more == 0 {
                    break;
                }
                self.buffer.resize(more, 0);
                self.file.read_exact_at(&mut self.buffer, at)?;
            }
            let newline = memchr::memchr(b'\n', &self.buffer);
            let taken = newline.map_or(self.buffer.len(), |at| at + 1);
            bytes += taken as u64;
            if bytes <= LONGEST {
                text.extend_from_slice(&self.buffer[..taken]);
            } else {
                text = Vec::new();
            }
            self.buffer.drain(..taken);
            if newline.is_some() {
                break;
            }
        }
        self.next = start + bytes;
        let text = (bytes <= LONGEST).then_some(text);
        Ok((bytes > 0).then_some(Line { place, text, bytes }))
    }

    /// This letter was taken, or lies in the dead letters anew.
    pub fn done(&mut self, place: PlaceOf) -> io::Result<()> {
        let offset = u64::try_from(place.offset).unwrap_or_default();
        self.done.insert(offset);
        self.unnoted.push(offset);
        if self.unnoted.len() >= UNNOTED { self.note() } else { Ok(()) }
    }

    /// Writes down what is done.
    pub fn note(&mut self) -> io::Result<()> {
        let Some(list) = &mut self.list else { return Ok(()) };
        if self.unnoted.is_empty() {
            return Ok(());
        }
        let lines: String = self.unnoted.drain(..).map(|offset| format!("{offset}\n")).collect();
        list.write_all(lines.as_bytes())?;
        list.fsync(Fsync::Letters)
    }

    /// Puts back what is not done, and lets go of the rest. True where letters lie at the path that this replay has not
    /// looked at, because it went on with one that was cut short.
    pub fn finish(mut self) -> io::Result<bool> {
        self.note()?;
        let Some(aside) = self.aside.take() else { return Ok(false) };
        let is_more = aside.was_left && disk::about(&self.path).is_ok_and(|about| about.length > 0);
        let left = self.left()?;
        if !left.is_empty() {
            let file = &self.file;
            put_back(&self.path, |out| left.iter().try_for_each(|(offset, bytes)| copy(file, *offset, *bytes, out)))?;
        }
        // The letters first: a list without them says nothing.
        disk::remove(&aside.path)?;
        let name = format!("{}.done", aside.path.file_name().unwrap_or_default().to_string_lossy());
        disk::remove(&aside.path.with_file_name(name))?;
        disk::fsync_dir(aside.path.parent().unwrap_or(Path::new("")), Fsync::LettersName)?;
        Ok(is_more)
    }

    /// Where letters lie that are not done, and how long they are.
    fn left(&mut self) -> io::Result<Vec<(u64, u64)>> {
        (self.next, self.buffer) = (0, Vec::new());
        let mut left = Vec::new();
        while let Some(line) = self.next()? {
            left.push((u64::try_from(line.place.offset).unwrap_or_default(), line.bytes));
        }
        Ok(left)
    }
}

fn copy(file: &File, mut offset: u64, mut bytes: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while bytes > 0 {
        let piece = usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK);
        file.read_exact_at(&mut buffer[..piece], offset)?;
        out.write_all(&buffer[..piece])?;
        offset += piece as u64;
        bytes -= piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        std::fs::write(&path, "{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}\n").unwrap();
        (dir, path)
    }

    fn append(path: &Path, text: &str) {
        put_back(path, |out| out.write_all(text.as_bytes())).unwrap();
    }

    fn names(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn what_is_done_leaves_and_what_is_not_stands_behind_what_came_meanwhile() {
        let (dir, path) = dir();
        let mut letters = Letters::open(&path, false).unwrap().unwrap();
        assert!(!path.exists());
        append(&path, "{\"new\":4}\n");
        let first = letters.next().unwrap().unwrap();
        let second = letters.next().unwrap().unwrap();
        assert_eq!((first.place.offset, second.text.as_deref()), (0, Some(&b"{\"b\":2}\n"[..])));
        letters.done(second.place).unwrap();
        let another = Letters::open(&path, false).err().unwrap();
        assert_eq!(another.kind(), io::ErrorKind::WouldBlock, "one at a time");
        assert!(!letters.finish().unwrap(), "what came meanwhile is none of this replay's");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"new\":4}\n{\"a\":1}\n{\"c\":3}\n");
        assert_eq!(names(&dir), 1);
    }

    #[test]
    fn a_replay_that_was_killed_goes_on_where_it_was() {
        let (dir, path) = dir();
        let mut letters = Letters::open(&path, false).unwrap().unwrap();
        let first = letters.next().unwrap().unwrap();
        letters.done(first.place).unwrap();
        letters.note().unwrap();
        drop(letters);
        append(&path, "{\"new\":4}\n");
        let list = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let list = list.into_iter().find(|path| path.extension().is_some_and(|end| end == "done")).unwrap();
        std::fs::OpenOptions::new().append(true).open(list).unwrap().write_all(b"1").unwrap();
        let mut letters = Letters::open(&path, false).unwrap().unwrap();
        assert_eq!(letters.done_before(), 1);
        let mut seen = Vec::new();
        while let Some(line) = letters.next().unwrap() {
            letters.done(line.place).unwrap();
            seen.push(String::from_utf8(line.text.unwrap()).unwrap());
        }
        assert_eq!(seen.concat(), "{\"b\":2}\n{\"c\":3}\n");
        assert!(letters.finish().unwrap(), "there is one that nobody has looked at");
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names(&dir)), ("{\"new\":4}\n", 1));
    }

    #[test]
    fn letters_that_stay_are_only_read_and_none_is_none() {
        let (dir, path) = dir();
        let mut letters = Letters::open(&path, true).unwrap().unwrap();
        let first = letters.next().unwrap().unwrap();
        letters.done(first.place).unwrap();
        letters.finish().unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().lines().count(), names(&dir)), (4, 1));
        std::fs::write(&path, "").unwrap();
        assert!(Letters::open(&path, false).unwrap().is_none() && Letters::open(&path, true).unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(Letters::open(&path, false).unwrap().is_none() && Letters::open(&path, true).unwrap().is_none());
    }

    #[test]
    fn a_line_across_reads_comes_whole_and_one_beyond_the_limit_is_named_and_put_back() {
        let (_dir, path) = dir();
        let long = format!("{{\"l\":\"{}\"}}\n", "x".repeat(CHUNK * 3));
        std::fs::write(&path, format!("{{\"a\":1}}\n{long}{}\n{{\"b\":2}}", "y".repeat(LONGEST as usize))).unwrap();
        let mut letters = Letters::open(&path, true).unwrap().unwrap();
        let lines: Vec<Line> = std::iter::from_fn(|| letters.next().unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1].text.as_deref(), Some(long.as_bytes()));
        assert!(lines[2].text.is_none() && lines[2].bytes == LONGEST + 1);
        assert_eq!(lines[3].text.as_deref(), Some(&b"{\"b\":2}"[..]));
    }
}
