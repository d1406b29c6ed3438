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
/// "Expired" is final, so one such answer is not believed: it is asked for again this much later, with a
/// token made since, and only the same answer then counts.
const EXPIRED_AGAIN: Seconds = 60;
/// A body this often too slow is read in the slow lane, where it may take as long as it likes.
const SLOW_TIMES: u32 = 3;
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

/// How an attempt is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Take what can be read in a broken body.
    pub salvage: bool,
    /// Not with a token that an earlier answer may have been about.
    pub fresh_token: bool,
    /// A body that brings too little for its place among the others.
    pub slow: bool,
}

/// Why a blob that was asked for an hour may count as gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Absence {
    #[default]
    None,
    /// A complete listing of its cell did not name it.
    Unlisted,
    /// Its whole cell can no longer be listed, and what can did not name it.
    Unlistable,
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
    absence: Absence,
    expired_since: Option<Seconds>,
    slow: u32,
}

impl Trouble {
    /// How the attempt that begins now is made.
    pub fn manner(&mut self, now: Seconds) -> Manner {
        let is_patient = self.foreign_since.is_none_or(|since| now - since >= FOREIGN_FOR);
        self.salvaging = self.same + 1 >= SAME_BODY_TIMES && is_patient;
        Manner { salvage: self.salvaging, fresh_token: self.expired_since.is_some(), slow: self.slow >= SLOW_TIMES }
    }

    /// The body was read to its end: whatever was said of it before no longer holds.
    pub fn good_read(&mut self) {
        *self = Trouble { attempts: self.attempts, slow: self.slow, ..Trouble::default() };
    }

    /// The body came too slowly.
    pub fn slow(&mut self) -> Verdict {
        self.slow += 1;
        Verdict::Retry
    }

    /// "Expired": believed at the second time of asking.
    pub fn expired(&mut self, now: Seconds) -> Verdict {
        let since = *self.expired_since.get_or_insert(now);
        if now - since >= EXPIRED_AGAIN { Verdict::Lost(LossReason::Expired) } else { Verdict::Retry }
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
    /// `is_word`: the service speaks of this blob. That an id is "invalid" may be about all of them, on the
    /// host of a wrong cloud; then its cell having become too old to be listed says nothing.
    pub fn missing(&mut self, is_word: bool, now: Seconds) -> Verdict {
        let since = *self.missing_since.get_or_insert(now);
        match (now - since >= MISSING_FOR, self.absence) {
            (true, Absence::Unlisted) => Verdict::Lost(LossReason::Gone),
            (true, Absence::Unlistable) if is_word => Verdict::Lost(LossReason::Gone),
            (true, _) => Verdict::Relist,
            (false, _) => Verdict::Retry,
        }
    }

    /// A listing of its cell named it, or a whole one did not (`Some`); or the whole cell can no longer be listed.
    pub fn judge(&mut self, is_listed: Option<bool>) {
        self.absence = match is_listed {
            _ if self.missing_since.is_none() => Absence::None,
            Some(true) => Absence::None,
            Some(false) => Absence::Unlisted,
            None => Absence::Unlistable,
        };
    }

    /// The time was set back to `now`: nothing has lasted since a time that is still to come.
    pub fn rewind(&mut self, now: Seconds) {
        for since in [&mut self.foreign_since, &mut self.missing_since, &mut self.expired_since] {
            *since = since.map(|since| since.min(now));
        }
    }

    /// One more attempt failed: how long to wait for the next.
    pub fn wait(&mut self) -> Seconds {
        self.attempts += 1;
        let wait = retry_after(self.attempts);
        if self.expired_since.is_some() { wait.max(EXPIRED_AGAIN) } else { wait }
    }
}

/// Doubling, with full jitter in the upper half so that many failures do not come back together.
pub fn retry_after(tries: u32) -> Seconds {
    let ceiling = FIRST_RETRY.saturating_mul(1 << tries.min(12)).min(LAST_RETRY);
    ceiling / 2 + fastrand::i64(0..=ceiling / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_000_000;

    #[test]
    fn expired_is_believed_when_it_is_said_again_a_minute_later() {
        let mut trouble = Trouble::default();
        assert!(!trouble.manner(NOW).fresh_token);
        assert_eq!(trouble.expired(NOW), Verdict::Retry);
        assert!(trouble.manner(NOW).fresh_token && trouble.wait() >= EXPIRED_AGAIN);
        assert_eq!(trouble.expired(NOW + 1), Verdict::Retry);
        assert_eq!(trouble.expired(NOW + EXPIRED_AGAIN), Verdict::Lost(LossReason::Expired));
        trouble.good_read();
        assert_eq!(trouble.expired(NOW + 10 * EXPIRED_AGAIN), Verdict::Retry, "it could be read since");
    }

    #[test]
    fn missing_is_gone_after_an_hour_and_a_listing_without_it_and_a_good_read_begins_anew() {
        let mut trouble = Trouble::default();
        trouble.judge(Some(false));
        assert_eq!(trouble.missing(true, NOW), Verdict::Retry);
        assert_eq!(trouble.missing(true, NOW + MISSING_FOR), Verdict::Relist, "that listing was before");
        trouble.judge(Some(true));
        assert_eq!(trouble.missing(true, NOW + MISSING_FOR), Verdict::Relist);
        let mut read = trouble;
        read.judge(Some(false));
        read.good_read();
        assert_eq!(read.missing(true, NOW + 2 * MISSING_FOR), Verdict::Retry);
        trouble.judge(Some(false));
        assert_eq!(trouble.missing(false, NOW + MISSING_FOR), Verdict::Lost(LossReason::Gone));
    }

    #[test]
    fn an_invalid_id_whose_hour_cannot_be_listed_any_more_is_held_not_dropped() {
        let mut trouble = Trouble::default();
        trouble.missing(false, NOW);
        trouble.judge(None);
        let later = NOW + 30 * 24 * 3600;
        assert_eq!(trouble.missing(false, later), Verdict::Relist);
        assert_eq!(trouble.missing(true, later), Verdict::Lost(LossReason::Gone));
    }

    #[test]
    fn what_is_slow_three_times_goes_to_the_slow_lane() {
        let mut trouble = Trouble::default();
        let lanes: Vec<bool> = (0..4).map(|_| (trouble.slow(), trouble.manner(NOW).slow).1).collect();
        assert_eq!(lanes, [false, false, true, true]);
    }
}
