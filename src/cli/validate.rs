//! `validate`: all faults of a configuration at once, or what it would run and what each sink
//! promises. Reads files only; asks no server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::Exit;
use crate::config::{Config, Format, SinkConfig, load_with_warnings};
use crate::feed::ContentType;

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
            let text = format!("{} is good\n\n{}", path.display(), describe(&loaded.config));
            std::io::stdout().lock().write_all(text.as_bytes())?;
            Ok(Exit::Good)
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
    writeln!(out, "refused  {}", config.dead_letters.display())?;
    match config.admin.listen {
        Some(address) => writeln!(out, "admin    http://{address} /metrics /livez /readyz /status")?,
        None => writeln!(out, "admin    off")?,
    }
    let days = config.collect.backfill.as_secs_f64() / 86_400.0;
    writeln!(out, "collect  every {:?}, the first start goes {days:.1} days back", config.collect.poll_interval)?;
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
    Ok(())
}

fn sink_line(sink: &SinkConfig) -> String {
    let format = match sink.format {
        Format::Raw => "raw",
        Format::Ecs => "ecs",
    };
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
