//! How much of what was written to a TCP connection its peer has not acknowledged yet, as `ss` shows it: the
//! kernel's sock_diag over netlink, asked for the one connection by its addresses.
//!
//! Comes in: both ends of a connection. Goes out: bytes, those that the kernel has not sent yet included.
//! Where the kernel does not answer (a sandbox without netlink) nothing is known, which is said. Truth:
//! sock_diag(7), linux/inet_diag.h.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Message types of linux/sock_diag.h and linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const TCP: u8 = 6;
/// Of `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
/// Where `idiag_timer` and `idiag_retrans` stand in an answer, and `idiag_wqueue`: behind the header, four bytes, the
/// addresses (48), two numbers of four.
const TIMER_AT: usize = HEADER + 2;
const TRIES_AT: usize = HEADER + 3;
const QUEUE_AT: usize = HEADER + 4 + 48 + 8;
/// The timer that asks a peer without room whether it has some again, and how often it may go unanswered.
const ASKS_FOR_ROOM: u8 = 4;
const UNANSWERED: u8 = 2;

/// One connection, and how its queue is asked for.
pub(super) struct Unacknowledged {
    netlink: OwnedFd,
    request: [u8; HEADER + REQUEST],
}

/// What the kernel says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    /// Written and not acknowledged.
    pub bytes: u64,
    /// The peer is there and has no room: its process does not read.
    pub is_full: bool,
}

impl Unacknowledged {
    /// For the connection between these two.
    pub fn new(local: SocketAddr, peer: SocketAddr) -> io::Result<Unacknowledged> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let netlink = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
        Ok(Unacknowledged { netlink, request: request(local, peer) })
    }

    /// `None` where the connection is no more.
    pub fn now(&self) -> io::Result<Option<Queue>> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.netlink, &self.request, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 512];
        // The kernel answers before the sending returns.
        let (_, length) = recv(&self.netlink, &mut answer, RecvFlags::empty())?;
        let answer = answer.get(..length).unwrap_or_default();
        let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(*bytes.as_array()?)));
        match kind {
            Some(SOCK_DIAG_BY_FAMILY) => {
                let bytes = answer.get(QUEUE_AT..QUEUE_AT + 4).and_then(|bytes| bytes.as_array());
                let bytes = bytes.map(|bytes| u64::from(u32::from_ne_bytes(*bytes))).ok_or_else(unknown)?;
                let is_full = answer[TIMER_AT] == ASKS_FOR_ROOM && answer[TRIES_AT] <= UNANSWERED;
                Ok(Some(Queue { bytes, is_full }))
            }
            Some(NLMSG_ERROR) => {
                let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.as_array());
                let error = io::Error::from_raw_os_error(-code.map_or(0, |bytes| i32::from_ne_bytes(*bytes)));
                if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
            }
            _ => Err(unknown()),
        }
    }
}

fn unknown() -> io::Error {
    io::Error::other("the kernel's answer cannot be read")
}

fn request(local: SocketAddr, peer: SocketAddr) -> [u8; HEADER + REQUEST] {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    // Sequence number, and the process, which is the kernel's to fill in.
    bytes.extend_from_slice(&[0; 8]);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    bytes.extend_from_slice(&[family.as_raw() as u8, TCP, 0, 0]);
    // Connections in any state.
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&peer.port().to_be_bytes());
    bytes.extend_from_slice(&address(local.ip()));
    bytes.extend_from_slice(&address(peer.ip()));
    let interface = match (local, peer) {
        (SocketAddr::V6(local), _) if local.scope_id() > 0 => local.scope_id(),
        _ => 0,
    };
    bytes.extend_from_slice(&interface.to_ne_bytes());
    // INET_DIAG_NOCOOKIE: whichever connection has these addresses.
    bytes.extend_from_slice(&[0xFF; 8]);
    let mut request = [0; HEADER + REQUEST];
    request.copy_from_slice(&bytes);
    request
}

/// In the 16 bytes that the kernel has for either version.
fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair(on: &str) -> (TcpStream, TcpStream, Unacknowledged) {
        let listener = TcpListener::bind(on).unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let asked = Unacknowledged::new(ours.local_addr().unwrap(), ours.peer_addr().unwrap()).unwrap();
        (ours, theirs, asked)
    }

    fn settles_at(asked: &Unacknowledged, fits: impl Fn(u64) -> bool) -> bool {
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(5) {
            if asked.now().unwrap().is_some_and(|queue| fits(queue.bytes)) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn what_a_peer_does_not_read_is_counted_and_what_it_read_is_not() {
        for on in ["127.0.0.1:0", "[::1]:0"] {
            let (mut ours, mut theirs, asked) = pair(on);
            ours.write_all(b"read by its kernel").unwrap();
            assert!(settles_at(&asked, |bytes| bytes == 0), "{on}");
            ours.set_nonblocking(true).unwrap();
            let mut written = 0;
            while let Ok(more) = ours.write(&[b'x'; 65_536]) {
                written += more;
            }
            // At least half of it has no room at the peer.
            assert!(settles_at(&asked, |bytes| bytes > written as u64 / 2), "{on}: of {written}");
            let began = std::time::Instant::now();
            while !asked.now().unwrap().is_some_and(|queue| queue.is_full) {
                assert!(began.elapsed().as_secs() < 5, "{on}: that the peer has no room is told");
            }
            let mut read = 0;
            let mut buffer = vec![0; 1 << 20];
            while read < written {
                read += theirs.read(&mut buffer).unwrap();
            }
            assert!(settles_at(&asked, |bytes| bytes == 0), "{on}");
        }
    }

    #[test]
    fn a_connection_that_is_no_more_is_told() {
        let (ours, theirs, asked) = pair("127.0.0.1:0");
        drop(theirs);
        drop(ours);
        let began = std::time::Instant::now();
        // It may linger in TIME_WAIT, which counts nothing.
        while asked.now().unwrap().is_some_and(|queue| queue.bytes != 0) {
            assert!(began.elapsed().as_secs() < 5);
        }
        let nobody = Unacknowledged::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()).unwrap();
        assert_eq!(nobody.now().unwrap(), None);
    }
}
