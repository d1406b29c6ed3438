//! `when:` as written → [`When`]. Comes in: a node of the tree. Goes out: the condition, with the
//! tenants that it names and their places, for only the whole file tells which exist. A key, a form or a
//! value that means nothing is a fault at its place, never a condition that is silently false.

use std::net::IpAddr;

use super::condition::{Key, Matcher, Network, Test, When};
use super::faults::{Place, Reader};
use super::schema::{self, Schema};
use super::section::{entries, nearest, refuse_unknown};
use super::tree::{Entry, Node, Value};
use super::values::{At, FromNode};
use crate::feed::ContentType;
use crate::record::types;

/// The keys of a condition, as written.
pub(super) const KEYS: &[&str] =
    &["tenant", "content_type", "workload", "operation", "outcome", "kind", "record_type", "user", "source_ip", "any"];
pub(super) const FORMS: &[&str] = &["prefix", "cidr", "not"];
const OUTCOMES: &[&str] = &["success", "failure", "unknown"];
const KINDS: &[&str] = &["audit", "alert"];
/// How deep `any` and `not` may stand in each other; deeper nobody can read it.
const DEEPEST: usize = 8;

/// A condition, and what is still to be checked of it.
#[derive(Clone, Debug, Default)]
pub(super) struct WhenFile {
    pub when: When,
    /// Tenants by name, and by the beginning of their names.
    pub tenants: Vec<At<String>>,
    pub tenant_prefixes: Vec<At<String>>,
    /// Where alerts are asked for, which nothing makes yet.
    pub alerts: Vec<Place>,
}

impl FromNode for WhenFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<WhenFile> {
        let mut file = WhenFile::default();
        file.when = condition(node, 0, &mut file, reader)?;
        Some(file)
    }

    fn schema() -> Schema {
        schema::reference("when")
    }
}

/// The definitions that [`WhenFile`]'s schema refers to: a condition, and the values of each key.
pub(super) fn definitions() -> Vec<(String, Schema)> {
    let leaf = |key: Key| match key {
        Key::ContentType => ContentType::schema(),
        Key::Outcome => schema::one_of(OUTCOMES.iter().copied()),
        Key::Kind => schema::one_of(KINDS.iter().copied()),
        _ => schema::text(),
    };
    let name = |key: Key| format!("when_{}", key.as_str());
    let mut keys: Vec<(&str, Schema)> =
        Key::ALL.into_iter().map(|key| (key.as_str(), schema::reference(&name(key)))).collect();
    keys.push(("any", schema::items(schema::reference("when"))));
    let mut all = vec![("when".to_owned(), schema::mapping(keys))];
    for key in Key::ALL {
        let form = |form: &'static str| match form {
            "not" => (form, schema::reference(&name(key))),
            _ => (form, schema::list(schema::text())),
        };
        let forms = FORMS.iter().filter(|form| (**form == "cidr") == (key == Key::SourceIp) || **form == "not");
        let one = schema::any_of([leaf(key), schema::mapping(forms.map(|one| form(one)).collect())]);
        all.push((name(key), schema::any_of([one.clone(), schema::items(one)])));
    }
    all
}

/// A fault where conditions stand too deep in each other.
fn is_too_deep(node: &Node, depth: usize, reader: &mut Reader<'_>) -> bool {
    if depth > DEEPEST {
        reader.fault(&node.place, "the condition is too deep", "write it with fewer `any` and `not` in each other");
    }
    depth > DEEPEST
}

fn condition(node: &Node, depth: usize, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<When> {
    if is_too_deep(node, depth, reader) {
        return None;
    }
    let entries = entries(node, "`when`", KEYS, reader)?;
    refuse_unknown(entries, &[KEYS], &[], "`when`", reader);
    if entries.is_empty() {
        reader.fault(&node.place, "the condition is empty", "remove it: without `when` a sink gets everything");
        return None;
    }
    let mut when = When::default();
    let mut good = true;
    for Entry { key, node, .. } in entries {
        if key == "any" {
            let read = any(node, depth, file, reader);
            good &= read.is_some();
            when.any = read.unwrap_or_default();
        } else if let Some(key) = Key::ALL.into_iter().find(|known| known.as_str() == key) {
            match values(key, node, depth, file, reader) {
                Some(wanted) => when.tests.push(Test { key, wanted }),
                None => good = false,
            }
        }
    }
    good.then_some(when)
}

fn any(node: &Node, depth: usize, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Vec<When>> {
    match &node.value {
        Value::List(items) if !items.is_empty() => {
            let read: Vec<_> = items.iter().map(|item| condition(item, depth + 1, file, reader)).collect();
            read.into_iter().collect()
        }
        _ => {
            reader.fault(
                &node.place,
                "`any` is a list of conditions, of which one must hold",
                "`any: [ { workload: Exchange }, { operation: UserLoggedIn } ]`",
            );
            None
        }
    }
}

/// A value or a list of them.
fn values(key: Key, node: &Node, depth: usize, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Vec<Matcher>> {
    if is_too_deep(node, depth, reader) {
        return None;
    }
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.fault(
            &node.place,
            format!("`{}` has no value, so nothing would ever fit", key.as_str()),
            "name at least one",
        );
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| matcher(key, item, depth, file, reader)).collect();
    read.into_iter().collect()
}

/// A plain value, or a mapping of forms that must all fit.
fn matcher(key: Key, node: &Node, depth: usize, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Matcher> {
    let forms = match &node.value {
        Value::Map(forms) => forms,
        _ => return value(key, node, file, reader),
    };
    refuse_unknown(forms, &[FORMS], &[], "the value", reader);
    if forms.is_empty() {
        reader.fault(&node.place, "the value is empty", "one of `prefix:`, `cidr:`, `not:`, or a plain value");
        return None;
    }
    let read: Vec<Option<Vec<Matcher>>> = forms.iter().map(|form| self::form(key, form, depth, file, reader)).collect();
    let mut all: Vec<Vec<Matcher>> = read.into_iter().collect::<Option<_>>()?;
    match all.len() {
        1 if all[0].len() == 1 => all.pop()?.pop(),
        _ => Some(Matcher::All(all)),
    }
}

/// One form of a mapping of forms.
fn form(key: Key, entry: &Entry, depth: usize, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Vec<Matcher>> {
    let node = &entry.node;
    match entry.key.as_str() {
        "prefix" => {
            let read: Vec<_> = texts(node, reader)?.iter().map(|text| prefix(key, text, file, reader)).collect();
            read.into_iter().collect()
        }
        "cidr" if key == Key::SourceIp => {
            let read: Vec<_> = texts(node, reader)?.iter().map(|text| network(text, reader)).collect();
            read.into_iter().collect()
        }
        "cidr" => {
            let text = format!("`{}` is no address", key.as_str());
            reader.fault(&entry.place, text, "`cidr` goes with `source_ip`");
            None
        }
        "not" => Some(vec![Matcher::Not(values(key, node, depth + 1, file, reader)?)]),
        _ => None,
    }
}

fn texts(node: &Node, reader: &mut Reader<'_>) -> Option<Vec<At<String>>> {
    let texts = Vec::<At<String>>::from_node(node, reader)?;
    if texts.is_empty() {
        reader.fault(&node.place, "the list is empty, so nothing would ever fit", "name at least one");
        return None;
    }
    Some(texts)
}

fn value(key: Key, node: &Node, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Matcher> {
    match key {
        Key::Tenant => {
            let name = At::<String>::from_node(node, reader)?;
            file.tenants.push(name.clone());
            Some(Matcher::Is(name.value))
        }
        Key::ContentType => ContentType::from_node(node, reader).map(|of| Matcher::Is(of.as_str().to_owned())),
        Key::Workload | Key::Operation | Key::User => String::from_node(node, reader).map(Matcher::Is),
        Key::Outcome => one_of("an outcome", OUTCOMES, node, reader),
        Key::Kind => {
            let kind = one_of("a kind", KINDS, node, reader)?;
            if kind == Matcher::Is("alert".to_owned()) {
                file.alerts.push(node.place.clone());
            }
            Some(kind)
        }
        Key::RecordType => record_type(&At::<String>::from_node(node, reader)?, reader),
        Key::SourceIp => network(&At::<String>::from_node(node, reader)?, reader),
    }
}

fn one_of(what: &str, known: &[&str], node: &Node, reader: &mut Reader<'_>) -> Option<Matcher> {
    let text = String::from_node(node, reader)?;
    if known.contains(&text.as_str()) {
        return Some(Matcher::Is(text));
    }
    reader.fault(&node.place, format!("this is not {what}"), format!("one of {}", known.join(", ")));
    None
}

/// By number, or by the name of the enumeration.
fn record_type(text: &At<String>, reader: &mut Reader<'_>) -> Option<Matcher> {
    if let Ok(number) = text.value.parse() {
        return Some(Matcher::Number(number));
    }
    let named = types::RECORD_TYPES.iter().find(|row| row.name.eq_ignore_ascii_case(&text.value));
    if named.is_none() {
        let names = types::RECORD_TYPES.iter().map(|row| row.name);
        let hint = nearest(&text.value, names).map_or_else(
            || "give its number, which is always understood".to_owned(),
            |name| format!("did you mean `{name}`?"),
        );
        reader.fault(&text.place, "no record type is called so", hint);
    }
    named.map(|row| Matcher::Number(row.number))
}

fn prefix(key: Key, text: &At<String>, file: &mut WhenFile, reader: &mut Reader<'_>) -> Option<Matcher> {
    match key {
        Key::Tenant => file.tenant_prefixes.push(text.clone()),
        Key::ContentType | Key::Workload | Key::Operation | Key::User => {}
        Key::RecordType => {
            let begins = |row: &&types::RecordType| starts_with(row.name, &text.value);
            let numbers: Vec<_> =
                types::RECORD_TYPES.iter().filter(begins).map(|row| Matcher::Number(row.number)).collect();
            if numbers.is_empty() {
                reader.fault(&text.place, "no record type begins so", "the names are those of Microsoft's schema");
                return None;
            }
            return Some(Matcher::All(vec![numbers]));
        }
        Key::Outcome | Key::Kind | Key::SourceIp => {
            let hint = if key == Key::SourceIp { "use `cidr:`" } else { "name the values" };
            reader.fault(&text.place, format!("`prefix` says nothing about `{}`", key.as_str()), hint);
            return None;
        }
    }
    Some(Matcher::Prefix(text.value.clone()))
}

/// Whether `text` begins so, whatever the case of ASCII letters.
pub fn starts_with(text: &str, prefix: &str) -> bool {
    text.as_bytes().get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn network(text: &At<String>, reader: &mut Reader<'_>) -> Option<Matcher> {
    let network = Network::parse(&text.value);
    if network.is_none() {
        reader.fault(
            &text.place,
            "this is neither an address nor a network",
            "`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`",
        );
    }
    let mapped = |network: &Network| matches!(network.address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if network.as_ref().is_some_and(mapped) {
        reader.fault(&text.place, "an IPv4 address in an IPv6 one never fits", "write it as IPv4: `192.0.2.0/24`");
        return None;
    }
    network.map(Matcher::Network)
}

/// Says which of the named tenants are not configured.
pub(super) fn check(file: &WhenFile, tenants: &[&str], reader: &mut Reader<'_>) {
    // Without any tenant that has been said, and is what is to be mended.
    for name in file.tenants.iter().filter(|_| !tenants.is_empty()) {
        if !tenants.contains(&name.value.as_str()) {
            let hint = nearest(&name.value, tenants.iter().copied()).map_or_else(
                || "the condition takes the `name` of a tenant in this configuration".to_owned(),
                |name| format!("did you mean `{name}`?"),
            );
            reader.fault(&name.place, "no tenant of this name is configured", hint);
        }
    }
    for prefix in file.tenant_prefixes.iter().filter(|_| !tenants.is_empty()) {
        if !tenants.iter().any(|name| name.starts_with(&prefix.value)) {
            reader.fault(&prefix.place, "no configured tenant's name begins so", "names are those below `tenants:`");
        }
    }
    for place in &file.alerts {
        reader.warning(place, "this release makes no alerts yet", "a sink that asks for alerts only gets nothing");
    }
}
