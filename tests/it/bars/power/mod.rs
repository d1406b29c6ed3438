//! The bar `power`: what a power loss leaves loads, and nothing that was promised is gone.
//!
//! A story is played on a disk in memory that keeps a log of every change (state directory, output file
//! and its rotation, dead letters). For **every prefix** of the log and for disks that tear at 512 bytes
//! and at 4 KiB, everything the model of `auditferry::disk::loss` allows is tried: every combination of
//! the blocks and names in the air where there are few, and beyond that all, none, each alone, all but each,
//! every prefix and suffix, and combinations at random. Each disk gets a start, a redelivery and a judgement.
//! The same for the start itself (a loss during the recovery from a loss; a recovery from damage) and for
//! a start after a kill. And each fsync is left out in turn: every one must be missed.

mod faults;
mod judge;
pub mod story;

use std::ops::ControlFlow;
use std::path::PathBuf;

use auditferry::disk::Fsync;
use auditferry::disk::double::{Double, Image};
use auditferry::disk::loss::{Loss, Story, Tally, Tearing};
use auditferry::state::{ContentKey, FeedFact, ListedBlob};
use tokio::runtime::Runtime;

use crate::support::{figure, size};
use judge::{Law, judge};
use story::{Process, Promise, RECORDS, place, state_config};

/// A blob that only the journal knows which is damaged later.
const LATE: u32 = 100;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn tearings() -> [Tearing; 2] {
    let (exhaustive, random) = (size(4, 10), size(1, 24));
    [512, 4096].map(|block| Tearing { block, exhaustive, random })
}

/// A directory with `var` and nothing in it.
fn empty() -> Image {
    Image::default()
}

/// What was done, and what was promised.
struct Played {
    story: Story,
    end: Image,
    promised: Vec<Promise>,
    law: Law,
}

/// Plays `rounds` on `base`, without the fsyncs of the name `skip`.
fn play(runtime: &Runtime, base: Image, rounds: std::ops::Range<u32>, skip: Option<Fsync>) -> Played {
    let root = place();
    let mounted = Double::mount(&root, base);
    mounted.disk.skip(skip);
    let mut promised = Vec::new();
    runtime.block_on(async {
        let process = Process::start(&root).unwrap();
        process.work(&mounted.disk, rounds.clone(), &mut promised).await.unwrap();
    });
    let law = Law { records: rounds.end * RECORDS, exact: true };
    Played { story: mounted.disk.story(), end: mounted.disk.image(), promised, law }
}

/// Judges every disk that a loss could leave; the first that is wrong, if any is.
fn search(
    runtime: &Runtime,
    played: &Played,
    tearing: &Tearing,
    mut also: impl FnMut(&Loss),
) -> (Tally, Option<String>) {
    let root = place();
    let mut wrong = None;
    let tally = played.story.losses(tearing, 7, &mut |loss| {
        let promises = &played.promised[..loss.marks];
        if let Err(what) = runtime.block_on(judge(&root, &loss.image, promises, played.law)) {
            wrong = Some(format!("after {} operations, {}: {what}", loss.operations, loss.how));
            return ControlFlow::Break(());
        }
        also(&loss);
        ControlFlow::Continue(())
    });
    (tally, wrong)
}

fn tell(name: &str, tearing: &Tearing, tally: &Tally) {
    let Tally { prefixes, disks, exhaustive } = tally;
    figure(
        "power",
        format_args!(
            "{name}, {} B: {prefixes} prefixes, {disks} disks ({exhaustive} prefixes in every combination)",
            tearing.block
        ),
    );
}

#[test]
fn power_everything_promised_survives_every_loss() {
    let runtime = runtime();
    let played = play(&runtime, empty(), 0..size(4, 8), None);
    for tearing in &tearings() {
        let (tally, wrong) = search(&runtime, &played, tearing, |_| {});
        tell("work", tearing, &tally);
        assert_eq!(wrong, None);
    }
}

/// A power loss, and another while the next start recovers from it.
#[test]
fn power_a_loss_during_the_start_after_a_loss() {
    let runtime = runtime();
    let played = play(&runtime, empty(), 0..size(4, 8), None);
    let most = size(3, 24);
    for tearing in &tearings() {
        let (mut losses, mut all) = (Vec::new(), Tally::default());
        // Judged by the bar above.
        let _ = played.story.losses(tearing, 7, &mut |loss| {
            losses.push((loss.image, loss.marks));
            ControlFlow::Continue(())
        });
        let every = losses.len().div_ceil(most);
        let starts: Vec<(Image, usize)> = losses.into_iter().skip(every / 2).step_by(every).collect();
        let narrow = Tearing { exhaustive: size(3, 4), random: size(0, 6), ..*tearing };
        for (image, marks) in starts {
            let next = play(&runtime, image, played.law.records / RECORDS..played.law.records / RECORDS + 1, None);
            let mut promised = played.promised[..marks].to_vec();
            promised.extend(next.promised.clone());
            // Marks of the second story count from 0.
            let next = Played { promised, ..next };
            let root = place();
            let tally = next.story.losses(&narrow, 7, &mut |loss| {
                let promises = &next.promised[..marks + loss.marks];
                let judged = runtime.block_on(judge(&root, &loss.image, promises, next.law));
                assert_eq!(judged, Ok(()), "after {} operations, {}", loss.operations, loss.how);
                ControlFlow::Continue(())
            });
            all.prefixes += tally.prefixes;
            all.disks += tally.disks;
            all.exhaustive += tally.exhaustive;
        }
        tell("a start after a loss", tearing, &all);
        assert!(all.disks > 50, "{all:?}");
    }
}

/// A disk whose newest journal has a damaged block before its end, and one whose newest snapshot is damaged.
fn damaged(runtime: &Runtime) -> Vec<Image> {
    let played = play(runtime, empty(), 0..8, None);
    let files = played.end.files();
    let newest = |prefix: &str| -> PathBuf {
        let number = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.strip_prefix(prefix).and_then(|rest| rest.split('.').next()?.parse::<u64>().ok())
        };
        files.keys().filter(|path| number(path).is_some()).max_by_key(|path| number(path)).unwrap().clone()
    };
    let flip = |path: PathBuf, at: usize| {
        let mut bytes = files[&path].clone();
        bytes[at] ^= 4;
        played.end.with(&path, bytes)
    };
    let mut images = vec![flip(newest("snapshot-"), 60)];
    // A journal that goes on: keys in a block that stays whole, damage in the next, a block behind it.
    let root = place();
    let mounted = Double::mount(&root, played.end.clone());
    let state = auditferry::state::State::open(&state_config(&root), auditferry::metrics::Metrics::new()).unwrap();
    let sink = state.sink_id("disk").unwrap();
    let journal = root.join(newest("journal-"));
    let mut lengths = Vec::new();
    let content_id = format!("blob-{LATE}");
    let blob = ListedBlob { content_id, content_uri: "https://x".into(), created_ms: 5, expires: None };
    let listed = FeedFact::Listed { cell: 0, at: 10, complete: true, last: false, blobs: vec![blob] };
    state.feed(&story::feed_key()).record(listed);
    for n in 0..3 {
        let keys: Vec<_> = (0..RECORDS).map(|at| story::key((8 + n) * RECORDS + at)).collect();
        state.acked(sink, auditferry::ack::Outcome::Delivered, &keys, None);
        runtime.block_on(state.durable()).unwrap();
        lengths.push(mounted.disk.image().files()[journal.strip_prefix(&root).unwrap()].len());
    }
    drop(state);
    let image = mounted.disk.image();
    let path = newest("journal-");
    let mut bytes = image.files()[&path].clone();
    bytes[lengths[0] + 40] ^= 4;
    images.push(image.with(&path, bytes));
    images
}

/// What a start makes of a damaged disk with the power on, as promises that hold from its beginning.
fn recovery(image: &Image, skip: Option<Fsync>) -> Played {
    let root = place();
    let mounted = Double::mount(&root, image.clone());
    mounted.disk.skip(skip);
    let process = Process::start(&root).unwrap();
    let mut promised = Vec::new();
    for n in 0..9 * RECORDS {
        if process.has(process.file, n) {
            promised.push(Promise::Written(n..n + 1));
        }
    }
    assert!(!promised.is_empty());
    let late = ContentKey::of(&format!("blob-{LATE}"));
    if process.state.feed(&story::feed_key()).read(|progress| progress.pending.contains_key(&late)) {
        promised.push(Promise::Listed(LATE));
    }
    drop(process);
    let law = Law { records: 0, exact: false };
    Played { story: mounted.disk.story(), end: mounted.disk.image(), promised, law }
}

fn search_recovery(runtime: &Runtime, played: &Played, tearing: &Tearing) -> (Tally, Option<String>) {
    let root = place();
    let mut wrong = None;
    let tally = played.story.losses(tearing, 7, &mut |loss| match runtime.block_on(judge(
        &root,
        &loss.image,
        &played.promised,
        played.law,
    )) {
        Ok(()) => ControlFlow::Continue(()),
        Err(what) => {
            wrong = Some(format!("after {} operations, {}: {what}", loss.operations, loss.how));
            ControlFlow::Break(())
        }
    });
    (tally, wrong)
}

#[test]
fn power_a_loss_during_the_recovery_from_damage() {
    let runtime = runtime();
    for image in damaged(&runtime) {
        let played = recovery(&image, None);
        for tearing in &tearings() {
            let (tally, wrong) = search_recovery(&runtime, &played, tearing);
            tell("recovery from damage", tearing, &tally);
            assert_eq!(wrong, None);
        }
    }
}

/// Some disks as a loss leaves them, and the round that comes next.
fn torn(runtime: &Runtime, tearing: &Tearing) -> Vec<(Image, u32)> {
    let played = play(runtime, empty(), 0..3, None);
    // Half a batch in the file, and room for no further one.
    let path = PathBuf::from("audit.ndjson");
    let mut bytes = played.end.files()[&path].clone();
    bytes.extend_from_slice(b"{\"Id\":\"99\",\"fi");
    let (mut found, mut count) = (vec![(played.end.with(&path, bytes), 3)], 0);
    played.story.losses(tearing, 7, &mut |loss| {
        count += 1;
        if count % 100 == 0 {
            found.push((loss.image, 3));
        }
        ControlFlow::Continue(())
    });
    found
}

/// Each fsync left out in turn: whatever nothing misses would be there for nothing.
#[test]
fn power_every_fsync_is_missed() {
    let runtime = runtime();
    let mut missed = 0;
    let (damaged, torn) = (damaged(&runtime), torn(&runtime, &Tearing { block: 512, exhaustive: 4, random: 2 }));
    for why in Fsync::ALL {
        let seen = [512, 4096].into_iter().find_map(|block| {
            let tearing = Tearing { block, exhaustive: 4, random: 2 };
            let recover = |image: &Image| search_recovery(&runtime, &recovery(image, Some(why)), &tearing).1;
            let go_on = |(image, round): &(Image, u32)| {
                let next = play(&runtime, image.clone(), *round..round + 1, Some(why));
                search(&runtime, &next, &tearing, |_| {}).1
            };
            let work = || search(&runtime, &play(&runtime, empty(), 0..6, Some(why)), &tearing, |_| {}).1;
            // The short stories first. One in which nothing was left out is over at once.
            (torn.iter().take(3).find_map(go_on))
                .or_else(|| damaged.iter().find_map(recover))
                .or_else(work)
                .or_else(|| torn.iter().find_map(go_on))
        });
        println!("without {why:?}: {seen:?}");
        missed += usize::from(seen.is_some());
    }
    figure("power", format_args!("{missed} of {} fsyncs are missed when left out", Fsync::ALL.len()));
    assert_eq!(missed, Fsync::ALL.len());
}
