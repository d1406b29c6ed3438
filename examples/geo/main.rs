//! Makes and checks databases in MaxMind's format, for `make geo` and for the invented places of `demo`.
//!
//! `geo systems CSV OUT VERSION`: a table `first,last,number,"name"` of ip-location-db's package `asn`, and the package's version, which
//! says the day (`2.3.2026061719`), → a database.
//! `geo check FILE…`: reads everything in them, and says what they are. `geo invented OUT`: writes `src/enrich/invented.mmdb`.

#[allow(clippy::expect_used, reason = "a tool at build time: an input that it does not know ends it")]
mod invented;
#[allow(clippy::expect_used, reason = "as above")]
mod writer;

use std::collections::HashSet;
use std::error::Error;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use maxminddb::WithinOptions;
use serde::de::IgnoredAny;

use writer::{Value, Writer, map, text};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["systems", table, out, version] => systems(Path::new(table), Path::new(out), built(version)?),
        ["check", ref files @ ..] if !files.is_empty() => files.iter().try_for_each(|file| check(Path::new(file))),
        ["invented", out] => Ok(std::fs::write(out, invented::database())?),
        _ => Err("usage: geo systems CSV OUT VERSION | geo check FILE… | geo invented OUT".into()),
    }
}

/// Builds a database of autonomous systems, for the one kind of address that the table has.
fn systems(table: &Path, out: &Path, built: u64) -> Result<()> {
    let rows = std::fs::read_to_string(table)?;
    let is_v6 = rows.lines().next().is_some_and(|row| row.contains(':'));
    let ip_version = if is_v6 { 6 } else { 4 };
    let mut writer = Writer::new(ip_version, "ip-location-db asn", built);
    for (line, row) in (1..).zip(rows.lines()) {
        let (first, last, number, name) =
            read_row(row).ok_or_else(|| format!("{}:{line}: not first,last,number,name", table.display()))?;
        let record =
            map([("autonomous_system_number", Value::U32(number)), ("autonomous_system_organization", text(&name))]);
        networks(first, last, &mut |ip, prefix| writer.insert(ip, prefix, &record));
    }
    Ok(std::fs::write(out, writer.finish())?)
}

/// Seconds since 1970 of a version of the package: year, month, day and hour are its last number.
fn built(version: &str) -> Result<u64> {
    let stamp = version.rsplit('.').next().unwrap_or_default();
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M", format!("{stamp}00"))
        .map_err(|error| format!("`{version}` does not end with year, month, day and hour: {error}"))?;
    Ok(time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second().try_into()?)
}

/// The name may stand in quotes, with a quote doubled (RFC 4180).
fn read_row(row: &str) -> Option<(IpAddr, IpAddr, u32, String)> {
    let mut parts = row.splitn(4, ',');
    let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let number = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => name.to_owned(),
    };
    Some((first, last, number, name))
}

/// The networks that make up a range.
fn networks(first: IpAddr, last: IpAddr, each: &mut impl FnMut(IpAddr, u32)) {
    let (bits, mut first, last) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (32, u128::from(first.to_bits()), u128::from(last.to_bits())),
        (IpAddr::V6(first), IpAddr::V6(last)) => (128, first.to_bits(), last.to_bits()),
        _ => return,
    };
    while first <= last {
        let mut size = first.trailing_zeros().min(bits - 1);
        while first | ((1u128 << size) - 1) > last {
            size -= 1;
        }
        let ip = if bits == 32 { IpAddr::V4((first as u32).into()) } else { IpAddr::V6(first.into()) };
        each(ip, bits - size);
        match first.checked_add(1u128 << size) {
            Some(next) => first = next,
            None => return,
        }
    }
}

fn check(file: &Path) -> Result<()> {
    let reader = maxminddb::Reader::open_readfile(file)?;
    // The library's own check wants a description, which ip-location-db's files do not have.
    let damaged = |error| format!("{}: {error}", file.display());
    let mut seen = HashSet::new();
    for found in reader.networks(WithinOptions::default()).map_err(damaged)? {
        let found = found.map_err(damaged)?;
        if found.offset().is_some_and(|offset| seen.insert(offset)) {
            found.decode::<IgnoredAny>().map_err(damaged)?;
        }
    }
    let about = reader.metadata();
    let built = about.build_time()?.duration_since(UNIX_EPOCH)?.as_secs();
    writeln!(
        std::io::stdout(),
        "{}: {}, IPv{}, {} nodes, {} records, built {built} (seconds since 1970)",
        file.display(),
        about.database_type,
        about.ip_version,
        about.node_count,
        seen.len(),
    )?;
    Ok(())
}
