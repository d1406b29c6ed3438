//! OAuth2 client credentials (RFC 6749, 4.4): a token from the configured endpoint, and from nowhere else; kept in
//! memory, fetched once however many ask, renewed at three quarters of its life. While a new one cannot be had by no
//! fault of ours, the old one serves as long as it lives. Never logged; what the endpoint says is repeated without
//! the secret that it was sent.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Request;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use super::exchange::{ANSWER_LIMIT, NoAnswer, read};
use super::{excerpt, excerpt_of_text};
use crate::advice;
use crate::config::{OAuth2Config, ProxyConfig, TlsConfig};
use crate::http::{self, HttpClient};
use crate::secret::scrub;
use crate::sink::{SinkBuildError, locked};

/// For one request for a token.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a token lives that does not say it: RFC 6749 (4.2.2) lets an endpoint leave it to its documentation.
const UNSAID_LIFETIME: Duration = Duration::from_secs(300);
/// No token is believed to live longer.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// After a renewal that went wrong the old token serves so long before the next try, at most: each try may wait for
/// [`TIMEOUT`], and all requests with it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which token a request was shown; none where there is no such login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    serial: Option<u64>,
    /// It was fetched for this very request.
    is_new: bool,
}

/// See the module's head.
pub struct OAuth {
    sink: String,
    config: OAuth2Config,
    client: HttpClient,
    held: tokio::sync::Mutex<Held>,
    /// Of requests and answers of late, to be blotted out.
    said: Mutex<Vec<SecretString>>,
    /// The secret that was last sent: another one is worth a new try.
    last_secret: Mutex<Option<SecretString>>,
    /// The token is to be fetched anew.
    stale: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Held {
    serial: u64,
    token: Option<Token>,
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

impl Token {
    /// A renewal went wrong: the next one is tried after a quarter of what it still lives, or when the endpoint said.
    fn put_off(&mut self, now: Instant, after: Option<Duration>) {
        let left = self.ends_at.saturating_duration_since(now);
        let pause = after.unwrap_or(left / 4).min(LONGEST_PAUSE).min(left);
        self.renew_at = now + pause;
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    /// A number, and of some endpoints a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

#[derive(Deserialize)]
struct Denial {
    error: Option<String>,
    error_description: Option<String>,
}

/// The client certificate is for the receiver, and so is leave not to verify it: the secret goes to nobody unverified.
/// An endpoint of one's own may be behind the receiver's authorities, or the world's.
fn tls_of_endpoint(config: &OAuth2Config, tls: &TlsConfig) -> TlsConfig {
    let ca_file = tls.ca_file.clone().filter(|_| !config.is_public);
    TlsConfig { ca_file, with_platform: true, ..TlsConfig::default() }
}

impl OAuth {
    /// Reads the secret once, so that a missing file is said at the start; asks nobody.
    pub fn new(
        sink: &str,
        config: &OAuth2Config,
        tls: &TlsConfig,
        proxy: &ProxyConfig,
    ) -> Result<OAuth, SinkBuildError> {
        let in_http = |source| SinkBuildError::Http { sink: sink.to_owned(), source };
        http::require_https(&config.token_url).map_err(in_http)?;
        let client = http::client(&tls_of_endpoint(config, tls), proxy, Some(TIMEOUT)).map_err(in_http)?;
        config.client_secret.read().map_err(|source| SinkBuildError::Secret { sink: sink.to_owned(), source })?;
        Ok(OAuth {
            sink: sink.to_owned(),
            config: config.clone(),
            client,
            held: tokio::sync::Mutex::default(),
            said: Mutex::default(),
            last_secret: Mutex::default(),
            stale: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Adds the token, fetched if need be.
    pub async fn dress(&self, request: &mut Request) -> Result<Shown, NoAnswer> {
        let (header, shown) = self.token().await?;
        request.headers_mut().insert(AUTHORIZATION, header);
        Ok(shown)
    }

    /// A token with life left, and which one it is.
    pub async fn token(&self) -> Result<(HeaderValue, Shown), NoAnswer> {
        use std::sync::atomic::Ordering;
        let mut held = self.held.lock().await;
        if self.stale.swap(false, Ordering::AcqRel) {
            held.token = None;
        }
        let known = Shown { serial: Some(held.serial), is_new: false };
        if let Some(token) = &held.token
            && Instant::now() < token.renew_at
        {
            return Ok((token.header.clone(), known));
        }
        match self.fetch().await {
            Ok(token) => {
                held.serial += 1;
                let header = token.header.clone();
                held.token = Some(token);
                Ok((header, Shown { serial: Some(held.serial), is_new: true }))
            }
            Err(error) => match &mut held.token {
                Some(token) if !error.is_login_refused && Instant::now() < token.ends_at => {
                    tracing::debug!(sink = %self.sink, reason = error.reason, "the token could not be renewed; the old one serves on");
                    token.put_off(Instant::now(), error.after);
                    Ok((token.header.clone(), known))
                }
                _ => {
                    held.token = None;
                    Err(error)
                }
            },
        }
    }

    /// The receiver did not take this token. True where another one is shown next: one that was just fetched for
    /// the same request would not fare better.
    pub async fn let_go(&self, shown: &Shown) -> bool {
        let mut held = self.held.lock().await;
        let is_current = shown.serial == Some(held.serial);
        // Another request may have brought a new one meanwhile.
        if is_current {
            held.token = None;
        }
        shown.serial.is_some() && !(shown.is_new && is_current)
    }

    /// Lets go of the token. True where the secret is another one than was last sent.
    pub fn read_again(&self) -> Result<bool, String> {
        let secret = self.config.client_secret.read().map_err(|error| error.to_string())?;
        self.stale.store(true, std::sync::atomic::Ordering::Release);
        let last = locked(&self.last_secret);
        Ok(last.as_ref().is_some_and(|last| last.expose_secret() != secret.expose_secret()))
    }

    /// `said` without tokens and secrets.
    pub fn scrub(&self, said: Vec<u8>) -> Vec<u8> {
        locked(&self.said)
            .iter()
            .fold(said, |said, secret| scrub(&said, secret.expose_secret().as_bytes()).into_owned())
    }

    fn remember(&self, secret: SecretString) {
        let mut said = locked(&self.said);
        if said.iter().any(|known| known.expose_secret() == secret.expose_secret()) {
            return;
        }
        // The present token and secret with its three spellings, and those before.
        if said.len() >= 12 {
            said.remove(0);
        }
        said.push(secret);
    }

    async fn fetch(&self) -> Result<Token, NoAnswer> {
        let (config, url) = (&self.config, &self.config.token_url);
        let secret = config.client_secret.read().map_err(|error| self.refused(error.to_string()))?;
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let sent = encode(secret.expose_secret());
        if config.basic {
            // As `basic_auth` writes it.
            self.remember(STANDARD.encode(format!("{}:{sent}", encode(&config.client_id))).into());
        }
        self.remember(sent.into());
        self.remember(secret.clone());
        *locked(&self.last_secret) = Some(secret.clone());
        let mut form = vec![("grant_type", "client_credentials")];
        if !config.basic {
            form.extend([("client_id", config.client_id.as_str()), ("client_secret", secret.expose_secret())]);
        }
        form.extend(config.scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(config.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut request = self.client.post(url.clone()).header(ACCEPT, "application/json").form(&form);
        if config.basic {
            // RFC 6749, 2.3.1: both are form-encoded first.
            request = request.basic_auth(encode(&config.client_id), Some(encode(secret.expose_secret())));
        }
        let began = Instant::now();
        let shown = url.origin().ascii_serialization();
        let unreached = |failure: http::HttpFailure| {
            let reason = format!("cannot reach the token endpoint `{shown}`{}: {}", failure.through, failure.reason);
            self.later(None, reason)
        };
        let request = request.build().map_err(|error| unreached(self.client.failure(&error)))?;
        let response = self.client.execute(request).await.map_err(unreached)?;
        let heard = read(response, ANSWER_LIMIT).await.map_err(|error| unreached(self.client.failure(&error)))?;
        if heard.status / 100 != 2 {
            return Err(self.denied(heard.status, heard.retry_after, heard.body));
        }
        let answer: Option<Answer> = serde_json::from_slice(&heard.body).ok();
        let answer =
            answer.filter(|answer| answer.token_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")));
        let Some(answer) = answer else {
            return Err(self.later(None, format!("the token endpoint `{shown}` answered without a bearer token")));
        };
        let lifetime = match &answer.expires_in {
            serde_json::Value::Number(seconds) => seconds.as_f64(),
            serde_json::Value::String(seconds) => seconds.parse().ok(),
            _ => None,
        };
        let lifetime = lifetime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let lifetime = lifetime.unwrap_or(UNSAID_LIFETIME).min(LONGEST_LIFETIME);
        let header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token));
        let mut header =
            header.map_err(|_| self.later(None, format!("the token of `{shown}` holds what no header can carry")))?;
        header.set_sensitive(true);
        self.remember(answer.access_token.into());
        Ok(Token { header, renew_at: began + lifetime * 3 / 4, ends_at: began + lifetime })
    }

    /// 408, 429 and 5xx are the endpoint's trouble; anything else is about what we showed it.
    fn denied(&self, status: u16, after: Option<Duration>, body: Vec<u8>) -> NoAnswer {
        let body = self.scrub(body);
        let denial: Option<Denial> = serde_json::from_slice(&body).ok();
        let is_temporary =
            denial.as_ref().is_some_and(|denial| denial.error.as_deref() == Some("temporarily_unavailable"));
        let said = match denial {
            Some(Denial { error: Some(error), error_description }) => {
                let description = excerpt_of_text(&error_description.unwrap_or_default());
                let hint = advice::hint_of_answer(&description);
                format!("{}: {description}{hint}", excerpt_of_text(&error))
            }
            _ => excerpt(&body),
        };
        // Escapes inside of JSON may have hidden a secret from the first look.
        let said = String::from_utf8_lossy(&self.scrub(said.into_bytes())).into_owned();
        let shown = self.config.token_url.origin().ascii_serialization();
        let reason = format!("the token endpoint `{shown}` answered {status} `{said}`");
        match status {
            408 | 429 | 500.. => self.later(after, format!("{reason}; asked again")),
            _ if is_temporary => self.later(after, format!("{reason}; asked again")),
            300..=399 => self.refused(format!(
                "{reason}; redirects are not followed: put the final address into `auth.oauth2.token_url`"
            )),
            _ => self.refused(format!(
                "{reason}; check the client's id, secret and scope in `auth`; a changed secret file is read again by itself"
            )),
        }
    }

    fn later(&self, after: Option<Duration>, reason: String) -> NoAnswer {
        let reason = format!("sink `{}`: {reason}", self.sink);
        NoAnswer { may_have_arrived: false, is_of_login: true, is_login_refused: false, after, reason }
    }

    fn refused(&self, reason: String) -> NoAnswer {
        NoAnswer { is_login_refused: true, ..self.later(None, reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretSource;

    #[test]
    fn the_secret_goes_to_nobody_unverified_and_to_microsoft_by_the_worlds_authorities_only() {
        let mut config = OAuth2Config {
            token_url: "https://login.example/token".parse().unwrap(),
            client_id: "client".into(),
            client_secret: SecretSource::Value("secret".to_owned().into()),
            scope: None,
            parameters: Vec::new(),
            basic: false,
            is_public: false,
        };
        let of_receiver = TlsConfig {
            ca_file: Some("/ca.pem".into()),
            with_platform: false,
            cert_file: Some("/cert.pem".into()),
            key_file: Some("/key.pem".into()),
            verify: Some(false),
        };
        let own = TlsConfig { ca_file: Some("/ca.pem".into()), with_platform: true, ..TlsConfig::default() };
        assert_eq!(tls_of_endpoint(&config, &of_receiver), own);
        config.is_public = true;
        assert_eq!(tls_of_endpoint(&config, &of_receiver), TlsConfig { ca_file: None, ..own });
    }

    #[test]
    fn a_renewal_that_went_wrong_is_put_off_and_never_beyond_the_end() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let pause = |left: u64, after: Option<u64>| {
            let header = HeaderValue::from_static("x");
            let mut token = Token { header, renew_at: now, ends_at: now + seconds(left) };
            token.put_off(now, after.map(seconds));
            token.renew_at - now
        };
        assert_eq!(pause(900, None), LONGEST_PAUSE);
        assert_eq!(pause(40, None), seconds(10));
        assert_eq!((pause(900, Some(5)), pause(900, Some(3600))), (seconds(5), LONGEST_PAUSE));
        assert_eq!(pause(20, Some(30)), seconds(20));
    }
}
