//! The bar `corruption`: whatever is changed in a state directory, a start never panics, never invents a
//! delivery, never closes a cell that was not, and takes no change for the truth in silence.
//!
//! Every truncation and every flipped bit of every file of a small state; then mutations at random: bytes,
//! blocks swapped, doubled and zeroed, files cut, grown, exchanged, overwritten and removed. All on a disk in
//! memory. What is accepted without a word is what was written, or, where a file ends early or is gone, less.
//! Each is read as a start reads it, many of them on each core; some of them get a whole start, which
//! repairs, writes and leaves a directory that the next one reads without a word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use auditferry::ack::{Finalizer, Outcome, Settlement};
use auditferry::delivered::Delivered;
use auditferry::disk::double::{Double, Image};
use auditferry::metrics::Metrics;
use auditferry::record::RecordKey;
use auditferry::sink::{SinkId, SinkSet};
use auditferry::state::{ContentKey, FeedFact, FeedProgress, ListedBlob, State, StateError};

use super::power::story::{feed_key, key, place, state_config};
use crate::support::{figure, size};

const KEYS: u32 = 90;
/// Of so many changes one gets a whole start.
const START_EVERY: usize = 64;

/// What a state knows.
#[derive(Debug, PartialEq)]
struct Known {
    /// Records that sink 0 and sink 1 have.
    had: [BTreeSet<u32>; 2],
    progress: FeedProgress,
}

fn known(delivered: &Delivered, progress: FeedProgress) -> Known {
    // Twenty that nobody ever had, too.
    static ASKED: LazyLock<Vec<RecordKey>> = LazyLock::new(|| (0..KEYS + 20).map(key).collect());
    let had = |sink: SinkId| {
        let wanted = SinkSet::of(sink);
        let records = ASKED.iter().map(|key| (*key, Finalizer::new(|_| {})));
        let missing = delivered.claim(wanted, wanted, records);
        delivered.resolve(sink, Outcome::Lost, &ASKED);
        (0..).zip(missing).filter(|(_, missing)| missing.is_empty()).map(|(n, _)| n).collect()
    };
    Known { had: [0, 1].map(|sink| had(SinkId(sink))), progress }
}

fn known_by(state: &State) -> Known {
    known(state.delivered(), state.feed(&feed_key()).read(FeedProgress::clone))
}

/// A state of several generations, and what it knows.
fn small_state() -> (Image, Known) {
    let root = place();
    let mounted = Double::mount(&root, Image::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = State::open_small(&state_config(&root), Metrics::new()).unwrap();
    let (a, b) = (state.sink_id("a").unwrap(), state.sink_id("b").unwrap());
    let feed = state.feed(&feed_key());
    feed.record(FeedFact::Opened { from: 0 });
    runtime.block_on(async {
        for n in 0..KEYS / 3 {
            let content_id = format!("blob-{n}");
            let content = ContentKey::of(&content_id);
            let blob = ListedBlob { content_id, content_uri: "https://x".into(), created_ms: 5, expires: None };
            let cell = i64::from(n / 10) * 3600;
            feed.record(FeedFact::Listed { cell, at: 10, complete: true, last: n == 9, blobs: vec![blob] });
            state.acked(a, Outcome::Delivered, &[key(3 * n), key(3 * n + 1), key(3 * n + 2)], None);
            state.acked(b, Outcome::Delivered, &[key(3 * n)], None);
            if n < 10 || n % 2 == 0 {
                feed.record(FeedFact::Settled { content, counts: Settlement::default(), bytes: 1 });
            }
            if n == 15 {
                feed.record(FeedFact::Closed { cell: 0 });
            }
            if n % 3 == 0 {
                state.durable().await.unwrap();
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
        state.close().await.unwrap();
    });
    drop((feed, state));
    let image = mounted.disk.image().compact();
    drop(mounted);
    let mounted = Double::mount(&root, image.clone());
    let state = State::open_small(&state_config(&root), Metrics::new()).unwrap();
    let known = known_by(&state);
    assert_eq!((known.had[0].len(), known.had[1].len()), (KEYS as usize, KEYS as usize / 3));
    drop((state, mounted));
    (image, known)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: usize,
    /// Of those tried, by a whole start too.
    started: usize,
    refused: usize,
    reported: usize,
    same: usize,
    shorter: usize,
}

enum Verdict {
    Reported,
    Same,
    Shorter,
}

const REASONS: [&str; 5] = ["snapshot", "journal", "tail", "segment", "lost"];

struct Bar<'a> {
    root: PathBuf,
    image: Image,
    files: Vec<(PathBuf, Vec<u8>)>,
    truth: &'a Known,
    metrics: Arc<Metrics>,
    tally: Tally,
}

impl<'a> Bar<'a> {
    fn new(image: &Image, truth: &'a Known) -> Bar<'a> {
        let files = image.files().into_iter().collect();
        Bar { root: place(), image: image.clone(), files, truth, metrics: Metrics::new(), tally: Tally::default() }
    }

    /// What a start would make of `image`, and now and then what one does; `may_forget`: the change is one that
    /// only takes from an end.
    fn check(&mut self, image: Image, may_forget: bool, what: &dyn Fn() -> String) {
        self.tally.tried += 1;
        if self.tally.tried.is_multiple_of(START_EVERY) {
            self.start(image.clone(), may_forget, what);
        }
        let mounted = Double::mount(&self.root, image);
        let dir = state_config(&self.root).dir;
        match State::look(&dir, &self.metrics) {
            Ok(mut looked) => {
                let found = known(&looked.delivered, looked.feeds.remove(&feed_key()).unwrap_or_default());
                let verdict = self.judge(&found, !looked.findings.is_empty(), may_forget, what);
                *match verdict {
                    Verdict::Reported => &mut self.tally.reported,
                    Verdict::Same => &mut self.tally.same,
                    Verdict::Shorter => &mut self.tally.shorter,
                } += 1;
            }
            Err(error) => {
                self.is_named(&error, what);
                self.tally.refused += 1;
            }
        }
        drop(mounted);
    }

    fn start(&mut self, image: Image, may_forget: bool, what: &dyn Fn() -> String) {
        let mounted = Double::mount(&self.root, image);
        self.tally.started += 1;
        for round in 0..2 {
            let metrics = Metrics::new();
            let state = match State::open_small(&state_config(&self.root), Arc::clone(&metrics)) {
                Ok(state) => state,
                Err(error) if round == 0 => return self.is_named(&error, what),
                Err(error) => panic!("{}: the second start is refused: {error}", what()),
            };
            let said = REASONS.iter().any(|reason| metrics.state_recoveries.with_label_values(&[*reason]).get() > 0);
            // What the first start has repaired is the truth of the second.
            assert!(round == 0 || !said, "{}: damaged again at the second start", what());
            self.judge(&known_by(&state), said || round > 0, may_forget, what);
        }
        drop(mounted);
    }

    fn is_named(&self, error: &StateError, what: &dyn Fn() -> String) {
        let named = error.to_string().contains(&*self.root.to_string_lossy());
        assert!(named, "{}: refused without a name: {error}", what());
    }

    fn judge(&self, found: &Known, said: bool, may_forget: bool, what: &dyn Fn() -> String) -> Verdict {
        for sink in 0..2 {
            let invented: Vec<_> = found.had[sink].difference(&self.truth.had[sink]).collect();
            assert!(invented.is_empty(), "{}: deliveries to sink {sink} out of nothing: {invented:?}", what());
        }
        let (now, then) = (&found.progress, &self.truth.progress);
        assert!(now.closed_before <= then.closed_before, "{}: closed what was open", what());
        for (cell, known) in &now.cells {
            let settled = known.settled.iter().flat_map(|all| all.iter());
            let before = then.cells.get(cell).and_then(|cell| cell.settled.as_ref());
            // A closed cell has forgotten its blobs.
            let was =
                |content: &ContentKey| *cell < then.closed_before || before.is_some_and(|all| all.contains(content));
            assert!(settled.clone().all(was), "{}: settled what was not", what());
        }
        if said {
            Verdict::Reported
        } else if found == self.truth {
            Verdict::Same
        } else {
            assert!(may_forget, "{}: changed in silence", what());
            Verdict::Shorter
        }
    }

    fn every_cut_and_flip(&mut self, step: usize) {
        for (path, bytes) in self.files.clone() {
            for length in (0..bytes.len()).step_by(step.div_ceil(8)) {
                let image = self.image.with(&path, bytes[..length].to_vec());
                self.check(image, is_journal(&path), &|| format!("{path:?} cut at {length}"));
            }
            for bit in (0..bytes.len() * 8).step_by(step) {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                self.check(self.image.with(&path, changed), false, &|| format!("{path:?} bit {bit}"));
            }
            self.check(self.image.without(&path), is_journal(&path), &|| format!("{path:?} is gone"));
        }
    }

    fn random(&mut self, count: usize, seed: u64, done_by_all: &AtomicUsize) {
        let files = self.files.clone();
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..count {
            let (mut image, mut may_forget, mut done) = (self.image.clone(), false, Vec::new());
            for _ in 0..random.usize(1..=2) {
                let (path, bytes) = &files[random.usize(..files.len())];
                let (other, others) = &files[random.usize(..files.len())];
                let kind = random.u8(..10);
                let mut bytes = image.file(path).unwrap_or(bytes).to_vec();
                mutate(&mut bytes, kind, others, &mut random);
                // A journal that ends early or is not there says less, and the last one may have ended so.
                may_forget |= is_journal(path) && matches!(kind, 4 | 5 | 6 | 8) || is_journal(other) && kind == 8;
                may_forget |= is_journal(path) && kind == 9 && others.len() < 24;
                done.push((path, kind, other));
                image = match kind {
                    6 => image.without(path),
                    8 => {
                        let mine = image.file(path).unwrap_or_default().to_vec();
                        image.with(path, others.clone()).with(other, mine)
                    }
                    _ => image.with(path, bytes),
                };
            }
            self.check(image, may_forget, &|| format!("seed {seed} round {round}: (file, kind, with) {done:?}"));
            let all = done_by_all.fetch_add(1, Ordering::Relaxed) + 1;
            if all.is_multiple_of(100_000) {
                figure("corruption", format_args!("{all} mutations"));
            }
        }
    }
}

fn is_journal(path: &Path) -> bool {
    path.to_string_lossy().contains("journal-")
}

fn mutate(bytes: &mut Vec<u8>, kind: u8, others: &[u8], random: &mut fastrand::Rng) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(b"x");
    }
    let (at, length) = (random.usize(..bytes.len()), bytes.len());
    let block = *random.choice(&[16, 64, 512, 4096]).unwrap_or(&16);
    let end = (at + block).min(length);
    match kind {
        0 => (0..random.usize(1..16)).for_each(|_| bytes[random.usize(..length)] = random.u8(..)),
        1 => {
            let to = random.usize(..length - (end - at) + 1);
            bytes.copy_within(at..end, to);
        }
        2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
        3 => bytes[at..end].fill(random.u8(..)),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        7 => bytes.extend((0..block).map(|_| random.u8(..))),
        9 => *bytes = others.to_vec(),
        _ => {}
    }
}

#[test]
fn corruption_every_cut_and_flip() {
    let (image, truth) = small_state();
    let mut bar = Bar::new(&image, &truth);
    let bytes: usize = bar.files.iter().map(|(_, bytes)| bytes.len()).sum();
    bar.every_cut_and_flip(size(41, 1));
    figure("corruption", format_args!("{bytes} bytes in {} files: {:?}", bar.files.len(), bar.tally));
}

#[test]
fn corruption_at_random() {
    let (image, truth) = small_state();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let each = size(3000, 1_000_000) / threads;
    let (began, done_by_all) = (Instant::now(), AtomicUsize::new(0));
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let run = |seed| {
            let mut bar = Bar::new(&image, &truth);
            let done_by_all = &done_by_all;
            move || {
                bar.random(each, seed, done_by_all);
                bar.tally
            }
        };
        let threads: Vec<_> = (1..=threads as u64).map(|seed| scope.spawn(run(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    figure("corruption", format_args!("at random, in {:.1} s: {tallies:?}", began.elapsed().as_secs_f64()));
    assert!(tallies.iter().all(|tally| tally.reported > each / 4 && tally.started > 0));
}
