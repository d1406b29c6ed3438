//! One receiver: its addresses, its token, and a single exchange with it. Comes in: a request begun
//! here. Goes out: what was answered, read in bounds and free of the token, or that nobody answered.
//! Never judges an answer (that is [`answer`](super::answer)) and never tries twice.

use reqwest::RequestBuilder;
use url::Url;

use super::lane::Lane;
use crate::config::LoginConfig;
use crate::http::{self, HttpClient};
use crate::secret::SecretSource;
use crate::sink::web::{ANSWER_LIMIT, Exchange, Heard, Login, NoAnswer};
use crate::sink::{SendError, SinkBuildError};

/// What stands before the token in the header.
const SCHEME: &str = "Splunk ";

/// Where events go, where health and acknowledgements are asked, and by what right.
pub(super) struct Receiver {
    /// Name of the sink.
    name: String,
    endpoints: Endpoints,
    login: Login,
}

impl Receiver {
    /// Reads the token and works out the addresses; asks nobody.
    pub fn new(name: &str, url: &Url, token: &SecretSource) -> Result<Receiver, SinkBuildError> {
        let sink = || name.to_owned();
        http::require_https(url).map_err(|source| SinkBuildError::Http { sink: sink(), source })?;
        let endpoints =
            Endpoints::of(url).ok_or_else(|| SinkBuildError::Endpoint { sink: sink(), url: url.path().to_owned() })?;
        let config = LoginConfig::Token { scheme: SCHEME, token: token.clone() };
        let login = Login::new(name, &config)?;
        Ok(Receiver { name: sink(), endpoints, login })
    }

    /// A request that brings events. The channel stands in the query too, for a proxy that strips the header.
    pub fn events(&self, lane: &Lane) -> RequestBuilder {
        lane.client.post(with_channel(&self.endpoints.events, lane))
    }

    /// A question after the receiver's health.
    pub fn health(&self, client: &HttpClient) -> RequestBuilder {
        client.get(self.endpoints.health.clone())
    }

    /// A question after acknowledgements; the channel stands in the query as in Splunk's examples.
    pub fn acknowledgements(&self, lane: &Lane) -> RequestBuilder {
        lane.client.post(with_channel(&self.endpoints.acknowledgements, lane))
    }

    /// The token may have been rotated while the circuit was open. True when it was.
    pub async fn read_token_again(&self) -> Result<bool, SendError> {
        self.login.read_again().await
    }

    /// Sends the request on this lane.
    pub async fn exchange(&self, request: RequestBuilder, lane: &mut Lane) -> Result<Heard, NoAnswer> {
        let exchange = Exchange { sink: &self.name, client: &lane.client, login: &self.login, limit: ANSWER_LIMIT };
        let heard = exchange.ask(request).await?;
        lane.hear(&heard.headers);
        Ok(heard)
    }
}

fn with_channel(endpoint: &Url, lane: &Lane) -> Url {
    let mut url = endpoint.clone();
    if let Some(channel) = lane.channel() {
        url.query_pairs_mut().append_pair("channel", channel);
    }
    url
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
}
