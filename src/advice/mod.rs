//! What the refusals of Microsoft and the failures of the network mean, and what to do: one catalogue for
//! the log, `/status`, `explain` and docs/errors.md.
//!
//! Comes in: a code, or the text of an error. Goes out: an [`Advice`]. A number is a hint and never decides
//! what the program does: Microsoft says that clients are to go by `error` and the status (operations 6), and
//! [`source::error`](crate::source::error) does. What the service said is shown beside the advice, never
//! replaced by it.

mod api;
mod login;
mod transport;

/// An entry of the catalogue.
#[derive(Debug)]
pub struct Advice {
    /// As Microsoft spells it (`AADSTS7000215`, `AF20023`), or our name for a cause of the network (`proxy-407`).
    pub code: &'static str,
    /// What else an error's text says when it is this; in the words of the libraries that say so.
    pub marks: &'static [&'static str],
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// What to do, where to click.
    pub action: &'static str,
    pub passes: Passes,
}

/// Whether it passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Tried again until it does.
    ByItself,
    /// Not before somebody mends it; then it is noticed without a restart.
    WhenMended,
    /// The configuration must change.
    WhenConfigured,
    /// What was asked for is gone.
    Never,
    /// Nothing is wrong.
    NoTrouble,
}

impl Passes {
    /// In words, for a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Passes::ByItself => "yes; it is tried again until then, and nothing is lost within the 7 days",
            Passes::WhenMended => "no; once it is mended that is noticed without a restart",
            Passes::WhenConfigured => "no; the configuration must change",
            Passes::Never => "no; what was asked for is gone, and the ledger names it",
            Passes::NoTrouble => "nothing is wrong",
        }
    }
}

/// A heading and what stands below it.
pub type Chapter = (&'static str, &'static [Advice]);

/// What services answer.
const SERVICES: [Chapter; 2] = [("The token endpoint", login::LOGIN), ("The Management Activity API", api::API)];

/// The whole catalogue by chapters, in the order of docs/errors.md.
pub const CHAPTERS: [Chapter; 3] = [SERVICES[0], SERVICES[1], ("The network", transport::TRANSPORT)];

/// Every entry.
pub fn all() -> impl Iterator<Item = &'static Advice> {
    CHAPTERS.into_iter().flat_map(|(_, entries)| entries)
}

/// The entry of a code, however it is written: `aadsts7000215`, `7000215`, `AF20023`.
pub fn of_code(code: &str) -> Option<&'static Advice> {
    let code = code.trim();
    let is = |entry: &&Advice| {
        let bare = entry.code.strip_prefix("AADSTS").unwrap_or(entry.code);
        entry.code.eq_ignore_ascii_case(code) || bare == code
    };
    all().find(is)
}

/// The entry that fits an error's text: by the first code in it that is known, else by what libraries say.
pub fn of_text(text: &str) -> Option<&'static Advice> {
    of_text_in(text, &CHAPTERS)
}

/// The same for what a service answered: whatever its words, the network did its work.
fn of_answer(text: &str) -> Option<&'static Advice> {
    of_text_in(text, &SERVICES)
}

fn of_text_in(text: &str, chapters: &[Chapter]) -> Option<&'static Advice> {
    let has = |entry: &&Advice| entry.marks.iter().any(|mark| text.contains(mark));
    codes(text).find_map(of_code).or_else(|| chapters.iter().flat_map(|(_, entries)| *entries).find(has))
}

/// `; what to do: …`, to stand behind an error's text; nothing where nothing is known.
pub fn hint(text: &str) -> String {
    hint_of(text, of_text(text))
}

/// The same behind what a service answered, with nothing about the network.
pub fn hint_of_answer(text: &str) -> String {
    hint_of(text, of_answer(text))
}

fn hint_of(text: &str, entry: Option<&Advice>) -> String {
    let joint = if text.ends_with('.') { "" } else { ";" };
    match (entry, codes(text).find(|code| code.starts_with("AADSTS"))) {
        (Some(entry), _) => format!("{joint} what to do: {} (see `auditferry explain {}`)", entry.action, entry.code),
        (None, Some(code)) => format!("{joint} see {}", page_of(code)),
        (None, None) => String::new(),
    }
}

/// Microsoft's own page about an AADSTS number.
pub fn page_of(code: &str) -> String {
    format!("https://login.microsoftonline.com/error?code={}", code.trim_start_matches("AADSTS"))
}

/// Every `AADSTS…` and `AF…` of a text, digits and all: `AADSTS700016` is not in `AADSTS7000160`.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| {
        let digits = word.strip_prefix("AADSTS").or_else(|| word.strip_prefix("AF"));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_whole_and_as_people_write_it() {
        for written in ["AADSTS7000215", "aadsts7000215", "7000215", " AADSTS7000215 "] {
            assert_eq!(of_code(written).unwrap().code, "AADSTS7000215", "{written}");
        }
        assert_eq!(of_code("af20023").unwrap().code, "AF20023");
        assert!(of_code("20023").is_none() && of_code("AADSTS").is_none() && of_code("").is_none());
        assert_eq!(of_text("x, AADSTS700016: Application").unwrap().code, "AADSTS700016");
        assert!(of_text("AADSTS7000160: nobody knows").is_none());
        assert_eq!(of_text("status 400, AF20022: no subscription").unwrap().code, "AF20022");
        assert!(of_text("half of it").is_none());
    }

    #[test]
    fn the_hint_names_the_way_out_and_an_unknown_number_leads_to_microsofts_page() {
        let known = hint("AADSTS7000222: The provided client secret keys are expired.");
        assert!(known.contains("new secret") && known.contains("explain AADSTS7000222"), "{known}");
        assert!(hint("AADSTS99999991: new").contains("https://login.microsoftonline.com/error?code=99999991"));
        assert_eq!(hint("nothing known"), "");
    }

    #[test]
    fn words_of_a_service_are_no_trouble_of_the_network() {
        let said = "AADSTS90099: Request timed out within the service.";
        assert_eq!(of_text(said).unwrap().code, "timeout");
        assert!(!hint_of_answer(said).contains("firewall"), "{}", hint_of_answer(said));
        assert!(hint_of_answer(said).contains("error?code=90099"), "{}", hint_of_answer(said));
        assert_eq!(hint_of_answer("Connection refused"), "");
        assert!(hint_of_answer("Identity not found").contains("managed_identity.client_id"));
    }

    /// Each entry is there once, says what to do, and its marks lead to no other.
    #[test]
    fn the_catalogue_is_sound() {
        let mut seen = std::collections::HashSet::new();
        for entry in all() {
            assert!(seen.insert(entry.code.to_ascii_lowercase()), "{} is there twice", entry.code);
            assert!(entry.meaning.len() > 15 && entry.action.len() > 15, "{}", entry.code);
            for text in [entry.meaning, entry.action] {
                assert!(!text.ends_with('.') && !text.contains('\n') && !text.contains('|'), "{}: {text}", entry.code);
            }
            for mark in entry.marks {
                assert_eq!(of_text(mark).unwrap().code, entry.code, "`{mark}`");
            }
        }
        assert!(seen.len() > 50);
    }
}
