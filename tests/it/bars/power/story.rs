//! What is done to the disk, and what was promised meanwhile: listings, batches into a file that is
//! rotated, keys of another sink in groups larger than a page, dead letters, compaction beside it all.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use auditferry::ack::{Finalizer, Outcome, Settlement};
use auditferry::config::{BatchConfig, FileConfig, Format, RetryConfig, SinkConfig, SinkKind, StateConfig};
use auditferry::disk::double::Double;
use auditferry::feed::{BlobId, ContentType, Feed, FeedKey, Tenant};
use auditferry::metrics::Metrics;
use auditferry::record::RecordKey;
use auditferry::sink::dead_letters::{DeadLetters, LetterHead};
use auditferry::sink::{EncodedBatch, ShapedSink, Sink, SinkId, SinkSet, build};
use auditferry::state::{ContentKey, FeedFact, ListedBlob, State};

/// Records of a round in the file, and keys of a round that the other sink has: more than a page of them.
pub const RECORDS: u32 = 2;
pub const KEYS: u32 = 300;

/// Something that was called done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// These records lie in the file and will not be sent there again.
    Written(Range<u32>),
    /// The other sink has these.
    Sent(Range<u32>),
    Listed(u32),
    Settled(u32),
    Letter(u32),
}

/// A place of its own in the name space, nothing of it on a real disk.
pub fn place() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    PathBuf::from(format!("/double-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub fn state_config(root: &Path) -> StateConfig {
    // Two levels below the dead letters, whose fsyncs make names in `var` durable.
    StateConfig { dir: root.join("var/lib/state"), max_delivered_bytes: 1 << 30 }
}

pub fn feed_key() -> FeedKey {
    FeedKey { tenant_id: "6f1c".into(), content_type: ContentType::General }
}

pub fn key(n: u32) -> RecordKey {
    let mut key = RecordKey::default();
    key.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
    key
}

fn line(n: u32) -> String {
    // Of two sizes, so that a file may be full right after a start that cut it.
    let fill = if (n / RECORDS).is_multiple_of(3) { 900 } else { 300 };
    format!("{{\"Id\":\"{n}\",\"fill\":\"{}\"}}\n", "x".repeat(fill))
}

/// One process with its parts, on the disk below `root`.
pub struct Process {
    pub state: State,
    pub file: SinkId,
    pub other: SinkId,
    sink: ShapedSink,
    dead: DeadLetters,
    pub metrics: Arc<Metrics>,
}

impl Process {
    pub fn start(root: &Path) -> Result<Process, String> {
        let metrics = Metrics::new();
        let state = State::open_small(&state_config(root), Arc::clone(&metrics)).map_err(|error| error.to_string())?;
        let (file, other) = (state.sink_id("disk").unwrap(), state.sink_id("other").unwrap());
        let config = SinkConfig {
            name: "disk".into(),
            required: true,
            format: Format::Raw,
            ecs_profile: auditferry::normalize::Profile::Auditferry,
            when: None,
            edit: Default::default(),
            rate_limit: None,
            batch: BatchConfig { max_bytes: 100_000, max_events: 1000, linger: Duration::ZERO, concurrency: 1 },
            retry: RetryConfig { initial: Duration::from_millis(1), max: Duration::from_millis(1) },
            kind: SinkKind::File(FileConfig { path: root.join("audit.ndjson"), max_size: Some(2000), keep: 50 }),
        };
        let sink = build(&config, file, &state, Arc::clone(&metrics)).map_err(|error| error.to_string())?;
        // In a directory of its own, whose names nobody else makes durable.
        let dead = DeadLetters::open(&root.join("var/dead.ndjson"), Arc::clone(&metrics)).map_err(|e| e.to_string())?;
        Ok(Process { state, file, other, sink, dead, metrics })
    }

    /// Writes these records to the file and acknowledges them.
    pub async fn write(&self, records: &[u32]) -> Result<(), String> {
        let mut batch = EncodedBatch::default();
        for n in records {
            batch.bytes.extend_from_slice(line(*n).as_bytes());
            batch.ends.push(batch.bytes.len());
        }
        let accepted = self.sink.send(&batch).await.map_err(|error| error.to_string())?;
        let keys: Vec<RecordKey> = records.iter().map(|n| key(*n)).collect();
        self.state.acked(self.file, Outcome::Delivered, &keys, accepted.position.as_ref());
        Ok(())
    }

    pub async fn letter(&self, n: u32) {
        let tenant = Arc::new(Tenant { name: "t".into(), id: "6f1c".into(), domains: Vec::new() });
        let feed = Feed { tenant, content_type: ContentType::General };
        let blob = BlobId { feed, content_id: "blob".into(), created_ms: 5 };
        let head = LetterHead {
            sink: "disk".into(),
            reason: "oversized",
            answer: format!("letter {n} end"),
            blob,
            key: None,
            event_id: Vec::new(),
        };
        let mut record = tempfile::tempfile().unwrap();
        record.write_all("y".repeat(600).as_bytes()).unwrap();
        self.dead.append_stream(head, record, false).await;
    }

    pub fn has(&self, sink: SinkId, n: u32) -> bool {
        let wanted = SinkSet::of(sink);
        let share = Finalizer::new(|_| {});
        let missing = self.state.delivered().claim(wanted, wanted, [(key(n), share)].into_iter());
        self.state.delivered().resolve(sink, Outcome::Lost, &[key(n)]);
        missing[0].is_empty()
    }

    /// Some rounds of work; what is promised goes to `promised`, a mark on the disk with each.
    pub async fn work(&self, disk: &Double, rounds: Range<u32>, promised: &mut Vec<Promise>) -> Result<(), String> {
        let feed = self.state.feed(&feed_key());
        let mut promise = |new: Promise| {
            promised.push(new);
            assert_eq!(disk.mark(), promised.len());
        };
        // As after an open circuit: the file is opened before there is anything to write to it.
        self.sink.probe().await.map_err(|error| error.to_string())?;
        let mut open = Vec::new();
        for n in rounds {
            let content_id = format!("blob-{n}");
            let content = ContentKey::of(&content_id);
            let blob = ListedBlob { content_id, content_uri: "https://x".into(), created_ms: 5, expires: None };
            feed.record(FeedFact::Listed { cell: 0, at: 10, complete: true, last: false, blobs: vec![blob] });
            let records = n * RECORDS..(n + 1) * RECORDS;
            self.write(&records.clone().collect::<Vec<_>>()).await?;
            let keys = 1_000_000 + n * KEYS..1_000_000 + (n + 1) * KEYS;
            let bytes: Vec<RecordKey> = keys.clone().map(key).collect();
            self.state.acked(self.other, Outcome::Delivered, &bytes, None);
            // Not before the first promise: it would make the name of the state directory durable.
            if n % 3 == 2 {
                self.letter(n).await;
                promise(Promise::Letter(n));
            }
            open.extend([Promise::Written(records), Promise::Sent(keys), Promise::Listed(n)]);
            if n % 4 != 3 {
                feed.record(FeedFact::Settled { content, counts: Settlement::default(), bytes: 1 });
                open.push(Promise::Settled(n));
            }
            if n % 2 == 1 {
                self.state.durable().await.map_err(|error| error.to_string())?;
                open.drain(..).for_each(&mut promise);
                // So that compaction gets its turn.
                tokio::time::sleep(Duration::from_millis(8)).await;
            }
        }
        Ok(())
    }
}
