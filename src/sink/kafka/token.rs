//! Tokens for brokers that want them (SASL OAUTHBEARER, RFC 7628): fetched beside librdkafka and before it asks, so that
//! its threads wait for nobody. Comes in: how the application proves who it is. Goes out: the token of the moment, or why there
//! is none. One for each identity of a process, whoever uses it; renewed before its end; never logged.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use secrecy::{ExposeSecret, SecretString};

use crate::clock::world_ms;
use crate::config::TokenConfig;
use crate::http;
use crate::source::auth::TokenSource;

/// How long librdkafka is let wait for the first token. Its thread has nothing else to do then: nothing is sent without one.
const FIRST: Duration = Duration::from_secs(5);
/// Between two looks whether a token must be renewed, at most; the source asks nobody before it must.
const LOOK: Duration = Duration::from_secs(2);
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// The part of a token's life between two looks: it is renewed at three quarters, and librdkafka asks at four fifths.
const LOOKS: i64 = 40;
/// A token that brokers refuse is not asked for anew more often than this, seconds.
const FRESH: i64 = 10;

/// See the module's head.
pub(super) struct Tokens {
    config: TokenConfig,
    source: TokenSource,
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    held: Option<Held>,
    /// Why there is no new one.
    error: Option<String>,
    /// Whether there was an answer at all.
    is_asked: bool,
}

struct Held {
    secret: SecretString,
    /// Milliseconds since 1970.
    ends_ms: i64,
    serial: u64,
}

/// The identities in use.
static ALL: Mutex<Vec<Weak<Tokens>>> = Mutex::new(Vec::new());

impl Tokens {
    /// The tokens of this identity; the first to ask begins to fetch them. Needs a running tokio runtime.
    ///
    /// # Errors
    /// No client for the token endpoint can be made.
    pub fn of(sink: &str, config: &TokenConfig) -> Result<Arc<Tokens>, http::HttpError> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        if let Some(found) = all.iter().filter_map(Weak::upgrade).find(|one| one.config == *config) {
            return Ok(found);
        }
        let source = TokenSource::of_sink(sink, config)?;
        let tokens =
            Arc::new(Tokens { config: config.clone(), source, known: Mutex::default(), changed: Condvar::new() });
        tokio::spawn(keep(Arc::downgrade(&tokens)));
        all.push(Arc::downgrade(&tokens));
        Ok(tokens)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the token of now.
    async fn learn(&self) {
        let answer = self.source.get_with_life().await;
        let mut known = self.known();
        known.is_asked = true;
        match answer {
            Ok((token, seconds)) => {
                let ends_ms = world_ms() + seconds * 1000;
                known.held = Some(Held { serial: token.serial(), secret: token.secret, ends_ms });
                known.error = None;
            }
            Err(error) => {
                let said = error.to_string();
                if known.error.as_ref() != Some(&said) {
                    tracing::warn!(error = said, "no token for the brokers; it is asked for again");
                }
                (known.held, known.error) = (None, Some(said));
            }
        }
        drop(known);
        self.changed.notify_all();
    }

    /// For librdkafka: the token, or why there is none. Waits only for the first.
    pub fn token(&self) -> Result<OAuthToken, String> {
        let deadline = Instant::now() + FIRST;
        let mut known = self.known();
        while !known.is_asked && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            known = self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &known.held {
            Some(held) if held.ends_ms > world_ms() => Ok(OAuthToken {
                token: held.secret.expose_secret().to_owned(),
                principal_name: self.config.client_id.clone(),
                lifetime_ms: held.ends_ms,
            }),
            _ => Err(known.error.clone().unwrap_or_else(|| "the token endpoint has not answered yet".to_owned())),
        }
    }

    /// Which token is held; another number is another token.
    pub fn serial(&self) -> u64 {
        self.known().held.as_ref().map_or(0, |held| held.serial)
    }

    /// The brokers refuse the one that there is: another is fetched, unless it is young.
    pub async fn renew(&self) {
        self.source.renew_if_older(FRESH).await;
        self.learn().await;
    }

    /// Blots tokens out of what somebody said.
    pub fn scrub(&self, said: &[u8]) -> Vec<u8> {
        self.source.scrub(said)
    }
}

/// Keeps a token at hand for as long as somebody uses it.
async fn keep(tokens: Weak<Tokens>) {
    while let Some(tokens) = tokens.upgrade() {
        tokens.learn().await;
        let left_ms = tokens.known().held.as_ref().map_or(i64::MAX, |held| held.ends_ms - world_ms());
        drop(tokens);
        let look = Duration::from_millis(u64::try_from(left_ms / LOOKS).unwrap_or_default());
        tokio::time::sleep(look.clamp(SHORTEST_LOOK, LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CredentialConfig, ProxyConfig, TlsConfig};
    use crate::secret::SecretSource;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_for_each_identity_and_without_an_endpoint_it_says_why_there_is_none() {
        let config = TokenConfig {
            login: "http://127.0.0.1:1/".parse().unwrap(),
            tenant_id: "t".into(),
            client_id: "c".into(),
            credential: CredentialConfig::ClientSecret { secret: SecretSource::Value("canary".into()), expires: None },
            scope: "https://n.servicebus.windows.net/.default".into(),
            endpoint: None,
            tls: TlsConfig::default(),
            proxy: ProxyConfig::Off,
        };
        let tokens = Tokens::of("bus", &config).unwrap();
        assert!(Arc::ptr_eq(&tokens, &Tokens::of("other", &config).unwrap()));
        let other = TokenConfig { client_id: "d".into(), ..config.clone() };
        assert!(!Arc::ptr_eq(&tokens, &Tokens::of("bus", &other).unwrap()));
        let asked = Arc::clone(&tokens);
        let error = tokio::task::spawn_blocking(move || asked.token().err().unwrap()).await.unwrap();
        assert!(error.contains("token endpoint") && !error.contains("canary"), "{error}");
        assert_eq!(tokens.serial(), 0);
    }
}
