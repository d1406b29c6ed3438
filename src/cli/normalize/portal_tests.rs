//! What the rows of exports become.

use super::*;
use proptest::prelude::*;

/// Gives one byte at a time, to find what depends on where a read ends.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        into[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

type Told = (u64, String, Option<Remark>);

fn rows(text: &str) -> Vec<Told> {
    let mut rows = Rows::of(Window::new(Slow(text.as_bytes()))).unwrap_or_else(|_| panic!("no export: {text}"));
    let mut all = Vec::new();
    while let Some(row) = rows.next_row() {
        all.push((row.line, String::from_utf8_lossy(row.bytes).into_owned(), row.remark));
    }
    all
}

fn good(line: u64, record: &str) -> Told {
    (line, record.to_owned(), None)
}

#[test]
fn the_exports_of_all_tools_are_read() {
    let cell = r#""{""Id"":""1"",""x"":""a, b; c""}""#;
    let record = r#"{"Id":"1","x":"a, b; c"}"#;
    let portal = format!(
        "\u{feff}RecordId,CreationDate,RecordType,Operation,UserId,AuditData,AssociatedAdminUnits,AssociatedAdminUnitsNames\r\n1,2026-01-02,15,UserLoggedIn,a@b.c,{cell},,\r\n"
    );
    assert_eq!(rows(&portal), [good(2, record)]);
    let older = format!("CreationDate,UserIds,Operations,AuditData\n2026,a,b,{cell}\n\n2027,a,b,{cell}");
    assert_eq!(rows(&older), [good(2, record), good(4, record)]);
    let shell = format!("#TYPE Deserialized.Audit\r\n\"AuditData\",\"ResultIndex\"\r\n{cell},\"1\"\r\n");
    assert_eq!(rows(&shell), [good(3, record)]);
    for delimiter in [";", "\t"] {
        let excel = format!("a{delimiter}AuditData{delimiter}b\r\nx{delimiter}{cell}{delimiter}y\r\n");
        assert_eq!(rows(&excel), [good(2, record)]);
    }
}

#[test]
fn joined_exports_change_their_columns_in_the_middle() {
    let text = "a,AuditData\n1,{}\n\u{feff}AuditData;b\n{};2\n";
    assert_eq!(rows(text), [good(2, "{}"), good(4, "{}")]);
    assert_eq!(rows("a,AuditData\nAuditData,{}\n"), [good(2, "{}")], "no header: it has a record");
}

#[test]
fn a_row_may_have_many_lines() {
    let text = "AuditData,x\r\n\"{\n\"\"a\"\":1}\r\n\",\"y\n\"\r\n\"{}\",z\r\n";
    assert_eq!(rows(text), [good(2, "{\n\"a\":1}"), good(6, "{}")]);
}

#[test]
fn a_row_that_breaks_off_does_not_swallow_the_next() {
    let whole = r#"1,"{""Id"":""1""}",x"#;
    for broken in [r#"1,"{""Id"":""1"#, r#"1,""#, r#"1,"{}"x,"#, r#"1,"{"Id":"2"}",x"#] {
        let told = rows(&format!("a,AuditData,b\n{whole}\n{broken}\n{whole}\n{whole}\n"));
        let record = r#"{"Id":"1"}"#;
        let cut = (3, broken.to_owned(), Some(Remark::Quotes));
        assert_eq!(told, [good(2, record), cut, good(4, record), good(5, record)], "{broken}");
    }
    // A cut that looks like the end of a cell: the record itself shows it.
    assert_eq!(rows("AuditData\n\"{\"\"Id\"\":\"\n\"{}\"\n"), [good(2, "{\"Id\":"), good(3, "{}")]);
    let last = rows("AuditData\n\"{}\"\n\"{\"\"a\n{}\n");
    assert_eq!(last, [good(2, "{}"), (3, "\"{\"\"a".to_owned(), Some(Remark::Quotes)), good(4, "{}")]);
}

#[test]
fn a_row_without_a_record_comes_whole() {
    let text = "a,AuditData\nonly one\n2,\n3, \n4,\"{}\"\n";
    let none = |line, row: &str| (line, row.to_owned(), Some(Remark::NoRecord));
    assert_eq!(rows(text), [none(2, "only one"), none(3, "2,"), none(4, "3,"), good(5, "{}")]);
}

#[test]
fn a_cell_that_excel_has_cut_is_remarked() {
    let cut = format!("{{a{}", "ü".repeat(EXCEL_CELL - 2));
    assert_eq!(rows(&format!("AuditData\n{cut}\n"))[0].2, Some(Remark::FullCell));
    assert_eq!(rows(&format!("AuditData\n{cut}x\n"))[0].2, None);
}

#[test]
fn quotes_of_many_lines_cost_no_more_than_the_bound() {
    // Each line leaves a cell open over all that follow.
    let text = format!("x,AuditData\n{}", "1,\"{\"\"a\"\"\n\"\"\n".repeat(40_000));
    let mut found = Rows::of(Window::new(text.as_bytes())).unwrap_or_else(|_| panic!());
    let mut count = 0;
    while found.next_row().is_some() {
        count += 1;
    }
    assert_eq!(count, 80_000);
}

proptest! {
    #[test]
    fn any_cells_come_back(
        cells in proptest::collection::vec(r#"[^\x00\u{feff}]{0,20}"#, 1..20),
        newline in prop_oneof![Just("\n"), Just("\r\n")],
        delimiter in prop_oneof![Just(","), Just(";"), Just("\t")],
    ) {
        let quote = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let mut text = format!("a{delimiter}AuditData{newline}");
        for cell in &cells {
            text.push_str(&format!("{}{delimiter}{}{newline}", quote(cell), quote(&format!("{{{cell}}}"))));
        }
        let told = rows(&text);
        prop_assert!(told.iter().all(|(_, _, remark)| remark.is_none()));
        let got: Vec<String> = told.into_iter().map(|(_, record, _)| record).collect();
        let given: Vec<String> = cells.iter().map(|cell| format!("{{{cell}}}")).collect();
        prop_assert_eq!(got, given);
    }

    #[test]
    fn no_row_is_dropped_and_nothing_panics(text in r#"[{}",;x\\\r\n]{0,80}"#) {
        let told = rows(&format!("a,AuditData\n{text}"));
        let lines = text.lines().filter(|line| !line.trim_matches(['\r', '\n']).is_empty()).count();
        prop_assert!(told.len() <= lines);
        prop_assert!(lines == 0 || !told.is_empty());
    }
}
