//! What a configuration was read from, and how each of it looked just before it was read. Comes in: paths,
//! noted while they are read. Goes out: whether they look the same now. Reads no content of its own: a symbolic
//! link is followed, so that a ConfigMap that is swapped under its link looks different.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Far above a thousand tenants in one file, far below what memory is for.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// Every file and directory that was read, and how it looked; `None`: it was not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(BTreeMap<PathBuf, Option<Stamp>>);

/// Tells one content from another without reading it: every write, rename and swap changes some of it. Times in
/// nanoseconds, of content and of inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let about = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl Inputs {
    /// These files as they look now. Blocking.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Inputs {
        Inputs(paths.into_iter().map(|path| (path.to_owned(), Stamp::of(path))).collect())
    }

    /// Notes how `path` looks, before it is read; the first look at it counts.
    pub(super) fn note(&mut self, path: &Path) {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), Stamp::of(path));
        }
    }

    /// Notes the file and reads it, whatever it holds. An error of kind `FileTooLarge` above 16 MiB.
    pub(super) fn read(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.note(path);
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LARGEST_FILE {
            true => Err(Error::new(ErrorKind::FileTooLarge, "it has more than 16 MiB")),
            false => Ok(bytes),
        }
    }

    /// As [`Inputs::read`], for a file that is text. An error of kind `InvalidData` where it is not UTF-8.
    pub(super) fn read_text(&mut self, path: &Path) -> std::io::Result<String> {
        let not_text = |_| Error::new(ErrorKind::InvalidData, "it holds a byte that is not UTF-8");
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// The same paths as they look now. Blocking.
    pub fn look_again(&self) -> Inputs {
        Inputs(self.0.keys().map(|path| (path.clone(), Stamp::of(path))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_a_swapped_link_a_new_file_and_a_vanished_one_are_seen_and_a_read_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("config"), "same").unwrap();
        }
        std::os::unix::fs::symlink("v1", at("data")).unwrap();
        std::os::unix::fs::symlink("data/config", at("link")).unwrap();
        std::fs::write(at("plain"), "a").unwrap();
        std::fs::create_dir(at("tenants.d")).unwrap();
        let note = || {
            let mut inputs = Inputs::default();
            assert_eq!(inputs.read(&at("link")).unwrap(), b"same");
            [at("plain"), at("tenants.d"), at("missing")].iter().for_each(|path| inputs.note(path));
            inputs
        };
        let changes: [&dyn Fn(); 5] = [
            &|| {
                std::os::unix::fs::symlink("v2", at("next")).unwrap();
                std::fs::rename(at("next"), at("data")).unwrap();
            },
            &|| std::fs::write(at("plain"), "b").unwrap(),
            &|| std::fs::write(at("tenants.d").join("one.yaml"), "").unwrap(),
            &|| std::fs::write(at("missing"), "").unwrap(),
            &|| std::fs::remove_file(at("plain")).unwrap(),
        ];
        for change in changes {
            let before = note();
            assert_eq!(before.look_again(), before);
            // A clock tick of the file system.
            std::thread::park_timeout(std::time::Duration::from_millis(20));
            change();
            assert_ne!(before.look_again(), before);
        }
    }
}
