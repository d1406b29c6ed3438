//! Round trip: `normalize --format raw` gives back what stood in a file, JSON-equal and in order: array order, the
//! text of numbers, escapes, the last of a key given twice. For every form of input that there is, over all
//! fixtures, records of the simulator and invented ones that hurt; and a long file in flat memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, WorldConfig};
use base64::Engine as _;
use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;

use crate::support::{Place, figure, size, world};

/// What the process may hold of a file of any length.
const MEMORY_KIB: u64 = 32 * 1024;

/// A number or a literal as it is spelt, text as it is meant, an object with the last of each key.
#[derive(Debug, PartialEq)]
pub enum Json {
    Spelt(String),
    Text(Vec<u16>),
    List(Vec<Json>),
    Object(BTreeMap<Vec<u16>, Json>),
}

/// A reader of valid JSON of its own: serde_json's `Value` changes numbers and refuses lone surrogates.
pub fn json(text: &[u8]) -> Json {
    let mut at = 0;
    let value = value(text, &mut at);
    blank(text, &mut at);
    assert_eq!(at, text.len(), "more than one value");
    value
}

fn blank(text: &[u8], at: &mut usize) {
    *at += text[*at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
}

fn value(text: &[u8], at: &mut usize) -> Json {
    blank(text, at);
    match text[*at] {
        b'"' => Json::Text(string(text, at)),
        b'[' => {
            let mut list = Vec::new();
            members(text, at, b']', |text, at| list.push(value(text, at)));
            Json::List(list)
        }
        b'{' => {
            let mut object = BTreeMap::new();
            members(text, at, b'}', |text, at| {
                let name = string(text, at);
                blank(text, at);
                assert_eq!(text[*at], b':');
                *at += 1;
                object.insert(name, value(text, at));
            });
            Json::Object(object)
        }
        _ => {
            let spelt = text[*at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
            let spelt: Vec<u8> = spelt.copied().collect();
            assert!(!spelt.is_empty(), "no value at {at} of {}", String::from_utf8_lossy(text));
            *at += spelt.len();
            Json::Spelt(String::from_utf8(spelt).unwrap())
        }
    }
}

fn members(text: &[u8], at: &mut usize, end: u8, mut member: impl FnMut(&[u8], &mut usize)) {
    *at += 1;
    blank(text, at);
    while text[*at] != end {
        member(text, at);
        blank(text, at);
        if text[*at] == b',' {
            *at += 1;
            blank(text, at);
        }
    }
    *at += 1;
}

/// Code units, so that half a surrogate pair is something.
fn string(text: &[u8], at: &mut usize) -> Vec<u16> {
    assert_eq!(text[*at], b'"');
    *at += 1;
    let mut units = Vec::new();
    loop {
        let next = &text[*at..text.len().min(*at + 4)];
        let rest = std::str::from_utf8(next).unwrap_or_else(|e| std::str::from_utf8(&next[..e.valid_up_to()]).unwrap());
        let c = rest.chars().next().unwrap();
        *at += c.len_utf8();
        match c {
            '"' => return units,
            '\\' => {
                let escape = text[*at];
                *at += 1;
                units.push(match escape {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => 10,
                    b'r' => 13,
                    b't' => 9,
                    b'u' => {
                        let digits = std::str::from_utf8(&text[*at..*at + 4]).unwrap();
                        *at += 4;
                        u16::from_str_radix(digits, 16).unwrap()
                    }
                    other => u16::from(other),
                });
            }
            _ => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        }
    }
}

/// Every record of every fixture.
pub fn of_fixtures() -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for case in crate::normalize::cases() {
        let text = std::fs::read_to_string(case).unwrap();
        match text.trim_start().starts_with('[') {
            true => {
                let list: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
                records.extend(list.into_iter().map(|record| record.get().as_bytes().to_vec()));
            }
            false => records.push(text.trim().as_bytes().to_vec()),
        }
    }
    assert!(records.len() >= 10);
    records
}

/// What the simulator would serve, ordinary and odd; those of `kinds` are struck.
async fn of_simulator(records: u64, kinds: &[Scenario]) -> Vec<Vec<u8>> {
    let world = world(WorldConfig::new().records(records).scenarios(kinds)).await;
    world.truth().map(|record| record.record).collect()
}

/// A record that nobody has thought of.
fn invented(random: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    object(random, 0, &mut text);
    text.into_bytes()
}

fn object(random: &mut Rng, depth: usize, out: &mut String) {
    out.push('{');
    for place in 0..random.usize(0..8) {
        if place > 0 {
            out.push(',');
        }
        match random.u8(..4) {
            0 => out.push_str(
                random.choice([r#""Id""#, r#""I\u0064""#, r#""Operation""#, r#""Parameters""#, r#""""#]).unwrap(),
            ),
            _ => text(random, out),
        }
        out.push_str(random.choice([":", " : ", ":\t"]).unwrap());
        any(random, depth + 1, out);
    }
    out.push('}');
}

fn any(random: &mut Rng, depth: usize, out: &mut String) {
    const NUMBERS: [&str; 10] = [
        "0",
        "-0",
        "1156492.00",
        "12345678901234567890",
        "123456789012345678901234567890.5",
        "1e999",
        "-1.5E-07",
        "4.0E1",
        "true",
        "null",
    ];
    match random.u8(..if depth > 5 { 4 } else { 7 }) {
        0 | 1 => out.push_str(random.choice(NUMBERS).unwrap()),
        2 | 3 => text(random, out),
        4 => object(random, depth, out),
        _ => {
            out.push('[');
            for place in 0..random.usize(0..5) {
                out.push_str(if place > 0 { ", " } else { "" });
                any(random, depth + 1, out);
            }
            out.push(']');
        }
    }
}

fn text(random: &mut Rng, out: &mut String) {
    const PIECES: [&str; 20] = [
        "a",
        "Id",
        " ",
        ",",
        ";",
        "{",
        "}",
        "[",
        "]:",
        "\\\"",
        "\\\\",
        "\\/",
        "\\n",
        "\\r\\n",
        "\\u0000",
        "\\ud83d",
        "\\ud83d\\ude00",
        "😀",
        "\u{2028}\u{85}\u{202e}",
        // Alone it would be the name of the member that holds a record in what a search answers.
        " AuditData",
    ];
    out.push('"');
    (0..random.usize(0..6)).for_each(|_| out.push_str(random.choice(PIECES).unwrap()));
    out.push('"');
}

/// With a line break and blanks around each token that may have them.
fn pretty(record: &[u8]) -> Vec<u8> {
    let (mut out, mut in_string, mut escaped) = (Vec::new(), false, false);
    for &byte in record {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            out.push(byte);
            continue;
        }
        in_string = byte == b'"';
        match byte {
            b'{' | b'[' | b',' => {
                out.push(byte);
                // Never a brace at the beginning of a line but the first: that is how people print.
                out.extend_from_slice(b"\r\n    ");
            }
            b'}' | b']' => {
                out.extend_from_slice(b"\n  ");
                out.push(byte);
            }
            _ => out.push(byte),
        }
    }
    out
}

fn joined(records: &[Vec<u8>], before: &str, between: &str, after: &str) -> Vec<u8> {
    [before.as_bytes(), &records.join(between.as_bytes()), after.as_bytes()].concat()
}

/// An export; the cells around the record are as many as the header says.
fn export(records: &[Vec<u8>], header: &str, delimiter: &str, newline: &str) -> Vec<u8> {
    let mut out = format!("\u{feff}{}{newline}", header.replace(',', delimiter)).into_bytes();
    for (number, record) in records.iter().enumerate() {
        let cells: Vec<Vec<u8>> = header
            .split(',')
            .map(|column| match column {
                "AuditData" => [
                    &b"\""[..],
                    &record
                        .iter()
                        .flat_map(|b| if *b == b'"' { &b"\"\""[..] } else { std::slice::from_ref(b) })
                        .copied()
                        .collect::<Vec<u8>>(),
                    b"\"",
                ]
                .concat(),
                "Operation" => b"\"a \"\"quoted\"\"\nword\"".to_vec(),
                _ => number.to_string().into_bytes(),
            })
            .collect();
        out.extend_from_slice(&cells.join(delimiter.as_bytes()));
        out.extend_from_slice(newline.as_bytes());
    }
    out
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn utf16(text: &[u8], unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::str::from_utf8(text).unwrap().encode_utf16().flat_map(unit).collect()
}

/// The same records in every form of input.
fn forms(records: &[Vec<u8>]) -> Vec<(&'static str, Vec<u8>)> {
    const PORTAL: &str =
        "RecordId,CreationDate,RecordType,Operation,UserId,AuditData,AssociatedAdminUnits,AssociatedAdminUnitsNames";
    let pretty: Vec<Vec<u8>> = records.iter().map(|record| pretty(record)).collect();
    let lines = joined(records, "", "\n", "\n");
    let (one, two) = lines.split_at(lines.len() / 3);
    let portal = export(records, PORTAL, ",", "\r\n");
    let joined_exports = [
        export(&records[..7], "Operation,AuditData", ",", "\r\n"),
        export(&records[7..], "AuditData,Operation", ";", "\n"),
    ];
    let excel = export(records, "CreationDate,AuditData,Operation", "\t", "\r\n");
    vec![
        ("lines", lines.clone()),
        ("lines of Windows", joined(records, "\u{feff}", "\r\n", "")),
        ("array", joined(records, "[", ",", "]")),
        ("array of many lines", joined(records, "[\n", ",\n", "\n]\n")),
        ("pretty", joined(&pretty, "", "\n", "\n")),
        ("pretty array", joined(&pretty, "[\n  ", ",\n  ", "\n]\n")),
        ("blobs", joined(records, "[", "][", "]")),
        ("gzip", gzip(&lines)),
        ("gzip of two members", [gzip(one), gzip(two)].concat()),
        ("portal", portal.clone()),
        ("older portal", export(records, "CreationDate,UserIds,Operations,AuditData", ",", "\n")),
        ("record first", export(records, "AuditData,RecordId", ";", "\n")),
        ("two exports joined", joined_exports.concat()),
        ("gzip export", gzip(&portal)),
        ("excel", utf16(&excel, u16::to_le_bytes)),
        ("big-endian lines", utf16(&joined(records, "\u{feff}", "\n", ""), u16::to_be_bytes)),
    ]
}

/// What the program makes of these files.
fn normalized(files: &[impl AsRef<Path>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(["normalize", "--format", "raw"]).args(files.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    command.output().unwrap()
}

fn lines(output: &[u8]) -> Vec<&[u8]> {
    output.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trip_of_every_form_is_json_equal_and_in_order() {
    let mut records = of_fixtures();
    let odd = [
        Scenario::Deep,
        Scenario::DupKeys,
        Scenario::BigIntegers,
        Scenario::MissingId,
        Scenario::FloatSizes,
        Scenario::RecordTypeText,
    ];
    records.extend(of_simulator(size(300, 20_000), &odd).await);
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    records.extend((0..size(1_000, 200_000)).map(|_| invented(&mut random)));
    let expected: Vec<Json> = records.iter().map(|record| json(record)).collect();

    let place = Place::new();
    let mut all = Vec::new();
    for (name, bytes) in forms(&records) {
        // No name tells what is in it.
        let path = place.path(&format!("{}.csv.gz.json", name.replace(' ', "-")));
        std::fs::write(&path, bytes).unwrap();
        all.push((name, path));
    }
    for (name, path) in &all {
        let output = normalized(&[path]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{name}, seed {seed}");
        let got = lines(&output.stdout);
        for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!(json(got) == *expected, "{name}, seed {seed}, {number}: {}", String::from_utf8_lossy(got));
        }
        assert_eq!(got.len(), expected.len(), "{name}, seed {seed}");
    }
    let paths: Vec<_> = all.iter().map(|(_, path)| path).collect();
    let together = normalized(&paths);
    assert_eq!((together.status.code(), lines(&together.stdout).len()), (Some(0), expected.len() * all.len()));
    figure("round trip", format_args!("{} records in {} forms, all JSON-equal and in order", records.len(), all.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trip_of_what_is_unreadable_keeps_every_byte_and_names_each_place() {
    const KINDS: [Scenario; 5] =
        [Scenario::InvalidUtf8, Scenario::Nul, Scenario::BadEscape, Scenario::NotObject, Scenario::NotANumber];
    let mut records = of_simulator(size(500, 20_000), &KINDS).await;
    // An array is read as what is in it.
    records.retain(|record| !record.starts_with(b"["));
    let place = Place::new();
    let path = place.path("hostile");
    std::fs::write(&path, joined(&records, "", "\n", "\n")).unwrap();
    let output = normalized(&[&path, &place.path("none")]);
    let (got, said) = (lines(&output.stdout), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), got.len()), (Some(1), records.len()), "{said}");
    let mut unreadable = Vec::new();
    for (number, (got, record)) in got.iter().zip(&records).enumerate() {
        if got == record {
            continue;
        }
        let document: serde_json::Value = serde_json::from_slice(got).unwrap();
        assert_eq!(document["event"]["kind"], "pipeline_error");
        let kept = match document["auditferry"]["original_base64"].as_str() {
            Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
            None => document["event"]["original"].as_str().unwrap().as_bytes().to_vec(),
        };
        assert_eq!(&kept, record);
        unreadable.push(number + 1);
    }
    assert!(unreadable.len() > 20, "too few were struck: {unreadable:?}");
    let mut expected = String::new();
    unreadable.iter().take(20).for_each(|line| writeln!(expected, "{}:{line}:", path.display()).unwrap());
    let places: String =
        said.lines().take(20).map(|line| format!("{}\n", line.split(": ").next().unwrap().to_owned() + ":")).collect();
    assert_eq!(places, expected);
    assert!(
        said.contains(&format!("{} more: {} could not be read", unreadable.len() - 20, unreadable.len())),
        "{said}"
    );
    assert!(said.contains(&format!("{}: cannot be read", place.path("none").display())), "{said}");
}

#[test]
fn round_trip_of_a_long_file_in_flat_memory() {
    // One member of gzip, over and over: an array a member, as in a directory of packed blobs.
    let mut random = Rng::with_seed(5);
    let records: Vec<Vec<u8>> = (0..10_000).map(|_| invented(&mut random)).collect();
    let text = joined(&records, "[", ",", "]");
    let member = gzip(&text);
    let members = size(100_000_000, 10_000_000_000) / text.len() + 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(["normalize", "--format", "raw", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let began = Instant::now();
    let (mut peak, mut lines) = (0, 0usize);
    std::thread::scope(|scope| {
        scope.spawn(move || (0..members).for_each(|_| input.write_all(&member).unwrap()));
        let mut output = BufReader::with_capacity(1 << 20, output);
        let mut looked = Instant::now();
        loop {
            let bytes = output.fill_buf().unwrap();
            if bytes.is_empty() {
                break;
            }
            lines += memchr::memchr_iter(b'\n', bytes).count();
            let length = bytes.len();
            output.consume(length);
            if looked.elapsed() > Duration::from_millis(20) {
                peak = peak.max(rss_anon_kib(child.id()).unwrap_or(0));
                looked = Instant::now();
            }
        }
    });
    assert!(child.wait().unwrap().success());
    let megabytes = members * text.len() / 1_000_000;
    figure("round trip", format_args!("{megabytes} MB in {:.1?}, peak {peak} KiB", began.elapsed()));
    assert_eq!(lines, members * records.len());
    assert!(peak > 0 && peak <= MEMORY_KIB, "{peak} KiB");
}

fn rss_anon_kib(id: u32) -> Option<u64> {
    let mut status = String::new();
    std::fs::File::open(format!("/proc/{id}/status")).ok()?.read_to_string(&mut status).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}
