#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking to a person is what this room is for")]
//! The command line: one file a verb; parse, call the library, print. Comes in: arguments. Goes out:
//! an [`Exit`] for `main`. Nothing here decides anything about records.

mod banner;
mod config;
mod demo;
mod explain;
mod logging;
mod normalize;
mod replay;
mod run;
mod setup;
mod simulate;
mod state;
mod validate;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use logging::LogFormat;
#[cfg(feature = "failpoints")]
pub(crate) use normalize::trial::read as input_trial;

/// How the process ends; the number is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Good = 0,
    /// The answer is no: a bad configuration, a loss, dead letters.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// A tenant, a sink or an address could not be reached or used.
    Unreachable = 3,
    /// The state directory cannot be used.
    State = 4,
}

const EXIT_CODES: &str = "Exit codes: 0 good, 1 the answer is no, 2 wrong usage, 3 something outside failed
or time ran out, 4 state unusable.
Try `auditferry demo`: it needs no tenant and no file.";

/// Carries Microsoft 365 audit records into the SIEM you already run.
#[derive(Debug, Parser)]
#[command(name = "auditferry", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How the log on stderr is written.
    #[arg(long, value_enum, default_value_t, global = true)]
    log_format: LogFormat,
    /// Say less (twice: errors only).
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "verbose")]
    quiet: u8,
    /// Say more (twice: everything).
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forward until told to stop.
    Run(RunArgs),
    /// The whole thing at work against a simulated tenant: no account, no file.
    Demo(DemoArgs),
    /// Serve the simulated Management Activity API.
    Simulate(simulate::SimulateArgs),
    /// Check a configuration: all faults at once, then what would run.
    Validate(ConfigArgs),
    /// Prepare the clusters of elasticsearch sinks: index template, rollover, data stream. May be repeated.
    Setup(setup::SetupArgs),
    /// Turn audit records in files into what a sink would get.
    Normalize(normalize::NormalizeArgs),
    /// List the last 7 days again and compare them with the books: exit 1 when something is missing.
    Verify(VerifyArgs),
    /// Send dead letters again, to the sinks that refused them: exit 1 when some are refused again, 3 when a sink takes nothing.
    Replay(replay::ReplayArgs),
    /// What a refusal means and what to do: a code such as AADSTS7000215, or a line of the log. Without, all codes.
    Explain {
        /// A code, or the text that it stands in.
        #[arg(value_name = "CODE")]
        code: Option<String>,
    },
    /// What is known and what is missing.
    #[command(subcommand)]
    State(StateVerb),
    /// Help with the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration, YAML or JSON.
    #[arg(short, long, value_name = "FILE", env = "AUDITFERRY_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// List every open hour once, bring everything listed to an end, stop.
    #[arg(long)]
    once: bool,
    /// How long `--once` may take before it gives up on what cannot be reached.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    once_timeout: Duration,
    /// Reload on SIGHUP only, and not when the configuration's files change.
    #[arg(long)]
    no_watch: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// How long to run.
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    period: Duration,
    /// Where `/metrics` and `/status` listen; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    admin: std::net::SocketAddr,
    /// What to write when stdout is piped.
    #[arg(long, value_enum, default_value = "ecs")]
    format: DemoFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DemoFormat {
    Ecs,
    Raw,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// One JSON document instead of words.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum StateVerb {
    /// Show each feed: how far it is complete, what is pending, what is lost.
    Show(StateShowArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "where")]
struct StateDir {
    /// The state directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration that names it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StateShowArgs {
    #[command(flatten)]
    place: StateDir,
    /// One JSON document instead of words.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print a complete configuration with comments.
    Example,
    /// Print the JSON Schema of the configuration: an editor completes and checks with it.
    Schema,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).ok_or_else(|| "write a number and a unit: 30s, 15m, 2h".to_owned())
}

impl Cli {
    /// Starts the log as the arguments ask for it.
    pub fn start_logging(&self) {
        let (plain, format) = match (&self.verb, self.log_format) {
            // The demo draws on the terminal; what it has to say, errors included, it says in its own words.
            (Verb::Demo(_), format) => ("off", format),
            // Somebody waits for it to end: what goes well is not worth a word, and the rest is for people.
            (Verb::Normalize(_), LogFormat::Auto) => ("warn", LogFormat::Pretty),
            (Verb::Normalize(_), format) => ("warn", format),
            (_, format) => ("info", format),
        };
        logging::start(format, logging::level(self.quiet, self.verbose, plain));
    }

    /// Does what the verb says. An error is for `main` to print; it ends with [`Exit::Usage`].
    pub async fn execute(self) -> anyhow::Result<Exit> {
        match self.verb {
            Verb::Run(args) => run::run(args).await,
            Verb::Demo(args) => demo::demo(args).await,
            Verb::Simulate(args) => simulate::run(args).await.map(|()| Exit::Good),
            Verb::Validate(args) => validate::validate(&args.config),
            Verb::Setup(args) => setup::run(&args).await,
            Verb::Normalize(args) => normalize::run(&args),
            Verb::Verify(args) => verify::verify(&args.config.config, args.json).await,
            Verb::Replay(args) => replay::execute(args).await,
            Verb::Explain { code } => explain::explain(code.as_deref()),
            Verb::State(StateVerb::Show(args)) => show_state(&args).await,
            Verb::Config(ConfigVerb::Example) => config::example(),
            Verb::Config(ConfigVerb::Schema) => config::schema(),
        }
    }
}

async fn show_state(args: &StateShowArgs) -> anyhow::Result<Exit> {
    let mut kept = None;
    let dir = match (&args.place.dir, &args.place.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => match crate::config::load(file) {
            Ok(config) => {
                match state::kept(&config).await {
                    Ok(mounted) => kept = mounted,
                    Err(error) => return state::unusable(error.into()),
                }
                config.state.dir
            }
            Err(faults) => {
                eprintln!("{faults}");
                return Ok(Exit::Usage);
            }
        },
        (None, None) => return Ok(Exit::Usage),
    };
    let shown = state::show(&dir, args.json, &mut std::io::stdout().lock());
    drop(kept);
    shown.map_or_else(state::unusable, |()| Ok(Exit::Good))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_and_refused() {
        let once = |value| Cli::try_parse_from(["auditferry", "run", "-c", "x", "--once", "--once-timeout", value]);
        assert!(once("90s").is_ok());
        assert!(once("90").unwrap_err().to_string().contains("a number and a unit"));
        assert!(Cli::try_parse_from(["auditferry", "state", "show"]).is_err(), "needs --dir or -c");
    }
}
