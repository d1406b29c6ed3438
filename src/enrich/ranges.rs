//! Addresses that belong to no place, because they are set apart for a purpose. Comes in: an address. Goes out: the
//! purpose's name, for `geo.name`. Source: IANA's IPv4 and IPv6 special-purpose address registries and the RFCs named
//! at each range. Asked only for what no database knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the address is set apart for; `None`: it is one of the common ones.
pub(super) fn purpose(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => name(V4, ip.to_bits(), Ipv4Addr::BITS),
        IpAddr::V6(ip) => name(V6, ip.to_bits(), Ipv6Addr::BITS),
    }
}

fn name<T>(ranges: &[(T, u32, &'static str)], ip: T, bits: u32) -> Option<&'static str>
where
    T: Copy + PartialEq + std::ops::Shr<u32, Output = T>,
{
    let is_in = |(start, prefix, _): &&(T, u32, &str)| ip >> (bits - prefix) == *start >> (bits - prefix);
    ranges.iter().find(is_in).map(|(.., name)| *name)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    Ipv4Addr::new(a, b, c, d).to_bits()
}

const fn v6(a: u16, b: u16, c: u16) -> u128 {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits()
}

/// First address, length of the prefix, name; the first that holds the address counts.
const V4: &[(u32, u32, &str)] = &[
    // RFC 1918, section 3.
    (v4(10, 0, 0, 0), 8, "private"),
    (v4(172, 16, 0, 0), 12, "private"),
    (v4(192, 168, 0, 0), 16, "private"),
    // RFC 1122, section 3.2.1.3.
    (v4(127, 0, 0, 0), 8, "loopback"),
    // RFC 3927.
    (v4(169, 254, 0, 0), 16, "link-local"),
    // RFC 6598: between a provider's address translation and its customers.
    (v4(100, 64, 0, 0), 10, "shared"),
    // RFC 5737.
    (v4(192, 0, 2, 0), 24, "documentation"),
    (v4(198, 51, 100, 0), 24, "documentation"),
    (v4(203, 0, 113, 0), 24, "documentation"),
    // RFC 2544.
    (v4(198, 18, 0, 0), 15, "benchmarking"),
    // RFC 5771.
    (v4(224, 0, 0, 0), 4, "multicast"),
    // RFC 8190: the limited broadcast; before what holds it.
    (v4(255, 255, 255, 255), 32, "broadcast"),
    // RFC 1112, section 4.
    (v4(240, 0, 0, 0), 4, "reserved"),
    // RFC 791, section 3.2: this network.
    (v4(0, 0, 0, 0), 8, "unspecified"),
    // RFC 6890, section 2.1: for protocols of the IETF.
    (v4(192, 0, 0, 0), 24, "reserved"),
];

/// As above. An IPv4 address in IPv6 form is looked up as what it is.
const V6: &[(u128, u32, &str)] = &[
    // RFC 4193.
    (v6(0xfc00, 0, 0), 7, "private"),
    // RFC 4291, sections 2.5.3 and 2.5.2.
    (1, 128, "loopback"),
    (0, 128, "unspecified"),
    // RFC 4291, section 2.5.6.
    (v6(0xfe80, 0, 0), 10, "link-local"),
    // RFC 3879: site-local, which private ranges have replaced.
    (v6(0xfec0, 0, 0), 10, "private"),
    // RFC 3849 and RFC 9637.
    (v6(0x2001, 0xdb8, 0), 32, "documentation"),
    (v6(0x3fff, 0, 0), 20, "documentation"),
    // RFC 5180.
    (v6(0x2001, 2, 0), 48, "benchmarking"),
    // RFC 4291, section 2.7.
    (v6(0xff00, 0, 0), 8, "multicast"),
    // RFC 6666: what is discarded.
    (v6(0x0100, 0, 0), 64, "reserved"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_ends_where_it_ends() {
        for (ip, expected) in [
            ("10.0.0.0", Some("private")),
            ("10.255.255.255", Some("private")),
            ("11.0.0.0", None),
            ("9.255.255.255", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some("private")),
            ("172.31.255.255", Some("private")),
            ("172.32.0.0", None),
            ("192.168.1.1", Some("private")),
            ("127.0.0.1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("100.63.255.255", None),
            ("100.64.0.1", Some("shared")),
            ("100.127.255.255", Some("shared")),
            ("100.128.0.0", None),
            ("192.0.2.66", Some("documentation")),
            ("198.51.100.7", Some("documentation")),
            ("203.0.113.255", Some("documentation")),
            ("203.0.114.0", None),
            ("198.19.255.255", Some("benchmarking")),
            ("239.1.2.3", Some("multicast")),
            ("255.255.255.255", Some("broadcast")),
            ("255.255.255.254", Some("reserved")),
            ("0.0.0.0", Some("unspecified")),
            ("192.0.0.8", Some("reserved")),
            ("8.8.8.8", None),
            ("::1", Some("loopback")),
            ("::2", None),
            ("::", Some("unspecified")),
            ("fd12:3456::1", Some("private")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("fec0::1", Some("private")),
            ("2001:db8:ffff::1", Some("documentation")),
            ("2001:db9::", None),
            ("3fff:fff::1", Some("documentation")),
            ("3fff:1000::", None),
            ("2001:2::1", Some("benchmarking")),
            ("2001:2:1::1", None),
            ("ff02::1", Some("multicast")),
            ("100::1", Some("reserved")),
            ("2a01::1", None),
        ] {
            assert_eq!(purpose(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
