//! Times as the service writes and reads them: zone-less seconds, RFC 3339 with milliseconds, the
//! 23-digit stamps of a content id, HTTP dates. Milliseconds since 1970 in and out; no clock is read.

pub(super) const SECOND_MS: i64 = 1000;
pub(super) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// Year, month, day of a day number since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day number since 1970-01-01 of a calendar date.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn digits(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut rest = value;
    for slot in buffer[..width].iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&buffer[..width]);
}

/// Appends `YYYY-MM-DDTHH:MM:SS`, the form of `CreationTime`.
pub(super) fn push_seconds(out: &mut Vec<u8>, ms: i64) {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let second = ms.rem_euclid(DAY_MS) / SECOND_MS;
    digits(out, year as u64, 4);
    out.push(b'-');
    digits(out, u64::from(month), 2);
    out.push(b'-');
    digits(out, u64::from(day), 2);
    out.push(b'T');
    digits(out, (second / 3600) as u64, 2);
    out.push(b':');
    digits(out, (second / 60 % 60) as u64, 2);
    out.push(b':');
    digits(out, (second % 60) as u64, 2);
}

/// `YYYY-MM-DDTHH:MM:SS`.
pub(super) fn seconds(ms: i64) -> String {
    let mut out = Vec::with_capacity(19);
    push_seconds(&mut out, ms);
    String::from_utf8_lossy(&out).into_owned()
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, the form of `contentCreated`.
pub(super) fn millis(ms: i64) -> String {
    format!("{}.{:03}Z", seconds(ms), ms.rem_euclid(SECOND_MS))
}

/// The 23 digits of a content id's stamp: date, time, milliseconds, and six more that carry `low`.
pub(super) fn stamp23(ms: i64, low: u64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let second = ms.rem_euclid(DAY_MS) / SECOND_MS;
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}{:03}{:06}",
        second / 3600,
        second / 60 % 60,
        second % 60,
        ms.rem_euclid(SECOND_MS),
        low % 1_000_000
    )
}

/// Reads a stamp back: milliseconds and the low six digits.
pub(super) fn parse_stamp23(text: &str) -> Option<(i64, u64)> {
    if text.len() != 23 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to).and_then(|t| t.parse::<i64>().ok());
    let days = days_from_civil(part(0, 4)?, part(4, 6)? as u32, part(6, 8)? as u32);
    let ms = part(8, 10)? * HOUR_MS + part(10, 12)? * MINUTE_MS + part(12, 14)? * SECOND_MS + part(14, 17)?;
    Some((days * DAY_MS + ms, part(17, 23)? as u64))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
pub(super) fn http_date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day_number = ms.div_euclid(DAY_MS);
    let (year, month, day) = civil(day_number);
    let second = ms.rem_euclid(DAY_MS) / SECOND_MS;
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[day_number.rem_euclid(7) as usize],
        MONTHS[month as usize - 1],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Reads a time bound: date, to the minute, to the second, with a fraction or `Z` (activity-api 1.7).
pub(super) fn parse_bound(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches(['Z', 'z']);
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut date = date.splitn(3, '-').map(|t| t.parse::<u32>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut ms = days_from_civil(i64::from(year), month, day) * DAY_MS;
    if let Some(time) = time {
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut parts = time.splitn(3, ':').map(|t| t.parse::<i64>().ok());
        let (hour, minute) = (parts.next()??, parts.next()??);
        let second = parts.next().unwrap_or(Some(0))?;
        if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..61).contains(&second) {
            return None;
        }
        ms += hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS;
        if !fraction.is_empty() {
            let padded: String = fraction.chars().chain("000".chars()).take(3).collect();
            ms += padded.parse::<i64>().ok()?;
        }
    }
    Some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_went_out() {
        let ms = 1_593_655_581_634; // 2020-07-02T02:06:21.634
        assert_eq!(millis(ms), "2020-07-02T02:06:21.634Z");
        assert_eq!(stamp23(ms, 14_687), "20200702020621634014687");
        assert_eq!(parse_stamp23("20200702020621634014687"), Some((ms, 14_687)));
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        for text in ["2020-07-02T02:06:21.634Z", "2020-07-02T02:06:21.634"] {
            assert_eq!(parse_bound(text), Some(ms));
        }
        assert_eq!(parse_bound("2020-07-02T02:06").map(seconds), Some("2020-07-02T02:06:00".into()));
        assert_eq!(parse_bound("2020-07-02").map(seconds), Some("2020-07-02T00:00:00".into()));
        assert_eq!(parse_bound("yesterday"), None);
    }
}
