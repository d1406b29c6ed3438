//! `demo`: the simulator, the whole pipeline and a reader's view of it in one process; no tenant, no
//! file. On a terminal every event is a line one can read; piped, stdout carries the events as a sink
//! writes them and stderr the words. Leaves nothing behind.

mod arrivals;
mod gauges;
mod notes;
mod readers;
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
use crate::app::{App, Ending, RunOptions};
use crate::config::Format;
use crate::enrich::Enricher;
use crate::metrics::Metrics;
use arrivals::Arrivals;
use gauges::Gauges;
use notes::Notes;
use scratch::Scratch;
use summary::Summary;
use view::View;
use watcher::Watcher;
use world::World;

/// Time between two looks at the pipeline: quick enough to feel live, slow enough to read a line.
const TICK: Duration = Duration::from_millis(160);
/// Nothing goes wrong before this.
const CALM: Duration = Duration::from_millis(1500);
/// How long the last records may take after time is up: longer than any pause the simulator asks for.
const GRACE: Duration = Duration::from_secs(15);

/// Runs for `args.period`, or until told to stop, and says what happened. Ends at once, in silence, where nobody reads its
/// standard output any more (`| head`).
pub(super) async fn demo(args: DemoArgs) -> anyhow::Result<Exit> {
    let piped = !std::io::stdout().is_terminal();
    let world = World::start().await?;
    let mut view = View::new(piped, world.speed());
    view.say("A simulated Microsoft 365 with faults on purpose, and auditferry that carries its audit records.");
    let scratch =
        Scratch::new("demo").context("cannot make a temporary directory; set TMPDIR to one that can be written")?;
    let format = if args.format == DemoFormat::Raw { Format::Raw } else { Format::Ecs };
    let config = world.config(&scratch, piped.then_some(format))?;
    let tenants = config.tenants.len();

    let metrics = Metrics::new();
    let heartbeat = Heartbeat::default();
    let admin = Admin::new(Arc::clone(&metrics), heartbeat.clone());
    let listener = TcpListener::bind(args.admin).await;
    let listener =
        listener.with_context(|| format!("cannot listen on `{}`; give `--admin` a free address", args.admin))?;
    let address = listener.local_addr()?;
    tokio::spawn(admin.clone().serve(listener, std::future::pending()));
    view.say(&format!("{tenants} tenants; http://{address}/metrics and /status; ctrl-c ends it early."));

    let (watcher, mut events) = Watcher::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let enricher =
        Some(Enricher::invented(&metrics).context("the invented places cannot be read, by a fault of ours")?);
    let options =
        RunOptions { observer: Some(Arc::clone(&watcher) as _), enricher, heartbeat, ..RunOptions::default() };
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
    view.head();
    let mut stop = Some(stop);
    let mut tick = tokio::time::interval(TICK);
    let mut notes = Notes::default();
    let mut arrivals = Arrivals::default();
    // What the simulator's books say at the moment when time is up.
    let mut owed: Option<Vec<Option<String>>> = None;
    let mut over = args.period;
    let mut calm = true;
    let ending = loop {
        tokio::select! {
            ending = &mut running => break ending,
            () = &mut interrupted, if owed.is_none() => over = Duration::ZERO,
            _ = tick.tick() => {}
        }
        if piped && readers::are_gone(std::io::stdout()) {
            // Its sink would be waited for to the end, and everything dies with the scratch directory anyway.
            return Ok(Exit::Good);
        }
        if calm && began.elapsed() >= CALM {
            world.throw_faults()?;
            calm = false;
        }
        while let Ok(line) = events.try_recv() {
            view.offer(line);
        }
        arrivals.follow(&scratch.file())?;
        let gauges = Gauges::read(&metrics);
        for note in notes.look(&gauges, began.elapsed()) {
            view.note(&note);
        }
        view.draw(&gauges, watcher.take_skipped(), world.faults().values().sum());
        match &owed {
            None if began.elapsed() >= over => {
                over = began.elapsed();
                owed = Some(world.owed());
                view.say("time is up: what could be had until now is brought in and counted");
            }
            Some(owed) if arrivals.missing(owed) == 0 || began.elapsed() >= over + GRACE => drop(stop.take()),
            _ => {}
        }
    };
    view.finish();
    if let Ending::StateUnusable(error) = &ending {
        eprintln!("auditferry: {error}");
    }
    let exit = ended(ending);
    arrivals.follow(&scratch.file())?;
    let owed = owed.unwrap_or_default();
    let missing = arrivals.missing(&owed);
    let summary = Summary {
        gauges: Gauges::read(&metrics),
        faults: world.faults(),
        owed: owed.len() as u64,
        missing,
        lines: arrivals.lines,
        doubled: arrivals.doubled,
        elapsed: began.elapsed(),
    };
    view.say(&format!("\n{summary}"));
    Ok(if exit == Exit::Good && missing + arrivals.doubled > 0 { Exit::No } else { exit })
}
