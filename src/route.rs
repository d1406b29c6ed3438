//! Which sinks an event goes to. Pure. Without a condition a sink gets everything.

use crate::sink::SinkSet;

/// The sinks of the running graph.
#[derive(Clone, Copy, Debug, Default)]
pub struct Routes {
    /// All sinks that want events.
    pub wanted: SinkSet,
    /// Those a blob waits for.
    pub required: SinkSet,
    /// Whether any of them is sent ECS documents.
    pub needs_ecs: bool,
}
