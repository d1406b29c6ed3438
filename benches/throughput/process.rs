//! Row 3: the whole process. The release binary collects a simulated tenant's history over HTTP, gzipped,
//! and forwards it gzipped to an HEC receiver, with acknowledgements, delivered map and journal; what is
//! counted is the CPU time of that process alone, user and system, all threads, start to end.
//!
//! The simulator is a process of its own and the receiver part of this one, so neither is counted. The
//! receiver reads and answers, and does not unpack; that everything was delivered is asked of the
//! product's ledger and the simulator's report.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const BINARY: &str = env!("CARGO_BIN_EXE_auditferry");
/// Enough that start and first listings (about 0.1 s of CPU) do not show.
const RECORDS: u64 = 300_000;
/// Aim (DESIGN, "Speed and size"), CPU seconds for a million records.
const AIM: f64 = 18.0;
/// Clock ticks a second in `/proc/<pid>/stat`; fixed by Linux for user space.
const TICKS: f64 = 100.0;

/// Measures and prints the row.
pub fn whole_process(runtime: &Runtime) {
    let dir = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(dir.path());
    let receiver = runtime.block_on(receiver());
    let config = configure(&simulator, &receiver, dir.path());
    let begun = Instant::now();
    let mut product = Command::new(BINARY)
        .args(["run", "--once", "--once-timeout", "10m", "-c"])
        .arg(&config)
        .env("AUDITFERRY_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let cpu = cpu_at_end(&product);
    let wall = begun.elapsed().as_secs_f64();
    let status = product.wait().unwrap();
    assert!(status.success(), "the run ended with {status}");
    assert_eq!(delivered(dir.path()), RECORDS, "what was measured is not the whole work");
    let million = cpu / RECORDS as f64 * 1e6;
    println!(
        "the whole process            {million:6.1} CPU s a million records (aim <= {AIM})   {RECORDS} records in {wall:.1} s, {cpu:.2} s of CPU"
    );
}

/// `auditferry simulate`; killed when dropped.
struct Simulator {
    child: Child,
    ready: Value,
}

impl Simulator {
    fn start(dir: &Path) -> Simulator {
        let mut child = Command::new(BINARY)
            .args(["simulate", "--tenants", "4", "--seed", "7", "--records", &RECORDS.to_string(), "--dir"])
            .arg(dir.join("simulator"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Simulator { child, ready: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that takes everything; its URL.
async fn receiver() -> String {
    async fn take(body: Body) -> &'static str {
        let mut body = body.into_data_stream();
        while body.next().await.is_some() {}
        "{\"text\":\"Success\",\"code\":0}"
    }
    let app = Router::new()
        .route("/services/collector/event", post(take))
        .route("/services/collector/health", get(|| async { "{\"text\":\"HEC is healthy\",\"code\":17}" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://localhost:{}", address.port())
}

/// Defaults everywhere but for the request rate, which is Microsoft's and not ours.
fn configure(simulator: &Simulator, receiver: &str, dir: &Path) -> std::path::PathBuf {
    let ready = &simulator.ready;
    let mut text = format!("state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n", dir.join("state"));
    text += "collect: { requests_per_minute: 100000 }\ntenants:\n";
    for tenant in ready["tenants"].as_array().unwrap() {
        text += &format!(
            "  - {{ name: {}, tenant_id: {}, client_id: {}, auth: {{ client_secret: {} }}, endpoints: {{ api: {}, login: {} }} }}\n",
            tenant["name"],
            tenant["tenant_id"],
            ready["client_id"],
            ready["client_secret"],
            ready["api"],
            ready["login"],
        );
    }
    text += &format!("sinks:\n  - {{ name: splunk, type: splunk_hec, url: {receiver:?}, token: token }}\n");
    let path = dir.join("auditferry.yaml");
    std::fs::write(&path, text).unwrap();
    // A configuration with secrets in it is not for everybody to read.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Waits until the process has ended; its CPU seconds. Read from `/proc` before it is reaped, since after that
/// nothing is left of it.
fn cpu_at_end(process: &Child) -> f64 {
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    // After the name, which may hold blanks: user and system time are fields 14 and 15 of all (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// Records that the ledger says were delivered.
fn delivered(dir: &Path) -> u64 {
    let output =
        Command::new(BINARY).args(["state", "show", "--json", "--dir"]).arg(dir.join("state")).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    shown["feeds"].as_array().unwrap().iter().map(|feed| feed["ledger"]["delivered"].as_u64().unwrap()).sum()
}
