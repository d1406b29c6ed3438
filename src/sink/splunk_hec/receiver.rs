//! One receiver: its addresses, its token, and a single exchange with it. Comes in: a request begun
//! here. Goes out: what was answered, read in bounds and free of the token, or that nobody answered.
//! Never judges an answer (that is [`answer`](super::answer)) and never tries twice.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::answer::Answer;
use super::lane::Lane;
use crate::clock::world_ms;
use crate::http::{self, HttpClient, HttpFailure};
use crate::retry::parse_retry_after;
use crate::secret::{SecretSource, scrub};
use crate::sink::{SendError, SinkBuildError};

/// What stands before the token in the header.
const SCHEME: &str = "Splunk ";

/// Bytes of an answer that are read; a collector's are below 200.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Where events go, where health and acknowledgements are asked, and by what right.
pub(super) struct Receiver {
    /// Name of the sink.
    name: String,
    endpoints: Endpoints,
    token_source: SecretSource,
    authorization: RwLock<HeaderValue>,
}

/// What was answered.
pub(super) struct Heard {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// No whole answer came.
pub(super) struct NoAnswer {
    /// The connection stood, so the receiver may have the request all the same.
    pub may_have_arrived: bool,
    pub reason: String,
}

impl From<NoAnswer> for SendError {
    fn from(error: NoAnswer) -> SendError {
        SendError::Retry { after: None, reason: error.reason }
    }
}

impl Heard {
    pub fn answer(&self) -> Answer<'_> {
        Answer { status: self.status, retry_after: self.retry_after, body: &self.body }
    }
}

impl Receiver {
    /// Reads the token and works out the addresses; asks nobody.
    pub fn new(name: &str, url: &Url, token: &SecretSource) -> Result<Receiver, SinkBuildError> {
        let sink = || name.to_owned();
        http::require_https(url).map_err(|source| SinkBuildError::Http { sink: sink(), source })?;
        let endpoints =
            Endpoints::of(url).ok_or_else(|| SinkBuildError::Endpoint { sink: sink(), url: url.path().to_owned() })?;
        let read = token.read().map_err(|source| SinkBuildError::Secret { sink: sink(), source })?;
        let authorization = authorization(&read).ok_or_else(|| SinkBuildError::Token { sink: sink() })?;
        Ok(Receiver { name: sink(), endpoints, token_source: token.clone(), authorization: RwLock::new(authorization) })
    }

    /// A request that brings events. The channel stands in the query too, for a proxy that strips the header.
    pub fn events(&self, lane: &Lane) -> RequestBuilder {
        self.authorized(lane.client.post(with_channel(&self.endpoints.events, lane)))
    }

    /// A question after the receiver's health.
    pub fn health(&self, client: &HttpClient) -> RequestBuilder {
        self.authorized(client.get(self.endpoints.health.clone()))
    }

    /// A question after acknowledgements; the channel stands in the query as in Splunk's examples.
    pub fn acknowledgements(&self, lane: &Lane) -> RequestBuilder {
        self.authorized(lane.client.post(with_channel(&self.endpoints.acknowledgements, lane)))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        let authorization = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.header(AUTHORIZATION, authorization)
    }

    /// The token may have been rotated while the circuit was open. True when it was.
    pub fn read_token_again(&self) -> Result<bool, SendError> {
        let fatal = |reason: String| SendError::Fatal { reason: format!("sink `{}`: {reason}", self.name) };
        let token = self.token_source.read().map_err(|error| fatal(error.to_string()))?;
        let header = authorization(&token)
            .ok_or_else(|| fatal("the token holds characters that no header can carry".to_owned()))?;
        let mut known = self.authorization.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != header;
        *known = header;
        Ok(changed)
    }

    /// Sends the request on this lane.
    pub async fn exchange(&self, request: RequestBuilder, lane: &mut Lane) -> Result<Heard, NoAnswer> {
        let client = lane.client.clone();
        let failed = |failure: HttpFailure| NoAnswer {
            may_have_arrived: !failure.is_connect,
            reason: format!(
                "sink `{}`: cannot reach `{}`{}: {}; sent again",
                self.name,
                self.endpoints.events.origin().ascii_serialization(),
                failure.through,
                failure.reason
            ),
        };
        let request = request.build().map_err(|error| failed(client.failure(&error)))?;
        // The token may be read again before the answer is here.
        let sent = request.headers().get(AUTHORIZATION).cloned();
        let mut response = client.execute(request).await.map_err(failed)?;
        lane.hear(response.headers());
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, world_ms()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(client.failure(&error)))? {
            let room = ANSWER_LIMIT - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == ANSWER_LIMIT {
                break;
            }
        }
        let now = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        for header in sent.into_iter().chain([now]) {
            let token = header.as_bytes().strip_prefix(SCHEME.as_bytes()).unwrap_or(header.as_bytes());
            body = scrub(&body, token).into_owned();
        }
        Ok(Heard { status, retry_after, body })
    }
}

fn with_channel(endpoint: &Url, lane: &Lane) -> Url {
    let mut url = endpoint.clone();
    if let Some(channel) = lane.channel() {
        url.query_pairs_mut().append_pair("channel", channel);
    }
    url
}

fn authorization(token: &SecretString) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{SCHEME}{}", token.expose_secret())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

struct Endpoints {
    events: Url,
    health: Url,
    acknowledgements: Url,
}

impl Endpoints {
    /// A URL that names the collector already is kept (a prefix of a reverse proxy too); `…/raw` and
    /// the like are refused, for they take another format.
    fn of(url: &Url) -> Option<Endpoints> {
        const COLLECTOR: &str = "/services/collector";
        let path = url.path().trim_end_matches('/');
        let (base, events) = match path.find(COLLECTOR) {
            None => (path, "/event"),
            Some(at) => match &path[at + COLLECTOR.len()..] {
                "" | "/event" => (&path[..at], "/event"),
                "/event/1.0" => (&path[..at], "/event/1.0"),
                _ => return None,
            },
        };
        let with = |end: &str| {
            let mut url = url.clone();
            url.set_path(&format!("{base}{COLLECTOR}{end}"));
            url.set_fragment(None);
            url
        };
        Some(Endpoints { events: with(events), health: with("/health"), acknowledgements: with("/ack") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_appended_unless_it_is_there() {
        let cases = [
            ("https://s:8088", Some("https://s:8088/services/collector/event")),
            ("https://s:8088/", Some("https://s:8088/services/collector/event")),
            ("https://s/prefix/", Some("https://s/prefix/services/collector/event")),
            ("https://s/services/collector", Some("https://s/services/collector/event")),
            ("https://s/services/collector/event", Some("https://s/services/collector/event")),
            ("https://s/services/collector/event/1.0", Some("https://s/services/collector/event/1.0")),
            ("https://s/services/collector/raw", None),
        ];
        for (given, expected) in cases {
            let found = Endpoints::of(&Url::parse(given).unwrap());
            assert_eq!(found.as_ref().map(|found| found.events.as_str()), expected, "{given}");
            assert!(found.as_ref().is_none_or(|found| found.health.path().ends_with("/services/collector/health")));
            assert!(found.is_none_or(|found| found.acknowledgements.path().ends_with("/services/collector/ack")));
        }
    }

    #[test]
    fn the_token_is_never_shown() {
        let header = authorization(&"canary-token".into()).unwrap();
        assert!(!format!("{header:?}").contains("canary"));
    }
}
