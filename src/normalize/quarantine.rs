//! What happens in quarantined mail and listed senders.
//!
//! Comes in: a record. Goes out: facts in a draft.

use super::draft::Draft;
use super::family::{Family, Rule};

pub static FAMILY: Family = Family { name: "Quarantine and hygiene", record_types: &[51, 65], rules: RULES, describe };

const RULES: &[Rule] = &[];

fn describe(_draft: &mut Draft<'_>) {}
