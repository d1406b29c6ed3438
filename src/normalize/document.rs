//! The ECS document, written in one go.
//!
//! Comes in: a draft and the record it was drawn from. Goes out: one JSON object on one line. Always
//! valid JSON for a readable record: what is copied was accepted by the parser, what is made is escaped.

use std::io::Write as _;
use std::net::IpAddr;

use crate::record::address::Address;
use crate::record::view::Entry;
use crate::record::{Field, FieldSet, RecordKey, View, instant};

use super::draft::{Draft, Outcome};
use super::{Context, json};

/// Numbers that are names, not quantities: written as strings, because different workloads send the
/// same field as number and as text (ecs-mapping, section 8).
const AS_STRINGS: FieldSet = FieldSet::of(&[
    Field::RecordType,
    Field::UserType,
    Field::Version,
    Field::InternalLogonType,
    Field::LogonType,
    Field::AzureActiveDirectoryEventType,
    Field::ActorYammerUserId,
    Field::YammerNetworkId,
    Field::ListBaseType,
]);

/// What every document of ours begins with, audit record or pipeline error.
pub fn write_head(time_ms: Option<i64>, kind: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(ms) = time_ms {
        out.extend_from_slice(br#""@timestamp":""#);
        instant::write_ms(ms, out);
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(
        br#""ecs":{"version":"8.17.0"},"data_stream":{"type":"logs","dataset":"o365.audit","namespace":"default"},"event":{"module":"o365","dataset":"o365.audit","kind":""#,
    );
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",");
}

/// `auditferry.*`, left open for more.
pub fn write_own(context: &Context<'_>, key: RecordKey, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""auditferry":{"key":""#);
    out.extend_from_slice(&key.to_hex());
    out.extend_from_slice(b"\",");
    if let Some(content_type) = context.content_type {
        json::escaped("content_type", content_type.as_str(), out);
    }
}

/// Appends the document.
pub fn write(context: &Context<'_>, key: RecordKey, view: &View<'_>, draft: &Draft<'_>, out: &mut Vec<u8>) {
    // Nearly always enough, so that the buffer grows once for a record and not while it is written.
    out.reserve(view.record().len() + 1024);
    write_head(draft.time_ms.or(context.received_ms), draft.kind, out);
    write_event(draft, out);
    write_organization(context, draft, out);
    write_user(draft, out);
    write_source(draft, out);
    write_related(draft, out);
    write_own(context, key, out);
    json::close(out);
    out.extend_from_slice(br#""o365":{"audit":{"#);
    write_rest(view, draft.moved, out);
    json::end(b'}', out);
    out.extend_from_slice(b"}}");
}

/// The members of `event` after those of the head.
fn write_event(draft: &Draft<'_>, out: &mut Vec<u8>) {
    let members = [("id", draft.id), ("action", draft.action), ("provider", draft.provider), ("code", draft.code)];
    for (name, value) in members {
        if let Some(value) = value {
            json::escaped(name, value, out);
        }
    }
    match draft.outcome {
        Some(Outcome::Success) => json::escaped("outcome", "success", out),
        Some(Outcome::Failure) => json::escaped("outcome", "failure", out),
        None => {}
    }
    json::close(out);
}

/// The record's own organization; of a record that names none, the tenant whose feed it came by. The
/// configured name belongs to that tenant alone.
fn write_organization(context: &Context<'_>, draft: &Draft<'_>, out: &mut Vec<u8>) {
    let id = draft.organization_id.unwrap_or(context.tenant_id);
    let configured = id.eq_ignore_ascii_case(context.tenant_id) && !context.tenant_name.is_empty();
    if id.is_empty() && !configured && draft.organization_name.is_none() {
        return;
    }
    json::open("organization", out);
    if !id.is_empty() {
        let from = out.len();
        json::escaped("id", id, out);
        // Escapes survive: their letters are lower case, their digits have no case.
        out[from..].make_ascii_lowercase();
    }
    if configured {
        json::text("name", context.tenant_name, out);
    } else if let Some(name) = draft.organization_name {
        json::escaped("name", name, out);
    }
    json::close(out);
}

fn write_user(draft: &Draft<'_>, out: &mut Vec<u8>) {
    if let Some(id) = draft.user.id {
        json::open("user", out);
        json::escaped("id", id, out);
        if let Some((name, domain)) = draft.user.address {
            json::escaped("name", name, out);
            json::escaped("domain", domain, out);
            json::escaped("email", id, out);
        }
        json::close(out);
    }
    if let Some(agent) = draft.user_agent {
        json::open("user_agent", out);
        json::escaped("original", agent, out);
        json::close(out);
    }
}

fn write_source(draft: &Draft<'_>, out: &mut Vec<u8>) {
    let Some(source) = draft.source else { return };
    json::open("source", out);
    json::key("address", out);
    match source.ip {
        Some(ip) => write_ip(ip, source.text, out),
        None => json::quoted(source.text, out),
    }
    out.push(b',');
    if let Some(ip) = source.ip {
        json::key("ip", out);
        write_ip(ip, source.text, out);
        out.push(b',');
    }
    if let Some(port) = source.port {
        json::number("port", port, out);
    }
    if let Some(domain) = source.domain {
        json::escaped("domain", domain, out);
    }
    json::close(out);
}

/// An IP address in its canonical form. An IPv4 address has only one, so its text is copied.
fn write_ip(ip: IpAddr, text: &str, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(_) if !text.contains(':') => json::quoted(text, out),
        // Writing into a Vec cannot fail.
        _ => _ = write!(out, "\"{ip}\""),
    }
}

fn write_related(draft: &Draft<'_>, out: &mut Vec<u8>) {
    let has_ip = draft.source.is_some_and(|source| source.ip.is_some());
    if !has_ip && draft.user.id.is_none() {
        return;
    }
    json::open("related", out);
    if has_ip {
        json::key("ip", out);
        write_ips(&draft.addresses, out);
    }
    if let Some(id) = draft.user.id {
        json::key("user", out);
        out.push(b'[');
        json::quoted(id, out);
        if let Some((name, _)) = draft.user.address {
            out.push(b',');
            json::quoted(name, out);
        }
        out.extend_from_slice(b"],");
    }
    json::close(out);
}

fn write_ips(addresses: &[Option<Address<'_>>], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, address) in addresses.iter().enumerate() {
        let Some(Address { ip: Some(ip), text, .. }) = address else { continue };
        if !addresses[..index].iter().flatten().any(|earlier| earlier.ip == Some(*ip)) {
            write_ip(*ip, text, out);
            out.push(b',');
        }
    }
    json::end(b']', out);
    out.push(b',');
}

/// Everything that was not moved, as it was sent. Members that follow one another are one copy.
fn write_rest(view: &View<'_>, moved: FieldSet, out: &mut Vec<u8>) {
    let mut run: Option<(usize, usize)> = None;
    let flush = |run: &mut Option<(usize, usize)>, out: &mut Vec<u8>| {
        if let Some((from, to)) = run.take() {
            json::one_line(&view.record()[from..to], out);
            out.push(b',');
        }
    };
    for entry in view.entries() {
        let (from, to) = entry.span;
        let as_string = entry.field.is_some_and(|field| AS_STRINGS.contains(field)) && is_number(&entry);
        if entry.field.is_some_and(|field| moved.contains(field)) {
            flush(&mut run, out);
        } else if as_string {
            flush(&mut run, out);
            json::escaped(entry.name, entry.value, out);
        } else if let Some((_, end)) = &mut run
            && !view.has_superseded()
        {
            *end = to;
        } else {
            flush(&mut run, out);
            run = Some((from, to));
        }
    }
    flush(&mut run, out);
}

fn is_number(entry: &Entry<'_>) -> bool {
    entry.value.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
}
