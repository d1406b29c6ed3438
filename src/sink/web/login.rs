//! By what right a sink asks: headers that hold secrets, a token that is fetched, a signature of the body.
//!
//! Comes in: the configuration, and a request ready but for this. Goes out: the same request, dressed. Secrets are
//! read at the start and again by [`Login::read_again`], stand in headers that are marked sensitive, and are blotted
//! out of what a receiver answers, the ones before the last rotation too. Never logged, never in an error's text.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::exchange::NoAnswer;
use super::oauth::{OAuth, Shown};
use super::signature::Signature;
use crate::config::{LoginConfig, SecretHeader, SignatureConfig};
use crate::secret::{SecretSource, scrub};
use crate::sink::{SendError, SinkBuildError, locked};

/// Secrets of before that are still blotted out of answers: a request may be under way while one is rotated.
/// An address that is a secret has some ten parts.
const REMEMBERED: usize = 32;
/// Shorter ones are not blotted out: they would be found in any text.
const LEAST_BLOTTED: usize = 4;

/// See the module's head.
pub struct Login {
    sink: String,
    headers: Vec<Header>,
    oauth: Option<OAuth>,
    signature: Option<Signature>,
    blotted: Mutex<Vec<SecretString>>,
}

/// A header that holds a secret.
struct Header {
    name: HeaderName,
    form: Form,
    source: SecretSource,
    /// Whether its value is blotted out of answers.
    is_secret: bool,
    value: Mutex<HeaderValue>,
}

/// What a header is made of.
#[derive(Clone)]
enum Form {
    /// What stands before the secret.
    Prefixed(&'static str),
    /// The name that goes with the password.
    Basic(String),
}

impl Login {
    /// Reads the secrets; asks nobody.
    pub fn new(sink: &str, config: &LoginConfig) -> Result<Login, SinkBuildError> {
        let mut login = Login {
            sink: sink.to_owned(),
            headers: Vec::new(),
            oauth: None,
            signature: None,
            blotted: Mutex::default(),
        };
        match config {
            LoginConfig::None => {}
            LoginConfig::Token { scheme, token } => login.add(AUTHORIZATION, Form::Prefixed(scheme), token, true)?,
            LoginConfig::Basic { username, password } => {
                login.add(AUTHORIZATION, Form::Basic(username.clone()), password, true)?;
            }
            LoginConfig::Header(header) => login.add_header(header)?,
            LoginConfig::OAuth2(config) => {
                login.oauth = Some(OAuth::new(sink, config)?);
            }
        }
        Ok(login)
    }

    /// With further headers.
    pub fn with_headers(mut self, headers: &[SecretHeader]) -> Result<Login, SinkBuildError> {
        headers.iter().try_for_each(|header| self.add_header(header))?;
        Ok(self)
    }

    /// With a signature of each body.
    pub fn with_signature(mut self, signature: Option<&SignatureConfig>) -> Result<Login, SinkBuildError> {
        if let Some(config) = signature {
            let signature = Signature::read(config).map_err(|error| error.of(&self.sink))?;
            self.remember(&signature.secrets());
            self.signature = Some(signature);
        }
        Ok(self)
    }

    /// What else is blotted out of answers: the path of an address that is a secret, for instance.
    pub fn blot_out(&self, secret: SecretString) {
        self.remember(&[secret]);
    }

    fn add_header(&mut self, header: &SecretHeader) -> Result<(), SinkBuildError> {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let name =
            name.map_err(|_| SinkBuildError::HeaderName { sink: self.sink.clone(), name: header.name.clone() })?;
        self.add(name, Form::Prefixed(""), &header.value, header.is_secret)
    }

    fn add(
        &mut self,
        name: HeaderName,
        form: Form,
        source: &SecretSource,
        is_secret: bool,
    ) -> Result<(), SinkBuildError> {
        let read = source.read().map_err(|source| SinkBuildError::Secret { sink: self.sink.clone(), source })?;
        let value = form.value(&read).ok_or_else(|| SinkBuildError::Token { sink: self.sink.clone() })?;
        if is_secret {
            self.remember(&form.secrets(&read));
        }
        self.headers.push(Header { name, form, source: source.clone(), is_secret, value: Mutex::new(value) });
        Ok(())
    }

    fn remember(&self, secrets: &[SecretString]) {
        let mut blotted = locked(&self.blotted);
        for secret in secrets {
            let text = secret.expose_secret();
            if text.len() < LEAST_BLOTTED || blotted.iter().any(|known| known.expose_secret() == text) {
                continue;
            }
            let most = REMEMBERED + 2 * self.headers.len();
            if blotted.len() >= most {
                blotted.remove(0);
            }
            blotted.push(secret.clone());
        }
    }

    /// Logs the request in; what it was shown is for [`let_go`](Self::let_go).
    pub(super) async fn dress(&self, request: &mut Request) -> Result<Shown, NoAnswer> {
        for header in &self.headers {
            request.headers_mut().insert(header.name.clone(), locked(&header.value).clone());
        }
        let shown = match &self.oauth {
            Some(oauth) => oauth.dress(request).await?,
            None => Shown::default(),
        };
        if let Some(signature) = &self.signature {
            signature.sign(request);
        }
        Ok(shown)
    }

    /// The receiver does not take what it was shown. True where something else can be shown now.
    pub(super) async fn let_go(&self, shown: &Shown) -> bool {
        match &self.oauth {
            Some(oauth) => oauth.let_go(shown).await,
            None => false,
        }
    }

    /// Reads the secrets again, for they may have been rotated, and lets go of a token that was fetched. True where
    /// something has changed. For a probe.
    pub async fn read_again(&self) -> Result<bool, SendError> {
        let fatal = |reason: String| SendError::Fatal { reason: format!("sink `{}`: {reason}", self.sink) };
        let mut changed = false;
        for header in &self.headers {
            let read = header.source.read().map_err(|error| fatal(error.to_string()))?;
            let value = header.form.value(&read);
            let value = value.ok_or_else(|| fatal("the token holds characters that no header can carry".to_owned()))?;
            if header.is_secret {
                self.remember(&header.form.secrets(&read));
            }
            let mut known = locked(&header.value);
            changed |= *known != value;
            *known = value;
        }
        if let Some(oauth) = &self.oauth {
            changed |= oauth.read_again().await;
        }
        if let Some(signature) = &self.signature {
            changed |= signature.read_again().map_err(|error| fatal(error.to_string()))?;
            self.remember(&signature.secrets());
        }
        Ok(changed)
    }

    /// Asks for what must be fetched before anything can be sent. For a probe.
    pub async fn prepare(&self) -> Result<(), SendError> {
        match &self.oauth {
            Some(oauth) => oauth.token().await.map(drop).map_err(SendError::from),
            None => Ok(()),
        }
    }

    /// `said` without any secret that was shown.
    pub fn scrub(&self, said: Vec<u8>) -> Vec<u8> {
        let mut said = said;
        for secret in locked(&self.blotted).iter() {
            said = scrub(&said, secret.expose_secret().as_bytes()).into_owned();
        }
        match &self.oauth {
            Some(oauth) => oauth.scrub(&said),
            None => said,
        }
    }
}

impl Form {
    /// The header; `None` where no header can carry it.
    fn value(&self, secret: &SecretString) -> Option<HeaderValue> {
        let secret = secret.expose_secret();
        let text = match self {
            Form::Prefixed(prefix) => format!("{prefix}{secret}"),
            Form::Basic(username) => format!("Basic {}", STANDARD.encode(format!("{username}:{secret}"))),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What must not be said back.
    fn secrets(&self, secret: &SecretString) -> Vec<SecretString> {
        let mut secrets = vec![secret.clone()];
        if let Form::Basic(username) = self {
            secrets.push(STANDARD.encode(format!("{username}:{}", secret.expose_secret())).into());
        }
        secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_never_shown() {
        let header = Form::Prefixed("Splunk ").value(&"canary-token".into()).unwrap();
        assert!(header.as_bytes() == b"Splunk canary-token" && !format!("{header:?}").contains("canary"));
        let header = Form::Basic("name".to_owned()).value(&"canary".into()).unwrap();
        assert!(!format!("{header:?}").contains(&STANDARD.encode("name:canary")));
    }
}
