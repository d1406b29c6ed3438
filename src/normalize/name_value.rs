//! Lists of `{"Name": …, "Value": …}`, as in `ExtendedProperties` and `Parameters`.
//!
//! Comes in: the list as sent. Goes out: values, still escaped and borrowed. A list of another form
//! has no values; nothing here fails.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::record::view::scalar;

/// The value of the last entry of this name, as the inside of a JSON string.
pub fn last_value<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut search = Search { name, found: None };
    serde_json::Deserializer::from_str(list).deserialize_seq(&mut search).ok()?;
    search.found
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "Name", borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(rename = "Value", borrow, default)]
    value: Option<&'a RawValue>,
}

struct Search<'n, 'a> {
    name: &'n str,
    found: Option<&'a str>,
}

impl<'a> Visitor<'a> for &mut Search<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names and values")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element::<Entry<'a>>()? {
            if entry.name.and_then(|name| scalar(name.get())) == Some(self.name) {
                self.found = entry.value.and_then(|value| scalar(value.get()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts_and_odd_lists_have_none() {
        let list = r#"[{"Name":"A","Value":"1"},{"Value":"2","Name":"B"},{"Name":"A","Value":"x\ty","More":[]},{"Name":null}]"#;
        assert_eq!(last_value(list, "A"), Some(r"x\ty"));
        assert_eq!(last_value(list, "C"), None);
        for odd in ["\"A\"", "{}", "[1]", "[[]]", "null", r#"[{"Name":"A","Value":{}}]"#] {
            assert_eq!(last_value(odd, "A"), None, "{odd}");
        }
    }
}
