//! A request by a token that is fetched (OAuth2). Comes in: where tokens come from. Goes out: requests that bear the token
//! of the moment, or why there is none. Fetching, renewing, refusing and blotting out is the source's
//! ([`TokenSource`]), as for tenants; here stands only what a receiver does not take.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::ExposeSecret;

use super::exchange::NoAnswer;
use crate::config::{CredentialConfig, TokenConfig};
use crate::sink::SinkBuildError;
use crate::source::auth::{Token, TokenSource};

/// Which token a request was shown; none where there is no such login.
#[derive(Clone, Default)]
pub struct Shown {
    token: Option<Token>,
    /// It was fetched for this very request.
    is_new: bool,
}

/// See the module's head.
pub struct OAuth {
    sink: String,
    source: TokenSource,
    /// The newest token that was shown.
    newest: AtomicU64,
}

impl OAuth {
    /// Reads the secret once, so that a missing file is said at the start; asks nobody.
    pub fn new(sink: &str, config: &TokenConfig) -> Result<OAuth, SinkBuildError> {
        let source = TokenSource::of_sink(sink, config);
        let source = source.map_err(|source| SinkBuildError::Http { sink: sink.to_owned(), source })?;
        if let CredentialConfig::ClientSecret { secret, .. } = &config.credential {
            secret.read().map_err(|source| SinkBuildError::Secret { sink: sink.to_owned(), source })?;
        }
        Ok(OAuth { sink: sink.to_owned(), source, newest: AtomicU64::new(0) })
    }

    /// Adds the token, fetched if need be.
    pub async fn dress(&self, request: &mut Request) -> Result<Shown, NoAnswer> {
        let token = self.token().await?;
        let header = HeaderValue::from_str(&format!("Bearer {}", token.secret.expose_secret()));
        let mut header = header
            .map_err(|_| self.no_answer(false, &"the token holds what no header can carry; it is asked for again"))?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        let is_new = self.newest.fetch_max(token.serial(), Ordering::AcqRel) < token.serial();
        Ok(Shown { token: Some(token), is_new })
    }

    /// A token with life left.
    pub async fn token(&self) -> Result<Token, NoAnswer> {
        let token = self.source.get().await;
        token.map_err(|error| self.no_answer(error.is_unauthorized(), &error))
    }

    /// The receiver did not take this token. True where another one is shown next: one that was just fetched for
    /// the same request would not fare better.
    pub async fn let_go(&self, shown: &Shown) -> bool {
        let Some(token) = &shown.token else { return false };
        // Another request may have brought a new one meanwhile.
        let was_held = self.source.invalidate(token).await;
        !(shown.is_new && was_held)
    }

    /// Lets go of the token and of any refusal. True where the credential is another one than was last shown.
    pub async fn read_again(&self) -> bool {
        self.source.ask_anew().await
    }

    /// `said` without tokens and secrets.
    pub fn scrub(&self, said: &[u8]) -> Vec<u8> {
        self.source.scrub(said)
    }

    fn no_answer(&self, is_login_refused: bool, why: &dyn std::fmt::Display) -> NoAnswer {
        let reason = format!("sink `{}`: {why}", self.sink);
        NoAnswer { may_have_arrived: false, is_of_login: true, is_login_refused, after: None, reason }
    }
}
