//! A token that somebody else signed and whom the application trusts: issuer, audience and subject are compared with
//! what is registered, exactly, and the signature is checked with the keys that the issuer publishes.

use super::Denial;
use super::assertion::Jwt;
use super::identities::Registry;

/// Verifies it; says for whom it speaks.
pub(super) fn verify(jwt: &Jwt<'_>, registry: &Registry, now: i64) -> Result<String, Denial> {
    let (issuer, subject) = (jwt.claim("iss"), jwt.claim("sub"));
    let audiences: Vec<&str> = match &jwt.claims["aud"] {
        serde_json::Value::Array(several) => several.iter().filter_map(|one| one.as_str()).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let no_match = |code: u32, what: &str, value: &str| {
        Denial::client(
            code,
            format!(
                "No matching federated identity record found for presented assertion {what} '{value}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
            ),
        )
    };
    let mut trusted: Vec<_> = registry.federated.iter().filter(|one| one.issuer == issuer).collect();
    if trusted.is_empty() {
        return Err(no_match(700_211, "issuer", issuer));
    }
    trusted.retain(|one| audiences.contains(&one.audience.as_str()));
    if trusted.is_empty() {
        return Err(no_match(700_212, "audience", &audiences.join(", ")));
    }
    if !trusted.iter().any(|one| one.subject == subject) {
        return Err(no_match(700_213, "subject", subject));
    }
    let kid = jwt.header["kid"].as_str().unwrap_or("");
    let key = registry.keys.iter().find(|key| key.issuer == issuer && key.kid == kid);
    if !key.is_some_and(|key| jwt.is_signed_by(&key.public_key)) {
        return Err(Denial::client(
            700_027,
            "Client assertion contains an invalid signature. [Reason - The key was not found.]",
        ));
    }
    jwt.is_timely(now)?;
    Ok(format!("federated {subject}"))
}
