//! One input, whatever it is: what stands in it decides, never what it is called.
//!
//! Comes in: the bytes of a file or of standard input. Goes out: elements in order, each the bytes of what
//! should be one record, with the line it begins in. gzip (also several members behind one another), UTF-16,
//! CSV exports, lists in objects and what a search wraps around a record are undone; everything else is taken for JSON.
//! Lines are those of the text inside.

use std::io::{self, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

use super::audit_data::{self, Inside};
use super::elements::Elements;
use super::other_table;
use super::portal::{Remark, Rows};
use super::utf16::Utf16;
use super::window::Window;

/// Bytes read from a file at a time.
const BLOCK: usize = 256 * 1024;

type Bytes<'r> = Box<dyn Read + 'r>;

/// What should be one record.
#[derive(Debug)]
pub struct Element<'a> {
    /// The line, from 1, that it begins in.
    pub line: u64,
    pub bytes: &'a [u8],
    /// What is to be said of a row of a CSV export, or of an object around a record.
    pub remark: Option<Remark>,
}

/// See the module's head.
pub enum Input<'r> {
    Json(Json<Bytes<'r>>),
    Export(Box<Rows<Bytes<'r>>>),
}

/// JSON, and what was undone in it.
pub struct Json<R> {
    pub elements: Elements<R>,
    /// Room for a record that is a text in JSON.
    text: String,
    /// Records that were taken out of another object.
    pub taken_out: u64,
}

impl<R: Read> Json<R> {
    fn next_element(&mut self) -> Option<Element<'_>> {
        let (line, bytes) = self.elements.next_element()?;
        let (bytes, remark) = match audit_data::inside(bytes, &mut self.text) {
            Inside::Itself => (bytes, None),
            Inside::Nothing => (bytes, Some(Remark::NoRecordInside)),
            Inside::Record(bytes) => {
                self.taken_out += 1;
                (bytes, None)
            }
        };
        Some(Element { line, bytes, remark })
    }
}

impl<'r> Input<'r> {
    /// Looks at the beginning of `reader` and knows what it is.
    ///
    /// # Errors
    /// What the reader answers; a ZIP archive, which is also what a workbook of Excel is; a table without records.
    pub fn new(reader: impl Read + 'r) -> io::Result<Input<'r>> {
        let (head, reader) = peek(Box::new(BufReader::with_capacity(BLOCK, reader)))?;
        let reader: Bytes<'r> = match head {
            // RFC 1952, section 2.3.1.
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BLOCK, reader))),
            _ => reader,
        };
        let (head, reader) = peek(reader)?;
        let reader: Bytes<'r> = match head {
            [0xff, 0xfe, ..] => Box::new(Utf16::new(behind_mark(reader)?, true)),
            [0xfe, 0xff, ..] => Box::new(Utf16::new(behind_mark(reader)?, false)),
            // APPNOTE.TXT, section 4.3.7.
            [b'P', b'K', 3, 4] => {
                let reason = "a ZIP archive or a workbook of Excel: unpack it, or save it as CSV UTF-8";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            _ => reader,
        };
        Ok(match Rows::of(Window::new(reader)) {
            Ok(rows) => Input::Export(Box::new(rows)),
            Err(mut window) => match other_table::reason(&mut window) {
                Some(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
                None => Input::Json(Json { elements: Elements::new(window), text: String::new(), taken_out: 0 }),
            },
        })
    }

    /// The next element, `None` at the end or where the reader failed.
    pub fn next_element(&mut self) -> Option<Element<'_>> {
        match self {
            Input::Json(json) => json.next_element(),
            Input::Export(rows) => {
                rows.next_row().map(|row| Element { line: row.line, bytes: row.bytes, remark: row.remark })
            }
        }
    }

    /// Why the text ended before its end, with the line that it ended in.
    pub fn failure(&mut self) -> Option<(u64, io::Error)> {
        match self {
            Input::Json(json) => json.elements.failure(),
            Input::Export(rows) => rows.failure(),
        }
    }
}

/// The first bytes, zeros where there are fewer, and a reader that still gives them.
fn peek(mut reader: Bytes<'_>) -> io::Result<([u8; 4], Bytes<'_>)> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let mut bytes = [0; 4];
    bytes[..head.len()].copy_from_slice(&head);
    Ok((bytes, Box::new(Cursor::new(head).chain(reader))))
}

fn behind_mark(mut reader: Bytes<'_>) -> io::Result<Bytes<'_>> {
    reader.read_exact(&mut [0; 2])?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    type Told = (u64, String);

    /// Each element with its line, and the failure.
    fn elements(bytes: &[u8]) -> (Vec<Told>, Option<Told>) {
        let mut input = Input::new(bytes).unwrap();
        let mut all = Vec::new();
        while let Some(element) = input.next_element() {
            all.push((element.line, String::from_utf8_lossy(element.bytes).into_owned()));
        }
        (all, input.failure().map(|(line, error)| (line, error.to_string())))
    }

    const JSON: &str = "\u{feff}{\"a\":1}\n{\"b\":\n\"ü\"}";
    const EXPORT: &str = "\u{feff}CreationDate,AuditData\r\nx,\"{\"\"a\"\":1}\"\r\ny,\"{\"\"b\"\":\n\"\"ü\"\"}\"";

    #[test]
    fn what_stands_in_it_decides() {
        for (text, first) in [(JSON, 1), (EXPORT, 2)] {
            let expected = (vec![(first, r#"{"a":1}"#.to_owned()), (first + 1, "{\"b\":\n\"ü\"}".to_owned())], None);
            assert_eq!(elements(text.as_bytes()), expected);
            assert_eq!(elements(&gzip(text.as_bytes())), expected, "gzip");
            assert_eq!(elements(&utf16(text)), expected, "UTF-16");
            assert_eq!(elements(&gzip(&utf16(text))), expected, "both");
            let (one, two) = text.as_bytes().split_at(20);
            assert_eq!(elements(&[gzip(one), gzip(two)].concat()), expected, "two members");
        }
        for empty in [&b""[..], b"\xEF\xBB\xBF", b" \n", b"\xFF\xFE", b"AuditData", &gzip(b"")] {
            assert_eq!(elements(empty), (vec![], None));
        }
        assert_eq!(elements(b"hello, AuditData\n").0.len(), 0, "a header");
        assert_eq!(elements(b"hello, Audit Data\n").0.len(), 1);
    }

    #[test]
    fn a_gzip_that_breaks_off_gives_what_it_has_and_says_where() {
        let whole = gzip("{\"a\":1}\n".repeat(1000).as_bytes());
        let (all, failure) = elements(&whole[..whole.len() - 9]);
        let (line, _) = failure.unwrap();
        assert!(!all.is_empty() && line >= all.len() as u64, "{} {line}", all.len());
        let (all, failure) = elements(&[&whole[..], b"garbage"].concat());
        assert_eq!((all.len(), failure.unwrap().0), (1000, 1001));
    }

    #[test]
    fn what_tools_wrap_around_records_is_undone() {
        let shell = r#"[{"RecordType":15,
            "AuditData":"{\"a\":1}"},
            {"AuditData":null}]"#;
        let record = r#"{"a":1}"#.to_owned();
        assert_eq!(elements(shell.as_bytes()).0[0], (1, record.clone()));
        let mut input = Input::new(shell.as_bytes()).unwrap();
        let remarks: Vec<_> = std::iter::from_fn(|| input.next_element().map(|e| (e.line, e.remark))).collect();
        assert_eq!(remarks, [(1, None), (3, Some(Remark::NoRecordInside))]);
        let graph = "{\"@odata.context\":\"x\",\n\"value\":[\n{\"id\":\"1\",\"auditData\":{\"a\":1}}]}";
        for bytes in [graph.into(), gzip(graph.as_bytes()), [b"\xff\xfe".to_vec(), utf16(graph)].concat()] {
            assert_eq!(elements(&bytes), (vec![(3, record.clone())], None));
        }
    }

    #[test]
    fn a_workbook_is_named() {
        assert!(Input::new(&b"PK\x03\x04..."[..]).is_err_and(|error| error.to_string().contains("Excel")));
    }
}
