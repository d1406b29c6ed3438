//! What the mapping promises of every fixture's record, in both profiles: that a family writes what its rules name and
//! no more, that each rule and each difference of the profiles is seen at work, that what ECS allows is kept to, and that
//! what the published detection rules read is there (tests/detections). Looks at documents; knows no family.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use auditferry::feed::ContentType;
use auditferry::normalize::ecs::{Ecs, Kind};
use auditferry::normalize::family::{self, How, Rule};
use auditferry::normalize::profile::DIFFERENCES;
use auditferry::normalize::{self, Context, Profile, base};
use auditferry::record::{RecordKey, View};
use serde_json::Value;
use serde_json::value::RawValue;

const TENANT: &str = "5a1e0000-0000-4000-8000-00000000c0de";

/// A fixture's record, and what becomes of it.
pub struct Case {
    /// `<family>/<case>`
    pub name: String,
    pub record: Value,
    pub family: &'static family::Family,
    pub auditferry: Value,
    pub elastic: Value,
}

/// Every record of every fixture.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut cases = Vec::new();
    for folder in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            if let Some(name) = name.strip_suffix(".json").filter(|name| !name.ends_with(".expected")) {
                let text = std::fs::read_to_string(&path).unwrap();
                let records: Vec<&RawValue> = match text.trim_start().starts_with('[') {
                    true => serde_json::from_str(&text).unwrap(),
                    false => vec![serde_json::from_str(&text).unwrap()],
                };
                cases.extend(records.iter().map(|record| case(name, record.get())));
            }
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(cases.len() > 420, "only {} records", cases.len());
    cases
});

fn case(name: &str, record: &str) -> Case {
    let view = View::parse(record.as_bytes()).unwrap();
    let context = Context {
        tenant_id: TENANT,
        tenant_name: "northwind",
        content_type: Some(ContentType::General),
        received_ms: Some(1_790_000_000_000),
        ..Context::default()
    };
    let document = |profile| {
        let mut out = Vec::new();
        normalize::document(&context, profile, RecordKey::of(TENANT, &view), &view, &mut out);
        serde_json::from_slice(&out).unwrap()
    };
    Case {
        name: name.to_owned(),
        record: serde_json::from_str(record).unwrap(),
        family: family::of(view.record_type()),
        auditferry: document(Profile::Auditferry),
        elastic: document(Profile::Elastic),
    }
}

impl Case {
    pub fn document(&self, profile: Profile) -> &Value {
        match profile {
            Profile::Auditferry => &self.auditferry,
            Profile::Elastic => &self.elastic,
        }
    }
}

/// What stands at a dotted name; lists on the way are walked through.
pub fn at<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for name in path.split('.') {
        found = found.into_iter().flat_map(unlisted).filter_map(|one| one.get(name)).collect();
    }
    found.into_iter().flat_map(unlisted).filter(|one| !one.is_null()).collect()
}

fn unlisted(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |all| all.iter().flat_map(unlisted).collect())
}

/// The fields of a document that are of the table, by whether they are there.
fn fields(document: &Value) -> impl Iterator<Item = Ecs> {
    Ecs::ALL.iter().copied().filter(|field| field.kind() != Kind::LookUp && pointed(document, field.path()).is_some())
}

fn pointed<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    document.pointer(&format!("/{}", path.replace('.', "/")))
}

#[test]
fn a_family_writes_only_what_its_rules_and_those_of_every_record_name() {
    let mut strange = BTreeMap::new();
    for case in &*CASES {
        for field in fields(&case.auditferry) {
            if !case.family.rules.iter().chain(base::RULES).any(|rule| rule.to == field) {
                strange.entry(format!("{}: `{}`", case.family.name, field.path())).or_insert(&case.name);
            }
        }
    }
    assert!(strange.is_empty(), "no rule names these: {strange:#?}");
}

fn is_at_work(rule: &Rule, case: &Case) -> bool {
    let says = match rule.how {
        How::Copied(from) | How::Moved(from) => case.record.get(from.as_str()).is_some_and(|value| !value.is_null()),
        How::Made { .. } => true,
    };
    says && (rule.to.kind() == Kind::LookUp || pointed(&case.auditferry, rule.to.path()).is_some())
}

/// Rules that no fixture can show: what the configuration asks for (`normalize::tests` has it).
const BY_CONFIGURATION: [Ecs; 1] = [Ecs::EventOriginal];

/// Rules that wait for a fixture, by family and field: each is to leave this list.
const UNSEEN: &[(&str, Ecs)] = &[];

#[test]
fn every_rule_is_seen_at_work() {
    let (mut unseen, mut waiting) = (Vec::new(), BTreeSet::new());
    for family in family::ALL {
        let of_family: Vec<&Case> = CASES.iter().filter(|case| case.family.name == family.name).collect();
        if of_family.is_empty() {
            unseen.push(format!("{}: no record at all", family.name));
        }
        for rule in family.rules.iter().filter(|rule| !of_family.iter().any(|case| is_at_work(rule, case))) {
            match UNSEEN.iter().position(|waits| *waits == (family.name, rule.to)) {
                Some(place) => _ = waiting.insert(place),
                None => unseen.push(format!("{}: {} by {:?}", family.name, rule.to.path(), rule.how)),
            }
        }
    }
    let by_record = base::RULES.iter().filter(|rule| !BY_CONFIGURATION.contains(&rule.to));
    let idle = by_record.filter(|rule| !CASES.iter().any(|case| is_at_work(rule, case)));
    unseen.extend(idle.map(|rule| format!("every record: {} by {:?}", rule.to.path(), rule.how)));
    assert!(unseen.is_empty(), "no fixture has a record for {unseen:#?}");
    let stale: Vec<_> = (0..UNSEEN.len()).filter(|place| !waiting.contains(place)).map(|place| UNSEEN[place]).collect();
    assert!(stale.is_empty(), "these wait for nothing: {stale:?}");
}

#[test]
fn what_the_profiles_do_differently_is_what_the_table_says() {
    assert!(DIFFERENCES.len() <= 20, "{} rules", DIFFERENCES.len());
    let covers =
        |name: &str, path: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let mut uncovered = BTreeMap::new();
    let mut differing = BTreeSet::new();
    for case in &*CASES {
        // Profile `elastic` gives some operations another name, and keeps theirs below `o365.audit`.
        let (ours, mut theirs) =
            (pointed(&case.auditferry, "o365.audit"), pointed(&case.elastic, "o365.audit").cloned());
        let action = pointed(&case.auditferry, "event.action");
        if action != pointed(&case.elastic, "event.action") {
            let kept = theirs.as_mut().and_then(|body| body.as_object_mut()?.remove("Operation"));
            assert_eq!(kept.as_ref(), action, "{}: the operation is gone", case.name);
        }
        assert_eq!(ours, theirs.as_ref(), "{}: what is below `o365.audit` depends on the profile", case.name);
        for path in Ecs::ALL.iter().map(|field| field.path()) {
            if pointed(&case.auditferry, path) == pointed(&case.elastic, path) {
                continue;
            }
            differing.insert(path);
            if !DIFFERENCES.iter().any(|row| row.fields.iter().any(|name| covers(name, path))) {
                uncovered.entry(path).or_insert(&case.name);
            }
        }
    }
    assert!(uncovered.is_empty(), "no row covers {uncovered:#?}");
    let mut idle = Vec::new();
    for row in DIFFERENCES {
        // By the fields that no other row has, where it has one.
        let is_own = |name: &&&str| {
            !DIFFERENCES.iter().any(|other| other.name != row.name && other.fields.iter().any(|of| covers(of, name)))
        };
        let mut own: Vec<&str> = row.fields.iter().filter(is_own).copied().collect();
        if own.is_empty() {
            own = row.fields.to_vec();
        }
        if !own.iter().any(|name| differing.iter().any(|path| covers(name, path))) {
            idle.push(row.name);
        }
        for name in row.fields.iter().filter(|name| !differing.iter().any(|path| covers(name, path))) {
            idle.push(name);
        }
    }
    assert!(idle.is_empty(), "no fixture shows {idle:?}");
}

/// "Expected event types" of each category: ECS 8.17, ECS categorization field event.category.
pub const ALLOWED: &[(&str, &[&str])] = &[
    (
        "api",
        &["access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"],
    ),
    ("authentication", &["start", "end", "info"]),
    ("configuration", &["access", "change", "creation", "deletion", "info"]),
    ("database", &["access", "change", "info", "error"]),
    ("email", &["info"]),
    ("file", &["access", "change", "creation", "deletion", "info"]),
    ("host", &["access", "change", "end", "info", "start"]),
    ("iam", &["admin", "change", "creation", "deletion", "group", "info", "user"]),
    ("intrusion_detection", &["allowed", "denied", "info"]),
    ("malware", &["info"]),
    ("network", &["access", "allowed", "connection", "denied", "end", "info", "protocol", "start"]),
    ("process", &["access", "change", "end", "info", "start"]),
    ("session", &["start", "end", "info"]),
    ("threat", &["indicator"]),
    ("vulnerability", &["info"]),
    ("web", &["access", "error", "info"]),
];

#[test]
fn categories_and_types_are_pairs_that_ecs_knows() {
    let mut wrong = BTreeMap::new();
    for case in &*CASES {
        let texts =
            |path| at(&case.auditferry, path).into_iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>();
        let (categories, types) = (texts("event.category"), texts("event.type"));
        let allowed =
            |category: &str| ALLOWED.iter().find(|(name, _)| *name == category).map_or(&[][..], |(_, types)| *types);
        let is_good = match categories.is_empty() {
            true => types.is_empty(),
            false => {
                types.iter().all(|kind| categories.iter().any(|category| allowed(category).contains(kind)))
                    && categories.iter().all(|category| types.iter().any(|kind| allowed(category).contains(kind)))
            }
        };
        if !is_good {
            let action = at(&case.auditferry, "event.action").first().map(|action| action.to_string());
            let key = format!("{}, {}: {categories:?} {types:?}", case.family.name, action.unwrap_or_default());
            wrong.entry(key).or_insert(&case.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The four treatments of lists (detections, section 3.2).
#[test]
fn lists_have_the_shapes_that_rules_ask_for() {
    let mut wrong = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for case in &*CASES {
        let audit = pointed(&case.auditferry, "o365.audit").unwrap();
        for (name, as_object) in [
            ("Parameters", true),
            ("ExtendedProperties", true),
            ("ModifiedProperties", true),
            ("OperationProperties", false),
            ("DeviceProperties", false),
            ("Actor", false),
            ("Target", false),
        ] {
            // A list of names and values, as the schema has it; other shapes have other fixtures.
            let is_list =
                |value: &Value| value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_object));
            let Some(sent) = case.record.get(name).filter(|sent| is_list(sent)) else { continue };
            let Some(written) = audit.get(name) else {
                wrong.entry(format!("`{name}` is gone")).or_insert(&case.name);
                continue;
            };
            *seen.entry(name).or_insert(0) += 1;
            let is_good = match as_object {
                true => written.is_object(),
                false => written.as_array().map(Vec::len) == sent.as_array().map(Vec::len),
            };
            if !is_good {
                wrong.entry(format!("`{name}`: {written}")).or_insert(&case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(seen.len(), 7, "{seen:?}");
}

/// A row of tests/detections.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    field: String,
    #[serde(default)]
    record: String,
    value: Option<String>,
    auditferry: Option<String>,
    elastic: Option<String>,
    enrich: Option<String>,
    made: Option<String>,
    view: Option<String>,
    #[serde(default)]
    text: bool,
    impossible: Option<String>,
}

fn wanted(set: &str) -> Vec<Wanted> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/detections/{set}.yaml"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn of_record(name: &str) -> Vec<&'static Case> {
    let found: Vec<&Case> = CASES.iter().filter(|case| case.name == name || name == "any").collect();
    assert!(!found.is_empty(), "there is no fixture `{name}`");
    found
}

/// Whether every record of the row, if it is for any, or one of its file has what is looked for.
fn holds(row: &Wanted, has: impl Fn(&Case) -> bool) -> bool {
    let cases = of_record(&row.record);
    if row.record == "any" { cases.iter().all(|case| has(case)) } else { cases.iter().any(|case| has(case)) }
}

fn has(document: &Value, path: &str, value: Option<&str>) -> bool {
    let found = at(document, path);
    !found.is_empty() && value.is_none_or(|value| found.iter().any(|one| one.as_str() == Some(value)))
}

#[test]
fn detections_of_elastic_find_their_fields_in_both_profiles() {
    let rows = wanted("elastic");
    assert!(rows.len() > 80, "{} rows", rows.len());
    let mut missing = Vec::new();
    for row in &rows {
        for profile in Profile::ALL {
            let value = row.value.as_deref();
            let elsewhere = match profile {
                Profile::Auditferry => &row.auditferry,
                Profile::Elastic => &row.elastic,
            };
            let path = match elsewhere {
                Some(reason) if reason.starts_with("none: ") => continue,
                Some(other) => other,
                None => row.enrich.as_deref().unwrap_or(&row.field),
            };
            if !holds(row, |case| has(case.document(profile), path, value)) {
                missing.push(format!("{} ({}): no `{path}` {value:?}", row.record, profile.as_str()));
            }
        }
        if let Some(from) = &row.enrich {
            let is_looked_up = normalize::ecs::LOOK_UPS.iter().any(|member| member.path == row.field);
            assert!(is_looked_up, "nothing gives `{}` of `{from}`", row.field);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A name of Splunk's: `{}` means each element.
fn raw(record: &Value, field: &str) -> bool {
    has(record, &field.replace("{}", ""), None)
}

fn has_entry(record: &Value, list: &str, name: &str) -> bool {
    at(record, list).iter().any(|entry| entry.get("Name").and_then(Value::as_str) == Some(name))
}

#[test]
fn detections_of_splunk_find_their_fields_in_the_record_as_hec_is_sent_it() {
    let rows = wanted("splunk");
    assert!(rows.len() > 40, "{} rows", rows.len());
    for row in rows {
        if let Some(why) = &row.impossible {
            assert!(why.starts_with("Management Activity API schema"), "`{}`: what says so?", row.field);
            assert!(!CASES.iter().any(|case| case.record.get(&row.field).is_some()), "`{}` is there", row.field);
            continue;
        }
        let is_there = holds(&row, |case| match &row.made {
            Some(list) => has_entry(&case.record, list, &row.field),
            None => raw(&case.record, &row.field),
        });
        assert!(is_there, "{}: no `{}`", row.record, row.field);
    }
}

#[test]
fn detections_of_sigmahq_find_their_fields_in_the_record() {
    let rows = wanted("sigma");
    assert!(rows.len() > 14, "{} rows", rows.len());
    for row in rows {
        let field = row.view.as_deref().unwrap_or(&row.field);
        let is_there = holds(&row, |case| match field.strip_suffix('}').and_then(|field| field.split_once('{')) {
            Some((list, name)) => has_entry(&case.record, list, name),
            None if row.text => case.record.get(field).is_some_and(|list| list.is_array() || list.is_string()),
            None => raw(&case.record, field),
        });
        assert!(is_there, "{}: no `{field}`", row.record);
    }
}
