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
use crate::config::{CollectConfig, TenantConfig};
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
    pub spool_dir: Option<PathBuf>,
    pub transport: Transport,
    /// Where feeds say what keeps them from going on, for `/status`.
    pub troubles: Troubles,
}

/// Starts a loop for each tenant, whenever one is wanted. Drop it at the end: it keeps the forward lane open.
pub struct Source {
    context: Context,
    connections: connections::Connections,
    collect: CollectConfig,
    shared: Arc<tenant::Shared>,
    once: bool,
    next_number: turns::TenantNumber,
}

/// A tenant's loop from outside.
pub struct TenantLoop {
    stop: watch::Sender<bool>,
    /// Its sender is gone when the loop is.
    ended: watch::Receiver<()>,
}

impl TenantLoop {
    /// Tells it to end: it asks for nothing more, and stays until what it has in the air is done.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns when it has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
    }
}

impl Source {
    /// Nothing is asked for before the first [`start`](Self::start). `once`: loops end by themselves when all is done.
    pub fn new(collect: &CollectConfig, context: Context, once: bool) -> Source {
        Source {
            connections: connections::Connections::new(context.transport.clone()),
            collect: collect.clone(),
            shared: shared(&context, collect),
            context,
            once,
            next_number: 0,
        }
    }

    /// What loops that are started from now on go by; those that run keep what they were started with.
    pub fn set_collect(&mut self, collect: &CollectConfig) {
        self.shared = shared(&self.context, collect);
        self.collect = collect.clone();
    }

    /// Starts a tenant's loop in `loops`, after `turn`: its books may still be written by a loop before it.
    pub fn start(
        &mut self,
        config: &TenantConfig,
        turn: impl Future<Output = ()> + Send + 'static,
        loops: &mut JoinSet<()>,
    ) -> TenantLoop {
        let (stop, mut stopped) = watch::channel(false);
        let (end, ended) = watch::channel(());
        let number = self.next_number;
        self.next_number += 1;
        let Context { state, clock, metrics, troubles, .. } = &self.context;
        declare_labels(config, metrics);
        let client = client(&self.collect, config, clock, &self.connections, metrics);
        let (shared, state, once) = (Arc::clone(&self.shared), state.clone(), self.once);
        let (metrics, troubles) = (Arc::clone(metrics), troubles.clone());
        let (tenant, content_types) = (Arc::clone(&config.tenant), config.content_types.clone());
        loops.spawn(async move {
            // Its drop tells the end, a panic's too.
            let _end = end;
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = turn => {}
            }
            let feeds = content_types.into_iter().map(|content_type| {
                let feed = Feed { tenant: Arc::clone(&tenant), content_type };
                let feed_state = state.feed(&feed.key());
                feed_run::FeedRun::new(feed, feed_state, Arc::clone(&metrics), troubles.clone(), once)
            });
            let feeds = feeds.collect();
            tenant::TenantRun::new(shared, number, client, feeds, once).run(stopped).await;
        });
        TenantLoop { stop, ended }
    }
}

/// What all loops that are started by these settings share.
fn shared(context: &Context, collect: &CollectConfig) -> Arc<tenant::Shared> {
    let fetch = fetch::FetchContext {
        forward: context.forward.clone(),
        budget: context.budget.clone(),
        max_record: collect.max_record,
        spool_dir: context.spool_dir.clone(),
        metrics: Arc::clone(&context.metrics),
    };
    Arc::new(tenant::Shared {
        fetch,
        turns: turns::Turns::new(collect.fetches),
        slow_lane: turns::Turns::new(SLOW_FETCHES),
        fetches_per_tenant: collect.fetches_per_tenant.max(1),
        clock: context.clock.clone(),
        poll_interval: collect.poll_interval,
        backfill: collect.backfill,
        intake: context.intake.clone(),
        metrics: Arc::clone(&context.metrics),
    })
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
    // A managed identity is asked for over the machine's own link, which the client never asks through a proxy.
    let tokens = auth::TokenSource::new(connections.clone(), clock.clone(), credential, name, Arc::clone(metrics));
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
            [&metrics.feed_watermark, &metrics.feed_last_success, &metrics.oldest_pending, &metrics.oldest_expiration]
        {
            gauges.with_label_values(&feed);
        }
        metrics.blobs_pending.with_label_values(&feed);
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
    metrics.api_tenant_requests.with_label_values(&[tenant]);
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
        metrics.api_seconds.with_label_values(&[operation]);
    }
}
