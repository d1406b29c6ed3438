//! Memory: one blob far larger than memory should hold, plain and gzipped, into a collector slower than the
//! source; and a backlog of many blobs. The peak of RssAnon, read from outside, stays below 128 MiB,
//! and everything arrives once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditferry::simulator::{ContentType, WorldConfig};

use crate::hec::FakeHec;
use crate::support::{Place, Process, figure, size, world};

const LIMIT_MIB: u64 = 128;
/// What one tenant may hold: a quarter of `collect.in_flight`, which is 32 MiB unless configured.
const SHARE_MIB: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn one_giant_blob() {
    for gzip in [false, true] {
        // About 1.9 KB each: 36 MB, or 500 MB.
        let records = size(19_000, 265_000);
        let config = WorldConfig::new().days(1).records(records).only(ContentType::SharePoint);
        let config = config.records_per_blob(u32::try_from(records * 5).unwrap()).tune(|p| p.gzip = gzip);
        let run = run(config, Duration::from_millis(size(300, 450))).await;
        let form = if gzip { "gzip" } else { "plain" };
        figure("memory", format_args!("one {form} blob of {} MB: {run}", run.bytes / 1_000_000));
        assert_eq!(run.blobs, 1, "this bar is about one blob");
        run.check(records);
        assert!(
            run.in_flight_mib >= SHARE_MIB * 3 / 4,
            "the collector was not slower than the source, so nothing was tried"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog() {
    let records = size(60_000, 2_000_000);
    let config = WorldConfig::new().tenants(6).records(records);
    // The full run shows that nothing grows with the number; the small one that a full budget fits.
    let run = run(config, Duration::from_millis(size(150, 0))).await;
    figure("memory", format_args!("backlog of {} blobs, {} MB: {run}", run.blobs, run.bytes / 1_000_000));
    run.check(records);
}

/// What one run showed.
struct Run {
    peak_kib: u64,
    in_flight_mib: u64,
    taken: Duration,
    arrived: usize,
    distinct: usize,
    blobs: u64,
    bytes: u64,
    log: String,
    code: Option<i32>,
}

impl Run {
    fn check(&self, records: u64) {
        let records = usize::try_from(records).unwrap();
        assert_eq!(self.code, Some(0), "{}", self.log);
        assert_eq!((self.arrived, self.distinct), (records, records), "lost or doubled: {}", self.log);
        assert!(self.peak_kib <= LIMIT_MIB * 1024, "peak RssAnon {} KiB, limit {LIMIT_MIB} MiB", self.peak_kib);
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { arrived, distinct, in_flight_mib, .. } = self;
        let (peak, seconds) = (self.peak_kib as f64 / 1024.0, self.taken.as_secs_f64());
        write!(
            f,
            "peak RssAnon {peak:.1} MiB, {arrived} events arrived ({distinct} distinct) in {seconds:.0} s, in flight up to {in_flight_mib} MiB"
        )
    }
}

/// Runs the binary over the world once, into a collector that waits before it answers.
async fn run(config: WorldConfig, answer_delay: Duration) -> Run {
    let world = world(config).await;
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.answer_delay = answer_delay);
    let place = Place::new();
    place.write_config(
        &world,
        &format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n", hec.url()),
        "",
    );
    let limit = size(90, 400);
    let start = Instant::now();
    let mut process = place.start(&["--once", "--once-timeout", &format!("{limit}s")], &[]);
    let in_flight = watch_in_flight(&process).await;
    let mut peak_kib = 0;
    let status = loop {
        assert!(start.elapsed().as_secs() < limit + 30, "the run does not end: {}", place.log_tail());
        if let Some(status) = process.ended() {
            break status;
        }
        peak_kib = peak_kib.max(process.rss_anon_kib().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let report = world.report();
    Run {
        peak_kib,
        in_flight_mib: in_flight.load(Ordering::Relaxed).div_ceil(1024 * 1024),
        taken: start.elapsed(),
        arrived: hec.count(),
        distinct: hec.distinct(),
        blobs: report.blobs,
        bytes: report.fetches.bytes,
        log: place.log_tail(),
        code: status.code(),
    }
}

/// The most bytes that `/status` has shown in flight; asked until the process ends.
async fn watch_in_flight(process: &Process) -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let Some(address) = process.admin().await else { return most };
    let seen = Arc::clone(&most);
    tokio::spawn(async move {
        let client = reqwest::Client::new();
        while let Ok(answer) = client.get(format!("http://{address}/status")).send().await {
            let bytes = answer.bytes().await.unwrap_or_default();
            let status: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            seen.fetch_max(status["in_flight"]["bytes"].as_u64().unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    most
}
