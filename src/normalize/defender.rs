//! What happens in mail, clicks, files and investigations of Defender.
//!
//! Comes in: a record. Goes out: facts in a draft.

use super::draft::Draft;
use super::family::{Family, Rule};

pub static FAMILY: Family =
    Family { name: "Defender", record_types: &[28, 41, 47, 62, 64, 86, 89], rules: RULES, describe };

const RULES: &[Rule] = &[];

fn describe(_draft: &mut Draft<'_>) {}
