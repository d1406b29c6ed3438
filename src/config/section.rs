//! A section of the file, declared once: from the declaration come the struct, the reading, the list
//! of its keys (for suggestions and for the test of the example), and the keys that later releases
//! will know. Comes in: a mapping of the tree. Goes out: the struct, and a fault for every key that
//! does not belong there. Never stops at the first fault.

use super::faults::{Place, Reader};
use super::schema::Schema;
use super::tree::{Entry, Node, Value};
use super::values::{At, FromNode};

/// A key's value: not there, there but wrong (and said so), or there.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Faulty,
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value where there is one.
    pub fn given(self) -> Option<At<T>> {
        match self {
            Field::Given(at) => Some(at),
            Field::Absent | Field::Faulty => None,
        }
    }

    /// The value without its place.
    pub fn value(self) -> Option<T> {
        self.given().map(|at| at.value)
    }

    /// This, or `fallback` where nothing was written.
    pub fn or(self, fallback: &Field<T>) -> Field<T>
    where
        T: Clone,
    {
        match self {
            Field::Absent => fallback.clone(),
            written => written,
        }
    }

    /// The value; a fault at `section` when nothing was written.
    pub fn required(
        self,
        key: &str,
        title: &str,
        section: &Place,
        hint: &str,
        reader: &mut Reader<'_>,
    ) -> Option<At<T>> {
        if matches!(self, Field::Absent) {
            reader.fault(section, format!("`{key}` is missing in {title}"), hint);
        }
        self.given()
    }

    /// The value, or `default`; out of `range` (inclusive) is a fault that names both ends.
    pub fn within<U: PartialOrd + Copy>(
        self,
        reader: &mut Reader<'_>,
        (least, most): (U, U),
        ends: &str,
        default: U,
        value_of: impl Fn(&T) -> U,
    ) -> U {
        let Some(at) = self.given() else { return default };
        let value = value_of(&at.value);
        if value < least || value > most {
            reader.fault(&at.place, "the value is out of range", format!("give something {ends}"));
        }
        value
    }
}

/// What a section declares about itself.
pub(super) trait Section: Default {
    /// How faults call it.
    const TITLE: &'static str;
    /// The keys of this release.
    const KEYS: &'static [&'static str];
    /// Keys of later releases.
    const LATER: &'static [&'static str];

    /// The keys with what they accept and what is said of them.
    fn properties() -> Vec<(&'static str, Schema)>;

    /// Reads the known keys; the others are [`refuse_unknown`]'s.
    fn fields(place: &Place, entries: &[Entry], reader: &mut Reader<'_>) -> Self;
}

/// The value of `key`; nothing written after the colon is as good as no key.
pub(super) fn field<T: FromNode>(entries: &[Entry], key: &str, reader: &mut Reader<'_>) -> Field<T> {
    let Some(entry) = entries.iter().find(|entry| entry.key == key) else { return Field::Absent };
    match entry.node.value {
        Value::Null => return Field::Absent,
        Value::Broken => return Field::Faulty,
        _ => {}
    }
    T::from_node(&entry.node, reader)
        .map_or(Field::Faulty, |value| Field::Given(At { value, place: entry.node.place.clone() }))
}

/// The entries of a mapping; anything else is a fault. `known`: keys that it may have; empty: any.
pub(super) fn entries<'a>(node: &'a Node, title: &str, known: &[&str], reader: &mut Reader<'_>) -> Option<&'a [Entry]> {
    /// A screen has room for them.
    const SHOWN: usize = 12;
    match &node.value {
        Value::Map(entries) => Some(entries),
        other => {
            let mut hint = match other {
                Value::Scalar(text) if text.contains(':') => "a blank must follow the colon: `key: value`".to_owned(),
                Value::Scalar(text) if text == "true" => {
                    "write `{}` for all defaults, or `key: value` lines, indented below".to_owned()
                }
                _ => "write `key: value` lines, indented below".to_owned(),
            };
            if !known.is_empty() && known.len() <= SHOWN {
                hint += &format!("; known here: {}", known.join(", "));
            }
            reader.fault(&node.place, format!("here stands {}, {title} is a mapping", other.shape()), hint);
            None
        }
    }
}

/// A fault for every key that is not in `known`, with the nearest known key as suggestion.
pub(super) fn refuse_unknown(
    entries: &[Entry],
    known: &[&[&str]],
    later: &[&[&str]],
    title: &str,
    reader: &mut Reader<'_>,
) {
    for entry in entries {
        let key = entry.key.as_str();
        if known.iter().any(|keys| keys.contains(&key)) {
            continue;
        }
        if later.iter().any(|keys| keys.contains(&key)) {
            reader.fault(
                &entry.place,
                format!("`{key}` in {title} is not in this release yet"),
                "remove it, or follow the changelog for the release that brings it",
            );
            continue;
        }
        let names = || known.iter().flat_map(|keys| keys.iter().copied());
        let hint = nearest(key, names()).map_or_else(
            || format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        reader.fault(&entry.place, format!("unknown key `{key}` in {title}"), hint);
    }
}

/// The name that `word` was probably meant to be: the same but for case and joints, or few letters away.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '.', ' '], "");
    let word = plain(word);
    names
        .map(|name| (strsim::damerau_levenshtein(&word, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Declares a section: `Name in "how faults call it" { key: Type, … } later { "key", … }`.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident in $title:literal { $( $(#[doc = $says:literal])* $field:ident : $type:ty ),* $(,)? } later { $($later:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name {
            #[allow(dead_code, reason = "not every section has a fault of its own to place")]
            pub place: Place,
            $( $(#[doc = $says])* pub $field: Field<$type>, )*
        }

        impl Section for $name {
            const TITLE: &'static str = $title;
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];
            const LATER: &'static [&'static str] = &[$($later),*];

            fn properties() -> Vec<(&'static str, Schema)> {
                vec![$( (stringify!($field), schema::described(<$type>::schema(), &[$($says),*])), )*]
            }

            #[allow(unused_variables, reason = "a section may have no keys")]
            fn fields(place: &Place, entries: &[Entry], reader: &mut Reader<'_>) -> Self {
                $name { place: place.clone(), $( $field: field(entries, stringify!($field), reader), )* }
            }
        }

        impl FromNode for $name {
            fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                let entries = entries(node, Self::TITLE, Self::KEYS, reader)?;
                refuse_unknown(entries, &[Self::KEYS], &[Self::LATER], Self::TITLE, reader);
                Some(Self::fields(&node.place, entries, reader))
            }

            fn schema() -> Schema {
                schema::mapping(Self::properties())
            }
        }
    };
}
pub(super) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_probably_meant_and_nothing_else() {
        let keys = || ["client_id", "tenant_id", "content_types", "name"].into_iter();
        assert_eq!(nearest("clientId", keys()), Some("client_id"));
        assert_eq!(nearest("tenat_id", keys()), Some("tenant_id"));
        assert_eq!(nearest("contentTypes", keys()), Some("content_types"));
        assert_eq!(nearest("zebra", keys()), None);
    }
}
