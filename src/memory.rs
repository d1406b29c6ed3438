#![allow(unsafe_code, reason = "the allocator's settings can be reached in no other way; see the decision record")]
//! How glibc's allocator is told to give memory back, how much the process may have and how much it has. Comes in:
//! nothing. Goes out: two settings, made before the first thread starts, and two numbers. Nothing else of the process is touched.
//!
//! Left alone, glibc raises the size from which a block gets a mapping of its own up to 32 MiB, and
//! every thread gets heaps of its own. hyper's read buffers of up to 400 KiB then lie between small,
//! longer-lived pieces, and a backlog of two million records ends at 180 MiB where 110 do
//! (docs/decisions/009, `make bars`).

/// From this size a block is a mapping of its own, given back the moment it is freed. glibc's own
/// starting value, which setting it keeps from growing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 * 1024;
/// Heaps that threads share. The work is done by as many threads as cores, mostly in large blocks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;

/// What the cgroup of this process may use, bytes; `None`: there is no limit, or nobody says. In a container
/// the cgroup shows itself at the root; elsewhere the process's own path leads to it. Version 2, then 1.
pub fn limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_end_matches('/').to_owned();
    let paths = [format!("{own}/memory.max"), "/memory.max".to_owned(), "/memory/memory.limit_in_bytes".to_owned()];
    let text = paths.iter().find_map(|path| std::fs::read_to_string(format!("/sys/fs/cgroup{path}")).ok())?;
    // Version 1 says "no limit" by a number near 2^63.
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 50)
}

/// `RssAnon` of this process, bytes: its memory without mapped files (the program, the pages of keys), which the kernel
/// takes back at need; `None`: the system does not tell. What grows when something leaks.
pub fn anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Makes the settings. Call it first, once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: mallopt takes two integers and is called before any other thread exists; a setting that it
    // does not know it refuses with 0, which leaves everything as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
