//! How far the reading is, drawn on a terminal.
//!
//! Comes in: the files. Goes out: a bar that counts their bytes as they lie on the disk, packed or not. Drawn
//! only where somebody looks at it and it is worth it: stderr is a terminal, stdout is not (there the output
//! itself shows it), and the files are long. No colours where they are not wanted (`NO_COLOR`).

use std::fs::Metadata;
use std::io::IsTerminal;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::logging::colours;

/// Shorter inputs are done before anybody has read a bar: about a second.
const LONG: u64 = 32 * 1024 * 1024;

/// A bar for these files, hidden where none is to be drawn.
pub fn bar(files: &[PathBuf]) -> ProgressBar {
    let is_watched = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    match total(files) {
        Some(total) if is_watched && total >= LONG => ProgressBar::new(total).with_style(style(colours(true))),
        _ => ProgressBar::hidden(),
    }
}

/// Bytes of all files together; `None` where one is a pipe or the like.
fn total(files: &[PathBuf]) -> Option<u64> {
    let standard_input = [PathBuf::from("-")];
    let files = if files.is_empty() { &standard_input } else { files };
    let length = |found: Metadata| found.is_file().then_some(found.len());
    files
        .iter()
        .map(|path| match path.as_os_str() == "-" {
            // Works for `< file`, wherever the file lies.
            true => std::fs::metadata("/dev/stdin").ok().and_then(length),
            // What is not there is said where it is read.
            false => std::fs::metadata(path).map_or(Some(0), length),
        })
        .sum()
}

fn style(is_coloured: bool) -> ProgressStyle {
    let bar = if is_coloured { "{bar:40.cyan/dim}" } else { "{bar:40}" };
    let template = format!("{bar} {{percent:>3}} %  {{bytes}} of {{total_bytes}}  {{eta}} left");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_where_nobody_looks() {
        assert!(bar(&[]).is_hidden());
    }

    #[test]
    fn the_bytes_of_all_files_count_and_a_pipe_has_no_number() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        std::fs::write(&one, [0; 10]).unwrap();
        std::fs::write(&two, [0; 5]).unwrap();
        assert_eq!(total(&[one.clone(), directory.path().join("none"), two]), Some(15));
        assert_eq!(total(&[one, PathBuf::from("/dev/null")]), None);
    }
}
