//! A disk in memory for the tests, mounted under a path: every call of [`super`] below that path comes
//! here. Keeps a log of everything that changes it, from which [`super::loss`] works out what a power
//! loss could have left; fails calls on demand. In tests only.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{About, Fsync};
use crate::clock::world_ms;

/// The node of the directory that is mounted.
pub(super) const ROOT: usize = 0;

/// A file or a directory. Its number is its inode.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) entries: Option<BTreeMap<OsString, usize>>,
    pub(super) modified_ms: i64,
}

/// Everything on a disk.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) nodes: Vec<Node>,
}

impl Default for Image {
    fn default() -> Image {
        Image { nodes: vec![Node { entries: Some(BTreeMap::new()), ..Node::default() }] }
    }
}

/// Something that changed the disk, in order.
#[derive(Clone, Debug)]
pub(super) enum Op {
    New {
        node: usize,
        is_dir: bool,
    },
    Write {
        node: usize,
        offset: u64,
        bytes: Arc<Vec<u8>>,
    },
    SetLen {
        node: usize,
        length: u64,
    },
    Fsync {
        node: usize,
    },
    /// Entries of one directory that change together: a name and what it names from now on.
    Entries {
        dir: usize,
        changes: Vec<(OsString, Option<usize>)>,
    },
    FsyncDir {
        dir: usize,
    },
    /// The test's own: everything it was promised before counts.
    Mark,
}

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Create,
    Open,
    Read,
    Write,
    SetLen,
    Fsync,
    Rename,
    Remove,
    FsyncDir,
    List,
    CreateDir,
    Lock,
}

/// Which call fails how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `None`: any.
    pub call: Option<Call>,
    /// Part of the path.
    pub path: String,
    /// Calls that still succeed.
    pub after: usize,
    /// How many then fail.
    pub times: usize,
    pub errno: i32,
}

#[derive(Default)]
struct Inner {
    base: Image,
    now: Image,
    log: Vec<Op>,
    marks: usize,
    skipped: Option<Fsync>,
    /// Operations before the first that was skipped.
    first_skipped: Option<usize>,
    locked: Vec<usize>,
    faults: Vec<Fault>,
    calls: Vec<(Call, PathBuf)>,
    /// Whether `calls` are kept.
    listens: bool,
}

/// A mounted disk; unmounted when the last clone made by [`Double::mount`] is dropped.
#[derive(Clone)]
pub struct Double {
    root: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

/// Unmounts when dropped.
pub struct Mounted {
    pub disk: Double,
}

static MOUNTED: Mutex<BTreeMap<PathBuf, Double>> = Mutex::new(BTreeMap::new());

/// The double below which `path` lies.
pub(super) fn at(path: &Path) -> Option<Double> {
    let mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    if mounted.is_empty() {
        return None;
    }
    path.ancestors().find_map(|dir| mounted.get(dir)).cloned()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.disk.root);
    }
}

impl Double {
    /// Mounts a disk with this on it under `root`, which need not exist.
    pub fn mount(root: &Path, image: Image) -> Mounted {
        let inner = Inner { base: image.clone(), now: image, ..Inner::default() };
        let disk = Double { root: root.to_owned(), inner: Arc::new(Mutex::new(inner)) };
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned(), disk.clone());
        Mounted { disk }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the test was promised something; returns how many notes there are now.
    pub fn mark(&self) -> usize {
        let mut inner = self.inner();
        inner.log.push(Op::Mark);
        inner.marks += 1;
        inner.marks
    }

    /// Makes the fsyncs of this name do nothing and say that they did.
    pub fn skip(&self, why: Option<Fsync>) {
        self.inner().skipped = why;
    }

    pub fn fail(&self, fault: Fault) {
        self.inner().faults.push(fault);
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        self.inner().faults.clear();
    }

    /// Keeps the calls made from now on.
    pub fn listen(&self) {
        self.inner().listens = true;
    }

    /// The calls kept so far, and their paths.
    pub fn calls(&self) -> Vec<(Call, PathBuf)> {
        self.inner().calls.clone()
    }

    /// What is on it now, everything written included.
    pub fn image(&self) -> Image {
        self.inner().now.clone()
    }

    /// What it was, what changed it, and from how many changes on it differs from a disk with all its fsyncs
    /// (beyond the end: not at all).
    pub(super) fn history(&self) -> (Image, Vec<Op>, usize) {
        let inner = self.inner();
        let never = inner.log.len() + 1;
        let from = inner.skipped.map_or(0, |_| inner.first_skipped.unwrap_or(never));
        (inner.base.clone(), inner.log.clone(), from)
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<Handle> {
        let mut inner = self.inner();
        inner.call(Call::Create, path)?;
        let (dir, name) = inner.now.place(&self.root, path)?;
        let node = match inner.now.child(dir, &name) {
            Some(node) if inner.now.nodes[node].entries.is_some() => return Err(Errno::ISDIR.into()),
            Some(node) => {
                inner.change(Op::SetLen { node, length: 0 });
                node
            }
            None => inner.new_entry(dir, name, false),
        };
        Ok(self.handle(node, path, false))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<Handle> {
        let mut inner = self.inner();
        inner.call(Call::Open, path)?;
        let node = inner.now.find(&self.root, path)?;
        Ok(self.handle(node, path, false))
    }

    pub(super) fn append(&self, path: &Path) -> io::Result<(Handle, bool)> {
        let mut inner = self.inner();
        let (dir, name) = inner.now.place(&self.root, path)?;
        let known = inner.now.child(dir, &name);
        inner.call(if known.is_some() { Call::Open } else { Call::Create }, path)?;
        let node = known.unwrap_or_else(|| inner.new_entry(dir, name, false));
        Ok((self.handle(node, path, true), known.is_none()))
    }

    fn handle(&self, node: usize, path: &Path, appends: bool) -> Handle {
        Handle { disk: self.clone(), node, path: path.to_owned(), appends, cursor: 0, locks: false }
    }

    pub(super) fn about(&self, path: &Path) -> io::Result<About> {
        let inner = self.inner();
        let node = inner.now.find(&self.root, path)?;
        Ok(inner.now.about(node))
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut inner = self.inner();
        inner.call(Call::List, dir)?;
        let node = inner.now.find(&self.root, dir)?;
        let entries = inner.now.nodes[node].entries.as_ref().ok_or(Errno::NOTDIR)?;
        Ok(entries.keys().map(|name| dir.join(name)).collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Call::Rename, from)?;
        let (dir, old) = inner.now.place(&self.root, from)?;
        let (other, new) = inner.now.place(&self.root, to)?;
        if dir != other {
            return Err(Errno::XDEV.into());
        }
        let node = inner.now.child(dir, &old).ok_or(Errno::NOENT)?;
        if inner.now.child(dir, &new).is_some_and(|node| inner.now.nodes[node].entries.is_some()) {
            return Err(Errno::ISDIR.into());
        }
        inner.change(Op::Entries { dir, changes: vec![(old, None), (new, Some(node))] });
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Call::Remove, path)?;
        let (dir, name) = inner.now.place(&self.root, path)?;
        inner.now.child(dir, &name).ok_or(Errno::NOENT)?;
        inner.change(Op::Entries { dir, changes: vec![(name, None)] });
        Ok(())
    }

    pub(super) fn fsync_dir(&self, dir: &Path, why: Fsync) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Call::FsyncDir, dir)?;
        let dir = inner.now.find(&self.root, dir)?;
        inner.fsync(Op::FsyncDir { dir }, why);
        Ok(())
    }

    pub(super) fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call(Call::CreateDir, path)?;
        let (dir, name) = inner.now.place(&self.root, path)?;
        if inner.now.child(dir, &name).is_some() {
            return Err(Errno::EXIST.into());
        }
        inner.new_entry(dir, name, true);
        Ok(())
    }

    pub(super) fn lock(&self, path: &Path) -> io::Result<Option<Handle>> {
        let mut inner = self.inner();
        inner.call(Call::Lock, path)?;
        let (dir, name) = inner.now.place(&self.root, path)?;
        let node = inner.now.child(dir, &name).unwrap_or_else(|| inner.new_entry(dir, name, false));
        if inner.locked.contains(&node) {
            return Ok(None);
        }
        inner.locked.push(node);
        let mut handle = self.handle(node, path, false);
        handle.locks = true;
        Ok(Some(handle))
    }
}

impl Image {
    /// The paths and bytes of all files, relative to the mount.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![(ROOT, PathBuf::new())];
        while let Some((dir, path)) = dirs.pop() {
            for (name, node) in self.nodes[dir].entries.iter().flatten() {
                match self.nodes[*node].entries {
                    Some(_) => dirs.push((*node, path.join(name))),
                    None => drop(found.insert(path.join(name), self.nodes[*node].bytes.to_vec())),
                }
            }
        }
        found
    }

    /// The bytes of one file, by its path relative to the mount.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        let node = &self.nodes[self.find(Path::new(""), path).ok()?];
        node.entries.is_none().then(|| node.bytes.as_slice())
    }

    /// The same without the nodes that bear no name any more; inodes change.
    pub fn compact(&self) -> Image {
        let mut image = Image::default();
        let mut dirs = vec![(ROOT, ROOT)];
        while let Some((from, to)) = dirs.pop() {
            for (name, node) in self.nodes[from].entries.iter().flatten() {
                let new = image.nodes.len();
                let is_dir = self.nodes[*node].entries.is_some();
                image.nodes.push(Node { entries: is_dir.then(BTreeMap::new), ..self.nodes[*node].clone() });
                image.set(to, name, Some(new));
                if is_dir {
                    dirs.push((*node, new));
                }
            }
        }
        image
    }

    /// The same with other bytes in one file (made where it is missing, in a directory that is there).
    pub fn with(&self, path: &Path, bytes: Vec<u8>) -> Image {
        let mut image = self.clone();
        let Ok((dir, name)) = image.place(Path::new(""), path) else { return image };
        let node = image.child(dir, &name).unwrap_or_else(|| {
            image.nodes.push(Node::default());
            image.nodes.len() - 1
        });
        image.nodes[node].bytes = Arc::new(bytes);
        image.nodes[node].modified_ms = world_ms();
        image.set(dir, &name, Some(node));
        image
    }

    /// The same without one file.
    pub fn without(&self, path: &Path) -> Image {
        let mut image = self.clone();
        if let Ok((dir, name)) = image.place(Path::new(""), path) {
            image.set(dir, &name, None);
        }
        image
    }

    fn find(&self, root: &Path, path: &Path) -> io::Result<usize> {
        let below = path.strip_prefix(root).map_err(|_| Errno::NOENT)?;
        below.iter().try_fold(ROOT, |dir, name| {
            let entries = self.nodes[dir].entries.as_ref().ok_or(Errno::NOTDIR)?;
            entries.get(name).copied().ok_or_else(|| Errno::NOENT.into())
        })
    }

    fn place(&self, root: &Path, path: &Path) -> io::Result<(usize, OsString)> {
        let dir = self.find(root, path.parent().ok_or(Errno::INVAL)?)?;
        self.nodes[dir].entries.as_ref().ok_or(Errno::NOTDIR)?;
        Ok((dir, path.file_name().ok_or(Errno::INVAL)?.to_owned()))
    }

    fn child(&self, dir: usize, name: &OsStr) -> Option<usize> {
        self.nodes[dir].entries.as_ref()?.get(name).copied()
    }

    fn about(&self, node: usize) -> About {
        let found = &self.nodes[node];
        // Never 0: no file system gives a file that inode.
        let inode = node as u64 + 1;
        let (length, is_file) = (found.bytes.len() as u64, found.entries.is_none());
        About { inode, length, modified_ms: found.modified_ms, is_file }
    }

    pub(super) fn set(&mut self, dir: usize, name: &OsStr, node: Option<usize>) {
        let Some(entries) = self.nodes[dir].entries.as_mut() else { return };
        match node {
            Some(node) => drop(entries.insert(name.to_owned(), node)),
            None => drop(entries.remove(name)),
        }
    }

    /// Takes all of an operation.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::New { node, is_dir } => {
                self.nodes.resize_with(self.nodes.len().max(node + 1), Node::default);
                self.nodes[*node].entries = is_dir.then(BTreeMap::new);
                self.nodes[*node].modified_ms = world_ms();
            }
            Op::Write { node, offset, bytes } => self.write(*node, *offset as usize, bytes),
            Op::SetLen { node, length } => {
                Arc::make_mut(&mut self.nodes[*node].bytes).resize(*length as usize, 0);
                self.nodes[*node].modified_ms = world_ms();
            }
            Op::Entries { dir, changes } => changes.iter().for_each(|(name, node)| self.set(*dir, name, *node)),
            Op::Fsync { .. } | Op::FsyncDir { .. } | Op::Mark => {}
        }
    }

    pub(super) fn write(&mut self, node: usize, offset: usize, bytes: &[u8]) {
        let all = Arc::make_mut(&mut self.nodes[node].bytes);
        let end = offset + bytes.len();
        all.resize(all.len().max(end), 0);
        all[offset..end].copy_from_slice(bytes);
        self.nodes[node].modified_ms = world_ms();
    }
}

impl Inner {
    fn change(&mut self, op: Op) {
        self.now.apply(&op);
        self.log.push(op);
    }

    fn fsync(&mut self, op: Op, why: Fsync) {
        if self.skipped == Some(why) {
            let now = self.log.len();
            self.first_skipped.get_or_insert(now);
        } else {
            self.change(op);
        }
    }

    fn new_entry(&mut self, dir: usize, name: OsString, is_dir: bool) -> usize {
        let node = self.now.nodes.len();
        self.change(Op::New { node, is_dir });
        self.change(Op::Entries { dir, changes: vec![(name, Some(node))] });
        node
    }

    /// Whether the call fails.
    fn call(&mut self, call: Call, path: &Path) -> io::Result<()> {
        if self.listens {
            self.calls.push((call, path.to_owned()));
        }
        let text = path.to_string_lossy();
        let meant = |fault: &&mut Fault| fault.call.is_none_or(|c| c == call) && text.contains(&fault.path);
        for fault in self.faults.iter_mut().filter(|fault| meant(fault)) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }
}

/// An open file of a double.
pub(crate) struct Handle {
    disk: Double,
    node: usize,
    path: PathBuf,
    appends: bool,
    cursor: u64,
    locks: bool,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.locks {
            self.disk.inner().locked.retain(|node| *node != self.node);
        }
    }
}

impl Handle {
    pub(super) fn about(&self) -> io::Result<About> {
        Ok(self.disk.inner().now.about(self.node))
    }

    pub(super) fn bytes(&self) -> io::Result<Arc<Vec<u8>>> {
        Ok(Arc::clone(&self.disk.inner().now.nodes[self.node].bytes))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        inner.call(Call::Read, &self.path)?;
        let bytes = &inner.now.nodes[self.node].bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.about()?.length;
        let offset = if self.appends { end } else { self.cursor };
        let n = self.write_at(bytes, offset)?;
        self.cursor = offset + n as u64;
        Ok(n)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        // A failing write leaves half of it, as a disk that fills up does.
        let failed = inner.call(Call::Write, &self.path);
        let is_whole = failed.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::Interrupted);
        let n = if is_whole { bytes.len() } else { bytes.len() / 2 };
        if failed.is_err() && is_whole {
            return failed.map(|()| 0);
        }
        let bytes = Arc::new(bytes[..n].to_vec());
        inner.change(Op::Write { node: self.node, offset, bytes });
        failed.map(|()| n)
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.call(Call::SetLen, &self.path)?;
        inner.change(Op::SetLen { node: self.node, length });
        Ok(())
    }

    pub(super) fn fsync(&self, why: Fsync) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.call(Call::Fsync, &self.path)?;
        inner.fsync(Op::Fsync { node: self.node }, why);
        Ok(())
    }
}
