//! One attempt against a service in this process: memory, and what a broken body is known by.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::super::auth::{Credential, TokenSource};
use super::super::connections::{Connections, Transport};
use super::super::pin::Pin;
use super::super::throttle::Throttle;
use super::*;
use crate::clock::Clock;
use crate::config::CredentialConfig;
use crate::feed::{ContentType, Feed, Tenant};
use crate::secret::SecretSource;

/// A service whose every blob is `body`, sent in chunks of `chunk` bytes; `peak`: the most that was held of `budget`.
fn client(body: &Bytes, chunk: usize, budget: &Budget, peak: &Arc<AtomicUsize>) -> Client {
    let (body, budget, peak) = (body.clone(), budget.clone(), Arc::clone(peak));
    let connections = Connections::new(Transport::InProcess(Arc::new(move |request| {
        let (body, budget, peak) = (body.clone(), budget.clone(), Arc::clone(&peak));
        Box::pin(async move {
            if request.uri().path().ends_with("/token") {
                return Ok(axum::http::Response::new(r#"{"access_token":"t","expires_in":3599}"#.into()));
            }
            let chunks: Vec<_> = body.chunks(chunk).map(|c| Ok::<_, io::Error>(body.slice_ref(c))).collect();
            let look = move |_: &_| {
                peak.fetch_max(budget.used(), Ordering::Relaxed);
            };
            Ok(axum::http::Response::new(reqwest::Body::wrap_stream(stream::iter(chunks).inspect(look))))
        })
    })));
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let credential = Credential {
        login: "http://login.example/".parse().unwrap(),
        tenant_id: "id".into(),
        client_id: "client".into(),
        kind: CredentialConfig::ClientSecret { secret: SecretSource::Value("s".into()), expires: None },
        resource: "resource".into(),
        endpoint: None,
        scope: None,
    };
    let tokens = TokenSource::new(connections.clone(), clock.clone(), credential, "t", Arc::clone(&metrics));
    let pin = Pin::new("http://api.example/".parse().unwrap(), "id", "publisher");
    let throttle = Throttle::new(clock.clone(), 1000);
    Client::new(connections, pin, throttle, tokens, clock, Duration::from_secs(5), "t", metrics)
}

/// Fetches `body`; whatever is sent forward is done at once. `None`: it did not end.
async fn fetched(body: &Bytes, chunk: usize, slow: bool) -> Option<Result<Fetched, FetchError>> {
    fetched_holding(body, chunk, slow).await.1
}

/// The same, and the most bytes that were held meanwhile.
async fn fetched_holding(body: &Bytes, chunk: usize, slow: bool) -> (usize, Option<Result<Fetched, FetchError>>) {
    let (budget, peak) = (Budget::new(32 << 20), Arc::default());
    let client = client(body, chunk, &budget, &peak);
    let (forward, mut arrivals) = mpsc::channel(1);
    tokio::spawn(async move { while arrivals.recv().await.is_some() {} });
    let dir = tempfile::tempdir().unwrap();
    let context = FetchContext {
        forward,
        budget,
        max_record: 8 << 20,
        spool_dir: Some(dir.path().to_owned()),
        metrics: Metrics::new(),
    };
    let tenant = Arc::new(Tenant { name: "t".into(), id: "id".into(), domains: vec![] });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let blob = BlobId { feed, content_id: "blob".into(), created_ms: 0 };
    let manner = Manner { slow, ..Manner::default() };
    let attempt = fetch(&context, &client, &blob, "", Finalizer::new(|_| {}), manner);
    let ended = tokio::time::timeout(Duration::from_secs(20), attempt).await.ok();
    (peak.load(Ordering::Relaxed), ended)
}

/// An array of records of about 1 KiB, `mib` MiB of them, not closed.
fn records(mib: usize) -> Vec<u8> {
    let record = format!(r#"{{"Id":"{}"}}"#, "x".repeat(1013));
    let mut body = b"[".to_vec();
    for _ in 0..mib * 1024 {
        body.extend_from_slice(record.as_bytes());
        body.push(b',');
    }
    body
}

#[tokio::test]
async fn a_slow_body_larger_than_its_tenants_share_does_not_wait_for_its_own_bytes() {
    let mut body = records(12);
    body.extend_from_slice(b"{}]");
    let bytes = body.len() as u64;
    let fetched = fetched(&body.into(), 64 * 1024, true).await.expect("it waits for ever").unwrap();
    assert_eq!(fetched, Fetched { bytes, salvaged: false });
}

/// Read to its end, to know whether it is the same each time.
#[tokio::test]
async fn a_broken_body_holds_no_more_than_what_is_kept_of_it() {
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    let (peak, ended) = fetched_holding(&body, 1024, false).await;
    assert!(matches!(ended, Some(Err(FetchError::Malformed { .. }))), "{ended:?}");
    assert!((body.len()..=HOLD + 2 * RESERVE).contains(&peak), "{peak} bytes held");
}

#[tokio::test]
async fn a_large_broken_body_is_known_again_however_the_network_cut_it() {
    // The break lies beyond what is held, and before it.
    for mib in [10, 5] {
        let mut body = records(mib);
        body.extend_from_slice(b"  }");
        body.extend_from_slice(&records(5)[1..]);
        let body = Bytes::from(body);
        let mut prints = Vec::new();
        for chunk in [16 * 1024, 100_003, 1 << 20] {
            match fetched(&body, chunk, false).await.unwrap() {
                Err(FetchError::Malformed { print, .. }) => prints.push(print),
                other => panic!("{other:?}"),
            }
        }
        assert!(prints.iter().all(|print| *print == prints[0]), "{mib} MiB: {prints:?}");
    }
}

#[tokio::test]
async fn a_record_that_outgrows_memory_is_spooled_whole_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = spool::Spool::create(Some(dir.path())).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let all: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for piece in all.chunks(99_991) {
        spool.write(piece).await.unwrap();
    }
    let mut spooled = spool.end().await.unwrap();
    let mut read = Vec::new();
    let mut kept = spooled.file.take().unwrap();
    io::Seek::rewind(&mut kept).unwrap();
    io::Read::read_to_end(&mut kept, &mut read).unwrap();
    assert!(read == all && spooled.is_kept && spooled.bytes == all.len() as u64);
    assert_eq!(spooled.hash, blake3::hash(&all).as_bytes()[..16]);
}
