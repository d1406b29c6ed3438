//! `demo`: for now only its place.

use super::{DemoArgs, DemoFormat, Exit};

/// Shows the whole thing at work.
pub(super) async fn demo(args: DemoArgs) -> anyhow::Result<Exit> {
    tracing::debug!(?args.period, %args.admin, raw = args.format == DemoFormat::Raw, "demo");
    anyhow::bail!("`demo` is not wired in this tree")
}
