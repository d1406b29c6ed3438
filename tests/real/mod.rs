//! Real servers for the tests: how they come onto this machine, once, and how they are started and
//! ended. One file a server. What cannot be fetched or started fails the test that needs it, with
//! what the installer said; nothing is skipped.

pub mod cef;
pub mod collector;
pub mod kafka;
pub mod kubernetes;
pub mod memory_limit;
pub mod opensearch;
pub mod pod;
pub mod prometheus;
pub mod syslog;

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Where fetched servers are kept between runs; a test run on a machine without it fetches them anew.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("auditferry/real")
}

/// The directory of the server `name` (with its version in it), made by `fetch` if it is not there.
/// `fetch` fills an empty directory, which is renamed into place when it is whole: a fetch that broke
/// off is begun anew. Two test runs at once wait for each other.
pub fn install(name: &str, fetch: impl FnOnce(&Path)) -> PathBuf {
    let (cache, place) = (cache(), cache().join(name));
    std::fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join(format!("{name}.lock"))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !place.exists() {
        eprintln!("fetching {name} for the tests, once ...");
        let scratch = tempfile::tempdir_in(&cache).unwrap();
        fetch(scratch.path());
        std::fs::rename(scratch.keep(), &place).unwrap();
    }
    place
}

/// Runs an installer's command to its end and fails with all that it said.
pub fn installer(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("`{:?}` is needed by the tests: {error}", command.get_program()));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&said));
}

/// Programs of Debian with what they need, unpacked and not installed.
pub fn debian(name: &str, packages: &[&str]) -> PathBuf {
    install(&format!("{name}-debian"), |dir| unpack(dir, packages, name))
}

fn unpack(dir: &Path, packages: &[&str], name: &str) {
    let help = format!(
        "the tests need {name} as a Debian package (bookworm, amd64); if there are no lists: sudo apt-get update"
    );
    let run = |command: &mut Command| {
        let output = command.current_dir(dir).output().unwrap_or_else(|error| panic!("{command:?}: {error}; {help}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?} failed: {said}\n{help}");
    };
    run(Command::new("apt-get").arg("download").args(packages));
    let packages = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for package in packages.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect::<Vec<_>>() {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(dir));
        std::fs::remove_file(package).unwrap();
    }
}

/// An authority of its own, and its certificate in PEM.
pub fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), certificate)
}

/// A free port of loopback, as far as anybody can know.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running server of ours: its output goes to a file, and it ends with this value.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it says is appended to `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Daemon {
        let output = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Daemon { child, log }
    }

    /// Waits until `port` of loopback takes connections. Fails with the log's end when the server ended or the time is over.
    pub fn await_port(&mut self, port: u16, limit: Duration) {
        let (began, address) = (Instant::now(), SocketAddr::from(([127, 0, 0, 1], port)));
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < limit, "no server on {port} ({ended:?}):\n{}", self.log_end());
            pause();
        }
    }

    /// The last lines of what it said.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits; SIGKILL after `limit`.
    pub fn stop(&mut self, limit: Duration) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let began = Instant::now();
        while began.elapsed() < limit && self.child.try_wait().unwrap().is_none() {
            pause();
        }
        self.kill();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Servers are started and ended outside of any runtime, or on a thread that may block.
#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// A directory of one server's data and logs, gone with the test.
pub fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}
