//! Every call of a story fails once, in every way that a disk has, and is mended: nothing goes on as if
//! nothing had been, what is said names the path, and the next start knows everything that was promised.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use auditferry::disk::double::{Call, Double, Fault};

use super::judge::{Law, judge};
use super::story::{Process, RECORDS, place};
use super::{empty, runtime};
use crate::support::{figure, size};

const ROUNDS: u32 = 4;
const EINTR: i32 = 4;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// How each kind of call can fail.
fn ways(call: Call) -> &'static [i32] {
    match call {
        Call::Read => &[EIO, EINTR],
        Call::Write => &[EIO, ENOSPC, EROFS, EINTR],
        Call::Fsync | Call::FsyncDir => &[EIO, ENOSPC],
        Call::Create | Call::CreateDir | Call::Rename | Call::Remove | Call::Lock => &[ENOSPC, EROFS, EIO],
        Call::Open | Call::List | Call::SetLen => &[EIO],
    }
}

/// Starts, works, closes.
async fn live(root: &Path, disk: &Double, promised: &mut Vec<super::Promise>) -> Result<(), String> {
    let process = Process::start(root)?;
    let worked = process.work(disk, 0..ROUNDS, promised).await;
    let closed = process.state.close().await.map_err(|error| error.to_string());
    worked.and(closed)
}

#[test]
fn power_every_call_fails_once_and_nothing_is_lost() {
    let runtime = runtime();
    let (root, mut calls) = (place(), BTreeMap::<Call, usize>::new());
    let mounted = Double::mount(&root, empty());
    mounted.disk.listen();
    runtime.block_on(live(&root, &mounted.disk, &mut Vec::new())).unwrap();
    mounted.disk.calls().iter().for_each(|(call, _)| *calls.entry(*call).or_default() += 1);
    drop(mounted);

    let (mut tried, mut said, mut stride) = (0, 0, 0usize);
    for (call, count) in calls {
        for (errno, after) in ways(call).iter().flat_map(|errno| (0..count).map(move |after| (*errno, after))) {
            stride += 1;
            if !stride.is_multiple_of(size(9, 1)) {
                continue;
            }
            let root = place();
            let mounted = Double::mount(&root, empty());
            // A full disk stays full for a while.
            let times = if errno == ENOSPC { 3 } else { 1 };
            mounted.disk.fail(Fault { call: Some(call), path: String::new(), after, times, errno });
            let mut promised = Vec::new();
            let lived = runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(30), live(&root, &mounted.disk, &mut promised)).await
            });
            let lived = lived.unwrap_or_else(|_| panic!("{call:?} {after} errno {errno}: nothing goes on"));
            tried += 1;
            if let Err(text) = &lived {
                said += 1;
                assert!(text.contains(&*root.to_string_lossy()), "{call:?} errno {errno} names no path: {text}");
            }
            if errno == EINTR {
                assert_eq!(lived, Ok(()), "{call:?}: a signal is no failure");
            }
            mounted.disk.mend();
            let image = mounted.disk.image();
            drop(mounted);
            let law = Law { records: ROUNDS * RECORDS, exact: true };
            let judged = runtime.block_on(judge(&root, &image, &promised, law));
            assert_eq!(judged, Ok(()), "{call:?} {after} errno {errno}, which ended with {lived:?}");
        }
    }
    figure("power", format_args!("{tried} calls failed, {said} of them ended the process or the sink's batch by name"));
    assert!(said > 5 && said < tried);
}
