//! The file of dead letters: appended to by any number of processes, each line whole and on the disk before it
//! counts. Comes in: what writes lines. Goes out: the operating system's errors. Blocking.
//!
//! Whoever touches the file owns its lock while it does, so that a line of one process is never torn or taken for torn by
//! another: `run` appends while `replay` sets the file aside.

use std::io::{self, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::letter::CHUNK;
use crate::disk::{self, File, Fsync};

/// How often the file may be somebody else's, or set aside between its opening and its lock, before that is an error:
/// ten seconds, far more than a letter needs.
const TRIES: usize = 500;
/// Between two looks.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// Opened anew each time: letters are rare, and so the file may be moved away while we run.
pub(super) fn append_durably(path: &Path, write: impl Fn(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = open_at_line_start(path)?;
    let before = file.about()?.length;
    let written = write(&mut file).and_then(|()| file.fsync(Fsync::Letters));
    if written.is_err() {
        // Half a line must not stay: the next try would leave the letter twice, once torn.
        let _ = file.set_len(before);
    }
    written
}

pub(super) fn open_at_line_start(path: &Path) -> io::Result<File> {
    let mut file = open_alone(path)?;
    // Not only of a new file: a process that was killed may have made the name and not its fsync.
    disk::fsync_dir(path.parent().unwrap_or(Path::new("")), Fsync::LettersName)?;
    let length = file.about()?.length;
    let line = start_of_last_line(&file, length)?;
    if line < length {
        repair_last_line(&mut file, path, line)?;
    }
    Ok(file)
}

/// The file that bears the name, owned until it is closed: another process may have set it aside in between.
fn open_alone(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let (file, _) = disk::append(path, 0o600)?;
        // Not waited for in the kernel: who has it may have given it another name, and keep it for long.
        if !file.try_own() {
            std::thread::park_timeout(LOOK);
            continue;
        }
        match disk::about(path) {
            Ok(about) if about.inode == file.about()?.inode => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the file is moved away again and again"))
}

/// Dead letters that were set aside: nobody appends to them any more, and who has this is alone with them.
pub struct SetAside {
    pub path: PathBuf,
    /// By an earlier call: what lies in the file that bears the name was not looked at.
    pub was_left: bool,
    #[expect(dead_code, reason = "held for its lock")]
    file: File,
}

/// What stands between the name of the file and a number, of letters that were set aside.
const ASIDE: &str = ".replaying-";

/// Gives the letters in `path` a name of their own, so that they can be worked on while others append to a new file: what
/// an earlier call left first, else what there is now. `None`: there is none. A letter that is just being written is waited for.
///
/// # Errors
/// `WouldBlock`: another process is at it.
pub fn set_aside(path: &Path) -> io::Result<Option<SetAside>> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}{ASIDE}");
    let mut left: Vec<(u64, PathBuf)> = Vec::new();
    let entries = match disk::list(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    for entry in entries {
        let number = entry.file_name().and_then(|name| name.to_str()?.strip_prefix(&prefix)?.parse().ok());
        left.extend(number.map(|number| (number, entry)));
    }
    left.sort();
    if let Some((_, path)) = left.into_iter().next() {
        let file = disk::open_to_write(&path)?;
        let is_ours = file.try_own();
        return if is_ours {
            Ok(Some(SetAside { path, was_left: true, file }))
        } else {
            Err(ErrorKind::WouldBlock.into())
        };
    }
    if disk::about(path).is_err() {
        return Ok(None);
    }
    let file = open_at_line_start(path)?;
    if file.about()?.length == 0 {
        return Ok(None);
    }
    let aside = path.with_file_name(format!("{prefix}{}", crate::clock::world_ms()));
    disk::rename(path, &aside)?;
    disk::fsync_dir(dir, Fsync::LettersName)?;
    Ok(Some(SetAside { path: aside, was_left: false, file }))
}

/// Appends letters that were set aside, whole lines, to the file again; they are on the disk when this returns. `lines`
/// may be asked for again.
pub fn put_back(path: &Path, lines: impl Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    append_durably(path, |file| lines(file))
}

/// Where the text after the last newline begins; `length` when the file ends with one.
fn start_of_last_line(file: &File, length: u64) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A last line without its newline: whole JSON gets one (an editor took it), anything else was torn
/// by a crash before it was promised, and its event is fetched again.
fn repair_last_line(file: &mut File, path: &Path, line: u64) -> io::Result<()> {
    let whole = serde_json::from_reader::<_, serde::de::IgnoredAny>(BufReader::new(file.reader_at(line))).is_ok();
    if whole {
        return file.write_all(b"\n");
    }
    tracing::warn!(path = %path.display(), "the last dead letter was torn by a crash and is cut; its event is fetched again");
    file.set_len(line)
}
