//! The token endpoint's tokens: JWT-shaped, signed with a keyed hash, checked without a table. What
//! has to be remembered is only which tokens were revoked early (scenario `token_expiry`).

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::chance::hash_text;

/// What a good token says.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub tenant: usize,
    pub serial: u64,
    /// Seconds since 1970.
    pub expires: i64,
    pub may_read_dlp: bool,
    /// The resource that it is for.
    pub audience: String,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    Invalid,
    Revoked,
    /// Expired this many seconds ago.
    Expired(i64),
}

#[derive(Debug, Default)]
struct Issued {
    /// Serial of the last token, and the last one that was revoked.
    last: u64,
    revoked: u64,
    /// Requests since the last revocation.
    requests: u64,
}

/// The tokens of all tenants.
#[derive(Debug)]
pub(super) struct Tokens {
    key: u64,
    tenants: Vec<Mutex<Issued>>,
}

impl Tokens {
    pub(super) fn new(seed: u64, tenants: usize) -> Tokens {
        Tokens { key: hash_text(seed, "signature"), tenants: (0..tenants).map(|_| Mutex::default()).collect() }
    }

    fn issued(&self, tenant: usize) -> std::sync::MutexGuard<'_, Issued> {
        self.tenants[tenant].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for the tenant.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn issue(
        &self,
        tenant: usize,
        tenant_id: &str,
        client_id: &str,
        audience: &str,
        now: i64,
        lifetime_s: i64,
        may_read_dlp: bool,
    ) -> String {
        let serial = {
            let mut issued = self.issued(tenant);
            issued.last += 1;
            issued.last
        };
        let roles =
            if may_read_dlp { r#"["ActivityFeed.Read","ActivityFeed.ReadDlp"]"# } else { r#"["ActivityFeed.Read"]"# };
        let payload = format!(
            r#"{{"aud":"{audience}","iss":"https://sts.windows.net/{tenant_id}/","iat":{now},"nbf":{now},"exp":{},"appid":"{client_id}","roles":{roles},"tid":"{tenant_id}","uti":"{tenant}.{serial}","ver":"1.0"}}"#,
            now + lifetime_s
        );
        let header = r#"{"typ":"JWT","alg":"RS256","kid":"simulator"}"#;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }

    fn sign(&self, text: &str) -> String {
        let bytes: Vec<u8> = (0..8u64).flat_map(|k| hash_text(self.key ^ k, text).to_be_bytes()).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Checks signature, revocation and expiry.
    pub(super) fn check(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        if self.sign(signed) != signature {
            return Err(TokenError::Invalid);
        }
        let claims = read(signed).ok_or(TokenError::Invalid)?;
        if claims.tenant >= self.tenants.len() {
            return Err(TokenError::Invalid);
        }
        if claims.serial <= self.issued(claims.tenant).revoked {
            return Err(TokenError::Revoked);
        }
        if now >= claims.expires {
            return Err(TokenError::Expired(now - claims.expires));
        }
        Ok(claims)
    }

    /// Ends all tokens of the tenant that exist.
    pub(super) fn revoke(&self, tenant: usize) {
        let mut issued = self.issued(tenant);
        issued.revoked = issued.last;
        issued.requests = 0;
    }

    /// The serial that the next token will have.
    pub(super) fn next_serial(&self, tenant: usize) -> u64 {
        self.issued(tenant).last + 1
    }

    /// Counts a request; true when `limit` of them came since the last revocation.
    pub(super) fn worn_out(&self, tenant: usize, limit: u64) -> bool {
        let mut issued = self.issued(tenant);
        issued.requests += 1;
        issued.requests >= limit
    }
}

fn read(signed: &str) -> Option<Claims> {
    let (_, payload) = signed.split_once('.')?;
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let after = |key: &str| payload.split_once(key).map(|(_, rest)| rest);
    let expires = after(r#""exp":"#)?.split(',').next()?.parse().ok()?;
    let audience = after(r#""aud":""#)?.split('"').next()?.to_owned();
    let (tenant, serial) = after(r#""uti":""#)?.split('"').next()?.split_once('.')?;
    Some(Claims {
        tenant: tenant.parse().ok()?,
        serial: serial.parse().ok()?,
        expires,
        may_read_dlp: payload.contains("ActivityFeed.ReadDlp"),
        audience,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let tokens = Tokens::new(1, 2);
        let token = tokens.issue(1, "tid", "app", "aud", 1000, 100, false);
        let claims = tokens.check(&token, 1099).unwrap();
        assert_eq!((claims.tenant, claims.serial, claims.may_read_dlp), (1, 1, false));
        assert_eq!(claims.audience, "aud");
        assert_eq!(tokens.check(&token, 1110).unwrap_err(), TokenError::Expired(10));
        assert_eq!(tokens.check(&token.replace('.', ".x"), 1000).unwrap_err(), TokenError::Invalid);
        tokens.revoke(1);
        assert_eq!(tokens.check(&token, 1000).unwrap_err(), TokenError::Revoked);
        assert!(tokens.check(&tokens.issue(1, "tid", "app", "aud", 1000, 100, true), 1000).unwrap().may_read_dlp);
    }
}
