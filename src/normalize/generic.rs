//! Records of all other types, the unnamed ones too: what every record shares, and an object that is an address.
//!
//! Comes in: a record. Goes out: facts in a draft.

use crate::record::Field;

use super::draft::Draft;
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::sharepoint;

pub static FAMILY: Family = Family { name: "All others", record_types: &[], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::UrlOriginal, "ObjectId", "where it is an address of the web"),
    made(Ecs::UrlDomain, "ObjectId", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    if let Some(url) = draft.said(Field::ObjectId) {
        sharepoint::set_url(draft, url);
    }
}
