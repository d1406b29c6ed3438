//! Where a machine in Azure gets the tokens of its identities: the metadata service of a virtual machine, and the
//! endpoint of App Service. No proof but the place; a header that a forwarded request would not bear. A request that
//! came through a proxy is a violation.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;

use super::super::server::{Call, Shared, answer};
use super::identities::ManagedIdentity;
use super::issue;

/// `app_service`: which of the two was called.
pub(in crate::simulator) fn token(shared: &Arc<Shared>, call: &Call, app_service: bool) -> Response {
    shared.ledger.request("token");
    let bad = |text: &str| {
        let body = serde_json::json!({ "error": "invalid_request", "error_description": text });
        answer(400, "application/json; charset=utf-8", body.to_string())
    };
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    if header("x-forwarded-for").is_some() || header("via").is_some() {
        shared.ledger.violation("managed_identity_through_a_proxy", || call.path.clone());
        return bad("The request was forwarded.");
    }
    let version = if app_service { "2019-08-01" } else { "2018-02-01" };
    if call.method != Method::GET || call.param("api-version") != Some(version) {
        return bad("Required query variable 'api-version' is missing or not supported.");
    }
    if !app_service && header("metadata") != Some("true") {
        return bad("Required metadata header not specified.");
    }
    let Some(resource) = call.param("resource") else { return bad("Required query variable 'resource' is missing.") };
    let assigned = shared.identities.registry().managed.clone();
    let is_asked = |identity: &&ManagedIdentity| {
        identity.client_id.as_deref() == call.param("client_id")
            && identity.header.is_some() == app_service
            && identity.header.as_deref() == header("x-identity-header").filter(|_| app_service)
    };
    let Some(identity) = assigned.iter().find(is_asked) else { return bad("Identity not found") };
    let client_id = identity.client_id.as_deref().unwrap_or("system");
    let (token, now, lifetime_s) = issue(shared, identity.tenant, client_id, resource);
    shared.identities.took(format!("managed {client_id}"));
    let ends = now + lifetime_s;
    let lifetime =
        if app_service { String::new() } else { format!(r#""expires_in":"{lifetime_s}","not_before":"{now}","#) };
    let body = format!(
        r#"{{"access_token":"{token}","client_id":"{client_id}",{lifetime}"expires_on":"{ends}","resource":"{resource}","token_type":"Bearer"}}"#
    );
    answer(200, "application/json; charset=utf-8", body)
}
