//! A container of a rendered pod as a process of this machine: the same command, variables, volumes, user,
//! read-only root, capabilities and memory limit, in a root that holds only what the image has. Starts and ends it
//! as a kubelet does. Needs util-linux and Python; root, or user namespaces.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::memory_limit::MemoryLimit;
use super::pause;

const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/kubernetes/pod.py");
/// Where the Dockerfile puts the binary.
pub const BINARY: &str = "/usr/local/bin/auditferry";

/// What `gcr.io/distroless/cc-debian12` has of shared libraries: Debian's libc6, libgcc-s1, libgomp1, libstdc++6 and
/// OpenSSL (of its `base`). No zlib, no zstd, no libcap.
pub const LIBRARIES: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libBrokenLocale.so.1",
    "libanl.so.1",
    "libatomic.so.1",
    "libc.so.6",
    "libcrypto.so.3",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libgomp.so.1",
    "libitm.so.1",
    "libm.so.6",
    "libmvec.so.1",
    "libnsl.so.1",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libssl.so.3",
    "libstdc++.so.6",
    "libthread_db.so.1",
    "libutil.so.1",
];

/// The bundle that the image has; without one the program cannot even make a client.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Everything outside of the pod: the directories behind its volumes, by volume name.
pub struct Node {
    dir: TempDir,
    volumes: BTreeMap<String, PathBuf>,
}

impl Node {
    pub fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        // Who is in the pod must be able to pass through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Node { dir, volumes: BTreeMap::new() }
    }

    /// A volume as the kubelet makes it for `fsGroup`: owned by root, open to the group.
    pub fn volume(&mut self, name: &str, group: u32, files: &[(&str, &str)]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        for (name, text) in files {
            let file = path.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
            give(&file, group);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o2775)).unwrap();
        give(&path, group);
        self.volumes.insert(name.to_owned(), path.clone());
        path
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Starts the first container of a pod's spec, and waits until its own process runs.
    pub fn start(&self, spec: &Value, limit: Option<&MemoryLimit>) -> Pod {
        let mut pod = self.launch(spec, limit);
        pod.find(self);
        pod
    }

    /// The same, without waiting.
    pub fn launch(&self, spec: &Value, limit: Option<&MemoryLimit>) -> Pod {
        let container = &spec["containers"][0];
        let (pod_security, security) = (&spec["securityContext"], &container["securityContext"]);
        let of = |key: &str| security[key].as_u64().or(pod_security[key].as_u64());
        let (uid, gid) = (of("runAsUser").unwrap_or(65532), of("runAsGroup").unwrap_or(65532));
        let is_root = geteuid().is_root();
        let groups: Vec<u64> = pod_security["fsGroup"].as_u64().into_iter().collect();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let dropped = list(&security["capabilities"]["drop"]).contains(&json!("ALL"));
        let mut command = list(&container["command"]);
        if command.is_empty() {
            command.push(json!(BINARY));
        }
        command.extend(list(&container["args"]));
        let root = tempfile::tempdir_in(self.dir.path()).unwrap();
        let launch = json!({
            "root": root.path(), "image": image(), "volumes": self.mounts(spec, container), "command": command,
            "environment": environment(container), "uid": uid, "gid": gid, "groups": groups,
            "become_user": is_root, "drop_capabilities": dropped,
            "read_only_root": security["readOnlyRootFilesystem"] == true,
            "no_new_privileges": security["allowPrivilegeEscalation"] == false,
            "cgroup": limit.map(MemoryLimit::entrance),
        });
        let file = root.path().with_extension("json");
        std::fs::write(&file, launch.to_string()).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child=KILL"]);
        if !is_root {
            unshare.args(["--user", "--keep-caps", "--map-user"]).arg(uid.to_string());
            unshare.arg("--map-group").arg(gid.to_string());
        }
        let log = std::fs::File::options().append(true).create(true).open(self.log()).unwrap();
        unshare.args(["--", "python3", LAUNCHER]).arg(&file);
        unshare.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = unshare.spawn().unwrap_or_else(|error| panic!("`unshare` of util-linux is needed: {error}"));
        Pod { child, inner: None, ended: None, _root: root }
    }

    fn mounts(&self, spec: &Value, container: &Value) -> Vec<Value> {
        let volumes = spec["volumes"].as_array().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mount = |mount: &Value| {
            let name = mount["name"].as_str().unwrap();
            let volume =
                volumes.iter().find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("no volume `{name}`"));
            let source = self.volumes.get(name).unwrap_or_else(|| panic!("the node has no volume `{name}`"));
            // What the kubelet projects is read-only however it is mounted.
            let projected = ["configMap", "secret", "projected"].iter().any(|kind| volume[kind].is_object());
            json!({ "source": source, "path": mount["mountPath"], "read_only": projected || mount["readOnly"] == true })
        };
        mounts.map(mount).collect()
    }
}

/// Gives a file to the pod's group; in a user namespace everything of ours is the pod's anyway.
fn give(path: &Path, group: u32) {
    if geteuid().is_root() {
        chown(path, Some(0), Some(group)).unwrap();
    }
}

/// What the image holds, by place on this machine and in the image.
fn image() -> Vec<(String, String)> {
    let binary = env!("CARGO_BIN_EXE_auditferry");
    let mut image = vec![(binary.to_owned(), BINARY.to_owned())];
    let output = Command::new("ldd").arg(binary).output().expect("`ldd` is there");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // `libm.so.6 => /lib/…/libm.so.6 (0x…)`, and the loader by its path alone.
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        let Some(path) = path else { continue };
        if LIBRARIES.contains(&path.rsplit('/').next().unwrap()) {
            image.push((path.to_owned(), path.to_owned()));
        }
    }
    assert!(Path::new(AUTHORITIES).exists(), "{AUTHORITIES} is missing: sudo apt-get install -y ca-certificates");
    image.extend(
        [AUTHORITIES, "/etc/hosts", "/etc/resolv.conf"]
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| ((*path).to_owned(), (*path).to_owned())),
    );
    image
}

fn environment(container: &Value) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("SSL_CERT_FILE".to_owned(), AUTHORITIES.to_owned()),
    ]);
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = variable["value"].as_str().expect("only plain values are known here");
        environment.insert(variable["name"].as_str().unwrap().to_owned(), value.to_owned());
    }
    environment
}

/// A running container; killed when dropped.
pub struct Pod {
    child: Child,
    /// Process 1 of the container, as this machine numbers it.
    inner: Option<Pid>,
    ended: Option<ExitStatus>,
    _root: TempDir,
}

impl Pod {
    /// Waits until the container's own process runs.
    fn find(&mut self, node: &Node) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            let said =
                || format!("the container did not start (root or user namespaces are needed):\n{}", node.log_end());
            let outer = self.child.id();
            let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
            self.inner = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
            let name = |pid: Pid| std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
            if self.inner.is_some_and(|pid| name(pid).is_ok_and(|name| name.trim() == "auditferry")) {
                return;
            }
            assert!(self.ended().is_none(), "{}", said());
            pause();
        }
        panic!("the container did not start in 20 s:\n{}", node.log_end());
    }

    /// A file of `/proc` of the container's first process.
    pub fn proc(&self, name: &str) -> String {
        let pid = self.inner.unwrap().as_raw_nonzero();
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap()
    }

    /// A value of `/proc/…/status`.
    pub fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Ends it as a kubelet does: SIGTERM, and SIGKILL after the grace period. How long it took, the exit code if
    /// it ended by itself, and otherwise the signal.
    pub async fn delete(mut self, grace: Duration) -> (Duration, Result<i32, i32>) {
        let began = Instant::now();
        let _ = kill_process(self.inner.unwrap(), Signal::TERM);
        while began.elapsed() < grace && self.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let taken = began.elapsed();
        if self.ended().is_none() {
            self.kill();
            return (taken, Err(Signal::KILL.as_raw()));
        }
        let status = self.ended().unwrap();
        (taken, status.code().ok_or_else(|| status.signal().unwrap_or_default()))
    }

    /// SIGKILL, as when the node fails. Returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(pid) = self.inner.take_if(|_| self.ended.is_none()) {
            let _ = kill_process(pid, Signal::KILL);
            // `unshare` ends when what it forked is gone.
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(5) && self.ended().is_none() {
                pause();
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whom files made outside belong to: the pod's group, or ourselves without root.
pub fn group(spec: &Value) -> u32 {
    let group = spec["securityContext"]["fsGroup"].as_u64().and_then(|group| u32::try_from(group).ok());
    group.unwrap_or_else(|| getegid().as_raw())
}
