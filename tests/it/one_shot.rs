//! The verbs that somebody waits for, as the real binary: what they say, what they leave unsaid, and when they end.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ID: &str = "5a1e0000-0000-4000-8000-00000000c0de";

fn auditferry(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(args).env_remove("AUDITFERRY_CONFIG").env_remove("AUDITFERRY_LOG").stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn fed(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // It may end without reading.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn one_shot_normalize_is_silent_when_all_is_well_and_takes_its_configuration_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let database = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/enrich/invented.mmdb");
    let text = format!(
        "tenants: [{{ name: \"${{NAME:-north}}\", tenant_id: {ID}, auth: {{ client_secret: \"${{file:/no/such}}\" }} }}]\n\
         enrich: {{ geo: {{ city: {} }} }}\n",
        database.display()
    );
    let config = write(dir.path(), "c.yaml", &text);
    let record = format!("{{\"Id\":\"1\",\"OrganizationId\":\"{ID}\"}}");
    let mut command = auditferry(&["normalize"]);
    command.env("AUDITFERRY_CONFIG", &config).env("NAME", "south");
    let output = fed(command, &record);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    assert_eq!(lines(&output)[0]["organization"]["name"], "south");
    let more = fed(auditferry(&["normalize", "-v", "-c", &config]), &record);
    assert!(said(&more).contains("the database is read from now on"), "{}", said(&more));

    let wrong = write(dir.path(), "wrong.yaml", "normalize: { orginal: true }\ntenants: [{ name: a }]\n");
    let output = fed(auditferry(&["normalize", "-c", &wrong]), &record);
    let told = said(&output);
    assert_eq!((output.status.code(), lines(&output).len()), (Some(2), 0), "{told}");
    assert!(told.contains("wrong.yaml:1:14: error") && told.contains("did you mean `original`?"), "{told}");
    assert!(told.contains("wrong.yaml:2:11: error: `tenant_id` is missing"), "{told}");
}

#[test]
fn one_shot_normalize_refuses_an_option_without_effect() {
    for format in ["raw", "cef", "leef", "hec"] {
        let output = fed(auditferry(&["normalize", "--format", format, "--profile", "elastic"]), "{}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{format}");
        assert!(said(&output).contains("`--profile`"), "{}", said(&output));
    }
    assert_eq!(fed(auditferry(&["normalize", "--profile", "elastic"]), "{}").status.code(), Some(0));
}

#[test]
fn one_shot_normalize_says_what_is_wrong_with_a_file_and_does_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let torn = write(dir.path(), "torn.json", "[{\"Id\":\"1\"},\n{\"Id\":\"2\"},\n");
    let table = write(dir.path(), "table.csv", "Date,User,Activity\n1,2,3\n");
    let page = write(
        dir.path(),
        "page.json",
        "{\"@odata.context\":\"x\",\"value\":[{\"id\":\"x\",\"auditData\":{\"Id\":\"3\"}},{\"AuditData\":\"{\\\"Id\\\":\\\"4\\\"}\"}]}",
    );
    let output = fed(auditferry(&["normalize", "--format", "raw", &torn, &table, &page]), "");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let ids: Vec<_> = lines(&output).iter().map(|line| line["Id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    assert!(told.contains("torn.json:2: cannot be read any further: the list that begins in line 1"), "{told}");
    assert!(told.contains("table.csv: cannot be read: a table") && told.contains("Date, User, Activity"), "{told}");
}

#[test]
fn one_shot_demo_ends_when_nobody_reads_it_any_more() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = auditferry(&["demo"]);
    command.env("TMPDIR", scratch.path()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, demo.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with('{'), "{line}");
    let left = Instant::now();
    let ended = loop {
        if let Some(ended) = demo.try_wait().unwrap() {
            break ended;
        }
        if left.elapsed() > Duration::from_secs(15) {
            demo.kill().unwrap();
            panic!("it goes on without a reader");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    };
    assert_eq!(ended.code(), Some(0));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "it leaves something behind");
}
