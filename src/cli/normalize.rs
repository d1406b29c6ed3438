//! `normalize`: audit records from files or standard input to what a sink would get, one line each,
//! in order; no network.

use super::{Exit, NormalizeArgs};

/// Turns records into lines on stdout.
pub(super) fn normalize(args: NormalizeArgs) -> anyhow::Result<Exit> {
    // SEAM pipeline: split, normalize and write, one line a record.
    let NormalizeArgs { files, format, config } = args;
    tracing::debug!(?files, ?format, ?config, "normalize");
    anyhow::bail!("`normalize` is not wired in this tree")
}
