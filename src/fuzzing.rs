//! What a fuzzer may try: one function a reader of foreign bytes, which takes any bytes and panics
//! where a promise of that reader is broken, not only where it crashes. `fuzz/` drives them by
//! coverage (`make fuzz`), and `make test` takes the corpus and its mutations through the same functions.
//!
//! Only with the feature `failpoints`; never in a release.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use crate::config;
use crate::normalize;
use crate::record::address::Address;
use crate::record::salvage::salvage;
use crate::record::split::{SplitError, Splitter};
use crate::record::{RecordKey, Span, View};
use crate::retry::parse_retry_after;
use crate::sink::splunk_hec::trial;
use crate::source::auth::trial as auth;
use crate::source::error::{ApiError, Refusal, classify};
use crate::source::pin::Pin;
use crate::state::{frame, snapshot as snapshots};

/// One reader under trial.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the folder of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "split", run: split },
    Target { name: "salvage", run: salvaged },
    Target { name: "view", run: view },
    Target { name: "address", run: address },
    Target { name: "input", run: crate::cli::input_trial },
    Target { name: "retry_after", run: retry_after },
    Target { name: "pin", run: pin },
    Target { name: "config", run: configuration },
    Target { name: "refusal", run: refusal },
    Target { name: "hec_answer", run: trial::answers },
    Target { name: "pfx", run: auth::opened },
    Target { name: "certificate", run: auth::certificate },
    Target { name: "journal", run: journal },
    Target { name: "snapshot", run: snapshot },
];

fn range(span: &Span) -> Range<usize> {
    span.start as usize..span.end as usize
}

/// The same elements however the body is cut into pieces, and what a JSON parser calls an array is one.
fn split(body: &[u8]) {
    let (step, body) = body.split_first().map_or((1, body), |(first, rest)| (usize::from(*first) % 64 + 1, rest));
    let whole = split_by(body, usize::MAX);
    assert_eq!(whole, split_by(body, step), "another result in steps of {step}");
    let parsed: Option<Vec<&RawValue>> = serde_json::from_slice(body).ok();
    if let Some(parsed) = parsed {
        let (spans, is_done) = whole.unwrap_or_else(|error| unreachable!("an array is refused: {error}"));
        // An element that is a number or a word takes the blanks after it along.
        let elements: Vec<&[u8]> = spans.iter().map(|span| body[range(span)].trim_ascii_end()).collect();
        let expected: Vec<&[u8]> = parsed.iter().map(|value| value.get().as_bytes()).collect();
        assert!(is_done && elements == expected, "other elements than a parser finds");
    }
}

fn split_by(body: &[u8], step: usize) -> Result<(Vec<Span>, bool), SplitError> {
    let (mut splitter, mut spans, mut end) = (Splitter::default(), Vec::new(), 0);
    while end < body.len() {
        end = end.saturating_add(step).min(body.len());
        splitter.scan(&body[..end], &mut spans)?;
    }
    for pair in spans.windows(2) {
        assert!(pair[0].end <= pair[1].start, "elements overlap");
    }
    assert!(spans.iter().all(|span| span.start < span.end && span.end as usize <= body.len()), "no such bytes");
    Ok((spans, splitter.is_done()))
}

/// What is salvaged and what is left out together are the body, and only structure is left out.
fn salvaged(body: &[u8]) {
    let mut at = 0;
    for span in salvage(body) {
        let span = range(&span);
        assert!(at <= span.start && span.start < span.end, "elements overlap or are empty");
        assert_only_structure(&body[at..span.start]);
        at = span.end;
    }
    assert_only_structure(&body[at..]);
}

fn assert_only_structure(bytes: &[u8]) {
    let is_structure = |byte: &u8| byte.is_ascii_whitespace() || b",[]".contains(byte);
    assert!(bytes.iter().all(is_structure), "content is dropped");
}

/// Every JSON object is readable, its document is one line of JSON, and its key is that of any spelling.
fn view(record: &[u8]) {
    let object: Option<serde_json::Map<String, Value>> = serde_json::from_slice(record).ok();
    let Ok(view) = View::parse(record) else {
        assert!(object.is_none(), "an object is refused");
        let mut line = Vec::new();
        normalize::pipeline_error(
            &normalize::Context::default(),
            RecordKey::of_bytes("t", record),
            record,
            "fuzz",
            &mut line,
        );
        assert_line(&line, true);
        return;
    };
    let key = RecordKey::of("t", &view);
    let (mut document, mut raw) = (Vec::new(), Vec::new());
    normalize::document(&normalize::Context::default(), normalize::Profile::Auditferry, key, &view, &mut document);
    normalize::raw(&view, &mut raw);
    // A parser with a limit of its own on depth cannot judge what is deeper.
    let is_judge = object.is_some() && depth(record) < 100;
    assert_line(&document, is_judge);
    assert_line(&raw, is_judge);
    if let Some(object) = object
        && is_judge
    {
        let again: Option<Value> = serde_json::from_slice(&raw).ok();
        assert_eq!(again, Some(Value::Object(object)), "the raw form is another record");
    }
}

fn assert_line(line: &[u8], is_judge: bool) {
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "more than a line");
    if is_judge {
        let parsed: Result<Value, _> = serde_json::from_slice(line);
        assert!(parsed.is_ok(), "not JSON: {}", String::from_utf8_lossy(line));
    }
}

fn depth(record: &[u8]) -> usize {
    record.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// What is read as an address is one, and its text is part of what was read.
fn address(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(address) = Address::parse(text) else {
        assert!(text.trim().is_empty(), "text is dropped");
        return;
    };
    assert!(text.contains(address.text), "text that was not there");
    if let Some(ip) = address.ip {
        let again = ip.to_string();
        assert_eq!(Address::parse(&again).and_then(|address| address.ip), Some(ip), "`{again}` is read otherwise");
    }
}

/// A wait is bounded, and digits always are one.
fn retry_after(bytes: &[u8]) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let text = String::from_utf8_lossy(bytes);
    let wait = parse_retry_after(&text, 1_800_000_000_000);
    assert!(wait.is_none_or(|wait| wait <= DAY), "{wait:?}");
    let is_digits = !text.trim().is_empty() && text.trim().bytes().all(|byte| byte.is_ascii_digit());
    assert!(wait.is_some() || !is_digits, "`{text}` is no wait");
}

/// What passes goes to the pinned host, below the tenant's feed, whoever reads the URL.
fn pin(bytes: &[u8]) {
    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    static PIN: OnceLock<Option<Pin>> = OnceLock::new();
    let root = || Url::parse("https://manage.office.com/").ok();
    let pin = PIN.get_or_init(|| root().map(|root| Pin::new(root, TENANT, "p"))).as_ref();
    let (Some(pin), Ok(text)) = (pin, str::from_utf8(bytes)) else { return };
    for text in [text.to_owned(), format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed/{text}")] {
        let Ok(url) = pin.check(&text) else { continue };
        let url = url.as_url();
        let sent = url.as_str().to_ascii_lowercase();
        let prefixes =
            ["api/v1.0", "api/v1"].map(|api| format!("https://manage.office.com/{api}/{TENANT}/activity/feed/"));
        assert!(prefixes.iter().any(|prefix| sent.starts_with(prefix)), "`{text}` passes as {sent}");
        assert_eq!(url.host_str(), Some("manage.office.com"), "{sent}");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{sent}");
        assert!(sent.contains("publisheridentifier="), "{sent} counts against everybody's quota");
    }
    let own = pin.content_url(text);
    assert!(
        pin.check(own.as_url().as_str()).is_ok() || text.is_empty() || has_steps(text),
        "our own URL is refused: {own:?}"
    );
}

/// Ids that our own check would refuse even escaped; the service is asked for them all the same.
fn has_steps(text: &str) -> bool {
    text.contains(['/', '\\']) || text.split('%').skip(1).any(|after| after.len() >= 2) || matches!(text, "." | "..")
}

/// Any text is a configuration or a list of faults that each say where.
fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // Files and the environment are not the text's to read here.
    if text.contains("${") {
        return;
    }
    if let Err(faults) = config::load_str("fuzz.yaml", text) {
        let said = faults.to_string();
        assert!(said.contains("fuzz.yaml"), "no place in: {said}");
    }
}

/// Any refusal has a meaning, and none gives something up that the service did not name.
fn refusal(bytes: &[u8]) {
    let Some((status, body)) = bytes.split_first_chunk::<2>() else { return };
    let status = 300 + u16::from_be_bytes(*status) % 300;
    let names = |code: &[u8]| memchr::memmem::find(body, code).is_some();
    // An escaped letter is the same code to a JSON parser.
    let is_escaped = names(b"\\u");
    match classify(status, None, body) {
        Refusal::Error(ApiError::Expired { .. }) => assert!(names(b"AF20051") || is_escaped, "expired by accident"),
        Refusal::Error(ApiError::NotFound { .. }) => {
            assert!(status == 404 || names(b"AF20050") || names(b"AF20052") || is_escaped, "gone by accident");
        }
        Refusal::AlreadyEnabled => assert!(names(b"AF20024") || is_escaped, "a success by accident"),
        Refusal::Token { .. } => assert!(status == 401),
        Refusal::Error(_) => {}
    }
}

/// What a block of the journal holds is frames or refused whole, and what is read is what writing it again gives. Its
/// checksum is left out: it would keep a fuzzer from ever getting to the frames.
fn journal(payload: &[u8]) {
    let (mut count, mut written) = (0, Vec::new());
    let is_whole = frame::decode_all(payload, &mut |read| {
        count += 1;
        assert!(read.encode(&mut written).is_ok(), "read and not writable");
    });
    assert!(is_whole || count == 0, "frames of a refused block were seen");
    let mut again = 0;
    assert!(frame::decode_all(&written, &mut |_| again += 1) && again == count, "written and not readable");
}

/// The same of a snapshot's payload.
fn snapshot(payload: &[u8]) {
    let Ok(read) = snapshots::decode(payload) else { return };
    let mut written = snapshots::Encoder::new(&read.book, read.feeds.len());
    for (key, progress) in &read.feeds {
        if let Ok(encoder) = &mut written {
            assert!(encoder.feed(key, progress).is_ok(), "read and not writable");
        }
    }
    assert!(written.is_ok(), "read and not writable");
}
