//! What the end-to-end tests and bars share: a world to collect from, a directory with a
//! configuration, the real binary as a process of its own, and the comparison of what was served with what
//! arrived.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use auditferry::simulator::{SimulatorHandle, WorldConfig, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::hec::canonical_hash;

/// Whether the bars run at the size whose figures are quoted (`make bars`) or small (`make test`).
pub fn is_full() -> bool {
    std::env::var("AUDITFERRY_BARS").is_ok_and(|size| size == "full")
}

/// `small` in `make test`, `full` in `make bars`.
pub fn size<T>(small: T, full: T) -> T {
    if is_full() { full } else { small }
}

/// Prints a bar's figure in one form: `bar <name>: <figure>`.
pub fn figure(bar: &str, text: impl std::fmt::Display) {
    println!("bar {bar}: {text}");
}

/// A world served in this process on a free port of loopback.
pub async fn world(config: WorldConfig) -> SimulatorHandle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    serve(config, listener).await.unwrap()
}

/// Mounts everything read-only, makes sure of it by trying to write `$1`, and becomes the rest.
const READ_ONLY: &str = r#"
    for place in $(awk '{print $2}' /proc/self/mounts | sort -r); do
        case $place in /proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$place" || exit 97 ;; esac
    done
    if touch "$1" 2>/dev/null; then exit 98; fi
    shift
    exec "$@"
"#;

/// A directory for one run of the product: configuration, state, output.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub fn config(&self) -> PathBuf {
        self.path("auditferry.yaml")
    }

    /// Writes a configuration for `world`. `sinks`: lines of the list below `sinks:`; `more`: further
    /// top-level lines, which may repeat none of `state admin tenants clock sinks`.
    pub fn write_config(&self, world: &SimulatorHandle, sinks: &str, more: &str) {
        self.write_text(&self.config_text(world, |_| true, sinks, more));
    }

    /// The text of such a configuration, with those tenants of `world` for whose place `wanted` says true.
    pub fn config_text(
        &self,
        world: &SimulatorHandle,
        wanted: impl Fn(usize) -> bool,
        sinks: &str,
        more: &str,
    ) -> String {
        let mut text = format!("state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n", self.state_dir());
        if let Some((origin_ms, anchor_ms, speed)) = world.clock_setting() {
            writeln!(text, "clock: {{ origin_ms: {origin_ms}, anchor_ms: {anchor_ms}, speed: {speed} }}").unwrap();
        }
        if !more.contains("collect:") {
            text.push_str("collect: { requests_per_minute: 100000, poll_interval: 5s }\n");
        }
        writeln!(text, "{more}\ntenants:").unwrap();
        for (_, tenant) in world.tenants().iter().enumerate().filter(|(place, _)| wanted(*place)) {
            writeln!(
                text,
                "  - {{ name: {:?}, tenant_id: {:?}, client_id: {:?}, auth: {{ client_secret: {:?} }}, endpoints: {{ api: {:?}, login: {:?} }} }}",
                tenant.name,
                tenant.tenant_id,
                tenant.client_id,
                tenant.client_secret,
                world.api_url(),
                world.login_url(),
            )
            .unwrap();
        }
        writeln!(text, "sinks:\n{sinks}").unwrap();
        text
    }

    /// Writes a configuration of one's own.
    pub fn write_text(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
        // A configuration with secrets in it is not for everybody to read.
        std::fs::set_permissions(self.config(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The line of a sink that writes raw records to `name` in this directory.
    pub fn file_sink(&self, name: &str) -> String {
        format!("  - {{ name: disk, type: file, format: raw, path: {:?} }}\n", self.path(name))
    }

    /// Starts the real binary on this directory's configuration.
    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
        command.arg("run").arg("-c").arg(self.config()).args(arguments);
        self.spawn(command, environment)
    }

    fn spawn(&self, mut command: Command, environment: &[(&str, &str)]) -> Process {
        command.env("AUDITFERRY_LOG", std::env::var("AUDITFERRY_LOG").unwrap_or_else(|_| "info".into()));
        command.envs(environment.iter().copied());
        let log = self.path("log");
        let stderr = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Process { child: command.spawn().unwrap(), log }
    }

    /// The same where every file system is mounted read-only. Needs root, or user namespaces.
    pub fn start_read_only(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command.args(["-m", "--propagation", "private", "sh", "-c", READ_ONLY, "sh"]).arg(self.path("written"));
        command.arg(env!("CARGO_BIN_EXE_auditferry")).arg("run").arg("-c").arg(self.config()).args(arguments);
        self.spawn(command, environment)
    }

    /// Runs the binary with `--once` to its end.
    pub async fn run_once(&self, limit: Duration) -> ExitStatus {
        let seconds = format!("{}s", limit.as_secs());
        let mut process = self.start(&["--once", "--once-timeout", &seconds], &[]);
        process.wait(limit + Duration::from_secs(30)).await.expect("the run ends in time")
    }

    /// `state show --json`.
    pub fn ledger(&self) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
        let output = command.args(["state", "show", "--json", "--dir"]).arg(self.state_dir()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// All that its processes have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The end of the log, for a failing assertion.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// The day that comes so many days from now, as a configuration has it.
pub fn day_in(days: i64) -> String {
    let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(days * 24);
    day.strftime("%F").to_string()
}

/// The product as a process of its own; killed when dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Asks it to read its configuration anew.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Stops its time, as a machine does that hangs.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, at most `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.ended()
    }

    /// RssAnon in KiB as the kernel tells it, read from outside.
    pub fn rss_anon_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
    }

    /// CPU seconds used so far, user and system, all threads.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / 100.0)
    }

    /// The address of the admin listener, from the log.
    pub async fn admin(&self) -> Option<String> {
        for _ in 0..250 {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let address = log.lines().rev().find(|l| l.contains("admin listens")).and_then(|l| {
                let at = l.find("127.0.0.1:")?;
                Some(l[at..].chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect::<String>())
            });
            if address.is_some() {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hash of a record that does not depend on field order or spacing; 32 bytes.
pub type Hash = [u8; 32];

/// What the world served: every record that can be had, and those that cannot, by hash.
#[derive(Default)]
pub struct Served {
    pub reachable: HashSet<Hash>,
    /// Hash → why.
    pub unreachable: HashMap<Hash, String>,
}

/// Asks the simulator's books, in this process.
pub fn served(world: &SimulatorHandle) -> Served {
    let mut served = Served::default();
    for record in world.truth() {
        let hash = canonical_hash(&record.record);
        if record.reachable {
            served.reachable.insert(hash);
        } else {
            served.unreachable.insert(hash, record.reason.unwrap_or("unknown").to_owned());
        }
    }
    served
}

/// What arrived, against what was served.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub arrived: usize,
    /// Reachable and not arrived.
    pub lost: usize,
    /// Arrivals beyond the first of the same record.
    pub duplicates: usize,
    /// Arrived and never served so (changed on the way, or invented).
    pub foreign: usize,
    /// Unreachable by the world's books and arrived all the same (before they became so).
    pub lucky: usize,
}

/// Compares as multisets.
pub fn compare(served: &Served, arrived: impl IntoIterator<Item = Hash>) -> Comparison {
    let mut counts: HashMap<Hash, usize> = HashMap::new();
    for hash in arrived {
        *counts.entry(hash).or_default() += 1;
    }
    Comparison {
        arrived: counts.values().sum(),
        lost: served.reachable.iter().filter(|hash| !counts.contains_key(*hash)).count(),
        duplicates: counts.values().map(|count| count - 1).sum(),
        foreign: counts
            .keys()
            .filter(|h| !served.reachable.contains(*h) && !served.unreachable.contains_key(*h))
            .count(),
        lucky: counts.keys().filter(|hash| served.unreachable.contains_key(*hash)).count(),
    }
}

/// The hashes of the records in a file of raw NDJSON, rotated files included.
pub fn file_hashes(path: &Path) -> Vec<Hash> {
    let mut hashes = Vec::new();
    let rotated = (1..100).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    for file in std::iter::once(path.to_owned()).chain(rotated) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        hashes.extend(bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(canonical_hash));
    }
    hashes
}

/// The ledger's lost blobs, by content id, with the reason.
pub fn ledgered_lost(ledger: &serde_json::Value) -> BTreeMap<String, String> {
    let feeds = ledger["feeds"].as_array().unwrap();
    let lost = feeds.iter().flat_map(|feed| feed["ledger"]["lost"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    lost.map(|blob| (text(&blob["content_id"]), text(&blob["reason"]))).collect()
}
