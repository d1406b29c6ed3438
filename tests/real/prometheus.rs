//! Prometheus, promtool and Alertmanager of Debian, fetched once without being installed. Prometheus scrapes what a
//! test names once a second; Alertmanager takes what it fires. Everything listens on loopback.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Daemon, free_port, install, place};

const PACKAGES: [&str; 2] = ["prometheus", "prometheus-alertmanager"];

/// The directory of the programs.
pub fn programs() -> PathBuf {
    install("prometheus-debian", fetch).join("usr/bin")
}

fn fetch(dir: &Path) {
    let help = "the tests need Prometheus 2.42 and Alertmanager 0.25 or later as Debian packages; if there are no lists: \
                sudo apt-get update. Elsewhere: put prometheus, promtool and prometheus-alertmanager into usr/bin of \
                ~/.cache/auditferry/real/prometheus-debian";
    let run = |command: &mut Command| {
        let output = command.current_dir(dir).output().unwrap_or_else(|error| panic!("{command:?}: {error}; {help}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?} failed: {said}\n{help}");
    };
    run(Command::new("apt-get").arg("download").args(PACKAGES));
    let packages = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for package in packages.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect::<Vec<_>>() {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(dir));
        std::fs::remove_file(package).unwrap();
    }
    let program = dir.join("usr/bin/prometheus-alertmanager");
    let patched = look_here(std::fs::read(&program).unwrap());
    std::fs::write(&program, patched).unwrap();
}

/// Debian's Alertmanager ends if it finds no template below /usr/share, where only an installed package puts it: its
/// directory becomes one of the same length, the working one.
fn look_here(mut program: Vec<u8>) -> Vec<u8> {
    let (share, here) = (b"/usr/share/prometheus/alertmanager", "./".repeat(17));
    let places: Vec<usize> = memchr::memmem::find_iter(&program, share).collect();
    // Those that go on are of its pages, which nobody asks for.
    for at in places {
        if program.get(at + share.len()) != Some(&b'/') {
            program[at..at + share.len()].copy_from_slice(here.as_bytes());
        }
    }
    program
}

/// promtool with these arguments in `dir`; what it said.
///
/// # Errors
/// What it said when it was not content.
pub fn promtool(dir: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let file = place();
    let path = file.path().join("input");
    std::fs::write(&path, input).unwrap();
    let mut command = Command::new(programs().join("promtool"));
    command.args(arguments).current_dir(dir).stdin(std::fs::File::open(path).unwrap());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// A running Prometheus.
pub struct Prometheus {
    daemon: Daemon,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes `targets` (`host:port`) once a second as job `auditferry`, with these rules, telling this
    /// Alertmanager. Blocking.
    pub fn start(targets: &[String], rules: &str, alertmanager: Option<&Alertmanager>) -> Prometheus {
        let (programs, port, dir) = (programs(), free_port(), place());
        let mut config = String::from("global: { scrape_interval: 1s, evaluation_interval: 1s, scrape_timeout: 1s }\n");
        writeln!(config, "rule_files: [rules.yaml]\nscrape_configs:").unwrap();
        writeln!(config, "  - {{ job_name: auditferry, static_configs: [{{ targets: {targets:?} }}] }}").unwrap();
        if let Some(Alertmanager { port, .. }) = alertmanager {
            writeln!(
                config,
                "alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}] }}"
            )
            .unwrap();
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(dir.path().join("rules.yaml"), rules).unwrap();
        let mut command = Command::new(programs.join("prometheus"));
        command.current_dir(dir.path()).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut daemon = Daemon::start(command, dir.path().join("log"));
        daemon.await_port(port, Duration::from_secs(20));
        Prometheus { daemon, port, _dir: dir }
    }

    /// The series that an expression yields now.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        self.ask("query", &[("query", expression)]).await
    }

    /// The series that it yielded over the last `seconds`, a point a second.
    pub async fn query_range(&self, expression: &str, seconds: i64) -> Vec<Value> {
        let now = jiff::Timestamp::now().as_second();
        let (from, to) = ((now - seconds).to_string(), now.to_string());
        self.ask("query_range", &[("query", expression), ("start", &from), ("end", &to), ("step", "1")]).await
    }

    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{what}", self.port);
        let answer = reqwest::Client::new().post(url).form(parameters).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {}", self.daemon.log_end())).text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// A running Alertmanager, which tells nobody.
pub struct Alertmanager {
    daemon: Daemon,
    port: u16,
    _dir: TempDir,
}

impl Alertmanager {
    /// Blocking.
    pub fn start() -> Alertmanager {
        let (programs, port, dir) = (programs(), free_port(), place());
        std::fs::write(dir.path().join("am.yml"), "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n")
            .unwrap();
        for template in ["default.tmpl", "email.tmpl"] {
            let kept = programs.join("../share/prometheus/alertmanager").join(template);
            std::fs::copy(kept, dir.path().join(template)).unwrap();
        }
        let mut command = Command::new(programs.join("prometheus-alertmanager"));
        command.current_dir(dir.path()).args([
            "--config.file=am.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
        ]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut daemon = Daemon::start(command, dir.path().join("log"));
        daemon.await_port(port, Duration::from_secs(20));
        Alertmanager { daemon, port, _dir: dir }
    }

    /// The alerts that are firing now.
    pub async fn firing(&self) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v2/alerts?active=true", self.port);
        let answer = reqwest::Client::new().get(url).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {}", self.daemon.log_end())).text().await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}
