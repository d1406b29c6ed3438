//! What is remembered of a blob between attempts, and what its failures mean. Pure: what happened and
//! what time it is go in, what to do next comes out.
//!
//! Never gives a blob up by itself but for what the service says, or for a body that nobody can read.

use crate::clock::Seconds;
use crate::state::LossReason;

/// Back-off of a listing or a blob, doubling between these (activity-api 3.3).
const FIRST_RETRY: Seconds = 1;
pub const LAST_RETRY: Seconds = 600;
/// A blob that is "not found" is asked for this long before its absence from a listing counts
/// (activity-api 1.10: retry over an hour or more).
const MISSING_FOR: Seconds = 3600;
/// The same broken body this often is not a broken transfer: take what is in it (activity-api 3.3).
const SAME_BODY_TIMES: u32 = 5;
/// A body that is no array at all (nothing, a page of some gateway) is the same for every blob while an
/// outage lasts, and says nothing about any of them: it must last this long as well.
pub const FOREIGN_FOR: Seconds = 24 * 3600;

/// What a failure means for its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Retry,
    /// Try again, and list its cell meanwhile: is it still named?
    Relist,
    Lost(LossReason),
}

/// What is remembered of a blob between attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub attempts: u32,
    /// A broken body's print, and how often it came in a row.
    print: Option<(u64, u32)>,
    same: u32,
    /// Since when the same body came that is not even an array, and so hardly the blob's.
    foreign_since: Option<Seconds>,
    /// The attempt in the air takes what can be read in a broken body.
    salvaging: bool,
    missing_since: Option<Seconds>,
    /// A complete listing of its cell did not name it.
    unlisted: bool,
}

impl Trouble {
    /// Decides whether the attempt that begins now takes what can be read in a broken body.
    pub fn may_salvage(&mut self, now: Seconds) -> bool {
        let is_patient = self.foreign_since.is_none_or(|since| now - since >= FOREIGN_FOR);
        self.salvaging = self.same + 1 >= SAME_BODY_TIMES && is_patient;
        self.salvaging
    }

    /// A complete body that is no array of records, known again by its `print`. `is_foreign`: no array at all.
    pub fn malformed(&mut self, print: (u64, u32), is_foreign: bool, now: Seconds) -> Verdict {
        let is_same = self.print == Some(print);
        self.same = if is_same { self.same + 1 } else { 1 };
        self.print = Some(print);
        let since = self.foreign_since.filter(|_| is_same).unwrap_or(now);
        self.foreign_since = is_foreign.then_some(since);
        // The attempt after the last but one salvages; if that was not possible, nothing can read it.
        if self.salvaging && is_same { Verdict::Lost(LossReason::Unreadable) } else { Verdict::Retry }
    }

    /// "Not found": given up only after an hour of asking and once a complete listing no longer names it.
    pub fn missing(&mut self, now: Seconds) -> Verdict {
        let since = *self.missing_since.get_or_insert(now);
        match now - since >= MISSING_FOR {
            true if self.unlisted => Verdict::Lost(LossReason::Gone),
            true => Verdict::Relist,
            false => Verdict::Retry,
        }
    }

    /// A complete listing of its cell named it or not; or the cell can no longer be listed.
    pub fn judge(&mut self, is_listed: bool) {
        self.unlisted = self.missing_since.is_some() && !is_listed;
    }

    /// One more attempt failed: how long to wait for the next.
    pub fn wait(&mut self) -> Seconds {
        self.attempts += 1;
        retry_after(self.attempts)
    }
}

/// Doubling, with full jitter in the upper half so that many failures do not come back together.
pub fn retry_after(tries: u32) -> Seconds {
    let ceiling = FIRST_RETRY.saturating_mul(1 << tries.min(12)).min(LAST_RETRY);
    ceiling / 2 + fastrand::i64(0..=ceiling / 2).max(1)
}
