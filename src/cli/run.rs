//! `run`: the configuration, the admin listener, the application, a signal, the drain. Comes in: a
//! file. Goes out: the exit code that says how it ended.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, RunArgs, banner};
use crate::admin::{Admin, Heartbeat};
use crate::app::{App, AppError, Ending, RunOptions};
use crate::config::{Config, load};
use crate::metrics::Metrics;

/// Forwards until told to stop, or once.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let Some(config) = read(&args.config.config) else { return Ok(Exit::Usage) };
    let metrics = Metrics::new();
    let heartbeat = Heartbeat::default();
    let admin = Admin::new(Arc::clone(&metrics), heartbeat.clone());
    let stop = stop_signal()?;
    if let Some(address) = config.admin.listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener
            .with_context(|| format!("cannot listen on `{address}`; give `admin.listen` a free address, or `off`"))?;
        tracing::info!(address = %listener.local_addr()?, "admin listens");
        tokio::spawn(admin.clone().serve(listener, std::future::pending()));
    }
    banner::announce(&config);

    let once = args.once.then_some(args.once_timeout);
    let app = match App::start(config, metrics, RunOptions { once, observer: None, service: None, heartbeat }).await {
        Ok(app) => app,
        Err(error) => return Ok(refused(&error)),
    };
    admin.ready(app.status_source());
    Ok(ended(app.run(stop).await))
}

fn read(path: &Path) -> Option<Config> {
    match load(path) {
        Ok(config) => Some(config),
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
