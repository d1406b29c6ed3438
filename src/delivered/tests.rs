//! Claims and verdicts, as the pipeline and the drivers make them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ack::Settlement;

const A: SinkId = SinkId(0);
const B: SinkId = SinkId(1);
const BOTH: SinkSet = SinkSet(3);
const ONLY_A: SinkSet = SinkSet(1);
const ONLY_B: SinkSet = SinkSet(2);

fn key(n: u8) -> RecordKey {
    RecordKey([n; 16])
}

fn delivered() -> Delivered {
    Delivered::new(&Metrics::new())
}

/// A blob attempt of one record: its share, and what it heard.
fn blob() -> (Finalizer, Arc<Mutex<Option<Settlement>>>) {
    let heard = Arc::new(Mutex::new(None));
    let hears = Arc::clone(&heard);
    (Finalizer::new(move |settlement| *hears.lock().unwrap() = Some(settlement)), heard)
}

type Heard = Arc<Mutex<Option<Settlement>>>;

fn claim(delivered: &Delivered, wanted: SinkSet, required: SinkSet, n: u8) -> (SinkSet, Heard) {
    let (finalizer, heard) = blob();
    (delivered.claim(wanted, required, [(key(n), finalizer)].into_iter())[0], heard)
}

fn heard(heard: &Heard) -> Option<Settlement> {
    *heard.lock().unwrap()
}

const NONE: Settlement = Settlement { delivered: 0, duplicate: 0, filtered: 0, rejected: 0, lost: 0 };
const DELIVERED: Option<Settlement> = Some(Settlement { delivered: 1, ..NONE });
const DUPLICATE: Option<Settlement> = Some(Settlement { duplicate: 1, ..NONE });
const REJECTED: Option<Settlement> = Some(Settlement { rejected: 1, ..NONE });
const LOST: Option<Settlement> = Some(Settlement { lost: 1, ..NONE });

#[test]
fn a_record_is_done_when_all_required_sinks_are_and_is_then_a_duplicate() {
    let map = delivered();
    let (send, first) = claim(&map, BOTH, BOTH, 1);
    assert_eq!(send, BOTH);
    map.resolve(A, Outcome::Delivered, &[key(1)]);
    assert_eq!(heard(&first), None);
    map.resolve(B, Outcome::Delivered, &[key(1)]);
    assert_eq!(heard(&first), DELIVERED);
    let (send, again) = claim(&map, BOTH, BOTH, 1);
    assert_eq!((send, heard(&again)), (SinkSet::EMPTY, DUPLICATE));
}

#[test]
fn a_copy_in_flight_shares_the_verdict_and_is_not_sent() {
    for (outcome, of_first, of_copy) in [
        (Outcome::Delivered, DELIVERED, DUPLICATE),
        (Outcome::Rejected, REJECTED, DUPLICATE),
        (Outcome::Lost, LOST, LOST),
    ] {
        let map = delivered();
        let (_, first) = claim(&map, ONLY_A, ONLY_A, 1);
        let (send, copy) = claim(&map, ONLY_A, ONLY_A, 1);
        assert_eq!((send, heard(&copy)), (SinkSet::EMPTY, None));
        map.resolve(A, outcome, &[key(1)]);
        assert_eq!((heard(&first), heard(&copy)), (of_first, of_copy));
    }
}

#[test]
fn the_worst_required_verdict_wins_and_a_lost_record_is_sent_where_it_lacks() {
    let map = delivered();
    let (_, first) = claim(&map, BOTH, BOTH, 1);
    map.resolve(A, Outcome::Lost, &[key(1)]);
    map.resolve(B, Outcome::Delivered, &[key(1)]);
    assert_eq!(heard(&first), LOST);
    let (send, again) = claim(&map, BOTH, BOTH, 1);
    assert_eq!((send, heard(&again)), (ONLY_A, None));
    map.resolve(A, Outcome::Rejected, &[key(1)]);
    assert_eq!(heard(&again), REJECTED);
    assert_eq!(claim(&map, BOTH, BOTH, 1).0, SinkSet::EMPTY);
}

#[test]
fn nobody_waits_for_an_optional_sink_but_it_is_sent_what_it_lacks() {
    let map = delivered();
    let (send, first) = claim(&map, BOTH, ONLY_A, 1);
    assert_eq!(send, BOTH);
    map.resolve(A, Outcome::Delivered, &[key(1)]);
    assert_eq!(heard(&first), DELIVERED);
    let (send, copy) = claim(&map, BOTH, ONLY_A, 1);
    assert_eq!((send, heard(&copy)), (SinkSet::EMPTY, DUPLICATE), "B is being sent it");
    map.resolve(B, Outcome::Lost, &[key(1)]);
    let (send, copy) = claim(&map, BOTH, ONLY_A, 1);
    assert_eq!((send, heard(&copy)), (ONLY_B, DUPLICATE), "B lost it");
    map.resolve(B, Outcome::Delivered, &[key(1)]);
    assert_eq!(claim(&map, BOTH, ONLY_A, 1).0, SinkSet::EMPTY);
}

#[test]
fn a_sink_that_became_required_is_waited_for_by_the_copy() {
    let map = delivered();
    let (_, first) = claim(&map, BOTH, ONLY_A, 1);
    map.resolve(A, Outcome::Delivered, &[key(1)]);
    assert_eq!(heard(&first), DELIVERED);
    let (send, copy) = claim(&map, BOTH, BOTH, 1);
    assert_eq!((send, heard(&copy)), (SinkSet::EMPTY, None));
    map.resolve(B, Outcome::Lost, &[key(1)]);
    assert_eq!(heard(&copy), LOST);
}

#[test]
fn an_abandoned_sink_loses_what_waits_for_it_and_an_abandoned_map_everything() {
    let map = delivered();
    let (_, first) = claim(&map, BOTH, BOTH, 1);
    map.abandon(B);
    assert_eq!(heard(&first), None);
    map.abandon(A);
    assert_eq!(heard(&first), LOST);
    let (_, second) = claim(&map, BOTH, BOTH, 2);
    map.abandon_all();
    assert!(!heard(&second).unwrap().is_settled());
}

#[test]
fn whoever_hears_a_verdict_may_come_back() {
    let map = Arc::new(delivered());
    let calls = Arc::new(AtomicUsize::new(0));
    let (back, counter) = (Arc::clone(&map), Arc::clone(&calls));
    let finalizer = Finalizer::new(move |_| {
        back.resolve(B, Outcome::Delivered, &[key(9)]);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    map.claim(ONLY_A, ONLY_A, [(key(1), finalizer)].into_iter());
    map.resolve(A, Outcome::Delivered, &[key(1)]);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(claim(&map, BOTH, BOTH, 9).0, ONLY_A);
}

#[test]
fn keys_outlive_one_freeze_in_memory_and_sinks_add_up_over_generations() {
    let map = delivered();
    map.restore(A, &key(1).0);
    assert_eq!(map.freeze().unwrap().len(), 1);
    map.resolve(B, Outcome::Delivered, &[key(1)]);
    assert_eq!(claim(&map, BOTH, BOTH, 1).0, SinkSet::EMPTY);
    map.freeze();
    assert_eq!(claim(&map, BOTH, BOTH, 1).0, ONLY_A, "the first generation is gone, B's mark is not");
    assert!(map.freeze().is_none(), "nothing new");
}

/// Whatever comes in whatever order: nothing is sent twice, every share is settled once, and none is
/// called done before every sink it waits for has the record.
#[test]
fn random_claims_and_verdicts_keep_the_promise() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let map = delivered();
        let mut had = [SinkSet::EMPTY; 4];
        let mut sending: Vec<(SinkId, u8)> = Vec::new();
        let mut waiting: Vec<(Heard, u8, SinkSet)> = Vec::new();
        for step in 0..200 {
            let n = random.u8(0..4);
            if step < 150 && random.bool() {
                let wanted = SinkSet(random.u32(1..8));
                let required = wanted.intersection(SinkSet(random.u32(0..8)));
                let (send, heard) = claim(&map, wanted, required, n);
                for sink in send.iter() {
                    assert!(wanted.contains(sink) && !had[n as usize].contains(sink), "seed {seed}");
                    assert!(!sending.contains(&(sink, n)), "seed {seed}: sent twice");
                    sending.push((sink, n));
                }
                waiting.push((heard, n, required));
            } else if !sending.is_empty() {
                let (sink, n) = sending.swap_remove(random.usize(0..sending.len()));
                let outcomes = [Outcome::Delivered, Outcome::Rejected, Outcome::Lost];
                let outcome = outcomes[random.usize(0..3)];
                if outcome != Outcome::Lost {
                    had[n as usize] = had[n as usize].union(SinkSet::of(sink));
                }
                map.resolve(sink, outcome, &[key(n)]);
            }
            waiting.retain(|(share, n, required)| {
                let Some(settlement) = heard(share) else { return true };
                let lacks = required.minus(had[*n as usize]);
                assert!(lacks.is_empty() || !settlement.is_settled(), "seed {seed}: done, and {lacks:?} lack it");
                false
            });
        }
        for (sink, n) in sending {
            map.resolve(sink, Outcome::Delivered, &[key(n)]);
        }
        assert!(waiting.iter().all(|(share, ..)| heard(share).is_some()), "seed {seed}: somebody waits for ever");
        assert_eq!(map.known().flight.len(), 0, "seed {seed}");
    }
}
