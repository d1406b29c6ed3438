//! A directory for the demo's state and its file, gone when the demo is over. Made with a name of its
//! own and for this user only; an existing one is never taken.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory; removed on drop.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> std::io::Result<Scratch> {
        let path =
            std::env::temp_dir().join(format!("auditferry-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the file sink of the demo writes.
    pub fn file(&self) -> PathBuf {
        self.0.join("audit.ndjson")
    }

    /// How many lines the file sink wrote, counted in the file itself; `None` without a file.
    pub fn lines(&self) -> Option<u64> {
        let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(self.file()).ok()?);
        let mut lines = 0;
        loop {
            let chunk = reader.fill_buf().ok()?;
            if chunk.is_empty() {
                return Some(lines);
            }
            lines += memchr::memchr_iter(b'\n', chunk).count() as u64;
            let length = chunk.len();
            reader.consume(length);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_lines_of_the_file_and_leaves_nothing_behind() {
        let scratch = Scratch::new().unwrap();
        assert_eq!(scratch.lines(), None);
        std::fs::write(scratch.file(), "a\nb\nc\n").unwrap();
        assert_eq!(scratch.lines(), Some(3));
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
