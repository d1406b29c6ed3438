//! Reload of the running process, one kind of change a test: the real binary, told by SIGHUP or by its files.

use std::path::Path;
use std::time::{Duration, Instant};

use auditferry::simulator::{SimulatorHandle, WorldConfig};
use serde_json::Value;

use crate::hec::{FakeHec, Options};
use crate::support::{Place, Process, compare, file_hashes, served, world};

mod databases;
mod hurry;

/// For anything that a test waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// The product at work, from outside.
pub struct Running {
    pub process: Process,
    admin: String,
}

impl Running {
    /// Starts it on the place's configuration.
    pub async fn start(place: &Place, arguments: &[&str]) -> Running {
        let process = place.start(arguments, &[]);
        let admin = process.admin().await.unwrap_or_else(|| panic!("no admin\n{}", place.log_tail()));
        Running { process, admin }
    }

    async fn get(&self, path: &str) -> Option<String> {
        reqwest::get(format!("http://{}{path}", self.admin)).await.ok()?.text().await.ok()
    }

    pub async fn status(&self) -> Value {
        let body = self.get("/status").await.unwrap_or_default();
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.unwrap_or_default()
    }

    /// The sum of the series of a metric that hold `label`.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let page = self.metrics().await;
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(of).filter(|line| line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until what `look` sees is so.
    pub async fn until(&self, place: &Place, what: &str, look: impl AsyncFn(&Running) -> bool) {
        let began = Instant::now();
        while !look(self).await {
            assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}\n{}", place.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn ready(&self, place: &Place) {
        self.until(place, "ready", async |running| running.status().await["ready"] == true).await;
    }

    async fn reloads(&self) -> f64 {
        self.metric("auditferry_config_reloads_total", "").await
    }

    /// Does what makes it read its configuration anew; returns what `/status` says of it.
    pub async fn reloaded(&self, place: &Place, change: impl FnOnce()) -> Value {
        let before = self.reloads().await;
        change();
        self.until(place, "a reload", async |running| running.reloads().await > before).await;
        self.status().await["config"]["last_reload"].clone()
    }

    /// Writes the configuration and sends SIGHUP.
    pub async fn reload(&self, place: &Place, text: &str) -> Value {
        place.write_text(text);
        self.reloaded(place, || self.process.hang_up()).await
    }

    /// Ends it in good order.
    pub async fn end(mut self, place: &Place) {
        self.process.terminate();
        let status = self.process.wait(LIMIT).await.unwrap_or_else(|| panic!("does not end\n{}", place.log_tail()));
        assert_eq!(status.code(), Some(0), "{}", place.log_tail());
    }
}

/// Whole lines: of the last one a part may be there, while it is written.
fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

fn file_sink(place: &Place, name: &str, more: &str) -> String {
    format!("  - {{ name: {name}, type: file, format: raw, path: {:?}{more} }}\n", place.path(name))
}

/// A world that goes on.
async fn living(tenants: usize) -> SimulatorHandle {
    let config = WorldConfig::new().tenants(tenants).records(1_500).days(1).live_rate(40.0).speed(60.0);
    world(config.tune(|protocol| protocol.subscribed = true)).await
}

/// Everything served so far is in the file after a last run, and nothing twice.
async fn complete(place: &Place, world: &SimulatorHandle, file: &str) {
    let truth = served(world);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let arrived = file_hashes(&place.path(file));
    let found = compare(&truth, arrived.iter().copied());
    assert_eq!((found.lost, found.duplicates), (0, 0), "{file}: {found:?}\n{}", place.log_tail());
    assert!(found.arrived > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_change_and_go() {
    let (world, place) = (living(1).await, Place::new());
    let text = |sinks: &str| place.config_text(&world, |_| true, sinks, "");
    let one = file_sink(&place, "one", "");
    place.write_text(&text(&one));
    let running = Running::start(&place, &["--no-watch"]).await;
    running.until(&place, "records", async |_| lines(&place.path("one")) > 100).await;
    let fingerprint = running.status().await["config"]["fingerprint"].clone();

    let both = format!("{one}{}", file_sink(&place, "two", ""));
    let told = running.reload(&place, &text(&both)).await;
    assert_eq!((&told["result"], &told["changes"]), (&"applied".into(), &"sinks added: two".into()));
    assert_ne!(running.status().await["config"]["fingerprint"], fingerprint);
    running.until(&place, "records in the added sink", async |_| lines(&place.path("two")) > 50).await;

    let changed = both.replace("/one\" }", "/one\", batch: { max_events: 50 } }");
    let told = running.reload(&place, &text(&changed)).await;
    assert_eq!(told["changes"], "sinks changed: one");
    let before = lines(&place.path("one"));
    running.until(&place, "records in the changed sink", async |_| lines(&place.path("one")) > before + 50).await;

    let told = running.reload(&place, &text(&file_sink(&place, "one", ", batch: { max_events: 50 }"))).await;
    assert_eq!(told["changes"], "sinks removed: two");
    running
        .until(&place, "the removed sink's series to go", async |running| {
            !running.metrics().await.contains("sink=\"two\"")
        })
        .await;
    assert_eq!(running.status().await["sinks"].as_array().unwrap().len(), 1);
    let (gone, before) = (lines(&place.path("two")), lines(&place.path("one")));
    running.until(&place, "records in the sink that stays", async |_| lines(&place.path("one")) > before + 50).await;
    assert_eq!(lines(&place.path("two")), gone, "a removed sink is sent nothing");

    let told = running.reload(&place, &text(&file_sink(&place, "one", ", batch: { max_events: 50 }"))).await;
    assert_eq!((&told["result"], &told["changes"]), (&"unchanged".into(), &"nothing changed".into()));
    running.end(&place).await;
    let in_two = file_hashes(&place.path("two"));
    let distinct: std::collections::HashSet<_> = in_two.iter().collect();
    assert_eq!(distinct.len(), in_two.len(), "the removed sink has something twice");
    complete(&place, &world, "one").await;
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_come_and_go() {
    let (world, place) = (living(3).await, Place::new());
    let sink = file_sink(&place, "out", "");
    let text = |wanted: &[usize]| place.config_text(&world, |at| wanted.contains(&at), &sink, "");
    let names: Vec<String> = world.tenants().iter().map(|tenant| tenant.name.clone()).collect();
    let has = async |running: &Running, at: usize| {
        let label = format!("tenant={:?}", names[at]);
        running.metric("auditferry_blobs_settled_total", &label).await > 0.0
    };
    place.write_text(&text(&[0]));
    let running = Running::start(&place, &["--no-watch"]).await;
    running.until(&place, "the first tenant", async |running| has(running, 0).await).await;
    let tokens = async |running: &Running, at: usize| {
        running.metric("auditferry_token_refreshes_total", &format!("tenant={:?}", names[at])).await
    };
    let asked = tokens(&running, 0).await;

    let told = running.reload(&place, &text(&[0, 1, 2])).await;
    assert_eq!(told["changes"], format!("tenants added: {}, {}", names[1], names[2]));
    running.until(&place, "the others", async |running| has(running, 1).await && has(running, 2).await).await;
    assert_eq!(tokens(&running, 0).await, asked, "a tenant that did not change keeps its token");

    let told = running.reload(&place, &text(&[1, 2])).await;
    assert_eq!(told["changes"], format!("tenants removed: {}", names[0]));
    let label = format!("tenant={:?}", names[0]);
    running
        .until(&place, "the removed tenant's series to go", async |running| !running.metrics().await.contains(&label))
        .await;
    assert_eq!(running.status().await["tenants"].as_array().unwrap().len(), 2);

    // Back again, and another is changed.
    let changed = text(&[0, 1, 2]).replacen(&format!("name: {:?}", names[1]), "name: \"renamed\"", 1);
    let told = running.reload(&place, &changed).await;
    assert_eq!(told["changes"], format!("tenants added: {}; tenants changed: renamed", names[0]));
    running
        .until(&place, "the renamed tenant and the one that is back", async |running| {
            let renamed = running.metric("auditferry_blobs_settled_total", "tenant=\"renamed\"").await;
            renamed > 0.0 && has(running, 0).await
        })
        .await;
    running.end(&place).await;
    complete(&place, &world, "out").await;
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_refused_by_name_and_the_old_one_runs_on() {
    let (world, place) = (living(1).await, Place::new());
    let sink = file_sink(&place, "out", "");
    let good = place.config_text(&world, |_| true, &sink, "");
    place.write_text(&good);
    let running = Running::start(&place, &["--no-watch"]).await;
    running.until(&place, "records", async |_| lines(&place.path("out")) > 100).await;
    let hec = format!(
        "{good}  - {{ name: new, type: splunk_hec, url: \"https://127.0.0.1:1\", token: t, tls: {{ ca_file: /nowhere/ca.pem }} }}\n"
    );
    let cases = [
        ("tenants: [", vec!["auditferry.yaml:"]),
        (&good.replacen("state:", "stat:", 1), vec!["auditferry.yaml:1:", "`state`"]),
        // Several faults at once.
        (
            &good.replace("minute: 100000", "minute: 0").replace("type: file", "type: fil"),
            vec!["between 1 and", "unknown sink type"],
        ),
        (&good.replace("/state\"", "/elsewhere\""), vec!["`state.dir`", "restart"]),
        (&good.replace("127.0.0.1:0", "127.0.0.1:1"), vec!["`admin.listen`", "restart"]),
        (&hec, vec!["new", "/nowhere/ca.pem"]),
    ]
    .map(|(text, said)| (text.to_owned(), said));
    for (n, (text, said)) in cases.into_iter().enumerate() {
        let fingerprint = running.status().await["config"]["fingerprint"].clone();
        let told = running.reload(&place, &text).await;
        assert_eq!(told["result"], "refused", "case {n}: {told}\n{}", place.log_tail());
        let faults = told["faults"].to_string();
        let log = place.log_tail();
        for word in said {
            assert!(faults.contains(word) && log.contains(word), "case {n}: {word} is not in {faults}\n{log}");
        }
        assert_eq!(running.metric("auditferry_config_last_reload_successful", "").await, 0.0);
        assert_eq!(running.status().await["config"]["fingerprint"], fingerprint);
        let before = lines(&place.path("out"));
        running.until(&place, "the old one to run on", async |_| lines(&place.path("out")) > before).await;
    }
    assert_eq!(running.metric("auditferry_config_reloads_total", "refused").await, 6.0);
    assert!(!running.metrics().await.contains("sink=\"new\""), "a refused sink leaves no series");
    assert_eq!(running.reload(&place, &good).await["result"], "unchanged");
    assert_eq!(running.metric("auditferry_config_last_reload_successful", "").await, 1.0);
    running.end(&place).await;
    complete(&place, &world, "out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_swapped_under_its_link_is_noticed() {
    let (world, place) = (living(1).await, Place::new());
    let text = |sinks: &str| place.config_text(&world, |_| true, sinks, "");
    let one = file_sink(&place, "one", "");
    // As the kubelet lays it out: a file that is a link into `..data`, which is a link to a version.
    let swap = |version: &str, text: &str| {
        let dir = place.path(version);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("auditferry.yaml"), text).unwrap();
        std::os::unix::fs::symlink(version, place.path("next")).unwrap();
        std::fs::rename(place.path("next"), place.path("..data")).unwrap();
    };
    swap("v1", &text(&one));
    std::os::unix::fs::symlink("..data/auditferry.yaml", place.config()).unwrap();
    let running = Running::start(&place, &[]).await;
    running.ready(&place).await;
    let both = text(&format!("{one}{}", file_sink(&place, "two", "")));
    let told = running.reloaded(&place, || swap("v2", &both)).await;
    assert_eq!((&told["cause"], &told["changes"]), (&"a file changed".into(), &"sinks added: two".into()));
    let told = running.reloaded(&place, || swap("v3", "not: [a, configuration]\n")).await;
    assert_eq!(told["result"], "refused", "{told}");
    // What was refused is not read again and again, and what mends it is noticed.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.metric("auditferry_config_reloads_total", "refused").await, 1.0);
    let told = running.reloaded(&place, || swap("v4", &both)).await;
    assert_eq!(told["result"], "unchanged", "{told}");
    running.end(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_sink_that_is_down_holds_no_blob() {
    let (world, place) = (world(WorldConfig::new().records(2_000).days(1)).await, Place::new());
    let one = file_sink(&place, "one", "");
    let down = "  - { name: down, type: splunk_hec, url: \"http://127.0.0.1:9\", token: t, retry: { initial: 20ms, max: 100ms } }\n";
    place.write_text(&place.config_text(&world, |_| true, &format!("{one}{down}"), ""));
    let running = Running::start(&place, &["--no-watch"]).await;
    running
        .until(&place, "something to wait for the sink that is down", async |running| {
            running.metric("auditferry_sink_queued_events", "sink=\"down\"").await > 0.0
                && running.metric("auditferry_sink_circuit_open", "sink=\"down\"").await > 0.0
        })
        .await;
    let told = running.reload(&place, &place.config_text(&world, |_| true, &one, "")).await;
    assert_eq!(told["changes"], "sinks removed: down");
    let total = served(&world).reachable.len();
    running
        .until(&place, "everything to be settled", async |running| {
            let feeds = running.status().await["tenants"][0]["feeds"].as_array().cloned().unwrap_or_default();
            let is_done = !feeds.is_empty() && feeds.iter().all(|feed| feed["pending"] == 0);
            is_done && lines(&place.path("one")) == total
        })
        .await;
    assert!(place.log().contains("its share is released"), "{}", place.log_tail());
    running.end(&place).await;
    complete(&place, &world, "one").await;
}

/// The receiver is gone; the operator points the sink elsewhere and renames the tenant at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_is_pointed_elsewhere_and_gets_everything_once() {
    let (world, place) = (world(WorldConfig::new().records(2_000).days(1)).await, Place::new());
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let text = |url: &str| {
        let hec = format!(
            "  - {{ name: splunk, type: splunk_hec, url: {url:?}, token: token, retry: {{ initial: 20ms, max: 100ms }} }}\n"
        );
        place.config_text(&world, |_| true, &format!("{}{hec}", file_sink(&place, "one", "")), "")
    };
    place.write_text(&text("http://127.0.0.1:9"));
    let running = Running::start(&place, &["--no-watch"]).await;
    running
        .until(&place, "something to wait for the sink that is down", async |running| {
            running.metric("auditferry_sink_queued_events", "sink=\"splunk\"").await > 0.0
                && running.metric("auditferry_sink_circuit_open", "sink=\"splunk\"").await > 0.0
        })
        .await;
    let name = format!("name: {:?}", world.tenants()[0].name);
    let told = running.reload(&place, &text(&hec.url()).replace(&name, "name: renamed")).await;
    assert_eq!(told["changes"], "tenants changed: renamed; sinks changed: splunk");
    let truth = served(&world);
    running
        .until(&place, "everything to be settled", async |running| {
            let feeds = running.status().await["tenants"][0]["feeds"].as_array().cloned().unwrap_or_default();
            let is_done = !feeds.is_empty() && feeds.iter().all(|feed| feed["pending"] == 0);
            is_done && hec.count() >= truth.reachable.len()
        })
        .await;
    assert_eq!(running.metric("auditferry_sink_circuit_open", "sink=\"splunk\"").await, 0.0);
    running.end(&place).await;
    let at_hec = compare(&truth, hec.received().events.iter().filter_map(|event| event.hash));
    let in_file = compare(&truth, file_hashes(&place.path("one")));
    for found in [at_hec, in_file] {
        assert_eq!(
            (found.lost, found.duplicates, found.arrived),
            (0, 0, truth.reachable.len()),
            "{}",
            place.log_tail()
        );
    }
}
