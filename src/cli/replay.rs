//! `replay`: dead letters back into the sinks, and what became of them. Comes in: a configuration. Goes out: a summary on
//! stdout, the log on stderr, and the exit code that says whether all were taken.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Exit, duration, run};
use crate::replay::{From, Options, ReplayError, Summary, replay};

/// The word that stands for the topic.
const TOPIC: &str = "topic";

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Send every letter to this sink, whoever refused it; may be given several times.
    #[arg(long = "sink", value_name = "NAME")]
    sinks: Vec<String>,
    /// A file of dead letters, or the word `topic`. Default: the configured file, else the topic.
    #[arg(long, value_name = "FILE|topic")]
    from: Option<PathBuf>,
    /// Say what would be sent where, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leave every letter where it is, whatever becomes of it.
    #[arg(long)]
    keep: bool,
    /// How long a sink may take nothing before it is given up.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    patience: Duration,
}

/// Replays as the arguments say.
pub(super) async fn execute(args: ReplayArgs) -> anyhow::Result<Exit> {
    let config = match crate::config::load(&args.config.config) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(Exit::Usage);
        }
    };
    let from = args.from.map(|path| if path.as_os_str() == TOPIC { From::Topic } else { From::File(path) });
    let dry_run = args.dry_run;
    let options = Options { sinks: args.sinks, from, dry_run, keep: args.keep, patience: args.patience };
    match replay(config, options, run::stop_signal()?).await {
        Ok(summary) => {
            print(&summary, dry_run, &mut std::io::stdout().lock())?;
            Ok(exit(&summary))
        }
        Err(error) => {
            eprintln!("{error}");
            Ok(match error {
                ReplayError::UnknownSink { .. } | ReplayError::NoTopic => Exit::Usage,
                _ => Exit::Unreachable,
            })
        }
    }
}

/// What is left to be done comes before what was refused.
fn exit(summary: &Summary) -> Exit {
    if summary.waiting > 0 || summary.was_stopped || !summary.unreachable.is_empty() {
        Exit::Unreachable
    } else if summary.refused > 0 || summary.unfit() > 0 || summary.is_more {
        Exit::No
    } else {
        Exit::Good
    }
}

fn print(summary: &Summary, dry_run: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if summary.read == 0 && !summary.is_more {
        return writeln!(out, "there are no dead letters");
    }
    let Summary { read, taken, refused, waiting, unfit, unreachable, was_stopped, is_more } = summary;
    if dry_run {
        writeln!(out, "{read} letters, {taken} would be sent; nothing was")?;
    } else {
        writeln!(out, "{read} letters: {taken} taken, {refused} refused again, {waiting} not taken")?;
    }
    for (why, count) in unfit {
        writeln!(out, "  {count} stay: {}", super::logging::escaped(why))?;
    }
    for sink in unreachable {
        writeln!(out, "  sink `{sink}` took nothing; the log says why")?;
    }
    if *was_stopped {
        writeln!(out, "  stopped before the end; the rest is where it was")?;
    }
    if *is_more {
        writeln!(out, "  these were of a replay that was cut short; there are newer ones: replay again")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_all_were_taken() {
        let good = Summary { read: 2, taken: 2, ..Summary::default() };
        assert_eq!((exit(&Summary::default()), exit(&good)), (Exit::Good, Exit::Good));
        assert_eq!(exit(&Summary { refused: 1, ..good.clone() }), Exit::No);
        assert_eq!(exit(&Summary { unfit: [("x".into(), 1)].into(), ..good.clone() }), Exit::No);
        assert_eq!(exit(&Summary { is_more: true, ..good.clone() }), Exit::No);
        assert_eq!(exit(&Summary { refused: 1, waiting: 1, ..good.clone() }), Exit::Unreachable);
        assert_eq!(exit(&Summary { was_stopped: true, ..good }), Exit::Unreachable);
    }

    #[test]
    fn the_summary_names_what_stays() {
        let summary = Summary {
            read: 4,
            taken: 1,
            refused: 1,
            waiting: 1,
            unfit: [("of sink `x`".into(), 1)].into(),
            unreachable: vec!["hec".into()],
            was_stopped: true,
            is_more: true,
        };
        let mut out = Vec::new();
        print(&summary, false, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        4 letters: 1 taken, 1 refused again, 1 not taken
          1 stay: of sink `x`
          sink `hec` took nothing; the log says why
          stopped before the end; the rest is where it was
          these were of a replay that was cut short; there are newer ones: replay again
        ");
    }
}
