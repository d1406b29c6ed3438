//! The bar `configuration`, first half: broken files, through the real binary's `validate`. Each fault is told with
//! file, line, column, key, what was expected and a hint; several faults of one file are all told; nothing that
//! may be a secret is shown. What must be said stands in `tests/broken/expected.txt`, written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::figure;

/// A fault that must be told.
struct Expected {
    place: String,
    key: String,
    words: String,
    hint: String,
}

/// One fault, as told: its line, the line of the file with its sign, the hint.
#[derive(Debug)]
struct Told {
    head: String,
    snippet: String,
    hint: String,
}

fn broken() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

fn expected() -> BTreeMap<String, Vec<Expected>> {
    let text = std::fs::read_to_string(broken().join("expected.txt")).unwrap();
    let mut all: BTreeMap<String, Vec<Expected>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let row: Vec<&str> = line.split(" | ").collect();
        let [file, place, key, words, hint] = row[..] else { panic!("not five columns: {line}") };
        let file = format!("{file}.yaml");
        let place = match place {
            "-" => format!("{file}: error: "),
            other if other.contains(".yaml:") => format!("{other}: error: "),
            at => format!("{file}:{at}: error: "),
        };
        let [key, words, hint] = [key, words, hint].map(str::to_owned);
        all.entry(file).or_default().push(Expected { place, key, words, hint });
    }
    all
}

/// The files in a directory of their own, readable for us alone: a warning about that is another test's.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
    for folder in ["", "tenants.d"] {
        for entry in std::fs::read_dir(broken().join(folder)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                let to = dir.path().join(folder).join(from.file_name().unwrap());
                std::fs::copy(&from, &to).unwrap();
                std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
    dir
}

/// `validate`'s exit code and all that it says.
fn validate(dir: &Path, file: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.current_dir(dir).args(["validate", "-c", file]).stdin(Stdio::null());
    // What the machine of the test has set is not what the files are about.
    for name in ["AUDITFERRY_TEST_NOT_SET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "IMDS_ENDPOINT"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn told(said: &str) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for line in said.lines() {
        if line.contains(": error: ") || line.contains(": warning: ") {
            all.push(Told { head: line.to_owned(), snippet: String::new(), hint: String::new() });
        } else if let Some(last) = all.last_mut() {
            match line.strip_prefix("    hint: ") {
                Some(hint) => hint.clone_into(&mut last.hint),
                None if line.contains(" | ") => last.snippet += &format!("{line}\n"),
                None => {}
            }
        }
    }
    all
}

#[test]
fn broken_files_have_all_their_faults_told() {
    let (dir, expected) = (copy(), expected());
    let files: BTreeSet<String> = std::fs::read_dir(broken())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    assert_eq!(files, expected.keys().cloned().collect(), "each file has its rows, and each row its file");
    assert!(files.len() >= 40, "{} files", files.len());

    let mut wrong = Vec::new();
    for (file, rows) in &expected {
        let (code, said) = validate(dir.path(), file);
        let mut left = told(&said);
        let mut missing: Vec<&Expected> = Vec::new();
        for row in rows {
            let is_it = |told: &Told| {
                told.head.starts_with(&row.place)
                    && told.head.contains(&row.words)
                    && told.hint.contains(&row.hint)
                    && (row.key == "-"
                        || told.snippet.contains(&row.key)
                        || told.head.contains(&format!("`{}`", row.key)))
                    && (told.snippet.contains('^') || row.key == "-")
            };
            // What was told once stands for one row only.
            match left.iter().position(is_it) {
                Some(index) => _ = left.remove(index),
                None => missing.push(row),
            }
        }
        let good = missing.is_empty() && left.is_empty() && code == Some(1) && !said.contains("canary");
        if !good {
            let missing: Vec<String> =
                missing.iter().map(|row| format!("{}{} … {}", row.place, row.words, row.hint)).collect();
            wrong.push(format!("{file} ({code:?}): not told: {missing:#?}, told without a row: {left:#?}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
    let (faults, several) =
        (expected.values().map(Vec::len).sum::<usize>(), expected.values().filter(|rows| rows.len() > 1));
    figure(
        "configuration",
        format_args!(
            "{} broken files, {faults} faults, all told with place and hint; {} files with several",
            files.len(),
            several.count()
        ),
    );
}

#[test]
fn broken_paths_are_named() {
    let dir = copy();
    for (path, words) in [("tenants.d", "directory"), ("nowhere.yaml", "No such file")] {
        let (code, said) = validate(dir.path(), path);
        assert!(code == Some(1) && said.starts_with(&format!("{path}: error: cannot read the file")), "{said}");
        assert!(said.contains(words) && said.contains("hint: "), "{said}");
    }
}
