//! HTTP clients: one way to build them, for the source and the sinks alike.
//!
//! Comes in: TLS settings, the way out (a proxy or none) and a time limit. Goes out: an [`HttpClient`] that follows
//! no redirect (a redirect would carry a token to a host nobody configured), speaks TLS 1.2 or newer, waits at most
//! [`CONNECT_TIMEOUT`] for a connection, and sends plain HTTP to nobody but this machine: [`require_https`] is
//! asked for each configured URL, and a [`proxy`] is used for https alone. What went wrong is said with the proxy,
//! the cause and the way out, and never with a credential.

mod proxy;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{
    Certificate, Client, ClientBuilder, Identity, IntoUrl, Method, Request, RequestBuilder, Response, redirect, tls,
};
use url::Url;

pub use proxy::ProxyRule;

use crate::advice;
use crate::config::{ProxyConfig, TlsConfig, is_private};

/// How long a connection, TLS included, may take to stand. A receiver that needs longer is down.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may stay unused; below the 60 s after which common load balancers drop one silently.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// How often a request that was given back unsent goes out once more, on a new connection each time. A server that
/// ends a connection as soon as it stands (TLS 1.3 refuses a client certificate only then, RFC 8446 4.4.2.4) may be
/// faster than the request, and its reason is lost with that connection; the next one mostly brings it.
const UNSENT_TRIES: usize = 3;

/// How hyper says that a connection ended before it took the request.
const UNSENT: &str = "client error (Canceled)";

/// Named in every request.
const USER_AGENT: &str = concat!("auditferry/", env!("CARGO_PKG_VERSION"));

/// A client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot read `{path}`: {source}; check that the file is mounted and readable")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "`{path}` holds no usable PEM certificate: {reason}; give a file with one or more `BEGIN CERTIFICATE` blocks"
    )]
    Certificate { path: PathBuf, reason: String },
    #[error("`{path}` and its key make no client certificate: {reason}; give PEM files that belong together")]
    Identity { path: PathBuf, reason: String },
    #[error("a client certificate needs both `cert_file` and `key_file`; give the one that is missing")]
    HalfIdentity,
    #[error("`{url}` is plain http to another machine, where anybody could read the token; use https")]
    PlainHttp { url: String },
    #[error("the proxy in `{variable}` is not usable: {reason}; give it as `http://host:port`, or set `proxy: off`")]
    Proxy { variable: &'static str, reason: &'static str },
    #[error("cannot build an HTTP client: {0}; check the TLS settings")]
    Build(String),
}

/// A client with these TLS settings that goes this way. `timeout` bounds a whole exchange, from connecting to
/// the last byte of the answer; `None` leaves that to the caller.
pub fn client(tls: &TlsConfig, proxy: &ProxyConfig, timeout: Option<Duration>) -> Result<HttpClient, HttpError> {
    Outfit::read(tls, proxy)?.client(timeout)
}

/// A client, and by which way its requests go. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    way: ProxyRule,
}

/// No answer, or not all of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot reach `{host}`{through}: {reason}")]
pub struct HttpFailure {
    /// Host and port.
    host: String,
    /// ` through the proxy …`, where there is one.
    pub through: String,
    /// The causes, and what to do.
    pub reason: String,
    /// The causes alone.
    causes: String,
    /// Nothing was sent: the connection did not come about.
    pub is_connect: bool,
}

impl HttpFailure {
    /// All but what to do, for whoever knows better.
    pub fn without_advice(&self) -> String {
        format!("cannot reach `{}`{}: {}", self.host, self.through, self.causes)
    }
}

impl HttpClient {
    /// Sends a request; returns when the head of the answer is there. It is sent again only if not a byte of it
    /// was sent.
    pub async fn execute(&self, mut request: Request) -> Result<Response, HttpFailure> {
        for _ in 0..UNSENT_TRIES {
            let Some(again) = request.try_clone() else { break };
            match self.client.execute(request).await {
                Err(error) if is_unsent(&error) => request = again,
                answer => return answer.map_err(|error| self.failure(&error)),
            }
        }
        self.client.execute(request).await.map_err(|error| self.failure(&error))
    }

    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder {
        self.client.get(url)
    }

    pub fn post(&self, url: impl IntoUrl) -> RequestBuilder {
        self.client.post(url)
    }

    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// What an error of one of this client's requests means.
    pub fn failure(&self, error: &reqwest::Error) -> HttpFailure {
        let through = error.url().and_then(|url| self.way.of(url));
        let unreadable =
            through.and_then(proxy::unreadable_password).map_or_else(String::new, |why| format!("; {why}"));
        let causes = causes(error);
        let host = error.url().and_then(|url| Some((url.host_str()?, url.port())));
        HttpFailure {
            host: host.map_or_else(String::new, |(host, port)| {
                port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
            }),
            through: through.map_or_else(String::new, |proxy| format!(" through the proxy `{}`", proxy.shown())),
            reason: format!("{causes}{}{unreadable}", advice::hint(&causes)),
            causes,
            is_connect: error.is_connect() || is_unsent(error),
        }
    }
}

/// TLS settings with what their files hold, and the way out, read once for many clients.
#[derive(Clone)]
pub struct Outfit {
    authorities: Option<Vec<Certificate>>,
    with_platform: bool,
    identity: Option<Identity>,
    verify: bool,
    way: ProxyRule,
}

impl Outfit {
    /// Reads the files, and warns where verification is off.
    pub fn read(tls: &TlsConfig, proxy: &ProxyConfig) -> Result<Outfit, HttpError> {
        let authorities = tls.ca_file.as_deref().map(certificates).transpose()?;
        let identity = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => Some(identity(cert, key)?),
            (None, None) => None,
            _ => return Err(HttpError::HalfIdentity),
        };
        let verify = tls.verify != Some(false);
        if !verify {
            tracing::warn!(
                "tls verification is off: anybody on the way can read the token and every record; give `ca_file` instead"
            );
        }
        let way = ProxyRule::new(proxy)?;
        if let Some(proxy) = way.shown() {
            tracing::info!(proxy, "https goes through a proxy, but for what is named as an exception");
        }
        Ok(Outfit { authorities, with_platform: tls.with_platform, identity, verify, way })
    }

    /// As [`client`].
    pub fn client(&self, timeout: Option<Duration>) -> Result<HttpClient, HttpError> {
        self.build(self.builder(timeout))
    }

    /// A client that keeps no more than one connection for its next exchange: whoever makes one exchange
    /// after the other stays with one server behind a load balancer.
    pub fn client_of_one_connection(&self, timeout: Option<Duration>) -> Result<HttpClient, HttpError> {
        self.build(self.builder(timeout).pool_max_idle_per_host(1))
    }

    fn builder(&self, timeout: Option<Duration>) -> ClientBuilder {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(USER_AGENT)
            .tls_version_min(tls::Version::TLS_1_2)
            .no_proxy();
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(proxy) = self.way.clone().into_proxy() {
            builder = builder.proxy(proxy);
        }
        if let Some(authorities) = &self.authorities {
            builder = match self.with_platform {
                true => builder.tls_certs_merge(authorities.clone()),
                false => builder.tls_certs_only(authorities.clone()),
            };
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        if !self.verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder
    }

    fn build(&self, builder: ClientBuilder) -> Result<HttpClient, HttpError> {
        let client = builder.build().map_err(|error| HttpError::Build(error_chain(&error)))?;
        Ok(HttpClient { client, way: self.way.clone() })
    }
}

/// Refuses plain http to anything but this machine.
pub fn require_https(url: &Url) -> Result<(), HttpError> {
    if is_private(url) {
        return Ok(());
    }
    let mut shown = url.clone();
    // A password in a URL must not end in a log.
    let _ = shown.set_password(None);
    Err(HttpError::PlainHttp { url: shown.to_string() })
}

/// Whether the request came back as it was: its connection had ended before.
fn is_unsent(error: &reqwest::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == UNSENT)
}

/// An error with all its causes, and what to do where one of them is known.
pub fn error_chain(error: &reqwest::Error) -> String {
    let text = causes(error);
    let hint = advice::hint(&text);
    text + &hint
}

/// An error with all its causes: reqwest's own text says only "error sending request". The URL is left out, since the
/// caller names what it spoke to.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match (text.is_empty(), error.is_timeout()) {
        (false, _) => text,
        (true, true) => "no answer within the time limit".to_owned(),
        (true, false) => "the exchange failed".to_owned(),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, HttpError> {
    let refuse = |reason: String| HttpError::Certificate { path: path.to_owned(), reason };
    let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(|error| refuse(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse("there is none in it".to_owned()));
    }
    Ok(certificates)
}

fn identity(cert: &Path, key: &Path) -> Result<Identity, HttpError> {
    let mut pem = read(cert)?;
    pem.push(b'\n');
    pem.extend(read(key)?);
    Identity::from_pem(&pem).map_err(|error| HttpError::Identity { path: cert.to_owned(), reason: error.to_string() })
}

fn read(path: &Path) -> Result<Vec<u8>, HttpError> {
    std::fs::read(path).map_err(|source| HttpError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(tls: &TlsConfig) -> Result<HttpClient, HttpError> {
        client(tls, &ProxyConfig::Off, Some(Duration::from_secs(5)))
    }

    fn allowed(url: &str) -> bool {
        require_https(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for url in ["https://splunk:8088", "http://127.0.0.1:1", "http://localhost:1/x", "http://[::1]:8"] {
            assert!(allowed(url), "{url}");
        }
        for url in ["http://splunk:8088", "http://10.0.0.1", "http://localhost.evil.example", "ftp://127.0.0.1"] {
            assert!(!allowed(url), "{url}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let error = require_https(&Url::parse("http://user:hunter2@splunk").unwrap()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "not a certificate").unwrap();
        let tls = TlsConfig { ca_file: Some(path), ..TlsConfig::default() };
        assert!(matches!(direct(&tls), Err(HttpError::Certificate { .. })));
        let tls = TlsConfig { cert_file: Some("cert.pem".into()), ..TlsConfig::default() };
        assert!(matches!(direct(&tls), Err(HttpError::HalfIdentity)));
        assert!(direct(&TlsConfig::default()).is_ok());
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        use axum::{Router, response::Redirect, routing::get};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/from", listener.local_addr().unwrap());
        let app = Router::new().route("/from", get(|| async { Redirect::temporary("/to") }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let answer = direct(&TlsConfig::default()).unwrap().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 307);
    }
}
