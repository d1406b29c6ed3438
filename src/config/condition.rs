//! When a sink wants an event, as meant: `when:` after the check. Comes in: what `when.rs` read. Goes
//! out: plain values that `route` judges events by. Judges nothing itself.

use std::fmt;
use std::net::IpAddr;

/// A condition: all of `tests` hold and, where `any` is not empty, one of those conditions does too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    pub tests: Vec<Test>,
    pub any: Vec<When>,
}

/// One key of a condition; it holds when one of `wanted` fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub key: Key,
    pub wanted: Vec<Matcher>,
}

/// What a condition may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The configured name.
    Tenant,
    ContentType,
    Workload,
    Operation,
    /// `success`, `failure`, or `unknown` where the record does not say.
    Outcome,
    /// `audit`: a record of the service. `alert`: made here; none are yet.
    Kind,
    RecordType,
    /// `UserId`.
    User,
    /// The actor's address, as in `source.ip`.
    SourceIp,
}

impl Key {
    /// All of them, in the order of the documentation.
    pub const ALL: [Key; 9] = [
        Key::Tenant,
        Key::ContentType,
        Key::Workload,
        Key::Operation,
        Key::Outcome,
        Key::Kind,
        Key::RecordType,
        Key::User,
        Key::SourceIp,
    ];

    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Key::Tenant => "tenant",
            Key::ContentType => "content_type",
            Key::Workload => "workload",
            Key::Operation => "operation",
            Key::Outcome => "outcome",
            Key::Kind => "kind",
            Key::RecordType => "record_type",
            Key::User => "user",
            Key::SourceIp => "source_ip",
        }
    }
}

/// What a value may be. Text is compared without regard to the case of ASCII letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    Is(String),
    Prefix(String),
    /// A record type.
    Number(i64),
    Network(Network),
    /// None of these.
    Not(Vec<Matcher>),
    /// All of these, each with its alternatives.
    All(Vec<Vec<Matcher>>),
}

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    /// Bits that count, at most 32 or 128.
    pub bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(widest);
        (bits <= widest).then_some(Network { address, bits })
    }

    /// Whether `address` lies in it. The two kinds of addresses never meet.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (u32::from(network) ^ u32::from(address)).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (u128::from(network) ^ u128::from(address)).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, test) in self.tests.iter().enumerate() {
            let and = if n == 0 { "" } else { " and " };
            write!(f, "{and}{} ", test.key.as_str())?;
            alternatives(&test.wanted, f)?;
        }
        for (n, when) in self.any.iter().enumerate() {
            let joint = match (n, self.tests.is_empty()) {
                (0, true) => "(",
                (0, false) => " and (",
                _ => ") or (",
            };
            write!(f, "{joint}{when}")?;
        }
        if self.any.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

fn alternatives(wanted: &[Matcher], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, matcher) in wanted.iter().enumerate() {
        f.write_str(if n == 0 { "" } else { " or " })?;
        match matcher {
            Matcher::Is(text) => write!(f, "{text}")?,
            Matcher::Prefix(text) => write!(f, "{text}…")?,
            Matcher::Number(number) => write!(f, "{number}")?,
            Matcher::Network(network) => write!(f, "{}/{}", network.address, network.bits)?,
            Matcher::Not(others) => {
                f.write_str("not (")?;
                alternatives(others, f)?;
                f.write_str(")")?;
            }
            Matcher::All(parts) => {
                for (n, part) in parts.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { " and " })?;
                    alternatives(part, f)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && holds("::/0", "2001:db8::1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1") && !holds("2001:db8::/33", "2001:db8:8000::1"));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/x", "host"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
