//! Letters in the file: their form, what a crash leaves, what waits for the disk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::letter::CHUNK;
use super::*;
use crate::sink::samples;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn letters(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn head() -> LetterHead {
    let blob = samples::part(&[samples::RECORD]).blob.clone();
    LetterHead {
        sink: String::new(),
        reason: "oversized",
        answer: "9 MiB".into(),
        blob,
        key: None,
        event_id: Vec::new(),
    }
}

fn spooled(bytes: &[u8]) -> Spool {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[tokio::test]
async fn a_letter_is_one_line_with_the_record_inside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
    let part = samples::part(&[samples::RECORD, "not\n\"json\""]);
    dead.append("splunk", [(part.event(0), "no\nway"), (part.event(1), "bad")], |_| None).await;
    let letters = letters(&path);
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["record"], serde_json::from_str::<Value>(samples::RECORD).unwrap());
    assert_eq!(letters[0]["answer"], "no\nway");
    assert_eq!(letters[0]["tenant"], "con\"toso");
    assert_eq!(letters[0]["event_id"], "id-1");
    assert_eq!(letters[0]["key"], part.event(0).meta.key.to_string());
    assert_eq!((&letters[1]["record"], &letters[1]["event_id"]), (&Value::from("not\n\"json\""), &Value::Null));
    let names: Vec<_> = letters[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["at", "sink", "reason", "answer", "tenant", "content_type", "blob", "key", "event_id", "format", "record"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dead.0.metrics.dead_letters.with_label_values(&["splunk"]).get(), 2);
}

#[test]
fn bytes_that_are_no_text_are_kept_byte_for_byte() {
    let kept = |record: &[u8]| {
        let mut line = b"{\"a\":1".to_vec();
        push_record(record, false, &mut line);
        line.push(b'}');
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    let broken = b"{\"Id\":\"\xC3\x28\xFF\0\"";
    let letter = kept(broken);
    assert_eq!(STANDARD.decode(letter["record_base64"].as_str().unwrap()).unwrap(), broken);
    assert_eq!(letter["record"], Value::Null);
    let letter = kept("{\"Id\":\"é".as_bytes());
    assert_eq!((&letter["record"], letter.get("record_base64")), (&Value::from("{\"Id\":\"é"), None));
}

#[tokio::test]
async fn an_oversized_record_is_streamed_in_as_json_or_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
    let json = format!("{{\r\n\"a\":\"{}\"}}", "é".repeat(CHUNK));
    dead.append_stream(head(), spooled(json.as_bytes()), true).await;
    // One odd byte in front, so that a character lies across every chunk's end; then a broken one at the end.
    let mut text = format!("x{}", "€\n".repeat(CHUNK)).into_bytes();
    dead.append_stream(head(), spooled(&text), false).await;
    text.push(0xE2);
    dead.append_stream(head(), spooled(&text), false).await;
    let letters = letters(&path);
    assert_eq!(letters[0]["record"], serde_json::from_str::<Value>(&json).unwrap());
    assert_eq!(letters[1]["record"], std::str::from_utf8(&text[..text.len() - 1]).unwrap());
    assert_eq!(letters[2]["record"], Value::Null);
    assert_eq!(STANDARD.decode(letters[2]["record_base64"].as_str().unwrap()).unwrap(), text);
    assert_eq!((&letters[1]["sink"], &letters[1]["reason"]), (&Value::Null, &Value::from("oversized")));
}

#[test]
fn a_torn_last_line_is_cut_and_a_whole_one_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    for (text, expected) in
        [("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"), ("{\"a\":1}\n{\"b\":2}", "{\"a\":1}\n{\"b\":2}\n"), ("{", ""), ("", "")]
    {
        std::fs::write(&path, text).unwrap();
        DeadLetters::open(&path, Metrics::new()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_letter_that_cannot_be_written_is_held_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let part = samples::part(&[samples::RECORD]);
    let append = dead.append("splunk", [(part.event(0), "no")], |_| None);
    tokio::pin!(append);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut append).await.is_err());
    std::fs::remove_dir(&path).unwrap();
    append.await;
    assert_eq!(letters(&path).len(), 1);
}
