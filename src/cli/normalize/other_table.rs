//! Tables that are no export of records: what their columns are called, for a person who took the wrong one.
//!
//! Comes in: the beginning of a text that is neither JSON nor an export. Goes out: the names of its columns if its first line
//! looks like a header. Takes nothing: a text that only begins like a table is read on as before.

use std::io::Read;

use super::portal::cells_of;
use super::window::Window;

/// A header is looked for in so much of the text, at most.
const MAX_HEADER: usize = 64 * 1024;
/// Characters of a name; a longer cell is prose.
const MAX_NAME: usize = 64;
/// Names that are said.
const SHOWN: usize = 12;

/// Why the text cannot be read, if it is a table.
pub fn reason(window: &mut Window<impl Read>) -> Option<String> {
    let columns = columns(window)?;
    let more = if columns.len() > SHOWN { ", …" } else { "" };
    Some(format!(
        "a table without the column `AuditData`, which holds the record: export again with it (Purview's audit search, or \
         Search-UnifiedAuditLog | Export-Csv); its columns are: {}{more}",
        columns[..columns.len().min(SHOWN)].join(", ")
    ))
}

fn columns(window: &mut Window<impl Read>) -> Option<Vec<String>> {
    // The first line, and what the second begins with.
    let header = loop {
        let rest = window.rest();
        if matches!(rest.first(), Some(b'{' | b'[')) {
            return None;
        }
        let mut ends = memchr::memchr_iter(b'\n', rest);
        let from = if rest.starts_with(b"#TYPE") { ends.next().map(|end| end + 1) } else { Some(0) };
        let behind = from.zip(ends.next()).and_then(|(from, end)| {
            let second = rest[end + 1..].iter().find(|byte| !byte.is_ascii_whitespace())?;
            Some((from..end, *second))
        });
        match behind {
            Some((_, b'{' | b'[')) => return None,
            Some((header, _)) => break &rest[header],
            None if window.ended => break rest.get(from?..)?,
            None if rest.len() > MAX_HEADER => return None,
            None => window.read_more(),
        }
    };
    let header = std::str::from_utf8(header).ok()?.trim();
    let is_name = |name: &String| {
        let name = name.trim();
        name.starts_with(char::is_alphabetic) && name.chars().count() <= MAX_NAME && !name.contains(['{', '}', '"'])
    };
    [b',', b';', b'\t'].into_iter().find_map(|delimiter| {
        let cells = cells_of(header.as_bytes(), delimiter);
        // Two words with a comma between them are no table yet.
        (cells.len() >= 3 && cells.iter().all(is_name)).then_some(cells)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        reason(&mut Window::new(text.as_bytes())).map(|reason| reason.split("are: ").nth(1).unwrap().to_owned())
    }

    #[test]
    fn the_columns_of_another_table_are_named() {
        assert_eq!(said("Date,User,Activity\n1,2,3\n").as_deref(), Some("Date, User, Activity"));
        assert_eq!(said("\"Date (UTC)\";\"Request ID\";User\r\n").as_deref(), Some("Date (UTC), Request ID, User"));
        assert_eq!(said("#TYPE x\n\"a\",\"b\",\"c\"\n1,2,3").as_deref(), Some("a, b, c"));
        assert!(said(&format!("a{}\n", ",b".repeat(20))).unwrap().ends_with("b, …"));
    }

    #[test]
    fn what_only_looks_like_one_is_read_on() {
        for text in [
            "",
            "hello, you\n1,2\n",
            "please wait, loading, done\n{\"Id\":\"1\"}\n",
            "a,b,c\n\n[{}]",
            "1,2,3\n4,5,6\n",
            "a,{,c\n",
            "{\"a\":1,\"b\":2,\"c\":3}",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
