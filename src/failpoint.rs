//! Named points at which a test can end the process as a crash would: SIGKILL, no drop, no flush.
//! `AUDITFERRY_KILL_AT=step:n` ends it at the n-th time (1-based) that `step` is passed. Compiled in
//! only with the `failpoints` feature; without it [`pass`] is nothing. In the same way a record can hold
//! the word at which a step panics ([`panic_at`]).

/// The steps at which the kill bar strikes (tests/it/bars/kill.rs strikes at each of them).
pub const STEPS: [&str; 9] =
    ["list", "fetch", "part", "send", "ack", "journal_append", "journal_fsync", "snapshot_write", "snapshot_rename"];

/// Marks that `step` has just been done.
#[cfg(feature = "failpoints")]
pub fn pass(step: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let target = TARGET.get_or_init(|| {
        let (step, n) =
            std::env::var("AUDITFERRY_KILL_AT").ok()?.split_once(':').map(|(s, n)| (s.to_owned(), n.to_owned()))?;
        Some((step, n.parse().ok()?))
    });
    if let Some((wanted, n)) = target
        && wanted == step
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *n
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Marks that `step` has just been done.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pass(_step: &'static str) {}

/// Panics when `record` holds the word that a test plants for this stage: `auditferry-panics-at-<stage>`.
#[cfg(feature = "failpoints")]
#[expect(clippy::panic, reason = "this is what it is for")]
pub fn panic_at(stage: &'static str, record: &[u8]) {
    let word = format!("auditferry-panics-at-{stage}");
    if memchr::memmem::find(record, word.as_bytes()).is_some() {
        panic!("planted at {stage}: {}", String::from_utf8_lossy(record));
    }
}

/// Panics when `record` holds the word that a test plants for this stage.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn panic_at(_stage: &'static str, _record: &[u8]) {}
