//! `validate`: all faults of a configuration at once, or what it would run and what each sink
//! promises. Reads files only; asks no server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::Exit;
use crate::clock::{Seconds, world_ms};
use crate::config::{Config, CredentialConfig, Fault, SinkConfig, WrittenCertificate, load_with_warnings};
use crate::feed::ContentType;
use crate::http::ProxyRule;
use crate::source::auth::certificate::{self, CertificateError};
use crate::source::auth::day;

/// Checks the configuration at `path`.
pub(super) fn validate(path: &Path) -> anyhow::Result<Exit> {
    match load_with_warnings(path) {
        Err(faults) => {
            eprintln!("{faults}");
            Ok(Exit::No)
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}");
            }
            let broken = broken_certificates(&loaded.certificates);
            for fault in &broken {
                eprintln!("{fault}");
            }
            let word = if broken.is_empty() { "is good" } else { "cannot be used as it is" };
            let text = format!("{} {word}\n\n{}", path.display(), describe(&loaded.config));
            std::io::stdout().lock().write_all(text.as_bytes())?;
            Ok(if broken.is_empty() { Exit::Good } else { Exit::No })
        }
    }
}

/// Certificates that are there and of no use. One that is not there may be mounted only where `run` runs: the
/// configuration's own check has warned of it.
fn broken_certificates(written: &[WrittenCertificate]) -> Vec<Fault> {
    let now = world_ms() / 1000;
    let broken = written.iter().filter_map(|written| match certificate::load(&written.files, now) {
        Ok(_) | Err(CertificateError::Read { .. } | CertificateError::Password(_)) => None,
        Err(error) => Some(written.fault(error.to_string())),
    });
    broken.collect()
}

/// How a tenant signs in, and until when that holds.
fn credential_line(credential: &CredentialConfig, now: Seconds) -> String {
    let until = |ends: Seconds| match (ends - now).div_euclid(86_400) {
        days @ 0.. => format!("until {} ({days} days)", day(ends)),
        _ => format!("which ENDED on {}", day(ends)),
    };
    match credential {
        CredentialConfig::ClientSecret { expires: Some(ends), .. } => format!("client secret, {}", until(*ends)),
        CredentialConfig::ClientSecret { expires: None, .. } => {
            "client secret; `client_secret_expires` would warn before it ends".to_owned()
        }
        CredentialConfig::Certificate(files) => match certificate::load(files, now) {
            Ok(pair) => format!("certificate {}, {}", pair.leaf.thumbprint(), until(pair.leaf.not_after)),
            Err(_) => format!("certificate in {}, not read", files.file.display()),
        },
        CredentialConfig::WorkloadIdentity(config) => {
            format!("workload identity, token in {}", config.token_file.display())
        }
        CredentialConfig::ManagedIdentity(config) => {
            format!(
                "managed identity {} of {}",
                config.client_id.as_deref().unwrap_or("of the system"),
                config.endpoint.host_str().unwrap_or("")
            )
        }
    }
}

/// What would run, for a person.
fn describe(config: &Config) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_description(config, &mut out);
    out
}

fn write_description(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "state    {}", config.state.dir.display())?;
    writeln!(out, "letters  {}", config.dead_letters.target())?;
    match config.admin.listen {
        Some(address) => writeln!(out, "admin    http://{address} /metrics /livez /readyz /status")?,
        None => writeln!(out, "admin    off")?,
    }
    let days = config.collect.backfill.as_secs_f64() / 86_400.0;
    writeln!(out, "collect  every {:?}, the first start goes {days:.1} days back", config.collect.poll_interval)?;
    match ProxyRule::new(&config.collect.proxy) {
        Ok(rule) => writeln!(out, "proxy    {}", rule.shown().as_deref().unwrap_or("none"))?,
        Err(error) => writeln!(out, "proxy    {error}")?,
    }
    for (kind, files) in [("places", &config.enrich.city), ("systems", &config.enrich.asn)] {
        for file in files {
            writeln!(out, "{kind:<8} {}", file.display())?;
        }
    }
    if config.clock.speed() != 1.0 {
        writeln!(out, "clock    simulated, {} times as fast", config.clock.speed())?;
    }

    let feeds: usize = config.tenants.iter().map(|tenant| tenant.content_types.len()).sum();
    writeln!(out, "\ntenants  {}, feeds {feeds}", config.tenants.len())?;
    let width = config.tenants.iter().map(|tenant| tenant.tenant.name.chars().count()).max().unwrap_or(0);
    for tenant in &config.tenants {
        let types = match tenant.content_types.len() {
            all if all == ContentType::ALL.len() => "all content types".to_owned(),
            _ => tenant.content_types.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" "),
        };
        writeln!(out, "  {:width$}  {}  {}  {types}", tenant.tenant.name, tenant.tenant.id, tenant.api)?;
        writeln!(out, "  {:width$}  signs in with {}", "", credential_line(&tenant.credential, config.clock.now()))?;
    }

    writeln!(out, "\nsinks    {}", config.sinks.len())?;
    let width = config.sinks.iter().map(|sink| sink.name.chars().count()).max().unwrap_or(0);
    for sink in &config.sinks {
        writeln!(out, "  {:width$}  {}", sink.name, sink_line(sink))?;
        if let Some(shaped) = super::banner::shaped(sink) {
            writeln!(out, "  {:width$}  {shaped}", "")?;
        }
        if let Some(when) = &sink.when {
            writeln!(out, "  {:width$}  only when {when}", "")?;
        }
        writeln!(out, "  {:width$}  {}", "", sink.kind.guarantee())?;
    }
    // No server was asked; when `run` asks, this is what helps to read the answers.
    writeln!(
        out,
        "\nIf a server refuses, `auditferry explain CODE` says what its code means (AADSTS…, AF…, proxy-407, …)."
    )
}

fn sink_line(sink: &SinkConfig) -> String {
    let format = sink.format_name();
    let required =
        if sink.required { "required" } else { "not required: what does not fit its queue is dropped and counted" };
    format!("{} {}, {format}, {required}", sink.kind.type_name(), sink.kind.target())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_will_run_and_what_each_sink_promises() {
        let text = "tenants: [{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: canary-secret}}]\nsinks: [{name: hec, type: splunk_hec, url: 'https://splunk:8088', token: canary-token}, {name: out, type: stdout, required: false}]";
        let config = crate::config::load_str("c.yaml", text).unwrap_or_else(|faults| panic!("{faults}"));
        let said = describe(&config);
        for part in [
            "feeds 5",
            "https://manage.office.com/",
            "all content types",
            "at least once",
            "best effort",
            "https://splunk:8088",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert!(!said.contains("canary"));
    }
}
