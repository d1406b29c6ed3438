//! Preset `slack`: an incoming webhook ("Sending messages using incoming webhooks", "Formatting text for app
//! surfaces"). Comes in: an ECS document. Goes out: `{"text": …}`, a headline and a line of facts. Nothing in a
//! record can become a mention, or a link that shows another text than its address: `&`, `<` and `>` are what makes
//! one. An address that stands in a record Slack itself shows as a link to it; nothing of it is fetched ("unfurled").

use std::fmt::Write as _;

use super::summary::{Summary, on_one_line};
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
    out.extend_from_slice(b"\",\"unfurl_links\":false,\"unfurl_media\":false}");
}

/// Text that is shown as it is, on one line: a line of its own could pass for a fact.
pub(super) fn plain(text: &str) -> String {
    on_one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What stands between two asterisks on one line.
fn bold(text: &str) -> String {
    text.chars().map(|character| if character == '*' { ' ' } else { character }).collect()
}
