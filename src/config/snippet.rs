//! The line of a fault, with a sign below the place and the key that it belongs to. A file may hold secrets,
//! under keys that are mistyped too, so of a line nothing is shown but known keys, brackets, references
//! without their defaults, and what the fault's own words quote; for the rest stands `…`.
//!
//! Comes in: the file's text, a place, the fault's words. Goes out: two lines, or nothing.

use super::file::ALL_KEYS;

/// Characters of a line that are shown; beyond, the part around the place.
const WIDTH: usize = 100;
const MASK: char = '…';

/// Renders line `line`, column `column` (from 1). `name`: the keys on the way to the place.
pub(super) fn render(text: &str, line: u64, column: u64, name: Option<&str>, words: &str) -> String {
    let number = usize::try_from(line).unwrap_or(0);
    let Some(written) = number.checked_sub(1).and_then(|index| text.lines().nth(index)) else {
        return String::new();
    };
    let at = usize::try_from(column).unwrap_or(1).max(1) - 1;
    let mut shown = Masked::of(written.trim_end(), at, words);
    shown.crop();
    let gutter = " ".repeat(number.to_string().len());
    let sign = format!("{}^", " ".repeat(shown.mark));
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    format!("    {number} | {}\n    {gutter} | {sign}{name}", shown.text)
}

/// A line as it may be shown.
struct Masked {
    text: String,
    /// Where the place is in it, in characters.
    mark: usize,
}

impl Masked {
    fn of(line: &str, at: usize, words: &str) -> Masked {
        let chars: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
        let mut masked = Masked { text: String::new(), mark: usize::MAX };
        let (mut index, mut depth) = (0, 0_usize);
        while index < chars.len() {
            let c = chars[index];
            let is_dash = c == '-' && depth == 0 && chars.get(index + 1).is_none_or(|next| *next == ' ');
            if c == '#' && (index == 0 || chars[index - 1] == ' ') {
                break;
            }
            if c == ' ' || is_dash || matches!(c, '{' | '}' | '[' | ']' | ',') {
                match c {
                    '{' | '[' => depth += 1,
                    '}' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                masked.push(&chars[index..=index], index, at, true);
                index += 1;
                continue;
            }
            let end = token(&chars, index, depth > 0);
            let is_key =
                chars.get(end) == Some(&':') && chars.get(end + 1).is_none_or(|next| matches!(next, ' ' | '{' | '['));
            let word: String = chars[index..end].iter().collect();
            let bare = word.trim_matches(['"', '\'']);
            if is_key {
                let known = ALL_KEYS.iter().any(|(_, keys)| keys.contains(&bare)) || quotes(words, bare);
                masked.push(&chars[index..end], index, at, known);
                masked.push(&[':'], end, at, true);
                index = end + 1;
            } else {
                // Outside of brackets a value goes on to the end of the line.
                let end = if depth == 0 { chars.len() } else { end };
                let value: String = chars[index..end].iter().collect();
                let blanks = value.chars().rev().take_while(|c| *c == ' ').count();
                let value = value.trim_end().trim_matches(['"', '\'']);
                masked.push(&chars[index..end - blanks], index, at, quotes(words, value) || is_reference(value));
                index = end - blanks;
            }
        }
        masked.mark = masked.mark.min(masked.text.trim_end().chars().count());
        masked.text.truncate(masked.text.trim_end().len());
        masked
    }

    /// Appends a piece that begins at `index` of the line.
    fn push(&mut self, piece: &[char], index: usize, at: usize, shown: bool) {
        if (index..index + piece.len()).contains(&at) {
            self.mark = self.text.chars().count() + if shown { at - index } else { 0 };
        }
        match shown {
            true => self.text.extend(piece),
            false if self.text.ends_with(MASK) => {}
            false => self.text.push(MASK),
        }
    }

    /// Cuts a long line down to what is around the place.
    fn crop(&mut self) {
        let length = self.text.chars().count();
        if length <= WIDTH {
            return;
        }
        let from = self.mark.saturating_sub(WIDTH / 2).min(length - WIDTH);
        self.text = self.text.chars().skip(from).take(WIDTH).collect();
        self.mark -= from;
    }
}

/// Where the word that begins at `from` ends: a quoted text behind its quote, any other before a colon that
/// ends a key, and inside brackets before a bracket or a comma.
fn token(chars: &[char], from: usize, in_flow: bool) -> usize {
    let quote = chars[from];
    if matches!(quote, '"' | '\'') {
        let mut index = from + 1;
        while index < chars.len() && chars[index] != quote {
            index += if chars[index] == '\\' && quote == '"' { 2 } else { 1 };
        }
        return (index + 1).min(chars.len());
    }
    // `${…}` may hold anything.
    if quote == '$' && chars.get(from + 1) == Some(&'{') {
        let end = chars[from..].iter().position(|c| *c == '}').map_or(chars.len(), |at| from + at + 1);
        return end;
    }
    let ends = |index: &usize| match chars[*index] {
        ':' => chars.get(index + 1).is_none_or(|next| matches!(next, ' ' | '{' | '[')),
        '{' | '}' | '[' | ']' | ',' => in_flow,
        _ => false,
    };
    (from..chars.len()).find(ends).unwrap_or(chars.len())
}

fn quotes(words: &str, text: &str) -> bool {
    !text.is_empty() && words.contains(&format!("`{text}`"))
}

/// `${NAME}` or `${file:PATH}` alone: says where a value is, not what it is.
fn is_reference(value: &str) -> bool {
    let inside = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| !inside.contains(['{', '}', '$']) && !inside.contains(":-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, column: u64, words: &str) -> String {
        render(line, 1, column, Some("a.b"), words)
    }

    #[test]
    fn the_line_is_shown_with_a_sign_and_the_key() {
        assert_eq!(
            shown("collect: { poll_interval: 30, fetches: 4 }", 27, "`30` is not a duration"),
            "    1 | collect: { poll_interval: 30, fetches: … }\n      |                           ^ a.b"
        );
        assert_eq!(
            shown("  - pollInterval: 30s   # canary", 5, "unknown key `pollInterval` in `collect`"),
            "    1 |   - pollInterval: …\n      |     ^ a.b"
        );
        assert_eq!(
            shown("  token: \"${file:/run/x}\"", 10, "").lines().next(),
            Some("    1 |   token: \"${file:/run/x}\"")
        );
    }

    #[test]
    fn nothing_is_shown_that_may_be_a_secret() {
        for line in [
            "token: canary",
            "tokn: 'canary', x: canary",
            "  token: canary: canary: \"canary",
            "- { token: canary, tokn: [canary, \"canary, canary\"], x: {y: canary} }",
            "token: ${X:-canary}",
            "canary",
            "canary canary: canary",
            "\"canary\": 1",
            "{\"token\":\"canary\",\"x\":canary}",
            "token: # canary",
            "      canary, canary",
            "token: \"a\\\"canary\" canary",
        ] {
            for column in [1, 5, 9, 30, 900] {
                let shown = shown(line, column, "this is not `right`");
                assert!(!shown.contains("canary"), "{line}:\n{shown}");
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_no_line_shows_nothing() {
        let line = format!("a: [{}]", "[], ".repeat(200));
        let shown = shown(&line, 401, "");
        assert!(shown.lines().all(|line| line.chars().count() < 130), "{shown}");
        assert_eq!(render("one line", 2, 1, None, ""), "");
        assert_eq!(render("one line", 0, 0, None, ""), "");
    }
}
