//! A directory for the demo's state and its file, gone when the demo is over. Made with a name of its
//! own and for this user only; an existing one is never taken.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory; removed on drop.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory whose name begins with `auditferry-` and `purpose`.
    pub fn new(purpose: &str) -> std::io::Result<Scratch> {
        let name = format!("auditferry-{purpose}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
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
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A task that is not yet over may put a file there meanwhile.
        let _ = (0..3).any(|_| std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_for_this_user_only_and_leaves_nothing_behind() {
        use std::os::unix::fs::MetadataExt;
        let scratch = Scratch::new("test").unwrap();
        assert_eq!(std::fs::metadata(scratch.path()).unwrap().mode() & 0o077, 0);
        std::fs::write(scratch.file(), "a\n").unwrap();
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
