//! A JWT in place of a secret, signed with a certificate of the application: verified as RFC 7523 and the identity
//! platform's page on certificate credentials have it. Numbers and words of a refusal: the platform's list of error
//! codes, and what its users quote.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::super::server::Shared;
use super::super::stamp;
use super::Denial;
use super::identities::{RegisteredCertificate, Registry};

/// By how much clocks may differ, seconds.
pub(super) const SKEW_S: i64 = 300;

/// A JWT taken apart.
pub(super) struct Jwt<'a> {
    pub header: Value,
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// `None`: it is none.
    pub(super) fn read(compact: &'a str) -> Option<Jwt<'a>> {
        let (signed, signature) = compact.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let (header, claims) = (json(header)?, json(claims)?);
        (header.is_object() && claims.is_object()).then_some(())?;
        Some(Jwt { header, claims, signed, signature: URL_SAFE_NO_PAD.decode(signature).ok()? })
    }

    pub(super) fn is_of_certificate(&self) -> bool {
        ["x5t", "x5t#S256"].iter().any(|name| self.header.get(*name).is_some())
    }

    pub(super) fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or("")
    }

    /// Whether this key signed it, by an algorithm that is allowed.
    pub(super) fn is_signed_by(&self, public_key: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.header["alg"].as_str() {
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, public_key).verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it is neither of the past nor of the future.
    pub(super) fn is_timely(&self, now: i64) -> Result<(), Denial> {
        let time = |name: &str| self.claims[name].as_i64();
        let (from, until) = (time("nbf").unwrap_or(0), time("exp").unwrap_or(0));
        if from - SKEW_S <= now && now < until + SKEW_S {
            return Ok(());
        }
        let show = |at: i64| format!("{}Z", stamp::seconds(at * 1000));
        Err(Denial::client(
            700_024,
            format!(
                "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of assertion {}.",
                show(now),
                show(from),
                show(until)
            ),
        ))
    }
}

/// Verifies an assertion that the application made itself; says by which certificate.
pub(super) fn verify(
    jwt: &Jwt<'_>,
    shared: &Shared,
    tenant: usize,
    registry: &mut Registry,
    now: i64,
) -> Result<String, Denial> {
    let app = &shared.world.client_id;
    if jwt.claim("iss") != app || jwt.claim("sub") != app {
        return Err(Denial::client(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    let used = thumbprints(&jwt.header);
    let named = |certificate: &&RegisteredCertificate| is_named(&jwt.header, &certificate.der);
    let Some(certificate) = registry.certificates.iter().find(named) else {
        return Err(Denial::client(
            700_027,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Thumbprint of key used by client: '{used}', Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{app}'.]"
            ),
        ));
    };
    let invalid = |reason: &str| {
        let show = |at: i64| stamp::seconds(at * 1000).replace('T', " ");
        let (start, end) = (show(certificate.not_before), show(certificate.not_after));
        Denial::client(
            700_027,
            format!(
                "Client assertion contains an invalid signature. [Reason - {reason}, Thumbprint of key used by client: '{used}', Found key 'Start={start}, End={end}'.]"
            ),
        )
    };
    if now >= certificate.not_after {
        return Err(invalid("The key used is expired."));
    }
    if now < certificate.not_before {
        return Err(invalid("The key used is not yet valid."));
    }
    if !jwt.is_signed_by(&certificate.public_key) {
        return Err(invalid("The provided signature value did not match the expected signature value."));
    }
    if !is_endpoint(shared, tenant, jwt.claim("aud")) {
        return Err(Denial::client(700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    jwt.is_timely(now)?;
    // The platform documents no number for an assertion that comes again; that of an unusable one stands for it.
    let id = jwt.claim("jti");
    registry.seen.retain(|_, until| *until + SKEW_S > now);
    if id.is_empty() || registry.seen.contains_key(id) {
        shared.ledger.violation("assertion_reused", || format!("jti {id}"));
        return Err(Denial::client(50_027, "JWT token is invalid or malformed. [The identifier was used before.]"));
    }
    registry.seen.insert(id.to_owned(), jwt.claims["exp"].as_i64().unwrap_or(0));
    Ok(format!("certificate {used}"))
}

/// Whether every thumbprint that is there, and one at least, is that of this certificate.
fn is_named(header: &Value, der: &[u8]) -> bool {
    let is = |name: &str, hash: &[u8]| {
        let said = header.get(name)?;
        Some(said.as_str().is_some_and(|said| said.trim_end_matches('=') == URL_SAFE_NO_PAD.encode(hash)))
    };
    let sha256 = is("x5t#S256", digest(&SHA256, der).as_ref());
    let sha1 = is("x5t", digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref());
    (sha256.is_some() || sha1.is_some()) && sha256 != Some(false) && sha1 != Some(false)
}

/// The thumbprint as the platform shows it: SHA-1 where that was sent.
fn thumbprints(header: &Value) -> String {
    let name = header["x5t"].as_str().or(header["x5t#S256"].as_str()).unwrap_or("");
    let bytes = URL_SAFE_NO_PAD.decode(name.trim_end_matches('=')).unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Whether an assertion to `audience` is one to the tenant's token endpoint.
fn is_endpoint(shared: &Shared, tenant: usize, audience: &str) -> bool {
    let (base, tenant) = (&shared.base, &shared.world.tenants[tenant]);
    [&tenant.id, &tenant.domain].iter().any(|name| {
        ["oauth2/v2.0/token", "oauth2/token", "v2.0"].iter().any(|end| audience == format!("{base}/{name}/{end}"))
    })
}
