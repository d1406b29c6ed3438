//! Which requests go through which proxy. Comes in: the configuration, and where that says nothing the
//! environment, read once. Goes out: for a URL the proxy that it goes through, or none.
//!
//! Only https goes through a proxy, inside a tunnel (CONNECT): the proxy sees the host's name and never a
//! token or a record. What stays on this machine or on its link never goes through one, whatever is
//! configured, and plain http goes nowhere else. A password is read again for each tunnel, so that it may be
//! rotated, and is in no text that this module makes.

use std::env;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Proxy;
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::HttpError;
use crate::config::{Network, ProxyAddress, ProxyConfig};

/// The variables that name a proxy for https, in the order in which curl and others look at them.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// And those that name what goes past it.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The way of every request of a client. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ProxyRule(Option<Arc<Through>>);

#[derive(Debug)]
struct Through {
    address: ProxyAddress,
    exceptions: Vec<Exception>,
}

impl ProxyRule {
    /// Works out the rule.
    ///
    /// # Errors
    /// A variable of the environment names a proxy that cannot be used.
    pub fn new(config: &ProxyConfig) -> Result<ProxyRule, HttpError> {
        ProxyRule::from(config, &|name| env::var(name).ok())
    }

    fn from(config: &ProxyConfig, variable: &dyn Fn(&str) -> Option<String>) -> Result<ProxyRule, HttpError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()).map(|value| (*name, value)))
        };
        let (address, exceptions) = match config {
            ProxyConfig::Off => return Ok(ProxyRule(None)),
            ProxyConfig::Through(address) => (address.clone(), address.no_proxy.clone()),
            ProxyConfig::Environment => {
                let Some((variable, value)) = first(&VARIABLES) else { return Ok(ProxyRule(None)) };
                let address =
                    ProxyAddress::parse(value.trim()).map_err(|reason| HttpError::Proxy { variable, reason })?;
                (address, first(&EXCEPTIONS).map(|(_, value)| value).unwrap_or_default())
            }
        };
        Ok(ProxyRule(Some(Arc::new(Through { address, exceptions: exceptions_of(&exceptions) }))))
    }

    /// The proxy that a request to `url` goes through.
    pub fn of(&self, url: &Url) -> Option<&ProxyAddress> {
        let through = self.0.as_deref()?;
        let host = url.host()?;
        let port = url.port_or_known_default()?;
        let past = url.scheme() != "https"
            || is_near(&host)
            || through.exceptions.iter().any(|exception| exception.fits(&host, port));
        (!past).then_some(&through.address)
    }

    /// The proxy, for people; `None`: everything goes straight.
    pub fn shown(&self) -> Option<String> {
        self.0.as_ref().map(|through| through.address.shown())
    }

    /// The same for reqwest, with credentials.
    pub(super) fn into_proxy(self) -> Option<Proxy> {
        self.0.as_ref()?;
        Some(Proxy::custom(move |url| self.of(url).map(with_credentials)))
    }
}

/// This machine, and what is on its link: metadata services among them (169.254.169.254).
fn is_near(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback() || address.is_link_local(),
        Host::Ipv6(address) => {
            let mapped = address.to_ipv4_mapped();
            address.is_loopback()
                || address.is_unicast_link_local()
                || mapped.is_some_and(|address| address.is_loopback() || address.is_link_local())
        }
    }
}

/// An entry of `NO_PROXY`.
#[derive(Debug)]
struct Exception {
    what: What,
    port: Option<u16>,
}

#[derive(Debug)]
enum What {
    Everything,
    Network(Network),
    /// In lower case, without a leading dot: this name and all below it.
    Name(String),
}

fn exceptions_of(text: &str) -> Vec<Exception> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words.map(exception).collect()
}

fn exception(word: &str) -> Exception {
    if let Some(network) = Network::parse(word.trim_start_matches('[').trim_end_matches(']')) {
        return Exception { what: What::Network(network), port: None };
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, digits)) if digits.parse::<u16>().is_ok() => (host, digits.parse().ok()),
        _ => (word, None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let what = match Network::parse(bare) {
        _ if host == "*" => What::Everything,
        Some(network) => What::Network(network),
        None => {
            let name = host.strip_prefix('*').unwrap_or(host);
            What::Name(name.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase())
        }
    };
    Exception { what, port }
}

impl Exception {
    fn fits(&self, host: &Host<&str>, port: u16) -> bool {
        let is_host = match (&self.what, host) {
            (What::Everything, _) => true,
            (What::Network(network), Host::Ipv4(address)) => network.contains(IpAddr::V4(*address)),
            (What::Network(network), Host::Ipv6(address)) => network.contains(IpAddr::V6(*address)),
            (What::Name(name), Host::Domain(host)) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                host == *name || host.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.'))
            }
            _ => false,
        };
        is_host && self.port.is_none_or(|only| only == port)
    }
}

/// The address as reqwest takes it. A password that cannot be read is left out: the proxy then asks for it, and
/// [`unreadable_password`] says why.
fn with_credentials(address: &ProxyAddress) -> Url {
    let mut url = address.url().clone();
    // A percent sign would be taken for an escape; everything else is escaped by the URL itself.
    let escaped = |text: &str| text.replace('%', "%25");
    if let Some(name) = &address.username {
        let password = address.password.as_ref().and_then(|source| source.read().ok());
        let password = password.as_ref().map(|text| escaped(text.expose_secret())).unwrap_or_default();
        // A proxy has a host, so both can be set.
        let _ = url.set_username(&escaped(name));
        let _ = url.set_password(Some(&password));
    }
    url
}

/// Why the password of a proxy cannot be read, where it cannot.
pub(super) fn unreadable_password(address: &ProxyAddress) -> Option<String> {
    address.password.as_ref()?.read().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(proxy: &str, no_proxy: &str) -> ProxyRule {
        let variable = |name: &str| match name {
            "HTTPS_PROXY" => Some(proxy.to_owned()),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        };
        ProxyRule::from(&ProxyConfig::Environment, &variable).unwrap()
    }

    fn goes_through(rule: &ProxyRule, url: &str) -> bool {
        rule.of(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn what_stays_on_this_machine_or_its_link_and_plain_http_never_go_through() {
        let rule = rule("http://proxy:3128", "");
        for url in [
            "https://manage.office.com/x",
            "https://10.0.0.1:8088",
            "https://[2001:db8::1]/",
            "https://localhost.example",
        ] {
            assert!(goes_through(&rule, url), "{url}");
        }
        for url in [
            "https://localhost:1",
            "https://a.localhost",
            "https://127.0.0.9",
            "https://[::1]:2",
            "https://[::ffff:127.0.0.1]",
            "http://169.254.169.254/metadata",
            "https://169.254.1.1",
            "https://[fe80::1]",
            "http://manage.office.com",
        ] {
            assert!(!goes_through(&rule, url), "{url}");
        }
    }

    #[test]
    fn no_proxy_takes_names_with_all_below_them_addresses_networks_and_ports() {
        let rule =
            rule("proxy:3128", "splunk.example, .corp *.lab,10.0.0.0/8 192.0.2.7,[2001:db8::]/32 only.port:8088");
        for url in [
            "https://splunk.example",
            "https://Hec.Splunk.Example:8088",
            "https://a.corp",
            "https://corp",
            "https://b.lab",
            "https://10.200.0.1",
            "https://192.0.2.7:9",
            "https://only.port:8088",
        ] {
            assert!(!goes_through(&rule, url), "{url}");
        }
        for url in
            ["https://notsplunk.example", "https://11.0.0.1", "https://192.0.2.8", "https://only.port", "https://xcorp"]
        {
            assert!(goes_through(&rule, url), "{url}");
        }
        assert!(!goes_through(&self::rule("proxy:1", "*"), "https://manage.office.com"));
    }

    #[test]
    fn the_configuration_goes_before_the_environment() {
        let variable = |_: &str| Some("http://of-the-environment:1".to_owned());
        let url = Url::parse("https://manage.office.com").unwrap();
        let shown = |config| {
            let rule = ProxyRule::from(&config, &variable).unwrap();
            rule.of(&url).map(ProxyAddress::shown)
        };
        assert_eq!(shown(ProxyConfig::Off), None);
        let own = ProxyConfig::Through(ProxyAddress::parse("of-the-file:2").unwrap());
        assert_eq!(shown(own).as_deref(), Some("http://of-the-file:2"));
        // NO_PROXY is the same text here and fits no host.
        assert_eq!(shown(ProxyConfig::Environment).as_deref(), Some("http://of-the-environment:1"));
    }

    #[test]
    fn a_variable_that_names_no_usable_proxy_is_named_without_its_value() {
        let socks = |name: &str| (name == "all_proxy").then(|| "socks5://u:hunter2@proxy:1080".to_owned());
        let error = ProxyRule::from(&ProxyConfig::Environment, &socks).unwrap_err().to_string();
        assert!(error.contains("`all_proxy`") && error.contains("SOCKS") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn credentials_come_out_as_they_went_in() {
        let mut address = ProxyAddress::parse("http://proxy:3128").unwrap();
        address.username = Some("dom\\ann@x".to_owned());
        address.password = Some(crate::secret::SecretSource::Value("p%41:/@ ü".to_owned().into()));
        let url = with_credentials(&address);
        let again = ProxyAddress::parse(url.as_str()).unwrap();
        assert_eq!(again.username.as_deref(), Some("dom\\ann@x"));
        assert_eq!(again.password.unwrap().read().unwrap().expose_secret(), "p%41:/@ ü");
        assert!(!format!("{address:?}").contains("p%41"));
    }
}
