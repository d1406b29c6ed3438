//! `config example`: the complete configuration with comments, to stdout.

use std::io::Write;

use super::Exit;
use crate::config::EXAMPLE;

/// Prints the example.
pub(super) fn example() -> anyhow::Result<Exit> {
    std::io::stdout().lock().write_all(EXAMPLE.as_bytes())?;
    Ok(Exit::Good)
}
