//! What a person is told of an event in a chat. Comes in: its ECS document, as the sink is shown it. Goes out: a
//! headline and some facts, each cut so that no message grows too long; never more than the document has.

use std::collections::HashMap;

use serde_json::Value;

use crate::escape::is_hidden;

/// Characters of one fact.
const LONGEST_FACT: usize = 300;

/// How a fact is called, and where the document has it; the first that is there counts.
const FACTS: [(&str, &[&str]); 8] = [
    ("User", &["/user/email", "/user/name", "/user/id"]),
    ("From", &["/source/ip", "/source/address"]),
    ("Place", &["/source/geo/city_name", "/source/geo/country_name"]),
    (
        "Target",
        &["/user/target/email", "/user/target/name", "/user/target/id", "/group/name", "/file/path", "/url/full"],
    ),
    ("Outcome", &["/event/outcome"]),
    ("Service", &["/event/provider"]),
    ("Time", &["/@timestamp"]),
    ("Id", &["/event/id"]),
];

/// See the module's head.
pub(super) struct Summary {
    /// What was done and where: `Add-MailboxPermission in northwind`.
    pub headline: String,
    pub facts: Vec<(&'static str, String)>,
}

impl Summary {
    /// Of a document that cannot be read only that much is said.
    pub fn of(document: &[u8]) -> Summary {
        let Ok(members) = serde_json::from_slice::<HashMap<String, Value>>(document) else {
            return Summary { headline: "an audit record".to_owned(), facts: Vec::new() };
        };
        let document: Value = members.into_iter().collect();
        let text = |path: &str| match document.pointer(path)? {
            Value::String(text) => Some(cut(text)),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(items) => items.first()?.as_str().map(cut),
            _ => None,
        };
        let first = |paths: &[&str]| paths.iter().find_map(|path| text(path).filter(|text| !text.is_empty()));
        let done = first(&["/event/action", "/message", "/error/message"]).unwrap_or_else(|| "an audit record".into());
        let headline = match first(&["/organization/name", "/cloud/account/name"]) {
            Some(tenant) => format!("{done} in {tenant}"),
            None => done,
        };
        let facts = FACTS.iter().filter_map(|(name, paths)| Some((*name, first(paths)?))).collect();
        Summary { headline, facts }
    }
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_FACT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    on_one_line(&short)
}

/// Blanks for what begins another line, turns text around or is not seen.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars().map(|character| if is_hidden(character) { ' ' } else { character }).collect()
}
