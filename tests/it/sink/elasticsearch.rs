//! Elasticsearch's sink: against a cluster that misbehaves in every way it can, and against a real OpenSearch for what a
//! fake would only repeat: conflicts, mappings, missing indices, names.

use std::sync::Arc;
use std::time::Duration;

use auditferry::config::{
    BatchConfig, ElasticsearchConfig, Format, IndexTarget, LoginConfig, Pipeline, ProxyConfig, SinkConfig, SinkKind,
    TlsConfig,
};
use auditferry::record::{RecordKey, View};
use auditferry::secret::SecretSource;
use auditferry::sink::elasticsearch::{SetupOptions, Step, setup};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Bench, LIMIT, counts, keys_of, part_with, records, sink_config};
use crate::elasticsearch::{FakeElasticsearch, Knobs};
use crate::real::opensearch::OpenSearch;

/// A sink to these addresses that writes into one index, or by the template of one.
pub fn elasticsearch_kind(urls: &[String], index: &str, login: LoginConfig) -> ElasticsearchConfig {
    kind(urls, IndexTarget::Index(index.to_owned()), login)
}

fn kind(urls: &[String], target: IndexTarget, login: LoginConfig) -> ElasticsearchConfig {
    ElasticsearchConfig {
        urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        target,
        pipeline: Pipeline::None,
        gzip: true,
        login,
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Off,
        timeout: Duration::from_secs(5),
    }
}

fn index(text: &str) -> IndexTarget {
    IndexTarget::Index(text.to_owned())
}

fn sink_to(urls: &[String], target: IndexTarget) -> SinkConfig {
    sink_config("es", SinkKind::Elasticsearch(kind(urls, target, LoginConfig::None)))
}

fn sink(fake: &FakeElasticsearch) -> SinkConfig {
    sink_to(&[fake.url()], index("o365"))
}

fn ids(fake: &FakeElasticsearch) -> Vec<String> {
    let mut ids: Vec<String> = fake.books().documents.into_keys().map(|(_, id)| id).collect();
    ids.sort();
    ids
}

fn there_already(bench: &Bench) -> u64 {
    bench.metrics.sink_already_there.with_label_values(&["es"]).get()
}

/// Offers `count` records to a cluster with these faults: all must be there once, and none in the dead letters. Gives
/// back how many were there already when they were sent.
async fn all_arrive(count: usize, faults: impl FnOnce(&mut Knobs)) -> (FakeElasticsearch, u64) {
    let fake = FakeElasticsearch::start().await;
    fake.set(faults);
    let bench = Bench::start(sink(&fake));
    let offer = bench.offer(records(0, count)).await;
    assert_eq!(offer.settled().await, counts(count as u32, 0));
    assert_eq!(ids(&fake), keys_of(&offer));
    assert!(bench.dead_letters().is_empty());
    let there = there_already(&bench);
    bench.stop().await;
    (fake, there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_created_once_and_no_pipeline_touches_it() {
    let (fake, there) = all_arrive(3000, |_| {}).await;
    let books = fake.books();
    assert_eq!((there, books.conflicts), (0, 0));
    assert!(books.query.contains("pipeline=_none"), "{}", books.query);
    assert!(books.sizes.len() <= 3000 * 290 / 90_000, "large batches: {:?}", books.sizes);
    let one = books.documents.values().next().unwrap();
    assert!(one["Id"].is_string() && one["Pad"].as_str().unwrap().len() == 180, "as it came: {one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_find_the_queue_full_are_sent_again_and_no_others() {
    let (fake, there) = all_arrive(100, |knobs| knobs.busy_items = 3).await;
    assert_eq!(there, 0, "what was taken was not sent again");
    assert_eq!(fake.books().sizes[..4], [100, 50, 25, 12]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_cluster_is_tried_again_until_it_takes_everything() {
    let (_, there) = all_arrive(50, |knobs| {
        (knobs.throttle, knobs.unavailable, knobs.html) = (2, 2, 2);
        knobs.retry_after = Some("0".into());
    })
    .await;
    assert_eq!(there, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_cut_or_short_doubles_nothing() {
    for faults in
        [|knobs: &mut Knobs| knobs.hang_up = 2, |knobs: &mut Knobs| knobs.half = 2, |knobs: &mut Knobs| knobs.short = 2]
    {
        let (fake, there) = all_arrive(40, faults).await;
        assert_eq!((fake.count(), there), (40, 40), "the last try found all of them there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_large_for_the_cluster_is_halved_until_it_fits() {
    all_arrive(200, |knobs| knobs.max_body = Some(20_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_documents_become_dead_letters_and_their_neighbours_arrive_in_one_request() {
    let fake = FakeElasticsearch::start().await;
    fake.set(|knobs| {
        knobs.judge = Some(Arc::new(|_, document| {
            let bad = document["Id"].as_str().unwrap().ends_with('7');
            bad.then_some((
                400,
                "mapper_parsing_exception",
                "failed to parse field [Id] of type [long] in document with id 'x'. Preview of field's value: '7'",
            ))
        }));
    });
    let bench = Bench::start(sink(&fake));
    let offer = bench.offer(records(0, 100)).await;
    assert_eq!(offer.settled().await, counts(90, 10));
    assert_eq!((fake.count(), fake.books().bulks), (90, 1), "nothing is sent twice");
    let letters = bench.dead_letters();
    assert!(letters.iter().all(|letter| letter["record"]["Id"].as_str().unwrap().ends_with('7')));
    let answer = letters[0]["answer"].as_str().unwrap();
    assert!(answer.contains("mapper_parsing_exception: failed to parse field [Id] of type [long]"), "{answer}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_refuses_nearly_all_for_one_cause_buries_no_more_than_a_batch() {
    let fake = FakeElasticsearch::start().await;
    let limit = "Limit of total fields [1000] has been exceeded";
    fake.set(|knobs| knobs.judge = Some(Arc::new(move |_, _| Some((400, "illegal_argument_exception", limit)))));
    let mut config = sink(&fake);
    config.batch = BatchConfig { max_events: 100, concurrency: 1, ..config.batch };
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 300)).await;
    bench.until_health(false).await;
    assert_eq!(bench.dead_letters().len(), 100);
    fake.set(|knobs| knobs.judge = None);
    assert_eq!(offer.settled().await, counts(200, 100));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_hold_everything_until_the_file_is_rotated_and_are_never_shown() {
    let fake = FakeElasticsearch::start().await;
    fake.set(|knobs| knobs.authorization = Some("ApiKey new-canary".into()));
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("key");
    std::fs::write(&path, "old-canary\n").unwrap();
    let login = LoginConfig::Token { scheme: auditferry::config::API_KEY, token: SecretSource::File(path.clone()) };
    let kind = kind(&[fake.url()], index("o365"), login);
    let config = sink_config("es", SinkKind::Elasticsearch(kind.clone()));
    // What the circuit is told, word for word.
    let refused = setup(&config, &kind, SetupOptions::default(), &mut Vec::new()).await.unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("unable to authenticate"), "{refused}");
    assert!(refused.contains("check `auth`") && !refused.contains("old-canary"), "{refused}");
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 500)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!offer.is_settled() && fake.count() == 0 && bench.dead_letters().is_empty());
    std::fs::write(&path, "new-canary\n").unwrap();
    assert_eq!(offer.settled().await, counts(500, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_away_costs_nothing_where_another_answers() {
    let (one, two) = (FakeElasticsearch::start().await, FakeElasticsearch::start().await);
    let nobody = format!("http://127.0.0.1:{}", crate::real::free_port());
    let bench = Bench::start(sink_to(&[one.url(), nobody, two.url()], index("o365")));
    let offer = bench.offer(records(0, 5_000)).await;
    assert_eq!(offer.settled().await, counts(5_000, 0));
    assert_eq!(one.count() + two.count(), 5_000);
    assert!(one.count() > 500 && two.count() > 500, "they take turns: {} and {}", one.count(), two.count());
    let retries = bench.metrics.sink_retries.with_label_values(&["es", "failed"]).get();
    assert_eq!(retries, 0, "within one send, another address is asked");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_back_gets_everything() {
    let fake = FakeElasticsearch::start().await;
    let address = fake.address();
    let bench = Bench::start(sink(&fake));
    bench.offer(records(0, 10)).await.settled().await;
    drop(fake);
    let offer = bench.offer(records(10, 300)).await;
    bench.until_health(false).await;
    assert!(!offer.is_settled());
    let back = FakeElasticsearch::start_at(address).await;
    assert_eq!(offer.settled().await, counts(300, 0));
    assert_eq!(back.count(), 300);
    bench.until_health(true).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_for_a_forbidden_index_are_told_apart_from_their_neighbours() {
    let fake = FakeElasticsearch::start().await;
    fake.set(|knobs| {
        knobs.judge = Some(Arc::new(|index, _| {
            (index == "o365-bad").then_some((
                403,
                "security_exception",
                "action [x] is unauthorized for user [u] on indices [o365-bad]",
            ))
        }));
    });
    let record = |n: usize, operation: &str| format!("{{\"Id\":\"{n}\",\"Operation\":\"{operation}\"}}");
    let mut config = sink_to(&[fake.url()], index("o365-{operation}"));
    config.batch.max_events = 1000;
    let bench = Bench::start(config);
    // The configuration refuses {operation}; it is the place that the bench's records have.
    let some = (0..20).map(|n| record(n, if n < 3 { "bad" } else { "good" }));
    assert_eq!(bench.offer(some).await.settled().await, counts(17, 3));
    let letters = bench.dead_letters();
    assert!(letters[0]["answer"].as_str().unwrap().contains("on indices [o365-bad]"), "{}", letters[0]);
    // Most of a batch: somebody is to mend it, and nothing more is buried.
    let offer = bench.offer((100..120).map(|n| record(n, "bad"))).await;
    bench.until_health(false).await;
    assert!(!offer.is_settled() && bench.dead_letters().len() == 3);
    fake.set(|knobs| knobs.judge = None);
    assert_eq!(offer.settled().await, counts(20, 0));
    bench.stop().await;
}

#[tokio::test]
async fn setup_installs_what_is_missing_and_leaves_what_is_not_ours() {
    let fake = FakeElasticsearch::start().await;
    let stream = auditferry::config::DataStream::parse("logs-o365.audit-default").unwrap();
    let kind = kind(&[fake.url()], IndexTarget::DataStream(stream), LoginConfig::None);
    let mut config = sink_config("es", SinkKind::Elasticsearch(kind.clone()));
    config.format = Format::Ecs;
    let run = async |options| {
        let mut steps = Vec::new();
        setup(&config, &kind, options, &mut steps).await.unwrap();
        steps
    };
    let count = |steps: &[Step], wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    let done: fn(&Step) -> bool = |step| matches!(step, Step::Done(_));
    let dry = run(SetupOptions { dry_run: true, force: false }).await;
    assert_eq!((count(&dry, done), fake.knobs().things.len()), (3, 0), "{dry:?}");
    let steps = run(SetupOptions::default()).await;
    assert_eq!(count(&steps, done), 3, "policy, template, stream: {steps:?}");
    let things = fake.knobs().things;
    assert_eq!(
        things.keys().collect::<Vec<_>>(),
        ["/_data_stream/logs-o365.audit-default", "/_ilm/policy/auditferry", "/_index_template/auditferry"]
    );
    let template = &things["/_index_template/auditferry"];
    assert_eq!(template["template"]["settings"]["index"]["lifecycle"]["name"], "auditferry");
    let again = run(SetupOptions::default()).await;
    assert_eq!(count(&again, done), 0, "{again:?}");
    // Another one that wins, which a dry run tells too; the fake takes the first by name for that.
    let other = json!({ "template": { "mappings": { "properties": { "message": {} } } }, "priority": 200 });
    fake.set(|knobs| _ = knobs.things.insert("/_index_template/another".into(), other));
    let dry = run(SetupOptions { dry_run: true, force: false }).await;
    assert!(matches!(dry.last(), Some(Step::Note(why)) if why.contains("a higher priority")), "{dry:?}");
    fake.set(|knobs| _ = knobs.things.remove("/_index_template/another"));
    // Somebody else's of the same name.
    fake.set(|knobs| {
        knobs.things.insert("/_index_template/auditferry".into(), json!({ "_meta": { "description": "mine" } }));
    });
    let refused = run(SetupOptions::default()).await;
    assert!(matches!(refused.last(), Some(Step::Refused(why)) if why.contains("--force")), "{refused:?}");
    assert_eq!(fake.knobs().things["/_index_template/auditferry"]["_meta"]["description"], "mine");
    let forced = run(SetupOptions { dry_run: false, force: true }).await;
    assert_eq!(count(&forced, done), 1, "{forced:?}");
    assert_eq!(fake.knobs().things["/_index_template/auditferry"]["_meta"]["managed_by"], "auditferry");
    // One that may not.
    fake.set(|knobs| knobs.forbidden = vec!["/_index_template".into()]);
    let error = setup(&config, &kind, SetupOptions::default(), &mut Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains("manage_index_templates"), "{error}");
}

fn dlp(operation: &str) -> String {
    format!(
        "{{\"Id\":\"00000000-0000-4000-8000-0000000000d1\",\"CreationTime\":\"2026-03-01T10:00:00\",\"RecordType\":63,\"Operation\":\"{operation}\",\"Workload\":\"Exchange\"}}"
    )
}

/// One engine for all that needs one: a start takes long.
#[tokio::test(flavor = "multi_thread")]
async fn opensearch_has_every_record_once_and_says_what_it_refuses() {
    let engine = OpenSearch::start().await;
    let url = [engine.url()];

    // Sent again by a process that remembers nothing: not a document more.
    for round in 0..2 {
        let bench = Bench::start(sink_to(&url, index("o365-again")));
        assert_eq!(bench.offer(records(0, 2_000)).await.settled().await, counts(2_000, 0));
        assert_eq!(engine.count("o365-again").await, 2_000);
        assert_eq!(there_already(&bench), round * 2_000);
        bench.stop().await;
    }
    let one = engine.ask(Method::GET, "/o365-again/_search?size=1", String::new()).await;
    let source = &one["hits"]["hits"][0]["_source"];
    assert_eq!(source["Pad"].as_str().unwrap().len(), 180, "as it came: {source}");

    // Two records of one Id.
    let bench = Bench::start(sink_to(&url, index("o365-dlp-{day}")));
    let by_product = |record: &str| RecordKey::of("6f1c", &View::parse(record.as_bytes()).unwrap());
    let offer = bench.offer_part(part_with(["DlpRuleMatch", "DlpRuleUndo", "DlpRuleMatch"].map(dlp), by_product));
    let settled = offer.settled().await;
    assert_eq!((settled.delivered, settled.duplicate, settled.lost), (2, 1, 0), "one of the three is there twice");
    assert_eq!(engine.count("o365-dlp-2023.11.14").await, 2, "both live, on the day of the event");
    bench.stop().await;

    // A conflict with the mapping: a dead letter, and its neighbours arrive.
    let mapping = json!({ "mappings": { "properties": { "Size": { "type": "long" } } } });
    engine.ask(Method::PUT, "/o365-mapped", mapping.to_string()).await;
    let bench = Bench::start(sink_to(&url, index("o365-mapped")));
    let sized = (0..20).map(|n| match n {
        7 => "{\"Id\":\"7\",\"Size\":\"canary\"}".to_owned(),
        n => format!("{{\"Id\":\"{n}\",\"Size\":{n}}}"),
    });
    assert_eq!(bench.offer(sized).await.settled().await, counts(19, 1));
    assert_eq!(engine.count("o365-mapped").await, 19);
    let letter = &bench.dead_letters()[0];
    let answer = letter["answer"].as_str().unwrap();
    assert!(answer.contains("failed to parse field [Size] of type [long]") && !answer.contains("canary"), "{answer}");
    assert_eq!(letter["record"]["Size"], "canary");
    bench.stop().await;

    // An index that is not there and may not be made: named, held, nothing buried; then it is made.
    let only = json!({ "persistent": { "action.auto_create_index": "-o365-missing*,+*" } });
    engine.ask(Method::PUT, "/_cluster/settings", only.to_string()).await;
    let bench = Bench::start(sink_to(&url, index("o365-missing")));
    let offer = bench.offer(records(0, 100)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_settled() && bench.dead_letters().is_empty());
    let said = bench.refusal(records(0, 1)).await;
    assert!(said.contains("`o365-missing` takes nothing from us") && said.contains("no such index"), "{said}");
    engine.ask(Method::PUT, "/o365-missing", String::new()).await;
    assert_eq!(offer.settled().await, counts(100, 0));
    assert_eq!(engine.count("o365-missing").await, 100);
    bench.stop().await;

    // A write block, as a full disk sets one: waited for.
    let block = |on: bool| json!({ "index.blocks.read_only_allow_delete": if on { json!(true) } else { Value::Null } });
    engine.ask(Method::PUT, "/o365-again/_settings", block(true).to_string()).await;
    let bench = Bench::start(sink_to(&url, index("o365-again")));
    let offer = bench.offer(records(5_000, 100)).await;
    bench.until_health(false).await;
    assert!(!offer.is_settled() && bench.dead_letters().is_empty());
    engine.ask(Method::PUT, "/o365-again/_settings", block(false).to_string()).await;
    assert_eq!(offer.settled().await, counts(100, 0));
    bench.stop().await;

    // A pipeline that is not there holds; none, the default, was shown above.
    let mut config = sink_to(&url, index("o365-piped"));
    if let SinkKind::Elasticsearch(kind) = &mut config.kind {
        kind.pipeline = Pipeline::Named("nowhere".into());
    }
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 10)).await;
    bench.until_health(false).await;
    let said = bench.refusal(records(0, 1)).await;
    assert!(said.contains("pipeline with id [nowhere]") && said.contains("`pipeline`"), "{said}");
    assert!(!offer.is_settled() && bench.dead_letters().is_empty());
    bench.driver.close();
    bench.driver.finish(tokio::time::Instant::now()).await;

    set_up(&engine, &url).await;
}

/// `setup` against the engine, and what OpenSearch says of itself when it plays an older Elasticsearch.
async fn set_up(engine: &OpenSearch, url: &[String]) {
    let stream = auditferry::config::DataStream::parse("logs-o365.audit-default").unwrap();
    let target = |config: &str| match config {
        "stream" => IndexTarget::DataStream(stream.clone()),
        text => index(text),
    };
    let run = async |to: &str, format| {
        let kind = kind(url, target(to), LoginConfig::None);
        let mut config = sink_config("es", SinkKind::Elasticsearch(kind.clone()));
        config.format = format;
        let mut steps = Vec::new();
        tokio::time::timeout(LIMIT, setup(&config, &kind, SetupOptions::default(), &mut steps)).await.unwrap().unwrap();
        steps
    };
    let done = |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::Done(_))).count();
    let first = run("stream", Format::Ecs).await;
    assert_eq!(first[0], Step::There("OpenSearch 2.19.3".into()));
    assert_eq!(done(&first), 2, "template and stream; there is no plugin for policies: {first:?}");
    assert!(first.iter().any(|step| matches!(step, Step::Note(why) if why.contains("no index state management"))));
    assert_eq!(done(&run("stream", Format::Ecs).await), 0, "nothing is left to do");
    assert_eq!(done(&run("daily-{day}", Format::Raw).await), 1, "a template for plain indices");
    // It plays Elasticsearch 7.10.2, and is known all the same.
    let play = |on: bool| json!({ "persistent": { "compatibility.override_main_response_version": on } }).to_string();
    engine.ask(Method::PUT, "/_cluster/settings", play(true)).await;
    assert_eq!(run("daily-{day}", Format::Raw).await[0], Step::There("OpenSearch 7.10.2".into()));
    engine.ask(Method::PUT, "/_cluster/settings", play(false)).await;
    let streams = engine.ask(Method::GET, "/_data_stream", String::new()).await;
    assert_eq!(streams["data_streams"][0]["template"], "auditferry");
}
