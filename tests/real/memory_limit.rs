//! A memory limit as Kubernetes sets it: a cgroup of version 1 or 2, whichever this machine has and lets us make. Comes in:
//! bytes. Goes out: where a process enters, the peak, how often it was too little. Removed with its value.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::pause;

/// A cgroup with a memory limit, of either version; removed when dropped.
pub struct MemoryLimit {
    dir: PathBuf,
    version: u8,
}

impl MemoryLimit {
    /// `None` where this machine lets us make none.
    pub fn new(bytes: u64) -> Option<MemoryLimit> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = |controller: &str| {
            let line = own.lines().find(|line| line.split(':').nth(1) == Some(controller));
            line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/").trim_start_matches('/').to_owned()
        };
        let name = format!("auditferry-pod-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let first = Path::new("/sys/fs/cgroup/memory");
        let places = [(1, first.join(own("memory"))), (1, first.to_owned())].into_iter();
        let second = Path::new("/sys/fs/cgroup");
        let places = places.chain([(2, second.join(own(""))), (2, second.to_owned())]);
        for (version, place) in places {
            let limit = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
            if !place.join("cgroup.procs").exists() || (version == 2 && !place.join("cgroup.controllers").exists()) {
                continue;
            }
            let made = MemoryLimit { dir: place.join(&name), version };
            if std::fs::create_dir(&made.dir).is_err() {
                continue;
            }
            let file = made.dir.join(limit);
            if file.exists() && std::fs::write(&file, bytes.to_string()).is_ok() {
                // As Kubernetes has it: what does not fit is not swapped out.
                let swap = if version == 1 { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
                let none = if version == 1 { bytes } else { 0 };
                let _ = std::fs::write(made.dir.join(swap), none.to_string());
                return Some(made);
            }
        }
        None
    }

    /// What a process writes itself into.
    pub fn entrance(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub fn version(&self) -> u8 {
        self.version
    }

    /// The most that was charged, page cache included; bytes. Unknown before Linux 5.19 in version 2.
    pub fn peak(&self) -> Option<u64> {
        let name = if self.version == 1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        std::fs::read_to_string(self.dir.join(name)).ok()?.trim().parse().ok()
    }

    /// How often something was killed for want of memory.
    pub fn kills(&self) -> u64 {
        let name = if self.version == 1 { "memory.oom_control" } else { "memory.events" };
        let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            pause();
        }
    }
}
