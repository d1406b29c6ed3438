//! Databases of `enrich` in the running process: missing at the start, brought, named by a reload, given up. With the bytes
//! of the demo's invented places.

use std::path::Path;

use serde_json::Value;

use super::{Place, Running, file_sink, living};

const DATABASE: &[u8] = include_bytes!("../../../src/enrich/invented.mmdb");

/// Of each database in `/status`: key and type.
fn shown(status: &Value) -> Vec<(&str, Option<&str>)> {
    let all = status["enrich"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|one| (one["kind"].as_str().unwrap(), one["database_type"].as_str())).collect()
}

fn bring(path: &Path) {
    let new = path.with_extension("new");
    std::fs::write(&new, DATABASE).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_looked_for_and_change_with_a_reload() {
    let (world, place) = (living(1).await, Place::new());
    let (city, asn) = (place.path("city.mmdb"), place.path("asn.mmdb"));
    let sink = file_sink(&place, "one", "");
    let text = |geo: &str| {
        let enrich = if geo.is_empty() { String::new() } else { format!("enrich: {{ geo: {{ {geo} }} }}\n") };
        format!("{enrich}{}", place.config_text(&world, |_| true, &sink, ""))
    };
    place.write_text(&text(&format!("city: {city:?}")));
    let running = Running::start(&place, &["--no-watch"]).await;
    running.ready(&place).await;
    let status = running.status().await;
    assert_eq!(shown(&status), [("city", None)]);
    assert!(status["enrich"][0]["trouble"].as_str().unwrap().contains("put the file there"), "{status}");
    assert!(place.log_tail().contains("events go on without it"), "{}", place.log_tail());
    let failures = "auditferry_enrich_database_load_failures_total";
    assert_eq!(running.metric(failures, "kind=\"city\"").await, 1.0);

    bring(&city);
    let built = "auditferry_enrich_database_build_timestamp_seconds";
    running.until(&place, "the database", async |running| running.metric(built, "kind=\"city\"").await > 0.0).await;
    let status = running.status().await;
    assert_eq!(shown(&status), [("city", Some("Invented-Places"))]);
    assert_eq!(status["enrich"][0]["built"], 1_767_225_600, "{status}");

    bring(&asn);
    let told = running.reload(&place, &text(&format!("asn: {asn:?}"))).await;
    assert_eq!((&told["result"], &told["changes"]), (&"applied".into(), &"for new events: enrich".into()));
    assert_eq!(shown(&running.status().await), [("asn", Some("Invented-Places"))]);
    assert!(!running.metrics().await.contains("city.mmdb"), "the series of what is gone");

    let told = running.reload(&place, &text("")).await;
    assert_eq!(told["result"], "applied");
    assert!(shown(&running.status().await).is_empty());
    running.end(&place).await;
}
