//! What happens in Copilot.
//!
//! Comes in: a record. Goes out: facts in a draft.

use super::draft::Draft;
use super::family::{Family, Rule};

pub static FAMILY: Family = Family { name: "Copilot", record_types: &[261], rules: RULES, describe };

const RULES: &[Rule] = &[];

fn describe(_draft: &mut Draft<'_>) {}
