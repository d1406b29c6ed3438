//! One connection to a syslog receiver: made, and what went wrong named.
//!
//! Comes in: the sink's configuration. Goes out: a stream or a socket for datagrams, or a [`Trouble`] that says
//! whether trying again can help. Never longer than `connect_timeout`; never writes a message.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::rustls::{AlertDescription, Error as RustlsError};

use super::datagram::Datagrams;
use super::tls::{Outfit, TlsError};
use super::unacknowledged::Unacknowledged;
use crate::advice;
use crate::config::{SyslogAddress, SyslogConfig, UnixKind};

/// Probes that an idle peer may leave unanswered.
const KEEPALIVE_PROBES: u32 = 3;

/// Why there is no connection, or no longer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The cause, and what to do.
    pub reason: String,
    /// Somebody must mend something first.
    pub is_final: bool,
}

impl Trouble {
    pub fn passing(reason: impl Into<String>) -> Trouble {
        Trouble { reason: reason.into(), is_final: false }
    }

    /// What an error of a connection means.
    pub fn of(error: &io::Error) -> Trouble {
        let text = error.to_string();
        let hint = advice::hint(&text);
        Trouble { reason: format!("{text}{hint}"), is_final: is_final(error) }
    }
}

impl From<TlsError> for Trouble {
    fn from(error: TlsError) -> Trouble {
        Trouble { reason: error.to_string(), is_final: true }
    }
}

/// Whether a handshake ended so that the next one will end alike.
fn is_final(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
        Some(RustlsError::InvalidCertificate(_) | RustlsError::PeerIncompatible(_)) => true,
        // What answers does not speak TLS.
        Some(RustlsError::InvalidMessage(_)) => true,
        Some(RustlsError::AlertReceived(alert)) => matches!(
            alert,
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::ProtocolVersion
                | Alert::NoCertificate
        ),
        _ => false,
    }
}

/// What messages are written to.
pub(super) enum Peer {
    Stream(Box<dyn Stream>, Option<Meter>),
    Datagrams(Datagrams),
}

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How far the peer's kernel has taken what was written; of TCP, and where the kernel tells.
pub(super) struct Meter {
    pub written: Arc<AtomicU64>,
    pub queue: Unacknowledged,
}

/// Connects, within the configured time.
pub(super) async fn dial(config: &SyslogConfig) -> Result<Peer, Trouble> {
    let seconds = config.connect_timeout;
    let late = |_| {
        let text = format!("no answer within {seconds:?}");
        let hint = advice::hint(&text);
        Trouble::passing(format!("{text}{hint}"))
    };
    tokio::time::timeout(seconds, connect(config)).await.map_err(late)?
}

async fn connect(config: &SyslogConfig) -> Result<Peer, Trouble> {
    let trouble = |error: io::Error| Trouble::of(&error);
    match &config.address {
        SyslogAddress::Tls { host, port } => {
            let (tls, name) = (config.tls.clone(), host.clone());
            let outfit = tokio::task::spawn_blocking(move || Outfit::read(&tls, &name)).await;
            let outfit = outfit.map_err(|join| Trouble::passing(join.to_string()))??;
            let (stream, meter) = tcp(host, *port, config).await.map_err(trouble)?;
            let stream = outfit.connect(stream).await.map_err(trouble)?;
            Ok(Peer::Stream(Box::new(stream), meter))
        }
        SyslogAddress::Tcp { host, port } => {
            let (stream, meter) = tcp(host, *port, config).await.map_err(trouble)?;
            Ok(Peer::Stream(Box::new(stream), meter))
        }
        SyslogAddress::Udp { host, port } => udp(host, *port).await.map(Peer::Datagrams).map_err(trouble),
        SyslogAddress::Unix { path, kind } => unix(path, *kind).await.map_err(trouble),
    }
}

async fn tcp(host: &str, port: u16, config: &SyslogConfig) -> io::Result<(Counted, Option<Meter>)> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    if let Some(idle) = config.keepalive {
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, idle)?;
        sockopt::set_tcp_keepintvl(&stream, (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1)))?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    }
    let written = Arc::<AtomicU64>::default();
    let meter = match meter(&stream, &written) {
        Ok(meter) => Some(meter),
        Err(error) => {
            // Then the kernel looks after it, which takes a peer that reads slowly for one that is gone.
            let timeout = u32::try_from(config.timeout.as_millis()).unwrap_or(u32::MAX);
            sockopt::set_tcp_user_timeout(&stream, timeout)?;
            tracing::debug!(%error, "the kernel does not tell what the peer has acknowledged; a message counts as sent when our kernel has it");
            None
        }
    };
    Ok((Counted { stream, written }, meter))
}

fn meter(stream: &TcpStream, written: &Arc<AtomicU64>) -> io::Result<Meter> {
    let queue = Unacknowledged::new(stream.local_addr()?, stream.peer_addr()?)?;
    match queue.now()? {
        Some(_) => Ok(Meter { written: Arc::clone(written), queue }),
        None => Err(io::Error::other("the connection is not found")),
    }
}

async fn udp(host: &str, port: u16) -> io::Result<Datagrams> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        let any = if address.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 0)) } else { SocketAddr::from(([0; 16], 0)) };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(Datagrams::udp(socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn unix(path: &Path, kind: UnixKind) -> io::Result<Peer> {
    if kind != UnixKind::Stream {
        let socket = UnixDatagram::unbound()?;
        match socket.connect(path) {
            Ok(()) => return Ok(Peer::Datagrams(Datagrams::unix(socket))),
            Err(error) if kind == UnixKind::Either && is_of_another_type(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let stream = UnixStream::connect(path).await?;
    Ok(Peer::Stream(Box::new(stream), None))
}

fn is_of_another_type(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error())
}

/// A TCP connection that counts what is written to it, TLS included.
struct Counted {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.written.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
