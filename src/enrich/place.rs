//! What databases say of an address → members of an ECS document (ECS 8.17, field sets `as` and `geo`). Comes in: records
//! of the databases. Goes out: `"as":{…},"geo":{…},`, appended; a member of which nothing is known is not written. Pure.
//!
//! The region is the first of the subdivisions, the largest, as ECS describes it; Elasticsearch's own processor takes the last.
//! Its code bears that of the country in front (ISO 3166-2: `CA-QC`).

use std::io::Write as _;

use super::countries;
use super::schema::{AsRecord, GeoRecord, Named, Number, Text};
use crate::escape::escape;

/// Appends `"as":{…},` if anything is known.
pub(super) fn write_as(record: &AsRecord<'_>, out: &mut Vec<u8>) {
    let mut object = Object::begin("as", out);
    if let Number::Whole(number) = record.autonomous_system_number
        // 0 is reserved (RFC 7607); databases have it for what is not routed.
        && number != 0
    {
        object.raw("number", |out| write_number(Number::Whole(number), out));
    }
    object.nested("organization", |organization| organization.text("name", record.autonomous_system_organization));
    object.end();
}

/// Appends `"geo":{…},` if anything is known.
pub(super) fn write_geo(record: &GeoRecord<'_>, out: &mut Vec<u8>) {
    let code = record.country_code.or(record.country.code);
    let known = code.0.and_then(countries::country);
    let continent_code = record.continent.code.or(Text(known.map(|country| country.continent)));
    let continent_name = record.continent.name.or(Text(continent_code.0.and_then(countries::continent)));
    let country_name = record.country.name.or(Text(known.map(|country| country.name)));
    let Named { code: region_code, name: region_name } = record.subdivisions.0;

    let mut object = Object::begin("geo", out);
    object.text("city_name", record.city.name);
    object.text("continent_code", continent_code);
    object.text("continent_name", continent_name);
    object.text("country_iso_code", code);
    object.text("country_name", country_name);
    object.location(record);
    object.text("postal_code", record.postcode.or(record.postal.code));
    if let (Text(Some(country)), Text(Some(region))) = (code, region_code) {
        object.raw("region_iso_code", |out| {
            out.push(b'"');
            escape(country, out);
            out.push(b'-');
            escape(region, out);
            out.push(b'"');
        });
    }
    object.text("region_name", region_name.or(record.state1));
    object.text("timezone", record.timezone.or(record.location.time_zone));
    object.end();
}

/// Appends `"geo":{"name":…},` of an address that is set apart.
pub(super) fn write_purpose(purpose: &'static str, out: &mut Vec<u8>) {
    let mut object = Object::begin("geo", out);
    object.text("name", Text(Some(purpose)));
    object.end();
}

impl<'a> Text<'a> {
    /// This, or the other where there is none.
    pub fn or(self, other: Text<'a>) -> Text<'a> {
        Text(self.0.or(other.0))
    }
}

/// An object that is being written; taken back at its end if it has no member.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    inside: usize,
}

impl<'a> Object<'a> {
    pub fn begin(key: &str, out: &'a mut Vec<u8>) -> Object<'a> {
        let start = out.len();
        write_key(key, out);
        out.push(b'{');
        let inside = out.len();
        Object { out, start, inside }
    }

    /// One that somebody else opens and closes; [`Object::end`] is not for it.
    pub fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        let start = out.len();
        Object { out, start, inside: start }
    }

    pub fn text(&mut self, key: &str, text: Text<'_>) {
        if let Some(text) = text.0 {
            self.raw(key, |out| {
                out.push(b'"');
                escape(text, out);
                out.push(b'"');
            });
        }
    }

    /// A member whose value `write` appends.
    pub fn raw(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        write_key(key, self.out);
        write(self.out);
        self.out.push(b',');
    }

    /// An object as member, if it has any of its own.
    pub fn nested(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(key, self.out);
        members(&mut object);
        object.end();
    }

    fn location(&mut self, record: &GeoRecord<'_>) {
        let pairs = [(record.location.latitude, record.location.longitude), (record.latitude, record.longitude)];
        let in_range = |(lat, lon): &(Number, Number)| is_within(*lat, 90.0) && is_within(*lon, 180.0);
        if let Some((lat, lon)) = pairs.into_iter().find(in_range) {
            self.nested("location", |location| {
                location.raw("lat", |out| write_number(lat, out));
                location.raw("lon", |out| write_number(lon, out));
            });
        }
    }

    pub fn end(self) {
        if self.out.len() == self.inside {
            self.out.truncate(self.start);
            return;
        }
        // The comma behind the last member.
        self.out.pop();
        self.out.extend_from_slice(b"},");
    }
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn is_within(number: Number, most: f64) -> bool {
    let number = match number {
        Number::None => return false,
        Number::Whole(number) => number as f64,
        Number::Float(number) => f64::from(number),
        Number::Double(number) => number,
    };
    // Not a number is not within.
    (-most..=most).contains(&number)
}

/// Rust writes numbers as JSON has them, without an exponent, as short as they can be read back.
fn write_number(number: Number, out: &mut Vec<u8>) {
    let _ = match number {
        Number::None => out.write_all(b"null"),
        Number::Whole(number) => write!(out, "{number}"),
        Number::Float(number) => write!(out, "{number}"),
        Number::Double(number) => write!(out, "{number}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::schema::{First, Location};
    use serde_json::{Value, json};

    fn read(out: &[u8]) -> Value {
        let text = std::str::from_utf8(out).unwrap();
        serde_json::from_str(&format!("{{{}}}", text.trim_end_matches(','))).unwrap()
    }

    fn geo(record: &GeoRecord<'_>) -> Value {
        let mut out = Vec::new();
        write_geo(record, &mut out);
        read(&out)
    }

    const fn text(text: &str) -> Text<'_> {
        Text(Some(text))
    }

    fn named<'a>(code: &'a str, name: &'a str) -> Named<'a> {
        Named { code: text(code), name: text(name) }
    }

    #[test]
    fn the_nested_schema_gives_every_field() {
        let record = GeoRecord {
            continent: named("NA", "North America"),
            country: named("CA", "Canada"),
            subdivisions: First(named("QC", "Quebec")),
            city: Named { name: text("Montreal \"X\""), ..Named::default() },
            location: Location {
                latitude: Number::Double(45.5),
                longitude: Number::Double(-73.583_3),
                time_zone: text("America/Toronto"),
            },
            postal: Named { code: text("H3A"), ..Named::default() },
            ..GeoRecord::default()
        };
        assert_eq!(
            geo(&record),
            json!({"geo": {
                "city_name": "Montreal \"X\"", "continent_code": "NA", "continent_name": "North America",
                "country_iso_code": "CA", "country_name": "Canada", "location": {"lat": 45.5, "lon": -73.5833},
                "postal_code": "H3A", "region_iso_code": "CA-QC", "region_name": "Quebec", "timezone": "America/Toronto",
            }})
        );
    }

    #[test]
    fn the_flat_schema_gives_names_for_codes_and_floats_as_short_as_they_were() {
        let record = GeoRecord {
            country_code: text("CH"),
            city: Named { name: text("Zürich"), ..Named::default() },
            state1: text("Zurich"),
            latitude: Number::Float(47.3769),
            longitude: Number::Float(8.5417),
            ..GeoRecord::default()
        };
        let mut out = Vec::new();
        write_geo(&record, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"geo\":{\"city_name\":\"Zürich\",\"continent_code\":\"EU\",\"continent_name\":\"Europe\",\"country_iso_code\":\"CH\",\
             \"country_name\":\"Switzerland\",\"location\":{\"lat\":47.3769,\"lon\":8.5417},\"region_name\":\"Zurich\"},"
        );
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let mut out = b"before".to_vec();
        write_geo(&GeoRecord::default(), &mut out);
        write_as(&AsRecord::default(), &mut out);
        assert_eq!(out, b"before");
        for (latitude, longitude) in [
            (Number::Double(f64::NAN), Number::Double(1.0)),
            (Number::Double(90.5), Number::Double(1.0)),
            (Number::Double(1.0), Number::Float(f32::INFINITY)),
            (Number::None, Number::Double(1.0)),
        ] {
            assert_eq!(geo(&GeoRecord { latitude, longitude, ..GeoRecord::default() }), json!({}));
        }
        let nowhere = GeoRecord { country_code: text("ZZ"), ..GeoRecord::default() };
        assert_eq!(geo(&nowhere), json!({"geo": {"country_iso_code": "ZZ"}}));
    }

    #[test]
    fn a_system_has_its_number_and_its_name_or_one_of_them() {
        let of = |number, name| {
            let mut out = Vec::new();
            let record = AsRecord { autonomous_system_number: number, autonomous_system_organization: Text(name) };
            write_as(&record, &mut out);
            read(&out)
        };
        assert_eq!(
            of(Number::Whole(64496), Some("Ex, \\ Inc.")),
            json!({"as": {"number": 64496, "organization": {"name": "Ex, \\ Inc."}}})
        );
        assert_eq!(of(Number::Whole(64496), None), json!({"as": {"number": 64496}}));
        assert_eq!(of(Number::Whole(0), None), json!({}));
    }
}
