//! The name of a field: `source.ip`, `ModifiedProperties.NewValue`. Comes in: text of the configuration.
//! Goes out: its segments. `[]` behind a segment may be written for an array and means nothing: arrays are
//! walked through anyhow.

use std::fmt;

/// A field's name, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(String);

/// A text that names no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the name has an empty part")]
    Empty,
    #[error("the name has a `*`: every field is named by itself")]
    Wildcard,
    #[error("the name has a bracket that is not `[]` behind a part: one element of an array cannot be named")]
    Bracket,
}

impl FieldPath {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<FieldPath, PathError> {
        let mut segments = Vec::new();
        for part in text.trim().split('.') {
            let segment = part.strip_suffix("[]").unwrap_or(part);
            match segment {
                "" => return Err(PathError::Empty),
                _ if segment.contains('*') => return Err(PathError::Wildcard),
                _ if segment.contains(['[', ']']) => return Err(PathError::Bracket),
                _ => segments.push(segment),
            }
        }
        Ok(FieldPath(segments.join(".")))
    }

    /// The parts of the name.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is this field.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Whether this field lies below `name`.
    pub fn lies_in(&self, name: &str) -> bool {
        is_below(&self.0, name)
    }

    /// Whether `name` is this field or lies below it.
    pub fn covers(&self, name: &str) -> bool {
        self.is(name) || is_below(name, &self.0)
    }
}

fn is_below(inner: &str, outer: &str) -> bool {
    let (inner, outer) = (inner.as_bytes(), outer.as_bytes());
    inner.get(..outer.len()).is_some_and(|first| first.eq_ignore_ascii_case(outer))
        && inner.get(outer.len()) == Some(&b'.')
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_what_names_nothing_is_refused() {
        assert_eq!(FieldPath::parse("ModifiedProperties[].NewValue").unwrap().as_str(), "ModifiedProperties.NewValue");
        for (text, error) in [
            ("", PathError::Empty),
            ("a..b", PathError::Empty),
            (".a", PathError::Empty),
            ("[]", PathError::Empty),
            ("o365.*", PathError::Wildcard),
            ("a[0].b", PathError::Bracket),
            ("a[].b]", PathError::Bracket),
        ] {
            assert_eq!(FieldPath::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_field_covers_itself_and_what_is_below() {
        let source = FieldPath::parse("source").unwrap();
        assert!(source.covers("source") && source.covers("Source.ip") && source.is("SOURCE"));
        assert!(!source.covers("sources") && !source.covers("sour") && !source.is("source.ip"));
        let ip = FieldPath::parse("Source.ip").unwrap();
        assert!(ip.lies_in("source") && !ip.lies_in("source.ip") && !ip.lies_in("sour") && !ip.lies_in("source.ip.x"));
    }
}
