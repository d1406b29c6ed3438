//! One request and its answer. Comes in: a request that a sink began. Goes out: what was answered, read in bounds and
//! free of every secret that was shown; or that no whole answer came. Never judges the answer.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Request, RequestBuilder, Response, StatusCode};

use super::login::Login;
use crate::clock::world_ms;
use crate::http::{HttpClient, HttpFailure};
use crate::retry::parse_retry_after;
use crate::sink::SendError;

/// Bytes of an answer that are read unless a sink needs more: the words of an error have some hundred.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// Who asks, through what, by what right.
pub struct Exchange<'a> {
    /// Name of the sink.
    pub sink: &'a str,
    pub client: &'a HttpClient,
    pub login: &'a Login,
    /// Bytes of the answer's body that are read; what is behind them is not.
    pub limit: usize,
}

/// What was answered.
pub struct Heard {
    pub status: u16,
    /// What `Retry-After` said, at most [`MAX_RETRY_AFTER`](crate::retry::MAX_RETRY_AFTER).
    pub retry_after: Option<Duration>,
    pub headers: HeaderMap,
    /// At most so much as was asked for.
    pub body: Vec<u8>,
    /// False where the answer was longer.
    pub is_whole: bool,
}

/// No whole answer came.
#[derive(Debug)]
pub struct NoAnswer {
    /// The connection stood, so the receiver may have the request all the same.
    pub may_have_arrived: bool,
    /// Nothing was sent to the receiver: what it asks for could not be had from where logins are had.
    pub is_of_login: bool,
    /// As that, and the login is not good: somebody must mend it.
    pub is_login_refused: bool,
    /// How long to wait, where somebody said so.
    pub after: Option<Duration>,
    /// Names the sink, what went wrong, and what to do.
    pub reason: String,
}

impl From<NoAnswer> for SendError {
    fn from(error: NoAnswer) -> SendError {
        match error.is_login_refused {
            true => SendError::Fatal { reason: error.reason },
            false => SendError::Retry { after: error.after, reason: error.reason },
        }
    }
}

impl Exchange<'_> {
    /// Logs the request in, sends it and reads the answer.
    pub async fn ask(&self, request: RequestBuilder) -> Result<Heard, NoAnswer> {
        let mut request = request.build().map_err(|error| NoAnswer {
            may_have_arrived: false,
            is_of_login: false,
            is_login_refused: false,
            after: None,
            reason: format!("sink `{}`: a request could not be made: {error}", self.sink),
        })?;
        let again = request.try_clone();
        let shown = self.login.dress(&mut request).await?;
        let heard = self.once(request).await?;
        // Nothing of it was taken, so it may be said again.
        if heard.status == StatusCode::UNAUTHORIZED.as_u16()
            && let Some(mut again) = again
            && self.login.let_go(&shown).await
        {
            self.login.dress(&mut again).await?;
            return self.once(again).await;
        }
        Ok(heard)
    }

    async fn once(&self, request: Request) -> Result<Heard, NoAnswer> {
        let origin = request.url().origin().ascii_serialization();
        let failed = |failure: HttpFailure| NoAnswer {
            may_have_arrived: !failure.is_connect,
            is_of_login: false,
            is_login_refused: false,
            after: None,
            reason: format!(
                "sink `{}`: cannot reach `{origin}`{}: {}; sent again",
                self.sink, failure.through, failure.reason
            ),
        };
        let response = self.client.execute(request).await.map_err(failed)?;
        let heard = read(response, self.limit).await.map_err(|error| failed(self.client.failure(&error)))?;
        Ok(Heard { body: self.login.scrub(heard.body), ..heard })
    }
}

/// Reads an answer, no further than `limit` bytes.
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Heard, reqwest::Error> {
    let headers = std::mem::take(response.headers_mut());
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| parse_retry_after(value, world_ms()));
    let (mut body, mut is_whole) = (Vec::new(), true);
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            is_whole = false;
            break;
        }
    }
    Ok(Heard { status: response.status().as_u16(), retry_after, headers, body, is_whole })
}
