//! `verify` against the simulator: all is well, a gap, nobody there, no state; while another process has it.

use std::process::{Command, Output};
use std::time::Duration;

use auditferry::config::StateConfig;
use auditferry::metrics::Metrics;
use auditferry::simulator::WorldConfig;
use auditferry::state::{FeedFact, State};
use serde_json::Value;

use crate::support::{Place, world};

async fn verify(place: &Place) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(["verify", "--json", "-c"]).arg(place.config());
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

fn sum(verified: &Value, name: &str) -> u64 {
    verified["feeds"].as_array().unwrap().iter().map(|feed| feed[name].as_u64().unwrap_or(0)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_accounts_for_everything_and_finds_a_planted_gap() {
    let world = world(WorldConfig::new().tenants(2).records(2000)).await;
    let place = Place::new();
    place.write_config(&world, &place.file_sink("out.ndjson"), "");
    assert_eq!(verify(&place).await.0, Some(4), "there is no state yet");
    assert_eq!(place.run_once(Duration::from_secs(60)).await.code(), Some(0), "{}", place.log_tail());

    let config = StateConfig { dir: place.state_dir(), max_delivered_bytes: 1 << 30 };
    let held = State::open(&config, Metrics::new()).unwrap();
    let (code, verified, said) = verify(&place).await;
    assert_eq!(code, Some(0), "while another process has the directory: {verified:#} {said}");
    assert!(sum(&verified, "settled") > 10, "{verified:#}");
    assert_eq!(verified["complete"], true);
    assert_eq!(sum(&verified, "unknown") + sum(&verified, "lost"), 0);
    drop(held);

    // The books of one feed as if its listings had named nothing.
    let books = State::inspect(&place.state_dir()).unwrap();
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    let state = State::open(&config, Metrics::new()).unwrap();
    let now = books.iter().flat_map(|(_, b)| b.cells.values().filter_map(|cell| cell.listed_at)).max().unwrap();
    for (key, books) in &books {
        let feed = state.feed(key);
        feed.record(FeedFact::Opened { from: books.from.unwrap() });
        for cell in books.cells.keys() {
            let at = now;
            feed.record(FeedFact::Listed { cell: *cell, at, complete: true, last: false, blobs: Vec::new() });
        }
    }
    state.close().await.unwrap();
    drop(state);
    let (code, gap, _) = verify(&place).await;
    assert_eq!(code, Some(1), "{gap:#}");
    assert_eq!(sum(&gap, "unknown") + sum(&gap, "not_yet_listed"), sum(&verified, "listed"), "{gap:#}");
    assert!(gap["feeds"].as_array().unwrap().iter().any(|feed| feed["unknown_blobs"][0]["content_id"].is_string()));

    drop(world);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let text = std::fs::read_to_string(place.config()).unwrap();
    // Nobody listens on port 1.
    let api = text.split("api: \"http://").nth(1).unwrap().split('"').next().unwrap().to_owned();
    place.write_text(&text.replace(api.trim_end_matches('/'), "127.0.0.1:1"));
    let (code, unreachable, said) = verify(&place).await;
    assert_eq!(code, Some(3), "{unreachable:#} {said}");
}
