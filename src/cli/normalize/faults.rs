//! What could not be read, for people: `FILE:LINE: reason`, one line each.
//!
//! Comes in: where and why. Goes out: lines on stderr, the first [`SHOWN`] of them, then how many there
//! were. Control characters are escaped: names and reasons are somebody else's text.

use std::fmt::Display;
use std::io::Write;

use indicatif::ProgressBar;

/// Lines that are written in full.
const SHOWN: u64 = 20;
/// Characters of a reason that are shown: a parser may quote what it did not expect.
const MAX_REASON: usize = 200;
/// Of a reason that speaks of an input as a whole.
const MAX_WHOLE: usize = 500;

/// See the module's head.
pub struct Faults<W> {
    out: W,
    /// Steps aside while a line is written.
    bar: ProgressBar,
    /// Elements that are no records.
    unreadable: u64,
    /// Inputs that could not be read to their end.
    broken: u64,
}

impl<W: Write> Faults<W> {
    pub fn new(out: W, bar: ProgressBar) -> Faults<W> {
        Faults { out, bar, unreadable: 0, broken: 0 }
    }

    /// An element that is no record; it stands in the output as a pipeline error.
    pub fn unreadable(&mut self, file: &dyn Display, line: u64, reason: &str) {
        self.unreadable += 1;
        if self.unreadable <= SHOWN {
            self.say(&format!("{file}:{line}: {}", shortened(&of_the_record(reason), MAX_REASON)));
        }
    }

    /// An input that could not be opened, or not be read beyond `line`.
    pub fn broken(&mut self, file: &dyn Display, line: Option<u64>, reason: &dyn Display) {
        self.broken += 1;
        let (place, what) = match line {
            Some(line) => (format!(":{line}"), "cannot be read any further"),
            None => (String::new(), "cannot be read"),
        };
        self.say(&format!("{file}{place}: {what}: {}", shortened(&reason.to_string(), MAX_WHOLE)));
    }

    /// Says how many there were. True if there were any.
    pub fn finish(&mut self) -> bool {
        self.bar.finish_and_clear();
        let place = "see `error.message` in the output";
        match (self.unreadable, self.unreadable.saturating_sub(SHOWN)) {
            (0, _) => {}
            (all, 0) => self.say(&format!("{all} could not be read as audit records; {place}")),
            (all, more) => self.say(&format!("and {more} more: {all} could not be read as audit records; {place}")),
        }
        self.unreadable + self.broken > 0
    }

    fn say(&mut self, text: &str) {
        let line: String =
            text.chars().map(|c| if c.is_control() { c.escape_unicode().to_string() } else { c.into() }).collect();
        let Faults { out, bar, .. } = self;
        // There is nobody left to tell if stderr is closed; the exit code still says it.
        let _ = bar.suspend(|| writeln!(out, "{line}"));
    }
}

/// The parser counts lines from the beginning of the record, not of the file.
fn of_the_record(reason: &str) -> String {
    match reason.contains(" at line ") {
        true => format!("{reason} of the record"),
        false => reason.to_owned(),
    }
}

fn shortened(reason: &str, most: usize) -> String {
    match reason.char_indices().nth(most) {
        // The end of the reason says where the fault is.
        Some((cut, _)) => {
            let tail = reason.rfind(" at line ").filter(|at| *at >= cut).map_or("", |at| &reason[at..]);
            format!("{} …{tail}", &reason[..cut])
        }
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(tell: impl FnOnce(&mut Faults<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        let mut faults = Faults::new(&mut out, ProgressBar::hidden());
        tell(&mut faults);
        faults.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(said(|_| {}), "");
    }

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let text = said(|faults| (1..=30).for_each(|line| faults.unreadable(&"a.json", line, "broken")));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[19]), (21, "a.json:1: broken", "a.json:20: broken"));
        assert!(lines[20].starts_with("and 10 more: 30 could not be read"));
    }

    #[test]
    fn a_name_or_reason_cannot_forge_a_line_or_drive_a_terminal() {
        let text = said(|faults| {
            faults.unreadable(&"a\nb", 1, &format!("\u{1b}[31m{} at line 3 column 5", "x".repeat(5000)));
            faults.broken(&"c", Some(7), &"corrupt");
        });
        assert!(!text.contains('\u{1b}') && text.len() < 500);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("a\\u{a}b:1: \\u{1b}[31mxx")
                && lines[0].ends_with("… at line 3 column 5 of the record")
        );
        assert_eq!(lines[1], "c:7: cannot be read any further: corrupt");
    }
}
