//! Idle: what many tenants cost that have nothing to say, in CPU and memory; and what one costs.
//! The subscriptions and the first listings are over when the measuring begins.

use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;

use crate::hec::FakeHec;
use crate::support::{Place, Process, figure, is_full, size, world};

/// What each open cell is listed at, seconds. The small bar lists more often, to see some of it in its time.
fn poll_seconds() -> u64 {
    size(5, 30)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idle_tenant() {
    let idle = Idle::new(1).await;
    let (cores, mib) = idle.measure(Duration::from_secs(size(6, 40))).await;
    figure("idle", format_args!("1 tenant: {:.2} % of a core, RssAnon {mib:.1} MiB", cores * 100.0));
    assert!(mib <= 40.0, "one idle tenant must stay within 40 MiB, has {mib:.1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_tenants() {
    let tenants = size(50, 1000);
    let idle = Idle::new(tenants).await;
    let (cores, mib) = idle.measure(Duration::from_secs(size(10, 60))).await;
    figure(
        "idle",
        format_args!("{tenants} tenants, 5 types each: {:.2} % of a core, RssAnon {mib:.1} MiB", cores * 100.0),
    );
    assert!(mib <= 128.0, "{tenants} idle tenants must stay within 128 MiB, have {mib:.1}");
    // The small one runs unoptimised beside other tests, and shows only a loop that never rests.
    let most = if is_full() { 0.10 } else { 0.25 };
    assert!(cores < most, "{tenants} idle tenants must use less than {most} of a core, use {cores:.3}");
}

/// A process with tenants that have no records.
struct Idle {
    process: Process,
    world: auditferry::simulator::SimulatorHandle,
    tenants: usize,
    place: Place,
    _hec: FakeHec,
}

impl Idle {
    async fn new(tenants: usize) -> Idle {
        let world = world(WorldConfig::new().tenants(tenants).records(0).days(1).tune(|p| p.subscribed = true)).await;
        let hec = FakeHec::start().await;
        let place = Place::new();
        let sink = format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n", hec.url());
        let collect = format!("collect: {{ backfill: 1h, poll_interval: {}s }}\n", poll_seconds());
        place.write_config(&world, &sink, &collect);
        let process = place.start(&[], &[]);
        Idle { process, world, tenants, place, _hec: hec }
    }

    fn listings(&self) -> u64 {
        self.world.report().requests.get("content").copied().unwrap_or(0)
    }

    /// Cores used and MiB held over `window`, once every open cell was listed once.
    async fn measure(&self, window: Duration) -> (f64, f64) {
        // Two cells are open with an hour's backfill: the live one and the one before.
        let at_start = self.tenants as u64 * 5 * 2;
        let deadline = Instant::now() + Duration::from_secs(size(30, 90));
        while self.listings() < at_start {
            assert!(Instant::now() < deadline, "{} of {at_start} listings; {}", self.listings(), self.place.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (listings, start, cpu) = (self.listings(), Instant::now(), self.process.cpu_seconds().unwrap());
        let mut peak_kib = 0;
        while start.elapsed() < window {
            peak_kib = peak_kib.max(self.process.rss_anon_kib().unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let cores = (self.process.cpu_seconds().unwrap() - cpu) / start.elapsed().as_secs_f64();
        let listings = (self.listings() - listings) as f64 / start.elapsed().as_secs_f64();
        // What is asked of the service in that time, so that nobody is idle by not asking at all.
        let expected = self.tenants as f64 * 10.0 / poll_seconds() as f64;
        figure(
            "idle",
            format_args!("{} tenants: {listings:.1} listings a second, {expected:.1} expected", self.tenants),
        );
        assert!(listings >= expected * 0.6, "{listings:.1} listings a second: asleep, not idle");
        (cores, peak_kib as f64 / 1024.0)
    }
}
