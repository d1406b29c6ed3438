//! `${VAR}`, `${VAR:-default}` and `${file:PATH}` inside one scalar of the parsed tree, never in the
//! text: a value can therefore never become a key, a list or a comment. `$${` stands for `${`.
//! Comes in: the scalar as written. Goes out: the value, or a fault at the scalar's place that names
//! the variable and never its content.

use std::path::{Path, PathBuf};

use super::faults::{Place, Reader};

/// What lies between two references.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
    File(&'a str),
}

/// The scalar with every reference replaced.
pub(super) fn interpolate(text: &str, place: &Place, reader: &mut Reader<'_>) -> Option<String> {
    let pieces = match pieces(text) {
        Ok(pieces) => pieces,
        Err(message) => {
            reader.fault(
                place,
                message,
                "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`; `$${` stands for a literal `${`",
            );
            return None;
        }
    };
    let mut value = String::new();
    let mut good = true;
    if pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
        reader.refers(place);
    }
    for piece in pieces {
        match piece {
            Piece::Text(text) => value.push_str(text),
            Piece::Variable { name, default } => match (reader.variables)(name) {
                Some(found) if !found.is_empty() || default.is_none() => value.push_str(&found),
                _ => match default {
                    Some(default) => value.push_str(default),
                    None => {
                        let hint = format!("set it, or give a default: `${{{name}:-…}}`");
                        reader.fault(place, format!("the environment variable `{name}` is not set"), hint);
                        good = false;
                    }
                },
            },
            Piece::File(path) => match reader.inputs.read_text(Path::new(path)) {
                Ok(found) => value.push_str(found.trim_end_matches(['\r', '\n'])),
                Err(error) => {
                    reader.fault(
                        place,
                        format!("cannot read `{path}`: {error}"),
                        "check that the file is mounted and readable",
                    );
                    good = false;
                }
            },
        }
    }
    good.then_some(value)
}

/// The path, when the scalar is exactly one `${file:PATH}`: what a secret keeps instead of a value.
pub(super) fn sole_file(text: &str) -> Option<PathBuf> {
    match pieces(text).ok()?.as_slice() {
        [Piece::File(path)] => Some(PathBuf::from(path)),
        _ => None,
    }
}

/// True when the scalar refers to nothing: it stands in the file as it is.
pub(super) fn is_literal(text: &str) -> bool {
    pieces(text).is_ok_and(|pieces| pieces.iter().all(|piece| matches!(piece, Piece::Text(_))))
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let Some(end) = rest[at..].find('}') else {
            return Err("a `${` has no `}`".to_owned());
        };
        pieces.push(reference(&rest[at + 2..at + end])?);
        rest = &rest[at + end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

fn reference(inside: &str) -> Result<Piece<'_>, String> {
    if let Some(path) = inside.strip_prefix("file:") {
        return if path.is_empty() { Err("`${file:}` names no file".to_owned()) } else { Ok(Piece::File(path)) };
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("`${{{name}}}` is not the name of a variable"));
    }
    Ok(Piece::Variable { name, default })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let variables = |name: &str| match name {
            "HOST" => Some("splunk".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut reader = Reader::new(&variables);
        interpolate(text, &Place::default(), &mut reader).ok_or_else(|| reader.faults[0].text.clone())
    }

    #[test]
    fn replaces_what_is_set_and_falls_back_to_the_default() {
        assert_eq!(run("https://${HOST}:${PORT:-8088}/").unwrap(), "https://splunk:8088/");
        assert_eq!(run("[${EMPTY}][${EMPTY:-x}][${NONE:-}]").unwrap(), "[][x][]");
        assert_eq!(run("$${HOST} costs $5 and $").unwrap(), "${HOST} costs $5 and $");
    }

    #[test]
    fn a_value_is_not_interpolated_again() {
        let variables = |name: &str| (name == "A").then(|| "${B}".to_owned());
        let mut reader = Reader::new(&variables);
        assert_eq!(interpolate("${A}", &Place::default(), &mut reader).as_deref(), Some("${B}"));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert!(run("${NONE}").unwrap_err().contains("`NONE` is not set"));
        assert!(run("${HOST").unwrap_err().contains("no `}`"));
        assert!(run("${HO ST}").unwrap_err().contains("not the name"));
        assert!(run("${file:}").unwrap_err().contains("names no file"));
        assert!(run("${file:/nowhere/x}").unwrap_err().contains("/nowhere/x"));
    }

    #[test]
    fn a_file_gives_its_text_without_the_newline_and_alone_it_is_a_source() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let path = file.path().display();
        assert_eq!(run(&format!("<${{file:{path}}}>")).unwrap(), "<s3cret>");
        assert_eq!(sole_file(&format!("${{file:{path}}}")).as_deref(), Some(file.path()));
        assert_eq!(sole_file(&format!("x${{file:{path}}}")), None);
    }
}
