//! What a power loss may leave of a disk. Comes in: everything that was done to a [`super::double`], in
//! order. Goes out: disks, for every prefix of it. In tests only.
//!
//! The model asks nothing of a file system but what POSIX promises. What was written to a file and not
//! fsynced is there or not block by block, in any combination; a file may have its new size before its
//! bytes, with zeros or with somebody's old bytes in the gap. A name made, moved or removed is so or not
//! in any combination until its directory is fsynced. A rename is whole or not at all, as on every file system
//! with a journal of its own; but a temporary name may stay beside the one that it was renamed to. An fsync
//! settles one file's bytes or one directory's names and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use super::double::{Double, Image, Op};

/// How finely a disk tears.
#[derive(Clone, Copy, Debug)]
pub struct Tearing {
    /// Bytes that are written whole or not at all.
    pub block: usize,
    /// Up to so many blocks and names in the air every combination is tried.
    pub exhaustive: usize,
    /// Beyond: none, all, each alone, all but each, every prefix and suffix, and so many at random.
    pub random: usize,
}

/// One disk that a power loss may leave.
pub struct Loss {
    pub image: Image,
    /// Operations and notes of the test before it.
    pub operations: usize,
    pub marks: usize,
    pub how: String,
}

/// How many there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub prefixes: usize,
    /// Different disks, counted again where more was promised before.
    pub disks: usize,
    /// Prefixes of which every combination was tried.
    pub exhaustive: usize,
}

/// Everything that was done to a disk.
pub struct Story {
    base: Image,
    operations: Vec<Op>,
    /// Shorter prefixes are those of a story with all its fsyncs, and so left out.
    from: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    Shorter,
    Zeros,
    OldBytes,
}

const GAPS: [Gap; 3] = [Gap::Shorter, Gap::Zeros, Gap::OldBytes];

/// Something that is there after the loss or not.
#[derive(Clone, Copy)]
enum Atom {
    Names { dir: usize, index: usize },
    Length { node: usize, index: usize },
    Block { node: usize, index: usize, from: usize, to: usize },
}

type Changes = Vec<(OsString, Option<usize>)>;

/// What is durable, and what is in the air.
struct Air {
    settled: Image,
    files: BTreeMap<usize, Vec<Op>>,
    names: BTreeMap<usize, Vec<Changes>>,
}

impl Double {
    /// What was done to it since it was mounted.
    pub fn story(&self) -> Story {
        let (base, operations, from) = self.history();
        Story { base, operations, from }
    }
}

impl Story {
    /// Shows what a power loss could leave after each prefix, until `see` has enough. Of a disk that
    /// skips fsyncs only those since the first that was skipped: the others are those of one that does not.
    pub fn losses(&self, tearing: &Tearing, seed: u64, see: &mut dyn FnMut(Loss) -> ControlFlow<()>) -> Tally {
        let mut air = Air { settled: self.base.clone(), files: BTreeMap::new(), names: BTreeMap::new() };
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut seen, mut tally, mut marks) = (HashSet::new(), Tally::default(), 0);
        for operations in 0..=self.operations.len() {
            if let Some(operation) = operations.checked_sub(1).and_then(|last| self.operations.get(last)) {
                marks += usize::from(matches!(operation, Op::Mark));
                air.take(operation);
            }
            if operations < self.from {
                continue;
            }
            tally.prefixes += 1;
            let atoms = air.atoms(tearing.block);
            tally.exhaustive += usize::from(atoms.len() <= tearing.exhaustive);
            for (kept, gap) in combinations(atoms.len(), tearing, &mut random) {
                let image = air.after(&atoms, &kept, gap, None);
                if !seen.insert((fingerprint(&image), marks)) {
                    continue;
                }
                tally.disks += 1;
                let missing = atoms.iter().zip(&kept).filter(|(_, kept)| !**kept).count();
                let how = format!("{missing} of {} in the air are gone, {gap:?}", atoms.len());
                if see(Loss { image, operations, marks, how }).is_break() {
                    return tally;
                }
            }
            for (at, atom) in atoms.iter().enumerate() {
                let Atom::Names { dir, index } = *atom else { continue };
                if !air.names[&dir][index].iter().any(|(name, _)| name.to_string_lossy().ends_with(".tmp")) {
                    continue;
                }
                let image = air.after(&atoms, &vec![true; atoms.len()], Gap::Shorter, Some(at));
                if seen.insert((fingerprint(&image), marks)) {
                    tally.disks += 1;
                    if see(Loss { image, operations, marks, how: "a rename left both names".into() }).is_break() {
                        return tally;
                    }
                }
            }
        }
        tally
    }
}

/// Which of `count` atoms are there, and what fills the gaps.
fn combinations(count: usize, tearing: &Tearing, random: &mut fastrand::Rng) -> Vec<(Vec<bool>, Gap)> {
    let mut all: Vec<Vec<bool>> = Vec::new();
    if count <= tearing.exhaustive {
        all.extend((0..1u64 << count).map(|bits| (0..count).map(|at| bits >> at & 1 == 1).collect()));
    } else {
        for alone in [true, false] {
            all.push(vec![alone; count]);
            all.extend((0..count).map(|at| (0..count).map(|n| (n == at) == alone).collect()));
            all.extend((1..count).map(|at| (0..count).map(|n| (n < at) == alone).collect()));
        }
        all.extend((0..tearing.random).map(|_| (0..count).map(|_| random.bool()).collect()));
    }
    all.into_iter().flat_map(|kept| GAPS.map(|gap| (kept.clone(), gap))).collect()
}

impl Air {
    fn take(&mut self, operation: &Op) {
        match operation {
            Op::New { .. } => self.settled.apply(operation),
            Op::Write { node, .. } | Op::SetLen { node, .. } => {
                self.files.entry(*node).or_default().push(operation.clone());
            }
            Op::Entries { dir, changes } => self.names.entry(*dir).or_default().push(changes.clone()),
            Op::Fsync { node } => {
                self.files.remove(node).unwrap_or_default().iter().for_each(|op| self.settled.apply(op));
            }
            Op::FsyncDir { dir } => {
                for (name, node) in self.names.remove(dir).unwrap_or_default().into_iter().flatten() {
                    self.settled.set(*dir, &name, node);
                }
            }
            Op::Mark => {}
        }
    }

    fn atoms(&self, block: usize) -> Vec<Atom> {
        let mut atoms = Vec::new();
        for (dir, changes) in &self.names {
            atoms.extend((0..changes.len()).map(|index| Atom::Names { dir: *dir, index }));
        }
        for (node, operations) in &self.files {
            for (index, operation) in operations.iter().enumerate() {
                let Op::Write { offset, bytes, .. } = operation else {
                    atoms.push(Atom::Length { node: *node, index });
                    continue;
                };
                let (mut from, end) = (*offset as usize, *offset as usize + bytes.len());
                while from < end {
                    let to = ((from / block + 1) * block).min(end);
                    atoms.push(Atom::Block { node: *node, index, from, to });
                    from = to;
                }
            }
        }
        atoms
    }

    /// The disk with these atoms and no others; of the names at `both` the old one stays.
    fn after(&self, atoms: &[Atom], kept: &[bool], gap: Gap, both: Option<usize>) -> Image {
        let mut image = self.settled.clone();
        // Atoms stand in the order of the operations on each file, and an operation's together.
        let mut extended = (usize::MAX, usize::MAX);
        for (at, (atom, kept)) in atoms.iter().zip(kept).enumerate() {
            match *atom {
                Atom::Names { dir, index } if *kept => {
                    for (name, node) in &self.names[&dir][index] {
                        if both != Some(at) || node.is_some() {
                            image.set(dir, name, *node);
                        }
                    }
                }
                Atom::Length { node, index } if *kept => image.apply(&self.files[&node][index]),
                Atom::Block { node, index, from, to } => {
                    let Op::Write { offset, bytes, .. } = &self.files[&node][index] else { continue };
                    let offset = *offset as usize;
                    if gap != Gap::Shorter && extended != (node, index) {
                        extended = (node, index);
                        let length = image.nodes[node].bytes.len();
                        let fill = if gap == Gap::Zeros { 0 } else { 0xA5 };
                        let missing = (offset + bytes.len()).saturating_sub(length);
                        image.write(node, length, &vec![fill; missing]);
                    }
                    if *kept {
                        image.write(node, from, &bytes[from - offset..to - offset]);
                    }
                }
                _ => {}
            }
        }
        image
    }
}

fn fingerprint(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    for node in &image.nodes {
        node.bytes.hash(&mut hasher);
        node.entries.hash(&mut hasher);
    }
    hasher.finish()
}
