//! The syslog sink as written → as meant: addresses, names and numbers of RFC 5424, and what does not go
//! together. Opens nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::check_kafka::Pairs;
use super::check_sinks::tls;
use super::faults::{Place, Reader};
use super::file::TlsFile;
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, refuse_unknown, section};
use super::syslog::{
    DATAGRAM_MAX, FACILITIES, Framing, Oversize, Rfc, SEVERITIES, SeverityRule, SyslogAddress, SyslogConfig, UnixKind,
};
use super::tree::{Entry, Node};
use super::values::{At, FromNode, Size, is_loopback_host, parse_duration, word};

/// What RFC 5425, RFC 6587 and RFC 5426 give to syslog.
const TLS_PORT: u16 = 6514;
const PLAIN_PORT: u16 = 514;
/// What any receiver must take (RFC 5424, 6.1).
const LEAST_SIZE: usize = 480;
/// A larger ring would hold more memory than anything else of the process.
const MOST_RESEND: usize = 64 << 20;
/// More than a receiver that keeps up ever has unread, less than memory would feel.
const DEFAULT_RESEND: usize = 8 << 20;
/// Our element of structured data; 32473 is the number that RFC 5612 keeps for examples.
const DEFAULT_SD_ID: &str = "auditferry@32473";
/// Parameters that our element has by itself.
const OUR_PARAMETERS: [&str; 4] = ["tenant", "content_type", "key", "truncated"];

section! {
    SyslogFile in "the syslog sink" {
        /// tls://host:6514, tcp://host:514, udp://host:514, unix:///dev/log, unix+stream://…, unix+dgram://….
        address: Address,
        /// 5424 (default) or 3164.
        rfc: RfcNumber,
        /// Of streams: `octet_counting` (default of tls:// and tcp://) or `newline` (default of unix sockets).
        framing: FramingName,
        /// A name or a number. Default local0.
        facility: Facility,
        /// `outcome` (default), or always the same: a name or a number.
        severity: SeverityName,
        /// A template. Default o365.
        app_name: String,
        /// A template. Default: the tenant's first domain, else its name.
        hostname: String,
        /// A template. Default: none.
        proc_id: String,
        /// A template. Default {operation}.
        msg_id: String,
        /// Name of our element of structured data, `name@number`, or `off`. Default auditferry@32473.
        sd_id: String,
        /// Further parameters of our element: name to template.
        structured_data: Pairs,
        /// A byte order mark before the text. Default false.
        bom: bool,
        /// Bytes of a message with its header. Default 65507 over UDP, else no limit.
        max_size: Size,
        /// What becomes of a longer one: `dead_letter` (default) or `truncate`.
        oversize: OversizeName,
        /// TLS of the connection, where the address is tls://.
        tls: TlsFile,
        /// For name, connection and handshake. Default 10s.
        connect_timeout: Duration,
        /// A peer that acknowledges nothing for so long is gone. Default 60s.
        timeout: Duration,
        /// Idle time after which a connection is probed, or `off`. Default 30s.
        keepalive: Keepalive,
        /// Bytes of the last messages, to be sent again after a break; 0 for none. Default 8MiB.
        resend: Size,
    } later {}
}

#[derive(Clone, Debug)]
pub(super) struct Address(SyslogAddress);

impl FromNode for Address {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Address> {
        let hint = "write `tls://host:6514`, `tcp://host:514`, `udp://host:514` or `unix:///dev/log`";
        word(node, "an address of a syslog receiver", hint, reader, address).map(Address)
    }

    fn schema() -> Schema {
        schema::pattern(r"(tls|tcp|udp)://.+|unix(\+stream|\+dgram)?://.+")
    }
}

fn address(text: &str) -> Option<SyslogAddress> {
    let (scheme, rest) = text.split_once("://")?;
    let unix = |kind| {
        let path = PathBuf::from(rest);
        path.is_absolute().then_some(SyslogAddress::Unix { path, kind })
    };
    match scheme {
        "unix" => unix(UnixKind::Either),
        "unix+dgram" => unix(UnixKind::Datagram),
        "unix+stream" => unix(UnixKind::Stream),
        "tls" => host_and_port(rest, TLS_PORT).map(|(host, port)| SyslogAddress::Tls { host, port }),
        "tcp" => host_and_port(rest, PLAIN_PORT).map(|(host, port)| SyslogAddress::Tcp { host, port }),
        "udp" => host_and_port(rest, PLAIN_PORT).map(|(host, port)| SyslogAddress::Udp { host, port }),
        _ => None,
    }
}

fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?;
    let bare = text.starts_with('[') || !host.contains(':');
    (!host.is_empty() && host.chars().all(is_host) && bare).then(|| (host.to_owned(), port))
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RfcNumber(Rfc);

impl FromNode for RfcNumber {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<RfcNumber> {
        word(node, "a form of syslog", "5424 or 3164", reader, |text| match text {
            "5424" => Some(RfcNumber(Rfc::Rfc5424)),
            "3164" => Some(RfcNumber(Rfc::Rfc3164)),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::any_of([serde_json::json!({ "enum": [5424, 3164, "5424", "3164"] }), schema::pattern("5424|3164")])
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FramingName(Framing);

impl FromNode for FramingName {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<FramingName> {
        word(node, "a framing", "octet_counting or newline", reader, |text| match text {
            "octet_counting" => Some(FramingName(Framing::OctetCounting)),
            "newline" => Some(FramingName(Framing::Newline)),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::one_of(["octet_counting", "newline"])
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Facility(u8);

impl FromNode for Facility {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Facility> {
        let hint = format!("a number from 0 to 23, or one of {}", FACILITIES.join(", "));
        word(node, "a facility", &hint, reader, |text| numbered(text, &FACILITIES)).map(Facility)
    }

    fn schema() -> Schema {
        schema::any_of([
            schema::one_of(FACILITIES),
            serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 23 }),
        ])
    }
}

/// A name of these, or its number.
fn numbered(text: &str, names: &[&str]) -> Option<u8> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = named.or_else(|| text.parse().ok().filter(|number| *number < names.len()))?;
    u8::try_from(number).ok()
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SeverityName(SeverityRule);

impl FromNode for SeverityName {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<SeverityName> {
        let hint = format!("`outcome`, a number from 0 to 7, or one of {}", SEVERITIES.join(", "));
        word(node, "a severity", &hint, reader, |text| match text {
            "outcome" => Some(SeverityRule::Outcome),
            other => numbered(other, &SEVERITIES).map(SeverityRule::Fixed),
        })
        .map(SeverityName)
    }

    fn schema() -> Schema {
        let names = schema::one_of(["outcome"].into_iter().chain(SEVERITIES));
        schema::any_of([names, serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 7 })])
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OversizeName(Oversize);

impl FromNode for OversizeName {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<OversizeName> {
        word(node, "a way to treat a long message", "dead_letter or truncate", reader, |text| match text {
            "dead_letter" => Some(OversizeName(Oversize::DeadLetter)),
            "truncate" => Some(OversizeName(Oversize::Truncate)),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::one_of(["dead_letter", "truncate"])
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive(Option<Duration>);

impl FromNode for Keepalive {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Keepalive> {
        word(node, "a time from 1s to 1h, or `off`", "for instance `30s`", reader, |text| match text {
            "off" | "false" => Some(Keepalive(None)),
            text => parse_duration(text)
                .filter(|time| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(time))
                .map(|time| Keepalive(Some(time))),
        })
    }

    fn schema() -> Schema {
        schema::choice(["off"], Duration::schema())
    }
}

/// The templates of the sink, where they are written.
pub(super) fn texts(file: &SyslogFile) -> Vec<At<String>> {
    let fields = [&file.app_name, &file.hostname, &file.proc_id, &file.msg_id];
    let mut texts: Vec<At<String>> = fields.into_iter().filter_map(|field| field.clone().given()).collect();
    texts.extend(file.structured_data.clone().value().unwrap_or_default().0.into_iter().map(|(_, _, text)| text));
    texts
}

/// Checks everything of the sink.
pub(super) fn syslog(file: SyslogFile, reader: &mut Reader<'_>) -> Option<SyslogConfig> {
    let (place, title) = (file.place.clone(), SyslogFile::TITLE);
    let hint = "for instance `tls://siem.example:6514`";
    let address = file.address.clone().required("address", title, &place, hint, reader);
    if let Some(At { value: Address(address), place }) = &address {
        contradictions(address, place, &file, reader);
    }
    let rfc = file.rfc.value().map_or(Rfc::Rfc5424, |rfc| rfc.0);
    if rfc == Rfc::Rfc3164 {
        for (name, place) in [
            ("msg_id", file.msg_id.clone().given().map(|at| at.place)),
            ("sd_id", file.sd_id.clone().given().map(|at| at.place)),
            ("structured_data", file.structured_data.clone().given().map(|at| at.place)),
            ("bom", file.bom.clone().given().map(|at| at.place)),
        ] {
            let Some(place) = place else { continue };
            reader.fault(
                &place,
                format!("`{name}` has no place in a message of RFC 3164"),
                "leave it out, or use `rfc: 5424`",
            );
        }
    }
    let is_udp = address.as_ref().is_some_and(|at| at.value.0.is_udp());
    let most = if is_udp { DATAGRAM_MAX } else { usize::MAX };
    let max_size = match file.max_size {
        Field::Absent => is_udp.then_some(DATAGRAM_MAX),
        written => {
            let ends = format!(
                "between {LEAST_SIZE} bytes and {}",
                if is_udp { "65507, the largest datagram" } else { "any size" }
            );
            let size = |size: &Size| usize::try_from(size.0).unwrap_or(usize::MAX);
            Some(written.within(reader, (LEAST_SIZE, most), &ends, most, size))
        }
    };
    let seconds = Duration::from_secs;
    let hour = seconds(3600);
    let sd_id = sd_id(file.sd_id, reader);
    let structured_data = parameters(file.structured_data.value().unwrap_or_default(), sd_id.is_some(), reader);
    let resend = |size: &Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    // Those who listen there (unix-stream of syslog-ng, imuxsock of rsyslog) end a message at a line's end.
    let is_unix = matches!(&address, Some(At { value: Address(SyslogAddress::Unix { .. }), .. }));
    let default_framing = if is_unix { Framing::Newline } else { Framing::OctetCounting };
    Some(SyslogConfig {
        rfc,
        framing: file.framing.value().map_or(default_framing, |framing| framing.0),
        facility: file.facility.value().map_or(16, |facility| facility.0),
        severity: file.severity.value().map_or(SeverityRule::Outcome, |severity| severity.0),
        app_name: file.app_name.value().unwrap_or_else(|| "o365".to_owned()),
        hostname: file.hostname.value(),
        proc_id: file.proc_id.value(),
        msg_id: file.msg_id.value().unwrap_or_else(|| "{operation}".to_owned()),
        sd_id,
        structured_data,
        bom: file.bom.value().unwrap_or(false),
        max_size,
        oversize: file.oversize.value().map_or(Oversize::DeadLetter, |oversize| oversize.0),
        tls: tls(file.tls.value().unwrap_or_default(), reader),
        connect_timeout: file.connect_timeout.within(
            reader,
            (seconds(1), hour),
            "between 1s and 1h",
            seconds(10),
            |d| *d,
        ),
        timeout: file.timeout.within(reader, (seconds(1), hour), "between 1s and 1h", seconds(60), |d| *d),
        keepalive: file.keepalive.value().map_or(Some(seconds(30)), |keepalive| keepalive.0),
        resend: file.resend.within(reader, (0, MOST_RESEND), "of at most 64MiB", DEFAULT_RESEND, resend),
        address: address?.value.0,
    })
}

/// What does not go with the address, and who could read along.
fn contradictions(address: &SyslogAddress, place: &Place, file: &SyslogFile, reader: &mut Reader<'_>) {
    if let (false, Field::Given(tls)) = (matches!(address, SyslogAddress::Tls { .. }), &file.tls) {
        reader.fault(
            &tls.place,
            "`tls` changes nothing where the address is not tls://",
            "write `tls://host:6514`, or leave `tls` out",
        );
    }
    let is_datagram =
        matches!(address, SyslogAddress::Udp { .. } | SyslogAddress::Unix { kind: UnixKind::Datagram, .. });
    if let (true, Field::Given(framing)) = (is_datagram, &file.framing) {
        reader.fault(&framing.place, "a datagram is a message and needs no framing", "leave `framing` out");
    }
    if let Field::Given(framing) = &file.framing
        && framing.value.0 == Framing::Newline
        && !is_datagram
    {
        reader.warning(
            &framing.place,
            "with `newline` a receiver takes what a broken connection cut off for a whole message",
            "use `octet_counting` where the receiver knows it (RFC 6587, 3.4.1)",
        );
    }
    let plain = match address {
        SyslogAddress::Tcp { host, .. } => Some(("tcp", host)),
        SyslogAddress::Udp { host, .. } => Some(("udp", host)),
        SyslogAddress::Tls { .. } | SyslogAddress::Unix { .. } => None,
    };
    if let Some((scheme, host)) = plain.filter(|(_, host)| !is_loopback_host(host)) {
        let text = format!("over `{scheme}://{host}` anybody on the way can read every audit record, and write others");
        reader.warning(place, text, "use `tls://` wherever the receiver has it");
    }
    if address.is_udp() {
        reader.warning(
            place,
            "UDP loses messages without a word: this sink is best effort",
            "use `tls://` or `tcp://` where nothing may be lost",
        );
    }
}

/// `None` for `off`. An SD-ID is printable ASCII without `= ] "` and blanks, of at most 32 characters; one that is not
/// registered with IANA has an `@` (RFC 5424, 6.3.2).
fn sd_id(written: Field<String>, reader: &mut Reader<'_>) -> Option<String> {
    let Some(at) = written.given() else { return Some(DEFAULT_SD_ID.to_owned()) };
    if at.value == "off" || at.value == "false" {
        return None;
    }
    let named = at.value.split_once('@').is_some_and(|(name, number)| {
        is_sd_name(name) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    });
    if !named || at.value.len() > 32 {
        let hint =
            "write `name@number` with the enterprise number of your organisation, at most 32 characters, or `off`";
        reader.fault(&at.place, "this is no name of structured data", hint);
    }
    Some(at.value)
}

fn is_sd_name(name: &str) -> bool {
    let is_good = |b: u8| (33..127).contains(&b) && !matches!(b, b'=' | b']' | b'"' | b'@');
    (1..=32).contains(&name.len()) && name.bytes().all(is_good)
}

fn parameters(pairs: Pairs, has_element: bool, reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut good = Vec::new();
    for (name, place, text) in pairs.0 {
        if !has_element {
            reader.fault(
                &place,
                "with `sd_id: off` there is no structured data",
                "leave `structured_data` out, or `sd_id`",
            );
        } else if OUR_PARAMETERS.contains(&name.as_str()) {
            reader.fault(&place, format!("`{name}` is a parameter of ours"), "give yours another name");
        } else if !is_sd_name(&name) {
            let hint = "at most 32 printable ASCII characters without blank, `=`, `]`, `\"` and `@`";
            reader.fault(&place, "this is no name of a parameter (RFC 5424, 6.3.3)", hint);
        } else {
            good.push((name, text.value));
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::super::load::{Loaded, load_text};
    use super::*;
    use crate::config::{Format, SinkKind};

    fn read(sink: &str) -> Result<Loaded, String> {
        let text = format!(
            "state: {{ dir: /nowhere }}\ntenants: [{{ name: a, tenant_id: 00000000-0000-4000-8000-0000000000f1, client_id: 00000000-0000-4000-8000-0000000000f2, auth: {{ client_secret: \"${{file:/x}}\" }} }}]\nsinks: [{{ name: siem, type: syslog, {sink} }}]\n"
        );
        load_text("t.yaml", &text, &|_| None).map_err(|faults| faults.to_string())
    }

    fn check(sink: &str) -> Result<SyslogConfig, String> {
        let sink = read(sink)?.config.sinks.remove(0);
        assert_eq!(sink.format, Format::Raw);
        match sink.kind {
            SinkKind::Syslog(syslog) => Ok(syslog),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn who_could_read_along_is_said_and_what_udp_is() {
        let warnings = |sink: &str| {
            let loaded = read(sink).unwrap();
            loaded.warnings.iter().map(|fault| fault.text.clone()).collect::<Vec<_>>().join("; ")
        };
        assert!(warnings("address: \"tcp://siem.example\"").contains("anybody on the way can read"));
        let udp = warnings("address: \"udp://10.0.0.1\"");
        assert!(udp.contains("anybody on the way can read") && udp.contains("best effort"), "{udp}");
        assert!(warnings("address: \"tls://siem\", framing: newline").contains("cut off"));
        for fine in ["tls://siem", "tcp://127.0.0.1:1", "tcp://[::1]", "unix:///dev/log"] {
            let said = warnings(&format!("address: \"{fine}\""));
            assert!(!said.contains("way") && !said.contains("syslog"), "{fine}: {said}");
        }
    }

    #[test]
    fn addresses_are_read_and_shown_alike() {
        let tls = |host: &str, port| SyslogAddress::Tls { host: host.into(), port };
        assert_eq!(address("tls://siem:6515"), Some(tls("siem", 6515)));
        assert_eq!(address("tls://siem"), Some(tls("siem", 6514)));
        assert_eq!(address("tls://[::1]:1/"), Some(tls("::1", 1)));
        for text in ["tcp://a.b:514", "udp://127.0.0.1:9", "tls://[::1]:1", "unix:///dev/log", "unix+stream:///x"] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        for text in
            ["siem:514", "tls://", "tls://a:0", "tls://a:b", "tls://::1:6514", "http://a", "unix://log", "tls://a/b"]
        {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_page() {
        let config = check("address: \"tls://siem\"").unwrap();
        assert_eq!((config.facility, config.max_size, config.resend), (16, None, 8 << 20));
        assert_eq!((config.app_name.as_str(), config.sd_id.as_deref()), ("o365", Some("auditferry@32473")));
        assert_eq!(check("address: \"udp://127.0.0.1\"").unwrap().max_size, Some(65_507));
        for (address, framing) in [
            ("tls://siem", Framing::OctetCounting),
            ("tcp://127.0.0.1", Framing::OctetCounting),
            ("unix+stream:///run/x", Framing::Newline),
            ("unix:///dev/log", Framing::Newline),
        ] {
            assert_eq!(check(&format!("address: \"{address}\"")).unwrap().framing, framing, "{address}");
        }
        let own = check("address: \"unix+stream:///run/x\", framing: octet_counting").unwrap();
        assert_eq!(own.framing, Framing::OctetCounting);
        let config =
            check("address: \"tcp://127.0.0.1\", facility: LOCAL7, severity: 5, sd_id: \"x@1\", keepalive: off")
                .unwrap();
        assert_eq!((config.facility, config.severity, config.keepalive), (23, SeverityRule::Fixed(5), None));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (sink, said) in [
            ("address: \"tcp://127.0.0.1\", tls: {}", "`tls` changes nothing"),
            ("address: \"udp://127.0.0.1\", framing: newline", "needs no framing"),
            ("address: \"udp://127.0.0.1\", max_size: 1MiB", "out of range"),
            ("address: \"tls://a\", rfc: 3164, msg_id: x", "has no place in a message of RFC 3164"),
            ("address: \"tls://a\", rfc: 1", "5424 or 3164"),
            ("address: \"tls://a\", facility: local9", "a number from 0 to 23"),
            ("address: \"tls://a\", severity: loud", "a number from 0 to 7"),
            ("address: \"tls://a\", sd_id: plain", "no name of structured data"),
            ("address: \"tls://a\", structured_data: { key: x }", "a parameter of ours"),
            ("address: \"tls://a\", structured_data: { \"a b\": x }", "no name of a parameter"),
            ("address: \"tls://a\", sd_id: off, structured_data: { a: x }", "there is no structured data"),
            ("address: \"tls://a\", app_name: \"{user}\"", "`{user}` is not known"),
            ("address: \"tls://a\", keepalive: 0s", "a time from 1s to 1h"),
            ("address: siem", "an address of a syslog receiver"),
            ("rfc: 5424", "`address` is missing"),
        ] {
            let faults = check(sink).unwrap_err();
            assert!(faults.contains(said), "{sink}: {faults}");
        }
    }
}
