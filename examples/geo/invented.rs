//! The places of `demo`, all invented: the simulator's addresses are those that RFC 5737 and RFC 3849 set aside for
//! documentation, which lie nowhere. Cities and coordinates are of real places, systems have numbers and names that are set
//! aside too (RFC 5398). Comes in: nothing. Goes out: the bytes of `src/enrich/invented.mmdb`.

use std::net::IpAddr;

use super::writer::{Value, Writer, map, text};

/// Network, length, number and name of the system, city, region with code, country code and name, coordinates, time zone.
type Row = (
    &'static str,
    u32,
    u32,
    &'static str,
    &'static str,
    (&'static str, &'static str),
    (&'static str, &'static str),
    (f64, f64),
    &'static str,
);

/// The offices' networks in parts, so that people work in several cities; what is stolen comes from far away.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("203.0.113.0", 26, 64496, "Example Office Network", "Zurich", ("ZH", "Zurich"), ("CH", "Switzerland"), (47.3667, 8.55), "Europe/Zurich"),
    ("203.0.113.64", 26, 64496, "Example Office Network", "Munich", ("BY", "Bavaria"), ("DE", "Germany"), (48.1374, 11.5755), "Europe/Berlin"),
    ("203.0.113.128", 26, 64497, "Example Mobile Carrier", "Lyon", ("ARA", "Auvergne-Rhône-Alpes"), ("FR", "France"), (45.7485, 4.8467), "Europe/Paris"),
    ("203.0.113.192", 26, 64497, "Example Mobile Carrier", "Seattle", ("WA", "Washington"), ("US", "United States"), (47.6062, -122.3321), "America/Los_Angeles"),
    ("198.51.100.0", 25, 64498, "Example Broadband", "Dublin", ("L", "Leinster"), ("IE", "Ireland"), (53.3331, -6.2489), "Europe/Dublin"),
    ("198.51.100.128", 25, 64498, "Example Broadband", "Montreal", ("QC", "Quebec"), ("CA", "Canada"), (45.5088, -73.5878), "America/Toronto"),
    ("192.0.2.0", 24, 64511, "Example Anonymous Hosting", "Lagos", ("LA", "Lagos"), ("NG", "Nigeria"), (6.4474, 3.3903), "Africa/Lagos"),
    ("2001:db8::", 33, 64496, "Example Office Network", "Zurich", ("ZH", "Zurich"), ("CH", "Switzerland"), (47.3667, 8.55), "Europe/Zurich"),
    ("2001:db8:8000::", 33, 64498, "Example Broadband", "Singapore", ("", ""), ("SG", "Singapore"), (1.2897, 103.8501), "Asia/Singapore"),
];

/// The same bytes each time, so that a test can hold the committed file against them.
pub fn database() -> Vec<u8> {
    // 2026-01-01: the rows do not age.
    let mut writer = Writer::new(6, "Invented-Places", 1_767_225_600);
    for (ip, prefix, number, system, city, (region_code, region), (country_code, country), (lat, lon), zone) in ROWS {
        let ip: IpAddr = ip.parse().expect("a literal");
        let name = |name: &str| map([("en", text(name))]);
        let mut entries = vec![
            ("autonomous_system_number", Value::U32(*number)),
            ("autonomous_system_organization", text(system)),
            ("city", map([("names", name(city))])),
            ("country", map([("iso_code", text(country_code)), ("names", name(country))])),
            (
                "location",
                map([("latitude", Value::Double(*lat)), ("longitude", Value::Double(*lon)), ("time_zone", text(zone))]),
            ),
        ];
        if !region.is_empty() {
            entries.push((
                "subdivisions",
                Value::List(vec![map([("iso_code", text(region_code)), ("names", name(region))])]),
            ));
        }
        let record = Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        writer.insert(ip, *prefix, &record);
    }
    writer.finish()
}
