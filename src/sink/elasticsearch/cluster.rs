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
            login: Login::new(name, &config.login, &config.tls, &config.proxy)?,
        })
    }

    /// The secrets may have been rotated.
    pub fn read_login_again(&self) -> Result<bool, SendError> {
        self.login.read_again()
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
                    if error.is_login_refused {
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
