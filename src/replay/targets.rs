//! The sinks that letters go to: each with a driver of its own, built from the configuration as for `run`. Comes in: letters,
//! judged one by one. Goes out: deliveries; or why a letter cannot go there, which is for a person.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ack::Finalizer;
use crate::budget::Budget;
use crate::config::{Config, SinkConfig, SinkKind};
use crate::enrich::Enricher;
use crate::event::{Delivery, Docs, EventMeta, Part};
use crate::feed::{BlobId, ContentType, Feed, Tenant};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::record::{Field, RecordKey, View};
use crate::route::Routes;
use crate::sink::dead_letters::DeadLetters;
use crate::sink::driver::{self, DriverHandle};
use crate::sink::{self, ShapedSink, SinkBuildError, SinkId, SinkSet};
use crate::source::RawBatch;
use crate::state::State;

use super::letter::Letter;

/// Where a letter is to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    pub sink: String,
    /// It goes as it is: what the sink was shown.
    pub as_shown: bool,
}

/// A sink at work.
struct Running {
    id: SinkId,
    config: SinkConfig,
    driver: DriverHandle,
    pipeline: Pipeline,
    /// Since when it takes nothing.
    down_since: Option<Instant>,
    is_given_up: bool,
}

/// See the module's head.
pub(super) struct Targets {
    config: Config,
    tenants: HashMap<String, Arc<Tenant>>,
    named: Vec<String>,
    running: BTreeMap<Target, Running>,
    state: State,
    dead: DeadLetters,
    enricher: Arc<Enricher>,
    budget: Budget,
    pub metrics: Arc<Metrics>,
}

impl Targets {
    /// `named`: every letter goes to these; none: to the sink that refused it. `dead` is where what is refused again goes.
    pub fn new(config: Config, named: Vec<String>, dead: DeadLetters, metrics: Arc<Metrics>) -> Targets {
        let tenant = |tenant: &crate::config::TenantConfig| (tenant.tenant.name.clone(), Arc::clone(&tenant.tenant));
        Targets {
            tenants: config.tenants.iter().map(tenant).collect(),
            named,
            running: BTreeMap::new(),
            // Its books are of this process alone: nothing of the running one's is touched.
            state: State::detached(Arc::clone(&metrics)),
            dead,
            enricher: Enricher::open(&config.enrich, &std::env::temp_dir(), &metrics),
            budget: Budget::new(usize::MAX),
            config,
            metrics,
        }
    }

    /// Where the letter goes.
    ///
    /// # Errors
    /// Why it cannot go anywhere, for a person.
    pub fn of(&self, letter: &Letter) -> Result<Vec<Target>, String> {
        if letter.record.is_none() {
            return Err("without its record, which was too large: fetch the blob that the letter names".to_owned());
        }
        if ContentType::parse(&letter.content_type).is_none() {
            return Err(format!("of content type `{}`, which is not known", letter.content_type));
        }
        if !self.tenants.contains_key(&letter.tenant) {
            return Err(format!("of tenant `{}`, which is not in the configuration", letter.tenant));
        }
        if self.named.is_empty() && self.sink(&letter.sink).is_none() {
            return Err(match letter.sink.as_str() {
                "" | "dead_letters" => "that no sink was asked for: name one with --sink".to_owned(),
                sink => format!("of sink `{sink}`, which is not in the configuration: name another with --sink"),
            });
        }
        let own = std::slice::from_ref(&letter.sink);
        let names = if self.named.is_empty() { own } else { &self.named };
        names.iter().map(|name| self.fitting(name, letter)).collect()
    }

    fn sink(&self, name: &str) -> Option<&SinkConfig> {
        self.config.sinks.iter().find(|sink| sink.name == name)
    }

    fn fitting(&self, name: &str, letter: &Letter) -> Result<Target, String> {
        let config = self.sink(name).ok_or_else(|| format!("for sink `{name}`, which is not in the configuration"))?;
        if let Some(why) = unfit(config) {
            return Err(format!("for sink `{name}`: {why}"));
        }
        if !letter.is_edited {
            return Ok(Target { sink: name.to_owned(), as_shown: false });
        }
        let is_same = letter.format == config.format
            && (letter.profile == config.ecs_profile || letter.format != crate::config::Format::Ecs);
        if !is_same {
            return Err(format!(
                "that holds what sink `{}` was shown, as `{}`, and sink `{name}` has `{}`",
                letter.sink,
                letter.format.as_str(),
                config.format_name()
            ));
        }
        Ok(Target { sink: name.to_owned(), as_shown: true })
    }

    /// Hands the letter to these sinks. `ack` hears what becomes of it.
    ///
    /// # Errors
    /// A sink cannot be built.
    pub fn deliver(&mut self, letter: &Letter, targets: &[Target], ack: Finalizer) -> Result<(), SinkBuildError> {
        let (Some(tenant), Some(content_type)) =
            (self.tenants.get(&letter.tenant).cloned(), ContentType::parse(&letter.content_type))
        else {
            return Ok(());
        };
        let feed = Feed { tenant, content_type };
        for target in targets {
            self.start(target)?;
            let Some(running) = self.running.get(target) else { continue };
            let blob = BlobId { feed: feed.clone(), content_id: Arc::from(letter.blob.as_str()), created_ms: 0 };
            let record = letter.record.clone().unwrap_or_default();
            if target.as_shown {
                let (part, key) = shown(blob, letter, record, &running.config);
                let only = SinkSet::of(running.id);
                let wanted = self.state.delivered().claim(only, only, std::iter::once((key, ack.share())));
                if wanted.first().is_some_and(|sinks| !sinks.is_empty()) {
                    running.driver.send(Delivery { part: Arc::new(part), events: vec![0] });
                }
                continue;
            }
            let mut charge = self.budget.charge(&Arc::from(letter.tenant.as_str()), content_type);
            charge.add(record.len());
            let end = u32::try_from(record.len()).unwrap_or(u32::MAX);
            let spans = std::iter::once(0..end).collect();
            let batch = RawBatch { blob, bytes: record.into(), spans, ack: ack.share(), charge };
            for (_, delivery) in running.pipeline.process(batch, self.state.delivered()) {
                running.driver.send(delivery);
            }
        }
        ack.release();
        Ok(())
    }

    /// Starts the sink's driver where it does not run yet.
    fn start(&mut self, target: &Target) -> Result<(), SinkBuildError> {
        if self.running.contains_key(target) {
            return Ok(());
        }
        let place = self.config.sinks.iter().position(|sink| sink.name == target.sink);
        let Some((place, config)) = place.map(|place| (place, &self.config.sinks[place])) else { return Ok(()) };
        // Its own condition has let the record through once; and a letter must not be dropped for want of room.
        let mut config = SinkConfig { required: true, when: None, ..config.clone() };
        if let SinkKind::Kafka(kafka) = &mut config.kind {
            // With the transactional id of the `run` beside us we would end it.
            kafka.transactional = None;
        }
        // At most 31 sinks; one that is met in both ways has two drivers and is one sink all the same.
        let id = SinkId(u8::try_from(place).unwrap_or_default());
        let (state, dead, metrics) = (self.state.clone(), self.dead.clone(), Arc::clone(&self.metrics));
        let sink = if target.as_shown {
            let again = ShapedSink::config_again(&config);
            sink::build(&again, id, &state, Arc::clone(&metrics))?.again(&again)
        } else {
            sink::build(&config, id, &state, Arc::clone(&metrics))?
        };
        let driver = driver::spawn_for_replay(config.clone(), id, sink, state, dead, metrics);
        let mut routes = Routes::default();
        routes.add(id, &config);
        let name = target.sink.clone();
        let (enricher, metrics) = (Arc::clone(&self.enricher), Arc::clone(&self.metrics));
        let original = self.config.keep_original;
        let pipeline = Pipeline::new(Arc::new(routes), enricher, original, metrics, None, |_| name.clone());
        let running = Running { id, config, driver, pipeline, down_since: None, is_given_up: false };
        self.running.insert(target.clone(), running);
        Ok(())
    }

    /// Gives up on sinks that have taken nothing for `patience`: what waits for them stays in the dead letters. Names them.
    pub fn give_up(&mut self, patience: Duration) -> Vec<String> {
        let mut given_up = Vec::new();
        for (target, running) in &mut self.running {
            if *running.driver.health().borrow() {
                running.down_since = None;
                continue;
            }
            let since = *running.down_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= patience && !running.is_given_up {
                running.is_given_up = true;
                running.driver.give_back(true);
                running.driver.close();
                given_up.push(target.sink.clone());
            }
        }
        given_up
    }

    /// Ends the drivers of sinks that were given up, and with `all` the others too.
    pub async fn end(&self, all: bool) {
        let now = tokio::time::Instant::now();
        for running in self.running.values().filter(|running| all || running.is_given_up) {
            running.driver.close();
            running.driver.finish(now).await;
        }
    }
}

/// Why a sink of this kind gets no letters.
fn unfit(config: &SinkConfig) -> Option<&'static str> {
    match config.kind {
        SinkKind::File(_) => {
            Some("a file is written by one process, which keeps the books of its length; name another sink")
        }
        _ => None,
    }
}

/// A part of the one event that the sink was shown, and the key of its record.
fn shown(blob: BlobId, letter: &Letter, body: Vec<u8>, config: &SinkConfig) -> (Part, RecordKey) {
    let key = letter.key.unwrap_or_else(|| RecordKey::of_bytes(&blob.feed.tenant.id, &body));
    let mut meta = EventMeta { key, readable: true, ..EventMeta::default() };
    if let Ok(view) = View::parse(&body) {
        let place = |field| view.span_of_string(field).unwrap_or(0..0);
        meta.time_ms = view.creation_time_ms().or_else(|| document_time_ms(&body));
        (meta.workload, meta.operation) = (place(Field::Workload), place(Field::Operation));
    }
    let mut docs = Vec::new();
    meta.docs = Docs::write(&mut docs, |form, docs| {
        if form == config.form() {
            docs.extend_from_slice(&body);
        }
    });
    let mut raw = body;
    meta.raw = 0..u32::try_from(raw.len()).unwrap_or(u32::MAX);
    // The record's Id may be among what the sink was not shown; the letter has it as a text.
    let mut id = Vec::new();
    crate::escape::escape(&letter.event_id, &mut id);
    raw.extend_from_slice(&id);
    meta.id = meta.raw.end..u32::try_from(raw.len()).unwrap_or(u32::MAX);
    (Part::bare(blob, raw.into(), docs, vec![meta]), key)
}

/// `@timestamp` of a document, milliseconds since 1970.
fn document_time_ms(json: &[u8]) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(rename = "@timestamp")]
        timestamp: String,
    }
    let document: Document = serde_json::from_slice(json).ok()?;
    Some(document.timestamp.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}
