//! What is known of a record before it is written: the ECS facts, and which fields were moved.
//!
//! Comes in: facts, from [`super::base`] and the families. Goes out: nothing by itself. All text is
//! borrowed from the record and still escaped, so that writing it is a copy; a later family
//! overwrites what an earlier step said.

use crate::record::FieldSet;
use crate::record::address::Address;

/// `event.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
}

/// A user, from one text.
#[derive(Clone, Copy, Debug, Default)]
pub struct User<'a> {
    pub id: Option<&'a str>,
    /// (name, domain) where `id` is an address; `user.email` is then `id`.
    pub address: Option<(&'a str, &'a str)>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Fields that are not repeated under `o365.audit`.
    pub moved: FieldSet,
    pub record_type: Option<i64>,
    pub time_ms: Option<i64>,
    pub kind: &'static str,
    pub id: Option<&'a str>,
    pub action: Option<&'a str>,
    pub provider: Option<&'a str>,
    /// Name of the record type.
    pub code: Option<&'static str>,
    pub outcome: Option<Outcome>,
    pub user: User<'a>,
    pub user_agent: Option<&'a str>,
    /// The best address of the actor.
    pub source: Option<Address<'a>>,
    /// All addresses that the record gives for the actor, for `related.ip`.
    pub addresses: [Option<Address<'a>>; 3],
    /// To be written in lower case.
    pub organization_id: Option<&'a str>,
    pub organization_name: Option<&'a str>,
}

impl Default for Draft<'_> {
    fn default() -> Self {
        Draft {
            moved: FieldSet::EMPTY,
            record_type: None,
            time_ms: None,
            kind: "event",
            id: None,
            action: None,
            provider: None,
            code: None,
            outcome: None,
            user: User::default(),
            user_agent: None,
            source: None,
            addresses: [None; 3],
            organization_id: None,
            organization_name: None,
        }
    }
}
