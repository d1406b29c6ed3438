//! Objects around a list of records: `{"value":[…]}`, as OData services answer and PowerShell writes lists.
//!
//! Comes in: bytes that begin with `{`, or with what follows such a list. Goes out: where the list begins, or where the
//! object ends. Before `value` there may be annotations (`"@odata.context": …`) and `Count`, behind it anything. No audit
//! record looks so: its names begin with capitals. Never holds the list.

/// Bytes before and behind the list that are looked at.
const MAX_AROUND: usize = 64 * 1024;

/// What bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// What was looked for; it ends before this place.
    Yes(usize),
    No,
    /// Nothing is certain without more bytes.
    More,
}

/// Whether `text`, which begins with `{`, is an object around a list: then the place behind the list's bracket.
pub fn list_begin(text: &[u8], ended: bool) -> Found {
    match begin(text) {
        Some(found) => found,
        None if ended || text.len() > MAX_AROUND => Found::No,
        None => Found::More,
    }
}

/// `None` where the bytes end before it is certain.
fn begin(text: &[u8]) -> Option<Found> {
    let mut at = 1;
    loop {
        at = solid(text, at)?;
        if text[at] != b'"' {
            return Some(Found::No);
        }
        let end = string_end(text, at)?;
        let name = &text[at + 1..end - 1];
        let is_list = name == b"value";
        if !is_list && !name.starts_with(b"@") && !name.eq_ignore_ascii_case(b"count") {
            return Some(Found::No);
        }
        at = solid(text, end)?;
        if text[at] != b':' {
            return Some(Found::No);
        }
        at = solid(text, at + 1)?;
        if is_list {
            if text[at] != b'[' {
                return Some(Found::No);
            }
            let first = solid(text, at + 1)?;
            return Some(if matches!(text[first], b'{' | b']') { Found::Yes(at + 1) } else { Found::No });
        }
        // Its value is a text or a number.
        at = match text[at] {
            b'"' => string_end(text, at)?,
            b'{' | b'[' => return Some(Found::No),
            _ => at + text[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b'\n'))?,
        };
        at = solid(text, at)?;
        if text[at] != b',' {
            return Some(Found::No);
        }
        at += 1;
    }
}

/// Where the object ends whose list has just been closed: behind its brace.
pub fn object_end(text: &[u8], ended: bool) -> Found {
    match end(text) {
        Some(found) => found,
        None if ended || text.len() > MAX_AROUND => Found::No,
        None => Found::More,
    }
}

fn end(text: &[u8]) -> Option<Found> {
    let mut at = solid(text, 0)?;
    if !matches!(text[at], b',' | b'}') {
        return Some(Found::No);
    }
    let mut depth = 1u32;
    loop {
        match *text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            // Here begins something else: this one was never closed.
            b'\n' if *text.get(at + 1)? == b'{' => return Some(Found::No),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(Found::Yes(at));
        }
    }
}

/// The first byte from `at` on that is no white space.
fn solid(text: &[u8], at: usize) -> Option<usize> {
    Some(at + text.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace())?)
}

/// Behind the closing quote of the string that begins at `at`.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let place = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        match text[place] {
            b'"' => return Some(place + 1),
            _ => from = place + 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_services_and_shells_are_found() {
        for head in [
            "{\"value\":[",
            "{ \"value\" : [",
            "{\r\n    \"value\":  [",
            "{\"@odata.context\":\"https://x/$metadata#a(\\\"b\\\")\",\"@odata.count\": 5 ,\"value\":[",
            "{\"count\":2,\"value\":[",
        ] {
            for rest in ["{}", " {", "]"] {
                let text = format!("{head}{rest}");
                assert_eq!(list_begin(text.as_bytes(), false), Found::Yes(head.len()), "{text}");
            }
            for cut in 1..=head.len() {
                assert_eq!(list_begin(&head.as_bytes()[..cut], false), Found::More, "{head} {cut}");
                assert_eq!(list_begin(&head.as_bytes()[..cut], true), Found::No);
            }
        }
    }

    #[test]
    fn records_are_no_such_object() {
        for text in [
            "{}",
            "{\"Id\":\"1\",\"value\":[{}]}",
            "{\"value\":[1]}",
            "{\"value\":\"x\"}",
            "{\"Value\":[{}]}",
            "{\"@a\":[1],\"value\":[{}]}",
            "{\"@a\":1}",
            "{value",
        ] {
            assert_eq!(list_begin(text.as_bytes(), false), Found::No, "{text}");
        }
    }

    #[test]
    fn what_follows_the_list_belongs_to_the_object() {
        for text in
            ["}", " \n}", ",\"Count\":2}", ",\"@odata.nextLink\":\"https://x/}?a={b}\"\n}", ",\"a\":{\"b\":[]}}"]
        {
            assert_eq!(object_end(format!("{text}{{}}").as_bytes(), false), Found::Yes(text.len()), "{text}");
            assert_eq!(object_end(&text.as_bytes()[..text.len() - 1], false), Found::More, "{text}");
        }
        for text in ["{}", "x}", "]}", ",\"a\":1\n{\"value\":[]}"] {
            assert_eq!(object_end(text.as_bytes(), false), Found::No, "{text}");
        }
        assert_eq!(object_end(b"", true), Found::No);
    }
}
