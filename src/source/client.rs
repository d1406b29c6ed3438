//! Typed calls of the Management Activity API. No loops but the one repeat with a fresh token; what
//! to do about an error is the caller's. Every request takes its turn, carries the publisher, goes
//! only to a pinned URL and teaches us the server's clock.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::auth::{Token, TokenSource};
use super::body::{Body, next_page_uri};
use super::connections::Connections;
use super::error::{ApiError, Refusal, classify, request_ids};
use super::pin::{Pin, PinnedUrl};
use super::server_clock::ServerClock;
use super::throttle::Throttle;
use crate::advice::hint;
use crate::clock::{Clock, Seconds};
use crate::feed::ContentType;
use crate::metrics::Metrics;
use crate::retry::parse_retry_after;
use crate::secret::scrub;
use crate::state::ListedBlob;

/// Longest page of a listing, bytes: 100,000 entries of 300 bytes.
const MAX_PAGE: usize = 32 * 1024 * 1024;
/// Longest error body that is looked at, bytes.
const MAX_ERROR: usize = 64 * 1024;

/// The calls of one tenant.
pub struct Client {
    pub pin: Pin,
    pub throttle: Throttle,
    pub server_clock: ServerClock,
    connections: Connections,
    tokens: TokenSource,
    /// How long an answer's head, and then each stretch of its body, may take.
    stall: Duration,
    tenant: String,
    metrics: Arc<Metrics>,
}

/// A content type's subscription as the service lists it.
#[derive(Debug, Deserialize)]
pub struct SubscriptionStatus {
    #[serde(rename = "contentType", default)]
    pub content_type: String,
    /// The documentation's own sample leaves it out once (activity-api 1.4).
    #[serde(default)]
    pub status: Option<String>,
    /// Present and not null where somebody is notified.
    #[serde(default)]
    pub webhook: Option<serde_json::Value>,
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    pub blobs: Vec<ListedBlob>,
    /// Entries that cannot be read: not objects, or without an id. They cost their neighbours nothing.
    pub unreadable: usize,
    /// Where the next page is, unchecked.
    pub next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedContent {
    content_id: String,
    /// Neither is needed to fetch the blob, so an entry without them must not cost the whole listing.
    #[serde(default)]
    content_uri: Option<String>,
    #[serde(default)]
    content_created: Option<String>,
    #[serde(default)]
    content_expiration: Option<String>,
}

impl Client {
    #[expect(clippy::too_many_arguments, reason = "the parts of one tenant's connection, each used by name")]
    pub fn new(
        connections: Connections,
        pin: Pin,
        throttle: Throttle,
        tokens: TokenSource,
        clock: Clock,
        stall: Duration,
        tenant: &str,
        metrics: Arc<Metrics>,
    ) -> Client {
        let server_clock = ServerClock::new(clock);
        Client { pin, throttle, server_clock, connections, tokens, stall, tenant: tenant.to_owned(), metrics }
    }

    /// The tenant's subscriptions.
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, ApiError> {
        let url = self.pin.feed_url("subscriptions/list", &[]);
        let response = self.call("list_subscriptions", Method::GET, &url).await?;
        let Some(response) = response else { return Ok(Vec::new()) };
        let body = self.collect(response).await?;
        serde_json::from_slice(&body).map_err(|e| unreadable("subscriptions", &e))
    }

    /// Starts a subscription; one that is already as asked is a success. Never with a webhook.
    pub async fn start(&self, content_type: ContentType) -> Result<(), ApiError> {
        let url = self.pin.feed_url("subscriptions/start", &[("contentType", content_type.as_str())]);
        self.call("start_subscription", Method::POST, &url).await.map(drop)
    }

    /// The first page of the blobs that became available in `[from, to)`, at most 24 hours.
    pub async fn list(&self, content_type: ContentType, from: Seconds, to: Seconds) -> Result<Page, ApiError> {
        let (from, to) = (query_time(from), query_time(to));
        let query = [("contentType", content_type.as_str()), ("startTime", &from), ("endTime", &to)];
        self.page(&self.pin.feed_url("subscriptions/content", &query)).await
    }

    /// A further page.
    pub async fn page(&self, url: &PinnedUrl) -> Result<Page, ApiError> {
        let Some(response) = self.call("list_content", Method::GET, url).await? else {
            return Err(ApiError::Transient { text: "an answer that belongs to another call".into() });
        };
        let next = next_page_uri(&response);
        let body = self.collect(response).await?;
        let (blobs, unreadable) = read_page(&body)?;
        if unreadable > 0 {
            self.metrics.listing_unreadable.with_label_values(&[&self.tenant]).inc_by(unreadable as u64);
            tracing::error!(tenant = %self.tenant, unreadable, "a listing holds entries without a content id; what they stand for cannot be asked for");
        }
        Ok(Page { blobs, unreadable, next })
    }

    /// Sees to it that the next call goes out with a token no older than `age` seconds.
    pub async fn renew_token_if_older(&self, age: Seconds) {
        self.tokens.renew_if_older(age).await;
    }

    /// Resolves when a credential that was refused has been replaced.
    pub async fn credential_changed(&self) {
        self.tokens.changed().await;
    }

    /// A blob's body, or a further page of it.
    pub async fn content(&self, url: &PinnedUrl) -> Result<Body, ApiError> {
        match self.call("get_content", Method::GET, url).await? {
            Some(response) => Ok(Body::new(response, self.stall)),
            None => Err(ApiError::Transient { text: "an answer that belongs to another call".into() }),
        }
    }

    async fn collect(&self, response: reqwest::Response) -> Result<bytes::BytesMut, ApiError> {
        let body = Body::new(response, self.stall).collect(MAX_PAGE).await;
        body.map_err(|error| ApiError::Transient { text: error.to_string() })
    }

    /// One call. `None`: AF20024, a success without a body.
    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: &PinnedUrl,
    ) -> Result<Option<reqwest::Response>, ApiError> {
        let mut is_repeat = false;
        loop {
            // The turn first: it may be an hour away, and a token fetched before it would be old by then.
            self.throttle.turn().await;
            let token = self.tokens.get().await?;
            let response = self.send(operation, method.clone(), url, &token).await?;
            if response.status().is_success() {
                self.throttle.taken();
                return Ok(Some(response));
            }
            let status = response.status().as_u16();
            let after = retry_after(response.headers(), self.server_clock.now() * 1000);
            let ids = request_ids(response.headers());
            // The status alone is an answer too, if the body cannot be read.
            let body = Body::new(response, self.stall).collect(MAX_ERROR).await.unwrap_or_default();
            let said = scrub(&body, token.secret.expose_secret().as_bytes());
            match classify(status, after, &said).with(&ids) {
                Refusal::AlreadyEnabled => return Ok(None),
                Refusal::Token { .. } if !is_repeat => {
                    self.tokens.invalidate(&token).await;
                    is_repeat = true;
                }
                Refusal::Token { text } => return Err(ApiError::Unauthorized { text }),
                Refusal::Error(error) => {
                    self.heed(&error, &token).await;
                    return Err(error);
                }
            }
        }
    }

    /// What a refusal means for the whole tenant.
    async fn heed(&self, error: &ApiError, token: &Token) {
        match error {
            ApiError::Throttled { after, .. } => {
                self.metrics.api_throttled.with_label_values(&[&self.tenant]).inc();
                after.iter().for_each(|pause| self.metrics.api_retry_after.observe(pause.as_secs_f64()));
                self.throttle.refused(*after);
            }
            // A permission granted later shows only in a token made later.
            ApiError::Unauthorized { .. } => _ = self.tokens.invalidate(token).await,
            _ => {}
        }
    }

    async fn send(
        &self,
        operation: &'static str,
        method: Method,
        url: &PinnedUrl,
        token: &Token,
    ) -> Result<reqwest::Response, ApiError> {
        let is_post = method == Method::POST;
        let mut request = Request::new(method, url.as_url().clone());
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if is_post {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        let turn = self.connections.turn().await;
        let (sent, began) = (self.server_clock.mark_ms(), Instant::now());
        let answer = tokio::time::timeout(self.stall, self.connections.send(request)).await;
        let received = self.server_clock.mark_ms();
        drop(turn);
        self.metrics.api_seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                self.count(operation, "transport");
                return Err(ApiError::Transient { text: error.to_string() });
            }
            Err(_) => {
                self.count(operation, "transport");
                return Err(ApiError::Transient { text: no_answer(url, self.stall) });
            }
        };
        self.count(operation, status_class(response.status().as_u16()));
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        self.server_clock.observe(date.map(|date| date * 1000), sent, received);
        let skew = self.server_clock.skew_ms() as f64 / 1000.0;
        self.metrics.clock_skew.with_label_values(&[&self.tenant]).set(skew);
        Ok(response)
    }

    fn count(&self, operation: &str, code: &str) {
        self.metrics.api_requests.with_label_values(&[operation, code]).inc();
        self.metrics.api_tenant_requests.with_label_values(&[&self.tenant]).inc();
    }
}

fn no_answer(url: &PinnedUrl, stall: Duration) -> String {
    let host = url.as_url().host_str().unwrap_or_default();
    let text = format!("no answer in {stall:?} from `{host}`");
    let hint = hint(&text);
    text + &hint
}

fn bearer(token: &Token) -> Result<HeaderValue, ApiError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.secret.expose_secret()))
        .map_err(|_| ApiError::Transient { text: "the token endpoint's token cannot be sent in a header".into() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The closed set of values of the `code` label.
pub const STATUS_CLASSES: [&str; 7] = ["2xx", "3xx", "4xx", "401", "403", "429", "5xx"];

fn status_class(status: u16) -> &'static str {
    match status {
        401 => "401",
        403 => "403",
        429 => "429",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now_ms)
}

pub(super) fn http_date(text: &str) -> Option<Seconds> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp().as_second())
}

fn unreadable(what: &str, error: &serde_json::Error) -> ApiError {
    ApiError::Transient {
        text: format!(
            "a {what} answer that is not the documented JSON (line {}, column {})",
            error.line(),
            error.column()
        ),
    }
}

/// Whole seconds, UTC, no suffix: the documented form (activity-api 1.7).
fn query_time(at: Seconds) -> String {
    let time = jiff::Timestamp::from_second(at).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The entries of a page that can be read, and how many cannot.
fn read_page(body: &[u8]) -> Result<(Vec<ListedBlob>, usize), ApiError> {
    let entries: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| unreadable("listing", &e))?;
    let count = entries.len();
    let read =
        |entry: &RawValue| serde_json::from_str::<ListedContent>(entry.get()).ok().filter(|e| !e.content_id.is_empty());
    let blobs: Vec<ListedBlob> = entries.into_iter().filter_map(read).map(read_listed).collect();
    let unreadable = count - blobs.len();
    Ok((blobs, unreadable))
}

/// `contentCreated` only orders the work, so an unreadable one (0: fetched first) loses nothing.
fn read_listed(content: ListedContent) -> ListedBlob {
    let created_ms = content.content_created.as_deref().and_then(listed_time_ms).unwrap_or(0);
    let expires = content.content_expiration.as_deref().and_then(listed_time_ms).map(|ms| ms.div_euclid(1000));
    ListedBlob {
        content_id: content.content_id,
        content_uri: content.content_uri.unwrap_or_default(),
        created_ms,
        expires,
    }
}

/// RFC 3339, or the same without a zone, which is UTC.
fn listed_time_ms(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_zone_and_written_without() {
        assert_eq!(listed_time_ms("2026-01-02T03:04:05.678Z"), listed_time_ms("2026-01-02T03:04:05.678"));
        assert_eq!(query_time(0), "1970-01-01T00:00:00");
        assert_eq!(http_date("Sat, 21 Nov 2026 20:50:44 GMT"), Some(1_795_294_244));
    }

    #[test]
    fn an_entry_without_an_id_costs_its_page_nothing() {
        let page = br#"[{"contentId":"a"},{"contentUri":"x"},null,{"contentId":7},{"contentId":""},{"contentId":"b"}]"#;
        let (blobs, unreadable) = read_page(page).unwrap();
        assert_eq!(blobs.iter().map(|b| b.content_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(unreadable, 4);
        assert!(read_page(br#"{"error":{}}"#).is_err() && read_page(b"[{}").is_err());
    }

    #[test]
    fn an_entry_needs_nothing_but_its_id() {
        let listed: ListedContent = serde_json::from_str(r#"{"contentId":"a","contentUri":null}"#).unwrap();
        let blob = read_listed(listed);
        assert_eq!((blob.content_id.as_str(), blob.content_uri.as_str(), blob.created_ms), ("a", "", 0));
    }
}
