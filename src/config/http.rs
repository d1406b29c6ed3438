//! A sink that speaks HTTP, as meant, and what each preset decides. Comes in: what `check_http` found good. Goes out:
//! the sink's [`HttpConfig`]. Opens nothing but a file that holds an address; `Debug` shows no secret.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use url::Url;

use super::{LoginConfig, ProxyConfig, SecretHeader, SignatureConfig, TlsConfig, is_private};
use crate::secret::{SecretError, SecretSource};

/// A receiver and how it wants its events.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    pub address: HttpAddress,
    /// `POST`, `PUT` or `PATCH`.
    pub method: &'static str,
    pub preset: Option<HttpPreset>,
    pub encoding: HttpEncoding,
    /// Of a single event, with places; `None`: the event itself, or what the preset makes of it.
    pub body: Option<String>,
    pub headers: Vec<SecretHeader>,
    pub login: LoginConfig,
    pub signature: Option<SignatureConfig>,
    pub gzip: bool,
    /// Statuses that mean "taken", both ends included.
    pub success: Vec<(u16, u16)>,
    pub tls: TlsConfig,
    pub proxy: ProxyConfig,
    /// For one request, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

/// How events stand in a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpEncoding {
    /// One line each.
    Ndjson,
    JsonArray,
    /// One event a request.
    Single,
}

/// A receiver that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpPreset {
    /// An incoming webhook of Slack.
    Slack,
    /// A webhook of Microsoft Teams, made by the Workflows app.
    Teams,
    /// The Logs Ingestion API of Azure Monitor, which Microsoft Sentinel reads.
    Sentinel,
    /// Logs by OTLP over HTTP, as JSON.
    Otlp,
}

/// What a preset starts from, and what its receiver cannot do otherwise.
#[derive(Clone, Copy, Debug)]
pub struct HttpPresetDefaults {
    pub name: &'static str,
    pub encoding: HttpEncoding,
    pub gzip: bool,
    /// Statuses by which it says that it took a request, both ends included; unless others are given.
    pub success: (u16, u16),
    /// Bytes of a body, before compression, that the receiver takes; of Slack characters.
    pub max_body: Option<usize>,
    /// Events a second, where the receiver says how many.
    pub events_per_second: Option<u64>,
    /// Whether the address by itself is the right to send.
    pub is_secret_address: bool,
}

/// What means "taken" where nothing else is known (RFC 9110, 15.3).
pub(super) const SUCCESS: (u16, u16) = (200, 299);
/// The Logs Ingestion API takes 1 MB a call, compressed or not (Azure Monitor service limits, "Logs Ingestion API").
pub const SENTINEL_BODY: usize = 1_000_000;
/// A message of Teams may have 28 KB (Microsoft Teams, "Create and send messages": limits); a flow takes more and
/// fails later, where nobody would hear of it.
pub const TEAMS_BODY: usize = 28_000;
/// Slack cuts a text above 40,000 characters ("Truncating really long messages") and says `ok` all the same; those of
/// the body are a few more than those of its text.
pub const SLACK_BODY: usize = 40_000;

impl HttpPreset {
    pub const ALL: [HttpPreset; 4] = [HttpPreset::Slack, HttpPreset::Teams, HttpPreset::Sentinel, HttpPreset::Otlp];

    pub const fn defaults(self) -> HttpPresetDefaults {
        const CHAT: HttpPresetDefaults = HttpPresetDefaults {
            name: "slack",
            encoding: HttpEncoding::Single,
            gzip: false,
            success: SUCCESS,
            max_body: Some(SLACK_BODY),
            // Slack, "Rate limits": one message a second and channel; Teams throttles above four requests a second.
            events_per_second: Some(1),
            is_secret_address: true,
        };
        match self {
            HttpPreset::Slack => CHAT,
            // Workflows, "When a Teams webhook request is received": 202 Accepted.
            HttpPreset::Teams => {
                HttpPresetDefaults { name: "teams", success: (202, 202), max_body: Some(TEAMS_BODY), ..CHAT }
            }
            HttpPreset::Sentinel => HttpPresetDefaults {
                name: "sentinel",
                encoding: HttpEncoding::JsonArray,
                gzip: true,
                // "Logs Ingestion API", response codes: nothing else of 2xx; a page of a proxy in between would be a loss.
                success: (204, 204),
                max_body: Some(SENTINEL_BODY),
                events_per_second: None,
                is_secret_address: false,
            },
            HttpPreset::Otlp => HttpPresetDefaults {
                name: "otlp",
                encoding: HttpEncoding::JsonArray,
                gzip: true,
                success: SUCCESS,
                max_body: None,
                events_per_second: None,
                is_secret_address: false,
            },
        }
    }

    /// Whether a person reads it, one message an event.
    pub const fn is_chat(self) -> bool {
        matches!(self, HttpPreset::Slack | HttpPreset::Teams)
    }

    /// The address that requests go to: what a preset knows of it is filled in.
    pub fn complete(self, mut url: Url) -> Url {
        match self {
            HttpPreset::Sentinel if url.query().is_none() => url.set_query(Some("api-version=2023-01-01")),
            HttpPreset::Otlp if url.path() == "/" => url.set_path("/v1/logs"),
            _ => {}
        }
        url
    }
}

/// Where to send; the address may be a secret, as of a webhook.
#[derive(Clone, PartialEq)]
pub struct HttpAddress {
    /// Read when the sink is built, and again in a probe.
    pub source: SecretSource,
    /// Nothing but scheme and host is ever shown.
    pub is_secret: bool,
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpAddressError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the address is no URL of http or https; give it whole, as `https://host/path`")]
    NoUrl,
    #[error("the address holds credentials or a fragment; give `auth` for the first and leave the second out")]
    Extra,
    #[error("the address is plain http to another machine, where anybody could read the records; use https")]
    PlainHttp,
}

impl HttpAddress {
    /// The address as it stands now.
    pub fn read(&self) -> Result<Url, HttpAddressError> {
        let text = self.source.read()?;
        let url = Url::parse(text.expose_secret().trim()).map_err(|_| HttpAddressError::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(HttpAddressError::NoUrl);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(HttpAddressError::Extra);
        }
        if !is_private(&url) {
            return Err(HttpAddressError::PlainHttp);
        }
        Ok(url)
    }

    /// For people: scheme and host, and the path where it is no secret; else the file that it stands in.
    pub fn shown(&self) -> String {
        match (&self.source, self.read()) {
            (_, Ok(url)) if self.is_secret => format!("{}/…", url.origin().ascii_serialization()),
            (_, Ok(url)) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            (SecretSource::File(path), Err(_)) => format!("the address in {}", path.display()),
            (SecretSource::Value(_), Err(_)) => "an address that cannot be read".to_owned(),
        }
    }

    /// The file that holds it.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            SecretSource::File(path) => Some(path),
            SecretSource::Value(_) => None,
        }
    }
}

impl fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpAddress").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, is_secret: bool) -> HttpAddress {
        HttpAddress { source: SecretSource::Value(text.to_owned().into()), is_secret }
    }

    #[test]
    fn a_secret_address_is_shown_as_its_host_only() {
        let secret = address("https://hooks.slack.com/services/T0/B0/canary", true);
        assert_eq!(secret.shown(), "https://hooks.slack.com/…");
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(address("https://soc.example:8443/in?key=canary", false).shown(), "https://soc.example:8443/in");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["soc.example", "ftp://soc.example/", "https://a:b@soc.example/", "https://soc.example/#x"] {
            assert!(address(wrong, false).read().is_err(), "{wrong}");
        }
        assert!(matches!(address("http://soc.example/", false).read(), Err(HttpAddressError::PlainHttp)));
        assert!(address("http://127.0.0.1:1/x?y=z", false).read().is_ok());
    }

    #[test]
    fn a_preset_fills_in_what_it_knows_and_leaves_what_is_given() {
        let complete = |preset: HttpPreset, url: &str| preset.complete(Url::parse(url).unwrap()).to_string();
        assert_eq!(complete(HttpPreset::Otlp, "https://c:4318"), "https://c:4318/v1/logs");
        assert_eq!(complete(HttpPreset::Otlp, "https://c/otlp/v1/logs"), "https://c/otlp/v1/logs");
        let rule = "https://d/dataCollectionRules/dcr-1/streams/Custom-A";
        assert_eq!(complete(HttpPreset::Sentinel, rule), format!("{rule}?api-version=2023-01-01"));
        assert_eq!(complete(HttpPreset::Sentinel, &format!("{rule}?api-version=x")), format!("{rule}?api-version=x"));
    }
}
