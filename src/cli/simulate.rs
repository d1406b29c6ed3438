//! `simulate` (a stand-in with the agreed signatures; the real one is written elsewhere)

/// How the simulator is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {}

/// Serves until told to stop.
pub async fn run(_args: SimulateArgs) -> anyhow::Result<()> {
    anyhow::bail!("`simulate` is not in this tree")
}
