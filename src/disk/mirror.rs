//! A directory in memory whose contents are kept in a log of keyed messages, of which the last of a key counts: the
//! state of a process without a disk. What is written is in memory; an fsync hands everything that has changed to
//! the log and returns when it is kept there. A start is given the messages and has the directory as it was at
//! the last fsync.
//!
//! ```text
//! dir             [magic 4][version u16][count u32] then each file: [name length u16][name][id u64][length u64][changed i64]; [crc32 u32]
//! <id>@<offset>   bytes of a file
//! ```
//! Numbers are little-endian. Comes in: calls of [`super`]. Goes out: messages. A file's name is in `dir` alone, so a
//! rename is one message; `dir` goes last. Memory: the files. Never: subdirectories, appending opens, links.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::{About, Map};
use crate::clock::world_ms;

/// Bytes of a file in one message, half of what a topic takes by default.
const EXTENT: usize = 512 << 10;
/// Bytes that are handed to the log at once, unless one message is larger.
const AT_ONCE: usize = 4 << 20;
const DIR: &str = "dir";
const MAGIC: &[u8; 4] = b"AFDR";
const VERSION: u16 = 1;

/// A key and its new value; `None` forgets it.
pub(crate) type Message = (String, Option<Vec<u8>>);

/// Where the messages are kept.
pub(crate) trait Log: Send + Sync {
    /// Returns when all of them are kept, in this order. Blocks. An error is final.
    fn write(&self, messages: Vec<Message>) -> io::Result<()>;
}

/// What the log holds, gathered message by message from its beginning.
#[derive(Default)]
pub(crate) struct Found {
    dir: Option<Vec<u8>>,
    /// Id → offset → place in the log and bytes.
    extents: HashMap<u64, BTreeMap<u64, (u64, Vec<u8>)>>,
    seen: u64,
}

/// What is found is none of ours, or of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("is damaged, or holds something else than the state of auditferry")]
    Damaged,
    #[error("has format {0} and this auditferry reads up to {VERSION}; upgrade auditferry, nothing was changed")]
    Newer(u16),
}

impl Found {
    /// The next message.
    pub(crate) fn see(&mut self, key: &str, value: Option<&[u8]>) {
        self.seen += 1;
        if key == DIR {
            self.dir = value.map(<[u8]>::to_vec);
            return;
        }
        let Some((id, offset)) = key.split_once('@').and_then(|(id, at)| Some((id.parse().ok()?, at.parse().ok()?)))
        else {
            return;
        };
        let extents = self.extents.entry(id).or_default();
        match value {
            Some(bytes) => drop(extents.insert(offset, (self.seen, bytes.to_vec()))),
            None => drop(extents.remove(&offset)),
        }
    }
}

/// A file.
#[derive(Default)]
struct Node {
    bytes: Arc<Vec<u8>>,
    changed_ms: i64,
    /// From here on the log does not have it.
    dirty_from: Option<usize>,
    /// Offsets of its messages in the log.
    extents: Vec<u64>,
}

impl Node {
    fn change(&mut self, from: usize) -> &mut Vec<u8> {
        self.changed_ms = world_ms();
        self.dirty_from = Some(self.dirty_from.map_or(from, |dirty| dirty.min(from)));
        Arc::make_mut(&mut self.bytes)
    }
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, u64>,
    nodes: HashMap<u64, Arc<Mutex<Node>>>,
    next_id: u64,
    is_dir_dirty: bool,
    /// Keys of files that are gone.
    gone: Vec<String>,
}

/// A directory, mounted at a path that need not exist on the disk.
#[derive(Clone)]
pub(crate) struct Mirror(Arc<Shared>);

struct Shared {
    root: PathBuf,
    log: Arc<dyn Log>,
    inner: Mutex<Inner>,
    /// Held while messages are handed over, so that they keep their order.
    order: Mutex<()>,
    /// The first error of the log. What was taken for it is lost to whoever comes next, so nothing after it may be called kept.
    failed: OnceLock<(ErrorKind, String)>,
}

/// Unmounts when dropped.
pub(crate) struct Mounted(PathBuf);

static MOUNTED: RwLock<BTreeMap<PathBuf, Mirror>> = RwLock::new(BTreeMap::new());
/// Whether anything was ever mounted: without, no path is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// The directory below which `path` lies.
pub(super) fn at(path: &Path) -> Option<Mirror> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    let mounted = MOUNTED.read().unwrap_or_else(PoisonError::into_inner);
    path.ancestors().find_map(|dir| mounted.get(dir)).cloned()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        MOUNTED.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// Mounts what was found in the log at `root`.
    pub(crate) fn mount(root: &Path, found: Found, log: Arc<dyn Log>) -> Result<Mounted, Unreadable> {
        let inner = Mutex::new(restored(found)?);
        let mirror = Mirror(Arc::new(Shared {
            root: root.to_owned(),
            log,
            inner,
            order: Mutex::default(),
            failed: OnceLock::new(),
        }));
        MOUNTED.write().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned(), mirror);
        ANY.store(true, Ordering::Release);
        Ok(Mounted(root.to_owned()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0.inner)
    }

    fn name(&self, path: &Path) -> io::Result<String> {
        let name = path.strip_prefix(&self.0.root).ok().and_then(Path::to_str);
        let plain = name.filter(|name| !name.is_empty() && !name.contains('/'));
        plain.map(str::to_owned).ok_or_else(|| ErrorKind::InvalidInput.into())
    }

    fn handle(&self, node: Arc<Mutex<Node>>, id: u64) -> Handle {
        Handle { mirror: self.clone(), node, id, cursor: 0 }
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<Handle> {
        let name = self.name(path)?;
        let mut inner = self.inner();
        inner.forget(&name);
        let id = inner.next_id;
        inner.next_id += 1;
        let node = Arc::new(Mutex::new(Node { changed_ms: world_ms(), ..Node::default() }));
        inner.names.insert(name, id);
        inner.nodes.insert(id, Arc::clone(&node));
        inner.is_dir_dirty = true;
        Ok(self.handle(node, id))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<Handle> {
        let name = self.name(path)?;
        let inner = self.inner();
        let id = *inner.names.get(&name).ok_or(ErrorKind::NotFound)?;
        let node = inner.nodes.get(&id).ok_or(ErrorKind::NotFound)?;
        Ok(self.handle(Arc::clone(node), id))
    }

    pub(super) fn append(&self, _: &Path) -> io::Result<(Handle, bool)> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn about(&self, path: &Path) -> io::Result<About> {
        if path == self.0.root {
            return Ok(About { inode: 0, length: 0, modified_ms: world_ms(), is_file: false });
        }
        self.open(path)?.about()
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.inner().names.keys().map(|name| dir.join(name)).collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.name(from)?, self.name(to)?);
        let mut inner = self.inner();
        let id = inner.names.remove(&from).ok_or(ErrorKind::NotFound)?;
        inner.forget(&to);
        inner.names.insert(to, id);
        inner.is_dir_dirty = true;
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let name = self.name(path)?;
        let mut inner = self.inner();
        if inner.forget(&name) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    pub(super) fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// The log's owner is the only one: whoever takes over ends this process.
    pub(super) fn lock(&self, _: &Path) -> io::Result<Option<Handle>> {
        Ok(Some(self.handle(Arc::default(), u64::MAX)))
    }

    pub(super) fn fsync_dir(&self, _: &Path, _: super::Fsync) -> io::Result<()> {
        self.sync()
    }

    /// Hands over all that has changed.
    fn sync(&self) -> io::Result<()> {
        let _order = lock(&self.0.order);
        if let Some((kind, said)) = self.0.failed.get() {
            return Err(io::Error::new(*kind, said.clone()));
        }
        let handed = self.hand_over();
        if let Err(error) = &handed {
            let _ = self.0.failed.set((error.kind(), error.to_string()));
        }
        handed
    }

    fn hand_over(&self) -> io::Result<()> {
        let messages = self.inner().take_changes();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for message in messages {
            bytes += message.1.as_ref().map_or(0, Vec::len);
            batch.push(message);
            if bytes >= AT_ONCE {
                self.0.log.write(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.0.log.write(batch) }
    }
}

impl Inner {
    /// Takes a name away, and with it the file; false when there is none.
    fn forget(&mut self, name: &str) -> bool {
        let Some(id) = self.names.remove(name) else { return false };
        if let Some(node) = self.nodes.remove(&id) {
            let extents = std::mem::take(&mut lock(&node).extents);
            self.gone.extend(extents.iter().map(|offset| extent_key(id, *offset)));
        }
        self.is_dir_dirty = true;
        true
    }

    /// What the log lacks: bytes, then the directory, then what it may forget.
    fn take_changes(&mut self) -> Vec<Message> {
        let (mut messages, mut forgotten) = (Vec::new(), Vec::new());
        for (id, node) in &self.nodes {
            let mut node = lock(node);
            let Some(from) = node.dirty_from.take() else { continue };
            self.is_dir_dirty = true;
            let old: Vec<u64> = node.extents.extract_if(.., |offset| *offset >= from as u64).collect();
            let bytes = Arc::clone(&node.bytes);
            let mut at = from.min(bytes.len());
            while at < bytes.len() {
                let end = (at + EXTENT).min(bytes.len());
                messages.push((extent_key(*id, at as u64), Some(bytes[at..end].to_vec())));
                node.extents.push(at as u64);
                at = end;
            }
            let is_gone = |offset: &&u64| !node.extents.contains(offset);
            forgotten.extend(old.iter().filter(is_gone).map(|offset| (extent_key(*id, *offset), None)));
        }
        if std::mem::take(&mut self.is_dir_dirty) {
            messages.push((DIR.to_owned(), Some(self.encode())));
        }
        messages.append(&mut forgotten);
        messages.extend(self.gone.drain(..).map(|key| (key, None)));
        messages
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.names.len() as u32).to_le_bytes());
        for (name, id) in &self.names {
            let (length, changed_ms) = self.nodes.get(id).map_or((0, 0), |node| {
                let node = lock(node);
                (node.bytes.len() as u64, node.changed_ms)
            });
            out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&changed_ms.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

fn extent_key(id: u64, offset: u64) -> String {
    format!("{id}@{offset}")
}

/// The directory that the messages describe. What belongs to no name is forgotten with the next fsync.
fn restored(mut found: Found) -> Result<Inner, Unreadable> {
    let mut inner = Inner { next_id: found.extents.keys().max().map_or(0, |id| id + 1), ..Inner::default() };
    for (name, id, length, changed_ms) in decode(found.dir.as_deref())? {
        let mut extents: Vec<(u64, u64, Vec<u8>)> = found
            .extents
            .remove(&id)
            .unwrap_or_default()
            .into_iter()
            .map(|(offset, (seen, bytes))| (seen, offset, bytes))
            .collect();
        extents.sort_unstable_by_key(|(seen, ..)| *seen);
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Unreadable::Damaged)?];
        for (_, offset, piece) in &extents {
            let Some(to) = usize::try_from(*offset).ok().and_then(|offset| bytes.get_mut(offset..)) else { continue };
            let length = piece.len().min(to.len());
            to[..length].copy_from_slice(&piece[..length]);
        }
        let extents = extents.into_iter().map(|(_, offset, _)| offset).collect();
        let node = Node { bytes: Arc::new(bytes), changed_ms, dirty_from: None, extents };
        inner.next_id = inner.next_id.max(id + 1);
        inner.names.insert(name, id);
        inner.nodes.insert(id, Arc::new(Mutex::new(node)));
    }
    for (id, extents) in found.extents {
        inner.gone.extend(extents.keys().map(|offset| extent_key(id, *offset)));
    }
    Ok(inner)
}

fn decode(dir: Option<&[u8]>) -> Result<Vec<(String, u64, u64, i64)>, Unreadable> {
    let Some(dir) = dir else { return Ok(Vec::new()) };
    let (body, crc) = dir.split_last_chunk::<4>().ok_or(Unreadable::Damaged)?;
    if crc32fast::hash(body).to_le_bytes() != *crc {
        return Err(Unreadable::Damaged);
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or(Unreadable::Damaged)?;
    let mut take = |length: usize| rest.split_off(..length).ok_or(Unreadable::Damaged);
    let version = u16::from_le_bytes(number(take(2)?)?);
    match version {
        VERSION => {}
        newer if newer > VERSION => return Err(Unreadable::Newer(newer)),
        _ => return Err(Unreadable::Damaged),
    }
    let count = u32::from_le_bytes(number(take(4)?)?);
    let mut files = Vec::new();
    for _ in 0..count {
        let length = u16::from_le_bytes(number(take(2)?)?);
        let name = std::str::from_utf8(take(usize::from(length))?).map_err(|_| Unreadable::Damaged)?.to_owned();
        let (id, length) = (u64::from_le_bytes(number(take(8)?)?), u64::from_le_bytes(number(take(8)?)?));
        files.push((name, id, length, i64::from_le_bytes(number(take(8)?)?)));
    }
    if rest.is_empty() { Ok(files) } else { Err(Unreadable::Damaged) }
}

fn number<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable::Damaged)
}

/// An open file.
pub(crate) struct Handle {
    mirror: Mirror,
    node: Arc<Mutex<Node>>,
    id: u64,
    cursor: usize,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {} of {}", self.id, self.mirror.0.root.display())
    }
}

impl Handle {
    fn node(&self) -> MutexGuard<'_, Node> {
        lock(&self.node)
    }

    pub(super) fn about(&self) -> io::Result<About> {
        let node = self.node();
        Ok(About { inode: self.id, length: node.bytes.len() as u64, modified_ms: node.changed_ms, is_file: true })
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let node = self.node();
        let from = usize::try_from(offset).map_err(io::Error::other)?.min(node.bytes.len());
        let length = buffer.len().min(node.bytes.len() - from);
        buffer[..length].copy_from_slice(&node.bytes[from..from + length]);
        Ok(length)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let mut node = self.node();
        let at = from.min(node.bytes.len());
        let held = node.change(at);
        if held.len() < from + bytes.len() {
            held.resize(from + bytes.len(), 0);
        }
        held[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_at(bytes, self.cursor as u64)?;
        self.cursor += written;
        Ok(written)
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut node = self.node();
        let at = length.min(node.bytes.len());
        node.change(at).resize(length, 0);
        Ok(())
    }

    pub(super) fn fsync(&self, _: super::Fsync) -> io::Result<()> {
        self.mirror.sync()
    }

    pub(super) fn map(&self) -> io::Result<Map> {
        Ok(Map::of_bytes(Arc::clone(&self.node().bytes)))
    }
}

#[cfg(test)]
mod tests;
