//! Whether anybody is left to read what is written. Comes in: the writing end of a pipe, or a file. Goes out: yes or no, at once;
//! nothing is written and nothing is waited for.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// True where the last reader of a pipe has closed its end; a file always has readers.
pub(super) fn are_gone(out: impl AsFd) -> bool {
    let at_once = Timespec::default();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    // Of the writing end of a pipe: "POLLERR … is also set … when the read end has been closed" (poll(2)).
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_readers_until_the_last_end_is_closed() {
        let (one, pipe) = std::io::pipe().unwrap();
        let other = one.try_clone().unwrap();
        drop(one);
        assert!(!are_gone(&pipe));
        drop(other);
        assert!(are_gone(&pipe));
        assert!(!are_gone(tempfile::tempfile().unwrap()));
    }
}
