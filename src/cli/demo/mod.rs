//! `demo`: the simulator, the whole pipeline and a reader's view of it in one process; no tenant, no
//! file. On a terminal every event is a line one can read; piped, stdout carries the events as a sink
//! writes them and stderr the words. Leaves nothing behind.

mod gauges;
mod notes;
mod scratch;
mod summary;
mod view;
mod watcher;
mod world;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::run::{ended, refused, stop_signal};
use super::{DemoArgs, DemoFormat, Exit};
use crate::admin::{Admin, Heartbeat};
use crate::app::{App, RunOptions};
use crate::config::Format;
use crate::metrics::Metrics;
use gauges::Gauges;
use notes::Notes;
use scratch::Scratch;
use summary::Summary;
use view::View;
use watcher::Watcher;
use world::World;

/// Time between two looks at the pipeline: quick enough to feel live, slow enough to read a line.
const TICK: Duration = Duration::from_millis(160);

/// Runs for `args.period`, or until told to stop, and says what happened.
pub(super) async fn demo(args: DemoArgs) -> anyhow::Result<Exit> {
    let piped = !std::io::stdout().is_terminal();
    let mut view = View::new(piped);
    view.say("A simulated Microsoft 365 with faults on purpose, and auditferry that carries its audit records.");
    let world = World::start().await?;
    let scratch = Scratch::new().context("cannot make a temporary directory; set TMPDIR to one that can be written")?;
    let format = if args.format == DemoFormat::Raw && piped { Format::Raw } else { Format::Ecs };
    let config = world.config(&scratch, piped, format);
    let tenants = config.tenants.len();

    let metrics = Metrics::new();
    let heartbeat = Heartbeat::default();
    let admin = Admin::new(Arc::clone(&metrics), heartbeat.clone());
    let listener = TcpListener::bind(args.admin).await;
    let listener =
        listener.with_context(|| format!("cannot listen on `{}`; give `--admin` a free address", args.admin))?;
    let address = listener.local_addr()?;
    tokio::spawn(admin.clone().serve(listener, std::future::pending()));
    view.say(&format!(
        "{tenants} tenants; metrics at http://{address}/metrics, state of things at /status; ctrl-c ends it early."
    ));

    let (watcher, mut events) = Watcher::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let options = RunOptions { once: None, observer: Some(Arc::clone(&watcher) as _), heartbeat };
    let began = Instant::now();
    let app = match App::start(config, Arc::clone(&metrics), options).await {
        Ok(app) => app,
        Err(error) => {
            eprintln!("auditferry: {error}");
            return Ok(refused(&error));
        }
    };
    admin.ready(app.status_source());

    let running = app.run(async {
        let _ = stopped.await;
    });
    tokio::pin!(running);
    let interrupted = stop_signal()?;
    tokio::pin!(interrupted);
    let mut stop = Some(stop);
    let mut tick = tokio::time::interval(TICK);
    let mut notes = Notes::default();
    let ending = loop {
        tokio::select! {
            ending = &mut running => break ending,
            () = &mut interrupted, if stop.is_some() => drop(stop.take()),
            _ = tick.tick() => {
                if began.elapsed() >= args.period && stop.is_some() {
                    view.say("time is up: what is in flight is brought to an end");
                    drop(stop.take());
                }
                while let Ok(line) = events.try_recv() {
                    view.offer(line);
                }
                let gauges = Gauges::read(&metrics);
                for note in notes.look(&gauges, began.elapsed()) {
                    view.note(&note);
                }
                view.draw(&gauges, watcher.take_skipped(), world.served().faults_in_all());
            }
        }
    };
    view.finish();
    let exit = ended(ending);
    let summary = Summary {
        gauges: Gauges::read(&metrics),
        served: world.served(),
        lines: scratch.lines(),
        elapsed: began.elapsed(),
    };
    view.say(&summary.to_string());
    Ok(if exit == Exit::Good && summary.missing() > 0 { Exit::No } else { exit })
}
