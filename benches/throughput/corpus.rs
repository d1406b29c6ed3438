//! The records that rows 1 and 2 read: the simulator's own, in the mix of a real tenant (40 % files,
//! 25 % sign-ins, mail, administration, DLP), about 2 KB each, and a few of each family that it does not make
//! (families.rs). Same in every run.

use crate::families;
use auditferry::simulator::{WorldConfig, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// 2026-03-01T00:00:00Z. A fixed time, so that every run reads the same bytes.
const START_MS: i64 = 1_772_323_200_000;

/// The id of the tenant in a world of [`SEED`].
pub const TENANT: &str = "ff203220-05fb-467a-9945-fa092103a6eb";
const SEED: u64 = 7;

/// Records of other families in each blob of [`blobs`]: one in forty.
const OTHERS: usize = 40;

/// `count` JSON arrays of `records` records, of all content types in turn.
pub fn blobs(runtime: &Runtime, count: usize, records: usize) -> Vec<String> {
    let others = records / OTHERS;
    let total = count * (records - others);
    let config = WorldConfig::new().seed(SEED).start_ms(START_MS).records(total as u64);
    let simulator = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        serve(config, listener).await.unwrap()
    });
    assert_eq!(simulator.tenants()[0].tenant_id, TENANT);
    let all: Vec<String> = simulator.truth().map(|record| String::from_utf8(record.record).unwrap()).collect();
    assert_eq!(all.len(), total);
    // The truth comes type by type: every `count`-th record makes blobs that all have the same mix.
    let blob = |n: usize| {
        let mut blob: Vec<String> = all.iter().skip(n).step_by(count).cloned().collect();
        blob.extend((n * others..(n + 1) * others).map(families::record));
        format!("[{}]", blob.join(","))
    };
    (0..count).map(blob).collect()
}
