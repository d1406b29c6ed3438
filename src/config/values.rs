//! How a single value is written: durations, sizes, GUIDs, URLs, secrets. Comes in: a node of the
//! tree. Goes out: the value, or a fault at its place that says how it should look. A fault quotes
//! what stands in the file, never what a reference in it was replaced by, and never a secret.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::faults::{Place, Reader};
use super::interpolate::{interpolate, is_literal, sole_file};
use super::schema::{self, Schema};
use super::tree::{Node, Value};
use crate::clock::Seconds;
use crate::config::{AckMode, Format};
use crate::edit::FieldPath;
use crate::feed::ContentType;
use crate::normalize::Profile;
use crate::secret::SecretSource;

/// Reads itself from a node; `None` after a fault has been said.
pub(super) trait FromNode: Sized {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// What is accepted, as JSON Schema; a test sees where none is given.
    fn schema() -> Schema {
        Schema::Object(serde_json::Map::new())
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T: FromNode> FromNode for At<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<At<T>> {
        Some(At { value: T::from_node(node, reader)?, place: node.place.clone() })
    }

    fn schema() -> Schema {
        T::schema()
    }
}

/// A list; a single plain value is a list of one.
impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Vec<T>> {
        match &node.value {
            Value::List(items) => {
                let read: Vec<T> = items.iter().filter_map(|item| T::from_node(item, reader)).collect();
                // Of a list of which nothing could be read nobody may say that it is empty.
                (items.is_empty() || !read.is_empty()).then_some(read)
            }
            Value::Scalar(_) => Some(vec![T::from_node(node, reader)?]),
            other => {
                reader.fault(
                    &node.place,
                    format!("here stands {}, a list is wanted", other.shape()),
                    "begin each item with `- `",
                );
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::list(T::schema())
    }
}

/// The scalar as written and as meant.
struct Scalar<'a> {
    written: &'a str,
    value: String,
}

fn scalar<'a>(node: &'a Node, wanted: &str, reader: &mut Reader<'_>) -> Option<Scalar<'a>> {
    match &node.value {
        Value::Scalar(written) => Some(Scalar { written, value: interpolate(written, &node.place, reader)? }),
        other => {
            let hint = "write one plain value behind the colon";
            reader.fault(&node.place, format!("here stands {}, {wanted} is wanted", other.shape()), hint);
            None
        }
    }
}

/// Reads a scalar with `parse`, which returns `None` for what it does not understand.
fn read<T>(
    node: &Node,
    wanted: &str,
    hint: &str,
    reader: &mut Reader<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let scalar = scalar(node, wanted, reader)?;
    let value = parse(scalar.value.trim());
    if value.is_none() {
        reader.fault(&node.place, format!("`{}` is not {wanted}", scalar.written), hint);
    }
    value
}

/// Reads a text with `parse`, which returns `None` for what it does not understand; what was written is not quoted.
pub(super) fn word<T>(
    node: &Node,
    wanted: &str,
    hint: &str,
    reader: &mut Reader<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = String::from_node(node, reader)?;
    let value = parse(text.trim());
    if value.is_none() {
        reader.fault(&node.place, format!("this is not {wanted}"), hint);
    }
    value
}

impl FromNode for String {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<String> {
        let value = scalar(node, "text", reader)?.value;
        if value.is_empty() || value.chars().any(char::is_control) {
            reader.fault(&node.place, "the text is empty or holds control characters", "give one line of text");
            return None;
        }
        Some(value)
    }

    fn schema() -> Schema {
        schema::text()
    }
}

impl FromNode for bool {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<bool> {
        read(node, "true or false", "write `true` or `false`", reader, |text| match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::boolean()
    }
}

impl FromNode for usize {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<usize> {
        read(node, "a whole number", "write digits only", reader, |text| text.parse().ok())
    }

    fn schema() -> Schema {
        schema::number("integer")
    }
}

impl FromNode for i64 {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<i64> {
        read(node, "a whole number", "write digits only", reader, |text| text.parse().ok())
    }

    fn schema() -> Schema {
        schema::number("integer")
    }
}

impl FromNode for f64 {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<f64> {
        read(node, "a number", "write digits, as `60` or `0.5`", reader, |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    fn schema() -> Schema {
        schema::number("number")
    }
}

impl FromNode for PathBuf {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<PathBuf> {
        String::from_node(node, reader).map(PathBuf::from)
    }

    fn schema() -> Schema {
        schema::text()
    }
}

impl FromNode for FieldPath {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<FieldPath> {
        let scalar = scalar(node, "the name of a field", reader)?;
        FieldPath::parse(&scalar.value)
            .map_err(|error| {
                let hint = "join the names on the way by dots, as `source.ip` or `ModifiedProperties.NewValue`";
                reader.fault(&node.place, format!("`{}` names no field: {error}", scalar.written), hint);
            })
            .ok()
    }

    fn schema() -> Schema {
        schema::pattern("[^*]+")
    }
}

/// Where to listen; `off`: nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen(pub Option<SocketAddr>);

impl FromNode for Listen {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Listen> {
        let hint = "write an IP address and a port (`127.0.0.1:9464`, `0.0.0.0:9464`, `[::]:9464`), or `off`";
        read(node, "an address to listen on", hint, reader, |text| match text {
            "off" => Some(Listen(None)),
            address => address.parse().ok().map(|address| Listen(Some(address))),
        })
    }

    fn schema() -> Schema {
        schema::pattern("off|.+:[0-9]+")
    }
}

impl FromNode for Duration {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Duration> {
        read(node, "a duration", "write a number and a unit: `500ms`, `30s`, `5m`, `12h`, `7d`", reader, parse_duration)
    }

    fn schema() -> Schema {
        schema::pattern("([0-9]+(ms|s|m|h|d|w))+")
    }
}

/// `30s`, `5m`, `7d`, and sums such as `1h30m`. Also what `--for` and `--once-timeout` take.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let millis: u64 = match &rest[digits..digits + letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[digits + letters..];
    }
    (!text.is_empty()).then_some(sum)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub u64);

impl FromNode for Size {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Size> {
        let hint = "write a number and a unit: `100KiB`, `32MiB`, `2GiB` (or `8MB`, in thousands)";
        read(node, "a size", hint, reader, parse_size).map(Size)
    }

    fn schema() -> Schema {
        schema::size()
    }
}

/// `32MiB`, `8MB`, `100KiB`, or plain bytes.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A GUID in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guid(pub String);

impl FromNode for Guid {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Guid> {
        let hint = "write the id as the portal shows it: 8-4-4-4-12 hexadecimal digits";
        read(node, "a GUID", hint, reader, |text| is_guid(text).then(|| Guid(text.to_ascii_lowercase())))
    }

    fn schema() -> Schema {
        schema::pattern("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
    }
}

pub(super) fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A day, as the first second of it in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date(pub Seconds);

impl FromNode for Date {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Date> {
        let hint = "write the day as `2027-01-31`: the portal shows it beside the secret; UTC";
        read(node, "a date", hint, reader, |text| {
            let day: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
            let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            Some(Date(start.timestamp().as_second()))
        })
    }

    fn schema() -> Schema {
        schema::pattern("[0-9]{4}-[0-9]{2}-[0-9]{2}")
    }
}

impl FromNode for Url {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Url> {
        let hint = "write `https://host:port`; plain `http://` goes to loopback only";
        let url = read(node, "a URL", hint, reader, |text| {
            Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        })?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            reader.fault(
                &node.place,
                "the URL holds credentials, a query or a fragment",
                "give scheme, host, port and path only",
            );
            return None;
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            reader.fault(
                &node.place,
                "plain http would carry secrets and audit records readable over the network",
                "use https; plain http goes to loopback only",
            );
            return None;
        }
        Some(url)
    }

    fn schema() -> Schema {
        schema::pattern("https?://.+")
    }
}

/// Whether nothing leaves this machine on the way to `url`.
pub fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// Whether what is sent there stays unread on the way: by https, or plain to this machine.
pub fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)
}

/// The same of a host by itself; an IPv6 address may stand in brackets.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromNode for ContentType {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<ContentType> {
        let names = ContentType::ALL.map(ContentType::as_str);
        let hint = format!("one of {}", names.join(", "));
        read(node, "a content type", &hint, reader, ContentType::parse)
    }

    fn schema() -> Schema {
        schema::one_of(ContentType::ALL.map(ContentType::as_str))
    }
}

impl FromNode for Format {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Format> {
        let written = scalar(node, "a format", reader)?;
        match written.value.as_str() {
            "raw" => Some(Format::Raw),
            "ecs" => Some(Format::Ecs),
            "cef" => Some(Format::Cef),
            "leef" => Some(Format::Leef),
            _ => {
                let hint = "use `ecs`, `raw`, `cef` or `leef`";
                reader.fault(&node.place, format!("`{}` is not a format", written.written), hint);
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::one_of(["raw", "ecs", "cef", "leef"])
    }
}

impl FromNode for Profile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Profile> {
        let parse = |name: &str| Profile::ALL.into_iter().find(|profile| profile.as_str() == name);
        read(node, "a profile of ECS", "use `auditferry` or `elastic`", reader, parse)
    }

    fn schema() -> Schema {
        schema::one_of(Profile::ALL.map(Profile::as_str))
    }
}

/// The national clouds and their hosts (activity-api 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    Enterprise,
    Gcc,
    GccHigh,
    Dod,
}

impl Cloud {
    /// Root of the Management Activity API, root of the token endpoint.
    pub const fn roots(self) -> (&'static str, &'static str) {
        match self {
            Cloud::Enterprise => ("https://manage.office.com/", "https://login.microsoftonline.com/"),
            Cloud::Gcc => ("https://manage-gcc.office.com/", "https://login.microsoftonline.com/"),
            Cloud::GccHigh => ("https://manage.office365.us/", "https://login.microsoftonline.us/"),
            Cloud::Dod => ("https://manage.protection.apps.mil/", "https://login.microsoftonline.us/"),
        }
    }
}

/// Whether indexer acknowledgement is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckEnabled(pub AckMode);

impl FromNode for AckEnabled {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<AckEnabled> {
        let hint = "`auto` waits for acknowledgements where the receiver gives them, `true` accepts nothing less";
        read(node, "auto, true or false", hint, reader, |text| match text {
            "auto" => Some(AckEnabled(AckMode::Auto)),
            "true" | "True" | "TRUE" => Some(AckEnabled(AckMode::Required)),
            "false" | "False" | "FALSE" => Some(AckEnabled(AckMode::Off)),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::choice(["auto"], schema::boolean())
    }
}

impl FromNode for Cloud {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Cloud> {
        let hint = "one of enterprise, gcc, gcc_high, dod; another cloud takes `endpoints: { api: …, login: … }`";
        read(node, "a cloud", hint, reader, |text| match text {
            "enterprise" => Some(Cloud::Enterprise),
            "gcc" => Some(Cloud::Gcc),
            "gcc_high" => Some(Cloud::GccHigh),
            "dod" => Some(Cloud::Dod),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::one_of(["enterprise", "gcc", "gcc_high", "dod"])
    }
}

/// What a HEC body is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    None,
}

impl FromNode for Compression {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Compression> {
        read(node, "a compression", "use `gzip` or `none`", reader, |text| match text {
            "gzip" => Some(Compression::Gzip),
            "none" => Some(Compression::None),
            _ => None,
        })
    }

    fn schema() -> Schema {
        schema::one_of(["gzip", "none"])
    }
}

/// A secret, and whether it stands in the configuration itself.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub source: SecretSource,
    pub literal: bool,
}

impl FromNode for Secret {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Secret> {
        let Value::Scalar(written) = &node.value else {
            reader.fault(
                &node.place,
                format!("here stands {}, a secret is wanted", node.value.shape()),
                "best as \"${file:/run/secrets/…}\"",
            );
            return None;
        };
        if let Some(path) = sole_file(written) {
            look_at_secret_file(&path, &node.place, reader);
            return Some(Secret { source: SecretSource::File(path), literal: false });
        }
        let value = interpolate(written, &node.place, reader)?;
        if value.trim().is_empty() || value.chars().any(char::is_control) {
            reader.fault(
                &node.place,
                "the secret is empty or holds control characters",
                "best as \"${file:/run/secrets/…}\"",
            );
            return None;
        }
        Some(Secret { source: SecretSource::Value(SecretString::from(value)), literal: is_literal(written) })
    }

    fn schema() -> Schema {
        schema::text()
    }
}

/// A secret file is read at each use, so a missing one is no fault of the configuration: only said.
fn look_at_secret_file(path: &std::path::Path, place: &Place, reader: &mut Reader<'_>) {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(path) {
        Ok(found) if found.mode() & 0o004 != 0 => {
            reader.warning(
                place,
                format!("everybody on this machine can read the secret in `{}`", path.display()),
                format!("chmod o-r {}", path.display()),
            );
        }
        Ok(_) => {}
        Err(error) => {
            reader.warning(
                place,
                format!("cannot see the secret in `{}` from here: {error}", path.display()),
                "it is read at each use and must be there when `run` starts",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_numbers_with_units() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs_f64());
        assert_eq!(
            ["500ms", "30s", "5m", "7d", "1h30m"].map(seconds),
            [0.5, 30.0, 300.0, 604_800.0, 5_400.0].map(Some)
        );
        assert_eq!(
            ["", "30", "s", "5 m", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615w"].map(seconds),
            [None; 8]
        );
        assert_eq!(
            ["32MiB", "8MB", "100KiB", "4096", "1 GiB"].map(parse_size),
            [33_554_432, 8_000_000, 102_400, 4096, 1 << 30].map(Some)
        );
        assert_eq!(["", "MiB", "1.5MiB", "-1", "8mb", "99999999999TiB"].map(parse_size), [None; 6]);
    }

    #[test]
    fn a_guid_has_five_groups_of_hexadecimal_digits() {
        assert!(is_guid("6F1C2D3E-0000-4000-8000-00000000000a"));
        for wrong in ["", "6f1c2d3e", "6f1c2d3e-0000-4000-8000-00000000000g", "{6f1c2d3e-0000-4000-8000-00000000000a}"]
        {
            assert!(!is_guid(wrong), "{wrong}");
        }
    }
}
