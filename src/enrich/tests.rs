//! Databases of both schemas, whole, damaged, missing and replaced while they are used. Made here, by the writer that
//! makes those of `make geo`.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

#[path = "../../examples/geo/invented.rs"]
mod invented;
#[path = "../../examples/geo/writer.rs"]
mod writer;

use super::*;
use writer::{Value, Writer, map, text};

/// A directory with databases, and an enricher over them.
struct Bench {
    dir: TempDir,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap(), metrics: Metrics::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As geoipupdate does it: under another name, then renamed.
    fn put(&self, name: &str, bytes: &[u8]) {
        let new = self.path("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn open(&self, city: &[&str], asn: &[&str]) -> Arc<Enricher> {
        let paths = |names: &[&str]| names.iter().map(|name| self.path(name)).collect();
        let config = EnrichConfig { city: paths(city), asn: paths(asn), user_agent: false };
        Enricher::open(&config, self.dir.path(), &self.metrics)
    }

    fn failures(&self, kind: &str, name: &str) -> u64 {
        self.metrics.enrich_failures.with_label_values(&[kind, self.path(name).to_str().unwrap()]).get()
    }

    fn lookups(&self) -> [u64; 4] {
        ["found", "special", "unknown", "error"]
            .map(|outcome| self.metrics.enrich_lookups.with_label_values(&[outcome]).get())
    }
}

fn place(enricher: &Enricher, ip: &str) -> Json {
    let mut out = Vec::new();
    enricher.place(ip.parse().unwrap(), &mut out);
    let members = String::from_utf8(out).unwrap();
    assert!(members.is_empty() || members.ends_with("},"), "{members}");
    serde_json::from_str(&format!("{{{}}}", members.trim_end_matches(','))).unwrap()
}

fn country_name(enricher: &Enricher, ip: &str) -> Json {
    place(enricher, ip).pointer("/geo/country_name").cloned().unwrap_or_default()
}

/// One network in MaxMind's schema.
fn nested(ip_version: u16, ip: &str, prefix: u32, country: &str) -> Vec<u8> {
    let mut writer = Writer::new(ip_version, "GeoLite2-City", 1_700_000_000);
    let name = |name: &str| map([("de", text("falsch")), ("en", text(name))]);
    let record = map([
        ("city", map([("geoname_id", Value::U32(1)), ("names", name("Springfield"))])),
        ("continent", map([("code", text("NA")), ("names", name("North America"))])),
        ("country", map([("iso_code", text("US")), ("names", name(country))])),
        (
            "location",
            map([
                ("latitude", Value::Double(37.2153)),
                ("longitude", Value::Double(-93.2982)),
                ("time_zone", text("America/Chicago")),
            ]),
        ),
        ("postal", map([("code", text("65801"))])),
        (
            "subdivisions",
            Value::List(vec![
                map([("iso_code", text("MO")), ("names", name("Missouri"))]),
                map([("iso_code", text("X"))]),
            ]),
        ),
    ]);
    writer.insert(ip.parse().unwrap(), prefix, &record);
    writer.finish()
}

/// One network in the flat schema.
fn flat(ip_version: u16, ip: &str, prefix: u32, code: &str) -> Vec<u8> {
    let mut writer = Writer::new(ip_version, "city ipv4", 1_700_000_000);
    let record = map([
        ("city", text("Zürich")),
        ("country_code", text(code)),
        ("latitude", Value::Float(47.3769)),
        ("longitude", Value::Float(8.5417)),
        ("postcode", text("")),
        ("state1", text("Zurich")),
        ("state2", text("")),
        ("timezone", text("Europe/Zurich")),
    ]);
    writer.insert(ip.parse().unwrap(), prefix, &record);
    writer.finish()
}

fn systems(ip_version: u16, ip: &str, prefix: u32, number: u32) -> Vec<u8> {
    let mut writer = Writer::new(ip_version, "ASN", 1_600_000_000);
    let name = text("Example \"Carrier\"");
    let record = map([("autonomous_system_number", Value::U32(number)), ("autonomous_system_organization", name)]);
    writer.insert(ip.parse().unwrap(), prefix, &record);
    writer.finish()
}

#[test]
fn both_schemas_and_files_for_each_kind_of_address() {
    let bench = Bench::new();
    bench.put("nested", &nested(6, "8.0.0.0", 7, "United States"));
    bench.put("flat4", &flat(4, "16.0.0.0", 6, "CH"));
    bench.put("flat6", &flat(6, "2a00::", 12, "KR"));
    bench.put("asn4", &systems(4, "16.0.0.0", 5, 64496));
    bench.put("asn6", &systems(6, "2a00::", 12, 4_200_000_000));
    let enricher = bench.open(&["nested", "flat4", "flat6"], &["asn4", "asn6"]);
    let status = enricher.status();
    assert!(status.iter().all(|one| one.trouble.is_none()), "{status:?}");
    assert_eq!(
        place(&enricher, "8.8.8.8"),
        json!({"geo": {
            "city_name": "Springfield", "continent_code": "NA", "continent_name": "North America", "country_iso_code": "US",
            "country_name": "United States", "location": {"lat": 37.2153, "lon": -93.2982}, "postal_code": "65801",
            "region_iso_code": "US-MO", "region_name": "Missouri", "timezone": "America/Chicago",
        }})
    );
    let system = json!({"number": 64496, "organization": {"name": "Example \"Carrier\""}});
    let zurich = json!({
        "city_name": "Zürich", "continent_code": "EU", "continent_name": "Europe", "country_iso_code": "CH",
        "country_name": "Switzerland", "location": {"lat": 47.3769, "lon": 8.5417}, "region_name": "Zurich",
        "timezone": "Europe/Zurich",
    });
    for ip in ["17.1.2.3", "::ffff:17.1.2.3", "17.1.2.3"] {
        assert_eq!(place(&enricher, ip), json!({"as": system, "geo": zurich}), "{ip}");
    }
    let mut out = Vec::new();
    enricher.place("17.1.2.3".parse().unwrap(), &mut out);
    assert!(out.starts_with(b"\"as\":{\"number\":64496,"), "systems stand first");
    assert_eq!(place(&enricher, "2a00:1::1")["as"]["number"], 4_200_000_000u32);
    assert_eq!(country_name(&enricher, "2a00:1::1"), "South Korea");
    assert_eq!(place(&enricher, "20.0.0.1"), json!({"as": system}));
    assert_eq!(place(&enricher, "99.0.0.1"), json!({}));
    assert_eq!(place(&enricher, "10.1.2.3"), json!({"geo": {"name": "private"}}));
    assert_eq!(place(&enricher, "fe80::1"), json!({"geo": {"name": "link-local"}}));
    assert_eq!(place(&enricher, "2600::1"), json!({}), "a file without IPv6 is no error");
    assert_eq!(bench.lookups(), [8, 2, 2, 0]);
}

#[test]
fn what_a_database_says_of_a_range_that_is_set_apart_counts() {
    let bench = Bench::new();
    bench.put("city", &nested(4, "10.0.0.0", 8, "Branch office"));
    let enricher = bench.open(&["city"], &[]);
    assert_eq!(country_name(&enricher, "10.1.2.3"), "Branch office");
    assert_eq!(place(&enricher, "192.168.0.1"), json!({"geo": {"name": "private"}}));
}

#[test]
fn without_databases_nothing_is_said_of_an_address() {
    assert_eq!(place(&Enricher::none(), "10.1.2.3"), json!({}));
    let bench = Bench::new();
    assert_eq!(place(&bench.open(&[], &[]), "10.1.2.3"), json!({}));
    assert_eq!(bench.lookups(), [0; 4]);
}

#[test]
fn a_field_of_another_type_costs_itself_alone() {
    let bench = Bench::new();
    let mut writer = Writer::new(4, "odd", 1);
    let record = map([
        ("city", Value::U32(7)),
        ("continent", map([("code", text("EU")), ("names", Value::List(vec![text("Europe")]))])),
        ("country", Value::List(vec![text("US")])),
        ("country_code", text("FR")),
        ("location", text("here")),
        ("subdivisions", map([("names", Value::U16(3))])),
        ("latitude", text("48.9")),
        ("longitude", Value::U16(2)),
        ("timezone", Value::Double(1.5)),
    ]);
    writer.insert("8.0.0.0".parse().unwrap(), 5, &record);
    bench.put("city", &writer.finish());
    let enricher = bench.open(&["city"], &[]);
    assert_eq!(
        place(&enricher, "8.8.8.8")["geo"],
        json!({"continent_code": "EU", "continent_name": "Europe", "country_iso_code": "FR", "country_name": "France",
               "location": {"lat": 48.9, "lon": 2}})
    );
}

#[test]
fn what_cannot_be_used_is_named_counted_once_and_costs_nothing_else() {
    let whole = nested(4, "8.0.0.0", 5, "United States");
    let mut damaged = whole.clone();
    // Records beyond the end of the tree.
    damaged[..60].fill(0xee);
    let folder = |bench: &Bench, name: &str| fs::create_dir(bench.path(name)).unwrap();
    let put = |bytes: Vec<u8>| move |bench: &Bench, name: &str| bench.put(name, &bytes);
    type Make<'a> = Box<dyn Fn(&Bench, &str) + 'a>;
    let cases: [(Make<'_>, &str); 8] = [
        (Box::new(|_, _| {}), "put the file there"),
        (Box::new(folder), "it is no file"),
        (Box::new(put(Vec::new())), "damaged or cut short"),
        (Box::new(put(whole[..whole.len() / 2].to_vec())), "damaged or cut short"),
        (Box::new(put(whole[..whole.len() - 1].to_vec())), "damaged or cut short"),
        (Box::new(put(damaged)), "damaged or cut short"),
        (Box::new(put(b"<html>please log in</html>".to_vec())), "damaged or cut short"),
        (Box::new(put(systems(4, "8.0.0.0", 5, 1))), "which has nothing of `city`"),
    ];
    for (make, expected) in cases {
        let bench = Bench::new();
        make(&bench, "city");
        bench.put("asn", &systems(4, "8.0.0.0", 5, 64496));
        let enricher = bench.open(&["city"], &["asn"]);
        assert_eq!(place(&enricher, "8.8.8.8")["as"]["number"], 64496, "{expected}");
        let status = enricher.status();
        assert_eq!(status[0].standing, Standing::Missing);
        let trouble = status[0].trouble.clone().unwrap();
        assert!(trouble.contains(expected), "{trouble}");
        (0..5).for_each(|_| enricher.look(true));
        assert_eq!((bench.failures("city", "city"), bench.failures("asn", "asn")), (1, 0), "{expected}");
        assert_eq!(
            bench.metrics.enrich_built.with_label_values(&["asn", bench.path("asn").to_str().unwrap()]).get(),
            1_600_000_000
        );
    }
}

#[test]
fn a_file_that_comes_later_or_is_replaced_is_read_when_it_stands_still() {
    let bench = Bench::new();
    let enricher = bench.open(&["city"], &[]);
    assert_eq!(country_name(&enricher, "8.8.8.8"), Json::Null);
    bench.put("city", &nested(4, "8.0.0.0", 5, "One"));
    enricher.look(true);
    assert_eq!(country_name(&enricher, "8.8.8.8"), Json::Null, "it may still be written");
    enricher.look(true);
    assert_eq!(country_name(&enricher, "8.8.8.8"), "One");
    assert_eq!(enricher.status()[0].trouble, None);

    bench.put("city", &nested(4, "8.0.0.0", 5, "Two"));
    (0..2).for_each(|_| enricher.look(true));
    assert_eq!(country_name(&enricher, "8.8.8.8"), "Two", "what was remembered is of the database before");

    // Written over in place, half: what was read is not touched by it.
    let third = nested(4, "8.0.0.0", 5, "Three, with a name of another length");
    fs::write(bench.path("city"), &third[..third.len() / 2]).unwrap();
    (0..3).for_each(|_| enricher.look(true));
    assert_eq!(country_name(&enricher, "8.8.8.8"), "Two");
    assert_eq!(country_name(&enricher, "8.8.4.4"), "Two", "nor what was never asked for before");
    assert!(enricher.status()[0].trouble.as_ref().is_some_and(|trouble| trouble.contains("cut short")));
    fs::write(bench.path("city"), &third).unwrap();
    (0..2).for_each(|_| enricher.look(true));
    assert!(country_name(&enricher, "8.8.8.8").as_str().unwrap().starts_with("Three"));

    fs::remove_file(bench.path("city")).unwrap();
    (0..3).for_each(|_| enricher.look(true));
    assert!(country_name(&enricher, "8.8.8.8").as_str().unwrap().starts_with("Three"), "gone is no worse than old");
    assert_eq!(bench.failures("city", "city"), 3, "missing, half written, missing again");
}

#[test]
fn a_file_that_lies_still_is_not_read_again_and_nothing_is_left_beside_it() {
    let bench = Bench::new();
    bench.put("city", &nested(4, "8.0.0.0", 5, "One"));
    let enricher = bench.open(&["city"], &[]);
    assert!(enricher.sources.look(true).is_none());
    let names: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["city"]);
}

#[test]
fn without_room_for_a_copy_it_is_tried_again_and_not_at_each_look() {
    let bench = Bench::new();
    bench.put("city", &nested(4, "8.0.0.0", 5, "One"));
    let config = EnrichConfig { city: vec![bench.path("city")], asn: vec![], user_agent: false };
    let copies = bench.path("copies");
    let enricher = Enricher::open(&config, &copies, &bench.metrics);
    assert!(enricher.status()[0].trouble.as_ref().is_some_and(|trouble| trouble.contains("cannot be copied to")));
    // Too soon for another try, even if one would go well now.
    fs::create_dir(&copies).unwrap();
    enricher.look(true);
    assert_eq!(enricher.status()[0].standing, Standing::Missing);
    fs::remove_dir(&copies).unwrap();
    (0..200).for_each(|_| enricher.look(true));
    assert_eq!(bench.failures("city", "city"), 1, "said once");
    fs::create_dir(&copies).unwrap();
    (0..61).for_each(|_| enricher.look(true));
    assert_eq!(country_name(&enricher, "8.8.8.8"), "One");
}

#[test]
fn what_happens_to_one_file_costs_another_nothing() {
    let bench = Bench::new();
    let whole = nested(4, "8.0.0.0", 5, "One");
    bench.put("city", &whole);
    bench.put("asn", &systems(4, "8.0.0.0", 5, 1));
    let enricher = bench.open(&["city"], &["asn"]);
    let (city, away) = (bench.path("city"), bench.path("away"));
    fs::rename(&city, &away).unwrap();
    bench.put("asn", &systems(4, "8.0.0.0", 5, 2));
    (0..2).for_each(|_| enricher.look(true));
    assert_eq!(
        (place(&enricher, "8.8.8.8")["as"]["number"].clone(), country_name(&enricher, "8.8.8.8")),
        (json!(2), json!("One"))
    );
    let status = &enricher.status()[0];
    assert!(matches!(status.standing, Standing::Loaded { .. }) && status.trouble.is_some(), "{status:?}");
    // Back as it was: nothing to read, nothing to say.
    fs::rename(&away, &city).unwrap();
    enricher.look(true);
    assert_eq!(enricher.status()[0].trouble, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_keeps_it_fresh_ends_with_it() {
    let bench = Bench::new();
    let enricher = bench.open(&["city"], &[]);
    enricher.keep_fresh();
    bench.put("city", &nested(4, "8.0.0.0", 5, "One"));
    let read = async {
        while country_name(&enricher, "8.8.8.8") != "One" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), read).await.unwrap();
    let weak = Arc::downgrade(&enricher);
    drop(enricher);
    tokio::time::sleep(2 * LOOK).await;
    assert_eq!(weak.strong_count(), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[test]
fn a_reload_forgets_what_is_gone_alone() {
    let bench = Bench::new();
    let old = bench.open(&["a", "b"], &[]);
    let new = bench.open(&["b"], &[]);
    old.forget_what_is_not_of(&new, &bench.metrics);
    let page = bench.metrics.render();
    let there = |name| page.contains(&format!("file=\"{}\"", bench.path(name).display()));
    assert!(there("b") && !there("a"), "{page}");
}

#[test]
fn the_invented_places_are_those_of_their_source() {
    assert!(
        include_bytes!("invented.mmdb") == &invented::database()[..],
        "cargo run --example geo -- invented src/enrich/invented.mmdb"
    );
    let metrics = Metrics::new();
    let enricher = Enricher::invented(&metrics).unwrap();
    for (ip, city, number) in [
        ("203.0.113.5", "Zurich", 64496),
        ("203.0.113.70", "Munich", 64496),
        ("198.51.100.200", "Montreal", 64498),
        ("192.0.2.66", "Lagos", 64511),
        ("2001:db8::1", "Zurich", 64496),
        ("2001:db8:ffff::1", "Singapore", 64498),
    ] {
        let place = place(&enricher, ip);
        assert_eq!((&place["geo"]["city_name"], &place["as"]["number"]), (&json!(city), &json!(number)), "{ip}");
    }
    assert_eq!(place(&enricher, "10.0.0.1"), json!({"geo": {"name": "private"}}));
    assert_eq!(enricher.status().len(), 2);
    enricher.look(true);
    assert_eq!(country_name(&enricher, "192.0.2.1"), "Nigeria", "there is no file that could be missing");
}

proptest! {
    /// A file with anything changed is refused, or answers without a panic, in valid JSON.
    #[test]
    fn no_byte_changed_makes_a_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>(), is_cut: bool) {
        let bench = Bench::new();
        let mut bytes = nested(6, "8.0.0.0", 7, "United States");
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bench.put("city", &bytes);
        let enricher = bench.open(&["city"], &[]);
        for ip in ["8.8.8.8", "9.255.255.255", "10.0.0.1", "2a00::1", "::1", "255.255.255.255"] {
            place(&enricher, ip);
        }
    }
}
