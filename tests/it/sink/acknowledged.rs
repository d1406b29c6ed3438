//! A collector with indexer acknowledgement: a batch counts when it is indexed, and not before.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use auditferry::config::{AckConfig, AckMode, SinkConfig, SinkKind};

use super::{Bench, LIMIT, counts, hec_sink, records};
use crate::hec::FakeHec;

const TIMEOUT: Duration = Duration::from_millis(600);

/// The usual sink with acknowledgement in this mode, impatient.
fn sink(hec: &FakeHec, mode: AckMode) -> SinkConfig {
    let mut config = hec_sink(hec);
    if let SinkKind::SplunkHec(hec) = &mut config.kind {
        hec.ack = AckConfig { mode, timeout: TIMEOUT, query_interval: Duration::from_millis(20), max_pending: 5 };
    }
    config
}

async fn acknowledging() -> FakeHec {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.acks = true);
    hec
}

fn acks(bench: &Bench, result: &str) -> u64 {
    bench.metrics.sink_acks.with_label_values(&["splunk", result]).get()
}

fn resent(bench: &Bench, reason: &str) -> u64 {
    bench.metrics.sink_resent.with_label_values(&["splunk", reason]).get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_counts_when_it_is_indexed_and_not_when_it_is_accepted() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_after = Duration::from_millis(300));
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 50)).await;
    while hec.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(!offer.is_settled());
    assert_eq!(bench.metrics.sink_acks_waiting.with_label_values(&["splunk"]).get(), 1);
    assert_eq!(offer.settled().await, counts(50, 0));
    assert!(hec.received().duplicates().is_empty());
    assert_eq!((acks(&bench, "confirmed"), acks(&bench, "timed_out")), (1, 0));
    assert_eq!(bench.metrics.sink_acks_waiting.with_label_values(&["splunk"]).get(), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_and_lost_before_it_was_indexed_is_sent_again() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.lost_batches = 2);
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 2000)).await;
    assert_eq!(offer.settled().await, counts(2000, 0));
    let received = hec.received();
    assert_eq!((received.distinct(), received.duplicates().len()), (2000, 0));
    assert_eq!(acks(&bench, "timed_out"), 2);
    assert!(resent(&bench, "ack_timeout") >= 300);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_never_comes_costs_duplicates_that_are_counted() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.lost_acks = 1);
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0));
    let received = hec.received();
    assert_eq!((received.distinct(), received.duplicates().len()), (20, 20));
    assert_eq!((resent(&bench, "ack_timeout"), resent(&bench, "ack_forgotten")), (20, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_the_receiver_forgot_is_not_waited_for() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_answer = Some((400, 11)));
    let mut config = sink(&hec, AckMode::Auto);
    if let SinkKind::SplunkHec(hec) = &mut config.kind {
        hec.ack.timeout = LIMIT * 2;
    }
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 20)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_settled());
    assert_eq!((acks(&bench, "forgotten"), hec.count()), (1, 20), "it is not sent again before it is answered for");
    hec.set(|knobs| knobs.ack_answer = None);
    assert_eq!(offer.settled().await, counts(20, 0));
    assert_eq!((hec.count(), resent(&bench, "ack_forgotten")), (40, 20));
    let posts = hec.received().on_channels.into_iter().filter(|request| request.endpoint == "event");
    let channels: HashSet<_> = posts.map(|request| request.channel).collect();
    assert!(channels.len() >= 2, "a forgotten channel is not used again: {channels:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_loses_its_acknowledgement_goes_on_without_where_that_is_enough() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_after = LIMIT);
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 20)).await;
    while hec.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    hec.set(|knobs| knobs.acks = false);
    assert_eq!(offer.settled().await, counts(20, 0));
    assert_eq!((acks(&bench, "forgotten"), hec.count()), (1, 20));
    bench.stop().await;
}

/// A receiver that restarts counts its `ackId`s from 0 again: an old batch must not be taken for
/// indexed by the acknowledgement of a new one. What counts as delivered must be in the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_that_forget_everything_lose_nothing() {
    let hec = acknowledging().await;
    hec.set(|knobs| {
        knobs.ack_after = Duration::from_millis(25);
        knobs.answer_delay = Duration::from_millis(2);
    });
    let mut config = sink(&hec, AckMode::Auto);
    config.batch.max_events = 10;
    if let SinkKind::SplunkHec(hec) = &mut config.kind {
        hec.ack.timeout = Duration::from_millis(250);
    }
    let bench = Bench::start(config);
    let mut offers = Vec::new();
    for round in 0..25 {
        offers.push(bench.offer(records(round * 100, 100)).await);
        tokio::time::sleep(Duration::from_millis(round as u64 % 7 * 11)).await;
        hec.crash();
    }
    for offer in &offers {
        assert_eq!(offer.settled().await, counts(100, 0));
    }
    assert_eq!(hec.received().distinct(), 2500);
    assert!(acks(&bench, "timed_out") > 0, "no batch was in the air at any crash");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_keeps_to_one_connection_and_one_cookie_and_carries_one_batch_at_a_time() {
    let hec = acknowledging().await;
    hec.set(|knobs| {
        knobs.cookies = true;
        knobs.ack_after = Duration::from_millis(60);
    });
    let mut config = sink(&hec, AckMode::Required);
    config.batch.max_events = 25;
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 1000)).await;
    assert_eq!(offer.settled().await, counts(1000, 0));
    let mut by_channel: HashMap<_, Vec<_>> = HashMap::new();
    for request in hec.received().on_channels {
        by_channel.entry(request.channel.clone()).or_default().push(request);
    }
    // The first is the one by which it was asked whether there are acknowledgements.
    by_channel.retain(|_, requests| requests.iter().any(|request| request.endpoint == "event"));
    assert!((2..=8).contains(&by_channel.len()), "{} channels", by_channel.len());
    for requests in by_channel.values() {
        assert!(requests.iter().all(|request| request.peer == requests[0].peer), "{requests:?}");
        let cookies: HashSet<_> = requests.iter().filter_map(|request| request.cookie.as_deref()).collect();
        assert_eq!(cookies.len(), 1, "{requests:?}");
        assert!(requests[1..].iter().all(|request| request.cookie.is_some()));
        let batches = requests.windows(2).filter(|pair| pair[0].endpoint == "event" && pair[1].endpoint == "event");
        assert_eq!(batches.count(), 0, "a batch was sent before the one before it was asked after");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_batches_wait_than_allowed() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_after = Duration::from_millis(150));
    let mut config = sink(&hec, AckMode::Required);
    config.batch.max_events = 10;
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 400)).await;
    let mut most = 0;
    while !offer.is_settled() {
        most = most.max(bench.metrics.sink_acks_waiting.with_label_values(&["splunk"]).get());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Three by `concurrency` and five by `max_pending`.
    assert!((5..=8).contains(&most), "{most}");
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_acknowledgement_is_taken_at_its_word_or_held_as_configured() {
    let hec = FakeHec::start().await;
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0));
    assert_eq!(hec.received().acks_asked, 0);
    bench.stop().await;

    let bench = Bench::start(sink(&hec, AckMode::Required));
    let offer = bench.offer(records(100, 20)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_settled() && hec.count() == 20, "nothing is sent that could not be acknowledged");
    hec.set(|knobs| knobs.acks = true);
    assert_eq!(offer.settled().await, counts(20, 0));
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_wants_acknowledgement_is_said_where_none_is_configured() {
    let hec = acknowledging().await;
    let bench = Bench::start(sink(&hec, AckMode::Off));
    let offer = bench.offer(records(0, 20)).await;
    bench.until_health(false).await;
    assert!(!offer.is_settled() && hec.count() == 0 && bench.dead_letters().is_empty());
    assert!(hec.received().on_channels.is_empty());
    hec.set(|knobs| knobs.acks = false);
    assert_eq!(offer.settled().await, counts(20, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_question_alone_doubles_nothing() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_answer = Some((503, 9)));
    let bench = Bench::start(sink(&hec, AckMode::Auto));
    let offer = bench.offer(records(0, 20)).await;
    while hec.received().acks_asked < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!offer.is_settled());
    hec.set(|knobs| knobs.ack_answer = None);
    assert_eq!(offer.settled().await, counts(20, 0));
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_strips_the_header_of_the_channel_does_no_harm() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.channel_header_stripped = true);
    let bench = Bench::start(sink(&hec, AckMode::Required));
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0));
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

/// It answers every question as one that acknowledges, and gives nothing to ask by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_taken_without_an_ack_id_is_not_sent_again_at_every_probe() {
    let hec = acknowledging().await;
    hec.set(|knobs| knobs.ack_ids_withheld = true);
    let mut config = sink(&hec, AckMode::Required);
    config.batch.concurrency = 1;
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 20)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!offer.is_settled());
    assert_eq!(hec.count(), 20, "sent once, and held");
}
