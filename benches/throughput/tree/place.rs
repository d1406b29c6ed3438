//! Places and user agents of the tree: a record of the database into a struct, that into a value, that into the
//! document. No answer is kept but those about user agents, which cost too much to find twice for anybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use auditferry::enrich::Enricher;
use maxminddb::geoip2::{Asn, City};
use maxminddb::{MaxMindDbError, Reader};
use serde_json::{Map, Value, json};

use super::doc::Doc;

static PLACES: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/enrich/invented.mmdb"));

/// Continents of the countries that the database has, which it does not name itself.
const CONTINENTS: [(&str, &str, &str); 8] = [
    ("CA", "NA", "North America"),
    ("CH", "EU", "Europe"),
    ("DE", "EU", "Europe"),
    ("FR", "EU", "Europe"),
    ("IE", "EU", "Europe"),
    ("NG", "AF", "Africa"),
    ("SG", "AS", "Asia"),
    ("US", "NA", "North America"),
];

/// What is known beside the records.
pub struct Tables {
    places: Reader<&'static [u8]>,
    /// Members of `user_agent`, by the text that they are read from.
    agents: HashMap<String, Map<String, Value>>,
    /// Reads a user agent that is not known yet: with the patterns that ours has, so that both find the same.
    reader: Arc<Enricher>,
}

impl Tables {
    pub fn new(reader: Arc<Enricher>) -> Tables {
        Tables { places: Reader::from_source(PLACES).unwrap(), agents: HashMap::new(), reader }
    }

    /// Adds what is known of `source.ip` and `user_agent.original`.
    pub fn look_up(&mut self, doc: &mut Doc) {
        if let Some(ip) = doc.text("source.ip") {
            self.place(ip.parse().unwrap(), doc).unwrap();
        }
        if let Some(agent) = doc.text("user_agent.original") {
            for (name, value) in self.agent(&agent) {
                doc.set(&format!("user_agent.{name}"), value.clone());
            }
        }
    }

    fn place(&self, ip: IpAddr, doc: &mut Doc) -> Result<(), MaxMindDbError> {
        if let Some(system) = self.places.lookup(ip)?.decode::<Asn>()? {
            if let Some(number) = system.autonomous_system_number {
                doc.set("source.as.number", number);
            }
            set(doc, "source.as.organization.name", system.autonomous_system_organization);
        }
        match self.places.lookup(ip)?.decode::<City>()? {
            Some(city) => set_place(doc, &city),
            None => set(doc, "source.geo.name", purpose(ip)),
        }
        Ok(())
    }

    fn agent(&mut self, text: &str) -> &Map<String, Value> {
        if !self.agents.contains_key(text) {
            let mut members = b"{".to_vec();
            self.reader.user_agent(text, &mut members);
            if members.ends_with(b",") {
                members.pop();
            }
            members.push(b'}');
            self.agents.insert(text.to_owned(), serde_json::from_slice(&members).unwrap());
        }
        &self.agents[text]
    }
}

fn set_place(doc: &mut Doc, city: &City) {
    let country = city.country.iso_code;
    let continent = CONTINENTS.iter().find(|(code, ..)| Some(*code) == country);
    set(doc, "source.geo.continent_code", city.continent.code.or(continent.map(|(_, code, _)| *code)));
    set(doc, "source.geo.continent_name", city.continent.names.english.or(continent.map(|(.., name)| *name)));
    set(doc, "source.geo.country_iso_code", country);
    set(doc, "source.geo.country_name", city.country.names.english);
    set(doc, "source.geo.city_name", city.city.names.english);
    set(doc, "source.geo.postal_code", city.postal.code);
    set(doc, "source.geo.timezone", city.location.time_zone);
    if let (Some(lat), Some(lon)) = (city.location.latitude, city.location.longitude) {
        doc.set("source.geo.location", json!({"lat": lat, "lon": lon}));
    }
    if let Some(region) = city.subdivisions.first() {
        set(doc, "source.geo.region_name", region.names.english);
        if let (Some(country), Some(code)) = (country, region.iso_code) {
            doc.set("source.geo.region_iso_code", format!("{country}-{code}"));
        }
    }
}

fn set(doc: &mut Doc, path: &str, text: Option<&str>) {
    doc.set_text(path, text.map(str::to_owned));
}

/// What the addresses are set apart for that no database knows.
fn purpose(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_loopback() => Some("loopback"),
        _ if ip.is_multicast() => Some("multicast"),
        _ if ip.is_unspecified() => Some("unspecified"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("broadcast"),
        IpAddr::V4(ip) if ip.is_private() => Some("private"),
        IpAddr::V4(ip) if matches!(ip.octets(), [100, 64..=127, ..]) => Some("shared"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("link-local"),
        IpAddr::V6(ip) if ip.is_unique_local() => Some("private"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("link-local"),
        _ => None,
    }
}
