//! Alerts: each rule is tested to fire, to stay quiet and to resolve (promtool, on series made up for it), each has
//! its page and each page its rule; and the real binary, in real trouble, scraped by a real Prometheus, brings each of
//! the main ones into a real Alertmanager with its labels, and makes it go away again.
//!
//! The rules are the ones that are shipped. Only their waiting is shortened: `for`, ranges and offsets by
//! [`HURRY`], because trouble of a quarter of an hour is not for a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::simulator::{ContentType, SimulatorHandle, WorldConfig};
use serde::Deserialize;
use serde_json::Value;

use crate::bars::credentials::Certificate;
use crate::hec::FakeHec;
use crate::real::prometheus::{Alertmanager, Prometheus, promtool};
use crate::support::{Place, Process, day_in, figure, size, world};

/// An hour of the rules is six seconds of the test.
const HURRY: u64 = 600;
/// No range below this, or a scrape a second would not fill it.
const SHORTEST_RANGE: u64 = 5;
/// The service's time beside ours.
const SPEED: f64 = 120.0;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(dir().join(name)).unwrap()
}

#[test]
fn alerts_each_have_a_page_and_each_page_an_alert() {
    let rules: RuleFile = serde_saphyr::from_str(&read("rules.yaml")).unwrap();
    let mut alerts = BTreeSet::new();
    for rule in rules.groups.iter().flat_map(|group| &group.rules) {
        let Some(alert) = &rule.alert else { continue };
        alerts.insert(alert.clone());
        assert!(alert.starts_with("Auditferry"), "{alert}");
        assert!(matches!(rule.labels["severity"].as_str(), "critical" | "warning" | "info"), "{alert}");
        let has = |name: &str| rule.annotations.get(name).is_some_and(|text| !text.is_empty());
        assert!(["summary", "description", "dashboard_url"].iter().all(|name| has(name)), "{alert}");
        assert!(rule.annotations["runbook_url"].ends_with(&format!("/docs/runbooks/{alert}.md")), "{alert}");
    }
    let pages = dir().join("../../docs/runbooks");
    let names = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<String> = names.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(alerts, pages, "left: rules.yaml, right: docs/runbooks");
    for alert in &alerts {
        let page = std::fs::read_to_string(dir().join(format!("../../docs/runbooks/{alert}.md"))).unwrap();
        for part in ["## Meaning", "## Impact", "## Diagnosis", "## Fix", "## Verify"] {
            assert!(page.contains(part), "{alert} lacks `{part}`");
        }
    }
    figure("alerts", format_args!("{} alerts, a page each", alerts.len()));
}

#[test]
fn alerts_are_each_tested_to_fire_and_to_be_quiet() {
    let (rules, tests) = (read("rules.yaml"), [read("rules_test.yaml"), read("rules_long_test.yaml")].concat());
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let checks: Vec<&str> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        let quiet = |check: &&&str| check.trim_start().starts_with("exp_alerts: []");
        let (quiet, firing): (Vec<&&str>, Vec<&&str>) = checks.iter().partition(quiet);
        assert!(!firing.is_empty() && quiet.len() >= 2, "{alert}: fires {}, quiet {}", firing.len(), quiet.len());
    }
    promtool(&dir(), &["check", "rules", "rules.yaml"], "").unwrap_or_else(|said| panic!("{said}"));
    let began = Instant::now();
    promtool(&dir(), &["test", "rules", "rules_test.yaml", "rules_long_test.yaml"], "")
        .unwrap_or_else(|said| panic!("{said}"));
    let count = tests.matches("  - name: ").count();
    figure("alerts", format_args!("{count} unit tests of rules pass, {:.1?}", began.elapsed()));
}

/// The rules with less patience.
fn hurried(rules: &str) -> String {
    let seconds = |length: &str| -> Option<u64> {
        let unit = match length.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        Some(length[..length.len() - 1].parse::<u64>().ok()? * unit)
    };
    let range = |length: &str| seconds(length).map(|s| format!("{}s", (s / HURRY).max(SHORTEST_RANGE)));
    let mut hurried = String::new();
    for line in rules.lines() {
        let mut line = line.to_owned();
        if let Some(length) = line.trim().strip_prefix("for: ") {
            line = format!("        for: {}ms", seconds(length).unwrap() * 1000 / HURRY);
        }
        for (before, after) in [("[", "]"), ("offset ", "")] {
            let mut done = String::new();
            let mut rest = line.as_str();
            while let Some((head, tail)) = rest.split_once(before) {
                let length: String = tail.chars().take_while(char::is_ascii_alphanumeric).collect();
                done += head;
                done += before;
                rest = match range(&length).filter(|_| tail[length.len()..].starts_with(after)) {
                    Some(short) => {
                        done += &short;
                        &tail[length.len()..]
                    }
                    None => tail,
                };
            }
            line = done + rest;
        }
        hurried += &line;
        hurried.push('\n');
    }
    hurried
}

#[test]
fn alerts_are_hurried_and_nothing_else_of_them_changes() {
    let text = "        for: 15m\n  sum(increase(a[1h])) > 24 * 3600 unless a offset 1h\n a[5m] b{x=~\"[a]\"} c\n";
    assert_eq!(
        hurried(text),
        "        for: 1500ms\n  sum(increase(a[6s])) > 24 * 3600 unless a offset 6s\n a[5s] b{x=~\"[a]\"} c\n"
    );
}

/// One process in one kind of trouble.
struct Trouble {
    alert: &'static str,
    /// Labels that it must carry, beside job, instance and severity.
    labels: Vec<(&'static str, String)>,
    severity: &'static str,
    world: SimulatorHandle,
    hec: FakeHec,
    place: Place,
    process: Process,
    instance: String,
    mend: fn(&Trouble),
}

/// A client secret from a file, with the day of its end.
fn expiring_secret(place: &Place, days: i64) -> String {
    let day = day_in(days);
    format!("client_secret: \"${{file:{}}}\", client_secret_expires: {day}", place.path("secret").display())
}

fn base() -> WorldConfig {
    WorldConfig::new().records(200).days(1).speed(SPEED).tune(|knobs| knobs.subscribed = true)
}

impl Trouble {
    async fn new(
        alert: &'static str,
        config: WorldConfig,
        prepare: impl FnOnce(&FakeHec),
        mend: fn(&Trouble),
    ) -> Trouble {
        let (world, hec, place) = (world(config).await, FakeHec::start().await, Place::new());
        prepare(&hec);
        Trouble::begin(alert, world, hec, place, "", mend).await
    }

    /// A credential that ends in so many days.
    async fn expiring(kind: &'static str, days: i64, mend: fn(&Trouble)) -> Trouble {
        // By the clock of Prometheus, so the service's goes like ours. A new certificate is seen when the next token is
        // asked for: that is soon.
        let config = base().speed(1.0).tune(|knobs| knobs.token_lifetime_s = Some(2));
        let (world, hec, place) = (world(config).await, FakeHec::start().await, Place::new());
        let auth = match kind {
            "certificate" => {
                let certificate = Certificate::new(-1, days);
                world.add_certificate(certificate.registered.clone());
                std::fs::write(place.path("app.pem"), certificate.pem()).unwrap();
                format!("certificate: {{ file: {:?} }}", place.path("app.pem"))
            }
            _ => expiring_secret(&place, days),
        };
        Trouble::begin("AuditferryCredentialExpiring", world, hec, place, &auth, mend).await.label("kind", kind)
    }

    /// `auth`: what stands in place of a client secret from a file.
    async fn begin(
        alert: &'static str,
        world: SimulatorHandle,
        hec: FakeHec,
        place: Place,
        auth: &str,
        mend: fn(&Trouble),
    ) -> Trouble {
        let secret = place.path("secret");
        std::fs::write(&secret, &world.tenants()[0].client_secret).unwrap();
        let sink = format!(
            "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, retry: {{ initial: 50ms, max: 300ms }} }}\n",
            hec.url()
        );
        // Minutes of the service's time; where that goes like ours, seconds.
        let interval = if auth.is_empty() { "60s" } else { "1s" };
        let collect = format!("collect: {{ backfill: 1d, poll_interval: {interval}, requests_per_minute: 100000 }}");
        place.write_config(&world, &sink, &collect);
        let text = std::fs::read_to_string(place.config()).unwrap();
        let given = format!("client_secret: {:?}", world.tenants()[0].client_secret);
        let from_file = format!("client_secret: \"${{file:{}}}\"", secret.display());
        assert!(text.contains(&given));
        place.write_text(&text.replace(&given, if auth.is_empty() { &from_file } else { auth }));
        let process = place.start(&[], &[]);
        let instance = process.admin().await.expect("it listens");
        let severity = "critical";
        Trouble { alert, labels: Vec::new(), severity, world, hec, place, process, instance, mend }
    }

    fn label(mut self, name: &'static str, value: &str) -> Trouble {
        self.labels.push((name, value.to_owned()));
        self
    }

    fn tenant(&self) -> String {
        self.world.tenants()[0].name.clone()
    }

    /// Waits until the first listings are good: trouble begins after that.
    async fn at_work(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.world.report().requests.get("content").copied().unwrap_or(0) < 10 {
            assert!(Instant::now() < deadline, "{}: no listings; {}", self.alert, self.place.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_among(&self, alerts: &[Value]) -> bool {
        alerts.iter().any(|alert| {
            let labels = &alert["labels"];
            labels["alertname"] == self.alert
                && labels["instance"] == self.instance.as_str()
                && labels["job"] == "auditferry"
                && labels["severity"] == self.severity
                && self.labels.iter().all(|(name, value)| labels[*name] == value.as_str())
                && alert["annotations"]["runbook_url"].as_str().is_some_and(|url| url.contains(self.alert))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_arrive_in_alertmanager_and_resolve() {
    let tools = tokio::task::spawn_blocking(crate::real::prometheus::programs);
    tools.await.unwrap();
    let wrong = |hec: &FakeHec| hec.set(|knobs| knobs.token = "another".into());
    let good_token: fn(&Trouble) = |trouble| trouble.hec.set(|knobs| knobs.token = "token".into());
    let mut troubles = vec![
        Trouble::new("AuditferryApiUnreachable", base(), |_| (), |t| t.world.set_online(true)).await,
        Trouble::new(
            "AuditferryAuthFailing",
            base(),
            |_| (),
            |t| {
                std::fs::write(t.place.path("secret"), &t.world.tenants()[0].client_secret).unwrap();
            },
        )
        .await,
        Trouble::new("AuditferrySinkFailing", base(), wrong, good_token).await.label("sink", "splunk"),
        // The process mends it itself, when the time between two starts is over.
        Trouble::new("AuditferrySubscriptionDisabled", base().tune(|knobs| knobs.subscribed = false), |_| (), |_| ())
            .await
            .label("content_type", "Audit.Exchange"),
        Trouble::new(
            "AuditferryContentExpiryImminent",
            base().tune(|knobs| knobs.expiration_days = 1),
            wrong,
            good_token,
        )
        .await
        .label("content_type", "Audit.SharePoint"),
        // Some of the events: all of them would be the receiver's fault, and held.
        Trouble::new(
            "AuditferryDeadLetters",
            base(),
            |hec| {
                hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| offered.key.starts_with('7'))));
            },
            |t| t.hec.set(|knobs| knobs.refuse = None),
        )
        .await
        .label("sink", "splunk"),
        // Mended by what an operator does: a new file, or a new day in the configuration.
        Trouble::expiring("certificate", 13, |t| {
            let next = Certificate::new(-1, 90);
            t.world.add_certificate(next.registered.clone());
            std::fs::write(t.place.path("next.pem"), next.pem()).unwrap();
            std::fs::rename(t.place.path("next.pem"), t.place.path("app.pem")).unwrap();
        })
        .await,
        Trouble::expiring("client_secret", 1, |t| {
            let text = std::fs::read_to_string(t.place.config()).unwrap();
            t.place.write_text(&text.replace(&expiring_secret(&t.place, 1), &expiring_secret(&t.place, 400)));
        })
        .await,
    ];
    for trouble in &mut troubles {
        let is_early = trouble.labels.contains(&("kind", "certificate".to_owned()));
        if trouble.alert == "AuditferryDeadLetters" || is_early {
            trouble.severity = "warning";
        }
    }
    for trouble in &mut troubles {
        if matches!(
            trouble.alert,
            "AuditferryAuthFailing"
                | "AuditferrySubscriptionDisabled"
                | "AuditferryContentExpiryImminent"
                | "AuditferryCredentialExpiring"
        ) {
            let tenant = trouble.tenant();
            trouble.labels.push(("tenant", tenant));
        }
    }
    let targets: Vec<String> = troubles.iter().map(|trouble| trouble.instance.clone()).collect();
    let rules = hurried(&read("rules.yaml"));
    let (alertmanager, prometheus) = tokio::task::spawn_blocking(move || {
        let alertmanager = Alertmanager::start();
        let prometheus = Prometheus::start(&targets, &rules, Some(&alertmanager));
        (alertmanager, prometheus)
    })
    .await
    .unwrap();
    for trouble in &troubles {
        trouble.at_work().await;
        match trouble.alert {
            "AuditferryApiUnreachable" => trouble.world.set_online(false),
            "AuditferryAuthFailing" => {
                std::fs::write(trouble.place.path("secret"), "wrong").unwrap();
                trouble.world.revoke_tokens(0);
            }
            "AuditferrySubscriptionDisabled" => trouble.world.disable_subscription(0, ContentType::Exchange),
            _ => {}
        }
    }

    let began = Instant::now();
    let limit = Duration::from_secs(size(60, 120));
    // Each is mended as soon as it is there, and must then go away.
    let mut state: Vec<(Option<Duration>, Option<Duration>)> = vec![(None, None); troubles.len()];
    while state.iter().any(|(_, gone)| gone.is_none()) {
        let firing = alertmanager.firing().await;
        for (trouble, (came, gone)) in troubles.iter().zip(&mut state) {
            match (trouble.is_among(&firing), &came) {
                (true, None) => {
                    *came = Some(began.elapsed());
                    (trouble.mend)(trouble);
                }
                (false, Some(_)) if gone.is_none() => *gone = Some(began.elapsed()),
                // The process starts it again when it may: what is waited for is the time in which it may not.
                (false, None) if trouble.alert == "AuditferrySubscriptionDisabled" => {
                    trouble.world.disable_subscription(0, ContentType::Exchange);
                }
                _ => {}
            }
        }
        if began.elapsed() > limit {
            let told: Vec<_> = troubles.iter().zip(&state).map(|(trouble, state)| (trouble.alert, state)).collect();
            let logs: Vec<String> = troubles.iter().map(|t| format!("{}:\n{}", t.alert, t.place.log_tail())).collect();
            panic!("{told:?}\nfiring: {firing:#?}\n{}", logs.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for (trouble, (came, gone)) in troubles.iter().zip(&state) {
        figure(
            "alerts",
            format_args!(
                "{} {:?}: fired after {:.1?}, resolved after {:.1?}",
                trouble.alert,
                trouble.labels,
                came.unwrap(),
                gone.unwrap()
            ),
        );
    }

    // The last one goes with the processes: an alert that nobody is left to carry a label for.
    for trouble in &mut troubles {
        trouble.process.kill();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_down =
        |alert: &Value| alert["labels"]["alertname"] == "AuditferryDown" && alert["labels"]["job"] == "auditferry";
    while !alertmanager.firing().await.iter().any(is_down) {
        assert!(Instant::now() < deadline, "nobody says that all are down: {:?}", prometheus.query("ALERTS").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    figure("alerts", "AuditferryDown: fired with its job");
}
