//! Watches the sinks' health: tells the source which required ones take nothing, and has what waits for one
//! given back where other feeds could use the memory. Comes in: each driver's health. Goes out: the set
//! of sinks that are down. Logs each change once.

use std::sync::Arc;

use tokio::sync::watch;

use super::graph::{Graph, feeds};
use crate::sink::driver::DriverHandle;
use crate::sink::{SinkId, SinkSet};

/// A required sink and where its health is told.
pub(super) struct Watched {
    sink: SinkId,
    name: String,
    health: watch::Receiver<bool>,
    /// Where some feeds do not need the sink: what waits for it while it is down is given back, so that
    /// it does not hold their memory.
    driver: Option<DriverHandle>,
}

/// The required sinks.
pub(super) fn watched(graph: &Graph) -> Vec<Watched> {
    let watched = |sink: SinkId| {
        let driver = graph.drivers.get(&sink)?;
        let is_shared = feeds(&graph.config).any(|feed| !graph.routes.needs(&feed).contains(sink));
        let name = graph.names.get(&sink)?.clone();
        let health = driver.health();
        // It may have been otherwise in the graph before.
        driver.give_back(is_shared && !*health.borrow());
        Some(Watched { sink, name, health, driver: is_shared.then(|| driver.clone()) })
    };
    graph.routes.required().iter().filter_map(watched).collect()
}

/// Tells the source which required sinks take nothing.
pub(super) async fn watch_sinks(mut watched: Vec<Watched>, down: Arc<watch::Sender<SinkSet>>) {
    loop {
        let before = *down.borrow();
        let mut now = SinkSet::EMPTY;
        for Watched { sink, name, health, driver } in &mut watched {
            let (only, healthy) = (SinkSet::of(*sink), *health.borrow_and_update());
            if !healthy {
                now = now.union(only);
            }
            if healthy == before.contains(*sink) {
                if let Some(driver) = driver {
                    driver.give_back(!healthy);
                }
                if healthy {
                    tracing::info!(sink = %name, "the sink takes data again, its feeds are fetched on");
                } else {
                    tracing::warn!(sink = %name, "a required sink takes nothing; nothing new is fetched of the feeds that need it until it does, listing goes on");
                }
            }
        }
        down.send_if_modified(|down| std::mem::replace(down, now) != now);
        let changes = watched.iter_mut().map(|watched| Box::pin(watched.health.changed()));
        let (change, ..) = match changes.collect::<Vec<_>>() {
            none if none.is_empty() => return,
            some => futures_util::future::select_all(some).await,
        };
        if change.is_err() {
            return;
        }
    }
}
