//! Causes of the network, told by what reqwest, hyper, rustls and the system say: their error types are
//! private or many, so their words are what there is. A cause that is not recognised loses only its
//! advice; `tests/it/network.rs` holds the words against the libraries. The first that fits counts.

use super::Advice;
use super::Passes::{ByItself, WhenConfigured, WhenMended};

pub(super) const TRANSPORT: &[Advice] = &[
    Advice {
        code: "proxy-407",
        marks: &["proxy authorization required"],
        meaning: "the proxy asks for credentials, or refuses those that it was given (407)",
        action: "give the right `username` and `password` of `proxy`",
        passes: WhenMended,
    },
    Advice {
        code: "proxy-refused",
        marks: &["tunnel error: unsuccessful"],
        meaning: "the proxy refuses to connect to this host (CONNECT was answered with something else than 200)",
        action: "let the proxy allow CONNECT to the hosts of docs/network.md on port 443, or name the host in `no_proxy`",
        passes: WhenMended,
    },
    Advice {
        code: "proxy-unreachable",
        marks: &["tunnel error: failed to create underlying connection"],
        meaning: "the proxy cannot be reached",
        action: "check that it runs and that host and port of `proxy` (or HTTPS_PROXY) are right; `proxy: off` goes without it",
        passes: ByItself,
    },
    Advice {
        code: "proxy-broke-off",
        marks: &[
            "tunnel error: unexpected end of file",
            "tunnel error: io error",
            "tunnel error: proxy response headers too long",
        ],
        meaning: "the proxy broke off before it connected",
        action: "check that `proxy` names an HTTP proxy and its port, and look into its log",
        passes: ByItself,
    },
    Advice {
        code: "dns",
        marks: &["dns error", "failed to lookup address", "invalid dns name"],
        meaning: "the host's name cannot be resolved",
        action: "check the name and the resolver (`getent hosts NAME`); where only a proxy may resolve names, set `proxy`",
        passes: ByItself,
    },
    Advice {
        code: "tls-unknown-authority",
        marks: &["UnknownIssuer"],
        meaning: "the server's certificate is signed by an authority that is not trusted here, as a TLS-inspecting proxy's is",
        action: "give that authority's certificate as `ca_file` (`collect.tls` for Microsoft, `tls` of the sink)",
        passes: WhenConfigured,
    },
    Advice {
        code: "tls-expired",
        marks: &["certificate expired", "peer certificate: Expired"],
        meaning: "the server's certificate expired, or this machine's clock is wrong",
        action: "check this machine's clock; else the certificate must be renewed",
        passes: WhenMended,
    },
    Advice {
        code: "tls-not-yet-valid",
        marks: &["certificate not valid yet", "NotValidYet"],
        meaning: "the server's certificate is not valid yet: this machine's clock is behind",
        action: "check this machine's clock (NTP)",
        passes: WhenMended,
    },
    Advice {
        code: "tls-wrong-name",
        marks: &["certificate not valid for name", "NotValidForName"],
        meaning: "the server's certificate is for another name",
        action: "use the name that stands in the certificate, or let the server have one for this name",
        passes: WhenConfigured,
    },
    Advice {
        code: "tls-revoked",
        marks: &["peer certificate: Revoked"],
        meaning: "the server's certificate is revoked",
        action: "the server needs a new one; it is not used before",
        passes: WhenMended,
    },
    Advice {
        code: "tls-version",
        marks: &["ProtocolVersion", "peer is incompatible"],
        meaning: "the server speaks nothing that is as new as TLS 1.2",
        action: "let the server speak TLS 1.2 or 1.3; older ones are never used",
        passes: WhenMended,
    },
    Advice {
        code: "tls-client-certificate",
        marks: &[
            "CertificateRequired",
            "received fatal alert: BadCertificate",
            "received fatal alert: UnknownCA",
            // Java's word for an authority that it does not know.
            "received fatal alert: CertificateUnknown",
            "received fatal alert: CertificateExpired",
            "received fatal alert: CertificateRevoked",
            "received fatal alert: UnsupportedCertificate",
        ],
        meaning: "the server demands a client certificate, or refuses ours",
        action: "give `cert_file` and `key_file`, signed by an authority that the server trusts",
        passes: WhenConfigured,
    },
    Advice {
        code: "tls-no-tls",
        marks: &["InvalidContentType"],
        meaning: "what answers does not speak TLS",
        action: "check the port; a plain HTTP server needs `http://`, which goes to loopback only",
        passes: WhenConfigured,
    },
    Advice {
        code: "tls-broke-off",
        marks: &["tls handshake eof", "received fatal alert: HandshakeFailure"],
        meaning: "the TLS handshake was broken off by the other side, or by a firewall between",
        action: "see whether a firewall or proxy inspects TLS and forbids this host; it is tried again",
        passes: ByItself,
    },
    Advice {
        code: "http2-goaway",
        marks: &["http2 error: connection error received"],
        meaning: "the server ended the HTTP/2 connection (GOAWAY), as it does when it is being replaced or asked too much",
        action: "nothing: it is asked again on a new connection",
        passes: ByItself,
    },
    Advice {
        code: "connection-refused",
        marks: &["Connection refused"],
        meaning: "nothing listens there, or a firewall refuses",
        action: "check host and port, and that this machine may go there (docs/network.md lists what must be open)",
        passes: ByItself,
    },
    Advice {
        code: "unreachable",
        marks: &["Network is unreachable", "No route to host", "Network unreachable", "Host is unreachable"],
        meaning: "there is no route to the host",
        action: "check the network, or set `proxy` where one is the only way out",
        passes: ByItself,
    },
    Advice {
        code: "closed-at-once",
        marks: &["client error (Canceled)"],
        meaning: "the other side ended each new connection before a request could be sent: so does a server that demands a client certificate or refuses ours, and one that is overloaded or being replaced",
        action: "if it lasts: give `cert_file` and `key_file`, signed by an authority that the server trusts, or see in the server's log why it hangs up",
        passes: ByItself,
    },
    Advice {
        code: "connection-reset",
        marks: &[
            "Connection reset",
            "connection closed before message completed",
            "peer closed connection without sending TLS close_notify",
            "Broken pipe",
            "connection reset",
        ],
        meaning: "the connection broke before the answer was complete",
        action: "nothing: it is tried again; if it lasts, a firewall or proxy on the way cuts connections",
        passes: ByItself,
    },
    Advice {
        code: "timeout",
        marks: &["timed out", "no answer in", "no answer within"],
        meaning: "nothing was answered in time",
        action: "see whether a firewall drops what is sent there (docs/network.md lists what must be open), or set `proxy` where one is the only way out",
        passes: ByItself,
    },
];
