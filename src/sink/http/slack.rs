//! Preset `slack`: an incoming webhook ("Sending messages using incoming webhooks", "Formatting text for app
//! surfaces"). Comes in: an ECS document. Goes out: `{"text": …}`, a headline and a line of facts. Nothing in a
//! record can become a link or a mention: `&`, `<` and `>` are what makes one.

use std::fmt::Write as _;

use super::summary::Summary;
use crate::escape::escape;

/// Appends the message.
pub(super) fn push(document: &[u8], out: &mut Vec<u8>) {
    let summary = Summary::of(document);
    let mut text = format!("*{}*", bold(&plain(&summary.headline)));
    for (name, value) in &summary.facts {
        // Writing to memory cannot fail.
        let _ = write!(text, "\n{name}: {}", plain(value));
    }
    out.extend_from_slice(b"{\"text\":\"");
    escape(&text, out);
    out.extend_from_slice(b"\"}");
}

/// Text that is shown as it is.
pub(super) fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What stands between two asterisks on one line.
fn bold(text: &str) -> String {
    text.chars().map(|character| if character == '*' || character.is_control() { ' ' } else { character }).collect()
}
