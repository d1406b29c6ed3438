//! `auditferry setup`: what a cluster should have before the first document. Comes in: a sink's configuration. Goes out:
//! requests to its cluster and a word on each step.
//!
//! May be repeated: what is there and right is left alone. Never touches a document, never deletes, never changes a
//! lifecycle policy, never replaces a template that is not ours unless told to.

use std::fmt;

use serde_json::{Value, json};

use super::answer::{self, Asked};
use super::cluster::{Cluster, Method, Question};
use super::engine::{Engine, Product};
use super::template::{Template, digest_of, is_ours};
use crate::config::{ElasticsearchConfig, IndexTarget, SinkConfig};
use crate::sink::web::Heard;
use crate::sink::{SendError, SinkBuildError};

/// Of our lifecycle policy, which names no indices and so serves all.
const POLICY: &str = "auditferry";
/// When a backing index is followed by the next. Rarely: what is sent again after that may be there twice.
const ROLLOVER_DAYS: u32 = 30;
const ROLLOVER_GIB: u32 = 50;

/// What may be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetupOptions {
    /// Say what would be done.
    pub dry_run: bool,
    /// Replace a template that is not ours.
    pub force: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something is new or other than before.
    Done(String),
    /// It was so already.
    There(String),
    /// Nothing was done, and somebody should know why.
    Note(String),
    /// It must not be done without a person's word: the set-up is not complete.
    Refused(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Done(what) => write!(f, "done     {what}"),
            Step::There(what) => write!(f, "there    {what}"),
            Step::Note(what) => write!(f, "note     {what}"),
            Step::Refused(what) => write!(f, "refused  {what}"),
        }
    }
}

/// The cluster could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Build(#[from] SinkBuildError),
    /// It was not reached, or refused what was asked.
    #[error(transparent)]
    Asked(#[from] SendError),
}

/// A set-up while it goes on.
struct Setup<'a> {
    name: &'a str,
    cluster: Cluster,
    options: SetupOptions,
    /// Our template, as it is now, is in the cluster.
    is_installed: bool,
    steps: &'a mut Vec<Step>,
}

/// Sets up the cluster of one sink, and appends what it did to `steps`. Ends at the first thing that it refuses.
pub async fn setup(
    sink: &SinkConfig,
    config: &ElasticsearchConfig,
    options: SetupOptions,
    steps: &mut Vec<Step>,
) -> Result<(), SetupError> {
    let cluster = Cluster::new(&sink.name, config)?;
    let mut setup = Setup { name: &sink.name, cluster, options, is_installed: false, steps };
    let engine = setup.engine().await?;
    if !engine.is_known() {
        setup.note(format!(
            "{engine}: neither Elasticsearch 7 to 9 nor OpenSearch 1 to 3; it is taken for Elasticsearch"
        ));
    }
    let is_stream = matches!(config.target, IndexTarget::DataStream(_));
    let policy = match (is_stream, engine.product) {
        (true, Product::Elasticsearch) => setup.lifecycle(&engine).await?,
        _ => None,
    };
    let template = match Template::of(&engine, &config.target, sink.format, policy) {
        Ok(template) => template,
        Err(why) => {
            setup.steps.push(Step::Refused(format!("index template: {why}")));
            return Ok(());
        }
    };
    if is_stream && engine.product == Product::OpenSearch {
        setup.state_management(&template).await?;
    }
    if !setup.template(&template).await? {
        return Ok(());
    }
    if let IndexTarget::DataStream(stream) = &config.target {
        setup.data_stream(&stream.name()).await?;
    }
    if let Some(name) = sample_of(&config.target) {
        setup.who_wins(&name, &template).await;
    }
    Ok(())
}

/// A name that templates for the target take too, and that is not there: an engine cannot simulate an index of the name
/// of a data stream that it has (OpenSearch 2.19 answers 500).
fn sample_of(target: &IndexTarget) -> Option<String> {
    match target {
        IndexTarget::DataStream(stream) => Some(format!("{}-sample", stream.name())),
        IndexTarget::Index(text) => {
            let fixed = text.split('{').next().filter(|fixed| !fixed.is_empty())?;
            Some(if fixed.len() == text.len() { text.clone() } else { format!("{fixed}sample") })
        }
    }
}

/// What a sink that starts sees of its template. For `run`, which only warns.
pub(super) enum Look {
    /// One knows our documents, or nobody can tell.
    Fine,
    /// None knows them, for this target.
    Missing(String),
    /// Our user may not look (Elasticsearch asks for `manage_index_templates`).
    Forbidden,
}

/// Looks for an index template.
pub(super) async fn look(cluster: &Cluster, target: &IndexTarget, is_raw: bool) -> Look {
    let Some(name) = sample_of(target).filter(|_| !is_raw) else { return Look::Fine };
    // Any template that knows our key is one for our documents, whoever installed it.
    let path = ["_index_template", "_simulate_index", &name];
    let query = [("filter_path", "template.mappings.properties.auditferry")];
    let asked = cluster.ask(&Question { query: &query, ..Question::new(Method::Post, &path) }).await;
    let Ok(heard) = asked else { return Look::Fine };
    let said = serde_json::from_slice::<Value>(&heard.body);
    match (heard.status, said) {
        (401 | 403, _) => Look::Forbidden,
        (200, Ok(said)) if said["template"]["mappings"]["properties"]["auditferry"].is_null() => {
            Look::Missing(target.text())
        }
        _ => Look::Fine,
    }
}

/// Whether a policy of index state management takes indices of a pattern for its own; a list, or a single one.
fn is_for(policy: &Value, pattern: &str) -> bool {
    let rules = &policy["ism_template"];
    let rules = rules.as_array().map_or(std::slice::from_ref(rules), Vec::as_slice);
    let patterns = rules.iter().filter_map(|rule| rule["index_patterns"].as_array()).flatten();
    patterns.filter_map(Value::as_str).any(|known| known == pattern)
}

impl Setup<'_> {
    fn note(&mut self, text: String) {
        self.steps.push(Step::Note(text));
    }

    fn done(&mut self, text: impl fmt::Display) {
        let text = if self.options.dry_run { format!("{text} (not really: --dry-run)") } else { text.to_string() };
        self.steps.push(Step::Done(text));
    }

    /// The answer, which is no refusal of us as a whole.
    async fn ask(&self, question: &Question<'_>) -> Result<Heard, SendError> {
        // Here nothing is sent again.
        let heard = self.cluster.ask(question).await.map_err(|mut error| {
            let length = error.reason.trim_end_matches("; sent again").len();
            error.reason.truncate(length);
            error
        })?;
        match heard.status {
            401 | 403 | 407 | 408 | 429 | 500.. => Err(self.refusal(&heard)),
            _ => Ok(heard),
        }
    }

    /// As [`ask`](Self::ask), and everything but a yes is an error.
    async fn put(&self, path: &[&str], body: Option<&Value>) -> Result<(), SendError> {
        if self.options.dry_run {
            return Ok(());
        }
        let mut question = Question::new(Method::Put, path);
        if let Some(body) = body {
            question = question.json(body.to_string().into_bytes());
        }
        let heard = self.ask(&question).await?;
        if heard.status / 100 == 2 { Ok(()) } else { Err(self.refusal(&heard)) }
    }

    fn refusal(&self, heard: &Heard) -> SendError {
        answer::refusal_of_setup(&Asked { sink: self.name, events: 0, fixed: None }, heard)
    }

    async fn engine(&mut self) -> Result<Engine, SendError> {
        let heard = self.ask(&Question::new(Method::Get, &[])).await?;
        if heard.status != 200 {
            return Err(self.refusal(&heard));
        }
        let engine = Engine::read(&heard.body);
        self.steps.push(Step::There(engine.to_string()));
        Ok(engine)
    }

    /// Elasticsearch's index lifecycle: rolls over and deletes nothing. The policy that is there is the operator's.
    async fn lifecycle(&mut self, engine: &Engine) -> Result<Option<&'static str>, SendError> {
        let path = ["_ilm", "policy", POLICY];
        let heard = self.ask(&Question::new(Method::Get, &path)).await?;
        match heard.status {
            200 => {
                self.steps.push(Step::There(format!("lifecycle policy `{POLICY}`, left as it is")));
                return Ok(Some(POLICY));
            }
            404 => {}
            _ => {
                self.note("no lifecycle policy: this cluster has no index lifecycle management".to_owned());
                return Ok(None);
            }
        }
        let size = if engine.version < (7, 13) { "max_size" } else { "max_primary_shard_size" };
        let rollover = json!({ "max_age": format!("{ROLLOVER_DAYS}d"), size: format!("{ROLLOVER_GIB}gb") });
        let policy = json!({ "policy": { "phases": { "hot": { "actions": { "rollover": rollover } } } } });
        self.put(&path, Some(&policy)).await?;
        self.done(format!(
            "lifecycle policy `{POLICY}`: a new backing index every {ROLLOVER_DAYS} days or {ROLLOVER_GIB} GB; nothing is deleted, add a delete phase as your retention wants it"
        ));
        Ok(Some(POLICY))
    }

    /// OpenSearch's index state management, a plugin.
    /// The policy finds its indices by their pattern, so each stream has its own, named as its template is.
    async fn state_management(&mut self, template: &Template) -> Result<(), SendError> {
        let Template { name, pattern, .. } = template;
        let path = ["_plugins", "_ism", "policies", name.as_str()];
        let heard = self.ask(&Question::new(Method::Get, &path)).await?;
        let said: Value = serde_json::from_slice(&heard.body).unwrap_or(Value::Null);
        if heard.status == 200 {
            self.steps.push(Step::There(format!("policy `{name}` of index state management, left as it is")));
            if !is_for(&said["policy"], pattern) {
                self.note(format!(
                    "policy `{name}` has no `ism_template` for `{pattern}`, so the stream does not roll over by it; add the pattern, or attach a policy by hand"
                ));
            }
            return Ok(());
        }
        // Without the plugin the path is not known: 400, and the error is a plain text.
        if heard.status != 404 || said["error"].is_string() {
            self.note("no policy: this cluster has no index state management; roll the stream over by hand, `POST /STREAM/_rollover`".to_owned());
            return Ok(());
        }
        let rollover = json!({ "min_index_age": format!("{ROLLOVER_DAYS}d"), "min_primary_shard_size": format!("{ROLLOVER_GIB}gb") });
        let policy = json!({ "policy": {
            "description": "a new backing index now and then; nothing is deleted; by auditferry",
            "default_state": "hot",
            "states": [{ "name": "hot", "actions": [{ "rollover": rollover }], "transitions": [] }],
            "ism_template": [{ "index_patterns": [pattern], "priority": 150 }],
        } });
        self.put(&path, Some(&policy)).await?;
        self.done(format!(
            "policy `{name}` of index state management: a new backing index every {ROLLOVER_DAYS} days or {ROLLOVER_GIB} GB; nothing is deleted"
        ));
        Ok(())
    }

    /// False where it was refused.
    async fn template(&mut self, template: &Template) -> Result<bool, SendError> {
        let Template { name, pattern, body, digest } = template;
        let path = ["_index_template", name.as_str()];
        let mut question = Question::new(Method::Get, &path);
        question.limit = 1024 * 1024;
        let heard = self.ask(&question).await?;
        let said: Value = serde_json::from_slice(&heard.body).unwrap_or(Value::Null);
        let installed = &said["index_templates"][0]["index_template"];
        let what = format!("index template `{name}` for `{pattern}`");
        match heard.status {
            404 => {
                self.put(&path, Some(body)).await?;
                self.is_installed = !self.options.dry_run;
                self.done(format!("{what} installed"));
            }
            200 if !is_ours(installed) && !self.options.force => {
                self.steps.push(Step::Refused(format!(
                    "{what}: there is one of that name that is not ours; look at it with `GET /_index_template/{name}`, and say --force to replace it"
                )));
                return Ok(false);
            }
            200 if digest_of(installed) == digest => {
                self.is_installed = true;
                self.steps.push(Step::There(format!("{what} is up to date")));
            }
            200 => {
                self.put(&path, Some(body)).await?;
                self.is_installed = !self.options.dry_run;
                self.done(format!("{what} replaced; it takes effect with the next backing index or index"));
            }
            _ => return Err(self.refusal(&heard)),
        }
        Ok(true)
    }

    async fn data_stream(&mut self, name: &str) -> Result<(), SendError> {
        let path = ["_data_stream", name];
        let heard = self.ask(&Question::new(Method::Get, &path)).await?;
        if heard.status == 200 {
            self.steps.push(Step::There(format!("data stream `{name}`")));
            return Ok(());
        }
        self.put(&path, None).await?;
        self.done(format!("data stream `{name}` made"));
        Ok(())
    }

    /// Of several templates for one name only that with the highest priority counts. A question that changes nothing, so
    /// it is asked in a dry run too.
    async fn who_wins(&mut self, name: &str, template: &Template) {
        if !self.is_installed {
            return;
        }
        let path = ["_index_template", "_simulate_index", name];
        let mut question = Question::new(Method::Post, &path);
        question.limit = 1024 * 1024;
        // Whoever may install a template need not be let simulate one.
        let Ok(heard) = self.cluster.ask(&question).await else { return };
        let Ok(said) = serde_json::from_slice::<Value>(&heard.body) else { return };
        let ours = &template.body["template"]["mappings"]["properties"];
        let theirs = &said["template"]["mappings"]["properties"];
        let lacks = |name: &String| theirs[name.as_str()].is_null();
        if heard.status == 200 && ours.as_object().is_some_and(|fields| fields.keys().any(lacks)) {
            self.note(format!(
                "another index template has a higher priority for `{}` than ours ({}), so documents get the types of that one; Elastic's own integration has 200",
                template.pattern, template.body["priority"]
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_for_the_patterns_that_it_names() {
        let one = json!({ "ism_template": { "index_patterns": ["logs-a-*"], "priority": 1 } });
        let two = json!({ "ism_template": [{ "index_patterns": ["logs-b-*"] }, { "index_patterns": ["logs-a-*"] }] });
        assert!(is_for(&one, "logs-a-*") && is_for(&two, "logs-a-*") && is_for(&two, "logs-b-*"));
        assert!(!is_for(&one, "logs-b-*") && !is_for(&json!({ "ism_template": null }), "logs-a-*"));
    }
}
