//! Who called what, for the tests: a kill leaves everything written in the kernel's hands, so that only
//! the order of the calls shows a missing fsync. Judges while it listens. In tests only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call that durability rests on.
#[derive(Debug)]
pub(crate) enum Call {
    /// Created or written to.
    Dirty,
    Fsync,
    /// To this name.
    Rename(PathBuf),
    FsyncDir,
    Remove,
}

/// What a power loss could take now, of one directory.
#[derive(Default)]
struct Heard {
    /// Files with bytes that were not fsynced.
    bytes: Vec<PathBuf>,
    /// Names that the directory was not fsynced for.
    names: Vec<PathBuf>,
    calls: usize,
    faults: Vec<String>,
}

static HEARD: Mutex<BTreeMap<PathBuf, Heard>> = Mutex::new(BTreeMap::new());

fn heard() -> MutexGuard<'static, BTreeMap<PathBuf, Heard>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to what happens to the files of `dir` from now on. Other directories are not kept.
pub(crate) fn listen(dir: &Path) {
    heard().insert(dir.to_owned(), Heard::default());
}

pub(crate) fn note(call: Call, path: &Path) {
    let dir = if matches!(call, Call::FsyncDir) { Some(path) } else { path.parent() };
    let mut all = heard();
    let Some(heard) = dir.and_then(|dir| all.get_mut(dir)) else { return };
    heard.calls += 1;
    let name = path.to_owned();
    match call {
        Call::Dirty => {
            // A new file of that name, or one that is there: its name is durable if it ever was.
            if !path.exists() {
                heard.names.push(name.clone());
            }
            heard.bytes.push(name);
        }
        Call::Fsync => heard.bytes.retain(|dirty| *dirty != name),
        Call::Rename(to) => {
            if heard.bytes.contains(&name) {
                heard.faults.push(format!("{name:?} was renamed before its bytes were fsynced"));
            }
            heard.names.retain(|known| *known != name);
            heard.names.push(to);
        }
        Call::FsyncDir => heard.names.clear(),
        Call::Remove => {
            if !heard.names.is_empty() {
                heard.faults.push(format!("{name:?} was removed while {:?} may have no name yet", heard.names));
            }
        }
    }
}

/// Calls heard so far, and what was out of order or could be lost in a power loss now.
pub(crate) fn report(dir: &Path) -> (usize, Vec<String>) {
    let all = heard();
    let Some(heard) = all.get(dir) else { return (0, Vec::new()) };
    let bytes = heard.bytes.iter().map(|path| format!("the bytes of {path:?} are not fsynced"));
    let names = heard.names.iter().map(|path| format!("the name of {path:?} is not fsynced"));
    (heard.calls, heard.faults.iter().cloned().chain(bytes).chain(names).collect())
}
