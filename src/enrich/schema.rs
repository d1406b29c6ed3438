//! What a record of a database says, whichever of the two schemas it has: MaxMind's, nested (`country.iso_code`, `names.en`,
//! coordinates as doubles; dev.maxmind.com/geoip/docs/databases/city-and-country), and the flat one of the packages of
//! ip-location-db (`country_code`, `city`, `state1`, coordinates as floats). Comes in: a deserializer of the database.
//! Goes out: borrowed texts and numbers. A value of a type that nobody expects is as good as none: one odd field must not
//! cost the record.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A record of a city or country database.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct GeoRecord<'a> {
    #[serde(borrow)]
    pub continent: Named<'a>,
    pub country: Named<'a>,
    pub subdivisions: First<Named<'a>>,
    pub city: Named<'a>,
    pub location: Location<'a>,
    pub postal: Named<'a>,
    // The flat schema.
    pub country_code: Text<'a>,
    pub state1: Text<'a>,
    pub postcode: Text<'a>,
    pub timezone: Text<'a>,
    pub latitude: Number,
    pub longitude: Number,
}

/// A record of an AS database; the same in both schemas.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct AsRecord<'a> {
    pub autonomous_system_number: Number,
    #[serde(borrow)]
    pub autonomous_system_organization: Text<'a>,
}

/// Something with a code and an English name; a bare text is the name.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Named<'a> {
    /// `iso_code`, or `code` of continents and postal codes.
    pub code: Text<'a>,
    pub name: Text<'a>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Location<'a> {
    pub latitude: Number,
    pub longitude: Number,
    pub time_zone: Text<'a>,
}

/// A text that is there and not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub Option<&'a str>);

/// A number, in the precision in which it is stored: written out, a float stays as short as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Number {
    #[default]
    None,
    Whole(u64),
    Float(f32),
    Double(f64),
}

/// The first of a list: of subdivisions, the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct First<T>(pub T);

/// What each kind of value makes of a `Self::Value`; what is not overridden makes none.
macro_rules! nothing {
    ($($method:ident: $type:ty),*) => {
        $( fn $method<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        } )*
    };
    (map) => {
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (seq) => {
        fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

fn expecting(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("anything")
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct Of<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Of<'a> {
            type Value = Text<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Some(text).filter(|text| !text.is_empty())))
            }
            nothing!(visit_str: &str, visit_bytes: &[u8], visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64);
            nothing!(map);
            nothing!(seq);
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number::Whole(number))
            }
            fn visit_f32<E>(self, number: f32) -> Result<Number, E> {
                Ok(Number::Float(number))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number::Double(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(u64::try_from(number).map_or(Number::Double(number as f64), Number::Whole))
            }
            // `AS13335`, as some databases of others have it.
            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                let digits = text.trim_start_matches("AS");
                Ok(digits.parse().map(Number::Whole).or_else(|_| text.parse().map(Number::Double)).unwrap_or_default())
            }
            nothing!(visit_bytes: &[u8], visit_bool: bool, visit_u128: u128);
            nothing!(map);
            nothing!(seq);
        }
        deserializer.deserialize_any(Of)
    }
}

/// `names.en`.
struct English<'a>(Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for English<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<English<'a>, D::Error> {
        struct Of<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Of<'a> {
            type Value = Text<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Text<'a>, M::Error> {
                let mut english = Text::default();
                while let Some(language) = map.next_key::<&str>()? {
                    match language {
                        "en" => english = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(english)
            }
            nothing!(visit_str: &str, visit_bytes: &[u8], visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64);
            nothing!(seq);
        }
        deserializer.deserialize_any(Of(PhantomData)).map(English)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Named<'a>, D::Error> {
        struct Of<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Of<'a> {
            type Value = Named<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Named<'a>, M::Error> {
                let mut named = Named::default();
                while let Some(key) = map.next_key::<&str>()? {
                    match key {
                        "iso_code" | "code" => named.code = map.next_value()?,
                        "names" => named.name = map.next_value::<English<'a>>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(named)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Named<'a>, E> {
                Ok(Named { code: Text(None), name: Text(Some(text).filter(|text| !text.is_empty())) })
            }
            nothing!(visit_str: &str, visit_bytes: &[u8], visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64);
            nothing!(seq);
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Location<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Location<'a>, D::Error> {
        struct Of<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for Of<'a> {
            type Value = Location<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Location<'a>, M::Error> {
                let mut location = Location::default();
                while let Some(key) = map.next_key::<&str>()? {
                    match key {
                        "latitude" => location.latitude = map.next_value()?,
                        "longitude" => location.longitude = map.next_value()?,
                        "time_zone" => location.time_zone = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(location)
            }
            nothing!(visit_str: &str, visit_bytes: &[u8], visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64);
            nothing!(seq);
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<First<T>, D::Error> {
        struct Of<T>(PhantomData<T>);
        impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for Of<T> {
            type Value = First<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<First<T>, S::Error> {
                let first = seq.next_element()?.unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
            nothing!(visit_str: &str, visit_bytes: &[u8], visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64);
            nothing!(map);
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}
