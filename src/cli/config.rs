//! `config example`: the complete configuration with comments; `config schema`: what may stand in one, for
//! editors and tests. Both to stdout.

use std::io::Write;

use super::Exit;
use crate::config::{EXAMPLE, schema as schema_of_the_file};

/// Prints the example.
pub(super) fn example() -> anyhow::Result<Exit> {
    std::io::stdout().lock().write_all(EXAMPLE.as_bytes())?;
    Ok(Exit::Good)
}

/// Prints the JSON Schema.
pub(super) fn schema() -> anyhow::Result<Exit> {
    let text = serde_json::to_string_pretty(&schema_of_the_file())?;
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(Exit::Good)
}
