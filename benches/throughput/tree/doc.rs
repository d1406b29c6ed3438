//! A document while it is built, and texts out of a tree.

use auditferry::record::instant;
use serde_json::{Map, Value};

/// The document; fields are named by their dotted path.
#[derive(Default)]
pub struct Doc {
    pub root: Map<String, Value>,
}

impl Doc {
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.place(path) = value.into();
    }

    /// Sets a text that says something.
    pub fn set_text(&mut self, path: &str, text: Option<String>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.set(path, text);
        }
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut segments = path.split('.');
        let first = self.root.get(segments.next()?)?;
        segments.try_fold(first, |object, name| object.get(name))
    }

    pub fn text(&self, path: &str) -> Option<String> {
        self.get(path)?.as_str().map(str::to_owned)
    }

    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// Adds a value to a list, none twice.
    pub fn add(&mut self, path: &str, value: impl Into<Value>) {
        let (place, value) = (self.place(path), value.into());
        match place {
            Value::Array(list) if list.contains(&value) => {}
            Value::Array(list) => list.push(value),
            _ => *place = Value::Array(vec![value]),
        }
    }

    pub fn add_text(&mut self, path: &str, text: String) {
        if !text.is_empty() {
            self.add(path, text);
        }
    }

    /// Sets a text where there is nothing yet.
    pub fn fill_text(&mut self, path: &str, text: Option<String>) {
        if !self.has(path) {
            self.set_text(path, text);
        }
    }

    /// Adds an address to the related users. `smtp:a@b` and `"A" [SMTP:a@b]` are read; a path, a folder or a sentence
    /// with an `@` in it is nobody.
    pub fn add_person(&mut self, text: &str) {
        let text = text.trim();
        let text = text.rsplit_once('[').map_or(text, |(_, inside)| inside.trim_end_matches(']'));
        let text = match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("smtp") => rest,
            _ => text,
        };
        if address(text).is_some() && !text.contains([' ', '/', ':', '\\', '"']) {
            self.add("related.user", text);
        }
    }

    /// A field that is no list in ECS: one value stands by itself.
    pub fn unlist(&mut self, path: &str) {
        if !self.has(path) {
            return;
        }
        let place = self.place(path);
        if let Value::Array(list) = place
            && list.len() == 1
        {
            *place = list.remove(0);
        }
    }

    /// Sets a time that is one.
    pub fn set_time(&mut self, path: &str, text: Option<String>) {
        if let Some(ms) = text.and_then(|text| instant::parse_ms(&text)) {
            self.set(path, time(ms));
        }
    }

    fn place(&mut self, path: &str) -> &mut Value {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let mut place = self.root.entry(first).or_insert(Value::Null);
        for name in rest.into_iter().flat_map(|rest| rest.split('.')) {
            place = &mut place[name];
        }
        place
    }
}

/// As `2026-01-02T03:04:05.678Z`.
pub fn time(ms: i64) -> String {
    let mut text = Vec::new();
    instant::write_ms(ms, &mut text);
    String::from_utf8(text).unwrap()
}

/// A scalar that says something, as text.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

pub fn text(record: &Map<String, Value>, name: &str) -> Option<String> {
    scalar(record.get(name)?)
}

/// The same of a member of any value.
pub fn member(value: &Value, name: &str) -> Option<String> {
    scalar(value.get(name)?)
}

/// The texts of a list, or the one text.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(scalar).collect(),
        other => scalar(other).into_iter().collect(),
    }
}

/// The elements of a list; none of anything else.
pub fn list<'a>(record: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    record.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A whole number, however it is spelt.
pub fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok().or_else(|| whole(&Value::Number(text.parse().ok()?))),
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
        }
        _ => None,
    }
}

/// The value of the last entry of this name in a list of names and values.
pub fn last_value(list: &[Value], name: &str) -> Option<String> {
    let is_named = |entry: &&Value| entry.get("Name").or(entry.get("Key")).and_then(Value::as_str) == Some(name);
    scalar(list.iter().rfind(is_named)?.get("Value")?)
}

/// The JSON inside of a text, where it is an object or a list.
pub fn embedded(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(|inside: &Value| inside.is_object() || inside.is_array())
}

/// The elements of a list inside of any value; none of anything else.
pub fn elements<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What stands behind the last dot of a name.
pub fn extension(name: &str) -> Option<String> {
    name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

/// What stands behind the last separator of a path.
pub fn last_part(path: &str) -> Option<String> {
    path.rsplit(['\\', '/']).next().map(str::to_owned)
}

/// Name and domain, where there is exactly one `@` with something on both sides.
pub fn address(text: &str) -> Option<(String, String)> {
    match text.split('@').collect::<Vec<_>>()[..] {
        [name, domain] if !name.is_empty() && !domain.is_empty() => Some((name.to_owned(), domain.to_owned())),
        _ => None,
    }
}

/// Whether a text names somebody.
pub fn is_known(text: &str) -> bool {
    !matches!(text, "" | "Not Available" | "Unknown" | "NotAvailable")
}

/// Fills in a user (`user` or `user.target`) by id, and by its parts where the id is an address.
pub fn set_user(doc: &mut Doc, user: &str, id: &str) {
    doc.set(&format!("{user}.id"), id);
    set_address(doc, user, id);
}

pub fn set_address(doc: &mut Doc, user: &str, text: &str) {
    if let Some((name, domain)) = address(text) {
        doc.set(&format!("{user}.name"), name);
        doc.set(&format!("{user}.domain"), domain);
        doc.set(&format!("{user}.email"), text);
    }
}

/// Whether a text is somebody whom one would search for: the accounts of the service itself are not.
pub fn is_somebody(text: &str) -> bool {
    const SERVICES: [&str; 12] = [
        "AirInvestigation",
        "Application",
        "DlpAgent",
        "DlpPolicy",
        "HygieneTenantEvents",
        "Insider risk",
        "SecurityComplianceAlerts",
        "SecurityComplianceInsights",
        "SupervisionAgent",
        "ThreatIntel",
        "anonymous",
        "app@sharepoint",
    ];
    is_known(text) && !SERVICES.contains(&text) && !text.starts_with("Application_")
}
