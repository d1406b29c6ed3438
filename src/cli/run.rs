//! `run`: the configuration, the admin listener, the application, a signal, the drain. Comes in: a
//! file. Goes out: the exit code that says how it ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, RunArgs, banner};
use crate::admin::{Admin, Heartbeat};
use crate::app::{App, AppError, Ending, Reload, RunOptions};
use crate::config::{Config, Inputs, load_with_inputs};
use crate::metrics::Metrics;

/// Forwards until told to stop, or once.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    // First of all: unheard, it would end the process.
    let hangups = signal(SignalKind::hangup())?;
    let Some((config, inputs)) = read(&args.config.config) else { return Ok(Exit::Usage) };
    let metrics = Metrics::new();
    let heartbeat = Heartbeat::default();
    let admin = Admin::new(Arc::clone(&metrics), heartbeat.clone());
    let stop = stop_signal()?;
    let began = Instant::now();
    let once = args.once.then_some(args.once_timeout);
    let reload = Reload::new(&args.config.config, inputs, !args.no_watch);
    tokio::spawn(hear(hangups, reload.clone(), args.once));
    if let Some(address) = config.admin.listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener
            .with_context(|| format!("cannot listen on `{address}`; give `admin.listen` a free address, or `off`"))?;
        tracing::info!(address = %listener.local_addr()?, "admin listens");
        tokio::spawn(admin.clone().serve(listener, std::future::pending()));
    }
    banner::announce(&config);

    let reload = once.is_none().then_some(reload);
    let options = RunOptions { once, heartbeat, reload, ..RunOptions::default() };
    tokio::pin!(stop);
    // A start may wait for brokers or a disk; told to stop, it ends.
    let app = tokio::select! {
        biased;
        () = &mut stop => return Ok(Exit::Good),
        started = App::start(config, Arc::clone(&metrics), options) => match started {
            Ok(app) => app,
            Err(error) => return Ok(refused(&error)),
        },
    };
    admin.ready(app.status_source());
    let ending = app.run(stop).await;
    tracing::info!(
        blobs_done = metrics.blobs_settled.total(),
        blobs_lost = metrics.blobs_lost.total(),
        dead_letters = metrics.dead_letters.total(),
        seconds = began.elapsed().as_secs(),
        "stopped"
    );
    Ok(ended(ending))
}

fn read(path: &Path) -> Option<(Config, Inputs)> {
    let (inputs, loaded) = load_with_inputs(path);
    match loaded {
        Ok(loaded) => {
            loaded.log_warnings();
            Some((loaded.config, inputs))
        }
        Err(faults) => {
            eprintln!("{faults}");
            None
        }
    }
}

/// The exit code of a start that failed.
pub(super) fn refused(error: &AppError) -> Exit {
    tracing::error!(%error, "cannot start");
    match error {
        AppError::State(_) => Exit::State,
        AppError::Keeper(error) => super::state::of_keeper(error),
        _ => Exit::Unreachable,
    }
}

/// The exit code of an ending.
pub(super) fn ended(ending: Ending) -> Exit {
    match ending {
        Ending::Clean => Exit::Good,
        Ending::LossOrDeadLetters => Exit::No,
        Ending::Unreachable => Exit::Unreachable,
        Ending::Fault => Exit::No,
        Ending::StateUnusable(error) => {
            tracing::error!(%error, "the state can no longer be written; the process ends so that nothing is counted as done");
            Exit::State
        }
    }
}

/// SIGHUP asks for a reload; in a run that ends it is only heard, so that it does not end it.
async fn hear(mut hangups: Signal, reload: Reload, is_once: bool) {
    while hangups.recv().await.is_some() {
        if is_once {
            tracing::info!("SIGHUP: a run with --once keeps the configuration it began with");
        } else {
            reload.ask("SIGHUP");
        }
    }
}

/// Resolves at SIGTERM or SIGINT; the drain that follows has its own deadline.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: what is in flight is brought to an end");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::KeeperError;

    #[test]
    fn brokers_that_refuse_us_are_no_fault_of_the_state() {
        let [topic, sink, reason] = ["t", "s", "r"].map(str::to_owned);
        let refused_by_brokers =
            KeeperError::Refused { topic: topic.clone(), sink: sink.clone(), reason: reason.clone() };
        assert_eq!(refused(&AppError::Keeper(refused_by_brokers)), Exit::Unreachable);
        assert_eq!(refused(&AppError::Keeper(KeeperError::Unusable { topic, sink, reason })), Exit::State);
    }
}
