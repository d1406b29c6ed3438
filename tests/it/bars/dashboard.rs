//! Dashboard: the board is the one of the table, keeps the rules of Grafana's dashboard linter, every expression of every
//! panel answers with data from a real Prometheus that scrapes a busy process, and a picture is drawn from those answers.
//!
//! The linter itself (a Go program) is not run: its rules are checked here, read from its documentation. The picture
//! is our own rendering of the panels' data, not Grafana's; `UPDATE_DOCS=1` keeps it in `docs/images`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, WorldConfig};
use serde_json::Value;

use super::picture::{Answer, picture};
use crate::board::{ROWS, board, expression};
use crate::hec::FakeHec;
use crate::real::prometheus::{Prometheus, programs};
use crate::support::{Place, day_in, figure, size, world};

/// Units of Grafana that the board uses.
const UNITS: [&str; 8] = ["none", "short", "s", "bytes", "Bps", "cps", "reqps", "percentunit"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn written() -> PathBuf {
    root().join("dashboards/operations.json")
}

#[test]
fn dashboard_is_the_one_of_the_table() {
    let text = serde_json::to_string_pretty(&board()).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(written(), &text).unwrap();
    }
    let kept = std::fs::read_to_string(written()).unwrap_or_default();
    assert!(kept == text, "write it anew: UPDATE_DOCS=1 cargo test --test it dashboard_is");
}

/// The rules of github.com/grafana/dashboard-linter, by their names, on the file as it is shipped.
#[test]
fn dashboard_keeps_the_rules_of_the_linter() {
    let board: Value = serde_json::from_str(&std::fs::read_to_string(written()).unwrap()).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap();
    let find = |name: &str| variables.iter().find(|variable| variable["name"] == name).unwrap();
    // template-datasource-rule
    assert_eq!(
        (&find("datasource")["type"], &find("datasource")["query"]),
        (&"datasource".into(), &"prometheus".into())
    );
    assert_eq!(find("datasource")["label"], "Data source");
    // template-job-rule, template-instance-rule
    for name in ["job", "instance"] {
        let variable = find(name);
        assert_eq!((&variable["label"], &variable["type"]), (&name.into(), &"query".into()));
        assert_eq!((&variable["multi"], &variable["allValue"]), (&true.into(), &".+".into()), "{name}");
    }
    for name in ["tenant", "content_type", "sink"] {
        assert_eq!(find(name)["multi"], true);
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        assert_eq!(variable["datasource"]["uid"], "$datasource");
        // template-on-time-change-reload-rule, template-label-promql-rule
        assert_eq!(variable["refresh"], 2);
        assert!(variable["definition"].as_str().unwrap().starts_with("label_values("));
    }
    // template-uneditable-rule
    assert_eq!((&board["editable"], &board["id"]), (&false.into(), &Value::Null));
    let mut titles = BTreeSet::new();
    let mut row = "";
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(titles.insert((row, title)), "{title} is there twice");
        // panel-title-description-rule, panel-datasource-rule, panel-units-rule
        assert!(!title.is_empty() && panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title}");
        assert_eq!(panel["datasource"]["uid"], "$datasource", "{title}");
        assert!(UNITS.contains(&panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap()), "{title}");
        let link = panel["links"][0]["url"].as_str().unwrap();
        let page = root().join("docs/runbooks").join(link.rsplit('/').next().unwrap());
        assert!(page.exists(), "{title}: {page:?}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(target["datasource"]["uid"], "$datasource");
            // target-job-rule, target-instance-rule: in every selector.
            let selectors = expression.matches("auditferry_").count() + expression.matches("process_").count();
            for matcher in [r#"job=~"$job""#, r#"instance=~"$instance""#] {
                assert_eq!(expression.matches(matcher).count(), selectors, "{title}: {expression}");
            }
            // target-rate-interval-rule
            let ranges = expression.matches('[').count();
            assert_eq!(expression.matches("[$__rate_interval]").count(), ranges, "{title}: {expression}");
            assert!(!expression.contains("vector("), "{title}: an answer that is always there says nothing");
        }
    }
    figure("dashboard", format_args!("{} panels keep the linter's rules", titles.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_shows_data_in_every_panel() {
    tokio::task::spawn_blocking(programs).await.unwrap();
    let busy =
        WorldConfig::new().tenants(3).records(3000).days(1).live(300.0, 5, 100).tune(|knobs| knobs.subscribed = true);
    let world = world(busy).await;
    let (hec, place) = (FakeHec::start().await, Place::new());
    let sinks = place.file_sink("out.ndjson")
        + &format!(
            "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ linger: 200ms }} }}\n",
            hec.url()
        );
    let collect = "collect: { backfill: 1d, poll_interval: 1s, requests_per_minute: 100000 }";
    let text = place.config_text(&world, |_| true, &sinks, collect);
    // A month and two: the panel of credentials draws only what is known.
    let ends = [30, 60, 60].map(day_in);
    let mut ends = ends.iter();
    let text: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(" }, endpoints:") {
            Some((head, tail)) => {
                let day = ends.next().expect("three tenants");
                format!("{head}, client_secret_expires: {day} }}, endpoints:{tail}")
            }
            None => line.to_owned(),
        })
        .collect();
    place.write_text(&text.join("\n"));
    for scenario in [Scenario::Throttle429, Scenario::ServerError, Scenario::TruncatedBody, Scenario::TokenExpiry] {
        world.enable(scenario, Some(0.005));
    }
    hec.set(|knobs| (knobs.busy, knobs.throttle) = (3, 2));
    let process = place.start(&[], &[]);
    let targets = [process.admin().await.expect("it listens")];
    let prometheus = tokio::task::spawn_blocking(move || Prometheus::start(&targets, "", None)).await.unwrap();

    let seconds = size(10, 60);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let deadline = Instant::now() + Duration::from_secs(15);
    let (mut answers, mut asked) = (Vec::new(), 0);
    for panel in ROWS.iter().flat_map(|row| row.panels) {
        for (short, legend) in panel.targets {
            let mut full = expression(short).replace("$__rate_interval", "5s");
            for variable in ["$job", "$instance", "$tenant", "$content_type", "$sink"] {
                full = full.replace(&format!("{variable}\""), ".+\"");
            }
            assert!(!full.contains('$'), "{full}");
            asked += 1;
            // A quantile of nothing is no number; some second of a busy process has something.
            let series = loop {
                let series = prometheus.query_range(&full, seconds.cast_signed()).await;
                if series.iter().any(|series| points(series).iter().any(|(_, value)| value.is_finite())) {
                    break series;
                }
                assert!(
                    Instant::now() < deadline,
                    "{}: no data from `{full}`: {series:?}\n{}",
                    panel.title,
                    place.log_tail()
                );
                tokio::time::sleep(Duration::from_millis(300)).await;
            };
            let lines = series.iter().map(|series| (name(series, legend), points(series)));
            answers.push(Answer { panel, lines: lines.collect() });
        }
    }
    let picture = picture(&answers);
    assert_eq!(picture.matches("<title>").count(), ROWS.iter().map(|row| row.panels.len()).sum::<usize>());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(root().join("docs/images")).unwrap();
        std::fs::write(root().join("docs/images/operations.svg"), picture).unwrap();
    }
    figure(
        "dashboard",
        format_args!(
            "{asked} expressions of {} panels answer with data",
            ROWS.iter().map(|row| row.panels.len()).sum::<usize>()
        ),
    );
}

fn points(series: &Value) -> Vec<(f64, f64)> {
    let points = series["values"].as_array().unwrap();
    points
        .iter()
        .map(|point| (point[0].as_f64().unwrap(), point[1].as_str().unwrap().parse().unwrap_or(f64::NAN)))
        .collect()
}

/// The legend with its labels put in.
fn name(series: &Value, legend: &str) -> String {
    let mut name = legend.to_owned();
    for (label, value) in series["metric"].as_object().into_iter().flatten() {
        name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
    }
    name
}
