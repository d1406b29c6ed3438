//! The cluster: its addresses, our login, and one exchange with it. Comes in: what to ask. Goes out: the answer of the
//! first address that had one. Another address is asked at once only where nothing of the request may have arrived;
//! else the driver sends again, which `_id` and `create` make harmless. Judges nothing.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use url::Url;

use super::hosts::Hosts;
use crate::config::ElasticsearchConfig;
use crate::http::{self, HttpClient};
use crate::sink::web::{ANSWER_LIMIT, Exchange, Heard, Login, NoAnswer};
use crate::sink::{SendError, SinkBuildError};

/// One cluster.
pub(super) struct Cluster {
    /// Name of the sink.
    name: String,
    hosts: Hosts,
    client: HttpClient,
    login: Login,
}

/// One request.
pub(super) struct Question<'a> {
    pub method: Method,
    /// Below the address, each to be escaped.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    pub body: Option<Body>,
    /// Bytes of the answer that are read.
    pub limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

/// What a request carries.
pub(super) struct Body {
    pub bytes: Bytes,
    pub kind: &'static str,
    pub gzip: bool,
}

impl<'a> Question<'a> {
    pub fn new(method: Method, path: &'a [&'a str]) -> Question<'a> {
        Question { method, path, query: &[], body: None, limit: ANSWER_LIMIT }
    }

    pub fn json(mut self, bytes: Vec<u8>) -> Question<'a> {
        self.body = Some(Body { bytes: bytes.into(), kind: "application/json", gzip: false });
        self
    }
}

impl Cluster {
    /// Reads files and secrets; asks nobody.
    pub fn new(name: &str, config: &ElasticsearchConfig) -> Result<Cluster, SinkBuildError> {
        let in_http = |source| SinkBuildError::Http { sink: name.to_owned(), source };
        for url in &config.urls {
            http::require_https(url).map_err(in_http)?;
        }
        Ok(Cluster {
            name: name.to_owned(),
            hosts: Hosts::new(config.urls.clone()),
            client: http::client(&config.tls, &config.proxy, Some(config.timeout)).map_err(in_http)?,
            login: Login::new(name, &config.login)?,
        })
    }

    /// The secrets may have been rotated.
    pub async fn read_login_again(&self) -> Result<bool, SendError> {
        self.login.read_again().await
    }

    /// Asks one address after the other until one answers, as far as nothing may have arrived.
    pub async fn ask(&self, question: &Question<'_>) -> Result<Heard, NoAnswer> {
        let mut tries = self.hosts.len();
        loop {
            tries -= 1;
            let (number, url) = self.hosts.pick();
            let exchange =
                Exchange { sink: &self.name, client: &self.client, login: &self.login, limit: question.limit };
            match exchange.ask(self.request(url, question)).await {
                Ok(heard) => {
                    match heard.status {
                        // What stands there, or in front of it, cannot; another may.
                        502..=504 => _ = self.hosts.failed(number),
                        _ => self.hosts.well(number),
                    }
                    return Ok(heard);
                }
                Err(error) => {
                    // No address is to blame, and another needs the same.
                    if error.is_of_login {
                        return Err(error);
                    }
                    let another = self.hosts.failed(number);
                    if error.may_have_arrived || !another || tries == 0 {
                        return Err(error);
                    }
                    tracing::debug!(sink = %self.name, reason = error.reason, "another address of the cluster is asked");
                }
            }
        }
    }

    fn request(&self, base: &Url, question: &Question<'_>) -> reqwest::RequestBuilder {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(question.path);
        }
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(question.query);
        }
        let mut request = match question.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url),
            Method::Put => self.client.request(reqwest::Method::PUT, url),
        };
        request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = &question.body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(body.kind)).body(body.bytes.clone());
            if body.gzip {
                request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SinkKind, load_str};

    #[tokio::test]
    async fn no_address_rests_because_no_token_could_be_had() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "tenants:\n  - {{ name: t, tenant_id: 00000000-0000-4000-8000-000000000001, client_id: 00000000-0000-4000-9000-000000000000, auth: {{ client_secret: s }} }}\nsinks:\n  - name: es\n    type: elasticsearch\n    urls: [\"http://127.0.0.1:9201\", \"http://127.0.0.1:9202\"]\n    auth: {{ oauth2: {{ token_url: \"http://{closed}/token\", client_id: c, client_secret: s }} }}\n"
        );
        let config = load_str("test", &text).unwrap();
        let SinkKind::Elasticsearch(elasticsearch) = &config.sinks[0].kind else { panic!("another kind") };
        let cluster = Cluster::new("es", elasticsearch).unwrap();
        let question = Question { method: Method::Get, path: &[], query: &[], body: None, limit: 1024 };
        for _ in 0..4 {
            let error = cluster.ask(&question).await.err().unwrap();
            assert!(error.is_of_login && error.reason.contains("token"), "{}", error.reason);
        }
        let picked: std::collections::BTreeSet<usize> = (0..4).map(|_| cluster.hosts.pick().0).collect();
        assert_eq!(picked.len(), 2, "both take their turns");
    }
}
