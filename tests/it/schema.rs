//! The schema that editors read, held against what the program reads: a real validator of JSON Schema takes every
//! example that is in the papers, and refuses what `validate` refuses of shape and spelling.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::real;

/// Reads `[schema, document, …]` and prints one line a document: the first fault, or nothing.
const JUDGE: &str = "
import json, sys, jsonschema
schema, *documents = json.load(sys.stdin)
Validator = getattr(jsonschema, sys.argv[1])
Validator.check_schema(schema)
judge = Validator(schema)
for document in documents:
    fault = next(iter(judge.iter_errors(document)), None)
    print(json.dumps(fault and fault.message))
";

/// A Python with the validator, fetched once.
fn python() -> PathBuf {
    real::install("jsonschema-4.26.0", |dir| {
        // A venv knows its own path, so what is installed is a plain directory beside it.
        real::installer(
            Command::new("python3")
                .args(["-m", "pip", "install", "-q", "--target"])
                .arg(dir)
                .args(["jsonschema==4.26.0"]),
        );
    })
}

/// What is wrong with each document, says the class `validator`; `None` where the schema takes it.
pub fn judge(validator: &str, schema: &Value, documents: &[Value]) -> Vec<Option<String>> {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", python()).args(["-c", JUDGE, validator]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let all: Vec<&Value> = std::iter::once(schema).chain(documents).collect();
    let input = serde_json::to_vec(&all).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the validator did not run");
    let lines = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), documents.len());
    said
}

fn schema() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_auditferry")).args(["config", "schema"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every block of YAML in the papers; one that shows a part of a sink is put into one.
fn examples() -> Vec<(String, Value)> {
    let mut found = vec![("config example".to_owned(), yaml(auditferry::config::EXAMPLE))];
    for paper in ["README.md", "docs/configuration.md"] {
        for block in read(paper).split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let mut value = yaml(block);
            if value.get("sinks").is_none() && value.get("tenants").is_none() {
                let mut sink = serde_json::json!({ "name": "x", "type": "stdout" });
                sink.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
                value = serde_json::json!({ "tenants_from": "d", "sinks": [sink] });
            }
            if value.get("tenants").is_none() {
                value["tenants_from"] = "d".into();
            }
            found.push((format!("{paper}: {}", block.lines().next().unwrap_or_default()), value));
        }
    }
    found
}

const TENANT: &str = "{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: x}}";

/// A configuration that is good but for `what`: a sink, or a line of the top level.
fn with(what: &str) -> String {
    match what.strip_prefix("- ") {
        None if what.starts_with("tenants:") => format!("sinks: [{{name: o, type: stdout}}]\n{what}\n"),
        Some(sink) => format!("tenants: [{TENANT}]\nsinks: [{sink}]\n"),
        None => format!("tenants: [{TENANT}]\nsinks: [{{name: o, type: stdout}}]\n{what}\n"),
    }
}

#[test]
fn the_schema_takes_every_example_and_refuses_what_the_program_refuses() {
    let schema = schema();
    let examples = examples();
    assert!(examples.len() >= 4, "{} examples", examples.len());
    let documents: Vec<Value> = examples.iter().map(|(_, value)| value.clone()).collect();
    for ((name, _), said) in examples.iter().zip(judge("Draft7Validator", &schema, &documents)) {
        assert_eq!(said, None, "{name}");
    }

    let good = [
        "collect: {poll_interval: \"${EVERY:-30s}\", in_flight: 33554432, fetches: \"4\"}",
        "collect:",
        "tenant_defaults: {cloud: gcc_high, content_types: DLP.All}",
        "- {name: o, type: stdout, when: {any: [{operation: {not: [Send, {prefix: Add}]}}, {source_ip: {cidr: 10.0.0.0/8}}]}}",
        "- {name: o, type: stdout, required: \"true\", drop_fields: [user_agent], rate_limit: {events_per_second: 5}}",
        "- {name: o, type: splunk_hec, url: \"${URL:-https://s}\", token: t, indexer_acknowledgement: {enabled: auto}}",
        "proxy: off",
        "proxy: proxy.example:3128",
        "proxy: {url: 'http://proxy.example:3128', username: u, password: \"${P:-p}\", no_proxy: [a.example, 10.0.0.0/8]}",
        "- {name: o, type: splunk_hec, url: 'https://s', token: t, proxy: {url: proxy.example}}",
        "collect: {tls: {ca_file: /etc/ssl/proxy-ca.pem}}",
        "tenant_defaults: {auth: {client_secret: x, client_secret_expires: 2027-01-31}}",
        "tenant_defaults: {auth: {certificate: {file: /a.pem, key_file: /k.pem, password: p}}}",
        "tenant_defaults: {auth: {workload_identity: {token_file: /t}}}",
        "tenant_defaults: {auth: {managed_identity: {}}}",
        "tenants: [{name: a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {workload_identity: {token_file: /t, tenant_id: 00000000-0000-4000-8000-00000000000a}}}]",
        "tenant_defaults: {endpoints: {api: 'http://127.0.0.1:1', login: 'http://127.0.0.1:1'}}\nclock: {origin_ms: 5, anchor_ms: 5}",
        "- {name: o, type: elasticsearch, urls: ['https://a:9200', 'https://b:9200'], auth: {basic: {username: u, password: p}}}",
        "- {name: o, type: elasticsearch, url: \"${URL:-https://es}\", index: 'o365-{day}', format: raw, pipeline: _default}",
        "- {name: o, type: kafka, brokers: 'localhost:9092', topic: t, sasl: {mechanism: PLAIN, username: u, password: p}}",
        "- {name: o, type: kafka, brokers: 'localhost:9092', topic: t, sasl: {mechanism: OAUTHBEARER, token: {entra: {managed_identity: {}}}}}",
        "- {name: o, type: http, preset: sentinel, url: 'https://d/dataCollectionRules/dcr-1/streams/s', auth: {entra: {managed_identity: {}}}}",
        "- {name: o, type: stdout, hash_fields: {key: a key of sixteen bytes, fields: user.name}}",
        "- {name: o, type: http, url: 'https://s/x?y=z', method: PUT, encoding: single, body: '{\"a\": {event}}', auth: {basic: {username: u, password: p}}}",
        "- {name: o, type: http, url: \"${file:/hook}\", preset: slack, success_codes: [200, 202-204], headers: {X-A: 5}}",
        "- {name: o, type: http, url: 'https://s', signature: {secret: s, algorithm: sha512}, success_codes: 204}",
    ];
    let bad = [
        "colect: {}",
        "proxy: {username: u}",
        "proxy: {url: 'http://p', passwd: x}",
        "proxy: [a]",
        "collect: {tls: {verify: false}}",
        "tenant_defaults: {auth: {certificate: /a.pem}}",
        "tenant_defaults: {auth: {certificate: {file: /a.pem, keyfile: /k.pem}}}",
        "tenant_defaults: {auth: {client_secret: x, client_secret_expires: 31.01.2027}}",
        "tenant_defaults: {auth: {workload_identity: true}}",
        "tenant_defaults: {auth: {managed_identity: {client_id: auditferry}}}",
        "collect: {pollInterval: 30s}",
        "collect: {poll_interval: 30}",
        "collect: {in_flight: 32mb}",
        "collect: [30s]",
        "detect: {rules: [builtin]}",
        "admin: {listen: 9464}",
        "tenant_defaults: {name: a}",
        "tenant_defaults: {client_id: \"12\"}",
        "tenant_defaults: {cloud: china}",
        "tenant_defaults: {content_types: [Audit.Foo]}",
        "tenants: [{tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: x}}]",
        "tenant_defaults: {endpoints: {api: 'http://127.0.0.1:1', login: 'http://127.0.0.1:1'}}\nclock: {origin_ms: 5, speed: 60}",
        "- {name: x, type: kafka, brokers: 'localhost:9092', topic: t, sasl: {username: u, password: p}}",
        "- {name: x, type: stdout, hash_fields: {fields: user.name}}",
        "- {name: x, type: file, path: /x, hash_fields: {key: a key of sixteen bytes}}",
        "- {name: x, type: splunk_hec, url: 'https://s', token: t, hash_fields: {fields: UserId}}",
        "- {name: x, type: kafka, brokers: 'localhost:9092', topic: t, hash_fields: {fields: user.name}}",
        "- {name: x, type: http}",
        "- {name: x, type: http, url: 's/x'}",
        "- {name: x, type: http, url: 'https://s', preset: discord}",
        "- {name: x, type: http, url: 'https://s', auth: {basic: {username: u}}}",
        "- {name: x, type: http, url: 'https://s', auth: {oauth2: {client_id: c, client_secret: s}}}",
        "- {name: x, type: http, url: 'https://s', success_codes: [2xx]}",
        "- {name: x, type: http, url: 'https://s', signature: {header: X-A}}",
        "state: {dir: {path: /x}}",
        "- {type: stdout}",
        "- {name: x}",
        "- {name: x, type: splunk}",
        "- {name: x, type: stdout, path: /x}",
        "- {name: x, type: file}",
        "- {name: x, type: splunk_hec, url: 'https://s'}",
        "- {name: x, type: splunk_hec, url: 's:8088', token: t}",
        "- {name: x, type: kafka, brokers: b}",
        "- {name: x, type: elasticsearch, url: 'es:9200'}",
        "- {name: x, type: elasticsearch, url: 'https://es', api_key: k}",
        "- {name: x, type: elasticsearch, url: 'https://es', auth: {basic: {username: u}}}",
        "- {name: x, type: stdout, when: {tennant: a}}",
        "- {name: x, type: stdout, when: {outcome: failed}}",
        "- {name: x, type: stdout, when: {workload: {cidr: 10.0.0.0/8}}}",
        "- {name: x, type: stdout, drop_fields: ['a.*']}",
        "- {name: x, type: stdout, required: maybe}",
    ];
    let documents: Vec<Value> = good.iter().chain(&bad).map(|what| yaml(&with(what))).collect();
    let said = judge("Draft7Validator", &schema, &documents);
    for (what, said) in good.iter().chain(&bad).zip(&said) {
        let read = auditferry::config::load_str("c.yaml", &with(what));
        let is_good = good.contains(what);
        assert_eq!(read.is_ok(), is_good, "{what}: {read:?}");
        assert_eq!(said.is_none(), is_good, "{what}: {said:?}");
    }
    // What must be there at the top.
    let none = judge(
        "Draft7Validator",
        &schema,
        &[yaml("{}"), yaml("sinks: [{name: o, type: stdout}]"), yaml(&format!("tenants: [{TENANT}]"))],
    );
    assert!(none.iter().all(Option::is_some), "{none:?}");
}
