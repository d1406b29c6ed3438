//! `setup`: what the clusters of elasticsearch sinks should have before the first document. Comes in: a configuration.
//! Goes out: a line on each step, and the exit code: 1 where something was refused, 3 where a cluster was not reached.

use std::io::Write as _;

use clap::Args;

use super::{ConfigArgs, Exit};
use crate::config::{SinkConfig, SinkKind};
use crate::sink::elasticsearch::{SetupOptions, Step, setup};

#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this sink.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Say what would be done and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace an index template of the same name that is not ours.
    #[arg(long)]
    force: bool,
}

/// Sets up one cluster after the other.
pub(super) async fn run(args: &SetupArgs) -> anyhow::Result<Exit> {
    let config = match crate::config::load(&args.config.config) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(Exit::Usage);
        }
    };
    let chosen = |sink: &&SinkConfig| args.sink.as_ref().is_none_or(|name| sink.name == *name);
    let sinks: Vec<_> = config
        .sinks
        .iter()
        .filter(chosen)
        .filter_map(|sink| match &sink.kind {
            SinkKind::Elasticsearch(elasticsearch) => Some((sink, elasticsearch)),
            _ => None,
        })
        .collect();
    if sinks.is_empty() {
        match &args.sink {
            Some(name) => eprintln!("the configuration has no sink `{name}` of type `elasticsearch`"),
            None => eprintln!("the configuration has no sink of type `elasticsearch`; other types need no set-up"),
        }
        return Ok(Exit::Usage);
    }
    let options = SetupOptions { dry_run: args.dry_run, force: args.force };
    let mut exit = Exit::Good;
    for (sink, elasticsearch) in sinks {
        writeln!(std::io::stdout(), "{}  {}", sink.name, sink.kind.target())?;
        let mut steps = Vec::new();
        let ended = setup(sink, elasticsearch, options, &mut steps).await;
        let mut out = std::io::stdout().lock();
        for step in &steps {
            writeln!(out, "  {step}")?;
        }
        if let Err(error) = ended {
            eprintln!("{error}");
            exit = Exit::Unreachable;
        } else if steps.iter().any(|step| matches!(step, Step::Refused(_))) && exit == Exit::Good {
            exit = Exit::No;
        }
    }
    Ok(exit)
}
