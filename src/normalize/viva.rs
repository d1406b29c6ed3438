//! What happens in Viva Engage (Yammer) and Viva.
//!
//! Comes in: a record. Goes out: facts in a draft.

use super::draft::Draft;
use super::family::{Family, Rule};

pub static FAMILY: Family = Family { name: "Viva Engage and Viva", record_types: &[22], rules: RULES, describe };

const RULES: &[Rule] = &[];

fn describe(_draft: &mut Draft<'_>) {}
