//! Times of a record: `CreationTime` and its kind.
//!
//! Comes in: the text. Goes out: milliseconds since 1970 UTC. The service sends zone-less UTC
//! `YYYY-MM-DDTHH:MM:SS` (schema, "Common schema"); a fraction, a `Z` or an offset may come some day
//! (activity-api 1.8) and is read too. Nothing is guessed: what is not a time gives none.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Reads a time; without a zone it is UTC. `None` for anything else, and for years outside 0 to 9999.
pub fn parse_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !bytes[0].is_ascii_digit() {
        return None;
    }
    if bytes.len() == 19 && bytes[10] == b'T' {
        return plain_ms(bytes);
    }
    let zoned = text.parse::<Timestamp>();
    let timestamp = zoned.or_else(|_| Offset::UTC.to_timestamp(text.parse::<DateTime>()?)).ok()?;
    Some(timestamp.as_millisecond())
}

/// `YYYY-MM-DDTHH:MM:SS`, nothing else; the form of nearly every record.
fn plain_ms(bytes: &[u8]) -> Option<i64> {
    if bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0i16, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i16::from(digit - b'0')))
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let time = DateTime::new(number(0, 4)?, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, 0).ok()?;
    Some(Offset::UTC.to_timestamp(time).ok()?.as_millisecond())
}

/// Appends a time as `YYYY-MM-DDTHH:MM:SS.mmmZ`.
pub fn write_ms(ms: i64, out: &mut Vec<u8>) {
    let Ok(timestamp) = Timestamp::from_millisecond(ms) else { return };
    let time = Offset::UTC.to_datetime(timestamp);
    let two = |value: i8| pair(value.unsigned_abs());
    let year = time.year().unsigned_abs();
    let [c, d] = pair((year / 100) as u8);
    let [e, f] = pair((year % 100) as u8);
    let ([m, n], [o, p]) = (two(time.month()), two(time.day()));
    let ([q, r], [s, t], [u, v]) = (two(time.hour()), two(time.minute()), two(time.second()));
    let ms = time.millisecond().unsigned_abs();
    let [x, y] = pair((ms / 10) as u8);
    let z = b'0' + (ms % 10) as u8;
    out.extend_from_slice(&[
        c, d, e, f, b'-', m, n, b'-', o, p, b'T', q, r, b':', s, t, b':', u, v, b'.', x, y, z, b'Z',
    ]);
}

/// Two decimal digits of a value below 100.
fn pair(value: u8) -> [u8; 2] {
    [b'0' + value / 10 % 10, b'0' + value % 10]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Option<String> {
        let mut out = Vec::new();
        write_ms(parse_ms(text)?, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_form_that_may_come_is_read_as_utc() {
        for (text, expected) in [
            ("2024-02-29T23:59:58", "2024-02-29T23:59:58.000Z"),
            ("1969-12-31T23:59:59", "1969-12-31T23:59:59.000Z"),
            ("2024-02-29T23:59:58Z", "2024-02-29T23:59:58.000Z"),
            ("2024-02-29T23:59:58.1234567", "2024-02-29T23:59:58.123Z"),
            ("2024-02-29T23:59:58.9Z", "2024-02-29T23:59:58.900Z"),
            ("2024-02-29T23:59:58+02:00", "2024-02-29T21:59:58.000Z"),
            ("2024-02-29T23:59:58.5-01:30", "2024-03-01T01:29:58.500Z"),
            ("2024-02-29 23:59:58", "2024-02-29T23:59:58.000Z"),
        ] {
            assert_eq!(round(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_gives_none() {
        for text in [
            "",
            "yesterday",
            "2024-02-30T00:00:00",
            "2024-02-29T24:61:00",
            "2024-02-29",
            "-002024-02-29T00:00:00",
            "2024-02-29T23:59:5é",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
