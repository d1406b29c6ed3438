//! The client assertion: a JWT that the application signs with its certificate's key in place of a secret. Comes in:
//! key, audience, application, time. Goes out: the compact form, good for ten minutes and one use.
//!
//! As the identity platform documents it ("application authentication certificate credentials"): PS256, the
//! certificate named by `x5t#S256`; beside it `x5t`, by which older servers find it. Never logged.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::RSA_PSS_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use super::certificate::KeyPair;
use crate::clock::Seconds;

/// How long one is good. Five to ten minutes are advised; it is used once, at once.
const LIFETIME: Seconds = 600;
/// So far before now it begins: a clock of ours that is ahead must not make it one of the future.
const EARLIER: Seconds = 120;

/// `client_assertion_type` of every assertion (RFC 7523 2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Signs an assertion that `client_id` makes to `audience`, the token endpoint. `None`: the key does not sign.
pub fn sign(pair: &KeyPair, client_id: &str, audience: &str, now: Seconds) -> Option<SecretString> {
    let header = serde_json::json!({
        "alg": "PS256",
        "typ": "JWT",
        "x5t": URL_SAFE_NO_PAD.encode(pair.leaf.sha1()),
        "x5t#S256": URL_SAFE_NO_PAD.encode(pair.leaf.sha256()),
    });
    let claims = serde_json::json!({
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": unique()?,
        "nbf": now - EARLIER,
        "iat": now - EARLIER,
        "exp": now - EARLIER + LIFETIME,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let mut signature = vec![0; pair.key.public_modulus_len()];
    pair.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    Some(SecretString::from(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature))))
}

/// A random GUID (version 4).
fn unique() -> Option<String> {
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
