//! The parameters of a cmdlet as one text: `-Identity "Ten years" -Enabled:$False -Force`.
//!
//! Comes in: the text, unescaped. Goes out: names and values, borrowed, in order. A name without a value has an empty
//! one; what stands before the first name is passed over. Linear in the text, and never fails.

/// The parameters of the text.
pub fn parameters(text: &str) -> Parameters<'_> {
    Parameters { rest: text }
}

/// See [`parameters`].
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let text = self.rest.trim_start();
            if text.is_empty() {
                return None;
            }
            if let Some((name, rest)) = name(text) {
                let (value, rest) = value(rest);
                self.rest = rest;
                return Some((name, value));
            }
            // A value without a name.
            self.rest = word(text).1;
        }
    }
}

/// `-Name`, and what follows it. A minus in front of a digit is a number's.
fn name(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('-').filter(|rest| rest.starts_with(|first: char| first.is_ascii_alphabetic()))?;
    let end = rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// The value behind a name; empty where another name follows.
fn value(rest: &str) -> (&str, &str) {
    let rest = rest.strip_prefix(':').unwrap_or(rest).trim_start();
    if rest.is_empty() || name(rest).is_some() { ("", rest) } else { word(rest) }
}

/// What stands between quotation marks of either kind, or up to the next blank.
fn word(text: &str) -> (&str, &str) {
    match text.chars().next().filter(|quote| matches!(quote, '"' | '\'')) {
        Some(quote) => text[1..].split_once(quote).unwrap_or((&text[1..], "")),
        None => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_in_order() {
        for (text, expected) in [
            (r#"-Identity "a -b" -Member "c@d""#, &[("Identity", "a -b"), ("Member", "c@d")][..]),
            (r"-Purge -Confirm:$False -Size -5", &[("Purge", ""), ("Confirm", "$False"), ("Size", "-5")]),
            (r#"stray "x y" -A 1 2 -B"#, &[("A", "1"), ("B", "")]),
            (r#"-A "never closed"#, &[("A", "never closed")]),
            ("-", &[]),
            ("- -A:", &[("A", "")]),
            ("", &[]),
        ] {
            assert_eq!(parameters(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
