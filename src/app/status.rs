//! What `/status` shows, looked up anew at each request. Comes in: shared views of the running rooms. Goes
//! out: a [`Status`]. Changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::graph::Graph;
use crate::admin::{
    ConfigStatus, CredentialStatus, DatabaseStatus, FeedStatus, InFlight, SinkStatus, StateStatus, Status,
    StatusSource, TenantStatus, UnknownName, UnknownNames, UnknownStatus,
};
use crate::budget::Budget;
use crate::config::TenantConfig;
use crate::enrich::{self, Standing};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::route::Intake;
use crate::source::{CREDENTIALS_THAT_END, Troubles, grid};
use crate::state::State;
use crate::unknown::{Names, Unknown};

/// What is looked at.
pub(super) struct Look {
    pub graph: watch::Receiver<Arc<Graph>>,
    pub config: Arc<Mutex<ConfigStatus>>,
    pub state: State,
    pub budget: Budget,
    pub metrics: Arc<Metrics>,
    pub troubles: Troubles,
    pub intake: Intake,
}

impl Look {
    pub fn into_source(self) -> StatusSource {
        Arc::new(move || self.status())
    }

    fn status(&self) -> Status {
        let graph = Arc::clone(&self.graph.borrow());
        Status {
            tenants: graph.config.tenants.iter().map(|tenant| self.tenant(&graph, tenant)).collect(),
            sinks: graph.config.sinks.iter().map(|sink| self.sink(&graph, &sink.name)).collect(),
            state: StateStatus {
                journal_bytes: u64::try_from(self.metrics.journal_bytes.get()).unwrap_or(0),
                last_commit: Some(self.metrics.checkpoint_last_success.get()).filter(|at| *at > 0),
                trouble: self.state.trouble(),
            },
            in_flight: InFlight { bytes: self.budget.used() as u64, limit: self.budget.limit() as u64 },
            enrich: graph.enricher.status().into_iter().map(database).collect(),
            unknown: unknown(graph.pipeline.unknown()),
            config: self.config.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn tenant(&self, graph: &Graph, config: &TenantConfig) -> TenantStatus {
        let feed_status = |content_type| {
            let feed = Feed { tenant: Arc::clone(&config.tenant), content_type };
            self.state.feed(&feed.key()).read(|progress| FeedStatus {
                content_type: feed.content_type.to_string(),
                complete_until: progress.from.map(|_| grid::complete_until(progress, graph.config.clock.now())),
                pending: progress.pending.len() as u64,
                lost: progress.ledger.blobs_lost,
                subscribed: progress.subscription.enabled,
                trouble: self.troubles.of(&feed.key()),
                waits_for: self.intake.held_by(&feed).iter().filter_map(|s| graph.names.get(&s).cloned()).collect(),
            })
        };
        TenantStatus {
            name: config.tenant.name.clone(),
            tenant_id: config.tenant.id.clone(),
            credential: self.credential(config),
            feeds: config.content_types.iter().copied().map(feed_status).collect(),
        }
    }

    fn credential(&self, config: &TenantConfig) -> CredentialStatus {
        let kind = config.credential.kind();
        let is_watched = CREDENTIALS_THAT_END.contains(&kind);
        let expires = is_watched
            .then(|| self.metrics.credential_expiry.with_label_values(&[config.tenant.name.as_str(), kind]).get());
        CredentialStatus { kind, expires: expires.filter(|at| *at > 0) }
    }

    fn sink(&self, graph: &Graph, name: &str) -> SinkStatus {
        let driver = graph.sink(name).and_then(|(_, id)| graph.drivers.get(&id));
        SinkStatus {
            name: name.to_owned(),
            healthy: driver.is_some_and(|driver| *driver.health().borrow()),
            queued: u64::try_from(self.metrics.sink_queued.with_label_values(&[name]).get()).unwrap_or(0),
            last_ack: Some(self.metrics.sink_last_ack.with_label_values(&[name]).get()).filter(|at| *at > 0),
        }
    }
}

fn database(known: enrich::DatabaseStatus) -> DatabaseStatus {
    let (database_type, built) = match known.standing {
        Standing::Missing => (None, None),
        Standing::Loaded { database_type, built } => (Some(database_type), Some(built)),
    };
    DatabaseStatus { kind: known.kind, file: known.file, database_type, built, trouble: known.trouble }
}

fn unknown(seen: &Unknown) -> UnknownStatus {
    let of_kind = |names: Names| UnknownNames {
        names: names.most.into_iter().map(|(name, count)| UnknownName { name, count }).collect(),
        others: names.others,
    };
    let [record_types, operations, fields] = seen.names().map(of_kind);
    UnknownStatus { record_types, operations, fields }
}
