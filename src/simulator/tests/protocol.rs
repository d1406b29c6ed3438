//! The protocol, the truth, and the same world for the same seed.

use std::time::Duration;

use super::*;
use crate::simulator::{Identity, Scenario};

#[tokio::test]
async fn what_is_served_is_the_truth_in_both_identity_modes() {
    for identity in [Identity::Stable, Identity::Windowed] {
        let simulator = start(WorldConfig::new().tenants(2).records(3000).identity(identity)).await;
        let (got, lost) = Probe::new(&simulator).drain(1, 7).await;
        assert!(lost.is_empty(), "{lost:?}");
        let served = records(&got);
        let truth: Vec<_> = simulator.truth().collect();
        assert_eq!(truth.len(), 3000);
        for record in &truth {
            assert!(record.reachable);
            assert_eq!(served.get(std::str::from_utf8(&record.record).unwrap()), Some(&1), "{identity:?}");
        }
        assert_eq!(served.len(), 3000);
        let report = simulator.report();
        assert_eq!((report.records, report.unreachable.len(), report.pending_records), (3000, 0, 0));
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        let cut = got.len() as u64 > report.blobs;
        assert_eq!(cut, identity == Identity::Windowed, "{} ids of {} blobs", got.len(), report.blobs);
    }
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_service() {
    let simulator = start(WorldConfig::new().tenants(2).records(500).tune(|p| p.without_dlp = vec![1])).await;
    let mut probe = Probe::new(&simulator);
    let now = simulator.clock().now_ms();
    let (from, to) = (now - HOUR_MS, now);
    let kind = ContentType::Exchange;
    assert_eq!(probe.ask_token(0, "wrong").await.status(), 401);
    assert_eq!(probe.list(0, kind, from, to).await.unwrap_err(), "400 AF20022");
    assert_eq!(probe.start(0, kind).await.0, 200);
    assert_eq!(probe.start(0, kind).await, (400, "AF20024".to_owned()));
    assert_eq!(probe.list(0, kind, from, to).await.unwrap().len(), 0);
    assert_eq!(probe.list(0, kind, to, from).await.unwrap_err(), "400 AF20030");
    assert_eq!(probe.list(0, kind, now - 25 * HOUR_MS, now).await.unwrap_err(), "400 AF20055");
    assert_eq!(probe.list(0, kind, now - 8 * DAY_MS, now - 7 * DAY_MS - HOUR_MS).await.unwrap_err(), "400 AF20055");
    assert!(probe.list(0, kind, now - HOUR_MS, now + 10 * HOUR_MS).await.is_ok());
    for (url, expected) in [
        (probe.feed(0, "subscriptions/content?contentType=Audit.Nothing"), (400, "AF20020")),
        (probe.feed(0, "subscriptions/content?startTime=2026-01-01"), (400, "AF20001")),
        (probe.feed(0, "subscriptions/content?contentType=audit.exchange&startTime=2026-01-01"), (400, "AF20030")),
        (probe.feed(0, "audit/nonsense"), (400, "AF20052")),
        (probe.feed(1, "subscriptions/list"), (400, "AF20010")),
        (probe.feed(0, "subscriptions/list").replace(&simulator.tenants()[0].tenant_id, "contoso"), (400, "AF20013")),
    ] {
        let (status, _, body) = probe.send(0, false, &url).await.unwrap();
        assert_eq!((status, code(&body).as_str()), expected, "{url}");
    }
    assert_eq!(probe.list(1, ContentType::Dlp, from, to).await.unwrap_err(), "401 AF10001");
    simulator.disable_subscription(0, kind);
    assert_eq!(probe.list(0, kind, from, to).await.unwrap_err(), "400 AF20023");
    assert_eq!(probe.start(0, kind).await.0, 429);
    simulator.revoke_tokens(0);
    assert!(probe.list(0, kind, from, to).await.unwrap_err().starts_with("401"));
    let violations: Vec<_> = simulator.report().violations.into_iter().map(|v| v.kind).collect();
    for kind in ["token_of_another_tenant", "range_over_24h", "start_within_cooldown"] {
        assert!(violations.iter().any(|v| v == kind), "{kind} is not in {violations:?}");
    }
    assert!(!violations.iter().any(|v| v == "no_publisher_identifier"));
}

#[tokio::test]
async fn gzip_and_h2_bring_the_same_body() {
    use std::io::Read;
    // A large blob, so that it is streamed.
    let config = WorldConfig::new().records(1500).only(ContentType::Exchange).records_per_blob(1000);
    let simulator = start(config).await;
    let mut probe = Probe::new(&simulator);
    let uri = first_blob(&mut probe, ContentType::Exchange).await;
    let plain = probe.fetch(0, &uri).await.unwrap();
    assert!(plain.len() > 1_000_000);
    let h2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for (client, version) in [(&probe.http, reqwest::Version::HTTP_11), (&h2, reqwest::Version::HTTP_2)] {
        let request = client.get(&uri).bearer_auth(&probe.tokens[&0]).header("Accept-Encoding", "gzip");
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let body = response.bytes().await.unwrap();
        assert!(body.len() < plain.len() / 2);
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
        assert!(text == plain);
    }
    assert!(simulator.report().violations.iter().any(|v| v.kind == "no_publisher_identifier"));
}

#[tokio::test]
async fn live_records_appear_as_time_passes() {
    for identity in [Identity::Stable, Identity::Windowed] {
        let config = WorldConfig::new().records(0).speed(600.0).live_rate(30.0).identity(identity);
        let simulator = start(config).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let before: Vec<_> = simulator.truth().filter(|r| r.reachable).collect();
        assert!(before.len() > 300, "{}", before.len());
        let (got, _) = Probe::new(&simulator).drain(1, 7).await;
        let served = records(&got);
        for record in &before {
            assert!(served.contains_key(std::str::from_utf8(&record.record).unwrap()), "{identity:?} {}", record.index);
        }
    }
}

#[tokio::test]
async fn the_same_seed_serves_the_same_world() {
    let lines = |simulator: &SimulatorHandle| {
        let mut out = Vec::new();
        simulator.truth().for_each(|record| record.write_line(true, &mut out));
        out
    };
    let config = || WorldConfig::new().seed(9).records(600).scenarios(&Scenario::all()).start_ms(1_790_000_000_000);
    let (one, two) = (start(config()).await, start(config()).await);
    assert!(lines(&one) == lines(&two));
    assert!(lines(&one) != lines(&start(config().seed(10)).await));
    // Over HTTP the same lines, and every one of them JSON.
    let served = reqwest::get(format!("{}/_sim/truth", one.api_url())).await.unwrap().bytes().await.unwrap();
    assert!(served == lines(&one));
    for line in served.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let text = std::str::from_utf8(line).unwrap();
        let _: &serde_json::value::RawValue = serde_json::from_str(text).unwrap();
    }
    let report = reqwest::get(format!("{}/_sim/report", one.api_url())).await.unwrap().bytes().await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["records"], 600);
}

#[tokio::test]
async fn another_process_switches_faults_over_http() {
    let simulator = start(WorldConfig::new().records(500)).await;
    let mut probe = Probe::new(&simulator);
    let uri = first_blob(&mut probe, ContentType::SharePoint).await;
    let root = simulator.api_url();
    let post = async |path: &str| Client::new().post(format!("{root}/_sim/{path}")).send().await.unwrap().status();
    assert_eq!(post("enable?scenario=nonsense").await, 400);
    assert_eq!(post("enable?scenario=server_error&rate=1").await, 200);
    assert_eq!(probe.send(0, false, &uri).await.unwrap().0, 500);
    assert_eq!(post("disable?scenario=server_error").await, 200);
    assert_eq!(post("offline").await, 200);
    assert_eq!(probe.send(0, false, &uri).await.unwrap().0, 503);
    assert_eq!(post("online").await, 200);
    assert_eq!(post("revoke").await, 200);
    assert_eq!(probe.send(0, false, &uri).await.unwrap().0, 401);
    assert_eq!(probe.send(0, false, &uri).await.unwrap().0, 200);
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Some ten seconds and half a gigabyte over loopback: run by hand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a gigabyte"]
async fn a_blob_of_half_a_gigabyte_takes_no_memory() {
    // And a world of two million records beside it.
    let config = WorldConfig::new().records(2_000_000).only(ContentType::SharePoint).records_per_blob(300_000);
    let simulator = start(config.days(1)).await;
    let mut probe = Probe::new(&simulator);
    probe.http = Client::builder().no_proxy().build().unwrap();
    let uri = first_blob(&mut probe, ContentType::SharePoint).await;
    let before = resident();
    let mut response = probe.http.get(&uri).bearer_auth(&probe.tokens[&0]).send().await.unwrap();
    let (mut bytes, mut most, begun) = (0, 0, std::time::Instant::now());
    while let Some(chunk) = response.chunk().await.unwrap() {
        bytes += chunk.len();
        most = most.max(resident());
    }
    let grown = most.saturating_sub(before);
    println!("{} MB, {} MB more in memory, {:?}", bytes >> 20, grown >> 20, begun.elapsed());
    assert!(bytes > 100 << 20 && grown < 32 << 20);
    assert_eq!(simulator.report().records, 2_000_000);
}
