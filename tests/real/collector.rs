//! The OpenTelemetry Collector's own Splunk HEC receiver with its ack extension, and its OTLP receiver, built once from
//! the Go module proxy (`collector/main.go`), started and killed as a test wants. It loses what
//! it accepted and did not acknowledge when it is killed, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Daemon, free_port, install, installer, place};

/// What is built, and what names the build: a change of it is a new build.
const SOURCES: [(&str, &str); 3] = [
    ("main.go", include_str!("collector/main.go")),
    ("go.mod", include_str!("collector/go.mod")),
    ("go.sum", include_str!("collector/go.sum")),
];

fn binary() -> PathBuf {
    let mut hash = blake3::Hasher::new();
    for (_, text) in SOURCES {
        hash.update(text.as_bytes());
    }
    let name = format!("collector-0.135.0-{}", &hash.finalize().to_hex()[..12]);
    let built = install(&name, |dir| {
        for (name, text) in SOURCES {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "collector", "."]);
        go.current_dir(dir).env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        installer(&mut go);
    });
    built.join("collector")
}

/// A running receiver; everything of it is gone with this value.
pub struct Collector {
    daemon: Daemon,
    binary: PathBuf,
    port: u16,
    /// Its only flag, if any.
    flag: Option<&'static str>,
    dir: TempDir,
}

impl Collector {
    /// Starts it on a free port. Blocking, and the first time for as long as the build takes.
    pub fn start(with_ack: bool) -> Collector {
        Collector::start_with(with_ack.then_some("-ack"))
    }

    /// The same as a receiver of OTLP over HTTP.
    pub fn start_otlp() -> Collector {
        Collector::start_with(Some("-otlp"))
    }

    fn start_with(flag: Option<&'static str>) -> Collector {
        let (binary, port, dir) = (binary(), free_port(), place());
        let daemon = launch(&binary, port, flag, dir.path());
        Collector { daemon, binary, port, flag, dir }
    }

    /// What to configure as `url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Up again after a [`kill`](Self::kill), on the same port and file. Blocking.
    pub fn restart(&mut self) {
        self.daemon = launch(&self.binary, self.port, self.flag, self.dir.path());
    }

    /// What it has written: key and event of each.
    pub fn written(&self) -> Vec<(String, serde_json::Value)> {
        let lines = self.read().into_iter();
        lines.map(|mut line| (line["key"].as_str().unwrap().to_owned(), line["event"].take())).collect()
    }

    /// All that it has written of each event.
    pub fn read(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("events.ndjson")).unwrap_or_default();
        // The last line may be on its way.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many lines it has written.
    pub fn lines(&self) -> usize {
        let text = std::fs::read(self.dir.path().join("events.ndjson")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        self.daemon.log_end()
    }
}

fn launch(binary: &Path, port: u16, flag: Option<&str>, dir: &Path) -> Daemon {
    let mut command = Command::new(binary);
    command.arg("-listen").arg(format!("127.0.0.1:{port}")).arg("-out").arg(dir.join("events.ndjson"));
    command.args(flag);
    let mut daemon = Daemon::start(command, dir.join("log"));
    daemon.await_port(port, Duration::from_secs(20));
    daemon
}
