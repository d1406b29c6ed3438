//! The difference of two configurations: what a reload has to do, and whether it can. Comes in: the running one and
//! the new one. Goes out: a [`Change`]. Pure.

use std::fmt;

use crate::config::{CollectConfig, Config, SinkConfig, TenantConfig};

/// What is different in the new configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Keys that only a start can change. Where there is one, nothing of the rest is done.
    pub needs_restart: Vec<&'static str>,
    /// Their loops are started or stopped; by name.
    pub tenants: Names,
    /// Their drivers are started or retired.
    pub sinks: Names,
    /// Sinks of which only `when` is different: their drivers stay.
    pub rerouted: Vec<String>,
    /// How the loops of all tenants work: all are started anew.
    pub collect: bool,
    /// `collect.in_flight`.
    pub in_flight: bool,
    /// `enrich`: databases are opened anew.
    pub enrich: bool,
    /// `normalize.original`; the profile is the sinks' own.
    pub original: bool,
}

/// What came, went, and stayed with other settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

impl Names {
    /// Compares by `id`; what differs without being `same` is changed. Named as in the new configuration, what
    /// was removed as in the old one.
    fn of<T>(
        old: &[T],
        new: &[T],
        id: impl Fn(&T) -> &str,
        name: impl Fn(&T) -> &str,
        same: fn(&T, &T) -> bool,
    ) -> Names {
        let find = |all: &[T], one: &T| all.iter().position(|other| id(other) == id(one));
        let mut names = Names::default();
        for item in new {
            match find(old, item) {
                None => names.added.push(name(item).to_owned()),
                Some(before) if !same(&old[before], item) => names.changed.push(name(item).to_owned()),
                Some(_) => {}
            }
        }
        names.removed = old.iter().filter(|item| find(new, item).is_none()).map(|item| name(item).to_owned()).collect();
        names
    }
}

impl Change {
    pub fn between(old: &Config, new: &Config) -> Change {
        // Taken apart, so that a new section cannot be forgotten here.
        let Config { state, state_topic, admin, collect, tenants, keep_original, enrich, dead_letters, sinks, clock } =
            new;
        let mut change = Change {
            tenants: Names::of(
                &old.tenants,
                tenants,
                |tenant: &TenantConfig| &tenant.tenant.id,
                |tenant| &tenant.tenant.name,
                |old, new| old == new,
            ),
            sinks: Names::of(&old.sinks, sinks, |sink: &SinkConfig| &sink.name, |sink| &sink.name, same_driver),
            collect: *collect != CollectConfig { in_flight: collect.in_flight, ..old.collect.clone() },
            in_flight: collect.in_flight != old.collect.in_flight,
            enrich: *enrich != old.enrich,
            original: *keep_original != old.keep_original,
            ..Change::default()
        };
        let rerouted = |new: &&SinkConfig| {
            let old = old.sinks.iter().find(|old| old.name == new.name);
            old.is_some_and(|old| old != *new && same_driver(old, new))
        };
        change.rerouted = sinks.iter().filter(rerouted).map(|sink| sink.name.clone()).collect();
        let moved = old.state.dir != state.dir;
        let fixed = [
            ("state.dir", moved),
            ("state.kafka", old.state_topic != *state_topic || keeper(old) != keeper(new)),
            ("state.max_delivered", old.state.max_delivered_bytes != state.max_delivered_bytes),
            ("admin.listen", old.admin != *admin),
            // By default it lies in the state directory.
            ("dead_letters.file", old.dead_letters.file != dead_letters.file && !moved),
            // The login of the sink that it is written by is read again while the brokers refuse us; its brokers are not.
            ("dead_letters.kafka", old.dead_letters.topic != dead_letters.topic),
            ("clock", old.clock != *clock),
            // One client serves all tenants as long as the process lives.
            ("collect.tls", old.collect.tls != collect.tls),
            ("proxy", old.collect.proxy != collect.proxy),
        ];
        change.needs_restart = fixed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        change
    }

    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }
}

/// How the sink that keeps the state reaches its brokers: one producer does both as long as the process lives.
fn keeper(config: &Config) -> Option<impl PartialEq + use<'_>> {
    let (sink, kafka, _) = config.kept_by()?;
    // The size of its queue, which comes of the sink's batches, is among the settings.
    Some((&sink.name, &kafka.brokers, &kafka.sasl, &kafka.tls, &kafka.transactional, kafka.settings(&sink.batch)))
}

/// Whether the driver of `old` does for `new`: conditions are judged before it.
fn same_driver(old: &SinkConfig, new: &SinkConfig) -> bool {
    *old == SinkConfig { when: old.when.clone(), ..new.clone() }
}

/// One line for the log: names only.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (what, names) in [("tenants", &self.tenants), ("sinks", &self.sinks)] {
            for (how, names) in [("added", &names.added), ("removed", &names.removed), ("changed", &names.changed)] {
                parts.push((format!("{what} {how}"), names.join(", ")));
            }
        }
        parts.push(("sinks with another condition".into(), self.rerouted.join(", ")));
        parts.push(("for all tenants".into(), if self.collect { "collect" } else { "" }.into()));
        let original = if self.original { &["normalize.original"][..] } else { &[] };
        let enrich = if self.enrich { &["enrich"][..] } else { &[] };
        parts.push(("for new events".into(), [original, enrich].concat().join(", ")));
        parts.push(("memory".into(), if self.in_flight { "collect.in_flight" } else { "" }.into()));
        parts.retain(|(_, names)| !names.is_empty());
        if parts.is_empty() {
            return f.write_str("nothing changed");
        }
        for (n, (what, names)) in parts.iter().enumerate() {
            write!(f, "{}{what}: {names}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    const TEXT: &str = "
state: { dir: /tmp/s }
tenants:
  - { name: a, tenant_id: 6f1c2d3e-0000-4000-8000-00000000000a, client_id: 6f1c2d3e-0000-4000-8000-0000000000ff, auth: { client_secret: one } }
  - { name: b, tenant_id: 6f1c2d3e-0000-4000-8000-00000000000b, client_id: 6f1c2d3e-0000-4000-8000-0000000000ff, auth: { client_secret: '${file:/run/b}' } }
sinks:
  - { name: out, type: stdout }
  - { name: disk, type: file, path: /tmp/o }
";

    fn config(text: &str) -> Config {
        load_str("test", text).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The difference that replacing a piece of text makes.
    fn change(from: &str, to: &str) -> Change {
        assert!(TEXT.contains(from), "{from}");
        Change::between(&config(TEXT), &config(&TEXT.replacen(from, to, 1)))
    }

    #[test]
    fn the_same_again_is_no_change() {
        let change = change("", "");
        assert!(change.is_empty(), "{change:?}");
        assert_eq!(change.to_string(), "nothing changed");
    }

    #[test]
    fn each_kind_of_change_is_told_by_its_name() {
        for (from, to, expected) in [
            ("secret: one", "secret: two", "tenants changed: a"),
            ("name: a,", "name: renamed,", "tenants changed: renamed"),
            ("00000000000a,", "00000000000c,", "tenants added: a; tenants removed: a"),
            ("/run/b", "/run/c", "tenants changed: b"),
            ("type: stdout", "type: stdout, when: { outcome: failure }", "sinks with another condition: out"),
            ("type: stdout", "type: stdout, required: false", "sinks changed: out"),
            ("type: stdout", "type: stdout, drop_fields: [user_agent]", "sinks changed: out"),
            ("type: stdout", "type: stdout, rate_limit: { events_per_second: 5 }", "sinks changed: out"),
            ("path: /tmp/o", "path: /tmp/p", "sinks changed: disk"),
            ("name: disk", "name: disc", "sinks added: disc; sinks removed: disk"),
            ("state:", "collect: { poll_interval: 7s }\nstate:", "for all tenants: collect"),
            ("state:", "enrich: { user_agent: false }\nstate:", "for new events: enrich"),
            ("state:", "normalize: { original: true }\nstate:", "for new events: normalize.original"),
            ("state:", "collect: { in_flight: 8MiB }\nstate:", "memory: collect.in_flight"),
        ] {
            let change = change(from, to);
            assert_eq!(change.to_string(), expected, "{from} -> {to}");
            assert!(change.needs_restart.is_empty() && !change.is_empty());
        }
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        for (from, to, expected) in [
            ("dir: /tmp/s", "dir: /tmp/t", "state.dir"),
            ("dir: /tmp/s", "dir: /tmp/s, max_delivered: 64MiB", "state.max_delivered"),
            ("state:", "admin: { listen: off }\nstate:", "admin.listen"),
            ("state:", "dead_letters: { file: /tmp/d }\nstate:", "dead_letters.file"),
            (
                "sinks:\n",
                "dead_letters: { file: /tmp/s/dead.ndjson, kafka: { topic: d } }\nsinks:\n  - { name: k, type: kafka, brokers: \"localhost:1\", topic: t }\n",
                "dead_letters.kafka",
            ),
            ("state:", "collect: { tls: { ca_file: /tmp/ca.pem } }\nstate:", "collect.tls"),
            ("state:", "proxy: \"http://127.0.0.1:3128\"\nstate:", "proxy"),
        ] {
            assert_eq!(change(from, to).needs_restart, [expected]);
            let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
            let page = std::fs::read_to_string(page).unwrap();
            let (_, told) = page.split_once("Only a start can change").unwrap();
            let (told, _) = told.split_once("\n\n").unwrap();
            assert!(told.contains(&format!("`{expected}`")), "`{expected}` is not on the page");
        }
    }
}
