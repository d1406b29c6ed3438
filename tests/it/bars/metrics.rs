//! Metrics: the page of a run of the demo has the names, types, help and labels that are kept in `tests/golden`; promtool
//! finds nothing to say about it; what rules and boards name exists; and the page of a thousand tenants is of a known
//! size, to which work adds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, WorldConfig};

use crate::hec::FakeHec;
use crate::papers::unknown_metrics;
use crate::real::prometheus::promtool;
use crate::support::{Place, Process, figure, is_full, size, world};

/// Series that a tenant with five content types may cost.
const SERIES_OF_A_TENANT: f64 = 170.0;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn page(address: &str) -> String {
    let answer = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// Of each family: help, type and label names.
fn shape(page: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut heads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            family = head.split(' ').nth(1).unwrap();
            heads.entry(family).or_default().push(line);
            continue;
        }
        let set = labels.entry(family).or_default();
        let Some((_, rest)) = line.split_once('{') else { continue };
        set.extend(rest.rsplit_once('}').unwrap().0.split("\",").map(|pair| pair.split('=').next().unwrap()));
    }
    let mut shape = String::new();
    for (name, heads) in heads {
        shape += &heads.join("\n");
        let labels: Vec<&str> = labels[name].iter().copied().collect();
        shape += &format!("\n{name}{{{}}}\n", labels.join(","));
    }
    shape
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_page_is_the_golden_one() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_auditferry"))
        .args(["demo", "--for", "4s", "--admin", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap());
    let address = tokio::task::block_in_place(|| {
        let mut line = String::new();
        while said.read_line(&mut line).unwrap() > 0 && !line.contains("/metrics") {
            line.clear();
        }
        line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned()
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = page(&address).await;
    tokio::task::block_in_place(|| {
        let mut rest = String::new();
        let _ = said.read_to_string(&mut rest);
        demo.wait().unwrap();
    });
    let golden = root().join("tests/golden/metrics.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, shape(&text)).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(kept, shape(&text), "write it anew: UPDATE_DOCS=1 cargo test --test it metrics_page");
    let said = tokio::task::spawn_blocking(move || promtool(root(), &["check", "metrics"], &text)).await.unwrap();
    assert_eq!(said, Ok(String::new()), "promtool has something to say");
    figure("metrics", format_args!("{} families in the demo, promtool is content", kept.matches("# TYPE").count()));
}

#[test]
fn metrics_that_rules_and_boards_name_exist() {
    for dir in ["deploy/prometheus", "dashboards"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // Where the rules read what others write, and in links.
            let text = text.replace("auditferry_build_info, ", "auditferry_build_info ");
            let unknown = unknown_metrics(&text);
            assert!(unknown.is_empty(), "{}: there is no {unknown:?}", path.display());
        }
    }
    assert_eq!(
        unknown_metrics("auditferry_blobs_lots_total a:auditferry_x:y"),
        ["auditferry_blobs_lots_total", "a:auditferry_x:y"]
    );
}

fn series(page: &str) -> BTreeSet<&str> {
    page.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

/// A process with so many tenants, and its address.
async fn running(
    config: WorldConfig,
    place: &Place,
    hec: &FakeHec,
    backfill: &str,
) -> (Process, auditferry::simulator::SimulatorHandle, String) {
    let world = world(config).await;
    let sink = format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n", hec.url());
    place.write_config(
        &world,
        &sink,
        &format!("collect: {{ backfill: {backfill}, poll_interval: 5s, requests_per_minute: 100000 }}"),
    );
    let process = place.start(&[], &[]);
    let address = process.admin().await.expect("it listens");
    (process, world, address)
}

async fn until_all_listed(world: &auditferry::simulator::SimulatorHandle, listings: u64) {
    let deadline = Instant::now() + Duration::from_secs(size(30, 120));
    while world.report().requests.get("content").copied().unwrap_or(0) < listings {
        assert!(Instant::now() < deadline, "{listings} listings do not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_many_tenants_are_bounded() {
    let tenants = size(100, 1000);
    let (place, hec) = (Place::new(), FakeHec::start().await);
    let quiet = WorldConfig::new().tenants(tenants).records(0).days(1).tune(|knobs| knobs.subscribed = true);
    let (process, world, address) = running(quiet, &place, &hec, "1h").await;
    until_all_listed(&world, tenants as u64 * 5).await;
    let before = process.rss_anon_kib().unwrap();
    let began = Instant::now();
    let text = page(&address).await;
    let took = began.elapsed();
    let mut peak = before;
    for _ in 0..5 {
        // Memory is looked at while the page is read.
        let mut answer = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
        while answer.chunk().await.unwrap().is_some() {
            peak = peak.max(process.rss_anon_kib().unwrap());
        }
    }
    let count = series(&text).len();
    let of_none = text.lines().filter(|line| !line.starts_with('#') && !line.contains("tenant=")).count();
    let each = (count - of_none) as f64 / tenants as f64;
    figure(
        "metrics",
        format_args!(
            "{tenants} tenants: {count} series ({each:.0} a tenant and {of_none} others), {:.1} MB a page in {took:.1?}, RssAnon {:.1} MiB before and {:.1} MiB while it is read",
            text.len() as f64 / 1e6,
            before as f64 / 1024.0,
            peak as f64 / 1024.0
        ),
    );
    assert!(each <= SERIES_OF_A_TENANT && of_none < 600, "{each} series a tenant, {of_none} others");
    if is_full() {
        assert!(peak <= 128 * 1024, "the page costs too much: {peak} KiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_busy_run_are_all_there_from_the_start() {
    let (place, hec) = (Place::new(), FakeHec::start().await);
    let busy = WorldConfig::new().tenants(2).records(2000).days(1).speed(60.0).live_rate(40.0);
    let busy = busy.scenario(Scenario::Duplicates).scenario(Scenario::Expired);
    let (process, world, address) = running(busy, &place, &hec, "1d").await;
    // Ready: everything is built and declared; hardly anything was delivered.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reqwest::get(format!("http://{address}/readyz")).await.unwrap().status().is_success() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = page(&address).await;
    let faults = [
        "truncated_body",
        "throttle_429",
        "server_error",
        "html_error",
        "token_expiry",
        "eventual",
        "subscription_disabled",
    ];
    for fault in faults.iter().flat_map(|name| Scenario::parse(name).unwrap()) {
        world.enable(fault, Some(0.05));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    hec.set(|knobs| {
        (knobs.busy, knobs.throttle) = (3, 3);
        knobs.refuse = Some(std::sync::Arc::new(|offered| offered.key.starts_with("77")));
    });
    tokio::time::sleep(Duration::from_secs(size(5, 60))).await;
    assert!(hec.wait_for(300, Duration::from_secs(60)).await, "{} events: not busy", hec.count());
    let later = page(&address).await;
    let (before, after) = (series(&first), series(&later));
    let new: Vec<_> = after.difference(&before).filter(|series| !series.starts_with("process_")).collect();
    let delivered = hec.count();
    figure(
        "metrics",
        format_args!("{} series at the start, {} after {delivered} events under faults", before.len(), after.len()),
    );
    assert!(new.is_empty(), "series that were not there from the start: {new:#?}");
    drop(process);
}
