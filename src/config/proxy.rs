//! `proxy:` as written and as meant: an address by itself, `off`, `environment`, or a mapping. Comes in: a node of
//! the tree, or the value of a variable. Goes out: [`ProxyConfig`]. A fault never repeats an address: a password
//! may stand in it, and a secret never leaves by `Debug` or [`ProxyAddress::shown`].

use std::fmt;

use secrecy::SecretString;
use url::Url;

use super::check::warn_of_literal;
use super::condition::Network;
use super::faults::{Place, Reader};
use super::interpolate::{interpolate, is_literal};
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, refuse_unknown, section};
use super::tree::{Entry, Node, Value};
use super::values::{At, FromNode, Secret};
use crate::secret::SecretSource;

const WANTED: &str = "write `http://proxy:3128`, `{ url: …, username: …, password: \"${file:…}\", no_proxy: … }`, `off` or `environment`";

/// How requests leave this machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ProxyConfig {
    /// As `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// Straight, whatever the environment says.
    Off,
    Through(ProxyAddress),
}

/// A proxy, by what right it is used, and what goes past it.
#[derive(Clone, PartialEq)]
pub struct ProxyAddress {
    /// Scheme, host and port; no credentials.
    url: Url,
    pub username: Option<String>,
    pub password: Option<SecretSource>,
    /// As `NO_PROXY` is written: names (with all below them), addresses, networks, `*`, each with or without a port.
    pub no_proxy: String,
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyAddress").field("url", &self.shown()).field("no_proxy", &self.no_proxy).finish()
    }
}

impl ProxyAddress {
    /// Reads `http://user:password@host:port`; without a scheme it is http. The error says what is wrong and
    /// never repeats the text.
    pub fn parse(text: &str) -> Result<ProxyAddress, &'static str> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&with_scheme).map_err(|_| "it is not an address")?;
        match url.scheme() {
            "http" | "https" => {}
            "socks4" | "socks4a" | "socks5" | "socks5h" => return Err("SOCKS is not spoken, an HTTP proxy is wanted"),
            _ => return Err("its scheme is neither http nor https"),
        }
        if !url.has_host() || !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("scheme, host and port are wanted and nothing behind");
        }
        let username = (!url.username().is_empty()).then(|| decoded(url.username()));
        let password = url.password().map(|text| SecretSource::Value(SecretString::from(decoded(text))));
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| "it is not an address")?;
        Ok(ProxyAddress { url, username, password, no_proxy: String::new() })
    }

    /// For people: `http://proxy:3128`.
    pub fn shown(&self) -> String {
        let default = if self.url.scheme() == "https" { 443 } else { 80 };
        let port = self.url.port().unwrap_or(default);
        format!("{}://{}:{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// Scheme, host and port; no credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// `%41` is `A`; what is not an escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

section! {
    ProxyMapping in "`proxy`" {
        /// Scheme, host and port, as `http://proxy:3128`.
        url: ProxyUrl,
        /// The name, where the proxy asks for one.
        username: String,
        /// Best as "${file:/run/secrets/…}".
        password: Secret,
        /// What goes past the proxy: names with all below them, addresses, networks, each with or without a port.
        no_proxy: Vec<At<String>>,
    } later {}
}

/// The section with its keys, for [`super::file::ALL_KEYS`].
pub(super) const SECTION: (&str, &[&str]) = (ProxyMapping::TITLE, ProxyMapping::KEYS);

/// `proxy:` as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProxyFile(pub ProxyConfig);

impl FromNode for ProxyFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<ProxyFile> {
        match &node.value {
            Value::Map(_) => mapping(node, reader).map(|address| ProxyFile(ProxyConfig::Through(address))),
            Value::Scalar(written) => match written.as_str() {
                "off" => Some(ProxyFile(ProxyConfig::Off)),
                "environment" => Some(ProxyFile(ProxyConfig::Environment)),
                _ => address(written, &node.place, reader).map(|found| ProxyFile(ProxyConfig::Through(found))),
            },
            other => {
                reader.fault(&node.place, format!("here stands {}, a proxy is wanted", other.shape()), WANTED);
                None
            }
        }
    }

    fn schema() -> Schema {
        let mut mapping = ProxyMapping::schema();
        mapping["required"] = serde_json::json!(["url"]);
        schema::any_of([schema::text(), mapping])
    }
}

/// The address of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProxyUrl(ProxyAddress);

impl FromNode for ProxyUrl {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<ProxyUrl> {
        let Value::Scalar(written) = &node.value else {
            reader.fault(&node.place, format!("here stands {}, an address is wanted", node.value.shape()), WANTED);
            return None;
        };
        address(written, &node.place, reader).map(ProxyUrl)
    }

    fn schema() -> Schema {
        schema::text()
    }
}

fn address(written: &str, place: &Place, reader: &mut Reader<'_>) -> Option<ProxyAddress> {
    let value = interpolate(written, place, reader)?;
    match ProxyAddress::parse(value.trim()) {
        Ok(address) => {
            if address.password.is_some() && is_literal(written) {
                warn_of_literal(place, "proxy's password", reader);
            }
            Some(address)
        }
        Err(why) => {
            reader.fault(place, format!("the proxy's address is not usable: {why}"), WANTED);
            None
        }
    }
}

fn mapping(node: &Node, reader: &mut Reader<'_>) -> Option<ProxyAddress> {
    let file = ProxyMapping::from_node(node, reader)?;
    let url = file.url.required("url", ProxyMapping::TITLE, &file.place, WANTED, reader);
    let no_proxy = file.no_proxy.value().unwrap_or_default();
    for at in &no_proxy {
        let wrong = at.value.split([',', ' ']).find(|word| word.contains('/') && Network::parse(word).is_none());
        if let Some(wrong) = wrong {
            let wrong = if reader.is_literal(&at.place) { format!("`{wrong}`") } else { "a word".to_owned() };
            reader.fault(
                &at.place,
                format!("{wrong} in `no_proxy` is neither a name nor a network"),
                "write names without a scheme, addresses, or networks such as 10.0.0.0/8",
            );
        }
    }
    let mut address = url?.value.0;
    if let Field::Given(name) = file.username {
        address.username = Some(name.value);
    }
    if let Field::Given(password) = file.password {
        if password.value.literal {
            warn_of_literal(&password.place, "proxy's password", reader);
        }
        address.password = Some(password.value.source);
    }
    if address.password.is_some() && address.username.is_none() {
        reader.fault(&file.place, "the proxy has a password and no `username`", "give both, or neither");
    }
    address.no_proxy = no_proxy.into_iter().map(|at| at.value).collect::<Vec<_>>().join(",");
    Some(address)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::config::load::load_text;

    fn text(proxy: &str) -> String {
        format!(
            "proxy: {proxy}\ntenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks: [{{name: out, type: stdout}}, {{name: hec, type: splunk_hec, url: 'https://s:8088', token: t}}]"
        )
    }

    fn load(proxy: &str) -> Result<ProxyConfig, String> {
        let loaded = load_text("c.yaml", &text(proxy), &|name| (name == "PASS").then(|| "p%/:@".to_owned()));
        loaded.map(|loaded| loaded.config.collect.proxy).map_err(|faults| faults.to_string())
    }

    fn through(proxy: &str) -> ProxyAddress {
        match load(proxy) {
            Ok(ProxyConfig::Through(address)) => address,
            other => panic!("{proxy}: {other:?}"),
        }
    }

    #[test]
    fn every_way_to_write_a_proxy() {
        assert!(matches!(load("off"), Ok(ProxyConfig::Off)));
        assert!(matches!(load("environment"), Ok(ProxyConfig::Environment)));
        assert!(matches!(load(""), Ok(ProxyConfig::Environment)));
        assert_eq!(through("proxy:3128").shown(), "http://proxy:3128");
        assert_eq!(through("'https://proxy'").shown(), "https://proxy:443");
        let address = through("'http://ann:s%40%25cret@proxy:3128/'");
        assert_eq!((address.shown().as_str(), address.username.as_deref()), ("http://proxy:3128", Some("ann")));
        assert_eq!(address.password.unwrap().read().unwrap().expose_secret(), "s@%cret");
        let address = through("{url: proxy:1, username: ann, password: '${PASS}', no_proxy: [a.example, 10.0.0.0/8]}");
        assert_eq!(address.password.unwrap().read().unwrap().expose_secret(), "p%/:@");
        assert_eq!(address.no_proxy, "a.example,10.0.0.0/8");
        assert_eq!(through("{url: proxy:1, no_proxy: 'a, b'}").no_proxy, "a, b");
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for (wrong, part) in [
            ("'socks5://u:hunter2@proxy:1080'", "SOCKS"),
            ("'http://u:hunter2@proxy:99999'", "not an address"),
            ("'http://u:hunter2@proxy/path'", "nothing behind"),
            ("'ftp://u:hunter2@proxy'", "neither http nor https"),
            ("[hunter2]", "a proxy is wanted"),
            ("{url: proxy:1, password: hunter2}", "no `username`"),
            ("{username: hunter2}", "`url` is missing"),
            ("{url: proxy:1, no_proxy: 'http://a'}", "neither a name nor a network"),
            ("{url: proxy:1, user: hunter2}", "known here: url"),
        ] {
            let said = load(wrong).expect_err(wrong);
            assert!(said.contains(part) && !said.contains("hunter2"), "{wrong}\n{said}");
        }
        let debug = format!("{:?}", through("'http://ann:hunter2@proxy:3128'"));
        assert!(!debug.contains("hunter2") && debug.contains("proxy:3128"), "{debug}");
    }
}
