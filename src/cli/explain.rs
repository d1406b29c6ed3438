//! `explain`: an entry of the catalogue of errors, or all their codes. Asks nobody.

use std::fmt::Write as _;
use std::io::Write as _;

use super::Exit;
use crate::advice::{self, Advice, CHAPTERS};

/// Prints what is known of a code, or of the first code in a text; exit 1 where nothing is.
pub(super) fn explain(code: Option<&str>) -> anyhow::Result<Exit> {
    let found = code.map(|code| advice::of_code(code).or_else(|| advice::of_text(code)));
    let text = match found {
        None => all(),
        Some(Some(entry)) => one(entry),
        Some(None) => {
            let code = code.unwrap_or_default();
            eprintln!("nothing is known of `{}`; `auditferry explain` lists all codes", code.escape_debug());
            if code.starts_with("AADSTS") {
                eprintln!("Microsoft's page: {}", advice::page_of(code));
            }
            return Ok(Exit::No);
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Good)
}

fn one(entry: &Advice) -> String {
    let mut out = format!(
        "{}\n  means   {}\n  do      {}\n  passes  {}\n",
        entry.code,
        entry.meaning,
        entry.action,
        entry.passes.as_str()
    );
    if entry.code.starts_with("AADSTS") {
        // Writing to a string does not fail.
        let _ = writeln!(out, "  page    {}", advice::page_of(entry.code));
    }
    out
}

fn all() -> String {
    let mut out = String::new();
    for (chapter, entries) in CHAPTERS {
        let _ = writeln!(out, "{chapter}");
        for entry in entries {
            let _ = writeln!(out, "  {:<24} {}", entry.code, entry.meaning);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_it_means_what_to_do_and_whether_it_passes() {
        let said = one(advice::of_code("AADSTS7000222").unwrap());
        for part in ["the client secret expired", "make a new secret", "without a restart", "error?code=7000222"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let all = all();
        assert!(advice::all().all(|entry| all.contains(entry.code)));
    }
}
