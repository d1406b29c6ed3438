//! Syslog receivers: rsyslog and syslog-ng of Debian, fetched once without being installed. Each writes what it has read
//! as a line of JSON: time, pri, host, app, process, id, data (structured), msg. Everything listens on loopback.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::{Daemon, authority, debian, pause, place};

const START: Duration = Duration::from_secs(30);
const LISTENERS: [&str; 8] = ["udp", "tcp", "newline", "old", "tls", "mtls", "expired", "elsewhere"];

/// Which receiver, and by which library rsyslog has its TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RsyslogGnutls,
    RsyslogOpenssl,
    SyslogNg,
}

/// A receiver with its certificates. Its files outlive a restart.
pub struct Receiver {
    dir: TempDir,
    kind: Kind,
    ports: HashMap<&'static str, u16>,
    daemon: Mutex<Option<Daemon>>,
}

impl Receiver {
    /// Blocking.
    pub fn start(kind: Kind) -> Receiver {
        let dir = place();
        certificates(dir.path());
        let receiver = Receiver { dir, kind, ports: free_ports(), daemon: Mutex::new(None) };
        receiver.start_again();
        receiver
    }

    pub fn port(&self, listener: &str) -> u16 {
        self.ports[listener]
    }

    /// `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`, and the sockets.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log_end(&self) -> String {
        self.daemon.lock().unwrap().as_ref().map(Daemon::log_end).unwrap_or_default()
    }

    /// Ends it in order.
    pub fn stop(&self) {
        if let Some(mut daemon) = self.daemon.lock().unwrap().take() {
            daemon.stop(Duration::from_secs(10));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        if let Some(mut daemon) = self.daemon.lock().unwrap().take() {
            daemon.kill();
        }
    }

    /// Stops its process where it stands, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let daemon = self.daemon.lock().unwrap();
        let pid = Pid::from_raw(daemon.as_ref().unwrap().pid() as i32).unwrap();
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// Blocking; returns when it listens.
    pub fn start_again(&self) {
        let dir = self.dir.path();
        let (template, mut command) = match self.kind {
            Kind::SyslogNg => (include_str!("syslog/syslog-ng.conf"), syslog_ng(dir)),
            Kind::RsyslogGnutls | Kind::RsyslogOpenssl => (include_str!("syslog/rsyslog.conf"), rsyslog(dir)),
        };
        let driver = if self.kind == Kind::RsyslogOpenssl { "ossl" } else { "gtls" };
        let mut text = template.replace("@dir@", &dir.to_string_lossy()).replace("@driver@", driver);
        for (name, port) in &self.ports {
            text = text.replace(&format!("@{name}@"), &port.to_string());
        }
        std::fs::write(dir.join("conf"), text).unwrap();
        command.current_dir(dir);
        let mut daemon = Daemon::start(command, dir.join("log.txt"));
        daemon.await_port(self.ports["tcp"], START);
        daemon.await_port(self.ports["tls"], START);
        *self.daemon.lock().unwrap() = Some(daemon);
    }

    /// What it has written so far, line by line as it stands.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read(self.file("out.json")).unwrap_or_default();
        let text = String::from_utf8(text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The messages that it has written.
    pub fn messages(&self) -> Vec<Value> {
        let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.lines().iter().map(read).collect()
    }

    /// Waits until it has written so many, and a moment for more. Blocking.
    pub fn await_messages(&self, count: usize) -> Vec<Value> {
        let began = Instant::now();
        while self.lines().len() < count {
            let found = self.lines().len();
            assert!(began.elapsed() < START, "{found} of {count} messages:\n{}", self.log_end());
            pause();
        }
        pause();
        self.messages()
    }
}

/// Below the range that outgoing connections are given, so that none takes a port while its server is away.
fn free_ports() -> HashMap<&'static str, u16> {
    let mut found = Vec::new();
    while found.len() < LISTENERS.len() {
        found.extend(TcpListener::bind(("127.0.0.1", fastrand::u16(20_000..32_000))));
    }
    LISTENERS.into_iter().zip(&found).map(|(name, port)| (name, port.local_addr().unwrap().port())).collect()
}

/// An installed one, or that of the packages.
fn program(name: &str, root: &Path) -> PathBuf {
    root.join("usr/sbin").join(name)
}

fn rsyslog(dir: &Path) -> Command {
    let packages =
        ["rsyslog", "rsyslog-gnutls", "rsyslog-openssl", "libestr0", "libfastjson4", "liblognorm5"].as_slice();
    let root = debian("rsyslog", packages);
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(program("rsyslogd", &root));
    command.env("LD_LIBRARY_PATH", &libraries).arg("-n").arg("-M").arg(libraries.join("rsyslog"));
    command.arg("-f").arg(dir.join("conf")).arg("-i").arg(dir.join("pid"));
    command
}

fn syslog_ng(dir: &Path) -> Command {
    let packages =
        ["syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libpcre3", "libjson-c5", "libglib2.0-0"].as_slice();
    let root = debian("syslog-ng", packages);
    let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng", "usr/lib/syslog-ng/3.38"];
    let libraries = libraries.map(|path| root.join(path).to_string_lossy().into_owned()).join(":");
    let mut command = Command::new(program("syslog-ng", &root));
    command.env("LD_LIBRARY_PATH", libraries).args(["-F", "--no-caps", "--module-path"]);
    command.arg(root.join("usr/lib/syslog-ng/3.38")).arg("-f").arg(dir.join("conf"));
    for (option, name) in [("-R", "persist"), ("-c", "control"), ("-p", "pid")] {
        command.arg(option).arg(dir.join(name));
    }
    command
}

/// An authority, certificates that it signed for a client and for servers (right, expired, of another name), and an
/// authority that nobody trusts.
fn certificates(dir: &Path) {
    let (issuer, ca) = authority("auditferry tests");
    let (other_issuer, other) = authority("somebody else");
    let server_key = KeyPair::generate().unwrap();
    let signed = |name: &str, hosts: &[&str], year: i32, key: &KeyPair, issuer: &Issuer<'_, KeyPair>| {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.signed_by(key, issuer).unwrap().pem()
    };
    let client_key = KeyPair::generate().unwrap();
    for (name, text) in [
        ("ca.pem", ca.clone()),
        ("other-ca.pem", other),
        ("server.pem", signed("localhost", &["localhost", "127.0.0.1"], 2100, &server_key, &issuer)),
        ("expired.pem", signed("localhost", &["localhost", "127.0.0.1"], 2020, &server_key, &issuer)),
        ("elsewhere.pem", signed("elsewhere", &["elsewhere.example"], 2100, &server_key, &issuer)),
        ("server.key", server_key.serialize_pem()),
        ("client.pem", signed("auditferry", &["auditferry"], 2100, &client_key, &issuer)),
        ("stranger.pem", signed("auditferry", &["auditferry"], 2100, &client_key, &other_issuer)),
        ("client.key", client_key.serialize_pem()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}
