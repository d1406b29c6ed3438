//! A place as a record names it: `source.geo` where no database knows the address.
//!
//! Comes in: an object with `City`, `State`, `CountryOrRegion` (two letters) and `GeoCoordinates` (Microsoft Graph,
//! signInLocation, which the schema of the records refers to). Goes out: one value of [`Ecs::SourcePlace`], which
//! `document` writes unless a look-up gives a place. What is not said is not written; nothing is worked out of another.

use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::{json, nested};

/// Members of the object in any case, as the two services spell them otherwise.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    nested::members(object).filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).last()
}

fn text<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    member(object, name).and_then(scalar).filter(|text| !text.trim().is_empty())
}

/// Says that the source was there, beside what is known of its address.
pub fn add_source<'a>(draft: &mut Draft<'a>, object: &'a str) {
    let mut out = Vec::new();
    json::open("geo", &mut out);
    let empty = out.len();
    if let Some(city) = text(object, "City") {
        json::escaped("city_name", city, &mut out);
    }
    if let Some(country) = text(object, "CountryOrRegion") {
        let is_code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_alphabetic());
        match is_code {
            true => json::escaped("country_iso_code", &country.to_ascii_uppercase(), &mut out),
            false => json::escaped("country_name", country, &mut out),
        }
    }
    let coordinates = member(object, "GeoCoordinates").unwrap_or_default();
    if let (Some(lat), Some(lon)) = (degrees(coordinates, "Latitude", 90.0), degrees(coordinates, "Longitude", 180.0)) {
        json::open("location", &mut out);
        for (name, number) in [("lat", lat), ("lon", lon)] {
            json::key(name, &mut out);
            out.extend_from_slice(number.as_bytes());
            out.push(b',');
        }
        json::close(&mut out);
    }
    if let Some(region) = text(object, "State") {
        json::escaped("region_name", region, &mut out);
    }
    if out.len() > empty {
        json::close(&mut out);
        let members = draft.keep(&String::from_utf8_lossy(&out));
        draft.add(Ecs::SourcePlace, Value::Json(members));
    }
}

/// A number as sent, where it is one and no greater than that.
fn degrees<'a>(coordinates: &'a str, name: &str, most: f64) -> Option<&'a str> {
    let number = member(coordinates, name)?;
    number.parse::<f64>().ok().filter(|degrees| degrees.abs() <= most).map(|_| number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::normalize::tests::document_of;

    #[test]
    fn a_risk_was_where_it_says() {
        let place = |location: &str| {
            let record = format!(r#"{{"RecordType":294,"IpAddress":"203.0.113.9","Location":{location}}}"#);
            document_of(&record)["source"].get("geo").cloned()
        };
        assert_eq!(
            place(
                r#"{"City":"T\u00f8nsberg","State":"Vestfold","CountryOrRegion":"no","GeoCoordinates":{"Latitude":59.2670,"Longitude":-10.4,"Altitude":null}}"#
            ),
            Some(
                json!({"city_name":"Tønsberg","country_iso_code":"NO","region_name":"Vestfold","location":{"lat":59.267,"lon":-10.4}})
            )
        );
        assert_eq!(place(r#"{"city":"","countryOrRegion":"Norway"}"#), Some(json!({"country_name":"Norway"})));
        let nowhere = r#"{"City":null,"State":" ","GeoCoordinates":{"Latitude":91,"Longitude":1}}"#;
        for odd in ["null", "{}", "\"Oslo\"", "[]", nowhere, r#"{"GeoCoordinates":{"Latitude":"1","Longitude":true}}"#]
        {
            assert_eq!(place(odd), None, "{odd}");
        }
        let read = document_of(r#"{"RecordType":294,"Location":{"City":"Oslo"}}"#);
        assert_eq!(read["source"], json!({"geo":{"city_name":"Oslo"}}));
        assert_eq!(document_of(r#"{"RecordType":8,"Location":{"City":"Oslo"}}"#).get("source"), None);
    }
}
