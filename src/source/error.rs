//! What the service answers when it does not answer what was asked, by what the caller does next.
//!
//! Status first, then the error code, then the text; the default is to try again. The code can be
//! garbage and the body need not be JSON (activity-api 1.10), so neither is ever trusted to be there.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::advice::hint_of_answer;

/// Why a call did not bring what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Pause the whole tenant; after `after` if the service named a time.
    #[error("throttled: {text}")]
    Throttled { after: Option<Duration>, text: String },
    /// Try again with back-off, for ever.
    #[error("{text}")]
    Transient { text: String },
    /// Try again slowly (half an hour) and say so: something is being set up or taken down in the tenant.
    #[error("{text}")]
    Unprovisioned { text: String },
    /// A fresh token was refused too, or the token cannot be had: pause, probe again every 15 minutes.
    #[error("{text}")]
    Unauthorized { text: String },
    /// There is no enabled subscription: heal it.
    #[error("the subscription is not enabled: {text}")]
    NotSubscribed { text: String },
    /// The range asked for begins too early (or the clocks disagree).
    #[error("the range is refused: {text}")]
    RangeRefused { text: String },
    /// The page token is no longer good: list again from page 1.
    #[error("the page is refused: {text}")]
    PageRefused { text: String },
    /// The content is not there (now).
    #[error("the content does not exist: {text}")]
    NotFound { text: String },
    /// The content id is no id, says the service. Of one blob: as `NotFound`. Of many: this is the host of
    /// another cloud (activity-api 1.1).
    #[error("the content id is invalid: {text}")]
    InvalidContent { text: String },
    /// The content is gone for good, says the service.
    #[error("the content expired: {text}")]
    Expired { text: String },
    /// A server-made URL does not lead where tokens may go. Nothing was sent.
    #[error("refused to follow `{url}`: {reason}")]
    ForbiddenUrl { url: String, reason: &'static str },
}

impl ApiError {
    /// Says `more` behind what is said.
    fn say(&mut self, more: &str) {
        match self {
            ApiError::Throttled { text, .. }
            | ApiError::Transient { text }
            | ApiError::Unprovisioned { text }
            | ApiError::Unauthorized { text }
            | ApiError::NotSubscribed { text }
            | ApiError::RangeRefused { text }
            | ApiError::PageRefused { text }
            | ApiError::NotFound { text }
            | ApiError::InvalidContent { text }
            | ApiError::Expired { text } => text.push_str(more),
            ApiError::ForbiddenUrl { .. } => {}
        }
    }

    /// Whether it is about what we show, so that asking again helps nobody until somebody mended that.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, ApiError::Unauthorized { .. })
    }

    /// A short, closed name for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            ApiError::Throttled { .. } => "throttled",
            ApiError::Transient { .. } => "transient",
            ApiError::Unprovisioned { .. } => "unprovisioned",
            ApiError::Unauthorized { .. } => "unauthorized",
            ApiError::NotSubscribed { .. } => "not_subscribed",
            ApiError::RangeRefused { .. } => "range_refused",
            ApiError::PageRefused { .. } => "page_refused",
            ApiError::NotFound { .. } => "not_found",
            ApiError::InvalidContent { .. } => "invalid_content",
            ApiError::Expired { .. } => "expired",
            ApiError::ForbiddenUrl { .. } => "forbidden_url",
        }
    }
}

/// What an answer that is not a success means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token may simply be old: ask for a fresh one and try once more.
    Token {
        text: String,
    },
    /// AF20024: the subscription is already as asked; a success (activity-api 1.5).
    AlreadyEnabled,
    Error(ApiError),
}

/// Classifies an answer by the table of activity-api 1.10. `body` may be anything. A code that is an
/// exception's text (auditing is off, or a passing fault) falls to the default like any unknown one.
pub fn classify(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Refusal {
    let (code, message) = code_and_message(body);
    let text = describe(status, &code, &message);
    let throttled = status == 429 || code == "AF429" || status == 403 && says_too_many(&message, body);
    if throttled {
        return Refusal::Error(ApiError::Throttled { after: retry_after, text });
    }
    let error = match code.as_str() {
        "AF20024" => return Refusal::AlreadyEnabled,
        "AF20022" | "AF20023" => ApiError::NotSubscribed { text },
        "AF20030" | "AF20055" => ApiError::RangeRefused { text },
        "AF20031" => ApiError::PageRefused { text },
        "AF20050" => ApiError::NotFound { text },
        "AF20052" => ApiError::InvalidContent { text },
        "AF20051" => ApiError::Expired { text },
        // AF10001 is a missing permission, which only a fresh token can show to be granted; AF20010 a token of another tenant.
        "AF10001" | "AF20010" | "AF20013" | "AF20020" => ApiError::Unauthorized { text },
        "AF20011" | "AF20012" => ApiError::Unprovisioned { text },
        _ => match status {
            401 => return Refusal::Token { text },
            403 => ApiError::Unauthorized { text },
            404 => ApiError::NotFound { text },
            _ => ApiError::Transient { text },
        },
    };
    Refusal::Error(error)
}

impl Refusal {
    /// The same, with more said.
    pub fn with(mut self, more: &str) -> Refusal {
        match &mut self {
            Refusal::Token { text } => text.push_str(more),
            Refusal::AlreadyEnabled => {}
            Refusal::Error(error) => error.say(more),
        }
        self
    }
}

/// The headers by which Microsoft finds a request in its own logs; support asks for them.
const REQUEST_IDS: [&str; 4] = ["request-id", "x-ms-request-id", "client-request-id", "x-ms-correlation-id"];

/// ` (request-id …)`: what an answer's headers say to be found by. Nothing where there is none.
pub fn request_ids(headers: &HeaderMap) -> String {
    let shown = |name: &'static str| {
        let value = headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())?;
        Some(format!("{name} {}", printable(value)))
    };
    let found: Vec<String> = REQUEST_IDS.into_iter().filter_map(shown).collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
}

fn says_too_many(message: &str, body: &[u8]) -> bool {
    let says = |text: &str| text.to_ascii_lowercase().contains("too many requests");
    says(message) || message.is_empty() && says(&String::from_utf8_lossy(body))
}

/// The `error.code` and `error.message` of a JSON error body; empty where there is none.
fn code_and_message(body: &[u8]) -> (String, String) {
    #[derive(Deserialize)]
    struct Body {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { error }) => (error.code, error.message),
        Err(_) => (String::new(), String::new()),
    }
}

/// Longest piece of a server's text that is repeated in an error, characters: the longest refusals of the
/// token endpoint with their three ids are about 500.
const MAX_TEXT: usize = 700;

/// A server's words made fit for a log line: cut, and without control characters.
pub fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What the service said, and then what it means.
fn describe(status: u16, code: &str, message: &str) -> String {
    let said = match (code.is_empty(), message.is_empty()) {
        (true, true) => format!("status {status} without a readable error"),
        (true, false) => format!("status {status}: {}", printable(message)),
        (false, _) => format!("status {status}, {}: {}", printable(code), printable(message)),
    };
    let hint = hint_of_answer(&said);
    said + &hint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str, message: &str) -> String {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
        match classify(status, None, body.as_bytes()) {
            Refusal::Token { .. } => "token".into(),
            Refusal::AlreadyEnabled => "already_enabled".into(),
            Refusal::Error(error) => error.class().into(),
        }
    }

    #[test]
    fn the_error_table() {
        let table = [
            (401, "AF10001", "permission set () does not include", "unauthorized"),
            (401, "", "", "token"),
            (403, "AF429", "Too many requests. Method=GetBlob", "throttled"),
            (403, "", "Too many requests", "throttled"),
            (403, "", "nope", "unauthorized"),
            (429, "", "", "throttled"),
            (400, "AF20022", "", "not_subscribed"),
            (400, "AF20023", "The subscription was disabled.", "not_subscribed"),
            (400, "AF20024", "already enabled", "already_enabled"),
            (400, "AF20030", "", "range_refused"),
            (400, "AF20055", "", "range_refused"),
            (400, "AF20031", "", "page_refused"),
            (404, "AF20050", "", "not_found"),
            (404, "", "", "not_found"),
            (400, "AF20051", "", "expired"),
            (400, "AF20052", "", "invalid_content"),
            (500, "AF50000", "retry in an hour", "transient"),
            (400, "AF99999", "", "transient"),
            (400, "StartSubscription [CorrId=", "Tenant x does not exist", "transient"),
        ];
        for (status, code, message, expected) in table {
            assert_eq!(class(status, code, message), expected, "{status} {code} {message}");
            let is_documented = code.starts_with("AF") && code != "AF99999";
            assert!(!is_documented || crate::advice::of_code(code).is_some(), "there is no advice for {code}");
        }
    }

    #[test]
    fn what_the_service_said_stands_before_the_advice_and_its_ids_behind() {
        let body = br#"{"error":{"code":"AF10001","message":"The permission set () sent in the request does not include the expected permission."}}"#;
        let mut headers = HeaderMap::new();
        headers.insert("request-id", "0f1e2d3c".parse().unwrap());
        headers.insert("client-request-id", "4b5a".parse().unwrap());
        let Refusal::Error(error) = classify(401, None, body).with(&request_ids(&headers)) else { panic!() };
        let said = error.to_string();
        let at = |part: &str| said.find(part).unwrap_or_else(|| panic!("`{part}` is not in {said}"));
        assert!(at("The permission set () sent") < at("ActivityFeed.Read"), "{said}");
        assert!(at("ActivityFeed.Read") < at("(request-id 0f1e2d3c, client-request-id 4b5a)"), "{said}");
        assert_eq!(request_ids(&HeaderMap::new()), "");
    }

    #[test]
    fn a_page_of_html_is_transient_and_too_many_requests_in_it_is_throttling() {
        let html = |status, text: &str| classify(status, None, format!("<html>{text}</html>").as_bytes());
        assert!(matches!(html(503, "gateway"), Refusal::Error(ApiError::Transient { .. })));
        assert!(matches!(html(403, "Too many requests"), Refusal::Error(ApiError::Throttled { .. })));
    }
}
