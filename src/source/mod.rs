//! The source: the Management Activity API turned into whole records, and every blob followed to its
//! end.
//!
//! Comes in: configuration, the state of each feed, verdicts. Goes out: [`RawBatch`]es of whole
//! records, each with its share in the blob's fate. Never parses a record, never drops a blob:
//! a blob is done when the ledger says settled or lost, and lost needs the server's word.

pub mod auth;
mod block;
pub mod body;
mod books;
pub mod client;
pub mod connections;
pub mod error;
pub mod feed_run;
pub mod fetch;
pub mod grid;
pub mod listing;
mod live_edge;
pub mod pin;
pub mod queue;
pub mod relist;
pub mod server_clock;
mod steady;
mod subscription;
pub mod tenant;
pub mod throttle;
mod trouble;
mod troubles;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use auth::KINDS as CREDENTIALS_THAT_END;
pub use connections::{InProcess, Transport};
pub use fetch::{Arrival, OversizedRecord, RawBatch};
pub use troubles::Troubles;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{CollectConfig, CredentialConfig, TenantConfig};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::route::Intake;
use crate::state::{LossReason, State};

/// Slow bodies read at once, over all tenants: beside the fetches, so that they take nobody's turn.
const SLOW_FETCHES: usize = 2;

/// What the source needs beside its configuration.
pub struct Context {
    pub state: State,
    pub clock: Clock,
    pub budget: Budget,
    pub metrics: Arc<Metrics>,
    pub forward: mpsc::Sender<Arrival>,
    /// Which feeds may fetch something new.
    pub intake: Intake,
    pub spool_dir: PathBuf,
    pub transport: Transport,
    /// Where feeds say what keeps them from going on, for `/status`.
    pub troubles: Troubles,
}

/// Starts a loop for each tenant. They end when `stop` turns true, or by themselves when `once` and all is done.
pub fn spawn(
    collect: &CollectConfig,
    tenants: &[TenantConfig],
    context: Context,
    once: bool,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let Context { state, clock, budget, metrics, forward, intake, spool_dir, transport, troubles } = context;
    let fetch = fetch::FetchContext {
        forward,
        budget,
        max_record: collect.max_record,
        spool_dir,
        metrics: Arc::clone(&metrics),
    };
    let shared = Arc::new(tenant::Shared {
        fetch,
        turns: turns::Turns::new(collect.fetches),
        slow_lane: turns::Turns::new(SLOW_FETCHES),
        fetches_per_tenant: collect.fetches_per_tenant.max(1),
        clock: clock.clone(),
        poll_interval: collect.poll_interval,
        backfill: collect.backfill,
        intake,
        metrics: Arc::clone(&metrics),
    });
    let connections = connections::Connections::new(transport);
    let mut loops = JoinSet::new();
    for (number, config) in tenants.iter().enumerate() {
        declare_labels(config, &metrics);
        let client = client(collect, config, &clock, &connections, &metrics);
        let feeds = config.content_types.iter().map(|content_type| {
            let feed = Feed { tenant: Arc::clone(&config.tenant), content_type: *content_type };
            let feed_state = state.feed(&feed.key());
            feed_run::FeedRun::new(feed, feed_state, Arc::clone(&metrics), troubles.clone(), once)
        });
        let run = tenant::TenantRun::new(Arc::clone(&shared), number, client, feeds.collect(), once);
        loops.spawn(run.run(stop.clone()));
    }
    loops
}

fn client(
    collect: &CollectConfig,
    config: &TenantConfig,
    clock: &Clock,
    connections: &connections::Connections,
    metrics: &Arc<Metrics>,
) -> client::Client {
    let name = &config.tenant.name;
    let credential = auth::Credential::of(config);
    let connections = connections.for_tenant();
    // A managed identity is asked for over the machine's own link, which no proxy can reach.
    let asking = match config.credential {
        CredentialConfig::ManagedIdentity(_) => connections.direct(),
        _ => connections.clone(),
    };
    let tokens = auth::TokenSource::new(asking, clock.clone(), credential, name, Arc::clone(metrics));
    client::Client::new(
        connections,
        pin::Pin::new(config.api.clone(), &config.tenant.id, &config.publisher_id),
        throttle::Throttle::new(clock.clone(), collect.requests_per_minute),
        tokens,
        clock.clone(),
        collect.stall_timeout,
        name,
        Arc::clone(metrics),
    )
}

/// Makes every label combination of a tenant exist from the start.
fn declare_labels(config: &TenantConfig, metrics: &Metrics) {
    let tenant = config.tenant.name.as_str();
    for content_type in &config.content_types {
        let feed = [tenant, content_type.as_str()];
        let counters = [
            &metrics.blobs_listed,
            &metrics.blobs_fetched,
            &metrics.blobs_settled,
            &metrics.blobs_retried,
            &metrics.blobs_returned,
        ];
        counters.into_iter().for_each(|counter| drop(counter.with_label_values(&feed)));
        for result in ["same", "grown"] {
            metrics.blobs_again.with_label_values(&[feed[0], feed[1], result]);
        }
        for reason in troubles::REASONS {
            metrics.feed_trouble.with_label_values(&[feed[0], feed[1], reason]);
        }
        metrics.refused_seconds.with_label_values(&feed);
        metrics.unreadable.with_label_values(&feed);
        for gauges in
            [&metrics.feed_watermark, &metrics.feed_last_success, &metrics.oldest_pending, &metrics.blobs_pending]
        {
            gauges.with_label_values(&feed);
        }
        metrics.subscription_enabled.with_label_values(&feed);
        for reason in LossReason::ALL {
            metrics.blobs_lost.with_label_values(&[feed[0], feed[1], reason.as_str()]);
        }
        for outcome in ["delivered", "duplicate", "filtered", "rejected", "lost"] {
            metrics.events.with_label_values(&[feed[0], feed[1], outcome]);
        }
        for result in ["ok", "failed"] {
            metrics.subscription_starts.with_label_values(&[feed[0], feed[1], result]);
        }
        metrics.pipeline_latency.with_label_values(&feed[1..]);
        metrics.source_latency.with_label_values(&feed[1..]);
    }
    metrics.api_throttled.with_label_values(&[tenant]);
    metrics.listing_unreadable.with_label_values(&[tenant]);
    metrics.api_refused_urls.with_label_values(&[tenant]);
    metrics.token_expiry.with_label_values(&[tenant]);
    for kind in auth::KINDS {
        metrics.credential_expiry.with_label_values(&[tenant, kind]);
    }
    metrics.clock_skew.with_label_values(&[tenant]);
    for result in ["ok", "refused", "failed"] {
        metrics.token_refreshes.with_label_values(&[tenant, result]);
    }
    for operation in ["list_subscriptions", "start_subscription", "list_content", "get_content"] {
        for class in client::STATUS_CLASSES.into_iter().chain(["transport"]) {
            metrics.api_requests.with_label_values(&[operation, class]);
        }
    }
}
