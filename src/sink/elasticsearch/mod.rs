//! Elasticsearch and OpenSearch: `POST …/_bulk`, one `create` a record with the record's key as `_id`.
//!
//! Comes in: events; goes out: gzipped bulk requests, and what became of each document ([`bulk`]). Effectively once per
//! backing index: what is sent again is there already (409), and that is as good as taken. Never overwrites a document
//! (`create`, not `index`), never takes an answer for one that is none ([`answer`]).

mod answer;
mod bulk;
mod cluster;
mod engine;
mod hosts;
mod setup;
mod target;
mod template;

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::line::Written;
use super::web::{ANSWER_LIMIT, Heard, compress};
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::config::{ElasticsearchConfig, IndexTarget, Pipeline, SinkConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use answer::Asked;
use bulk::WANTED;
use cluster::{Body, Cluster, Method, Question};
use engine::Engine;
use setup::Look;
pub use setup::{SetupError, SetupOptions, Step, setup};
use target::Target;

/// Bytes of an answer for each document that are read: a refused one is told of in some hundred.
const ANSWER_OF_ONE: usize = 2 * 1024;
/// The longest answer that is read. A batch with a longer one is halved.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// What makes a bulk request pass by every pipeline but a final one (Elasticsearch, "Ingest pipelines").
const NO_PIPELINE: &str = "_none";

/// One cluster and where our documents go in it.
pub struct ElasticsearchSink {
    name: String,
    written: Written,
    target: Target,
    config: IndexTarget,
    pipeline: Option<String>,
    gzip: bool,
    cluster: Cluster,
    /// What the cluster said of itself at the first contact.
    engine: OnceCell<Engine>,
    metrics: Arc<Metrics>,
}

impl ElasticsearchSink {
    /// Checks everything that can be checked without the network.
    pub fn new(
        config: &SinkConfig,
        elasticsearch: &ElasticsearchConfig,
        metrics: Arc<Metrics>,
    ) -> Result<ElasticsearchSink, SinkBuildError> {
        let name = config.name.clone();
        let target = Target::new(&elasticsearch.target);
        let target =
            target.map_err(|source| SinkBuildError::Template { sink: name.clone(), field: "index", source })?;
        compress::declare(&name, &metrics);
        metrics.sink_already_there.with_label_values(&[&name]);
        Ok(ElasticsearchSink {
            written: Written::of(config),
            target,
            pipeline: match &elasticsearch.pipeline {
                Pipeline::None => Some(NO_PIPELINE.to_owned()),
                Pipeline::OfIndex => None,
                Pipeline::Named(name) => Some(name.clone()),
            },
            config: elasticsearch.target.clone(),
            gzip: elasticsearch.gzip,
            cluster: Cluster::new(&name, elasticsearch)?,
            engine: OnceCell::new(),
            metrics,
            name,
        })
    }

    fn asked(&self, events: usize) -> Asked<'_> {
        Asked { sink: &self.name, events, fixed: self.target.fixed() }
    }

    /// What the cluster is; asked once, and said once.
    async fn engine(&self) -> Result<&Engine, SendError> {
        self.engine
            .get_or_try_init(|| async {
                let engine = self.ask_for_engine().await?;
                match &engine {
                    None => tracing::info!(sink = %self.name,
                        "our user or API key may not ask what the cluster is (cluster privilege `monitor`; of OpenSearch `cluster:monitor/main`); that changes nothing, and only this is not known"),
                    Some(engine) if engine.is_known() => tracing::info!(sink = %self.name, engine = %engine, "the cluster answers"),
                    Some(engine) => tracing::warn!(sink = %self.name, engine = %engine,
                        "the server does not say that it is Elasticsearch 7 to 9 or OpenSearch 1 to 3; it is taken for one"),
                }
                match setup::look(&self.cluster, &self.config, self.written.is_raw()).await {
                    Look::Missing(index) => tracing::warn!(sink = %self.name, index,
                        "no index template of the cluster knows our documents, so it guesses the types of their fields; install it with `auditferry setup -c FILE`"),
                    Look::Forbidden => tracing::info!(sink = %self.name,
                        "our user or API key may not look whether an index template knows our documents (`manage_index_templates`, in OpenSearch `cluster_manage_index_templates`); `auditferry setup --dry-run` with one that may tells"),
                    Look::Fine => {}
                }
                Ok(engine.unwrap_or_else(Engine::unknown))
            })
            .await
    }

    /// `None`: whoever may only write may not ask this.
    async fn ask_for_engine(&self) -> Result<Option<Engine>, SendError> {
        let heard = self.cluster.ask(&Question::new(Method::Get, &[])).await?;
        match heard.status {
            200 => Ok(Some(Engine::read(&heard.body))),
            403 => Ok(None),
            // What stands in front does not let it pass.
            404 | 405 => Ok(Some(Engine::unknown())),
            _ => Err(answer::refusal_of_contact(&self.asked(0), &heard)),
        }
    }

    /// Sends the batch and returns the answer, whatever it is.
    async fn post(&self, batch: &EncodedBatch) -> Result<Heard, SendError> {
        let body = compress::packed(&self.name, Cow::Borrowed(&batch.bytes), self.gzip, &self.metrics).await?;
        let path: &[&str] = match self.target.fixed() {
            Some(name) => &[name, "_bulk"],
            None => &["_bulk"],
        };
        let query = [("filter_path", WANTED), ("pipeline", self.pipeline.as_deref().unwrap_or_default())];
        let question = Question {
            method: Method::Post,
            path,
            query: &query[..if self.pipeline.is_some() { 2 } else { 1 }],
            body: Some(Body { bytes: body.into(), kind: "application/x-ndjson", gzip: self.gzip }),
            limit: (ANSWER_LIMIT + batch.ends.len() * ANSWER_OF_ONE).min(LONGEST_ANSWER),
        };
        Ok(self.cluster.ask(&question).await?)
    }
}

impl Sink for ElasticsearchSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.target.push(event, self.written, out);
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        self.engine().await?;
        let heard = self.post(batch).await?;
        let sorted = answer::read(&self.asked(batch.ends.len()), &heard)?;
        self.metrics.sink_already_there.with_label_values(&[&self.name]).inc_by(sorted.there as u64);
        sorted.into_result(&self.name, heard.retry_after)?;
        Ok(Accepted::default())
    }

    /// Whether the cluster answers and knows us. Whether its index takes documents only a batch can tell: a missing one may
    /// be made by it, and whoever may write may often not look.
    async fn probe(&self) -> Result<(), SendError> {
        self.cluster.read_login_again().await?;
        self.ask_for_engine().await.map(drop)
    }
}
