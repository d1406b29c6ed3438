//! Records and the documents they become, as pairs of files: `tests/fixtures/<family>/<case>.json` (one
//! record or an array, spelt as it may arrive) and `<case>.expected.json` (one document each).
//! Documents are compared byte by byte, so the text of numbers and the order of fields count.
//!
//! A new case: write `<case>.json`, with invented values and named for the trouble it shows, then
//!
//! ```text
//! UPDATE_FIXTURES=1 cargo test --test it normalize && git diff tests/fixtures
//! ```
//!
//! and read every line of that difference: what is committed is what is promised.

use std::fs;
use std::path::{Path, PathBuf};

use auditferry::feed::ContentType;
use auditferry::normalize::{self, Context};
use auditferry::record::{RecordKey, View};
use serde_json::value::RawValue;

const TENANT: &str = "5a1e0000-0000-4000-8000-00000000c0de";

fn content_type(family: &str) -> ContentType {
    match family {
        "entra" => ContentType::AzureActiveDirectory,
        "exchange" => ContentType::Exchange,
        "sharepoint" => ContentType::SharePoint,
        "dlp" => ContentType::Dlp,
        _ => ContentType::General,
    }
}

/// Every `<family>/<case>.json` that is not an expectation.
pub fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let children = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = children(root)
        .filter(|path| path.is_dir())
        .flat_map(children)
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(".json") && !name.ends_with(".expected.json")
        })
        .collect();
    cases.sort();
    cases
}

fn documents(case: &Path) -> String {
    let family = case.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let context = Context {
        tenant_id: TENANT,
        tenant_name: "northwind",
        content_type: Some(content_type(family)),
        received_ms: None,
        original: false,
        enrich: None,
    };
    let input = fs::read_to_string(case).unwrap();
    let records: Vec<&RawValue> = match input.trim_start().starts_with('[') {
        true => serde_json::from_str(&input).unwrap(),
        false => vec![serde_json::from_str(&input).unwrap()],
    };
    let mut documents = String::new();
    for record in records {
        let view = View::parse(record.get().as_bytes()).unwrap();
        let mut document = Vec::new();
        normalize::document(
            &context,
            normalize::Profile::Auditferry,
            RecordKey::of(TENANT, &view),
            &view,
            &mut document,
        );
        let document = String::from_utf8(document).unwrap();
        serde_json::from_str::<serde_json::Value>(&document).unwrap();
        documents.push_str(&indented(&document));
        documents.push('\n');
    }
    documents
}

/// The same JSON with line breaks and blanks for people; every token keeps its spelling.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut characters = json.chars().filter(|c| *c != '\n').peekable();
    while let Some(c) = characters.next() {
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        match c {
            ' ' | '\t' | '\r' => {}
            '{' | '[' => {
                while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                out.push(c);
                match characters.next_if(|c| matches!(c, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[test]
fn every_fixture_becomes_the_documents_beside_it() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let cases = cases();
    assert!(cases.len() >= 10, "the fixtures are gone");
    let mut different = Vec::new();
    for case in cases {
        let expected = case.with_extension("expected.json");
        let documents = documents(&case);
        if update {
            fs::write(&expected, documents).unwrap();
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(documents.as_str()) {
            println!("--- {}\n{documents}", case.display());
            different.push(case);
        }
    }
    assert!(different.is_empty(), "not as expected, see the documents above: {different:#?}");
}
