//! The table of faults: what is wrong, where it is said to be, and with what hint.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{CredentialConfig, Format, SinkKind};
use crate::secret::SecretSource;

const TENANT: &str = "{name: a, tenant_id: 00000000-0000-4000-8000-00000000000A, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: canary-secret}}";
const HEC: &str = "{name: hec, type: splunk_hec, url: 'https://splunk:8088', token: canary-token}";

fn text(extra: &str) -> String {
    format!("tenants: [{TENANT}]\nsinks: [{HEC}]\n{extra}\n")
}

fn good(text: &str) -> Loaded {
    load_text("c.yaml", text, &|_| None).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

fn faults(text: &str) -> Vec<String> {
    let faults = load_text("c.yaml", text, &|_| None).err().unwrap_or_else(|| panic!("nothing wrong with\n{text}"));
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = good(&text("")).config;
    let collect = &config.collect;
    assert_eq!(collect.backfill, Duration::from_secs(7 * 86_400));
    assert_eq!((collect.in_flight, collect.max_record), (32 << 20, 8 << 20));
    assert_eq!((collect.requests_per_minute, collect.fetches_per_tenant, collect.fetches), (1000, 8, 16));
    assert_eq!((collect.poll_interval, collect.stall_timeout), (Duration::from_secs(30), Duration::from_secs(60)));
    assert_eq!(config.state.max_delivered_bytes, 512 << 20);
    assert_eq!(config.dead_letters.file, Some(PathBuf::from("/var/lib/auditferry/dead.ndjson")));
    assert_eq!(config.admin.listen.unwrap().to_string(), "127.0.0.1:9464");
    let tenant = &config.tenants[0];
    assert_eq!(tenant.tenant.id, "00000000-0000-4000-8000-00000000000a", "in lower case");
    assert_eq!(tenant.publisher_id, tenant.tenant.id);
    assert_eq!(tenant.content_types.len(), 5);
    assert_eq!(
        (tenant.api.as_str(), tenant.login.as_str()),
        ("https://manage.office.com/", "https://login.microsoftonline.com/")
    );
    let sink = &config.sinks[0];
    assert!(sink.required && sink.format == Format::Raw && matches!(&sink.kind, SinkKind::SplunkHec(hec) if hec.gzip));
}

#[test]
fn each_cloud_has_its_hosts_and_endpoints_override_them() {
    let hosts = |more: &str| {
        let config = good(&text(&format!("tenant_defaults: {{{more}}}"))).config;
        let host = |url: &url::Url| url.host_str().unwrap().to_owned();
        (host(&config.tenants[0].api), host(&config.tenants[0].login))
    };
    for (cloud, api, login) in [
        ("gcc", "manage-gcc.office.com", "login.microsoftonline.com"),
        ("gcc_high", "manage.office365.us", "login.microsoftonline.us"),
        ("dod", "manage.protection.apps.mil", "login.microsoftonline.us"),
    ] {
        assert_eq!(hosts(&format!("cloud: {cloud}")), (api.to_owned(), login.to_owned()));
    }
    let own = hosts("cloud: dod, endpoints: {api: 'http://127.0.0.1:9/'}");
    assert_eq!(own, ("127.0.0.1".to_owned(), "login.microsoftonline.us".to_owned()));
}

/// Below the two lines of [`text`]: the line that is wrong stands third.
#[test]
fn each_fault_is_said_at_its_place_with_a_hint() {
    let table = [
        ("colect: {}", "c.yaml:3:1: error: unknown key `colect`", "did you mean `collect`?"),
        (
            "collect: {pollInterval: 30s}",
            "c.yaml:3:11: error: unknown key `pollInterval`",
            "did you mean `poll_interval`?",
        ),
        ("collect: {zebra: 1}", "c.yaml:3:11: error: unknown key `zebra`", "known here: backfill,"),
        ("detect: {}", "c.yaml:3:1: error: `detect`", "not in this release yet"),
        ("normalize: {ecs_profile: elastik}", "c.yaml:3:26: error: `elastik` is not a profile of ECS", "`elastic`"),
        (
            "state: {kafka: {}}",
            "c.yaml:3:16: error: the state in Kafka is written by a transactional",
            "`transactional: true`",
        ),
        ("tenant_defaults: {auth: {certficate: {}}}", "c.yaml:3:26: error: unknown key `certficate`", "`certificate`?"),
        ("collect: {backfill: 30}", "c.yaml:3:21: error: `30` is not a duration", "`7d`"),
        ("collect: {backfill: 8d}", "c.yaml:3:21: error: the value is out of range", "at most 7d"),
        ("collect: {in_flight: 32mb}", "c.yaml:3:22: error: `32mb` is not a size", "`32MiB`"),
        ("collect: {fetches: 0}", "c.yaml:3:20: error: the value is out of range", "between 1 and 1024"),
        ("collect: [1]", "c.yaml:3:10: error: here stands a list", "is a mapping"),
        ("admin: {listen: 9464}", "c.yaml:3:17: error: `9464` is not an address", "0.0.0.0:9464"),
        ("state: {dir: '${NOT_SET}'}", "c.yaml:3:14: error: the environment variable `NOT_SET`", "give a default"),
        ("tenant_defaults: {client_id: 1234}", "c.yaml:3:30: error: `1234` is not a GUID", "8-4-4-4-12"),
        ("tenant_defaults: {name: x}", "c.yaml:3:25: error: `name` in `tenant_defaults`", "each tenant"),
        ("tenant_defaults: {cloud: china}", "c.yaml:3:26: error: `china` is not a cloud", "endpoints"),
        ("tenant_defaults: {endpoints: {api: 'http://manage.example'}}", "c.yaml:3:36: error: plain http", "https"),
        (
            "tenant_defaults: {endpoints: {api: 'https://u:p@x'}}",
            "c.yaml:3:36: error: the URL holds credentials",
            "only",
        ),
        ("tenant_defaults: {content_types: [Audit.Foo]}", "c.yaml:3:35: error: `Audit.Foo`", "Audit.Exchange"),
        ("tenant_defaults: {content_types: [DLP.All, dlp.all]}", "c.yaml:3:44: error: the content type", "c.yaml:3:35"),
        ("tenants_from: /nowhere/at/all", "c.yaml:3:15: error: cannot list", "/nowhere/at/all"),
        ("clock: {origin_ms: 1, anchor_ms: 1}", "c.yaml:3:8: error: a clock of its own", "simulator"),
    ];
    for (line, place, hint) in table {
        let said = faults(&text(line));
        assert!(said.iter().any(|fault| fault.starts_with(place) && fault.contains(hint)), "{line}\n{said:#?}");
    }
}

#[test]
fn each_fault_of_a_sink_is_said() {
    let table = [
        ("{type: stdout}", "`name` is missing"),
        ("{name: x}", "`type` is missing"),
        ("{name: x, type: splunk}", "unknown sink type"),
        ("{name: x, type: elasticsearch}", "`url` is missing in the elasticsearch sink"),
        ("{name: x, type: elasticsearch, url: 'https://a', urls: ['https://b']}", "address is given twice"),
        (
            "{name: x, type: elasticsearch, url: 'https://a', cloud_id: 'a:b'}",
            "give one of `url`, `urls` and `cloud_id`",
        ),
        ("{name: x, type: elasticsearch, url: 'http://es:9200'}", "plain http"),
        ("{name: x, type: elasticsearch, urls: ['https://a', 'https://a']}", "in the list already"),
        ("{name: x, type: elasticsearch, urls: []}", "list of addresses is empty"),
        ("{name: x, type: elasticsearch, cloud_id: 'deployment:nonsense'}", "this is no cloud id"),
        ("{name: x, type: elasticsearch, url: 'https://a', data_stream: o365}", "type-dataset-namespace"),
        ("{name: x, type: elasticsearch, url: 'https://a', data_stream: Logs-a-b}", "small letters only"),
        (
            "{name: x, type: elasticsearch, url: 'https://a', data_stream: logs-a-b, index: c}",
            "both `data_stream` and `index`",
        ),
        ("{name: x, type: elasticsearch, url: 'https://a', index: 'o365-{operation}'}", "an index for each operation"),
        ("{name: x, type: elasticsearch, url: 'https://a', index: 'o365-{month}'}", "`{month}` is not known here"),
        ("{name: x, type: elasticsearch, url: 'https://a', index: 'o365 {day}'}", "no index's name may have ` ` in it"),
        ("{name: x, type: elasticsearch, url: 'https://a', index: _o365}", "may begin with"),
        ("{name: x, type: elasticsearch, url: 'https://a', format: raw}", "a data stream wants `@timestamp`"),
        ("{name: x, type: elasticsearch, url: 'https://a', format: cef}", "an `elasticsearch` sink sends JSON"),
        ("{name: x, type: elasticsearch, url: 'https://a', auth: {}}", "names no way to log in"),
        ("{name: x, type: elasticsearch, url: 'https://a', auth: {api_key: k, bearer: t}}", "has both"),
        ("{name: x, type: syslog}", "`address` is missing in the syslog sink"),
        ("{name: x, type: kafka, topic: t}", "`brokers` is missing in the kafka sink"),
        ("{name: x, type: kafka, brokers: 'PLAINTEXT://b:9092', topic: t}", "no addresses of brokers"),
        ("{name: x, type: kafka, brokers: b, topic: 'o365.{operation}'}", "a topic for each operation"),
        ("{name: x, type: kafka, brokers: b, topic: t, compression: brotli}", "one of zstd, lz4"),
        ("{name: x, type: kafka, brokers: b, topic: t, sasl: {mechanism: GSSAPI}}", "one of SCRAM-SHA-512"),
        (
            "{name: x, type: kafka, brokers: b, topic: t, sasl: {mechanism: PLAIN, username: u, password: p}}",
            "PLAIN without TLS",
        ),
        ("{name: x, type: file}", "`path` is missing"),
        ("{name: x, type: stdout, path: /x}", "unknown key `path` in the stdout sink"),
        ("{name: x, type: stdout, rate_limit: 5}", "here stands a plain value, `rate_limit` is a mapping"),
        ("{name: x, type: stdout, rate_limit: {burst: 2s}}", "`rate_limit` limits nothing"),
        ("{name: x, type: stdout, rate_limit: {events_per_second: 0}}", "between 1 and 10000000"),
        ("{name: x, type: stdout, format: raw, ecs_profile: elastic}", "changes nothing where the format is `raw`"),
        ("{name: x, type: stdout, format: cef, ecs_profile: elastic}", "changes nothing where the format is `cef`"),
        ("{name: x, type: splunk_hec, url: 'https://s', token: t, index: 'o365_{user}'}", "`{user}` is not known here"),
        ("{name: x, type: stdout, format: cefs}", "`cefs` is not a format"),
        (
            "{name: x, type: splunk_hec, url: 'https://s', token: t, format: leef}",
            "a `splunk_hec` sink sends JSON, and `leef` is none",
        ),
        ("{name: x, type: stdout, format: cef, drop_fields: [user.id]}", "`drop_fields` does not go with format `cef`"),
        ("{name: x, type: stdout, format: leef, add_fields: {a: b}}", "`add_fields` does not go with format `leef`"),
        (
            "{name: x, type: stdout, format: cef, hash_fields: {key: 01234567890123456789012345678901, fields: [user.id]}}",
            "`hash_fields` does not go with format `cef`",
        ),
        ("{name: x, type: file, path: /x, concurrency: 2}", "keeps an order"),
        ("{name: x, type: splunk_hec, url: 'http://splunk:8088', token: t}", "plain http"),
        ("{name: x, type: splunk_hec, url: 'https://s', token: ''}", "the secret is empty"),
        (
            "{name: x, type: splunk_hec, url: 'https://s', token: t, tls: {cert_file: /c}}",
            "both `cert_file` and `key_file`",
        ),
        ("{name: x, type: stdout, retry: {initial: 10s, max: 1s}}", "shorter"),
        ("{name: hec, type: stdout}", "the sink name is already used at c.yaml:2:16"),
    ];
    for (sink, part) in table {
        let said = faults(&format!("tenants: [{TENANT}]\nsinks: [{HEC}, {sink}]"));
        assert!(said.iter().any(|fault| fault.contains(part)), "{sink}\n{said:#?}");
    }
    let librdkafka = [
        ("acks: 1", "`acks` may not be passed through"),
        ("transactional.id: x", "give `transactional: true`"),
        ("linger.mss: 20", "librdkafka has no setting `linger.mss`"),
        ("linger.ms: soon", "librdkafka does not take this value for `linger.ms`"),
        ("max.in.flight: 6", "`max.in.flight` must be set <= 5 when `enable.idempotence` is true"),
    ];
    for (setting, part) in librdkafka {
        let sink = format!("{{name: x, type: kafka, brokers: b, topic: t, librdkafka: {{{setting}}}}}");
        let said = faults(&format!("tenants: [{TENANT}]\nsinks: [{HEC}, {sink}]"));
        let found = said.iter().any(|fault| fault.starts_with("c.yaml:2:") && fault.contains(part));
        assert!(found, "{setting}\n{said:#?}");
    }
    let twice = "sinks: [{name: a, type: file, path: /x}, {name: b, type: file, path: /x}]\ndead_letters: {file: /x}";
    assert_eq!(
        faults(&format!("tenants: [{TENANT}]\n{twice}")).iter().filter(|f| f.contains("path is already")).count(),
        2
    );
}

#[test]
fn each_fault_of_an_edit_is_said_at_its_place() {
    let said = |sink: &str| faults(&format!("tenants: [{TENANT}]\nsinks:\n  - {{name: x, {sink}}}\n")).join("\n");
    let key = "key: 'sixteen bytes!!!'";
    for (sink, part) in [
        ("type: stdout, drop_fields: ['a..b']", "`a..b` names no field: the name has an empty part"),
        ("type: stdout, drop_fields: ['o365.*']", "every field is named by itself"),
        ("type: stdout, drop_fields: ['@timestamp']", "`@timestamp` cannot be dropped: it says which record this is"),
        ("type: stdout, drop_fields: [event]", "`event` cannot be dropped"),
        ("type: stdout, drop_fields: [Auditferry.Key]", "cannot be dropped"),
        ("type: stdout, add_fields: {event.id: x}", "`event.id` cannot be added"),
        ("type: stdout, format: raw, drop_fields: [Id]", "`Id` cannot be dropped"),
        ("type: stdout, drop_fields: [ClientIP]", "an ECS document has no `ClientIP`"),
        ("type: stdout, format: raw, drop_fields: [source.ip]", "has no `source.ip`"),
        (
            "type: stdout, drop_fields: [user, user.name]",
            "`user.name` cannot be dropped: `user` is dropped at c.yaml:3:",
        ),
        ("type: stdout, drop_fields: [a], add_fields: {a.b: c}", "`a.b` cannot be added: `a` is dropped"),
        ("type: stdout, add_fields: {labels.x: '{tennant}'}", "`{tennant}` is not known here"),
        ("type: stdout, hash_fields: {fields: [user.name]}", "`key` is missing in `hash_fields`"),
        ("type: stdout, hash_fields: {key: short-canary, fields: [user.name]}", "the key has fewer than 16 bytes"),
        (&format!("type: stdout, hash_fields: {{{key}}}"), "`fields` is missing in `hash_fields`"),
        (&format!("type: stdout, hash_fields: {{{key}, fields: []}}"), "no field is named"),
        ("type: stdout, hash_fields: [user.name]", "here stands a list, `hash_fields` is a mapping"),
        (
            "type: splunk_hec, url: 'https://s', token: t, drop_fields: [Workload], index: 'o_{workload}'",
            "would still show it",
        ),
        ("type: stdout, add_fields: {event.id.x: y}", "`event.id.x` cannot be added: it says which record this is"),
        ("type: stdout, add_fields: {auditferry.key.x: y}", "cannot be added"),
        ("type: stdout, add_fields: {'@timestamp.x': y}", "cannot be added"),
        ("type: stdout, format: raw, add_fields: {id.x: y}", "cannot be added"),
        ("type: stdout, format: raw, add_fields: {CreationTime.x: y}", "cannot be added"),
        ("type: stdout, hash_fields: {fields: [user.name, ClientIP]}", "an ECS document has no `ClientIP`"),
        (
            &format!(
                "type: stdout, format: raw, hash_fields: {{{key}, fields: [Operation]}}, add_fields: {{op: '{{operation}}'}}"
            ),
            "`Operation` is hashed, and the template at",
        ),
        (
            "type: kafka, brokers: b, topic: 't.{tenant}', drop_fields: [organization]",
            "would still show it as `{tenant}`",
        ),
        (
            "type: splunk_hec, url: 'https://s', token: t, drop_fields: [OrganizationId], index: 'o_{tenant_id}'",
            "would still show it as `{tenant_id}`",
        ),
        (
            "type: kafka, brokers: b, topic: t, drop_fields: [event.action], headers: {x: '{operation}'}",
            "would still show it as `{operation}`",
        ),
    ] {
        let text = said(sink);
        assert!(text.contains(part) && text.contains("c.yaml:3:"), "{sink}:\n{text}");
        assert!(!text.contains("short-canary") && !text.contains("sixteen bytes!!!"), "{text}");
    }
}

#[test]
fn an_edit_that_does_nothing_or_breaks_a_mapping_brings_a_word() {
    let warnings = |sink: &str| {
        let loaded = good(&format!("tenants: [{TENANT}]\nsinks: [{{name: x, type: stdout, {sink}}}]"));
        loaded.warnings.iter().map(|fault| format!("{} ({})", fault.text, fault.hint)).collect::<Vec<_>>().join("\n")
    };
    let hash = |field: &str| format!("hash_fields: {{key: 'sixteen bytes!!!', fields: [{field}]}}");
    for (sink, parts) in [
        ("drop_fields: [user.nmae]", ["no `user.nmae`, so nothing is dropped", "did you mean `user.name`?"]),
        ("drop_fields: [o365.ClientIP]", ["so nothing is dropped", "lie below `o365.audit`"]),
        (&hash("zzz.qqq"), ["so nothing is hashed", "`event`, `application`, `client`"]),
        (&hash("source.address"), ["a pseudonym is no address", "drop it"]),
        (&hash("user"), ["one text of the object `user`", "as `user.changes.email`"]),
        (&hash("o365.audit"), ["one text of the object `o365.audit`", "as `o365.audit.ClientIP`"]),
        (&hash("data_stream"), ["one text of the object `data_stream`", "as `data_stream.type`"]),
    ] {
        let said = warnings(sink);
        assert!(parts.iter().all(|part| said.contains(part)), "{sink}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let fine = "drop_fields: [user_agent, o365.audit.Anything.below], add_fields: {labels.site: x, event.site: y}";
    assert_eq!(warnings(fine), "");
    assert_eq!(warnings(&hash("user.name, organization.name, o365.audit.Actor")), "");
}

#[test]
fn a_key_in_a_file_is_measured_where_the_file_is_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let sink = format!(
        "{{name: x, type: stdout, hash_fields: {{key: '${{file:{}}}', fields: [user.name]}}}}",
        file.path().display()
    );
    let text = format!("tenants: [{TENANT}]\nsinks: [{sink}]");
    std::fs::write(file.path(), "canary-canary\n").unwrap();
    let said = faults(&text).join("\n");
    assert!(said.contains("the key has fewer than 16 bytes") && !said.contains("canary-canary"), "{said}");
    std::fs::write(file.path(), "canary-canary-canary\n").unwrap();
    good(&text);
}

#[test]
fn a_template_or_a_name_of_a_variable_is_not_quoted() {
    let said = |sink: &str| {
        let text = format!(
            "proxy: {{url: 'http://p:1', no_proxy: ['${{V}}']}}\ntenants: [{TENANT}]\nsinks: [{{name: x, {sink}}}]"
        );
        let variable = |_: &str| Some("{canary}/".to_owned());
        let faults = load_text("c.yaml", &text, &variable).unwrap_err().to_string();
        assert!(!faults.contains("canary}"), "{faults}");
        faults
    };
    assert!(
        said("type: splunk_hec, url: 'https://s', token: t, index: '${V}'").contains("a place in braces is not known")
    );
    assert!(said("type: stdout, add_fields: {site: '${V}'}").contains("a place in braces is not known"));
    let said = said("type: stdout, drop_fields: ['Canary.${V}']");
    assert!(said.contains("an ECS document has no what is named here") && !said.contains("Canary"), "{said}");
    assert!(said.contains("a word in `no_proxy`"), "{said}");
}

#[test]
fn nothing_is_said_to_be_empty_because_of_another_fault_and_what_is_empty_is_said_beside_others() {
    let said = faults(&format!("tenant_defaults: {{content_types: [Audit.Foo]}}\ntenants: [{TENANT}]\nsinks: [{HEC}]"));
    assert_eq!(said.len(), 1, "{said:#?}");
    let said = faults(&format!("zebra: 1\ntenants: [{TENANT}]\nsinks: []")).join("\n");
    assert!(said.contains("there is no sink") && said.contains("zebra"), "{said}");
    let said = faults(&format!("tenants: [{TENANT}]\nsinks: [{{name: o, type: zebra}}]"));
    assert_eq!(said.len(), 1, "{said:#?}");
    let sink = "{name: o, type: stdout, zebra: 1, hash_fields: {key: 'sixteen bytes!!!', fields: []}}";
    let said = faults(&format!("tenants: [{TENANT}]\nsinks: [{sink}]")).join("\n");
    assert!(said.contains("no field is named") && said.contains("zebra"), "{said}");
}

#[test]
fn the_default_of_the_dead_letters_is_not_written_by_a_sink_too() {
    let with = |more: &str| {
        format!(
            "state: {{dir: /s}}\n{more}\ntenants: [{TENANT}]\nsinks: [{{name: o, type: file, path: /s//dead.ndjson}}]"
        )
    };
    let said = faults(&with("")).join("\n");
    assert!(said.contains("c.yaml:4:") && said.contains("the dead letters are written to this path"), "{said}");
    good(&with("dead_letters: {file: /elsewhere}"));
    let named = faults(&format!("tenants: [{TENANT}]\nsinks: [{{name: dead_letters, type: stdout}}]")).join("\n");
    assert!(named.contains("call the sink something else"), "{named}");
}

#[test]
fn an_edit_is_read_as_meant() {
    let sink = "{name: o, type: stdout, drop_fields: user_agent, hash_fields: {key: 'sixteen bytes!!!', fields: [source.ip]}, add_fields: {labels.site: '{tenant}'}, rate_limit: {bytes_per_second: 5MiB}}";
    let loaded = good(&format!("tenants: [{TENANT}]\nsinks: [{sink}]"));
    let sink = &loaded.config.sinks[0];
    assert!(sink.edit.drop[0].is("user_agent") && sink.edit.hash.as_ref().unwrap().fields[0].is("source.ip"));
    assert_eq!(sink.edit.add[0].1, "{tenant}");
    let limit = sink.rate_limit.unwrap();
    assert_eq!(
        (limit.events_per_second, limit.bytes_per_second, limit.burst),
        (None, Some(5 << 20), Duration::from_secs(1))
    );
    assert!(
        loaded.warnings.iter().any(|fault| fault.text.contains("a pseudonym is no address")),
        "{:?}",
        loaded.warnings
    );
    assert!(!format!("{loaded:?}").contains("sixteen"));
}

#[test]
fn all_faults_are_said_at_once_in_the_order_of_the_file() {
    let said = faults("state: {dri: x}\ntenants:\n  - name: a\n  - name: a\n    tenant_id: x\nsinks: []\nzebra: 1\n");
    let lines: Vec<u32> = said.iter().map(|fault| fault.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{said:#?}");
    for part in ["`dri`", "`tenant_id` is missing", "`client_id` is missing", "`x` is not a GUID", "`zebra`"] {
        assert!(said.iter().any(|fault| fault.contains(part)), "{part}: {said:#?}");
    }
}

#[test]
fn nothing_to_do_is_a_fault() {
    assert!(faults("sinks: []").iter().any(|fault| fault.contains("there is no tenant")));
    assert!(faults("{}").iter().any(|fault| fault.contains("there is no sink")));
    assert!(faults(&format!("tenants: [{TENANT}]\nsinks: []")).iter().any(|fault| fault.contains("there is no sink")));
    assert!(faults("").iter().any(|fault| fault.contains("empty")));
}

#[test]
fn the_same_tenant_twice_is_a_fault_whatever_its_spelling() {
    let said = faults(&format!("tenants: [{TENANT}, {}]\nsinks: [{HEC}]", TENANT.replace("000A", "000a")));
    assert_eq!(said.iter().filter(|fault| fault.contains("already used at c.yaml:1:")).count(), 2, "{said:#?}");
}

#[test]
fn tenants_come_from_a_directory_too_and_their_faults_name_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let tenant = |name: &str, id: u8| format!("{{name: {name}, tenant_id: 00000000-0000-4000-8000-0000000000{id}}}");
    std::fs::write(dir.path().join("b.yaml"), format!("- {}\n- {}\n", tenant("b", 10), tenant("c", 11))).unwrap();
    std::fs::write(
        dir.path().join("d.json"),
        "{\"name\": \"d\", \"tenant_id\": \"00000000-0000-4000-8000-000000000012\"}",
    )
    .unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not: [a tenant").unwrap();
    std::fs::write(dir.path().join(".hidden.yaml"), "not: [a tenant").unwrap();
    let main = format!(
        "tenants_from: {}\ntenant_defaults: {{client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}\nsinks: [{HEC}]",
        dir.path().display()
    );
    let names: Vec<String> = good(&main).config.tenants.iter().map(|tenant| tenant.tenant.name.clone()).collect();
    assert_eq!(names, ["b", "c", "d"]);

    std::fs::write(dir.path().join("e.yaml"), "name: e\ntenat_id: 1\n").unwrap();
    let said = faults(&main);
    assert!(said.iter().any(|fault| fault.contains("e.yaml:2:1: error: unknown key `tenat_id`")), "{said:#?}");
}

#[test]
fn a_secret_is_a_file_that_is_read_at_each_use_or_a_value_that_is_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let source = format!("'${{file:{}}}'", file.path().display());
    let config = good(&text("").replace("canary-secret", &source)).config;
    let CredentialConfig::ClientSecret { secret, .. } = &config.tenants[0].credential else { panic!() };
    assert!(matches!(secret, SecretSource::File(path) if path == file.path()));
    std::fs::write(file.path(), "second\n").unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&secret.read().unwrap()), "second");

    let shown = format!("{:?} {:#?}", good(&text("")), good(&text("")));
    assert!(!shown.contains("canary"), "{shown}");
    // Every fault there is, with the secrets in place: none of them quotes one.
    let said =
        faults(&text("zebra: 1").replace("canary-token", "[canary]").replace("canary-secret", "{canary: canary}"));
    assert!(said.len() >= 3 && !said.iter().any(|fault| fault.contains("canary")), "{said:#?}");
}

#[test]
fn a_variable_never_becomes_structure_and_its_value_never_shows_in_a_fault() {
    let injected = |_: &str| Some("x, type: file, path: /canary".to_owned());
    let loaded = load_text("c.yaml", &text("").replace("name: hec", "name: '${N}'"), &injected).unwrap();
    assert_eq!(loaded.config.sinks[0].name, "x, type: file, path: /canary");
    let wrong = load_text("c.yaml", &text("collect: {backfill: '${N}'}"), &injected).unwrap_err().to_string();
    assert!(wrong.contains("`${N}` is not a duration") && !wrong.contains("canary"), "{wrong}");
}

#[test]
fn warns_of_secrets_that_everybody_can_read_and_of_tls_without_verification() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, text("").replace("token: canary-token", "token: canary-token, tls: {verify: false}"))
        .unwrap();
    let warnings = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        load_with_warnings(&path).unwrap_or_else(|faults| panic!("{faults}")).warnings.len()
    };
    assert_eq!(warnings(0o644), 3, "two secrets, one verification");
    assert_eq!(warnings(0o600), 1);
}

#[test]
fn a_clock_of_its_own_goes_with_loopback_endpoints_only() {
    let local = "tenant_defaults: {endpoints: {api: 'http://127.0.0.1:1', login: 'http://[::1]:1'}}\nclock: {origin_ms: 5, anchor_ms: 5, speed: 60}";
    assert_eq!(good(&text(local)).config.clock.speed(), 60.0);
    let half = "tenant_defaults: {endpoints: {api: 'http://localhost:1'}}\nclock: {origin_ms: 5, anchor_ms: 5}";
    assert!(faults(&text(half))[0].contains("a clock of its own"));
}

#[test]
fn json_is_yaml() {
    let json = r#"{"tenants": [{"name": "a", "tenant_id": "00000000-0000-4000-8000-00000000000a", "client_id": "00000000-0000-4000-8000-00000000000b",
        "auth": {"client_secret": "x"}}], "sinks": [{"name": "o", "type": "stdout"}], "admin": {"listen": "off"}}"#;
    assert_eq!(good(json).config.admin.listen, None);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = load(Path::new("/nowhere/auditferry.yaml")).unwrap_err().to_string();
    assert!(said.starts_with("/nowhere/auditferry.yaml: error: cannot read the file"), "{said}");
}

/// The state can tell 32 receivers apart, and the dead letters are one of them.
#[test]
fn as_many_sinks_are_allowed_as_the_state_can_tell_apart() {
    let with = |count: usize| {
        let sinks: Vec<String> = (0..count).map(|n| format!("{{name: s{n}, type: file, path: /x{n}}}")).collect();
        format!("tenants: [{TENANT}]\nsinks: [{}]", sinks.join(", "))
    };
    assert_eq!(good(&with(31)).config.sinks.len(), 31);
    assert!(faults(&with(32)).iter().any(|fault| fault.contains("more than 31 sinks")));
}

#[test]
fn a_condition_that_means_nothing_is_a_fault_at_its_place() {
    let said = |when: &str| {
        let text = format!("tenants: [{TENANT}]\nsinks:\n  - {{name: o, type: stdout, when: {when}}}\n");
        faults(&text).join("\n")
    };
    for (when, part) in [
        ("{tennant: a}", "did you mean `tenant`?"),
        ("{tenant: b}", "no tenant of this name is configured"),
        ("{tenant: {prefix: x}}", "no configured tenant's name begins so"),
        ("{content_type: Audit.Mail}", "is not a content type"),
        ("{outcome: failed}", "one of success, failure, unknown"),
        ("{kind: alarm}", "one of audit, alert"),
        ("{record_type: ExchangeAdmim}", "did you mean `ExchangeAdmin`?"),
        ("{record_type: {prefix: Zebra}}", "no record type begins so"),
        ("{user: {cidr: 10.0.0.0/8}}", "`cidr` goes with `source_ip`"),
        ("{source_ip: {prefix: '10.'}}", "use `cidr:`"),
        ("{source_ip: {cidr: 10.0.0.0/33}}", "neither an address nor a network"),
        ("{source_ip: '::ffff:10.0.0.1'}", "write it as IPv4"),
        ("{operation: {prefx: Add}}", "did you mean `prefix`?"),
        ("{operation: []}", "nothing would ever fit"),
        ("{operation: {}}", "the value is empty"),
        ("{}", "the condition is empty"),
        ("{any: {workload: Exchange}}", "`any` is a list of conditions"),
        ("[workload]", "here stands a list"),
    ] {
        let text = said(when);
        assert!(text.contains(part) && text.contains("c.yaml:3:"), "{when}:\n{text}");
    }
    let deep = format!("{}{{workload: x}}{}", "{any: [".repeat(10), "]}".repeat(10));
    assert!(said(&deep).contains("too deep"));
}

#[test]
fn a_condition_is_read_as_meant_and_one_on_alerts_brings_a_word() {
    let text = format!(
        "tenants: [{TENANT}]\nsinks: [{HEC}, {{name: o, type: stdout, when: {{kind: alert, operation: [Send, {{prefix: Add, not: Add2}}], any: [{{user: x}}, {{tenant: a}}]}}}}]\n"
    );
    let loaded = good(&text);
    let when = loaded.config.sinks[1].when.clone().unwrap();
    assert_eq!(when.to_string(), "kind alert and operation Send or Add… and not (Add2) and (user x) or (tenant a)");
    assert!(loaded.warnings.iter().any(|fault| fault.text.contains("no alerts yet")));
    assert_eq!(loaded.config.sinks[0].when, None);
}

#[test]
fn everything_that_was_read_is_looked_after_but_for_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("tenants.d")).unwrap();
    let tenant = "{ name: a, tenant_id: 6f1c2d3e-0000-4000-8000-00000000000a, client_id: 6f1c2d3e-0000-4000-8000-0000000000ff, auth: { client_secret: '${file:SECRET}' } }";
    std::fs::write(at("tenants.d/a.yaml"), tenant.replace("SECRET", at("secret").to_str().unwrap())).unwrap();
    std::fs::write(at("secret"), "s").unwrap();
    std::fs::write(at("size"), "8MiB\n").unwrap();
    let text = format!(
        "collect: {{ in_flight: '${{file:{}}}' }}\ntenants_from: {:?}\nsinks:\n  - {{ name: hec, type: splunk_hec, url: 'https://h:8088', token: t, tls: {{ ca_file: {:?} }} }}\n",
        at("size").display(),
        at("tenants.d"),
        at("ca.pem")
    );
    std::fs::write(at("main.yaml"), text).unwrap();
    let changes = |name: &str, content: &str| {
        let (inputs, loaded) = load_with_inputs(&at("main.yaml"));
        loaded.unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(inputs.look_again(), inputs);
        std::fs::write(at(name), content).unwrap();
        inputs.look_again() != inputs
    };
    assert!(!changes("secret", "another secret"), "a secret is read at each use");
    assert!(changes("size", "16MiB\n"));
    assert!(changes("ca.pem", "rotated"));
    assert!(changes("tenants.d/b.yaml", "[]"));
    assert!(changes("tenants.d/b.yaml", "[broken"));
    let (inputs, loaded) = load_with_inputs(&at("main.yaml"));
    assert!(loaded.is_err());
    std::fs::remove_file(at("tenants.d/b.yaml")).unwrap();
    assert_ne!(inputs.look_again(), inputs, "what mends a fault is noticed");
}

#[test]
fn the_key_of_pseudonyms_is_among_the_files_that_a_sink_is_built_from() {
    let of = |key: &str| {
        let sink = format!(
            "tenants: [{TENANT}]\nsinks: [{{name: o, type: stdout, hash_fields: {{key: '{key}', fields: [user]}}}}]"
        );
        good(&sink).config.sinks[0].files().iter().map(|path| path.to_path_buf()).collect::<Vec<_>>()
    };
    assert_eq!(of("${file:/run/secrets/pseudonym-key}"), [PathBuf::from("/run/secrets/pseudonym-key")]);
    assert_eq!(of("a key of sixteen bytes"), Vec::<PathBuf>::new());
}
