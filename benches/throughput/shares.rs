//! Where the time of row 1 goes: one step more each time, in turn, in the same run; what a step costs is the
//! difference to the one before.

use std::hint::black_box;

use auditferry::normalize::{Profile, Scratch, Step};
use auditferry::record::RecordKey;

use crate::{CONTEXT, ROUNDS, each_record, median, timed};

/// What is done of a record, each with everything before it.
const STEPS: [&str; 5] = ["read", "key", "draft", "fields", "rest"];

/// Measures and prints the row.
pub fn print(blobs: &[String], records: usize) {
    let mut times: [Vec<f64>; STEPS.len()] = Default::default();
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        for (step, times) in times.iter_mut().enumerate() {
            times.push(timed(&mut || blobs.iter().for_each(|blob| up_to(step, blob, &mut out))));
        }
    }
    let medians = times.map(|times| median(times) / records as f64);
    let whole = medians[STEPS.len() - 1];
    let mut before = 0.0;
    print!("  of which");
    for (name, until) in STEPS.iter().zip(medians) {
        print!("  {name} {:.0} ns ({:.0} %)", until - before, (until - before) / whole * 100.0);
        before = until;
    }
    println!();
}

fn up_to(step: usize, blob: &str, out: &mut Vec<u8>) {
    out.clear();
    let mut scratch = Scratch::default();
    each_record(blob, |view| {
        if step == 0 {
            black_box(view);
            return;
        }
        let key = RecordKey::of(CONTEXT.tenant_id, view);
        match step {
            1 => _ = black_box(key),
            _ => {
                let step = [Step::Draft, Step::Fields, Step::Whole][step - 2];
                scratch.document_until(step, &CONTEXT, Profile::Auditferry, key, view, out);
            }
        }
    });
    black_box(&out);
}
