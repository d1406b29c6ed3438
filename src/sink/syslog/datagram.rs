//! Messages as datagrams, over UDP or a unix socket: one each. Best effort over UDP, where nobody tells what is lost
//! but a host that says that nothing listens.
//!
//! Comes in: messages. Goes out: datagrams, and what could not be one. A batch that is sent again goes on where it
//! stopped: what has left is not sent twice.

use std::collections::HashSet;
use std::io;

use rustix::io::Errno;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::timeout;

use super::PATIENCE;

/// A connected socket.
pub(super) struct Datagrams(Socket);

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// Why a batch is not done.
pub(super) enum Stopped {
    /// These messages are more than a datagram here can be.
    TooLarge(Vec<usize>),
    /// Whoever reads the socket stands still; whether something left before.
    NoRoom {
        some_left: bool,
    },
    Failed(io::Error),
}

/// Messages of unfinished batches that have left, by their hash.
pub(super) type Left = HashSet<[u8; 16]>;

fn mark(message: &[u8]) -> [u8; 16] {
    let mut mark = [0; 16];
    mark.copy_from_slice(&blake3::hash(message).as_bytes()[..16]);
    mark
}

impl Datagrams {
    pub fn udp(socket: UdpSocket) -> Datagrams {
        Datagrams(Socket::Udp(socket))
    }

    pub fn unix(socket: UnixDatagram) -> Datagrams {
        Datagrams(Socket::Unix(socket))
    }

    /// Sends all of these that have not left before. Where some cannot leave, `left` tells the next try of the
    /// others; it forgets them once all are done.
    pub async fn send(&self, messages: &[&[u8]], left: &mut Left) -> Result<(), Stopped> {
        let (mut too_large, mut any) = (Vec::new(), false);
        for (index, message) in messages.iter().enumerate() {
            if !left.is_empty() && left.contains(&mark(message)) {
                continue;
            }
            let sent = timeout(PATIENCE, self.one(message)).await;
            match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => any = true,
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => too_large.push(index),
                Err(error) => {
                    let gone = messages[..index].iter().enumerate().filter(|(at, _)| !too_large.contains(at));
                    left.extend(gone.map(|(_, message)| mark(message)));
                    return Err(match error.kind() {
                        io::ErrorKind::TimedOut => Stopped::NoRoom { some_left: any },
                        _ => Stopped::Failed(error),
                    });
                }
            }
        }
        if too_large.is_empty() {
            if !left.is_empty() {
                messages.iter().for_each(|message| _ = left.remove(&mark(message)));
            }
            return Ok(());
        }
        let others = messages.iter().enumerate().filter(|(at, _)| too_large.binary_search(at).is_err());
        left.extend(others.map(|(_, message)| mark(message)));
        Err(Stopped::TooLarge(too_large))
    }

    async fn one(&self, message: &[u8]) -> io::Result<()> {
        match &self.0 {
            Socket::Udp(socket) => socket.send(message).await,
            Socket::Unix(socket) => socket.send(message).await,
        }
        .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_left_is_not_sent_twice_and_what_is_too_large_is_named() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(receiver.local_addr().unwrap()).await.unwrap();
        let datagrams = Datagrams::udp(socket);
        let large = vec![b'x'; 70_000];
        let messages: [&[u8]; 3] = [b"one", &large, b"three"];
        let mut left = Left::new();
        let Err(Stopped::TooLarge(indices)) = datagrams.send(&messages, &mut left).await else { panic!("taken") };
        assert_eq!((indices, left.len()), (vec![1], 2));
        datagrams.send(&[b"one", b"three"], &mut left).await.unwrap_or_else(|_| panic!("nothing is left to send"));
        assert!(left.is_empty());
        let mut buffer = [0; 16];
        for wanted in [b"one".as_slice(), b"three"] {
            let length = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], wanted);
        }
        assert!(receiver.try_recv(&mut buffer).is_err(), "nothing came twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_still_is_told_of_and_goes_on_where_it_stopped() {
        let (socket, reader) = UnixDatagram::pair().unwrap();
        let datagrams = Datagrams::unix(socket);
        let texts: Vec<String> = (0..5000).map(|n| format!("{n:01000}")).collect();
        let messages: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let mut left = Left::new();
        let first = datagrams.send(&messages, &mut left).await;
        assert!(matches!(first, Err(Stopped::NoRoom { some_left: true })));
        let second = datagrams.send(&messages, &mut left).await;
        assert!(matches!(second, Err(Stopped::NoRoom { some_left: false })));
        let (mut read, mut buffer) = (Vec::new(), [0; 2000]);
        while let Ok(length) = reader.try_recv(&mut buffer) {
            read.push(buffer[..length].to_vec());
        }
        assert_eq!(read, messages[..left.len()], "nothing left twice");
    }

    #[tokio::test]
    async fn a_host_that_says_that_nothing_listens_is_heard() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(receiver.local_addr().unwrap()).await.unwrap();
        drop(receiver);
        let datagrams = Datagrams::udp(socket);
        let mut left = Left::new();
        let mut failed = false;
        for _ in 0..50 {
            failed |= matches!(datagrams.send(&[b"x"], &mut left).await, Err(Stopped::Failed(_)));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert!(failed);
    }
}
