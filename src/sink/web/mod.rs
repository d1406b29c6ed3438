//! What all sinks that speak HTTP share. Other sinks build on this interface: keep it stable.
//!
//! * [`exchange`]: one request, logged in, and its answer read in bounds and free of secrets ([`Exchange::ask`]);
//!   or [`NoAnswer`], which says whether the request may have arrived and turns into a [`SendError`](super::SendError).
//! * [`login`]: by what right a sink asks ([`Login`]): nothing, a token, a name with a password, a header of any
//!   name, OAuth2 client credentials; beside it further headers and a [`signature`]. Read again by
//!   [`Login::read_again`], which every probe calls.
//! * [`compress`]: gzip in turns with other work. [`excerpt`]: an answer's first words for logs and dead letters.
//!
//! Comes in: requests that a sink began. Goes out: what was answered. Never judges an answer (each sink's own),
//! never follows a redirect, never tries twice but for one thing: a token that the receiver no longer takes is
//! fetched anew and shown once more.

pub(super) mod compress;
pub(super) mod exchange;
pub(super) mod login;
mod oauth;
mod signature;
#[cfg(test)]
mod tests;

pub(super) use exchange::{ANSWER_LIMIT, Exchange, Heard, NoAnswer};
pub(super) use login::Login;

/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// An answer's text, cut, with control characters escaped: it ends in logs and dead letters. Give it what
/// [`Exchange::ask`] heard: that is free of secrets.
pub(super) fn excerpt(body: &[u8]) -> String {
    // A character has at most four bytes.
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]);
    excerpt_of_text(&text)
}

/// The same of a text that was taken out of an answer.
pub(super) fn excerpt_of_text(text: &str) -> String {
    text.trim().chars().take(SHOWN).flat_map(show).collect()
}

fn show(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}
