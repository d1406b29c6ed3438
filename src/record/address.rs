//! Addresses as the service writes them, read into their parts.
//!
//! Comes in: the text of `ClientIP`, `ClientIPAddress` or `ActorIpAddress`. Goes out: an [`Address`].
//! Forms seen: ecs-mapping, section 2, and activity-api, section 5. Nothing is looked up and nothing
//! guessed: what is no IP address stays text.

use std::net::{IpAddr, Ipv6Addr};

/// An address in its parts, borrowed from the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The IP address, where there is a valid one. An IPv4 address mapped into IPv6 is IPv4 here.
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    /// A host name, where the text has one.
    pub domain: Option<&'a str>,
    /// The address without port and brackets, or the whole text (trimmed) where its form is not known.
    pub text: &'a str,
}

impl<'a> Address<'a> {
    /// Reads an address; `None` for an empty or blank text.
    pub fn parse(text: &'a str) -> Option<Address<'a>> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        Some(literal(text).or_else(|| named(text)).unwrap_or(Address { ip: None, port: None, domain: None, text }))
    }
}

/// `IP`, `[IP]`, `IP:port`, `[IP]:port`.
fn literal(text: &str) -> Option<Address<'_>> {
    // What begins otherwise is a name or nothing, and to see that costs less than to try to read it.
    if !matches!(text.as_bytes().first()?, b'[' | b':' | b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') {
        return None;
    }
    if let Some(ip) = ip(text) {
        return Some(Address { ip: Some(ip), port: None, domain: None, text });
    }
    let (host, port) = host_and_port(text)?;
    Some(Address { ip: Some(ip(host)?), port, domain: None, text: host })
}

/// Splits a port off, if there is one; `None` where the brackets or the port make no sense.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = match after {
            "" => None,
            _ => Some(port(after.strip_prefix(':')?)?),
        };
        return Some((host, port));
    }
    if ip(text).is_some() {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, digits)) => Some((host, Some(port(digits)?))),
        None => Some((text, None)),
    }
}

fn port(digits: &str) -> Option<u16> {
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// An IP address. `ffff:a.b.c.d`, a mapped address that lost its `::`, is read as the IPv4 address it
/// carries (activity-api, section 5); a zone (`%eth0`) is left out.
fn ip(text: &str) -> Option<IpAddr> {
    // Names are many; to see that one is no address costs less than to try to read it.
    let colons = text.bytes().filter(|byte| *byte == b':').count();
    if colons == 0 {
        let begins = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
        return if begins { text.parse().ok().map(IpAddr::V4) } else { None };
    }
    let text = text.split_once('%').map_or(text, |(address, _zone)| address);
    // An IPv6 address has two colons at least.
    if colons > 1
        && let Ok(v6) = text.parse::<Ipv6Addr>()
    {
        return Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4));
    }
    let mapped = text.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case("ffff:"))?;
    text[mapped.len()..].parse().ok().map(IpAddr::V4)
}

/// `NAME (ADDR)`, `[NAME (ADDR)]`, `name`, `name:port`, `[name]:port`.
fn named(text: &str) -> Option<Address<'_>> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Some((name, address)) = inner.strip_suffix(')').and_then(|rest| rest.split_once(" (")) {
        let (name, address) = (name.trim(), address.trim());
        let read = literal(address).unwrap_or(Address { ip: None, port: None, domain: None, text: address });
        return Some(Address { domain: is_host_name(name).then_some(name), ..read }).filter(|_| !address.is_empty());
    }
    let (name, port) = host_and_port(text)?;
    is_host_name(name).then_some(Address { ip: None, port, domain: Some(name), text: name })
}

/// Letters, digits, dots, hyphens, underscores, and at least one letter: `10.9000.0.1` is no name.
fn is_host_name(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// The best of several addresses: the first with a valid IP, with the port of any other that names
/// the same IP; else the first that says anything. An empty or unreadable one never hides a good one.
pub fn best<'a>(candidates: impl IntoIterator<Item = Option<Address<'a>>> + Clone) -> Option<Address<'a>> {
    let said = || candidates.clone().into_iter().flatten();
    let Some(mut best) = said().find(|address| address.ip.is_some()) else { return said().next() };
    if best.port.is_none() {
        best.port = said().filter(|other| other.ip == best.ip).find_map(|other| other.port);
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (String, Option<u16>, Option<&str>, &str) {
        let read = Address::parse(text).unwrap();
        (read.ip.map(|ip| ip.to_string()).unwrap_or_default(), read.port, read.domain, read.text)
    }

    #[test]
    fn every_form_with_an_ip_gives_ip_and_port() {
        for (text, ip, port) in [
            ("203.0.113.7", "203.0.113.7", None),
            (" 203.0.113.7 ", "203.0.113.7", None),
            ("203.0.113.7:19823", "203.0.113.7", Some(19823)),
            ("[203.0.113.7]", "203.0.113.7", None),
            ("[203.0.113.7]:443", "203.0.113.7", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
            ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[fdfd::555]:12346", "fdfd::555", Some(12346)),
            ("2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2:3:4:5:6", Some(443)),
            ("::ffff:203.0.113.7", "203.0.113.7", None),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7", Some(80)),
            ("::ffff:203.0.113.7:80", "203.0.113.7", Some(80)),
            ("ffff:10.11.0.229", "10.11.0.229", None),
            ("fe80::1%eth0", "fe80::1", None),
        ] {
            let (read, read_port, domain, _) = parts(text);
            assert_eq!((read.as_str(), read_port, domain), (ip, port, None), "{text}");
        }
    }

    #[test]
    fn a_name_is_a_domain_and_the_port_is_taken_off() {
        assert_eq!(parts("localhost"), (String::new(), None, Some("localhost"), "localhost"));
        assert_eq!(parts("localhost:12345"), (String::new(), Some(12345), Some("localhost"), "localhost"));
        assert_eq!(parts("[pc.example.net]:9"), (String::new(), Some(9), Some("pc.example.net"), "pc.example.net"));
        assert_eq!(parts("MX01 (203.0.113.7)"), ("203.0.113.7".into(), None, Some("MX01"), "203.0.113.7"));
        assert_eq!(parts("[MX01 (203.0.113.7)]"), ("203.0.113.7".into(), None, Some("MX01"), "203.0.113.7"));
        assert_eq!(parts("MX01 (15.20.1.2.3)"), (String::new(), None, Some("MX01"), "15.20.1.2.3"));
    }

    #[test]
    fn anything_else_stays_text() {
        for text in
            ["10.9000.0.1", "1.2.3.4:99999", "[1.2.3.4", "Not Available", "1.2.3.4, 5.6.7.8", "::1:x y", "()", "x ()"]
        {
            assert_eq!(parts(text), (String::new(), None, None, text), "{text}");
        }
        assert_eq!((Address::parse(""), Address::parse(" \r\n")), (None, None));
    }

    #[test]
    fn an_empty_or_unreadable_one_never_hides_a_good_one_and_a_port_is_kept() {
        let choose = |texts: [&'static str; 3]| best(texts.map(Address::parse)).map(|a| (a.text, a.port));
        assert_eq!(choose(["", "Not Available", "203.0.113.7"]), Some(("203.0.113.7", None)));
        assert_eq!(choose(["203.0.113.7", "203.0.113.7:443", "203.0.113.9:80"]), Some(("203.0.113.7", Some(443))));
        assert_eq!(choose(["203.0.113.7", "203.0.113.9:80", ""]), Some(("203.0.113.7", None)));
        assert_eq!(choose(["", "Not Available", ""]), Some(("Not Available", None)));
        assert_eq!(choose(["", " ", ""]), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in r"\PC*|[\[\]()0-9a-fA-F:.% é]{0,40}") {
            let _ = Address::parse(&text);
        }
    }
}
