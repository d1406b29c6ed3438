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

/// Whether the call of this step (`commit.before`, `commit.after` …) by `whom` is to fail now: by chance at the
/// rate in `AUDITFERRY_FAIL_RATE`, or because a test has [`arm`]ed it.
#[cfg(feature = "failpoints")]
pub fn fails(step: &str, whom: &str) -> bool {
    use std::sync::OnceLock;
    static RATE: OnceLock<f64> = OnceLock::new();
    let rate = RATE
        .get_or_init(|| std::env::var("AUDITFERRY_FAIL_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(0.0));
    let armed = {
        let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = armed.iter().position(|(planned, who)| planned == step && who == whom);
        at.map(|at| armed.remove(at)).is_some()
    };
    let fails = armed || (*rate > 0.0 && fastrand::f64() < *rate);
    if fails {
        tracing::warn!(step, "an error is injected");
    }
    fails
}

#[cfg(feature = "failpoints")]
static ARMED: std::sync::Mutex<Vec<(String, String)>> = std::sync::Mutex::new(Vec::new());

/// Lets the next call of this step by `whom` fail.
#[cfg(feature = "failpoints")]
pub fn arm(step: &str, whom: &str) {
    ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((step.to_owned(), whom.to_owned()));
}

/// Nothing fails by order.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn fails(_step: &str, _whom: &str) -> bool {
    false
}

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
