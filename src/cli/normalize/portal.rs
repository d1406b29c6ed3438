//! Records out of the CSV that Microsoft's tools export an audit search as.
//!
//! Comes in: a text whose header has a column `AuditData`: the Purview portal's (RecordId, CreationDate,
//! RecordType, Operation, UserId, AuditData, …), the older portal's (CreationDate, UserIds, Operations,
//! AuditData), `Search-UnifiedAuditLog | Export-Csv` (a line `#TYPE` before the header), or what Excel makes
//! of these (`;` or tab between the cells). Goes out: the cell `AuditData` of each row, in order, which is
//! the whole record as JSON; the other columns only repeat parts of it. A row without it comes as it is,
//! with what is wrong. Quotes and line breaks as in RFC 4180. Holds one row in memory.
//!
//! A row that breaks off must not swallow those behind it, yet a quoted cell may have many lines. The rule:
//! where a quote closes a cell and something else than a delimiter follows, or where the text ends inside
//! a cell, the row's first line is broken and the next row begins with its second.

use std::io::{self, Read};
use std::ops::Range;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::window::{MARK, MAX_ELEMENT, Window};

/// The column that holds the record.
const COLUMN: &[u8] = b"AuditData";
/// A header is looked for in so much of the text, at most.
const MAX_HEADER: usize = 64 * 1024;
/// What a cell of Excel holds, in UTF-16 code units; longer ones are cut when it saves a file ("Excel
/// specifications and limits").
const EXCEL_CELL: usize = 32_767;

/// One row's record, or the row where it has none.
#[derive(Debug)]
pub struct Row<'a> {
    /// The line that the row begins in.
    pub line: u64,
    pub bytes: &'a [u8],
    /// What is wrong with the row, or what to add if its record cannot be read.
    pub remark: Option<Remark>,
}

/// See [`Row::remark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A quote is missing, or one too many.
    Quotes,
    /// It has no cell `AuditData`, or an empty one.
    NoRecord,
    /// As long as a cell of Excel can be.
    FullCell,
    /// It is no row: an object with a member `AuditData` that holds no record.
    NoRecordInside,
}

impl Remark {
    pub fn text(self) -> &'static str {
        match self {
            Remark::Quotes => "the quotes of this CSV row do not match: it was cut or changed",
            Remark::NoRecord => "this CSV row has nothing in the column `AuditData`",
            Remark::NoRecordInside => {
                "`AuditData` of this object holds no record; `ConvertTo-Json` cuts what is deep: give it `-Depth 20`"
            }
            Remark::FullCell => "the cell has 32,767 characters: Excel has cut it, export it again",
        }
    }
}

/// See the module's head.
pub struct Rows<R> {
    window: Window<R>,
    cells: Cells,
    /// Place of the column of [`COLUMN`].
    column: usize,
    /// So much of broken rows was looked at for nothing; beyond [`MAX_ELEMENT`] no row has a second line.
    wasted: usize,
}

/// Where a row ends.
enum End {
    /// After the line break.
    At(usize),
    /// The row is broken: the end of its first line.
    Broken(usize),
    More,
}

impl<R: Read> Rows<R> {
    /// Takes the window over if a header with the column stands at its place, or gives it back.
    ///
    /// # Errors
    /// The window, where the text is something else.
    pub fn of(mut window: Window<R>) -> Result<Rows<R>, Window<R>> {
        loop {
            while !window.skip(|byte| byte.is_ascii_whitespace()) {
                window.read_more();
            }
            let rest = window.rest();
            if matches!(rest.first(), None | Some(b'{' | b'[')) {
                return Err(window);
            }
            let mut ends = memchr::memchr_iter(b'\n', rest);
            let first = ends.next();
            let is_type = rest.starts_with(b"#TYPE");
            let end = if is_type { ends.next() } else { first };
            if end.is_none() && !window.ended && rest.len() < MAX_HEADER {
                window.read_more();
                continue;
            }
            let from = first.filter(|_| is_type).map_or(0, |first| first + 1);
            let end = end.unwrap_or(rest.len()).min(from + MAX_HEADER);
            return match header(&rest[from..end]) {
                Some((cells, column)) => {
                    window.at += end;
                    Ok(Rows { window, cells, column, wasted: 0 })
                }
                None => Err(window),
            };
        }
    }

    /// The next row with a record in it, or with something wrong; `None` at the end.
    pub fn next_row(&mut self) -> Option<Row<'_>> {
        let (from, end, broken) = loop {
            if !self.window.skip(|byte| matches!(byte, b'\r' | b'\n')) {
                self.window.read_more();
                continue;
            }
            if self.window.rest().is_empty() {
                return None;
            }
            let (end, broken) = match self.row_end() {
                End::At(end) => (end, false),
                End::Broken(end) => (end, true),
                End::More => {
                    self.window.read_more();
                    continue;
                }
            };
            let from = std::mem::replace(&mut self.window.at, end);
            // Exports that were joined have their headers in the middle.
            match header(&self.window.bytes[from..end]) {
                Some(new) if !broken && !self.has_record(from..end) => (self.cells, self.column) = new,
                _ => break (from, end, broken),
            }
        };
        let line = self.window.line_at(from);
        let row = self.window.bytes[from..end].trim_ascii_end();
        if broken {
            return Some(Row { line, bytes: row, remark: Some(Remark::Quotes) });
        }
        Some(match self.cells.cell(row, self.column).map(<[u8]>::trim_ascii) {
            None | Some(b"") => Row { line, bytes: row, remark: Some(Remark::NoRecord) },
            Some(cell) => Row { line, bytes: cell, remark: is_full(cell).then_some(Remark::FullCell) },
        })
    }

    /// Why the text ended before its end, with the line.
    pub fn failure(&mut self) -> Option<(u64, io::Error)> {
        self.window.failure()
    }

    fn has_record(&mut self, row: Range<usize>) -> bool {
        let cell = self.cells.cell(&self.window.bytes[row], self.column);
        cell.is_some_and(|cell| cell.trim_ascii().starts_with(b"{"))
    }

    fn row_end(&mut self) -> End {
        let (at, ended, rest) = (self.window.at, self.window.ended, self.window.rest());
        let mut index = 0;
        // Each turn is one cell.
        let broken = loop {
            if rest.get(index) == Some(&b'"') && self.wasted <= MAX_ELEMENT {
                match quoted_end(rest, index + 1, self.cells.delimiter, ended) {
                    Quoted::End(end) => index = end,
                    Quoted::Malformed(place) => break place,
                    Quoted::Open if ended || rest.len() > MAX_ELEMENT => break rest.len(),
                    Quoted::Open => return End::More,
                }
            }
            match memchr::memchr2(self.cells.delimiter, b'\n', &rest[index..]) {
                Some(more) if rest[index + more] == b'\n' => return End::At(at + index + more + 1),
                Some(more) => index += more + 1,
                None if ended || rest.len() > MAX_ELEMENT => return End::At(at + rest.len()),
                None => return End::More,
            }
        };
        let first = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        self.wasted += broken.saturating_sub(first);
        End::Broken(at + first)
    }
}

/// The end of a quoted cell.
enum Quoted {
    /// Behind the closing quote.
    End(usize),
    /// A single quote that closes nothing.
    Malformed(usize),
    /// Not in these bytes.
    Open,
}

fn quoted_end(rest: &[u8], mut from: usize, delimiter: u8, ended: bool) -> Quoted {
    while let Some(quote) = memchr::memchr(b'"', &rest[from..]) {
        let next = from + quote + 1;
        match rest.get(next) {
            Some(b'"') => from = next + 1,
            Some(byte) if *byte == delimiter || matches!(byte, b'\r' | b'\n') => return Quoted::End(next),
            None if ended => return Quoted::End(next),
            None => return Quoted::Open,
            Some(_) => return Quoted::Malformed(next),
        }
    }
    Quoted::Open
}

/// The reader of a header and the place of its column, if it has it.
fn header(line: &[u8]) -> Option<(Cells, usize)> {
    memchr::memmem::find(line, COLUMN)?;
    let line = line.strip_prefix(MARK).unwrap_or(line).trim_ascii_end();
    [b',', b';', b'\t'].into_iter().find_map(|delimiter| {
        let mut cells = Cells::new(delimiter);
        let column = cells.all(line).position(|cell| cell.trim_ascii() == COLUMN)?;
        Some((cells, column))
    })
}

/// The cells of one row of any table.
pub fn cells_of(row: &[u8], delimiter: u8) -> Vec<String> {
    Cells::new(delimiter).all(row).map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect()
}

/// True where a cell has as many characters as Excel lets it have.
fn is_full(cell: &[u8]) -> bool {
    cell.len() >= EXCEL_CELL && String::from_utf8_lossy(cell).encode_utf16().count() == EXCEL_CELL
}

/// Takes rows apart.
struct Cells {
    delimiter: u8,
    reader: Reader,
    /// The cells of a row, unquoted, one behind the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    fn new(delimiter: u8) -> Cells {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        Cells { delimiter, reader, text: Vec::new(), ends: vec![0; 32] }
    }

    /// All cells of one row.
    fn all(&mut self, row: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.reader.reset();
        // Unquoting never makes a cell longer.
        self.text.resize(row.len() + 1, 0);
        let (mut read, mut written, mut cells) = (0, 0, 0);
        loop {
            let (result, input, output, ends) =
                self.reader.read_record(&row[read..], &mut self.text[written..], &mut self.ends[cells..]);
            (read, written, cells) = (read + input, written + output, cells + ends);
            match result {
                // An empty input next time says that the row is over.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::OutputFull | ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        let (text, mut from) = (&self.text, 0);
        self.ends[..cells].iter().map(move |end| &text[std::mem::replace(&mut from, *end)..*end])
    }

    fn cell(&mut self, row: &[u8], place: usize) -> Option<&[u8]> {
        self.all(row).nth(place)
    }
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
