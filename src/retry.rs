//! retry (stub)
use crate::clock::Seconds;
use std::time::Duration;
pub fn parse_retry_after(_text: &str, _now: Seconds) -> Option<Duration> {
    None
}
