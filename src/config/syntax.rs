//! What is wrong with the YAML itself, in words for whoever wrote the file, and how to go on behind it: the
//! block at the top level that cannot be read is left out, so that the faults of the others are told too.
//!
//! Comes in: the parser's error, and the text. Goes out: a fault's words, and the text without the block, line
//! for line. Never quotes a value.

use serde_saphyr::Error;

/// A block of the top level: its key and its lines, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub key: String,
    pub first: usize,
    /// The line behind its last.
    pub end: usize,
}

/// What is wrong and what to do, in one line each. `line` is the line of the fault.
pub(super) fn words(error: &Error, line: &str) -> (String, &'static str) {
    let indentation = &line[..line.len() - line.trim_start().len()];
    let said = |text: &str, hint| (text.to_owned(), hint);
    match error {
        _ if indentation.contains('\t') => said(
            "a tab stands where YAML wants spaces",
            "indent with spaces only; an editor that knows YAML does it by itself",
        ),
        Error::MultipleDocuments { .. } => said(
            "a second document begins here, and a configuration is one",
            "remove the `---`; further tenants go into files of a directory, named in `tenants_from`",
        ),
        _ if is_too_much(error) => said(
            "this file unfolds to more than any configuration holds",
            "aliases of aliases multiply, and nesting has an end: write out what is meant",
        ),
        Error::UnknownAnchor { .. } => said(
            "the alias names no anchor that stands before it",
            "define it with `&name`, or quote a value that begins with `*`",
        ),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            said("`<<` merges mappings, and this is none", "give an alias of a mapping: `<<: *name`")
        }
        Error::UnsupportedTag { .. } => said(
            "a YAML tag (`!…`) means nothing in a configuration",
            "remove it; a secret comes in as \"${file:/run/secrets/…}\", and a value that begins with `!` needs quotes",
        ),
        Error::NullIntoString { .. } | Error::Unexpected { .. } => said(
            "a key is one plain word, and here stands none",
            "write `key: value`; the keys are in `auditferry config example`",
        ),
        // What the parser says of the syntax: never a value.
        Error::ExternalMessage { msg, .. } => (
            msg.clone(),
            "YAML indents with spaces, keeps the keys of one mapping in one column, and wants quotes around values that contain `: ` or `#` or begin with a sign",
        ),
        _ => said("this cannot be read as YAML", "compare it with `auditferry config example`"),
    }
}

/// Whether the file unfolds beyond all bounds: then nothing more of it is read.
pub(super) fn is_too_much(error: &Error) -> bool {
    matches!(
        error,
        Error::Budget { .. }
            // What strikes while an alias is unfolded.
            | Error::AliasError { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
            | Error::AliasReplayCounterOverflow { .. }
    )
}

/// Whether nothing that follows can be told apart from what is wrong.
pub(super) fn is_the_end(error: &Error) -> bool {
    is_too_much(error) || matches!(error, Error::MultipleDocuments { .. })
}

/// The blocks of the top level, by their keys in the first column.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = 0;
    for (number, line) in text.lines().enumerate() {
        lines = number + 1;
        let word = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
        if word > 0 && line[word..].starts_with(':') {
            if let Some(last) = found.last_mut() {
                last.end = number;
            }
            found.push(Block { key: line[..word].to_owned(), first: number, end: lines });
        }
    }
    if let Some(last) = found.last_mut() {
        last.end = lines;
    }
    found
}

/// The text without these blocks, of which blanks stay, so that every place in the others stays what it is.
pub(super) fn without(text: &str, left_out: &[Block]) -> String {
    let is_out = |number: usize| left_out.iter().any(|block| (block.first..block.end).contains(&number));
    let mut left = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match line.strip_suffix('\n') {
            _ if !is_out(number) => left.push_str(line),
            Some(inside) => {
                left.extend(std::iter::repeat_n(' ', inside.len()));
                left.push('\n');
            }
            None => left.extend(std::iter::repeat_n(' ', line.len())),
        }
    }
    left
}

/// Says which block to leave out so that `error_line` (from 0) is no longer where the parser stops: the one
/// before, where something is not closed, or the one it stands in. `stops` parses a text and gives the line at
/// which it stops.
pub(super) fn culprit(
    text: &str,
    left_out: &[Block],
    error_line: usize,
    stops: impl Fn(&str) -> Option<usize>,
) -> Option<Block> {
    let blocks: Vec<Block> = blocks(text).into_iter().filter(|block| !left_out.contains(block)).collect();
    let at = blocks.iter().rposition(|block| block.first <= error_line)?;
    let mut candidates: Vec<usize> = at.checked_sub(1).into_iter().collect();
    candidates.push(at);
    candidates.into_iter().map(|index| blocks[index].clone()).find(|block| {
        let mut out = left_out.to_vec();
        out.push(block.clone());
        let goes_on = stops(&without(text, &out)).is_none_or(|line| line >= blocks[at].end.max(error_line + 1));
        // A block that can be read by itself is not to blame.
        let others: Vec<Block> = blocks.iter().filter(|other| *other != block).cloned().collect();
        goes_on && stops(&without(text, &others)).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_moves_nothing() {
        let text = "a: 1\nbé:\n  c: é\n# note\nd: 2";
        let blocks = blocks(text);
        let keys: Vec<(&str, usize, usize)> = blocks.iter().map(|b| (b.key.as_str(), b.first, b.end)).collect();
        assert_eq!(keys, [("a", 0, 4), ("d", 4, 5)], "a key of the schema is a plain word");
        let left = without(text, &blocks[..1]);
        assert_eq!((left.len(), left.find("d: 2"), left.trim()), (text.len(), text.find("d: 2"), "d: 2"));
    }
}
