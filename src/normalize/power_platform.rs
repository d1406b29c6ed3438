//! What happens in Power BI and Power Platform.
//!
//! Comes in: a record. Goes out: facts in a draft.

use super::draft::Draft;
use super::family::{Family, Rule};

pub static FAMILY: Family =
    Family { name: "Power BI and Power Platform", record_types: &[20, 30, 45, 46], rules: RULES, describe };

const RULES: &[Rule] = &[];

fn describe(_draft: &mut Draft<'_>) {}
