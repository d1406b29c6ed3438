//! The start banner of `run`: what runs, one line a tenant and one a sink, each with its guarantee. Comes in: the
//! configuration. Goes out: the log. Never a secret: of a credential only its kind.

use crate::config::{Config, CredentialConfig, SinkConfig, TenantConfig};
use crate::secret::SecretSource;

/// Tenants that are named one by one: a screen has room for them, and `/status` has them all.
const NAMED: usize = 10;

/// Says what runs and what each sink promises.
pub(super) fn announce(config: &Config) {
    let feeds: usize = config.tenants.iter().map(|tenant| tenant.content_types.len()).sum();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), tenants = config.tenants.len(), feeds, state = %config.state.dir.display(), "auditferry starts");
    for tenant in config.tenants.iter().take(NAMED) {
        tracing::info!(
            tenant = tenant.tenant.name,
            feeds = tenant.content_types.len(),
            api = tenant.api.host_str().unwrap_or_default(),
            credential = credential(tenant),
            "tenant"
        );
    }
    if let Some(more) = unnamed(config.tenants.len()) {
        tracing::info!("{more}");
    }
    for sink in &config.sinks {
        tracing::info!(
            sink = sink.name,
            kind = sink.kind.type_name(),
            required = sink.required,
            guarantee = guarantee(sink),
            "sink"
        );
    }
}

/// What is said of the tenants that are not named.
fn unnamed(tenants: usize) -> Option<String> {
    let more = tenants.checked_sub(NAMED).filter(|more| *more > 0)?;
    Some(format!("and {more} more tenant{}", if more == 1 { "" } else { "s" }))
}

fn credential(tenant: &TenantConfig) -> &'static str {
    match &tenant.credential {
        CredentialConfig::ClientSecret { secret: SecretSource::Value(_), .. } => "client secret",
        CredentialConfig::ClientSecret { secret: SecretSource::File(_), .. } => "client secret from a file",
        CredentialConfig::Certificate(_) => "certificate",
        CredentialConfig::WorkloadIdentity(_) => "workload identity",
        CredentialConfig::ManagedIdentity(_) => "managed identity",
    }
}

/// What is promised, and what it is a promise of.
fn guarantee(sink: &SinkConfig) -> String {
    let promise = sink.kind.guarantee();
    let format = sink.format_name();
    match shaped(sink) {
        Some(shaped) => format!("{promise} ({format}; {shaped})"),
        None => format!("{promise} ({format})"),
    }
}

/// What the sink is not shown as it is, and how fast it is sent to; `None`: everything, at any speed.
pub(super) fn shaped(sink: &SinkConfig) -> Option<String> {
    let hashed = sink.edit.hash.as_ref().map_or(0, |hash| hash.fields.len());
    let counts = [(sink.edit.drop.len(), "dropped"), (hashed, "hashed"), (sink.edit.add.len(), "added")];
    let mut said: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} field{} {what}", if count == 1 { "" } else { "s" }))
        .collect();
    if let Some(limit) = sink.rate_limit {
        let rates = [(limit.events_per_second, "events"), (limit.bytes_per_second, "bytes")];
        said.extend(rates.into_iter().filter_map(|(rate, what)| Some(format!("at most {} {what}/s", rate?))));
    }
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousand_tenants_ten_are_named() {
        assert_eq!([unnamed(0), unnamed(10)], [None, None]);
        assert_eq!(unnamed(11).unwrap(), "and 1 more tenant");
        assert_eq!(unnamed(1000).unwrap(), "and 990 more tenants");
    }

    #[test]
    fn a_sink_says_what_it_is_not_shown() {
        let text = "tenants: [{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: canary-secret}}]\nsinks: [{name: out, type: stdout}, {name: less, type: file, path: /tmp/x, drop_fields: [user_agent], hash_fields: {key: 'canary canary canary', fields: [user.name]}, rate_limit: {events_per_second: 5}}]";
        let config = crate::config::load_str("c.yaml", text).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(shaped(&config.sinks[0]), None);
        let said = guarantee(&config.sinks[1]);
        assert!(said.ends_with("(ecs; 1 field dropped, 1 field hashed, at most 5 events/s)"), "{said}");
        assert_eq!(credential(&config.tenants[0]), "client secret");
    }
}
