//! The log: to stderr, readable on a terminal, one JSON object a line elsewhere. Comes in: the
//! options of the command line, `AUDITFERRY_LOG` (directives as in `info,auditferry::source=debug`)
//! and `NO_COLOR`. Control characters in messages and fields are escaped, so that what a server sent
//! can neither end a line nor drive a terminal.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Pretty,
    Json,
}

/// Whether colours may be written to something that is a terminal or not (`NO_COLOR`, no-color.org).
pub fn colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A panic is a line of the log like any other: where it was, and what it says if that is a fixed text.
/// A text made at run time may quote a record, and no record stands in a log.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(may quote a record)");
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => tracing::error!(at, said, %trace, "panicked: a fault of ours"),
            _ => tracing::error!(at, said, "panicked: a fault of ours; RUST_BACKTRACE=1 shows how it came there"),
        }
    }));
}

/// Starts the log; `level` holds unless `AUDITFERRY_LOG` says otherwise. A second start changes nothing.
pub fn start(format: LogFormat, level: &str) {
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let (filter, unreadable) = filter(level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in tests) finds the first in place; that one stays.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        let fields = debug_fn(|writer, field, value| {
            if field.name() == "message" {
                write!(Escaping(writer), "{value:?}")
            } else {
                write!(writer, "{}=", field.name())?;
                write!(Escaping(writer), "{value:?}")
            }
        });
        builder.fmt_fields(fields.delimited(" ")).with_ansi(colours(terminal)).with_target(false).try_init()
    };
    log_panics();
    if let Some(error) = unreadable {
        tracing::warn!(%error, "cannot read `AUDITFERRY_LOG`, it is ignored; write for instance `info,auditferry::source=debug`");
    }
}

/// Libraries speak only when something is wrong, unless asked for.
fn filter(level: &str) -> (EnvFilter, Option<String>) {
    let plain = || EnvFilter::new(format!("warn,auditferry={level}"));
    match std::env::var("AUDITFERRY_LOG") {
        Ok(directives) if !directives.is_empty() => match EnvFilter::try_new(&directives) {
            Ok(filter) => (filter, None),
            Err(error) => (plain(), Some(error.to_string())),
        },
        _ => (plain(), None),
    }
}

/// The level that `-q` and `-v` ask for; `plain` without either.
pub fn level(quiet: u8, verbose: u8, plain: &'static str) -> &'static str {
    match (quiet, verbose) {
        (0, 0) => plain,
        (0, 1) => "debug",
        (0, _) => "trace",
        (1, _) => "warn",
        _ => "error",
    }
}

/// Passes text on with every control character written as an escape.
pub struct Escaping<W>(pub W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// `text` with every control character written as an escape.
pub fn escaped(text: &str) -> String {
    let mut out = Escaping(String::with_capacity(text.len()));
    let _ = out.write_str(text);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_everything_else_stays() {
        assert_eq!(escaped("a\nb\u{1b}[31m\u{9b}é\t"), "a\\nb\\u{1b}[31m\\u{9b}é\\t");
    }

    #[test]
    fn quiet_and_verbose_move_the_level() {
        assert_eq!(
            [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)].map(|(q, v)| level(q, v, "info")),
            ["info", "debug", "trace", "warn", "error"]
        );
    }
}
