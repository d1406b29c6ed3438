//! Blobs read so soon after they became available that they may still have been filling: the service
//! lists handles over a stretch of an index, and one listed near "now" may be the beginning of what it
//! will be (activity-api 1.7 and 3.3, an inference). Such a blob is read once more when its hour is over
//! by an hour and it is still listed; record keys absorb what had come already.
//!
//! Pure. What it costs: each blob of the present is read at most twice, the second time only when
//! nothing else waits.

use crate::clock::Seconds;
use crate::state::CELL;

/// A blob this young may be partial.
const YOUNG: Seconds = 20 * 60;
/// It is read again when its cell ended this long ago.
const RIPE_AFTER: Seconds = 3600;

/// Whether the body of a blob that was asked for at `asked_at` may have been partial.
pub fn may_be_partial(content_id: &str, created_ms: i64, asked_at: Seconds) -> bool {
    if created_ms <= 0 {
        return false;
    }
    let newest = second_stamp(content_id).unwrap_or(Seconds::MIN).max(created_ms.div_euclid(1000));
    asked_at < newest.saturating_add(YOUNG)
}

/// Whether the blobs of a cell that were read young are to be read again.
pub fn is_ripe(cell: Seconds, now: Seconds) -> bool {
    now >= cell + CELL + RIPE_AFTER
}

/// The second stamp of a content id, `YYYYMMDDHHMMSS` and 9 digits (activity-api 1.7, anatomy); `None` for
/// any other form, as ids are officially opaque.
fn second_stamp(content_id: &str) -> Option<Seconds> {
    let stamp = content_id.split('$').nth(1).filter(|s| s.len() == 23 && s.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |range: std::ops::Range<usize>| stamp[range].parse::<i8>().ok();
    let year = stamp[..4].parse::<i16>().ok()?;
    let date = jiff::civil::Date::new(year, number(4..6)?, number(6..8)?).ok()?;
    let time = jiff::civil::Time::new(number(8..10)?, number(10..12)?, number(12..14)?, 0).ok()?;
    Some(date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_young_by_its_creation_or_by_its_second_stamp() {
        let id = "20230828171604712068871$20230828173205648032977$audit_general$Audit_General$emea9037";
        let created = second_stamp("x$20230828171604712068871$y").unwrap();
        let second = second_stamp(id).unwrap();
        assert_eq!(second - created, 16 * 60 + 1);
        let young = |id: &str, at| may_be_partial(id, created * 1000, at);
        assert!(young(id, second + YOUNG - 1) && !young(id, second + YOUNG));
        assert!(young("opaque", created + YOUNG - 1) && !young("opaque", created + YOUNG));
        assert!(!may_be_partial("opaque", 0, 10));
    }

    #[test]
    fn what_is_no_stamp_is_passed_over() {
        for id in [
            "",
            "$",
            "a$b",
            "301299007231$301299007231$t",
            "1$99999999999999999999999$x",
            "1$2023082817320564803297é$x",
        ] {
            assert_eq!(second_stamp(id), None, "{id}");
        }
    }
}
