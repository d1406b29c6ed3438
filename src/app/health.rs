//! Watches the sinks' health: tells the source which required ones take nothing, and has what waits for one
//! given back where other feeds could use the memory. Comes in: each driver's health. Goes out: the set
//! of sinks that are down. Logs each change once.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;

use super::graph::{Graph, feeds};
use crate::route::Down;
use crate::sink::driver::DriverHandle;
use crate::sink::{SinkId, SinkSet};

/// A required sink and where its health is told.
struct Watched {
    sink: SinkId,
    name: String,
    health: watch::Receiver<bool>,
    driver: DriverHandle,
    /// Some feeds do not need the sink: what waits for it while it is down is given back, and what is being read
    /// for it makes way, so that neither holds their memory and their turns.
    is_shared: bool,
}

/// The required sinks.
fn watched(graph: &Graph) -> Vec<Watched> {
    let watched = |sink: SinkId| {
        let driver = graph.drivers.get(&sink)?.clone();
        let is_shared = feeds(&graph.config).any(|feed| !graph.routes.needs(&feed).contains(sink));
        let name = graph.names.get(&sink)?.clone();
        Some(Watched { sink, name, health: driver.health(), driver, is_shared })
    };
    graph.routes.required().iter().filter_map(watched).collect()
}

/// Tells the source which required sinks of the running graph take nothing. One task for all graphs, so that what was
/// seen in an older one is never the last word.
pub(super) async fn watch_sinks(mut running: watch::Receiver<Arc<Graph>>, down: watch::Sender<Down>) {
    loop {
        let watched = watched(&running.borrow_and_update());
        let change = tokio::select! {
            change = running.changed() => change,
            never = watch_these(watched, &down) => match never {},
        };
        if change.is_err() {
            return;
        }
    }
}

async fn watch_these(mut watched: Vec<Watched>, down: &watch::Sender<Down>) -> Infallible {
    loop {
        let before = down.borrow().all;
        let mut now = Down::default();
        for Watched { sink, name, health, driver, is_shared } in &mut watched {
            let (only, healthy) = (SinkSet::of(*sink), *health.borrow_and_update());
            if !healthy {
                now.all = now.all.union(only);
                if *is_shared {
                    now.shared = now.shared.union(only);
                }
            }
            // Each time: it may have been otherwise in the graph before.
            driver.give_back(*is_shared && !healthy);
            if healthy == before.contains(*sink) {
                if healthy {
                    tracing::info!(sink = %name, "the sink takes data again, its feeds are fetched on");
                } else {
                    tracing::warn!(sink = %name, "a required sink takes nothing; nothing new is fetched of the feeds that need it until it does, listing goes on");
                }
            }
        }
        down.send_if_modified(|down| std::mem::replace(down, now) != now);
        let changes = watched.iter_mut().map(|watched| Box::pin(watched.health.changed()));
        let change = match changes.collect::<Vec<_>>() {
            none if none.is_empty() => std::future::pending().await,
            some => futures_util::future::select_all(some).await.0,
        };
        if change.is_err() {
            // A driver has ended: there is another graph, or none any more.
            std::future::pending::<()>().await;
        }
    }
}
