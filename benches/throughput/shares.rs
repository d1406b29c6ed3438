//! Where the time of row 1 goes: one step more each time, in turn, in the same run; what a step costs is the
//! difference to the one before.

use std::hint::black_box;

use auditferry::enrich::Enricher;
use auditferry::normalize::{Context, Profile, Scratch, Step};
use auditferry::record::RecordKey;

use crate::{CONTEXT, ROUNDS, each_record, median, timed};

/// What is done of a record, each with everything before it.
const STEPS: [&str; 6] = ["read", "key", "draft", "fields", "rest", "look-ups"];

/// Measures and prints the row.
pub fn print(blobs: &[String], records: usize, enricher: &Enricher) {
    let mut times: [Vec<f64>; STEPS.len()] = Default::default();
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        for (step, times) in times.iter_mut().enumerate() {
            times.push(timed(&mut || blobs.iter().for_each(|blob| up_to(step, blob, enricher, &mut out))));
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

fn up_to(step: usize, blob: &str, enricher: &Enricher, out: &mut Vec<u8>) {
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
                let enrich = (step == STEPS.len() - 1).then_some(enricher);
                let context = Context { enrich, ..CONTEXT };
                let step = [Step::Draft, Step::Fields, Step::Whole, Step::Whole][step - 2];
                scratch.document_until(step, &context, Profile::Auditferry, key, view, out);
            }
        }
    });
    black_box(&out);
}
