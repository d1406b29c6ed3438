//! A message: the header of RFC 5424 or RFC 3164 before the record, the document, or a CEF or LEEF line.
//!
//! Comes in: an event. Goes out: one message without its framing, behind a byte that says whether it was cut. No
//! control character is in it (but LEEF's tabs), so that nothing in a record can end a message or begin another;
//! no header field leaves the characters and lengths that RFC 5424, 6 allows.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::world_ms;
use crate::config::{Format, Oversize, Rfc, SeverityRule, SinkConfig, SyslogConfig};
use crate::event::Event;
use crate::sink::SinkBuildError;
use crate::sink::line::Written;
use crate::sink::template::Template;

/// The byte before a message that is whole.
pub(super) const WHOLE: u8 = 0;
/// The byte before a message that was cut.
pub(super) const CUT: u8 = 1;

/// Characters of header fields (RFC 5424, 6).
const MAX_HOSTNAME: usize = 255;
const MAX_APP_NAME: usize = 48;
const MAX_PROC_ID: usize = 128;
const MAX_MSG_ID: usize = 32;
/// Characters of a tag (RFC 3164, 4.1.3).
const MAX_TAG: usize = 32;
/// What says at the end of a message of RFC 3164, which has no other place for it, that it was cut.
const CUT_MARK: &[u8] = b" [truncated]";
const BOM: &[u8] = "\u{feff}".as_bytes();

/// How messages are written.
pub(super) struct Writer {
    rfc: Rfc,
    facility: u8,
    severity: SeverityRule,
    app_name: Template,
    hostname: Option<Template>,
    proc_id: Option<Template>,
    msg_id: Template,
    sd_id: Option<String>,
    parameters: Vec<(String, Template)>,
    bom: bool,
    written: Written,
    /// So what is inside a text has an escape.
    is_json: bool,
    /// LEEF has tabs between its keys.
    keeps_tabs: bool,
    cut_at: Option<usize>,
    zone: TimeZone,
}

impl Writer {
    pub fn new(config: &SinkConfig, syslog: &SyslogConfig) -> Result<Writer, SinkBuildError> {
        let template = |field: &'static str, text: &str| {
            let wrong = |source| SinkBuildError::Template { sink: config.name.clone(), field, source };
            Template::parse(text).map_err(wrong)
        };
        let optional = |field, text: &Option<String>| text.as_deref().map(|text| template(field, text)).transpose();
        let parameter = |(name, text): &(String, String)| Ok((name.clone(), template("structured_data", text)?));
        Ok(Writer {
            rfc: syslog.rfc,
            facility: syslog.facility,
            severity: syslog.severity,
            app_name: template("app_name", &syslog.app_name)?,
            hostname: optional("hostname", &syslog.hostname)?,
            proc_id: optional("proc_id", &syslog.proc_id)?,
            msg_id: template("msg_id", &syslog.msg_id)?,
            sd_id: syslog.sd_id.clone(),
            parameters: syslog.structured_data.iter().map(parameter).collect::<Result<_, SinkBuildError>>()?,
            bom: syslog.bom,
            written: Written::of(config),
            is_json: matches!(config.format, Format::Raw | Format::Ecs),
            keeps_tabs: config.format == Format::Leef,
            cut_at: syslog.max_size.filter(|_| syslog.oversize == Oversize::Truncate),
            zone: if syslog.rfc == Rfc::Rfc3164 { TimeZone::system() } else { TimeZone::UTC },
        })
    }

    /// Appends [`WHOLE`] or [`CUT`] and the message.
    pub fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.push(WHOLE);
        let start = out.len();
        self.header(event, false, out);
        self.body(event, out);
        let Some(most) = self.cut_at.filter(|most| out.len() - start > *most) else { return };
        out.truncate(start);
        self.header(event, true, out);
        let header = out.len() - start;
        let mark = if self.rfc == Rfc::Rfc3164 { CUT_MARK } else { b"" };
        self.body(event, out);
        // A header that leaves no room stays with its whole body, and the message is refused where it is sent.
        if header + mark.len() < most {
            let end = character_boundary(out, start + most - mark.len());
            out.truncate(end);
            out.extend_from_slice(mark);
            out[start - 1] = CUT;
        }
    }

    fn header(&self, event: &Event<'_>, is_cut: bool, out: &mut Vec<u8>) {
        let priority = self.facility * 8 + self.severity(event);
        // Writing to memory cannot fail.
        _ = write!(out, "<{priority}>");
        match self.rfc {
            Rfc::Rfc5424 => self.header_5424(event, is_cut, out),
            Rfc::Rfc3164 => self.header_3164(event, out),
        }
    }

    fn header_5424(&self, event: &Event<'_>, is_cut: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"1 ");
        match event.meta.time_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            Some(time) => _ = write!(out, "{time:.3}"),
            None => out.push(b'-'),
        }
        out.push(b' ');
        self.hostname(event, out);
        out.push(b' ');
        field(&self.app_name, event, MAX_APP_NAME, out);
        out.push(b' ');
        match &self.proc_id {
            Some(template) => field(template, event, MAX_PROC_ID, out),
            None => out.push(b'-'),
        }
        out.push(b' ');
        field(&self.msg_id, event, MAX_MSG_ID, out);
        out.push(b' ');
        self.structured_data(event, is_cut, out);
        out.push(b' ');
        if self.bom {
            out.extend_from_slice(BOM);
        }
    }

    /// The time is local, as RFC 3164, 4.1.2 wants it: neither it nor the year or the zone is told.
    fn header_3164(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let time = Timestamp::from_millisecond(event.meta.time_ms.unwrap_or_else(world_ms)).unwrap_or_default();
        _ = write!(out, "{} ", time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S"));
        self.hostname(event, out);
        out.push(b' ');
        let start = out.len();
        field(&self.app_name, event, MAX_TAG, out);
        // What is no letter or digit would end the tag; these few are in common use.
        for byte in &mut out[start..] {
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_' | b'.' | b'/') {
                *byte = b'_';
            }
        }
        if let Some(template) = &self.proc_id {
            out.push(b'[');
            let start = out.len();
            field(template, event, MAX_PROC_ID, out);
            for byte in &mut out[start..] {
                if matches!(byte, b'[' | b']') {
                    *byte = b'_';
                }
            }
            out.push(b']');
        }
        out.extend_from_slice(b": ");
    }

    fn hostname(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let tenant = &event.part.blob.feed.tenant;
        match &self.hostname {
            Some(template) => field(template, event, MAX_HOSTNAME, out),
            None => push_printable(tenant.domains.first().unwrap_or(&tenant.name), MAX_HOSTNAME, out),
        }
    }

    fn structured_data(&self, event: &Event<'_>, is_cut: bool, out: &mut Vec<u8>) {
        let Some(id) = &self.sd_id else { return out.push(b'-') };
        let feed = &event.part.blob.feed;
        out.push(b'[');
        out.extend_from_slice(id.as_bytes());
        push_parameter("tenant", &feed.tenant.name, out);
        push_parameter("content_type", feed.content_type.as_str(), out);
        push_parameter("key", &String::from_utf8_lossy(&event.meta.key.to_hex()), out);
        if is_cut {
            push_parameter("truncated", "1", out);
        }
        let mut text = Vec::new();
        for (name, template) in &self.parameters {
            text.clear();
            template.render_plain(event, &mut text);
            push_parameter(name, &String::from_utf8_lossy(&text), out);
        }
        out.push(b']');
    }

    fn body(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        push_without_c1(self.written.body(event), self.is_json, out);
        // In JSON a control character can now only stand between tokens, where a blank means the same; CEF and LEEF
        // have escaped theirs.
        for byte in &mut out[start..] {
            if byte.is_ascii_control() && !(self.keeps_tabs && *byte == b'\t') {
                *byte = b' ';
            }
        }
    }

    /// The number of RFC 5424, table 2. A failure is a warning; a record with a severity of its own, and an alert, has
    /// that; everything else informs.
    fn severity(&self, event: &Event<'_>) -> u8 {
        match (self.severity, event.meta.severity) {
            (SeverityRule::Fixed(number), _) => number,
            _ if !event.meta.readable => 4,
            (SeverityRule::Outcome, 8..) => 2,
            (SeverityRule::Outcome, 6 | 7) => 3,
            (SeverityRule::Outcome, 3..=5) => 4,
            (SeverityRule::Outcome, 1) => 5,
            (SeverityRule::Outcome, _) => 6,
        }
    }
}

/// Appends what the template says as a header field; `-` where that is nothing.
fn field(template: &Template, event: &Event<'_>, most: usize, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    template.render_plain(event, &mut text);
    push_printable(&String::from_utf8_lossy(&text), most, out);
}

/// Appends text as PRINTUSASCII (RFC 5424, 6): each other character becomes `_`.
fn push_printable(text: &str, most: usize, out: &mut Vec<u8>) {
    if text.is_empty() {
        return out.push(b'-');
    }
    let printable = |c: char| if c.is_ascii_graphic() { c as u8 } else { b'_' };
    out.extend(text.chars().take(most).map(printable));
}

/// Appends ` name="value"` (RFC 5424, 6.3.3); a control character becomes a blank.
fn push_parameter(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    let mut clean = Vec::with_capacity(value.len());
    push_without_c1(value.as_bytes(), false, &mut clean);
    for byte in clean {
        match byte {
            b'"' | b'\\' | b']' => out.extend_from_slice(&[b'\\', byte]),
            control if control.is_ascii_control() => out.push(b' '),
            other => out.push(other),
        }
    }
    out.push(b'"');
}

/// Appends text without the controls U+007F (as blanks later, where it is no JSON) to U+009F, which some receivers take for line ends or for the start of a
/// terminal's command: escaped in JSON, where they stand in texts only, else as blanks.
fn push_without_c1(text: &[u8], is_json: bool, out: &mut Vec<u8>) {
    let mut from = 0;
    for at in memchr::memchr2_iter(0xC2, 0x7F, text) {
        let (low, bytes) = match text.get(at..) {
            Some([0x7F, ..]) if is_json => (0x7F, 1),
            Some([0xC2, low @ 0x80..=0x9F, ..]) => (*low, 2),
            _ => continue,
        };
        out.extend_from_slice(text.get(from..at).unwrap_or_default());
        match is_json {
            true => _ = write!(out, "\\u00{low:02x}"),
            false => out.push(b' '),
        }
        from = at + bytes;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
}

/// The last place up to `at` where a character of UTF-8 begins.
fn character_boundary(text: &[u8], at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
