//! Reload while something else is under way: a stop, another reload, a file that is not there any more.

use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;

use super::{LIMIT, Running, complete, file_sink, lines, living};
use crate::hec::{FakeHec, Options};
use crate::support::{Place, compare, file_hashes, served, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_disturbs_neither_a_drain_nor_a_run_that_ends() {
    let (world, place) = (living(2).await, Place::new());
    place.write_config(&world, &file_sink(&place, "out", ""), "");
    for round in 0..4 {
        let _ = std::fs::remove_file(place.path("log"));
        let running = Running::start(&place, &["--no-watch"]).await;
        let before = lines(&place.path("out"));
        running.until(&place, "records", async |_| lines(&place.path("out")) > before + 20).await;
        // Each round another sink comes or goes while the process ends.
        let more = if round % 2 == 0 { file_sink(&place, "more", "") } else { String::new() };
        place.write_config(&world, &format!("{}{more}", file_sink(&place, "out", "")), "");
        running.process.hang_up();
        if round > 1 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        running.process.terminate();
        running.process.hang_up();
        running.end(&place).await;
    }
    // Its address is looked for in the log.
    std::fs::remove_file(place.path("log")).unwrap();
    let mut once = place.start(&["--once", "--once-timeout", "30s"], &[]);
    once.admin().await.unwrap();
    once.hang_up();
    assert_eq!(once.wait(LIMIT).await.unwrap().code(), Some(0), "{}", place.log_tail());
    assert!(place.log().contains("keeps the configuration it began with"));
    complete(&place, &world, "out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_many_hangups_counts_and_a_file_that_cannot_be_read_changes_nothing() {
    let (world, place) = (living(1).await, Place::new());
    let one = file_sink(&place, "one", "");
    let text = |more: &str| place.config_text(&world, |_| true, &format!("{one}{more}"), "");
    place.write_text(&text(""));
    let running = Running::start(&place, &["--no-watch"]).await;
    running.until(&place, "records", async |_| lines(&place.path("one")) > 100).await;

    // Nobody waits for one reload before asking for the next, and the last takes back what the others brought.
    for n in 0..6 {
        place.write_text(&text(&file_sink(&place, &format!("two{}", n % 2), "")));
        running.process.hang_up();
        tokio::time::sleep(Duration::from_millis(10 * n)).await;
    }
    place.write_text(&text(&file_sink(&place, "last", "")));
    running.process.hang_up();
    let sinks = async |running: &Running| -> Vec<String> {
        let status = running.status().await;
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        sinks.iter().filter_map(|sink| sink["name"].as_str().map(str::to_owned)).collect()
    };
    running.until(&place, "the last one", async |running| sinks(running).await == ["one", "last"]).await;
    running.until(&place, "records in its sink", async |_| lines(&place.path("last")) > 0).await;
    running
        .until(&place, "the others' series to go", async |running| !running.metrics().await.contains("sink=\"two"))
        .await;

    // Gone, and then no file at all.
    std::fs::remove_file(place.config()).unwrap();
    let told = running.reloaded(&place, || running.process.hang_up()).await;
    assert!(told["result"] == "refused" && told["faults"].to_string().contains("cannot read the file"), "{told}");
    std::fs::create_dir(place.config()).unwrap();
    let told = running.reloaded(&place, || running.process.hang_up()).await;
    assert!(told["result"] == "refused" && told["faults"].to_string().contains("cannot read the file"), "{told}");
    assert_eq!(sinks(&running).await, ["one", "last"]);
    let before = lines(&place.path("one"));
    running.until(&place, "the old one to run on", async |_| lines(&place.path("one")) > before).await;
    std::fs::remove_dir(place.config()).unwrap();
    assert_eq!(running.reload(&place, &text("")).await["changes"], "sinks removed: last");
    running.end(&place).await;
    for name in ["two0", "two1", "last"] {
        let found = file_hashes(&place.path(name));
        let distinct: std::collections::HashSet<_> = found.iter().collect();
        assert_eq!(distinct.len(), found.len(), "`{name}` has something twice");
    }
    complete(&place, &world, "one").await;
}

/// The process is told to stop while the sinks that a reload changed still send: it ends whole, and at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_reload_is_a_whole_stop() {
    let config = WorldConfig::new().tenants(2).records(24_000).days(1).live_rate(40.0).speed(60.0);
    let (world, place) = (world(config).await, Place::new());
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(100));
    let text = |events: usize| {
        let batch = format!(", batch: {{ max_events: {events}, linger: 20ms }}");
        let hec = format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token{batch} }}\n", hec.url());
        // So much is on its way and no more, that a slow disk can take it in time.
        let collect = "collect: { requests_per_minute: 100000, poll_interval: 5s, in_flight: 4MiB }";
        place.config_text(&world, |_| true, &format!("{}{hec}", file_sink(&place, "out", &batch)), collect)
    };
    place.write_text(&text(20));
    let (mut queued, mut slowest) = (0, Duration::ZERO);
    for round in 0..4 {
        let _ = std::fs::remove_file(place.path("log"));
        let running = Running::start(&place, &["--no-watch"]).await;
        let waits = "sink=\"splunk\"";
        running
            .until(&place, "something to wait for the receiver", async |running| {
                running.metric("auditferry_sink_queued_events", waits).await > 300.0
            })
            .await;
        let told = running.reload(&place, &text(21 + round)).await;
        assert_eq!(told["changes"], "sinks changed: out, splunk");
        queued += u32::from(running.metric("auditferry_sink_queued_events", waits).await > 0.0);
        let asked = Instant::now();
        running.end(&place).await;
        slowest = slowest.max(asked.elapsed());
        let log = place.log();
        let ended: Vec<&str> = log.lines().filter(|line| line.contains("goes on with its new configuration")).collect();
        let nothing_given_back = ended.iter().all(|line| line.contains("\"fetched_again\":0"));
        assert!(ended.len() == 2 && nothing_given_back, "round {round}, {slowest:?}\n{}", place.log_tail());
        assert!(!log.contains("cut short"), "round {round}, {slowest:?}\n{}", place.log_tail());
    }
    assert!(queued > 0, "nothing was on its way at any stop");
    hec.set(|knobs| knobs.answer_delay = Duration::ZERO);
    complete(&place, &world, "out").await;
    let at_hec = compare(&served(&world), hec.received().events.iter().filter_map(|event| event.hash));
    assert_eq!(at_hec.duplicates, 0, "{at_hec:?}");
    println!("stop in a reload: slowest {slowest:?}, {queued} of 4 with records on their way");
}
