//! Documents of whole records, and what must hold for any record at all.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn context() -> Context<'static> {
    Context {
        tenant_id: "6f1c0000-0000-4000-8000-000000000001",
        tenant_name: "contoso",
        content_type: Some(ContentType::General),
        received_ms: None,
        original: false,
        enrich: None,
    }
}

fn document_text(record: &str) -> String {
    let view = View::parse(record.as_bytes()).unwrap();
    let context = context();
    let mut out = Vec::new();
    document(&context, Profile::Auditferry, RecordKey::of(context.tenant_id, &view), &view, &mut out);
    String::from_utf8(out).unwrap()
}

/// Also for the tests of the families.
pub(super) fn document_of(record: &str) -> Value {
    serde_json::from_str(&document_text(record)).unwrap()
}

#[test]
fn an_empty_record_is_a_document_with_nothing_guessed() {
    let expected = json!({
        "ecs": {"version": "8.17.0"},
        "data_stream": {"type": "logs", "dataset": "o365.audit", "namespace": "default"},
        "event": {"module": "o365", "dataset": "o365.audit", "kind": "event"},
        "organization": {"id": "6f1c0000-0000-4000-8000-000000000001", "name": "contoso"},
        "cloud": {"account": {"id": "6f1c0000-0000-4000-8000-000000000001", "name": "contoso"}},
        "auditferry": {"key": RecordKey::of(context().tenant_id, &View::parse(b"{}").unwrap()).to_string(), "content_type": "Audit.General"},
        "o365": {"audit": {}},
    });
    assert_eq!(document_of("{}"), expected);
}

#[test]
fn the_record_stands_in_it_once_more_where_that_is_asked_for() {
    let record = "{\"Id\":\"1\",\n\"Size\":1.00}";
    let view = View::parse(record.as_bytes()).unwrap();
    let context = Context { original: true, ..context() };
    let mut out = Vec::new();
    document(&context, Profile::Auditferry, RecordKey::of(context.tenant_id, &view), &view, &mut out);
    let read: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(read["event"]["original"], record);
}

#[test]
fn what_cannot_be_moved_stays() {
    let read = document_of(
        r#"{"Id":{"a":1},"Operation":"","CreationTime":"soon","Workload":null,"OrganizationId":[1],"UserAgent":{}}"#,
    );
    assert_eq!(
        read["o365"]["audit"],
        json!({"Id":{"a":1},"Operation":"","CreationTime":"soon","Workload":null,"OrganizationId":[1],"UserAgent":{}})
    );
    assert_eq!(read["event"].get("id"), None);
    assert_eq!(read.get("@timestamp"), None);
}

#[test]
fn what_something_else_takes_the_place_of_stays() {
    let read = document_of(
        r#"{"RecordType":2,"Subject":"outer","InternetMessageId":"<1>","Item":{"Subject":"inner","InternetMessageId":"<2>"}}"#,
    );
    assert_eq!((&read["email"]["subject"], &read["email"]["message_id"]), (&"inner".into(), &"<2>".into()));
    assert_eq!(read["o365"]["audit"]["Subject"], "outer");
    assert_eq!(read["o365"]["audit"]["InternetMessageId"], "<1>");
    let record = br#"{"RecordType":25,"Operation":"MemberAdded"}"#;
    let mut out = Vec::new();
    document(&context(), Profile::Elastic, RecordKey::default(), &View::parse(record).unwrap(), &mut out);
    let read: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&read["event"]["action"], &read["o365"]["audit"]["Operation"]),
        (&"added-users-to-group".into(), &"MemberAdded".into())
    );
}

#[test]
fn a_text_is_never_cut_inside_of_an_escape() {
    let read = document_of(r#"{"RecordType":63,"ObjectId":"C:\\a\\ge\u00e4\"","Recipients":"[a@b; c\""}"#);
    assert_eq!(read["file"]["name"], "geä\"");
    assert_eq!(read["email"]["to"]["address"], json!(["a@b", "c\""]));
    let server =
        |text: &str| document_of(&format!(r#"{{"RecordType":1,"OriginatingServer":"{text}"}}"#))["server"].clone();
    assert_eq!(server(r"x y\\n"), json!({"address": "x y\\n"}));
    assert_eq!(server(r"DB9 (15.20.1.2.3)\r\n"), json!({"address": "DB9", "domain": "DB9"}));
}

#[test]
fn a_time_finer_than_milliseconds_is_also_kept_as_sent() {
    let read = document_of(r#"{"CreationTime":"2026-02-03T04:05:06.1234567Z"}"#);
    assert_eq!(read["@timestamp"], "2026-02-03T04:05:06.123Z");
    assert_eq!(read["o365"]["audit"]["CreationTime"], "2026-02-03T04:05:06.1234567Z");
    assert_eq!(document_of(r#"{"CreationTime":"2026-02-03T04:05:06"}"#)["o365"]["audit"], json!({}));
}

#[test]
fn outcome_is_only_what_the_record_says() {
    let outcome = |record: &str| document_of(record)["event"].get("outcome").cloned();
    for (status, expected) in [
        (r#""Succeeded""#, Some("success")),
        (r#""PartiallySucceeded""#, Some("success")),
        (r#""True""#, Some("success")),
        ("true", Some("success")),
        (r#""Failed""#, Some("failure")),
        (r#""Failure""#, Some("failure")),
        ("false", Some("failure")),
        (r#""InProgress""#, None),
        (r#""""#, None),
        ("null", None),
    ] {
        assert_eq!(outcome(&format!(r#"{{"ResultStatus":{status}}}"#)), expected.map(Value::from), "{status}");
    }
    assert_eq!(outcome("{}"), None);
    assert_eq!(outcome(r#"{"Operation":"UserLoginFailed","ResultStatus":"Success"}"#), Some("failure".into()));
}

#[test]
fn another_organization_does_not_get_our_name() {
    let read =
        document_of(r#"{"OrganizationId":"AAAA0000-0000-4000-8000-000000000001","OrganizationName":"fabrikam"}"#);
    assert_eq!(read["organization"], json!({"id":"aaaa0000-0000-4000-8000-000000000001","name":"fabrikam"}));
    let read = document_of(r#"{"OrganizationId":"6F1C0000-0000-4000-8000-000000000001","OrganizationName":"x"}"#);
    assert_eq!(read["organization"]["name"], "contoso");
}

#[test]
fn only_exactly_one_at_sign_makes_an_address() {
    let user = |id: &str| document_of(&format!(r#"{{"UserId":"{id}"}}"#))["user"].clone();
    assert_eq!(user("a@b"), json!({"id":"a@b","name":"a","domain":"b","email":"a@b"}));
    for id in ["a@b@c", "@b", "a@", "Not Available", r"a\u0040b@c"] {
        assert_eq!(user(id).as_object().unwrap().len(), 1, "{id}");
    }
}

#[test]
fn the_same_address_with_a_port_gives_the_port_and_is_related_once() {
    let read = document_of(
        r#"{"ClientIPAddress":"203.0.113.7","ClientIP":"203.0.113.7:50123","ActorIpAddress":"2001:DB8::1"}"#,
    );
    assert_eq!(read["source"], json!({"address":"203.0.113.7","ip":"203.0.113.7","port":50123}));
    assert_eq!(read["related"]["ip"], json!(["203.0.113.7", "2001:db8::1"]));
    let read = document_of(r#"{"ClientIP":"10.9000.0.1"}"#);
    assert_eq!(read["source"], json!({"address":"10.9000.0.1"}));
    assert_eq!(read.get("related"), None);
}

#[test]
fn numbers_that_are_names_become_strings_and_others_keep_their_text() {
    let text = document_text(r#"{"RecordType":40,"UserType":0,"Size":1156492.00,"Big":123456789012345678901}"#);
    assert!(
        text.contains(r#""RecordType":"40","UserType":"0","Size":1156492.00,"Big":123456789012345678901}"#),
        "{text}"
    );
    assert!(text.contains(r#""kind":"alert","code":"SecurityComplianceAlerts""#), "{text}");
}

#[test]
fn the_agent_is_found_among_the_extended_properties() {
    let read =
        document_of(r#"{"ExtendedProperties":[{"Name":"UserAgent","Value":"Moz\"illa"},{"Name":"x","Value":"y"}]}"#);
    assert_eq!(read["user_agent"]["original"], "Moz\"illa");
    let read = document_of(r#"{"UserAgent":"own","ExtendedProperties":[{"Name":"UserAgent","Value":"other"}]}"#);
    assert_eq!(read["user_agent"]["original"], "own");
    assert_eq!(read["o365"]["audit"].get("UserAgent"), None);
}

#[test]
fn of_a_field_given_twice_the_last_is_written_once() {
    let text = document_text(r#"{"A":1,"Id":"x","A":2,"Id":"y","B":3}"#);
    assert!(text.ends_with(r#""o365":{"audit":{"A":2,"B":3}}}"#), "{text}");
    assert!(text.contains(r#""id":"y""#), "{text}");
}

#[test]
fn bytes_that_are_no_record_are_kept_whole() {
    let context = context();
    let mut out = Vec::new();
    let bytes = b"{\"Id\":\"\xff\n";
    pipeline_error(&context, RecordKey::of_bytes("", bytes), bytes, "not `UTF-8`", &mut out);
    let read: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(read["event"]["kind"], "pipeline_error");
    assert_eq!(read["event"]["original"], "{\"Id\":\"\u{fffd}\n");
    assert_eq!(read["error"]["message"], "not `UTF-8`");
    assert_eq!(read["auditferry"]["original_base64"], "eyJJZCI6Iv8K");
    assert_eq!(read["organization"]["name"], "contoso");
}

/// Any JSON value, with names that we know among the others.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9a-f.:\\[\\]@]{0,12}|203\\.0\\.113\\.7:80|2026-01-02T03:04:05(\\.1)?Z?|a@b|Failed".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map(any_name(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = crate::record::Field::ALL.iter().map(|field| field.as_str()).collect();
    prop_oneof![3 => proptest::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_record() -> impl Strategy<Value = Value> {
    proptest::collection::hash_map(any_name(), any_value(), 0..12)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// The text of every leaf, lower case (an organization's id is written so). JSON inside of a text counts by its own
/// leaves: some texts are read, and what does not fit its place is written as a text.
fn leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| leaves(value, into)),
        Value::Array(list) => list.iter().for_each(|value| leaves(value, into)),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inside @ (Value::Object(_) | Value::Array(_))) => leaves(&inside, into),
            _ => into.push(text.to_lowercase()),
        },
        other => into.push(other.to_string()),
    }
}

proptest! {
    #[test]
    fn any_record_is_one_valid_line_with_every_leaf_in_it(record in any_record(), pretty in any::<bool>()) {
        let spelt = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) }.unwrap();
        let text = document_text(&spelt);
        prop_assert!(!text.contains(['\n', '\r']));
        let read: Value = serde_json::from_str(&text).unwrap();
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        let mut record = record;
        // A moved time is written in another form; that one has its own test.
        if read["o365"]["audit"].get("CreationTime").is_none() {
            record.as_object_mut().unwrap().remove("CreationTime");
        }
        leaves(&record, &mut wanted);
        leaves(&read, &mut found);
        for leaf in wanted {
            prop_assert!(found.contains(&leaf), "{leaf} is not in {text}");
        }
    }

    #[test]
    fn any_bytes_have_a_pipeline_error_that_holds_them(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut out = Vec::new();
        pipeline_error(&Context::default(), RecordKey::of_bytes("", &bytes), &bytes, "reason", &mut out);
        let read: Value = serde_json::from_slice(&out).unwrap();
        match String::from_utf8(bytes) {
            Ok(text) => prop_assert_eq!(&read["event"]["original"], &Value::from(text)),
            Err(_) => prop_assert!(read["auditferry"]["original_base64"].is_string()),
        }
    }
}
