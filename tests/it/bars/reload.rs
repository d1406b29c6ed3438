//! Reload: the running process reads its configuration anew again and again while records are on their way, good
//! ones and bad ones in turn. Nothing is lost, nothing is doubled, the bad ones are refused by name.

use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};

use crate::hec::{FakeHec, Options};
use crate::reload::Running;
use crate::support::{Place, compare, figure, file_hashes, served, size, world};

/// Three tenants, some hundred records a second, some blobs so large that they flow part by part, and a download in
/// twenty fails.
async fn busy_world() -> SimulatorHandle {
    let config = WorldConfig::new().tenants(3).records(24_000).records_per_blob(8_000).days(1);
    let world = world(config.live_rate(60.0).speed(60.0)).await;
    for scenario in [Scenario::TruncatedBody, Scenario::ServerError] {
        world.enable(scenario, Some(0.05));
    }
    world
}

/// What a configuration is made of.
struct Parts<'a> {
    splunk: &'a str,
    disk: &'a str,
    extra: bool,
    tenants: usize,
    collect: &'a str,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Parts { splunk: "", disk: "", extra: false, tenants: 3, collect: "poll_interval: 5s" }
    }
}

struct Bench {
    world: SimulatorHandle,
    hec: FakeHec,
    place: Place,
}

impl Bench {
    fn text(&self, parts: &Parts<'_>) -> String {
        let Parts { splunk, disk, extra, tenants, collect } = parts;
        // Small batches, so that there are always some on their way.
        let batch = |more: &str| match more {
            "" => ", batch: { max_bytes: 64KiB, linger: 50ms }".to_owned(),
            more => format!(", {more}"),
        };
        let file = |name: &str, more: &str| {
            let path = self.place.path(&format!("{name}.ndjson"));
            format!("  - {{ name: {name}, type: file, format: raw, path: {path:?}{} }}\n", batch(more))
        };
        let url = self.hec.url();
        let mut sinks = format!(
            "  - {{ name: splunk, type: splunk_hec, url: {url:?}, token: token{} }}\n{}",
            batch(splunk),
            file("disk", disk)
        );
        if *extra {
            sinks.push_str(&file("extra", ""));
        }
        let collect = format!("collect: {{ requests_per_minute: 100000, {collect} }}");
        self.place.config_text(&self.world, |at| at < *tenants, &sinks, &collect)
    }

    /// Configurations that can be run, each unlike the one before it; and whether it has the sink that comes and goes.
    fn good(&self, n: usize) -> (String, bool) {
        let base = Parts::default();
        let parts = match n % 8 {
            0 => Parts { extra: true, ..base },
            1 => Parts { disk: "batch: { max_bytes: 32KiB, linger: 20ms }", ..base },
            2 => Parts { splunk: "batch: { max_bytes: 32KiB, linger: 20ms }, concurrency: 2", ..base },
            3 => Parts { tenants: 2, ..base },
            4 => Parts { collect: "poll_interval: 6s", ..base },
            5 => Parts { splunk: "batch: { max_bytes: 64KiB, linger: 50ms }, when: { kind: audit }", ..base },
            6 => Parts { collect: "poll_interval: 5s, in_flight: 8MiB", extra: true, ..base },
            _ => Parts { tenants: 1, disk: "batch: { max_bytes: 128KiB, linger: 30ms }", ..base },
        };
        (self.text(&parts), parts.extra)
    }

    /// Bytes that the sink that comes and goes has got so far.
    fn extra_bytes(&self) -> u64 {
        std::fs::metadata(self.place.path("extra.ndjson")).map_or(0, |about| about.len())
    }

    /// One that cannot, and what must be said of it.
    fn bad(&self, n: usize) -> (String, &'static str) {
        let good = self.text(&Parts::default());
        match n % 5 {
            0 => (good[..good.len() * 2 / 3].to_owned(), "auditferry.yaml:"),
            1 => (good.replace("type: file", "type: fiel"), "unknown sink type"),
            2 => (good.replace("/state\"", "/other\""), "`state.dir`"),
            3 => (good.replace("linger: 50ms", "lingers: 50ms"), "did you mean `linger`"),
            _ => (good.replace("token: token", "token: \"${NO_SUCH_VARIABLE}\""), "NO_SUCH_VARIABLE"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reload() {
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(30));
    let bench = Bench { world: busy_world().await, hec, place: Place::new() };
    let place = &bench.place;
    place.write_text(&bench.text(&Parts::default()));
    let running = Running::start(place, &["--no-watch"]).await;
    running.ready(place).await;
    running.until(place, "records", async |_| bench.hec.count() > 200).await;

    let (began, mut random) = (Instant::now(), fastrand::Rng::with_seed(11));
    let (mut applied, mut refused, mut under_way, mut waited) = (0, 0, 0, Duration::ZERO);
    for n in 0..size(16, 100) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..150))).await;
        under_way += u32::from(running.metric("auditferry_in_flight_bytes", "").await > 0.0);
        if n % 2 == 0 {
            let ((text, has_extra), before) = (bench.good(n / 2), bench.extra_bytes());
            let told = running.reload(place, &text).await;
            assert_eq!(told["result"], "applied", "{told}\n{}", place.log_tail());
            applied += 1;
            if has_extra {
                let at = Instant::now();
                running.until(place, "records in the added sink", async |_| bench.extra_bytes() > before).await;
                waited = waited.max(at.elapsed());
            }
        } else {
            let (text, said) = bench.bad(n / 2);
            let told = running.reload(place, &text).await;
            assert_eq!(told["result"], "refused", "{told}");
            assert!(told["faults"].to_string().contains(said), "{said} is not in {told}");
            refused += 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let told = running.reload(place, &bench.text(&Parts::default())).await;
    assert_ne!(told["result"], "refused", "{told}");
    let cut = running.metric("auditferry_sink_events_total", "result=\"lost\"").await;
    let rss = running.process.rss_anon_kib().unwrap_or(0) / 1024;
    running.end(place).await;

    // The world goes on, so what exists now must be there after a run that begins now.
    let truth = served(&bench.world);
    let ended = place.run_once(Duration::from_secs(size(60, 180))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let later = served(&bench.world);
    figure(
        "reload",
        format_args!(
            "{applied} good and {refused} bad in {seconds:.1} s, {under_way} of them with records under way; {cut} events given back by a sink; {rss} MiB"
        ),
    );
    let at_hec: Vec<_> = bench.hec.received().events.iter().filter_map(|event| event.hash).collect();
    for (name, arrived) in [("HEC", at_hec), ("file", file_hashes(&place.path("disk.ndjson")))] {
        let lost = compare(&truth, arrived.iter().copied()).lost;
        let found = compare(&later, arrived);
        figure("reload", format_args!("{name}: arrived {}, lost {lost}, doubled {}", found.arrived, found.duplicates));
        assert_eq!((lost, found.duplicates, found.foreign), (0, 0, 0), "{name}\n{}", place.log_tail());
    }
    let extra = compare(&later, file_hashes(&place.path("extra.ndjson")));
    figure(
        "reload",
        format_args!(
            "a file that comes and goes: arrived {}, doubled {}, the first record at most {waited:.1?} after it came",
            extra.arrived, extra.duplicates
        ),
    );
    assert!(extra.arrived > 0 && extra.duplicates == 0, "{extra:?}");
    assert!(under_way > size(4, 50), "hardly anything was under way at any reload");
    assert_eq!(bench.world.report().violations.len(), 0, "{:?}", bench.world.report().violations);
}
