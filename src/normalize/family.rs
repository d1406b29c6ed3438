//! What a family of record types says about its mapping: rules as data, and a function for what is more than a copy.
//!
//! Comes in: a record type. Goes out: its [`Family`]. docs/fields.md is made of the rules; a test over all fixtures
//! holds that a family writes no field that it has no rule for, and that each rule is seen at work. Adding a family
//! is one file and one line in [`ALL`].

use std::sync::LazyLock;

use crate::record::Field;

use super::draft::Draft;
use super::ecs::Ecs;
use super::{
    alerts, base, copilot, defender, dlp, entra, exchange_admin, generic, mailbox, power_platform, purview, quarantine,
    sharepoint, sign_in, teams, viva,
};

/// Where a field of the document comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    pub to: Ecs,
    pub how: How,
}

/// How a value gets there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// The record's field, which stays under `o365.audit` as well.
    Copied(Field),
    /// The record's field, not repeated under `o365.audit`.
    Moved(Field),
    /// By [`Family::describe`]: of what, and how, in words.
    Made { of: &'static str, rule: &'static str },
}

pub const fn copied(to: Ecs, from: Field) -> Rule {
    Rule { to, how: How::Copied(from) }
}

pub const fn moved(to: Ecs, from: Field) -> Rule {
    Rule { to, how: How::Moved(from) }
}

pub const fn made(to: Ecs, of: &'static str, rule: &'static str) -> Rule {
    Rule { to, how: How::Made { of, rule } }
}

/// The mapping of some record types.
pub struct Family {
    /// For people.
    pub name: &'static str,
    /// `RecordType` numbers.
    pub record_types: &'static [i64],
    pub rules: &'static [Rule],
    /// Does what the rules of [`How::Made`] say, after the copies.
    pub describe: for<'a> fn(&mut Draft<'a>),
}

/// Every family. One that lists no record types is the rest.
pub static ALL: &[&Family] = &[
    &entra::FAMILY,
    &sign_in::FAMILY,
    &exchange_admin::FAMILY,
    &mailbox::FAMILY,
    &sharepoint::FAMILY,
    &teams::FAMILY,
    &dlp::FAMILY,
    &alerts::FAMILY,
    &defender::FAMILY,
    &quarantine::FAMILY,
    &purview::FAMILY,
    &power_platform::FAMILY,
    &viva::FAMILY,
    &copilot::FAMILY,
    &generic::FAMILY,
];

/// Record types have numbers below this; one above is in no family's list.
const NUMBERS: usize = 512;

/// By number of the record type: its place in [`ALL`].
static PLACES: LazyLock<[u8; NUMBERS]> = LazyLock::new(|| {
    let mut places = [ALL.len() as u8 - 1; NUMBERS];
    for (place, family) in ALL.iter().enumerate() {
        for number in family.record_types {
            places[*number as usize] = place as u8;
        }
    }
    places
});

/// The family of a record.
pub fn of(record_type: Option<i64>) -> &'static Family {
    ALL[place_of(record_type)]
}

/// Its place in [`ALL`]; the last is the rest.
fn place_of(record_type: Option<i64>) -> usize {
    let place = record_type.and_then(|number| PLACES.get(usize::try_from(number).ok()?));
    place.map_or(ALL.len() - 1, |place| usize::from(*place))
}

/// A rule that needs no words: copied, or moved.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    to: Ecs,
    from: Field,
    is_moved: bool,
}

/// The rules that copy and move, of every record and by place in [`ALL`]: few of the many that stand in the tables.
static TRANSFERS: LazyLock<(Vec<Transfer>, Vec<Vec<Transfer>>)> = LazyLock::new(|| {
    let transfer = |rule: &Rule| match rule.how {
        How::Copied(from) => Some(Transfer { to: rule.to, from, is_moved: false }),
        How::Moved(from) => Some(Transfer { to: rule.to, from, is_moved: true }),
        How::Made { .. } => None,
    };
    let of = |rules: &[Rule]| rules.iter().filter_map(transfer).collect::<Vec<_>>();
    (of(base::RULES), ALL.iter().map(|family| of(family.rules)).collect())
});

/// Applies the rules of every record that copy or move.
pub fn apply_base(draft: &mut Draft<'_>) {
    apply(&TRANSFERS.0, draft);
}

/// Applies those of the record's family, and what its rules cannot say.
pub fn describe(draft: &mut Draft<'_>) {
    let place = place_of(draft.record_type);
    apply(&TRANSFERS.1[place], draft);
    (ALL[place].describe)(draft);
}

/// A rule whose field says nothing leaves what an earlier one said.
fn apply(transfers: &[Transfer], draft: &mut Draft<'_>) {
    for transfer in transfers {
        match transfer.is_moved {
            true => draft.take(transfer.to, transfer.from),
            false => draft.copy(transfer.to, transfer.from),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_type_has_one_family() {
        let mut numbers: Vec<i64> = ALL.iter().flat_map(|family| family.record_types).copied().collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "a number stands in two families");
        assert!(numbers.iter().all(|number| (0..NUMBERS as i64).contains(number)));
        assert!(numbers.iter().all(|number| crate::record::types::name(*number).is_some()), "a number without a name");
        assert_eq!(of(Some(15)).name, sign_in::FAMILY.name);
        assert_eq!(of(Some(-1)).name, generic::FAMILY.name);
        assert_eq!(of(None).name, generic::FAMILY.name);
    }
}
