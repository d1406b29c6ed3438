//! The syslog sink as meant: where messages go, how they are framed, and what stands in a header. Facts from
//! RFC 5424, RFC 3164, RFC 6587 and RFC 5425; nothing is opened here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::TlsConfig;

/// Names of the facilities in the order of their numbers (RFC 5424, table 1).
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Names of the severities in the order of their numbers (RFC 5424, table 2).
pub const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];

/// What the largest datagram over IPv4 carries: 65,535 less the headers of IP and UDP.
pub const DATAGRAM_MAX: usize = 65_507;

#[derive(Clone, Debug, PartialEq)]
pub struct SyslogConfig {
    pub address: SyslogAddress,
    pub rfc: Rfc,
    /// Of streams; a datagram is a message.
    pub framing: Framing,
    /// 0 to 23.
    pub facility: u8,
    pub severity: SeverityRule,
    /// Templates.
    pub app_name: String,
    /// `None`: the tenant's first domain, else its name.
    pub hostname: Option<String>,
    pub proc_id: Option<String>,
    pub msg_id: String,
    /// `None`: no structured data.
    pub sd_id: Option<String>,
    /// Further parameters of our element, each with its template.
    pub structured_data: Vec<(String, String)>,
    /// A byte order mark before the text (RFC 5424, 6.4).
    pub bom: bool,
    /// Bytes of a message, its header included and its framing not.
    pub max_size: Option<usize>,
    pub oversize: Oversize,
    pub tls: TlsConfig,
    /// For name, connection and handshake together.
    pub connect_timeout: Duration,
    /// Bytes that a peer does not acknowledge for so long mean that it is gone.
    pub timeout: Duration,
    /// Idle time after which a connection is probed; `None`: never.
    pub keepalive: Option<Duration>,
    /// Bytes that are kept to be sent again after a break.
    pub resend: usize,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    Tls { host: String, port: u16 },
    Tcp { host: String, port: u16 },
    Udp { host: String, port: u16 },
    Unix { path: PathBuf, kind: UnixKind },
}

/// What kind of socket a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixKind {
    /// Datagrams first, then a stream.
    Either,
    Datagram,
    Stream,
}

/// How the header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rfc {
    Rfc5424,
    Rfc3164,
}

/// How messages are told apart in a stream (RFC 6587, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The length before each.
    OctetCounting,
    /// A line feed behind each.
    Newline,
}

/// Where the severity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeverityRule {
    /// From what the record says: its own severity, that it is an alert, or that it tells of a failure.
    Outcome,
    /// Always the same, 0 to 7.
    Fixed(u8),
}

/// What becomes of a message above `max_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    DeadLetter,
    Truncate,
}

impl SyslogAddress {
    /// Whether a message is a datagram, as far as the address says it.
    pub fn is_udp(&self) -> bool {
        matches!(self, SyslogAddress::Udp { .. })
    }

    /// Host and port, where it has one.
    pub fn host(&self) -> Option<(&str, u16)> {
        match self {
            SyslogAddress::Tls { host, port }
            | SyslogAddress::Tcp { host, port }
            | SyslogAddress::Udp { host, port } => Some((host, *port)),
            SyslogAddress::Unix { .. } => None,
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for SyslogAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            SyslogAddress::Tls { .. } => "tls",
            SyslogAddress::Tcp { .. } => "tcp",
            SyslogAddress::Udp { .. } => "udp",
            SyslogAddress::Unix { kind: UnixKind::Either, .. } => "unix",
            SyslogAddress::Unix { kind: UnixKind::Datagram, .. } => "unix+dgram",
            SyslogAddress::Unix { kind: UnixKind::Stream, .. } => "unix+stream",
        };
        match self {
            SyslogAddress::Unix { path, .. } => write!(to, "{scheme}://{}", path.display()),
            _ => match self.host() {
                Some((host, port)) if host.contains(':') => write!(to, "{scheme}://[{host}]:{port}"),
                Some((host, port)) => write!(to, "{scheme}://{host}:{port}"),
                None => Ok(()),
            },
        }
    }
}

impl SyslogConfig {
    /// What is promised, in one sentence.
    pub fn guarantee(&self) -> &'static str {
        match (&self.address, self.resend) {
            (SyslogAddress::Udp { .. }, _) => "best effort: UDP tells nobody what it drops",
            (SyslogAddress::Unix { .. }, _) => "at least once into the socket; what reads it gives no receipt",
            (_, 0) => {
                "at least once into the receiver's kernel: syslog has no acknowledgement, and `resend: 0` sends nothing again after a break"
            }
            _ => {
                "at least once into the receiver's kernel: syslog has no acknowledgement; after a break the last messages (`resend`) are sent again, and the record key tells duplicates"
            }
        }
    }
}
