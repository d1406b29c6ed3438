//! The operations of the Management Activity API below `/activity/feed` (activity-api 1.4): who may
//! call, which subscription it needs, and the faults that strike any request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::{HeaderValue, Method, header};
use axum::response::Response;

use super::faults::{Object, Scenario};
use super::server::{Call, Refusal, Shared, answer, broken};
use super::settings::ContentType;
use super::stamp::{self, MINUTE_MS, SECOND_MS};
use super::subscriptions::{StartOutcome, State};
use super::token::{Claims, TokenError};
use super::{chance, download, listing};

/// Routes what follows `/activity/feed/`. `path` is in lower case, `last` the last segment as sent.
pub(super) fn operation(shared: &Arc<Shared>, call: &Call, tenant_id: &str, path: &[&str], last: &str) -> Response {
    let done = (|| {
        let (tenant, claims) = authorize(shared, call, tenant_id)?;
        publisher(shared, call);
        match (path, &call.method) {
            (["subscriptions", "start"], &Method::POST) => start(shared, call, tenant),
            (["subscriptions", "stop"], &Method::POST) => stop(shared, call, tenant),
            (["subscriptions", "list"], &Method::GET) => Ok(list(shared, tenant)),
            (["subscriptions", "content"], &Method::GET) => listing::content(shared, call, tenant, &claims),
            (["subscriptions", "notifications"], &Method::GET) => {
                shared.ledger.request("notifications");
                content_type(call)?;
                Ok(json("[]"))
            }
            (["audit", _], &Method::GET) => download::blob(shared, call, tenant, &claims, last),
            (["resources", "dlpsensitivetypes"], &Method::GET) => {
                Ok(json(r#"[{"id":"50842eb7-edc8-4019-85dd-5a5c1f2bb085","name":"Credit Card Number"}]"#))
            }
            _ => Ok(answer(404, "application/json; charset=utf-8", r#"{"Message":"No HTTP resource was found."}"#)),
        }
    })();
    done.unwrap_or_else(|refusal: Denied| *refusal.0)
}

/// An answer that ends the request early.
#[derive(Debug)]
pub(super) struct Denied(pub Box<Response>);

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        Denied(Box::new(refusal.response()))
    }
}

pub(super) fn json(body: impl Into<axum::body::Body>) -> Response {
    answer(200, "application/json; charset=utf-8", body)
}

/// An expired token is a sin only when it is used long after: seconds, virtual, and at least so many of the world.
const EXPIRED_GRACE_S: i64 = 300;
const EXPIRED_GRACE_WORLD_S: f64 = 5.0;

fn unauthorized() -> Denied {
    let body = r#"{"Message":"Authorization has been denied for this request."}"#;
    let mut response = answer(401, "application/json; charset=utf-8", body);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Denied(Box::new(response))
}

/// Token and tenant (AF20010, AF20011, AF20013).
fn authorize(shared: &Shared, call: &Call, tenant_id: &str) -> Result<(usize, Claims), Denied> {
    let world = &shared.world;
    let bearer = call.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let Some(token) =
        bearer.and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
    else {
        shared.ledger.violation("no_token", || format!("{} {}", call.method, call.path));
        return Err(unauthorized());
    };
    let claims = match shared.tokens.check(token.1.trim(), world.clock.now()) {
        Ok(claims) => claims,
        Err(error) => {
            let grace = EXPIRED_GRACE_S.max((EXPIRED_GRACE_WORLD_S * world.config.speed) as i64);
            match error {
                TokenError::Expired(ago) if ago > grace => {
                    shared.ledger.violation("expired_token", || format!("{ago} s after its end: {}", call.path));
                }
                TokenError::Invalid => shared.ledger.violation("invalid_token", || call.path.clone()),
                _ => {}
            }
            return Err(unauthorized());
        }
    };
    // One for another of Microsoft's APIs is no token here, whoever signed it (activity-api 1.2).
    let root = |text: &str| url::Url::parse(text).ok();
    if root(&claims.audience) != root(&shared.base) {
        shared.ledger.violation("token_for_another_resource", || format!("for {}: {}", claims.audience, call.path));
        return Err(unauthorized());
    }
    let guid = tenant_id.len() == 36
        && tenant_id
            .bytes()
            .enumerate()
            .all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
    if !guid {
        return Err(Refusal::new(400, "AF20013", "The tenant ID passed in the URL is not a valid GUID.").into());
    }
    let Some(tenant) = world.tenants.iter().position(|t| t.id == tenant_id) else {
        return Err(Refusal::new(400, "AF20011", "Specified tenant ID does not exist in the system.").into());
    };
    if tenant != claims.tenant {
        shared.ledger.violation("token_of_another_tenant", || call.path.clone());
        return Err(Refusal::new(
            400,
            "AF20010",
            "The tenant ID passed in the URL does not match the tenant ID passed in the access token.",
        )
        .into());
    }
    Ok((tenant, claims))
}

/// Every call carries the publisher (activity-api 1.4, 1.9).
fn publisher(shared: &Shared, call: &Call) {
    if call.param("publisheridentifier").is_none_or(str::is_empty) {
        shared.ledger.violation("no_publisher_identifier", || format!("{} {}", call.method, call.path));
    }
}

/// The `contentType` parameter, and as it was spelled.
pub(super) fn content_type(call: &Call) -> Result<(ContentType, &str), Refusal> {
    let name = call.param("contenttype").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refusal::new(400, "AF20001", "Missing parameter: contentType."))?;
    let kind = ContentType::parse(name)
        .ok_or_else(|| Refusal::new(400, "AF20020", format!("The specified content type {name} is not valid.")))?;
    Ok((kind, name))
}

/// Scenario `late_subscription`: whether a start has not taken effect yet, five minutes to an hour after it.
fn sleeps(shared: &Shared, tenant: usize, kind: ContentType) -> bool {
    let faults = &shared.world.faults;
    let key = super::world::blob_key(tenant, kind, 0);
    faults.is_on(Scenario::LateSubscription) && {
        let after_ms = (5 + faults.variant(Scenario::LateSubscription, key) % 55) as i64 * MINUTE_MS;
        let started = shared.subscriptions.get(tenant, kind).enabled_ms;
        started.is_some_and(|at| shared.world.clock.now_ms() < at + after_ms)
    }
}

/// The subscription must be enabled (AF20022, AF20023); DLP.All needs its own permission (AF10001).
pub(super) fn subscribed(shared: &Shared, tenant: usize, kind: ContentType, claims: &Claims) -> Result<(), Refusal> {
    if kind == ContentType::Dlp && !claims.may_read_dlp {
        return Err(missing_permission());
    }
    match shared.subscriptions.get(tenant, kind).state {
        State::Enabled if sleeps(shared, tenant, kind) => {
            shared.world.faults.count(Scenario::LateSubscription);
            Err(Refusal::new(400, "AF20023", "The subscription was disabled."))
        }
        State::Enabled => Ok(()),
        State::NeverStarted => {
            Err(Refusal::new(400, "AF20022", "No subscription found for the specified content type."))
        }
        State::Disabled => {
            if shared.world.faults.is_on(Scenario::SubscriptionDisabled) {
                shared.world.faults.count(Scenario::SubscriptionDisabled);
            }
            Err(Refusal::new(400, "AF20023", "The subscription was disabled."))
        }
    }
}

fn missing_permission() -> Refusal {
    let text = "The permission set (ActivityFeed.Read) sent in the request does not include the expected permission.";
    Refusal::new(401, "AF10001", text)
}

fn start(shared: &Shared, call: &Call, tenant: usize) -> Result<Response, Denied> {
    shared.ledger.request("start");
    let (kind, name) = content_type(call)?;
    let now_ms = shared.world.clock.now_ms();
    let cooldown_ms = shared.world.config.protocol.start_cooldown_s * SECOND_MS;
    let start = shared.subscriptions.start(tenant, kind, now_ms, cooldown_ms);
    // Who goes by a wrong `Date` cannot know better.
    if start.too_soon && !shared.world.faults.is_on(Scenario::WrongDate) {
        shared.ledger.violation("start_within_cooldown", || format!("{} {name}", shared.world.tenants[tenant].name));
    }
    match start.outcome {
        StartOutcome::Started => Ok(json(format!(r#"{{"contentType":"{name}","status":"enabled","webhook":null}}"#))),
        StartOutcome::Redundant => {
            Err(Refusal::new(400, "AF20024", "The subscription is already enabled. No property change.").into())
        }
        StartOutcome::Refused => Err(Refusal::new(429, "AF429", "Too many requests. Method=StartSubscription").into()),
    }
}

fn stop(shared: &Shared, call: &Call, tenant: usize) -> Result<Response, Denied> {
    shared.ledger.request("stop");
    let (kind, name) = content_type(call)?;
    shared.ledger.violation("subscription_stopped", || name.to_owned());
    shared.subscriptions.disable(tenant, kind);
    Ok(answer(200, "application/json; charset=utf-8", ""))
}

fn list(shared: &Shared, tenant: usize) -> Response {
    shared.ledger.request("list");
    let entries: Vec<String> = ContentType::ALL
        .into_iter()
        .filter_map(|kind| {
            let status = match shared.subscriptions.get(tenant, kind).state {
                State::NeverStarted => return None,
                State::Enabled if sleeps(shared, tenant, kind) => return None,
                State::Enabled => "enabled",
                State::Disabled => "disabled",
            };
            Some(format!(r#"{{"contentType":"{}","status":"{status}","webhook":null}}"#, kind.as_str()))
        })
        .collect();
    json(format!("[{}]", entries.join(",")))
}

/// The faults that strike listings and downloads alike; `method` as AF429 names it.
pub(super) fn strike(shared: &Shared, call: &Call, tenant: usize, object: Object, method: &str) -> Result<(), Denied> {
    let faults = &shared.world.faults;
    let (Object::Blob(key) | Object::Listing(key) | Object::Record(key)) = object;
    if wears_out(shared, tenant) {
        shared.tokens.revoke(tenant);
        faults.count(Scenario::TokenExpiry);
        return Err(unauthorized());
    }
    if faults.strikes(Scenario::Throttle429, object) {
        return Err(throttled(shared, call, 429, faults.variant(Scenario::Throttle429, key), method));
    }
    if faults.strikes(Scenario::Throttle403, object) {
        return Err(throttled(shared, call, 403, 2, method));
    }
    if faults.strikes(Scenario::ServerError, object) {
        return Err(Refusal::new(500, "AF50000", "An internal error occurred. Retry the request.").into());
    }
    if faults.strikes(Scenario::HtmlError, object) {
        let status = if key.is_multiple_of(2) { 502 } else { 503 };
        let page = "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body><h1>The service is unavailable.</h1></body></html>";
        return Err(Denied(Box::new(answer(status, "text/html", page))));
    }
    if faults.strikes(Scenario::AbsurdRetryAfter, object) {
        let mut denied = throttled(shared, call, 429, 2, method);
        denied.0.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("86400"));
        return Err(denied);
    }
    if faults.is_on(Scenario::Quota) && shared.quota.is_over(tenant, shared.world.clock.now_ms()) {
        faults.count(Scenario::Quota);
        return Err(throttled(shared, call, 429, 2, method));
    }
    if faults.strikes(Scenario::RequestTimeout, object) {
        return Err(Denied(Box::new(answer(408, "text/html", "<html><body>Request Timeout</body></html>"))));
    }
    if faults.strikes(Scenario::EmptyBadGateway, object) {
        return Err(Denied(Box::new(answer(502, "text/html", ""))));
    }
    if faults.strikes(Scenario::RetryInAnHour, object) {
        let text = "An internal error occurred. Please retry the request in an hour.";
        return Err(Refusal::new(500, "AF50000", text).into());
    }
    if faults.strikes(Scenario::PlainError, object) {
        let response = match key % 3 {
            0 => answer(500, "text/plain", "Internal Server Error"),
            1 => answer(400, "text/html", r#"{"error":{"code":"AF50005","message":"An internal error occurred."}}"#),
            _ => answer(503, "application/json", r#"{"Message":"An error has occurred."}"#),
        };
        return Err(Denied(Box::new(response)));
    }
    if faults.strikes(Scenario::MissingPermission, object) {
        return Err(missing_permission().into());
    }
    if faults.strikes(Scenario::ConnectionReset, object) {
        return Err(Denied(Box::new(broken())));
    }
    if faults.strikes(Scenario::SlowAnswer, object) {
        call.delay_s.store(20 + faults.variant(Scenario::SlowAnswer, key) % 50, Ordering::Relaxed);
    }
    if faults.strikes(Scenario::GarbageError, object) {
        let world = &shared.world.tenants[tenant];
        let code = format!(
            "StartSubscription [CorrId={}][TenantId={},ContentType=Audit.General,ApplicationId={},PublisherId=][AppId",
            chance::guid(key, key),
            world.id,
            shared.world.client_id
        );
        return Err(Refusal::new(400, &code, "=] Exception: System.AggregateException: One or more errors").into());
    }
    Ok(())
}

/// Scenarios `token_expiry` and `token_endpoint_error`: a token lasts so many requests, about 1/20 of
/// what a tenant needs for its whole history.
fn wears_out(shared: &Shared, tenant: usize) -> bool {
    let world = &shared.world;
    const WEARING: [Scenario; 3] = [Scenario::TokenExpiry, Scenario::TokenEndpointError, Scenario::InvalidClient];
    if !WEARING.into_iter().any(|scenario| world.faults.is_on(scenario)) {
        return false;
    }
    let blobs: usize = world.tenants[tenant].feeds.iter().map(|f| f.history.len()).sum();
    let needed = blobs as u64 + 5 * 24 * u64::from(world.config.days);
    shared.tokens.worn_out(tenant, (needed / 24).clamp(12, 5000))
}

fn throttled(shared: &Shared, call: &Call, status: u16, variant: u64, method: &str) -> Denied {
    let publisher = call.param("publisheridentifier").unwrap_or("00000000-0000-0000-0000-000000000000");
    let text = format!("Too many requests. Method={method}, PublisherId={publisher}");
    let mut response = Refusal::new(status, "AF429", text).response();
    let after = 1 + variant / 3 % 5;
    let header = match variant % 3 {
        0 => Some(after.to_string()),
        1 => Some(stamp::http_date(shared.world.clock.now_ms() + after as i64 * SECOND_MS)),
        _ => None,
    };
    if let Some(value) = header.and_then(|h| HeaderValue::from_str(&h).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    Denied(Box::new(response))
}
