//! Drives one reader of `auditferry::fuzzing` by coverage; `AUDITFERRY_FUZZ` names it. One binary
//! for all, because each would link the whole product anew.
#![no_main]

use std::sync::OnceLock;

use auditferry::fuzzing::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    (TARGET.get_or_init(chosen).run)(bytes);
});

fn chosen() -> Target {
    let name = std::env::var("AUDITFERRY_FUZZ").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    *target.unwrap_or_else(|| panic!("AUDITFERRY_FUZZ={name}: give one of {}", names.join(" ")))
}
