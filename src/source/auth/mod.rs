//! Tokens: one per tenant, or sink that shows one, fetched once however many ask at the same time, renewed at three
//! quarters of its life, dropped when the service says it is not good. What proves the application is read
//! again at each renewal, so rotation needs no restart, and a refusal is believed no longer than that proof
//! stays what it was. A token lives in memory only and is never printed.
//!
//! One file for each thing: `credential` makes the request, `certificate` with `pem`, `pfx`, `pbe`, `der` and `leaf`
//! reads what it signs with, `assertion` signs, `federated` reads a projected token, `answer` understands what comes
//! back, `explain` says what to do about a refusal, `expiry` what will soon end.

mod answer;
mod assertion;
pub mod certificate;
mod credential;
mod der;
mod expiry;
mod explain;
mod federated;
pub mod leaf;
mod pbe;
mod pem;
mod pfx;
#[cfg(feature = "failpoints")]
pub(crate) mod trial;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use reqwest::header::{DATE, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, watch};

pub use credential::Credential;
pub use expiry::{KINDS, Warnings, day};

use super::body::Body;
use super::client::http_date;
use super::connections::{Connections, Transport};
use super::error::{ApiError, request_ids};
use super::steady::Steady;
use crate::clock::{Clock, Seconds, world_ms};
use crate::config::{CredentialConfig, TokenConfig};
use crate::http::{self, HttpError};
use crate::metrics::Metrics;
use crate::retry::parse_retry_after;
use answer::{Whom, read_answer, read_denial, scrub_sent};

/// How long a refusal of the token endpoint is believed before it is asked again: long enough not to
/// hammer it for every feed, short enough for a consent to be noticed.
const REFUSAL_BELIEVED: Seconds = 60;
/// The same after an error that is not about the credential; at most, where there is a token or the endpoint said when.
const FAILURE_BELIEVED: Seconds = 5;
const FAILURE_BELIEVED_LONGEST: Seconds = 60;
/// How often files are looked at while what was in them is refused.
const LOOK: Duration = Duration::from_secs(2);
/// From so many seconds on a difference of clocks may be why an assertion was refused.
const CLOCK_MATTERS: Seconds = 60;
/// Longest answer of the token endpoint, bytes; real ones are about 2 KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// Time for one token request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tokens and what was shown for them that are blotted out of answers: those of now, and of a while before.
const REMEMBERED: usize = 12;
/// Shorter ones are not blotted out: they would be found in any text.
const LEAST_BLOTTED: usize = 4;

/// A token and which one it is, so that an old one's refusal does not drop its successor.
#[derive(Clone)]
pub struct Token {
    pub secret: SecretString,
    serial: u64,
}

impl Token {
    /// Another number is another token of the same source.
    pub fn serial(&self) -> u64 {
        self.serial
    }
}

/// The token of one tenant or sink.
pub struct TokenSource {
    connections: Connections,
    clock: Clock,
    steady: Steady,
    credential: Arc<Credential>,
    tenant: String,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
    /// Whether a credential that may change was refused and no token came since.
    refused: watch::Sender<bool>,
    /// The token endpoint's clock minus ours, seconds: an assertion is judged by the former.
    ahead: AtomicI64,
    warnings: Warnings,
    /// Of requests and answers of late.
    said: StdMutex<Vec<SecretString>>,
}

#[derive(Default)]
struct Held {
    token: Option<Kept>,
    serial: u64,
    refusal: Option<Refusal>,
    /// Of the credential that was last asked with.
    fingerprint: Option<[u8; 32]>,
}

/// Why there is no new token, and how long to wait where the endpoint said so.
struct Failure {
    error: ApiError,
    after: Option<Duration>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure { error, after: None }
    }
}

/// An answer that brought no token, and of which credential.
struct Refusal {
    error: ApiError,
    until: Seconds,
    fingerprint: [u8; 32],
}

/// A token and its times.
struct Kept {
    token: Token,
    made_at: Seconds,
    renew_at: Seconds,
    ends_at: Seconds,
}

impl Held {
    /// What there is while no new token is to be had: the old one while it lives. A refused credential's is none.
    fn instead(&self, error: ApiError, now: Seconds) -> Result<(Token, Seconds), ApiError> {
        match &self.token {
            Some(kept) if now < kept.ends_at => Ok((kept.token.clone(), kept.ends_at - now)),
            _ => Err(error),
        }
    }

    /// How long a failure that is not about the credential is believed. While the old token serves there is time: each
    /// try may take [`TIMEOUT`], and all requests wait for it.
    fn patience(&self, after: Option<Duration>, now: Seconds) -> Seconds {
        let left = self.token.as_ref().map_or(0, |kept| kept.ends_at - now).max(0);
        let wanted = after.map_or(left / 4, |after| i64::try_from(after.as_secs()).unwrap_or(Seconds::MAX));
        let wanted = wanted.clamp(FAILURE_BELIEVED, FAILURE_BELIEVED_LONGEST);
        if left > 0 { wanted.min(left) } else { wanted }
    }

    /// Lets go of a token that shall not be used again; a failure to renew it is not believed any longer.
    fn let_go(&mut self) {
        (self.token, self.refusal) = (None, None);
    }
}

impl TokenSource {
    pub fn new(
        connections: Connections,
        clock: Clock,
        credential: Credential,
        tenant: &str,
        metrics: Arc<Metrics>,
    ) -> TokenSource {
        let steady = Steady::of(&clock);
        let warnings = Warnings::new(tenant, &credential.kind, Arc::clone(&metrics));
        // A configured end is known before the first token is asked for; a certificate's is when it signs.
        warnings.note(&credential.kind, None, clock.now());
        TokenSource {
            connections,
            clock,
            steady,
            credential: Arc::new(credential),
            tenant: tenant.to_owned(),
            metrics,
            held: Mutex::default(),
            refused: watch::Sender::new(false),
            ahead: AtomicI64::new(0),
            warnings,
            said: StdMutex::default(),
        }
    }

    /// A source of its own for a sink whose receiver wants tokens.
    ///
    /// # Errors
    /// No client for the token endpoint can be made.
    pub fn of_sink(sink: &str, config: &TokenConfig) -> Result<TokenSource, HttpError> {
        let credential = Credential::of_sink(config);
        http::require_https(&credential.endpoint())?;
        let client = http::client(&config.tls, &config.proxy, None)?;
        let connections = Connections::new(Transport::Network(client));
        // Metrics of tokens are by tenant, which a sink is not.
        Ok(TokenSource::new(connections, Clock::system(), credential, sink, Metrics::new()))
    }

    /// A token with life left; waits for the one request in the air if there is one. While a new one cannot be had by
    /// no fault of the credential, the old one serves as long as it lives.
    pub async fn get(&self) -> Result<Token, ApiError> {
        self.get_with_life().await.map(|(token, _)| token)
    }

    /// As [`get`](Self::get), with the seconds that the token lives from now.
    pub async fn get_with_life(&self) -> Result<(Token, Seconds), ApiError> {
        let mut held = self.held.lock().await;
        let now = self.steady.now();
        if let Some(kept) = &held.token
            && now < kept.renew_at
        {
            return Ok((kept.token.clone(), kept.ends_at - now));
        }
        // Before the files are read for the request: if one changes in between, the answer is of the older one.
        let fingerprint = self.fingerprint().await;
        if let Some(refusal) = &held.refusal
            && now < refusal.until
            && refusal.fingerprint == fingerprint
        {
            return held.instead(refusal.error.clone(), now);
        }
        held.fingerprint = Some(fingerprint);
        match self.request().await {
            Ok((secret, lifetime)) => {
                held.serial += 1;
                self.remember(&secret);
                let token = Token { secret, serial: held.serial };
                let (renew_at, ends_at) = (now + lifetime * 3 / 4, now + lifetime);
                held.token = Some(Kept { token: token.clone(), made_at: now, renew_at, ends_at });
                held.refusal = None;
                self.refused.send_if_modified(std::mem::take);
                self.count("ok");
                self.metrics.token_expiry.with_label_values(&[&self.tenant]).set(self.clock.now() + lifetime);
                Ok((token, lifetime))
            }
            Err(Failure { error, after }) => {
                let refused = error.is_unauthorized();
                self.count(if refused { "refused" } else { "failed" });
                let believed = if refused { REFUSAL_BELIEVED } else { held.patience(after, now) };
                held.refusal = Some(Refusal { error: error.clone(), until: now + believed, fingerprint });
                if refused {
                    // Nothing may be had by it any more; so wherever there is a token, none was refused since.
                    held.token = None;
                    self.refused.send_replace(self.credential.may_change());
                }
                held.instead(error, self.steady.now())
            }
        }
    }

    /// Resolves when a credential was refused and has been replaced since, once for each.
    pub async fn changed(&self) {
        let mut refused = self.refused.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = refused.wait_for(|refused| *refused).await;
            tokio::time::sleep(LOOK).await;
            let mut held = self.held.lock().await;
            let fingerprint = self.fingerprint().await;
            if let Some(refusal) = held.refusal.as_mut().filter(|refusal| refusal.fingerprint != fingerprint) {
                (refusal.until, refusal.fingerprint) = (Seconds::MIN, fingerprint);
                tracing::info!(tenant = %self.tenant, "the refused credential was replaced; the new one is tried now");
                return;
            }
        }
    }

    /// The service did not take `token`: the next call gets a fresh one. False where there is another one already.
    pub async fn invalidate(&self, token: &Token) -> bool {
        let mut held = self.held.lock().await;
        let is_held = held.token.as_ref().is_some_and(|kept| kept.token.serial == token.serial);
        if is_held {
            held.let_go();
        }
        is_held
    }

    /// The next call asks anew, whatever there is and whatever was refused. True where the credential is another one
    /// than was last asked with.
    pub async fn ask_anew(&self) -> bool {
        let mut held = self.held.lock().await;
        held.let_go();
        let last = held.fingerprint;
        let fingerprint = self.fingerprint().await;
        last.is_some_and(|last| last != fingerprint)
    }

    /// What a receiver said, without the tokens of late and without what was shown for them.
    pub fn scrub(&self, said: &[u8]) -> Vec<u8> {
        let secrets = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(said.to_vec(), |said, secret| scrub_sent(&said, secret.expose_secret()))
    }

    fn remember(&self, secret: &SecretString) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_short = secret.expose_secret().len() < LEAST_BLOTTED;
        if is_short || said.iter().any(|known| known.expose_secret() == secret.expose_secret()) {
            return;
        }
        if said.len() >= REMEMBERED {
            said.remove(0);
        }
        said.push(secret.clone());
    }

    /// The next call gets a token that is not older than `age` seconds.
    pub async fn renew_if_older(&self, age: Seconds) {
        let mut held = self.held.lock().await;
        if held.token.as_ref().is_some_and(|kept| self.steady.now() - kept.made_at > age) {
            held.let_go();
        }
    }

    fn count(&self, result: &str) {
        self.metrics.token_refreshes.with_label_values(&[self.tenant.as_str(), result]).inc();
    }

    /// One request; and a second one where the first was refused and showed that our clock is wrong: what we sign
    /// bears the time of theirs from then on.
    async fn request(&self) -> Result<(SecretString, Seconds), Failure> {
        let known = self.ahead.load(Ordering::Relaxed);
        let answer = self.ask().await;
        let learned = self.ahead.load(Ordering::Relaxed);
        let is_signed = matches!(self.credential.kind, CredentialConfig::Certificate(_));
        let is_refused = answer.as_ref().is_err_and(|failure| failure.error.is_unauthorized());
        if is_signed && is_refused && (learned - known).abs() >= CLOCK_MATTERS {
            tracing::warn!(tenant = %self.tenant, seconds = learned,
                "the token endpoint's clock is ahead of ours by so much; what we sign goes by theirs, set this machine's clock");
            return self.ask().await;
        }
        answer
    }

    async fn ask(&self) -> Result<(SecretString, Seconds), Failure> {
        let (kind, now) = (&self.credential.kind, self.clock.now());
        let theirs = now + self.ahead.load(Ordering::Relaxed);
        let asked = self.beside(move |credential| credential.request(theirs)).await;
        let unusable = |why: String| ApiError::Unauthorized { text: format!("credential: {why}") };
        let asked = asked.ok_or_else(|| unusable("reading it failed by a fault of ours; please report it".into()))?;
        let asked = asked.map_err(|error| unusable(error.to_string()))?;
        self.warnings.note(kind, asked.leaf.as_ref().map(|leaf| leaf.not_after), now);
        asked.secrets.iter().for_each(|secret| self.remember(secret));
        let whom = match (kind, &self.credential.endpoint) {
            (CredentialConfig::ManagedIdentity(_), _) => Whom::ManagedIdentity,
            (_, Some(endpoint)) => Whom::Other(&endpoint.url),
            (_, None) => Whom::Entra,
        };
        let transient = |text: String| ApiError::Transient { text: format!("{whom}: {text}") };
        let mut request = asked.request;
        *request.timeout_mut() = Some(TIMEOUT);
        let turn = self.connections.turn().await;
        let response = self.connections.send(request).await.map_err(|e| transient(explain::unreachable(kind, &e)))?;
        drop(turn);
        let status = response.status();
        if let Some(date) = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date) {
            self.ahead.store(date - self.clock.now(), Ordering::Relaxed);
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        let after = after.and_then(|after| parse_retry_after(after, world_ms()));
        let ids = request_ids(response.headers());
        let body = Body::new(response, TIMEOUT).collect(MAX_ANSWER).await.map_err(|e| transient(e.to_string()))?;
        if status.is_success() {
            return Ok(read_answer(&body, now).ok_or_else(|| transient("an answer without a bearer token".into()))?);
        }
        let error = read_denial(whom, status.as_u16(), &body, &ids, &asked.secrets);
        let (told, leaf) = (error.clone(), asked.leaf);
        let explained = self.beside(move |credential| explain::explained(told, credential, leaf.as_ref(), now)).await;
        Err(Failure { error: explained.unwrap_or(error), after })
    }

    async fn fingerprint(&self) -> [u8; 32] {
        self.beside(Credential::fingerprint).await.unwrap_or_default()
    }

    /// What reads files or derives keys, on a thread that may wait: a mount that does not answer and a password's ten
    /// million rounds hold up nobody else. `None`: it panicked.
    async fn beside<T: Send + 'static>(&self, work: impl FnOnce(&Credential) -> T + Send + 'static) -> Option<T> {
        let credential = Arc::clone(&self.credential);
        tokio::task::spawn_blocking(move || work(&credential)).await.ok()
    }
}

#[cfg(test)]
mod tests;
