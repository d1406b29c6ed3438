//! Holds what ARCHITECTURE.md claims about the source itself: which room may see which, that every
//! file says what it is for, and that no file is named after nothing in particular. Reads the source
//! as text; knows no types.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which rooms each room may import. A room that is not listed may import anything but the rooms
/// of [`ORDER`]. Tests inside a room may see more: only the part before `#[cfg(test)]` counts.
const WALLS: &[(&str, &[&str])] = &[
    // Plain values and tools: at the bottom.
    ("advice", &[]),
    ("clock", &[]),
    ("disk", &["clock"]),
    // What a document may hold is said once, by who writes it.
    ("edit", &["escape", "normalize::ecs"]),
    ("escape", &[]),
    ("failpoint", &[]),
    ("feed", &[]),
    ("ack", &[]),
    ("secret", &[]),
    ("metrics", &["memory"]),
    ("budget", &["feed"]),
    ("retry", &["clock"]),
    ("http", &["advice", "config", "secret", "clock"]),
    // What Microsoft sends, and what becomes of it: pure.
    ("record", &["event::Span", "feed"]),
    ("normalize", &["enrich::Enricher", "enrich::application", "escape", "record", "feed"]),
    // Reads files of others; knows nothing of records.
    ("enrich", &["config", "disk", "escape", "metrics"]),
    ("event", &["budget", "feed", "normalize::Form", "record"]),
    ("route", &["sink", "config", "feed", "record", "normalize"]),
    ("config", &["clock", "edit", "feed", "normalize::Form", "normalize::Profile", "record::types", "secret"]),
    // A sink sees events and the record key, never a record type.
    (
        "sink",
        &[
            "ack",
            "advice",
            "clock",
            "config",
            "delivered",
            "disk",
            "edit",
            "escape",
            "event",
            "failpoint",
            "feed",
            "http",
            "metrics",
            "normalize::Form",
            "normalize::Profile",
            "record::RecordKey",
            "retry",
            "secret",
            // A token is fetched in one way, whoever it is for.
            "source::auth",
            "state",
        ],
    ),
    (
        "delivered",
        &["ack", "disk", "failpoint", "metrics", "record::RecordKey", "sink::SinkId", "sink::SinkSet", "state"],
    ),
    (
        "state",
        &[
            "ack",
            "clock",
            "config",
            "delivered",
            "disk",
            "failpoint",
            "feed",
            "metrics",
            "record::RecordKey",
            "sink::FilePosition",
            "sink::SinkId",
            "sink::SinkSet",
        ],
    ),
    // The source ends where a part of a blob goes out.
    (
        "source",
        &[
            "ack",
            "advice",
            "budget",
            "clock",
            "config",
            "disk",
            "event::Span",
            "failpoint",
            "feed",
            "http",
            "metrics",
            "record",
            "retry",
            "route::Intake",
            "secret",
            "state",
        ],
    ),
    // The judge shares nothing with what it judges but the way to ask for time.
    ("simulator", &["clock"]),
    ("admin", &["clock", "metrics"]),
];

/// The rooms that know the order of the steps; only [`MAY_SEE_ORDER`] may see them.
const ORDER: &[&str] = &["app", "pipeline"];
const MAY_SEE_ORDER: &[&str] = &["app", "cli", "main", "pipeline", "replay"];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helpers", "helper", "misc", "common", "data_structures", "types2"];
/// Where a name of [`EMPTY_NAMES`] does say something: what all families of records share.
const NAMED_BY_DESIGN: &[&str] = &["src/normalize/common.rs"];

struct File {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files() -> Vec<File> {
    let mut found = Vec::new();
    for top in ["src", "tests", "benches", "examples"] {
        walk(&root().join(top), &mut found);
    }
    assert!(found.len() > 20, "the source was not found");
    found
}

fn walk(dir: &Path, found: &mut Vec<File>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
}

/// `src/sink/file.rs` and `src/sink.rs` are both the room `sink`.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

/// Files that hold tests only, because they are called so or declared under `#[cfg(test)]`: those may see more.
fn test_files(files: &[File]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let stem = name.trim_end_matches(".rs");
        if stem == "tests" || stem.ends_with("_tests") || dir.ends_with("/tests") {
            found.insert(file.path.clone());
        }
        let inside = if matches!(stem, "mod" | "lib" | "main") { dir.to_owned() } else { format!("{dir}/{stem}") };
        let declared = only_for_tests(&file.text).filter_map(|line| line.strip_suffix(';'));
        found.extend(declared.filter_map(|line| line.rsplit(' ').next()).map(|name| format!("{inside}/{name}.rs")));
    }
    found
}

/// The `mod` lines that stand below a `#[cfg(test)]`.
fn only_for_tests(text: &str) -> impl Iterator<Item = &str> {
    let pairs = text.lines().zip(text.lines().skip(1));
    pairs
        .filter(|(above, _)| above.trim() == "#[cfg(test)]")
        .map(|(_, line)| line.trim())
        .filter(|line| line.contains("mod "))
}

/// The text without comments and without what follows `#[cfg(test)] mod … {`.
fn code(text: &str) -> String {
    let inline = only_for_tests(text).find(|line| line.ends_with('{') || line.ends_with('}'));
    let end = inline.and_then(|line| text.find(&format!("#[cfg(test)]\n{line}"))).unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Every path below the crate that the code names: `use crate::a::{b, c::d}` gives `a::b`, `a::c::d`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        expand("", &code[at + "crate::".len()..], &mut found);
    }
    found
}

/// Reads a path, and the list in braces at its end; gives back what follows.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (path, mut rest) = text.split_at(end);
    let path = format!("{prefix}{path}");
    if !((path.is_empty() || path.ends_with("::")) && rest.starts_with('{')) {
        found.insert(path);
        return rest;
    }
    rest = &rest[1..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match rest.chars().next() {
            None => return rest,
            Some('}') => return &rest[1..],
            Some(c) if c.is_alphanumeric() || c == '_' => {
                rest = expand(&path, rest, found);
                // `a as b`: the alias is not a path.
                if let Some(alias) = rest.trim_start().strip_prefix("as ") {
                    rest = alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                }
            }
            Some(other) => rest = &rest[other.len_utf8()..],
        }
    }
}

fn allows(allowed: &[&str], import: &str) -> bool {
    allowed.iter().any(|room| import == *room || import.strip_prefix(room).is_some_and(|rest| rest.starts_with("::")))
}

/// What `room` imports and must not.
fn breaches(room: &str, code: &str) -> Vec<String> {
    let wall = WALLS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
    imports(code)
        .into_iter()
        .filter(|import| {
            let of = import.split("::").next().unwrap_or(import);
            // A macro or a type at the root of the crate has no room.
            let is_room = of.starts_with(|c: char| c.is_ascii_lowercase());
            let order = ORDER.contains(&of) && !MAY_SEE_ORDER.contains(&room);
            let wall = wall.is_some_and(|allowed| of != room && !allows(allowed, import));
            is_room && (order || wall)
        })
        .collect()
}

#[test]
fn no_room_sees_what_it_must_not() {
    let mut said = Vec::new();
    let files = files();
    let tests = test_files(&files);
    for file in &files {
        let Some(room) = room(&file.path).filter(|_| !tests.contains(&file.path)) else { continue };
        for import in breaches(room, &code(&file.text)) {
            said.push(format!("{}: `{room}` must not see `crate::{import}`", file.path));
        }
    }
    assert!(said.is_empty(), "\n{}\nThe table is tests/it/tidy.rs; ARCHITECTURE.md says why.", said.join("\n"));
}

#[test]
fn the_walls_would_be_seen_broken() {
    let text = "use crate::{sink::Sink, feed};\nlet x = crate::pipeline::run();\n// crate::app\n#[cfg(test)]\nmod tests { use crate::state; }";
    assert_eq!(breaches("normalize", &code(text)), ["pipeline::run", "sink::Sink"]);
    assert_eq!(breaches("sink", &code("use crate::record::{RecordKey, types::TYPES as T};")), ["record::types::TYPES"]);
    assert_eq!(
        breaches("simulator", &code("use crate::clock::{Clock, Seconds};\nuse crate::feed::Feed;")),
        ["feed::Feed"]
    );
    let declared = "#[cfg(test)]\nmod samples;\nuse crate::budget::Budget;\nuse crate::normalize::ecs;";
    assert_eq!(breaches("sink", &code(declared)), ["budget::Budget", "normalize::ecs"], "a declaration ends nothing");
    let file = File { path: "src/sink/mod.rs".into(), text: declared.into() };
    assert_eq!(test_files(&[file]).into_iter().collect::<Vec<_>>(), ["src/sink/samples.rs"]);
    assert!(breaches("cli", &code("use crate::app::App;")).is_empty());
}

#[test]
fn every_wall_is_around_a_room_that_is_there() {
    for (room, _) in WALLS {
        let there = root().join("src").join(room).is_dir() || root().join("src").join(format!("{room}.rs")).is_file();
        assert!(there, "there is no room `{room}`");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in files() {
        // Attributes of the whole file may stand before.
        let body = file.text.trim_start();
        let first = body.lines().find(|line| line.starts_with("//!"));
        let before: String = body.lines().take_while(|line| !line.starts_with("//!")).collect();
        let only_attributes = before.trim().is_empty() || before.trim_start().starts_with("#![");
        assert!(first.is_some() && only_attributes, "{} does not begin with `//!`", file.path);
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for file in files() {
        let empty = file
            .path
            .split('/')
            .map(|part| part.trim_end_matches(".rs"))
            .any(|part| EMPTY_NAMES.contains(&part) || part.ends_with("_new"));
        assert!(!empty || NAMED_BY_DESIGN.contains(&file.path.as_str()), "{}: name it after what it does", file.path);
    }
}

#[test]
fn the_source_names_no_path_of_a_developers_machine() {
    for file in files() {
        for path in ["/root/", "/home/"] {
            let named = code(&file.text).contains(path) && !file.path.ends_with("tidy.rs");
            assert!(!named, "{} names {path}", file.path);
        }
    }
}
