//! A file over restarts, crashes, rotation and other people's hands.

use std::path::{Path, PathBuf};

use auditferry::config::{FileConfig, SinkConfig, SinkKind, StateConfig};
use auditferry::metrics::Metrics;
use auditferry::sink::{EncodedBatch, Sink, build};
use auditferry::state::State;

use super::{Bench, counts, records, sink_config};

fn file_sink(path: PathBuf, max_size: Option<u64>) -> SinkConfig {
    sink_config("disk", SinkKind::File(FileConfig { path, max_size, keep: 3 }))
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{path:?} ends in half a line");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_holds_every_record_once_over_restarts() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let bench = Bench::start_in(dir, file_sink(path.clone(), None));
        let offer = bench.offer(records(round * 100, 100)).await;
        assert_eq!(offer.settled().await, counts(100, 0));
        dir = bench.stop().await;
    }
    assert_eq!(lines(&path), records(0, 300).collect::<Vec<_>>());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640 & !umask());
}

fn umask() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_beyond_the_journal_is_cut() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 10)).await.settled().await;
    let dir = bench.stop().await;
    // As if a batch had been written and the process had died before the journal heard of it.
    let mut tail = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut tail, b"{\"Id\":\"10\"}\n{\"Id\":\"1").unwrap();
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(10, 10)).await.settled().await;
    assert_eq!(lines(&path), records(0, 20).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_batch_that_the_journal_never_heard_of_is_cut_too() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let config = file_sink(path.clone(), None);
    let state_config = StateConfig { dir: files.path().join("state"), max_delivered_bytes: 1 << 20 };
    std::fs::create_dir_all(&state_config.dir).unwrap();
    for line in ["{\"n\":1}\n", "{\"n\":2}\n"] {
        let state = State::open(&state_config, Metrics::new()).unwrap();
        let id = state.sink_id("disk").unwrap();
        let sink = build(&config, id, &state, Metrics::new()).unwrap();
        let batch = EncodedBatch { bytes: line.as_bytes().to_vec(), ends: vec![line.len()] };
        let accepted = sink.send(&batch).await.unwrap();
        assert_eq!(accepted.position.unwrap().length, line.len() as u64);
        // No verdict: the process died in between.
        state.close().await.unwrap();
    }
    assert_eq!(lines(&path), ["{\"n\":2}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_state_a_file_is_never_cut() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    std::fs::write(&path, "{\"not\":\"ours\"}\n{\"half\":").unwrap();
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 5)).await.settled().await;
    let dir = bench.stop().await;
    // Nor is it cut later: what was there before is journalled as the beginning.
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(5, 5)).await.settled().await;
    bench.stop().await;
    let mut expected = vec!["{\"not\":\"ours\"}".to_owned(), "{\"half\":".to_owned()];
    expected.extend(records(0, 10));
    assert_eq!(lines(&path), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_is_rotated_between_batches_and_the_oldest_goes() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let bench = Bench::start(file_sink(path.clone(), Some(5000)));
    for round in 0..6 {
        // Some 4,000 bytes: each batch fills a file.
        bench.offer(records(round * 20, 20)).await.settled().await;
    }
    let numbered = |n: usize| files.path().join(format!("audit.ndjson.{n}"));
    assert_eq!(lines(&path), records(100, 20).collect::<Vec<_>>());
    for n in 1..=3 {
        assert_eq!(lines(&numbered(n)), records((5 - n) * 20, 20).collect::<Vec<_>>(), "{n}");
    }
    assert!(!numbered(4).exists());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_moved_away_is_begun_anew() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let moved = files.path().join("moved");
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 10)).await.settled().await;
    std::fs::rename(&path, &moved).unwrap();
    bench.offer(records(10, 10)).await.settled().await;
    std::fs::remove_file(&path).unwrap();
    bench.offer(records(20, 10)).await.settled().await;
    assert_eq!(lines(&moved), records(0, 10).collect::<Vec<_>>());
    assert_eq!(lines(&path), records(20, 10).collect::<Vec<_>>());
    // `copytruncate`: the same inode, cut to nothing under us.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    bench.offer(records(30, 10)).await.settled().await;
    let dir = bench.stop().await;
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(40, 10)).await.settled().await;
    bench.stop().await;
    assert_eq!(lines(&path), records(30, 20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_or_a_missing_directory_holds_until_it_is_mended() {
    let files = tempfile::tempdir().unwrap();
    let target = files.path().join("target");
    std::fs::write(&target, "").unwrap();
    let path = files.path().join("audit.ndjson");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let bench = Bench::start(file_sink(path.clone(), None));
    let offer = bench.offer(records(0, 10)).await;
    bench.until_health(false).await;
    assert_eq!(lines(&target), Vec::<String>::new());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(offer.settled().await, counts(10, 0));
    assert_eq!(lines(&path).len(), 10);
    bench.stop().await;
}
