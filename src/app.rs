//! app (a stand-in with the agreed signatures; the real one is written elsewhere)

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{Heartbeat, Status, StatusSource};
use crate::config::Config;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::state::StateError;

/// Sees every event on its way to the sinks; must be quick and must not block.
pub trait Observer: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

#[derive(Clone, Default)]
pub struct RunOptions {
    /// End when everything listed is done, or after this time.
    pub once: Option<Duration>,
    pub observer: Option<Arc<dyn Observer>>,
    /// Ticked by the app while it makes progress.
    pub heartbeat: Heartbeat,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    Clean,
    LossOrDeadLetters,
    Unreachable,
    StateUnusable(StateError),
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the pipeline is not in this tree")]
    StandIn,
}

pub struct App {}

impl App {
    pub async fn start(_config: Config, _metrics: Arc<Metrics>, _options: RunOptions) -> Result<App, AppError> {
        Err(AppError::StandIn)
    }

    pub fn status_source(&self) -> StatusSource {
        Arc::new(Status::default)
    }

    pub async fn run(self, stop: impl Future<Output = ()>) -> Ending {
        stop.await;
        Ending::Clean
    }
}
