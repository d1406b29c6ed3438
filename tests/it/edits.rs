//! What a sink is not shown, end to end: the simulator, the real binary, files. The truth says what each record
//! held; none of it may stand where it was taken away, and nothing else may be missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use auditferry::simulator::WorldConfig;
use serde_json::Value;

use crate::reload::Running;
use crate::support::{Place, compare, file_hashes, served, world};

const LIMIT: Duration = Duration::from_secs(40);
const COLLECT: &str = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }";

fn lines(place: &Place, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_or_hashed_leaves_in_no_format() {
    let world = world(WorldConfig::new().records(1500).days(1).speed(20.0)).await;
    let place = Place::new();
    std::fs::write(place.path("key"), "a key of more than sixteen bytes\n").unwrap();
    let hash = |fields: &str| {
        format!("hash_fields: {{ key: \"${{file:{}}}\", fields: [{fields}] }}", place.path("key").display())
    };
    let file = |name: &str, format: &str, more: &str| {
        format!("  - {{ name: {name}, type: file, format: {format}, path: {:?}{more} }}\n", place.path(name))
    };
    let sinks = [
        file("all", "raw", ""),
        file(
            "raw",
            "raw",
            &format!(
                ", drop_fields: [ClientIP, ClientIPAddress, ActorIpAddress], {}, add_fields: {{ site: '{{tenant}}' }}",
                hash("UserId")
            ),
        ),
        file(
            "ecs",
            "ecs",
            &format!(", drop_fields: [source], {}, add_fields: {{ labels.site: north }}", hash("user.name")),
        ),
    ];
    place.write_config(&world, &sinks.concat(), COLLECT);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let said = compare(&served(&world), file_hashes(&place.path("all")));
    assert_eq!((said.lost, said.duplicates, said.foreign), (0, 0, 0), "{said:?}");

    let (all, raw, ecs) = (lines(&place, "all"), lines(&place, "raw"), lines(&place, "ecs"));
    assert_eq!((raw.len(), ecs.len()), (all.len(), all.len()));
    let mut by_id: HashMap<&str, Vec<&Value>> = HashMap::new();
    for record in &all {
        by_id.entry(text(record, "/Id").unwrap_or_default()).or_default().push(record);
    }
    let mut pseudonyms: BTreeMap<String, String> = BTreeMap::new();
    let (mut addresses, mut compared) = (0, 0);
    for (kind, line, user) in
        raw.iter().map(|l| ("raw", l, "/UserId")).chain(ecs.iter().map(|l| ("ecs", l, "/user/id")))
    {
        let id = text(line, if kind == "raw" { "/Id" } else { "/event/id" });
        // A record without an Id, or one of two with the same, cannot be told.
        let Some(record) = id.and_then(|id| by_id.get(id)).filter(|all| all.len() == 1).map(|all| all[0]) else {
            continue;
        };
        compared += 1;
        for field in ["ClientIP", "ClientIPAddress", "ActorIpAddress"] {
            let Some(address) = record[field].as_str().filter(|address| address.len() > 6) else { continue };
            addresses += 1;
            let own = ["", "/o365/audit"].map(|at| line.pointer(&format!("{at}/{field}")));
            assert!(own.iter().all(Option::is_none), "{kind}: {field} of {line}");
            for pointer in ["/source", "/related/ip"] {
                assert!(line.pointer(pointer).is_none(), "{kind}: {address} in {line}");
            }
        }
        if let Some(name) = record["UserId"].as_str().filter(|name| !name.is_empty()) {
            let shown = text(line, user).unwrap_or_else(|| panic!("{kind}: no {user} for {name}: {line}"));
            assert!(shown.starts_with("pseudonym:") && shown.len() == 53, "{kind}: {shown} for {name}");
            let first = pseudonyms.entry(name.to_owned()).or_insert_with(|| shown.to_owned());
            assert_eq!(first, shown, "one value, one pseudonym, in either format");
            for pointer in ["/user/id", "/user/name", "/user/email", "/o365/audit/UserId", "/o365/audit/UserKey"] {
                let there = if kind == "raw" { None } else { text(line, pointer).filter(|there| !there.is_empty()) };
                assert!(there.is_none_or(|there| there.starts_with("pseudonym:")), "{pointer} of {line}");
            }
            for related in line.pointer("/related/user").and_then(Value::as_array).into_iter().flatten() {
                assert!(related.as_str().unwrap().starts_with("pseudonym:"), "{line}");
            }
        }
        if kind == "raw" {
            let mut left = line.as_object().unwrap().clone();
            let mut wanted = record.as_object().unwrap().clone();
            wanted.retain(|name, _| !["ClientIP", "ClientIPAddress", "ActorIpAddress"].contains(&name.as_str()));
            // SharePoint's own `Site` is replaced by what is added under that name.
            wanted.retain(|name, _| name != "Site");
            left.remove("site");
            for edited in [&mut left, &mut wanted] {
                edited.remove("UserId");
            }
            assert_eq!(left, wanted, "what was not named is as it came");
        }
        let site = if kind == "raw" { text(line, "/site") } else { text(line, "/labels/site") };
        let wanted = if kind == "raw" { world.tenants()[0].name.as_str() } else { "north" };
        assert_eq!(site, Some(wanted), "{line}");
    }
    let distinct: HashSet<&String> = pseudonyms.values().collect();
    assert!(
        pseudonyms.len() > 3 && distinct.len() == pseudonyms.len() && addresses > 100,
        "{} {addresses}",
        pseudonyms.len()
    );
    assert!(compared > all.len(), "{compared} of twice {}", all.len());
}

/// A required sink with a limit slows the source down and loses nothing. From the first byte on, so that no slow
/// start makes up for a limit that is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_sink_gets_everything_and_no_faster() {
    let world = world(WorldConfig::new().records(1200).days(1).speed(20.0)).await;
    let place = Place::new();
    let path = place.path("out");
    let sink = format!(
        "  - {{ name: disk, type: file, format: raw, path: {path:?}, rate_limit: {{ events_per_second: 200, burst: 500ms }} }}\n"
    );
    place.write_config(&world, &sink, COLLECT);
    let mut began = std::time::Instant::now();
    let mut first = 0;
    let seen = async {
        while std::fs::metadata(&path).map_or(0, |about| about.len()) == 0 {
            began = std::time::Instant::now();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        first = std::fs::read_to_string(&path).unwrap().lines().count();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = place.run_once(LIMIT) => ended,
        () = seen => unreachable!(),
    };
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let hashes = file_hashes(&path);
    let count = hashes.len() as f64;
    let said = compare(&served(&world), hashes);
    assert_eq!((said.lost, said.duplicates, said.foreign), (0, 0, 0), "{said:?}");
    // The burst of 100 goes at once, and the first batch was on its way before it was seen.
    let least = (count - 100.0) / 200.0 - 1.0;
    assert!(least > 4.0 && seconds > least, "{count} events in {seconds} s");
    // Twice the burst, for a machine that looked late.
    assert!((1..=200).contains(&first), "{first} events in one go");
}

/// The key's file is looked at as the configuration is: no restart, nothing lost, nothing doubled, and from then on
/// other pseudonyms.
#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_pseudonyms_is_seen_without_a_restart() {
    let config = WorldConfig::new().records(1500).days(1).live_rate(40.0).speed(60.0);
    let world = world(config.tune(|protocol| protocol.subscribed = true)).await;
    let place = Place::new();
    let key = place.path("key");
    std::fs::write(&key, "a key of more than sixteen bytes\n").unwrap();
    let file = |name: &str, more: &str| {
        format!("  - {{ name: {name}, type: file, format: raw, path: {:?}{more} }}\n", place.path(name))
    };
    let hash = format!(", hash_fields: {{ key: \"${{file:{}}}\", fields: [UserId] }}", key.display());
    place.write_config(&world, &[file("all", ""), file("hashed", &hash)].concat(), COLLECT);
    let running = Running::start(&place, &[]).await;
    let count = || std::fs::read(place.path("hashed")).map_or(0, |text| text.split(|byte| *byte == b'\n').count());
    running.until(&place, "records", async |_| count() > 100).await;
    let told = running.reloaded(&place, || std::fs::write(&key, "another key of sixteen bytes\n").unwrap()).await;
    assert_eq!((&told["result"], &told["changes"]), (&"applied".into(), &"sinks changed: hashed".into()));
    let before = count();
    running.until(&place, "records under the other key", async |_| count() > before + 50).await;
    running.end(&place).await;
    // The world goes on while the rest is fetched.
    let truth = served(&world);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());

    let (all, hashed) = (lines(&place, "all"), lines(&place, "hashed"));
    let said = compare(&truth, file_hashes(&place.path("all")));
    assert_eq!((said.lost, said.duplicates), (0, 0), "{said:?}");
    let ids = |records: &[Value]| {
        let mut ids: Vec<String> = records.iter().map(|record| record["Id"].to_string()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&all), ids(&hashed), "nothing lost and nothing doubled");
    let users: HashMap<&str, &str> =
        all.iter().filter_map(|record| Some((text(record, "/Id")?, text(record, "/UserId")?))).collect();
    let mut pseudonyms: HashMap<&str, HashSet<&str>> = HashMap::new();
    for record in &hashed {
        let Some((user, shown)) = text(record, "/Id").and_then(|id| users.get(id)).zip(text(record, "/UserId")) else {
            continue;
        };
        pseudonyms.entry(user).or_default().insert(shown);
    }
    let two = pseudonyms.values().filter(|shown| shown.len() == 2).count();
    assert!(two > 0 && pseudonyms.values().all(|shown| shown.len() <= 2), "{two} of {}", pseudonyms.len());
}
