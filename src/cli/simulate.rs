//! `simulate`: the simulated Management Activity API as a server.

use super::{Exit, SimulateArgs};

/// Serves until told to stop.
pub(super) async fn simulate(args: SimulateArgs) -> anyhow::Result<Exit> {
    // SEAM simulator: start the world that `args` describes, print its ready line, serve until a signal.
    let SimulateArgs { listen, scenario, seed, tenants, records, speed } = args;
    tracing::debug!(%listen, ?scenario, seed, tenants, records, speed, "simulate");
    anyhow::bail!("`simulate` is not wired in this tree")
}
