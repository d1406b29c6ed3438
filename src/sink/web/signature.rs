//! A keyed signature of each body (HMAC, RFC 2104), for receivers that believe whoever holds the key.
//!
//! What is signed is the body exactly as it is sent: compressed, where it is. With a `timestamp_header` that header
//! holds the seconds since 1970 and what is signed is `<seconds>.<body>`, so that an old request cannot be sent again
//! as a new one. The header reads `sha256=<hexadecimal digits>`. Comes in: a request that is ready but for this.

use std::sync::Mutex;

use aws_lc_rs::hmac;
use reqwest::Request;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::world_ms;
use crate::config::{SignatureAlgorithm, SignatureConfig};
use crate::secret::{SecretError, SecretSource};
use crate::sink::{SinkBuildError, locked};

/// See the module's head.
pub struct Signature {
    header: HeaderName,
    timestamp_header: Option<HeaderName>,
    algorithm: SignatureAlgorithm,
    source: SecretSource,
    secret: Mutex<SecretString>,
}

/// There is nothing to sign with.
pub enum SignatureError {
    Secret(SecretError),
    HeaderName(String),
}

impl SignatureError {
    pub fn of(self, sink: &str) -> SinkBuildError {
        let sink = sink.to_owned();
        match self {
            SignatureError::Secret(source) => SinkBuildError::Secret { sink, source },
            SignatureError::HeaderName(name) => SinkBuildError::HeaderName { sink, name },
        }
    }
}

impl Signature {
    pub fn read(config: &SignatureConfig) -> Result<Signature, SignatureError> {
        let name = |text: &String| {
            HeaderName::from_bytes(text.as_bytes()).map_err(|_| SignatureError::HeaderName(text.clone()))
        };
        Ok(Signature {
            header: name(&config.header)?,
            timestamp_header: config.timestamp_header.as_ref().map(name).transpose()?,
            algorithm: config.algorithm,
            source: config.secret.clone(),
            secret: Mutex::new(config.secret.read().map_err(SignatureError::Secret)?),
        })
    }

    /// True where the key is another one.
    pub fn read_again(&self) -> Result<bool, SecretError> {
        let read = self.source.read()?;
        let mut known = locked(&self.secret);
        let changed = known.expose_secret() != read.expose_secret();
        *known = read;
        Ok(changed)
    }

    pub fn secrets(&self) -> Vec<SecretString> {
        vec![locked(&self.secret).clone()]
    }

    pub fn sign(&self, request: &mut Request) {
        let seconds = (world_ms() / 1000).to_string();
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let stamp = self.timestamp_header.as_ref().map(|_| seconds.as_str());
        let secret = locked(&self.secret).clone();
        let value = signature(self.algorithm, secret.expose_secret().as_bytes(), stamp, body);
        // Digits and hexadecimal digits are fit for any header.
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            request.headers_mut().insert(self.header.clone(), value);
        }
        if let Some(name) = &self.timestamp_header
            && let Ok(value) = HeaderValue::from_str(&seconds)
        {
            request.headers_mut().insert(name.clone(), value);
        }
    }
}

/// `sha256=…` of `stamp.body`, or of the body alone.
fn signature(algorithm: SignatureAlgorithm, secret: &[u8], stamp: Option<&str>, body: &[u8]) -> String {
    let kind = match algorithm {
        SignatureAlgorithm::Sha256 => hmac::HMAC_SHA256,
        SignatureAlgorithm::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(kind, secret));
    if let Some(stamp) = stamp {
        context.update(stamp.as_bytes());
        context.update(b".");
    }
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}={hex}", algorithm.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, and the same with a time before it, as `openssl dgst -hmac` says.
    #[test]
    fn a_signature_is_what_everybody_computes() {
        let sign = |algorithm, stamp| signature(algorithm, b"Jefe", stamp, b"what do ya want for nothing?");
        assert_eq!(
            sign(SignatureAlgorithm::Sha256, None),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(
            sign(SignatureAlgorithm::Sha512, None).starts_with("sha512=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e83")
        );
        let stamped = signature(SignatureAlgorithm::Sha256, b"Jefe", None, b"1700000000.what do ya want for nothing?");
        assert_eq!(sign(SignatureAlgorithm::Sha256, Some("1700000000")), stamped);
    }
}
