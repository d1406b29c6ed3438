//! What a reload replaces as one: the configuration, the sinks with their drivers, the routes between them. Comes
//! in: a configuration and the drivers that stay. Goes out: a [`Graph`], which never changes; workers take
//! the one that runs for each part, and what they began in the old one they end there.

use std::collections::HashMap;
use std::sync::Arc;

use super::{AppError, Observer};
use crate::config::{Config, Inputs, SinkConfig, TenantConfig};
use crate::enrich::Enricher;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::route::Routes;
use crate::sink::driver::DriverHandle;
use crate::sink::{self, ShapedSink, SinkId};
use crate::state::State;

pub(super) type Drivers = HashMap<SinkId, DriverHandle>;
/// Ids of sinks, and how the files looked that they were built from, by name.
pub(super) type Known = HashMap<String, (SinkId, Inputs)>;

/// See the module's head.
pub(super) struct Graph {
    pub config: Config,
    pub drivers: Drivers,
    pub names: HashMap<SinkId, String>,
    pub known: Known,
    pub routes: Arc<Routes>,
    pub enricher: Arc<Enricher>,
    pub pipeline: Pipeline,
}

impl Graph {
    pub fn new(
        config: Config,
        mut known: Known,
        drivers: Drivers,
        enricher: Arc<Enricher>,
        metrics: &Arc<Metrics>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Graph {
        known.retain(|name, _| config.sinks.iter().any(|sink| sink.name == *name));
        let (mut routes, mut names) = (Routes::default(), HashMap::new());
        for sink in &config.sinks {
            if let Some((id, _)) = known.get(&sink.name) {
                routes.add(*id, sink);
                names.insert(*id, sink.name.clone());
            }
        }
        let routes = Arc::new(routes);
        warn_of_unwanted(&config, &routes);
        let name = |id| names.get(&id).cloned().unwrap_or_default();
        let (steps, places, metrics) = (Arc::clone(&routes), Arc::clone(&enricher), Arc::clone(metrics));
        let pipeline = Pipeline::new(steps, places, config.keep_original, metrics, observer, name);
        Graph { config, drivers, names, known, routes, enricher, pipeline }
    }

    /// The same, counting on where the one before it is.
    pub fn going_on_from(self, before: &Graph) -> Graph {
        Graph { pipeline: self.pipeline.going_on_from(&before.pipeline), ..self }
    }

    pub fn sink(&self, name: &str) -> Option<(&SinkConfig, SinkId)> {
        let sink = self.config.sinks.iter().find(|sink| sink.name == name)?;
        self.known.get(name).map(|(id, _)| (sink, *id))
    }

    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<&TenantConfig> {
        self.config.tenants.iter().find(|tenant| tenant.tenant.name == name)
    }
}

/// A sink that may be started.
pub(super) struct Built {
    pub config: SinkConfig,
    pub id: SinkId,
    pub sink: ShapedSink,
    pub files: Inputs,
}

/// Builds sinks without starting or naming anything: the first that cannot be built is the error. Whoever starts
/// them names them in the state first.
pub(super) fn build<'a>(
    sinks: impl IntoIterator<Item = &'a SinkConfig>,
    state: &State,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Built>, AppError> {
    let sinks: Vec<&SinkConfig> = sinks.into_iter().collect();
    let ids = state.sink_ids(sinks.iter().map(|config| config.name.as_str()))?;
    let mut built = Vec::new();
    for (config, id) in sinks.into_iter().zip(ids) {
        let files = Inputs::of(config.files());
        let sink = sink::build(config, id, state, Arc::clone(metrics))?;
        built.push(Built { config: config.clone(), id, sink, files });
    }
    Ok(built)
}

pub(super) fn feeds(config: &Config) -> impl Iterator<Item = Feed> {
    let of = |tenant: &TenantConfig, content_type| Feed { tenant: Arc::clone(&tenant.tenant), content_type };
    config.tenants.iter().flat_map(move |tenant| tenant.content_types.iter().map(move |kind| of(tenant, *kind)))
}

/// A feed that no sink's condition lets through is fetched for nothing: hardly what was meant.
fn warn_of_unwanted(config: &Config, routes: &Routes) {
    for feed in feeds(config).filter(|feed| routes.of(feed).possible().is_empty()) {
        tracing::warn!(tenant = %feed.tenant.name, content_type = %feed.content_type,
            "no sink's `when` lets anything of this feed through; its records are fetched, counted as filtered, and go nowhere");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StateConfig;

    #[test]
    fn what_is_built_and_then_refused_spends_no_id() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let config = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let state = State::open(&config, Arc::clone(&metrics)).unwrap();
        let text = "tenants: [{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: x}}]\nsinks: [{name: new, type: stdout}]";
        let config = crate::config::load_str("c.yaml", text).unwrap_or_else(|faults| panic!("{faults}"));
        let built = build(&config.sinks, &state, &metrics).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(state.sink_id("another").unwrap(), built[0].id, "the name was taken");
    }
}
