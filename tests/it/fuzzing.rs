//! The readers of foreign bytes against the corpus of the fuzzer and mutations of it: the same promises
//! that `make fuzz` tries by coverage, small enough for every run. A seed that failed is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use auditferry::fuzzing::{TARGETS, Target};

use crate::support::{figure, size};

/// Mutations a target; `make bars` does not repeat what `make fuzz` does better.
const MUTATIONS: u64 = 20_000;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}")).collect();
    paths.sort_by_key(|path| path.as_ref().unwrap().path());
    paths.into_iter().map(|path| std::fs::read(path.unwrap().path()).unwrap()).collect()
}

/// Changes, drops, doubles or moves a few bytes.
fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    const TELLING: &[u8] = b"\"\\{}[],:\0\xff\n \t0-9eE./%@$";
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes.insert(at, TELLING[random.usize(..TELLING.len())]),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + random.usize(..8)).min(bytes.len()))),
            4 => {
                let piece = bytes[at..(at + random.usize(..40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
}

#[test]
fn no_bytes_break_a_promise_of_a_reader() {
    for target in TARGETS {
        let seeds = corpus(target);
        assert!(!seeds.is_empty(), "{} has no corpus", target.name);
        for seed in &seeds {
            (target.run)(seed);
        }
        for round in 0..size(MUTATIONS, 10 * MUTATIONS) {
            let mut random = fastrand::Rng::with_seed(round);
            let mut bytes = seeds[random.usize(..seeds.len())].clone();
            mutate(&mut bytes, &seeds, &mut random);
            let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(ended.is_ok(), "{}: mutation {round}: `{}`", target.name, bytes.escape_ascii());
        }
    }
    figure("fuzzing", format_args!("{} readers, {} mutations each", TARGETS.len(), size(MUTATIONS, 10 * MUTATIONS)));
}
