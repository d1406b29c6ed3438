//! The mirror against what a directory does: whatever was fsynced is there after a start from the log.

use proptest::prelude::*;

use super::*;
use crate::disk::{self, Fsync};

/// Keeps the last message of each key, in the order of a compacted log.
#[derive(Default)]
struct Kept(Mutex<Vec<Message>>);

impl Log for Kept {
    fn write(&self, messages: Vec<Message>) -> io::Result<()> {
        let mut kept = lock(&self.0);
        for message in messages {
            kept.retain(|(key, _)| *key != message.0);
            kept.push(message);
        }
        Ok(())
    }
}

impl Kept {
    fn found(&self) -> Found {
        let mut found = Found::default();
        lock(&self.0).iter().for_each(|(key, value)| found.see(key, value.as_deref()));
        found
    }
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    disk::list(root).unwrap().into_iter().map(|path| (path.clone(), disk::read(&path).unwrap())).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write { name: u8, offset: usize, bytes: Vec<u8> },
    Cut { name: u8, length: u64 },
    Rename { from: u8, to: u8 },
    Remove { name: u8 },
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u8..4;
    prop_oneof![
        4 => (name.clone(), 0_usize..60, prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(name, offset, bytes)| Step::Write { name, offset, bytes }),
        1 => (name.clone(), 0_u64..50).prop_map(|(name, length)| Step::Cut { name, length }),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => name.prop_map(|name| Step::Remove { name }),
        2 => Just(Step::Sync),
    ]
}

proptest! {
    /// What a start finds is what was there at the last fsync, byte for byte, however the log was compacted.
    #[test]
    fn a_start_finds_what_was_fsynced(steps in prop::collection::vec(step(), 1..60), n in any::<u64>()) {
        let root = PathBuf::from(format!("mirror-of-a-test-{n:016x}"));
        let log = Arc::new(Kept::default());
        let mut mounted = Mirror::mount(&root, Found::default(), Arc::clone(&log) as Arc<dyn Log>).unwrap();
        let path = |name: u8| root.join(format!("f{name}"));
        let mut expected = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write { name, offset, bytes } => {
                    let file = disk::open_to_write(&path(name)).or_else(|_| disk::create(&path(name))).unwrap();
                    file.write_all_at(&bytes, offset as u64).unwrap();
                }
                Step::Cut { name, length } => {
                    if let Ok(file) = disk::open_to_write(&path(name)) {
                        file.set_len(length).unwrap();
                    }
                }
                Step::Rename { from, to } if from != to => drop(disk::rename(&path(from), &path(to))),
                Step::Rename { .. } => {}
                Step::Remove { name } => disk::remove(&path(name)).unwrap(),
                Step::Sync => {
                    disk::fsync_dir(&root, Fsync::JournalName).unwrap();
                    expected = contents(&root);
                    drop(mounted);
                    mounted = Mirror::mount(&root, log.found(), Arc::clone(&log) as Arc<dyn Log>).unwrap();
                    prop_assert_eq!(&contents(&root), &expected);
                }
            }
        }
        drop(mounted);
        let _last = Mirror::mount(&root, log.found(), log).unwrap();
        prop_assert_eq!(contents(&root), expected);
    }
}

#[test]
fn a_file_that_is_gone_leaves_nothing_in_the_log() {
    let root = Path::new("mirror-of-a-test-gone");
    let log = Arc::new(Kept::default());
    let _mounted = Mirror::mount(root, Found::default(), Arc::clone(&log) as Arc<dyn Log>).unwrap();
    for n in 0..3 {
        let file = disk::create(&root.join("f")).unwrap();
        file.write_all_at(&vec![n; 3 * EXTENT], 0).unwrap();
        file.fsync(Fsync::SegmentBytes).unwrap();
    }
    disk::remove(&root.join("f")).unwrap();
    disk::fsync_dir(root, Fsync::SegmentName).unwrap();
    let held: Vec<String> =
        lock(&log.0).iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()).collect();
    assert_eq!(held, [DIR]);
}

#[test]
fn a_damaged_or_later_directory_is_told_apart() {
    let mut dir = Inner::default().encode();
    assert_eq!(decode(Some(&dir)), Ok(Vec::new()));
    dir[4] = 9;
    assert_eq!(decode(Some(&dir)), Err(Unreadable::Damaged));
    let length = dir.len() - 4;
    let crc = crc32fast::hash(&dir[..length]);
    dir[length..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode(Some(&dir)), Err(Unreadable::Newer(9)));
}

/// The whole state engine on a mirror: facts of one run are known to the next, over compactions.
#[tokio::test]
async fn the_state_lives_on_it_over_starts_and_compactions() {
    use crate::ack::Outcome;
    use crate::metrics::Metrics;
    use crate::record::RecordKey;
    use crate::sink::{SinkId, SinkSet};
    use crate::state::State;

    let root = PathBuf::from("mirror-of-a-test-state");
    let log = Arc::new(Kept::default());
    let key = |n: u64| {
        let mut key = RecordKey::default();
        key.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        key
    };
    let mut known = 0;
    for run in 0..4_u64 {
        let mounted = Mirror::mount(&root, log.found(), Arc::clone(&log) as Arc<dyn Log>).unwrap();
        let config = crate::config::StateConfig { dir: root.clone(), max_delivered_bytes: 1 << 30 };
        let state = State::open_small(&config, Metrics::new()).unwrap();
        let sink = state.sink_id("disk").unwrap();
        let keys: Vec<u8> = (0..known).flat_map(|n| key(n).0).collect();
        assert!(state.delivered().had(sink, &keys).iter().all(|had| *had), "run {run}");
        assert_eq!(SinkSet::of(sink), SinkSet::of(SinkId(0)));
        for _ in 0..20 {
            state.acked(sink, Outcome::Delivered, &[key(known), key(known + 1)], None);
            known += 2;
            state.durable().await.unwrap();
        }
        // Killed: nothing is closed, and what was durable is in the log.
        let found = log.found();
        drop(state);
        drop(mounted);
        drop(found);
    }
}

/// Takes nothing, once.
#[derive(Default)]
struct Once(AtomicBool);

impl Log for Once {
    fn write(&self, _: Vec<Message>) -> io::Result<()> {
        if self.0.swap(true, Ordering::AcqRel) { Ok(()) } else { Err(io::Error::other("not taken")) }
    }
}

#[test]
fn after_an_error_of_the_log_nothing_is_called_kept() {
    let root = PathBuf::from("mirror-of-a-failed-log");
    let _mounted = Mirror::mount(&root, Found::default(), Arc::new(Once::default())).unwrap();
    let file = disk::create(&root.join("a")).unwrap();
    file.write_all_at(b"bytes", 0).unwrap();
    assert!(disk::fsync_dir(&root, Fsync::JournalName).is_err());
    // Of another thread, whose bytes the first one took along.
    let again = disk::fsync_dir(&root, Fsync::JournalName).unwrap_err();
    assert!(again.to_string().contains("not taken"), "{again}");
}
