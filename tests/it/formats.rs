//! CEF and LEEF, read back: every field of every fixture, of the simulator's records and of hostile ones, against the
//! ECS document of the same record. CEF by two parsers that others wrote (`real::cef`); of LEEF there is none to be
//! had from a package registry, so a strict reader stands here, written from IBM's "LEEF event components" alone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bars::round_trip::{Json, json, of_fixtures};
use crate::real::cef::{cefp, parcefone};
use crate::support::{Place, figure, served, size, world};
use auditferry::enrich::Enricher;
use auditferry::feed::ContentType;
use auditferry::metrics::Metrics;
use auditferry::normalize::{self, Context, Form, Profile};
use auditferry::record::{RecordKey, View};
use auditferry::simulator::{Scenario, WorldConfig};
use fastrand::Rng;

const TENANT: &str = "5a1e0000-0000-4000-8000-00000000c0de";
const CONTEXT: Context<'static> = Context {
    tenant_id: TENANT,
    tenant_name: "north=wind|\\",
    content_type: Some(ContentType::General),
    received_ms: Some(1_767_323_045_678),
    original: false,
    enrich: None,
};

/// Key of CEF → fields of the ECS document, the first that has a value; several values are joined.
const CEF: &[(&str, &[&str])] = &[
    ("externalId", &["event.id"]),
    ("cat", &["event.provider"]),
    ("act", &["event.action"]),
    ("outcome", &["event.outcome"]),
    ("reason", &["event.reason", "error.message", "error.code"]),
    ("suser", &["user.id"]),
    ("suid", &["o365.audit.UserKey"]),
    (
        "duser",
        &["user.target.email", "user.target.name", "user.target.id", "destination.user.email", "email.to.address"],
    ),
    ("spt", &["source.port"]),
    ("shost", &["source.domain"]),
    ("request", &["url.full", "url.original"]),
    ("requestClientApplication", &["user_agent.original"]),
    ("fname", &["file.name"]),
    ("filePath", &["file.path", "file.directory"]),
    ("fsize", &["file.size"]),
    ("fileHash", &["file.hash.sha256", "file.hash.sha1", "file.hash.md5"]),
    ("dvchost", &["server.address", "server.domain"]),
    ("deviceExternalId", &["organization.id"]),
    ("msg", &["message", "email.subject"]),
    ("cs1", &["auditferry.application.id"]),
    ("cs2", &["o365.audit.ClientAppId"]),
    ("cs3", &["o365.audit.SessionId"]),
    ("cs4", &["source.geo.country_iso_code"]),
    ("cs5", &["rule.name"]),
    ("cs6", &["auditferry.content_type"]),
    ("cn1", &["o365.audit.RecordType"]),
    ("flexString1", &["organization.name"]),
    ("flexString2", &["auditferry.key"]),
];

const LEEF: &[(&str, &[&str])] = &[
    ("cat", &["event.provider"]),
    ("usrName", &["user.id"]),
    ("domain", &["user.domain"]),
    (
        "accountName",
        &["user.target.email", "user.target.name", "user.target.id", "destination.user.email", "email.to.address"],
    ),
    ("groupID", &["group.name", "group.id"]),
    ("src", &["source.ip"]),
    ("identSrc", &["source.ip"]),
    ("srcPort", &["source.port"]),
    ("srcCountry", &["source.geo.country_iso_code"]),
    ("identHostName", &["source.domain"]),
    ("resource", &["file.path", "file.name", "url.full", "url.original", "user.target.id", "group.name"]),
    ("url", &["url.full", "url.original"]),
    ("policy", &["rule.name"]),
    ("eventId", &["event.id"]),
    ("outcome", &["event.outcome"]),
    ("reason", &["event.reason", "error.message", "error.code"]),
    ("userKey", &["o365.audit.UserKey"]),
    ("userAgent", &["user_agent.original"]),
    ("fileHash", &["file.hash.sha256", "file.hash.sha1", "file.hash.md5"]),
    ("appId", &["auditferry.application.id"]),
    ("clientAppId", &["o365.audit.ClientAppId"]),
    ("sessionId", &["o365.audit.SessionId"]),
    ("subject", &["email.subject"]),
    ("tenantId", &["organization.id"]),
    ("tenant", &["organization.name"]),
    ("contentType", &["auditferry.content_type"]),
    ("recordKey", &["auditferry.key"]),
];

/// One record in both formats and as the document that they are held against.
struct Written {
    record: Vec<u8>,
    document: Json,
    cef: String,
    leef: String,
}

impl Written {
    fn new(record: Vec<u8>) -> Option<Written> {
        let view = View::parse(&record).ok()?;
        let key = RecordKey::of(TENANT, &view);
        let form = |form| {
            let mut out = Vec::new();
            normalize::write(form, &CONTEXT, key, &view, &mut out);
            String::from_utf8(out).unwrap()
        };
        let document = form(Form::Ecs(Profile::Auditferry));
        let document = json(document.as_bytes());
        let (cef, leef) = (form(Form::Cef), form(Form::Leef));
        Some(Written { document, cef, leef, record })
    }

    fn at(&self, path: &str) -> Option<&Json> {
        path.split('.').try_fold(&self.document, |at, name| match at {
            Json::Object(members) => members.get(&name.encode_utf16().collect::<Vec<u16>>()),
            _ => None,
        })
    }

    /// The value of the first of these fields that has one; several are joined.
    fn value(&self, paths: &[&str]) -> Option<String> {
        let (path, found) = paths.iter().find_map(|path| Some((path, self.at(path)?)))?;
        let text = match found {
            // A record's own list, where one value is expected, is none.
            Json::List(_) if path.starts_with("o365.") => return None,
            Json::List(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(", "),
            value => scalar(value)?,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// As both formats count; written again from the table of the docs.
    fn severity(&self) -> u64 {
        let number =
            self.value(&["event.severity"]).and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
        match number {
            Some(1) => 1,
            Some(2) => 3,
            Some(3) => 6,
            Some(_) => 8,
            None if self.value(&["event.kind"]).as_deref() == Some("alert") => 7,
            None if self.value(&["event.outcome"]).as_deref() == Some("failure") => 4,
            None => 2,
        }
    }

    /// Milliseconds since 1970.
    fn time(&self) -> Option<i64> {
        Some(self.value(&["@timestamp"])?.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn is_v6(&self) -> bool {
        self.value(&["source.ip"]).is_some_and(|ip| ip.contains(':'))
    }
}

fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::Text(units) => Some(String::from_utf16_lossy(units)),
        Json::Spelt(text) => Some(text.clone()).filter(|text| text != "null"),
        Json::List(_) | Json::Object(_) => None,
    }
}

/// What a reader must see of a text: nothing hidden, nothing that ends a line, no more than the limit.
fn shown(text: &str, limit: usize, kept: &[char]) -> String {
    let length = text.chars().count();
    let cut: String = match length > limit {
        true => {
            let head: String = text.chars().take(limit - 32).collect();
            format!("{head}…(+{} characters)", length - (limit - 32))
        }
        false => text.to_owned(),
    };
    let visible = |c: char| match c {
        c if kept.contains(&c) => c.to_string(),
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => hex(c),
        '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}' => hex(c),
        c => c.to_string(),
    };
    cut.chars().map(visible).collect()
}

fn hex(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

fn header(text: Option<String>) -> String {
    let text = shown(&text.unwrap_or_else(|| "unknown".to_owned()), 512, &[]);
    // A backslash at the end has a blank behind it.
    if text.ends_with('\\') { text + " " } else { text }
}

/// Fields that somebody else can write into.
const FIELDS: [&str; 22] = [
    "Id",
    "Operation",
    "Workload",
    "UserId",
    "UserKey",
    "ResultStatus",
    "ObjectId",
    "UserAgent",
    "ClientIP",
    "SourceFileName",
    "SourceRelativeUrl",
    "OrganizationId",
    "OrganizationName",
    "AppId",
    "ClientAppId",
    "SessionId",
    "OriginatingServer",
    "Subject",
    "Recipients",
    "FileSize",
    "LogonError",
    "Name",
];
const PIECES: [&str; 35] = [
    "n",
    " act=forged",
    "=",
    "\\\\",
    "\\\\=",
    "|",
    "\\\\|",
    "\\n",
    "\\r\\n",
    "\\u0000",
    "\\u0085",
    "\\u2028",
    "\\u2029",
    "\u{202e}",
    "\u{2066}",
    "😀",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\udc00",
    "\\t",
    "\\tusrName=forged",
    "\\nCEF:0|a|b|c|d|e|1|",
    "\\nLEEF:2.0|a|b|c|d|x09|",
    "a b",
    " ",
    "user@example.com",
    "1.2.3.4:80",
    "2001:db8::1",
    "x",
    "ä",
    "\\\"",
    "\\/",
    "\u{feff}",
    "\u{7f}",
    "\\u001b[31m",
];

fn hostile(random: &mut Rng) -> Vec<u8> {
    let kind = random.choice([1, 2, 6, 8, 11, 15, 25, 28, 40, 50, 63, 64, 9999]).unwrap();
    let mut record = format!("{{\"RecordType\":{kind},\"CreationTime\":\"2026-01-02T03:04:05\"");
    for field in FIELDS {
        if random.u8(..3) == 0 {
            continue;
        }
        let mut text = String::new();
        (0..random.usize(0..6)).for_each(|_| text.push_str(random.choice(PIECES).unwrap()));
        if random.u8(..40) == 0 {
            text = text.repeat(random.usize(1..3000));
        }
        record.push_str(&format!(",\"{field}\":\"{text}\""));
    }
    record.push('}');
    record.into_bytes()
}

async fn all_records() -> Vec<Written> {
    let mut records = of_fixtures();
    let odd = [Scenario::Nul, Scenario::DupKeys, Scenario::BigIntegers, Scenario::MissingId, Scenario::RecordTypeText];
    let world = world(WorldConfig::new().records(size(300, 5_000)).scenarios(&odd)).await;
    records.extend(world.truth().map(|record| record.record));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    records.extend((0..size(2_000, 50_000)).map(|_| hostile(&mut random)));
    records.into_iter().filter_map(Written::new).collect()
}

/// What stands in each message, key by key; what is expected of it and missing, or there and not expected, is said.
fn compared(
    written: &Written,
    table: &[(&str, &[&str])],
    kept: &[char],
    limit: impl Fn(&str) -> usize,
    got: &BTreeMap<String, String>,
) {
    let record = String::from_utf8_lossy(&written.record);
    for (key, paths) in table {
        let expected = written.value(paths).map(|text| shown(&text, limit(key), kept));
        assert_eq!(got.get(*key), expected.as_ref(), "`{key}` of {record}\n{}\n{}", written.cef, written.leef);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_cef_is_read_back_by_two_parsers_field_by_field() {
    let all = all_records().await;
    let messages: String = all.iter().map(|written| format!("{}\n", written.cef)).collect();
    let said = cefp(messages.as_bytes());
    assert_eq!(said.len(), all.len(), "a message is two, or none");
    let limit = |key: &str| if key.starts_with("cs") || key.starts_with("flex") || key == "cn1" { 4000 } else { 1023 };
    let mut values = 0;
    for (written, said) in all.iter().zip(&said) {
        let cef = &written.cef;
        assert_eq!(said["version"], "0", "{cef}\n{said}");
        assert_eq!(said["device"]["vendor"], "Microsoft");
        assert_eq!(said["device"]["product"], "Office 365");
        assert_eq!(said["device"]["version"], env!("CARGO_PKG_VERSION"));
        let number = || written.value(&["o365.audit.RecordType"]).filter(|text| text.parse::<i64>().is_ok());
        let code = written.value(&["event.code"]).or_else(number);
        assert_eq!(said["device"]["event_class_id"].as_str().unwrap(), header(code), "{cef}");
        assert_eq!(said["name"].as_str().unwrap(), header(written.value(&["event.action"])), "{cef}");
        assert_eq!(said["severity"], written.severity().to_string(), "{cef}");
        let got: BTreeMap<String, String> = serde_json::from_value(said["extension"].clone()).unwrap();
        compared(written, CEF, &['\n', '\r'], limit, &got);
        let (address, other) = if written.is_v6() { ("c6a2", "src") } else { ("src", "c6a2") };
        assert_eq!((got.get(address).cloned(), got.get(other)), (written.value(&["source.ip"]), None), "{cef}");
        let time = got.get("rt").map(|ms| ms.parse::<i64>().unwrap());
        assert_eq!(time, written.time(), "{cef}");
        assert_eq!(got["destinationServiceName"], "Office 365");
        let known = |key: &str| {
            let key = key.strip_suffix("Label").unwrap_or(key);
            CEF.iter().any(|(name, _)| *name == key)
                || ["rt", "src", "c6a2", "start", "end", "destinationServiceName"].contains(&key)
        };
        assert!(got.keys().all(|key| known(key)), "a key was forged: {cef}");
        values += got.len();
    }
    figure("formats", format_args!("CEF: {} messages, {values} values, cefp reads all of them as meant", all.len()));

    let said = parcefone(messages.as_bytes());
    assert_eq!(said.len(), all.len());
    for (written, said) in all.iter().zip(&said) {
        assert_eq!(said.get("error"), None, "{}", written.cef);
        for (key, paths) in CEF {
            let expected = written.value(paths).map(|text| shown(&text, limit(key), &['\n', '\r']));
            let got = said.get(*key).map(|value| unescaped(value.as_str().unwrap()));
            assert_eq!(got, expected, "`{key}` of {}", written.cef);
        }
        assert_eq!(said["severity"], written.severity().to_string());
    }
}

/// Of a value of CEF.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => c,
            },
            c => c,
        });
    }
    out
}

/// Header and attributes of one LEEF 2.0 message, or what is wrong with it.
fn leef(message: &str) -> Result<(Vec<String>, BTreeMap<String, String>), String> {
    if message.chars().any(|c| c != '\t' && c.is_control()) {
        return Err("a control character".into());
    }
    let parts: Vec<&str> = message.splitn(7, '|').collect();
    let [version, vendor, product, product_version, event, delimiter, rest] = parts[..] else {
        return Err("a short header".into());
    };
    if version != "LEEF:2.0" {
        return Err(format!("version {version}"));
    }
    // One character, or `x` or `0x` and up to four hexadecimal digits.
    let code = delimiter.strip_prefix("0x").or_else(|| delimiter.strip_prefix('x').filter(|code| !code.is_empty()));
    let delimiter = match code {
        Some(code) if code.len() <= 4 => u32::from_str_radix(code, 16).ok().and_then(char::from_u32),
        Some(_) => None,
        None => delimiter.chars().next().filter(|_| delimiter.chars().count() == 1),
    };
    let delimiter = delimiter.ok_or("no delimiter")?;
    let mut attributes = BTreeMap::new();
    for attribute in rest.split(delimiter) {
        let (key, value) = attribute.split_once('=').ok_or_else(|| format!("no `=` in {attribute:?}"))?;
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("the key {key:?}"));
        }
        if attributes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("`{key}` twice"));
        }
    }
    Ok((vec![vendor.into(), product.into(), product_version.into(), event.into()], attributes))
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_leef_is_read_back_by_a_strict_reader_field_by_field() {
    assert!(leef("LEEF:2.0|a|b|c|d|x09|k=1\tk=2").is_err() && leef("LEEF:2.0|a|b|c|d|x09|k=1\nx").is_err());
    assert_eq!(leef("LEEF:2.0|a|b|c|d|^|k=1^l=x=y").unwrap().1["l"], "x=y");
    let all = all_records().await;
    let mut values = 0;
    for written in &all {
        let (head, got) = leef(&written.leef).unwrap_or_else(|wrong| panic!("{wrong}: {}", written.leef));
        assert_eq!(head[..3], ["Microsoft", "Office 365", env!("CARGO_PKG_VERSION")]);
        let operation = written.value(&["event.action"]).unwrap_or_else(|| "unknown".to_owned());
        assert_eq!(head[3], shown(&operation, 512, &[]).replace('|', "\\u007c"), "{}", written.leef);
        compared(written, LEEF, &[], |_| 1023, &got);
        assert_eq!(got["sev"], written.severity().max(1).to_string());
        let stamp = written.value(&["@timestamp"]).map(|at| at.replace('Z', "+0000"));
        assert_eq!(got.get("devTime"), stamp.as_ref());
        assert_eq!(got["devTimeFormat"], "yyyy-MM-dd'T'HH:mm:ss.SSSZ");
        let others = ["devTime", "devTimeFormat", "sev", "recordType"];
        let known = |key: &str| LEEF.iter().any(|(name, _)| *name == key) || others.contains(&key);
        assert!(got.keys().all(|key| known(key)), "a key was forged: {}", written.leef);
        values += got.len();
    }
    figure("formats", format_args!("LEEF: {} messages, {values} values, read as meant", all.len()));
}

/// Through the whole process: one world, one sink a format.
#[tokio::test(flavor = "multi_thread")]
async fn formats_each_sink_of_a_run_has_its_own() {
    let world = world(WorldConfig::new().records(300)).await;
    let place = Place::new();
    let sink = |keys: &str| {
        let name = keys.replace(|c: char| !c.is_ascii_lowercase(), "");
        format!("  - {{ name: {name}, type: file, path: {:?}, {keys} }}\n", place.path(&name))
    };
    let sinks = ["format: cef", "format: leef", "format: ecs", "format: ecs, ecs_profile: elastic"].map(sink).concat();
    place.write_config(&world, &sinks, "");
    let ended = place.run_once(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let records = served(&world).reachable.len();
    let text = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let said = cefp(text("formatcef").as_bytes());
    assert_eq!(said.len(), records);
    assert!(said.iter().all(|said| said["device"]["vendor"] == "Microsoft"));
    assert!(text("formatleef").lines().all(|line| leef(line).is_ok_and(|(head, _)| head[0] == "Microsoft")));
    for (name, version) in [("formatecs", "8.17.0"), ("formatecsecsprofileelastic", "8.11.0")] {
        let versions =
            text(name).lines().filter(|line| line.contains(&format!("\"ecs\":{{\"version\":\"{version}\""))).count();
        assert_eq!(versions, records, "{name}");
    }
    assert_eq!(text("formatleef").lines().count(), records);
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_name_the_country_where_it_is_known() {
    let enricher = Enricher::invented(&Metrics::new()).unwrap();
    let context = Context { enrich: Some(&enricher), ..CONTEXT };
    let world = world(WorldConfig::new().records(200)).await;
    let mut countries = 0;
    for record in world.truth().map(|record| record.record) {
        let Ok(view) = View::parse(&record) else { continue };
        let form = |form| {
            let mut out = Vec::new();
            normalize::write(form, &context, RecordKey::of(TENANT, &view), &view, &mut out);
            String::from_utf8(out).unwrap()
        };
        let document: serde_json::Value = serde_json::from_str(&form(Form::Ecs(Profile::Auditferry))).unwrap();
        let expected = document["source"]["geo"]["country_iso_code"].as_str().map(str::to_owned);
        countries += usize::from(expected.is_some());
        assert_eq!(leef(&form(Form::Leef)).unwrap().1.get("srcCountry").cloned(), expected);
        let said = expected.map(|code| format!(" cs4={code} cs4Label=SourceCountry "));
        let cef = form(Form::Cef);
        assert!(said.map_or_else(|| !cef.contains(" cs4="), |said| cef.contains(&said)), "{cef}");
    }
    assert!(countries > 10, "no place is known");
}

#[test]
fn formats_what_is_no_record_is_a_message_of_our_own() {
    let bytes = b"{\"Id\": broken\nCEF:0|x| act=forged\t\xff\\".as_slice();
    let key = RecordKey::of_bytes(TENANT, bytes);
    let form = |form| {
        let mut out = Vec::new();
        normalize::write_error(form, &CONTEXT, key, bytes, "not JSON = at line 1|", &mut out);
        String::from_utf8(out).unwrap()
    };
    let said = cefp(format!("{}\n", form(Form::Cef)).as_bytes());
    assert_eq!(said.len(), 1);
    assert_eq!(
        (&said[0]["device"]["vendor"], &said[0]["device"]["event_class_id"]),
        (&"auditferry".into(), &"pipeline_error".into())
    );
    let extension = &said[0]["extension"];
    assert_eq!(extension["reason"], "not JSON = at line 1|");
    assert_eq!(extension["msg"], "{\"Id\": broken\nCEF:0|x| act=forged\\u0009\u{fffd}\\");
    assert_eq!(extension["flexString1"], "north=wind|\\");
    let (head, got) = leef(&form(Form::Leef)).unwrap();
    assert_eq!((head[0].as_str(), head[3].as_str()), ("auditferry", "pipeline_error"));
    assert_eq!(got["record"], "{\"Id\": broken\\u000aCEF:0|x| act=forged\\u0009\u{fffd}\\");
    // What the page of formats says of it.
    let listed = |form| normalize::error_keys(form).iter().map(|key| key.name);
    let mut leef: Vec<&str> = listed(Form::Leef).collect();
    leef.sort_unstable();
    assert!(leef.iter().eq(got.keys()), "{got:?}");
    assert_eq!(got["sev"], "5");
    let cef = form(Form::Cef);
    assert!(cef.contains("|pipeline_error|Unreadable record|5|rt="), "{cef}");
    assert!(listed(Form::Cef).all(|name| cef.contains(&format!("{name}="))), "{cef}");
}
