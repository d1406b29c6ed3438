//! Headers and bodies, field by field.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{BatchConfig, Framing, RetryConfig, SinkKind, SyslogAddress, TlsConfig};
use crate::event::Part;
use crate::feed::Tenant;
use crate::normalize::Profile;
use crate::sink::samples;

pub(crate) fn syslog() -> SyslogConfig {
    SyslogConfig {
        address: SyslogAddress::Tcp { host: "127.0.0.1".into(), port: 514 },
        rfc: Rfc::Rfc5424,
        framing: Framing::OctetCounting,
        facility: 16,
        severity: SeverityRule::Outcome,
        app_name: "o365".into(),
        hostname: None,
        proc_id: None,
        msg_id: "{operation}".into(),
        sd_id: Some("auditferry@32473".into()),
        structured_data: Vec::new(),
        bom: false,
        max_size: None,
        oversize: Oversize::DeadLetter,
        tls: TlsConfig::default(),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        keepalive: None,
        resend: 1000,
    }
}

fn config(format: Format, syslog: &SyslogConfig) -> SinkConfig {
    SinkConfig {
        name: "siem".into(),
        required: true,
        format,
        ecs_profile: Profile::Auditferry,
        when: None,
        edit: Default::default(),
        rate_limit: None,
        batch: BatchConfig { max_bytes: 1, max_events: 1, linger: Duration::ZERO, concurrency: 1 },
        retry: RetryConfig { initial: Duration::ZERO, max: Duration::ZERO },
        kind: SinkKind::Syslog(syslog.clone()),
    }
}

fn part(record: &str, severity: u8) -> Part {
    let mut part = Arc::into_inner(samples::part(&[record])).unwrap();
    part.events[0].severity = severity;
    part
}

/// The flag and the message.
fn written(syslog: &SyslogConfig, part: &Part) -> (u8, String) {
    let mut out = Vec::new();
    let writer = Writer::new(&config(Format::Raw, syslog), syslog).unwrap();
    writer.write(&part.event(0), &mut out);
    (out[0], String::from_utf8(out[1..].to_vec()).unwrap())
}

#[test]
fn a_message_of_rfc_5424() {
    let (flag, text) = written(&syslog(), &part(samples::RECORD, 2));
    let key = part(samples::RECORD, 0).events[0].key.to_string();
    let header = format!(
        "<134>1 2023-11-14T22:13:20.007Z con\"toso o365 - New-\"Rule\" [auditferry@32473 tenant=\"con\\\"toso\" content_type=\"Audit.Exchange\" key=\"{key}\"] "
    );
    assert_eq!((flag, text), (WHOLE, header + &samples::RECORD.replace(['\r', '\n'], " ")));
}

#[test]
fn fields_keep_to_their_characters_and_lengths() {
    let mut config = syslog();
    config.app_name = "an app {workload} ü\u{202e}\u{0}".into();
    config.msg_id = "{operation}".repeat(5);
    config.proc_id = Some(" ".into());
    config.hostname = Some("x".repeat(300));
    config.sd_id = None;
    config.bom = true;
    let (_, text) = written(&config, &part("{\"Workload\":\"Ä B\",\"Operation\":\"Add member\"}", 4));
    let fields: Vec<&str> = text.splitn(8, ' ').collect();
    assert_eq!((fields[0], fields[2].len()), ("<132>1", 255));
    assert_eq!((fields[3], fields[4]), ("an_app___B____", "_"));
    assert_eq!((fields[5], fields[5].len()), ("Add_memberAdd_memberAdd_memberAd", 32));
    assert_eq!(fields[6], "-");
    assert!(fields[7].starts_with("\u{feff}{\"Workload\""), "{text}");
    config.msg_id = "{operation}".into();
    let (_, text) = written(&config, &part("{}", 0));
    assert!(text.contains(" _ - - \u{feff}{}"), "what a record does not have is `-`: {text}");
}

#[test]
fn a_host_is_the_tenants_first_domain_where_it_has_one() {
    let mut part = part("{}", 0);
    part.blob.feed.tenant =
        Arc::new(Tenant { name: "a".into(), id: "i".into(), domains: vec!["contoso.com".into(), "b".into()] });
    assert_eq!(written(&syslog(), &part).1.split(' ').nth(2), Some("contoso.com"));
}

#[test]
fn severity_follows_the_record_or_is_fixed() {
    let priority = |config: &SyslogConfig, record: &str, severity| {
        let text = written(config, &part(record, severity)).1;
        text[1..text.find('>').unwrap()].parse::<u8>().unwrap() - 128
    };
    for (severity, wanted) in [(0, 6), (1, 5), (2, 6), (3, 4), (4, 4), (6, 3), (7, 3), (8, 2), (10, 2)] {
        assert_eq!(priority(&syslog(), "{}", severity), wanted, "{severity}");
    }
    assert_eq!(priority(&syslog(), "no json", 0), 4, "what cannot be read is a warning");
    let fixed = SyslogConfig { severity: SeverityRule::Fixed(1), ..syslog() };
    assert_eq!(priority(&fixed, "no json", 8), 1);
}

#[test]
fn a_message_of_rfc_3164() {
    let mut config = SyslogConfig { rfc: Rfc::Rfc3164, proc_id: Some("[{workload}]".into()), ..syslog() };
    config.app_name = format!("o365:{}", "x".repeat(40));
    let writer = Writer {
        zone: TimeZone::fixed(jiff::tz::offset(2)),
        ..Writer::new(&self::config(Format::Raw, &config), &config).unwrap()
    };
    let mut out = Vec::new();
    writer.write(&part(samples::RECORD, 2).event(0), &mut out);
    let text = String::from_utf8(out[1..].to_vec()).unwrap();
    let wanted = format!("<134>Nov 15 00:13:20 con\"toso o365_{}[_Exchange_]: {{\"Id\"", "x".repeat(27));
    assert!(text.starts_with(&wanted), "{text}");
}

#[test]
fn no_control_character_is_in_a_message_whatever_the_record_holds() {
    let record = "{\"Id\":\"a\u{7f}\",\r\n\t\"Operation\":\"x\\n<134>1 - - - - - - forged\\u0000\u{202e}\u{1f600}\"}";
    let mut config = syslog();
    config.structured_data = vec![("op".into(), "{operation}]\"\\".into())];
    let (_, text) = written(&config, &part(record, 0));
    assert!(!text.chars().any(|c| c.is_ascii_control()), "{text:?}");
    assert!(text.contains("a\\u007f"), "as it was, for whoever reads the JSON: {text}");
    assert!(text.contains("op=\"x <134>1 - - - - - - forged \u{202e}\u{1f600}\\]\\\"\\\\\"]"), "{text}");
    let (_, text) = written(&syslog(), &part("no\u{0}\n<1>json", 0));
    assert!(!text.chars().any(|c| c.is_ascii_control()), "{text:?}");
}

#[test]
fn no_control_character_beyond_ascii_is_in_a_message() {
    let record = "{\"Id\":\"a\",\"Operation\":\"x\u{85}y\u{9b}zé\"}";
    let (_, text) = written(&syslog(), &part(record, 0));
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.contains("x\\u0085y\\u009bzé"), "{text}");
}

#[test]
fn what_is_cut_says_so_and_keeps_whole_characters() {
    let record = format!("{{\"Operation\":\"{}\"}}", "ü".repeat(2000));
    let config = |rfc, most, oversize| SyslogConfig { rfc, max_size: Some(most), oversize, ..syslog() };
    for most in 600..640 {
        let (flag, text) = written(&config(Rfc::Rfc5424, most, Oversize::Truncate), &part(&record, 0));
        assert!(
            flag == CUT && text.contains(" truncated=\"1\"]") && (most - 1..=most).contains(&text.len()),
            "{most}: {text}"
        );
        let (flag, text) = written(&config(Rfc::Rfc3164, most, Oversize::Truncate), &part(&record, 0));
        assert!(flag == CUT && text.ends_with("ü [truncated]") && text.len() <= most, "{most}: {text}");
    }
    let (flag, text) = written(&config(Rfc::Rfc5424, 600, Oversize::DeadLetter), &part(&record, 0));
    assert!(flag == WHOLE && text.len() > 4000, "the sending refuses it");
    let mut long_header = config(Rfc::Rfc5424, 480, Oversize::Truncate);
    long_header.structured_data = vec![("a".into(), "x".repeat(600))];
    let (flag, text) = written(&long_header, &part(&record, 0));
    assert!(flag == WHOLE && text.len() > 4000, "no room for a body");
}

#[test]
fn messages_that_are_too_long_are_refused_alike_whatever_they_measure() {
    use crate::sink::SendError;
    use crate::sink::syslog::{Framed, SyslogSink};
    let syslog = SyslogConfig { max_size: Some(10), ..syslog() };
    let sink = SyslogSink::new(&config(Format::Raw, &syslog), &syslog, crate::metrics::Metrics::new()).unwrap();
    let reason = |length: usize| {
        let text = vec![b'x'; length];
        match sink.refuse_the_long(&[Framed { text: b"short", is_cut: false }, Framed { text: &text, is_cut: false }]) {
            Err(SendError::Reject { events, reason }) if events == [1] => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(11), reason(12));
    assert!(reason(11).contains("above `max_size` (10 bytes)"), "{}", reason(11));
}
