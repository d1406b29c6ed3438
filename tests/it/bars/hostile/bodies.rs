//! Bodies that hurt: bombs, floods of white space, drips, and what is broken for good.

use std::time::Duration;

use auditferry::simulator::{ContentType, Scenario, WorldConfig};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::little_service::{self as little, LittleService};
use super::{CLEAN_LIMIT, MEMORY_KIB, Pair, arrived, configure, differences, lines, numbers, start, watch};
use crate::support::{Place, figure, ledgered_lost, size};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bombs_that_end_are_waited_out() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::SharePoint).records(400)).await;
    pair.hostile.enable(Scenario::Bomb, Some(size(0.1, 0.5)));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let bombs = pair.hostile.report().faults["bomb"];
    figure("hostile", format_args!("{bombs} bombs, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(bombs > 0);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn with_gzip(mut response: Response) -> Response {
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_what_stays_a_bomb_ends_in_the_ledger() {
    let blobs = vec![
        ("Audit.SharePoint", "bomb", Vec::new()),
        ("Audit.SharePoint", "beside", little::body(0..50)),
        ("Audit.Exchange", "elsewhere", little::body(50..100)),
    ];
    let service = LittleService::start(blobs, 30.0, |asked, _| {
        asked.is_blob("bomb").then(|| {
            let first = std::iter::once(gzipped(b"["));
            let next = gzipped(&vec![b' '; 8 << 20]);
            with_gzip(little::streamed(first.chain(std::iter::repeat_n(next, 200)), Duration::ZERO))
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(90), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (100, "")).await;
    let tries = service.asked().iter().filter(|asked| asked.is_blob("bomb")).count();
    figure("hostile", format_args!("a bomb for ever: {tries} tries, {watched:?}"));
    assert_eq!(watched.code, Some(1), "{}", place.log_tail());
    assert_eq!(numbers(&output), (0..100).collect::<Vec<_>>());
    let lost = ledgered_lost(&place.ledger());
    assert_eq!(lost.into_iter().collect::<Vec<_>>(), [("bomb".to_owned(), "unreadable".to_owned())]);
    assert_eq!(tries, 5);
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// White space is no bomb where it is not packed, and no record anywhere: it is let go as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_floods_of_white_space_are_not_held() {
    let blobs = vec![("Audit.SharePoint", "flood", Vec::new()), ("Audit.Exchange", "other", little::body(10..20))];
    let service = LittleService::start(blobs, 1.0, |asked, _| {
        asked.is_blob("flood").then(|| {
            let space = || std::iter::repeat_n(vec![b' '; 1 << 20], size(300, 1000));
            let text = |text: String| std::iter::once(text.into_bytes());
            let body = text(String::new()).chain(space()).chain(text(format!("[{}", little::record(0))));
            let body = body.chain(space()).chain(text(format!(",{}", little::record(1))));
            little::streamed(body.chain(space()).chain(text("]".to_owned())), Duration::ZERO)
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(size(60, 200)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (12, "")).await;
    figure("hostile", format_args!("three floods of white space: {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert_eq!(numbers(&output), [0, 1].into_iter().chain(10..20).collect::<Vec<_>>());
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_that_drip_are_given_up_and_asked_for_again() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::General).records(20_000).records_per_blob(100)).await;
    // Few enough that hardly one drips three times over: that one is read in the slow lane, for as long as it drips.
    pair.hostile.enable(Scenario::SlowBody, Some(0.04));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), ", stall_timeout: 2s");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let drips = pair.hostile.report().faults["slow_body"];
    figure(
        "hostile",
        format_args!("{drips} dripping bodies, clean tenant done after {:?}, {watched:?}", watched.enough_after),
    );
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(drips > 0);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// A record costs memory however few its bytes are: metadata, a key in flight, a document that says what it was.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_flood_of_tiny_records_is_bounded() {
    let count = size(200_000, 1_000_000);
    let numbers: Vec<String> = (0..count).map(|number| format!("{}", 100_000 + number)).collect();
    let blobs = vec![
        ("Audit.SharePoint", "tiny", format!("[{}]", numbers.join(",")).into_bytes()),
        ("Audit.Exchange", "other", little::body(10..20)),
    ];
    let service = LittleService::start(blobs, 30.0, |_, _| None).await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (count + 10, "")).await;
    figure("hostile", format_args!("{count} records of some bytes: {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert_eq!(lines(&output).count(), count + 10);
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// The same broken body, five times over, is all there is to have: what can be read in it is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_body_broken_for_good_is_salvaged() {
    const BROKEN: &str = r#"{"Id":"x","Operation":"no end,"#;
    let salvageable = format!("[{},{},{BROKEN}{}]", little::record(0), little::record(1), little::record(2));
    let cut = format!("[{},{}", little::record(3), &little::record(4)[..60]);
    let blobs = vec![
        ("Audit.SharePoint", "broken", salvageable.into_bytes()),
        ("Audit.SharePoint", "cut", cut.into_bytes()),
        ("Audit.Exchange", "whole", little::body(10..20)),
    ];
    let service = LittleService::start(blobs, 30.0, |_, _| None).await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(60), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (16, "")).await;
    let tries = |id: &str| service.asked().iter().filter(|asked| asked.is_blob(id)).count();
    let (found, errors) = arrived(lines(&output));
    figure("hostile", format_args!("broken for good: {errors} pieces kept as pipeline errors, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert_eq!((tries("broken"), tries("cut"), tries("whole")), (5, 5, 1));
    for number in (0..4).chain(10..20) {
        assert_eq!(found.get(little::record(number).as_bytes()), Some(&1), "record {number}");
    }
    assert_eq!(errors, 2);
    assert_eq!(found.len(), 14 + errors);
    let pieces = [BROKEN.as_bytes().to_vec(), little::record(4).as_bytes()[..60].to_vec()];
    pieces.iter().for_each(|piece| assert_eq!(found.get(piece), Some(&1), "{}", String::from_utf8_lossy(piece)));
}
