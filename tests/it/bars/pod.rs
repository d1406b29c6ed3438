//! Pod: the container that the chart renders, run as a process under the same restrictions (tests/real/pod.rs): the
//! image's libraries and nothing else, user 65532, a read-only root, no capabilities, no new privileges, the chart's
//! memory limit as a cgroup, ended as a kubelet ends it. Traffic flows, and over stops and kills nothing is lost; what
//! comes twice was sent and not yet journalled when the process was killed, and a stop leaves nothing of that.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};
use rustix::process::{getegid, geteuid};
use serde_json::{Value, json};

use crate::bars::chart::CHART;
use crate::bars::kill::Bookings;
use crate::hec::{FakeHec, Options};
use crate::real::free_port;
use crate::real::kubernetes::{documents, helm, only};
use crate::real::memory_limit::MemoryLimit;
use crate::real::pod::{Node, Pod, group};
use crate::support::{compare, figure, served, size, world};

/// A process of 19 MiB at its start cannot live in this, bytes.
const TOO_LITTLE: u64 = 4 << 20;

/// The pod as rendered, with all that it is given.
struct Release {
    spec: Value,
    node: Node,
    state: PathBuf,
    port: u16,
    grace: Duration,
    limit: u64,
}

impl Release {
    /// Installs the chart for this world and receiver: renders it, and makes its volumes.
    fn install(world: &SimulatorHandle, hec: &FakeHec) -> Release {
        let port = free_port();
        let file = |name: &str| format!("${{file:/run/secrets/auditferry/{name}}}");
        let tenants: Vec<Value> = world
            .tenants()
            .iter()
            .map(|tenant| {
                json!({
                    "name": tenant.name, "tenant_id": tenant.tenant_id, "client_id": tenant.client_id,
                    "auth": { "client_secret": file("client-secret") },
                    "endpoints": { "api": world.api_url(), "login": world.login_url() },
                })
            })
            .collect();
        let mut config = json!({
            "admin": { "listen": format!("0.0.0.0:{port}") },
            "collect": { "poll_interval": "5s", "requests_per_minute": 100_000 },
            "tenants": tenants,
            "sinks": [{ "name": "splunk", "type": "splunk_hec", "url": hec.url(), "token": file("hec-token") }],
        });
        if let Some((origin_ms, anchor_ms, speed)) = world.clock_setting() {
            config["clock"] = json!({ "origin_ms": origin_ms, "anchor_ms": anchor_ms, "speed": speed });
        }
        let mut node = Node::new();
        let values = node.volume(
            "values",
            0,
            &[("values.yaml", &json!({ "config": config, "existingSecret": "x" }).to_string())],
        );
        let values = values.join("values.yaml");
        let text = helm(&["template", "audit", CHART, "--values", values.to_str().unwrap()])
            .unwrap_or_else(|said| panic!("{said}"));
        let documents = documents(&text);
        let spec = only(&documents, "Deployment")["spec"]["template"]["spec"].clone();
        let configuration = documents.iter().find_map(|object| object["data"]["auditferry.yaml"].as_str()).unwrap();
        let secret = &world.tenants()[0].client_secret;
        let group = group(&spec);
        node.volume("config", group, &[("auditferry.yaml", configuration)]);
        node.volume("secrets", group, &[("client-secret", secret), ("hec-token", "token")]);
        let state = node.volume("state", group, &[]);
        let grace = Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap());
        let limit = bytes(spec["containers"][0]["resources"]["limits"]["memory"].as_str().unwrap());
        Release { spec, node, state, port, grace, limit }
    }

    /// Starts a pod and waits until its startup and readiness probes are answered.
    async fn start(&self, limit: Option<&MemoryLimit>) -> Pod {
        let mut pod = self.node.start(&self.spec, limit);
        for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let probe = &self.spec["containers"][0][name];
            let tries = probe["failureThreshold"].as_u64().unwrap_or(3);
            let patience = Duration::from_secs(probe["periodSeconds"].as_u64().unwrap() * tries);
            let began = Instant::now();
            while !self.answers(probe).await {
                let left = began.elapsed() < patience && pod.ended().is_none();
                assert!(left, "{name} fails:\n{}", self.node.log_end());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        pod
    }

    /// Whether a probe's GET is answered well, as a kubelet asks it.
    async fn answers(&self, probe: &Value) -> bool {
        let ports = self.spec["containers"][0]["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == probe["httpGet"]["port"]).unwrap();
        assert_eq!(port["containerPort"], self.port);
        let url = format!("http://127.0.0.1:{}{}", self.port, probe["httpGet"]["path"].as_str().unwrap());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
        client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }
}

/// `256Mi` in bytes.
fn bytes(quantity: &str) -> u64 {
    quantity.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20
}

/// What the kernel says of the process is what the manifest says of the container.
fn assert_restricted(pod: &Pod) {
    // In a user namespace, where we are no root, the same ids are ours when read from outside.
    let ids = if geteuid().is_root() { [65532, 65532] } else { [geteuid().as_raw(), getegid().as_raw()] };
    for (key, id) in ["Uid", "Gid"].iter().zip(ids) {
        assert_eq!(pod.status(key), [id.to_string().as_str(); 4].join(" "), "{key}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(pod.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(pod.status("NoNewPrivs"), "1");
    assert!(pod.status("NSpid").ends_with(" 1"), "it is the first process of its own");
    let mounts = pod.proc("mountinfo");
    // Fields: id, parent, device, root, where, options; the root of the container is the last that holds nothing else.
    let writable: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let is_writable = fields[5].split(',').all(|option| option != "ro");
            (is_writable && !fields[4].starts_with("/dev/") && fields[4] != "/proc").then_some(fields[4])
        })
        .collect();
    assert_eq!(writable, ["/var/lib/auditferry"], "what can be written:\n{mounts}");
}

async fn receiver() -> FakeHec {
    FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await
}

/// Waits until everything that exists now has arrived. How much that is, and what is lost.
async fn arrived(world: &SimulatorHandle, hec: &FakeHec, limit: Duration) -> (usize, usize) {
    let (truth, began) = (served(world), Instant::now());
    loop {
        let found = compare(&truth, hec.received().events.iter().filter_map(|event| event.hash));
        if found.lost == 0 || began.elapsed() > limit {
            return (truth.reachable.len(), found.lost);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pod() {
    let config = WorldConfig::new().tenants(2).records(size(6_000, 200_000)).days(1).live_rate(60.0).speed(60.0);
    let (world, hec) = (world(config).await, receiver().await);
    world.enable(Scenario::TruncatedBody, Some(0.05));
    // Slow enough that a stop finds something in flight.
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(50));
    let release = Release::install(&world, &hec);
    let limit = MemoryLimit::new(release.limit);

    let (mut stops, mut slowest, mut peak_rss) = (0, Duration::ZERO, 0);
    let mut bookings = Bookings::default();
    for round in 0..size(3, 12) {
        let mut pod = release.start(limit.as_ref()).await;
        assert_restricted(&pod);
        let enough = hec.wait_for(hec.count() + size(1_500, 10_000), Duration::from_secs(60)).await;
        assert!(enough, "{}", release.node.log_end());
        let rss: u64 = pod.status("VmHWM").split(' ').next().unwrap().parse().unwrap();
        peak_rss = peak_rss.max(rss / 1024);
        // Each third time the node fails: no last word.
        let is_killed = round % 3 == 1;
        if is_killed {
            pod.kill();
        } else {
            let (taken, ended) = pod.delete(release.grace).await;
            assert_eq!(ended, Ok(0), "after {taken:?}\n{}", release.node.log_end());
            (stops, slowest) = (stops + 1, slowest.max(taken));
        }
        hec.quiet().await;
        let unknown = tokio::task::block_in_place(|| bookings.after_life(&hec, &release.state));
        assert!(is_killed || unknown == 0, "a stop leaves {unknown} records that were sent and not journalled");
    }
    hec.set(|knobs| knobs.answer_delay = Duration::ZERO);
    let last = release.start(limit.as_ref()).await;
    let (records, lost) = arrived(&world, &hec, Duration::from_secs(size(60, 300))).await;
    assert_eq!(last.delete(release.grace).await.1, Ok(0));
    tokio::task::block_in_place(|| bookings.after_life(&hec, &release.state));
    let Bookings { duplicates, bound, unexplained, .. } = bookings;
    let limits = match &limit {
        Some(limit) => {
            assert_eq!(limit.kills(), 0, "killed for want of memory");
            let peak = limit.peak().map_or("unknown".into(), |peak| format!("{} MiB", peak >> 20));
            format!(
                "memory limit {} MiB by cgroup v{}, peak {peak} with page cache",
                release.limit >> 20,
                limit.version()
            )
        }
        None => {
            assert!(peak_rss << 20 < release.limit, "{peak_rss} MiB resident");
            format!("NO CGROUP could be made here: the limit of {} MiB is only held against VmHWM", release.limit >> 20)
        }
    };
    figure(
        "pod",
        format_args!(
            "as the chart's container: {stops} stops within {:?} (slowest {slowest:?}) and {} kills, served {records}, lost {lost}, \
             duplicates {duplicates} (of {bound} sent and not journalled at the kills); {limits}, VmHWM {peak_rss} MiB",
            release.grace,
            size(3, 12) - stops
        ),
    );
    assert_eq!(lost, 0, "{}", release.node.log_end());
    assert_eq!(unexplained, 0, "doubled although the state knew them as delivered, or within one life");
    assert!(duplicates <= bound, "{duplicates} came twice, {bound} could have");
}

/// A stop while a receiver hangs is over before the kubelet would kill, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn pod_a_receiver_that_hangs_does_not_outlast_the_grace_period() {
    let (world, hec) = (world(WorldConfig::new().records(2_000).days(1)).await, receiver().await);
    hec.set(|knobs| knobs.answer_delay = Duration::from_secs(300));
    let release = Release::install(&world, &hec);
    let pod = release.start(None).await;
    let began = Instant::now();
    while hec.requests() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", release.node.log_end());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (taken, ended) = pod.delete(release.grace).await;
    figure("pod", format_args!("a stop with a receiver that hangs: {taken:?} of {:?}, {ended:?}", release.grace));
    assert_eq!(ended, Ok(0), "killed at the end of the grace period\n{}", release.node.log_end());
    hec.set(|knobs| knobs.answer_delay = Duration::ZERO);
    let _pod = release.start(None).await;
    let (_, lost) = arrived(&world, &hec, Duration::from_secs(60)).await;
    assert_eq!(lost, 0, "{}", release.node.log_end());
}

/// The limit is one: where it is too low, the process is gone.
#[tokio::test(flavor = "multi_thread")]
async fn pod_a_memory_limit_is_felt() {
    let (world, hec) = (world(WorldConfig::new().records(100)).await, receiver().await);
    let release = Release::install(&world, &hec);
    let Some(limit) = MemoryLimit::new(TOO_LITTLE) else {
        figure("pod", "NO CGROUP could be made here, so no limit was tried");
        return;
    };
    let mut pod = release.node.launch(&release.spec, Some(&limit));
    let began = Instant::now();
    while pod.ended().is_none() && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(pod);
    assert!(limit.kills() > 0, "it ran in 4 MiB:\n{}", release.node.log_end());
}
