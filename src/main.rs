#![allow(clippy::print_stderr, reason = "the last words of a process that cannot go on")]
//! The binary: arguments → log → runtime → verb → exit code. The story of the process itself is told
//! in lib.rs and app.rs. The only place that ends the process.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use auditferry::cli::{Cli, Exit};
use clap::Parser;

/// How long background threads (a read that hangs on a dead mount) may hold up the end.
const LAST_WAIT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    auditferry::memory::give_back();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => {
            let code = u8::try_from(help.exit_code()).unwrap_or(Exit::Usage as u8);
            // Help and version go to stdout, faults to stderr; a closed pipe is nobody's fault.
            let _ = help.print();
            return ExitCode::from(code);
        }
    };
    cli.start_logging();

    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("auditferry: cannot start the runtime: {error}");
            return ExitCode::from(Exit::Unreachable as u8);
        }
    };
    let exit = match runtime.block_on(cli.execute()) {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Good,
        Err(error) => {
            eprintln!("auditferry: {error:#}");
            Exit::Usage
        }
    };
    runtime.shutdown_timeout(LAST_WAIT);
    ExitCode::from(exit as u8)
}

/// Whether the reader of our output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
