//! Starts on what a power loss left, has everything that the state lacks delivered again, and says what
//! is missing, doubled or refused.

use std::collections::HashMap;
use std::path::Path;

use auditferry::disk::double::{Double, Image};
use auditferry::state::ContentKey;

use super::story::{Process, Promise, RECORDS, feed_key};

/// What counts besides the promises.
#[derive(Clone, Copy)]
pub struct Law {
    /// Records 0 to this are delivered again where the state lacks them.
    pub records: u32,
    /// Nothing but power was lost: no line twice, and nothing may be called damaged.
    pub exact: bool,
}

/// `Err` says what is wrong with a start on `image`, after which `promises` had been made.
pub async fn judge(root: &Path, image: &Image, promises: &[Promise], law: Law) -> Result<(), String> {
    let mounted = Double::mount(root, image.clone());
    let process = Process::start(root).map_err(|error| format!("refused: {error}"))?;
    if law.exact {
        for reason in ["snapshot", "journal", "segment", "lost"] {
            if process.metrics.state_recoveries.with_label_values(&[reason]).get() > 0 {
                return Err(format!("taken for damage: {reason}"));
            }
        }
    }
    let known = process.state.feed(&feed_key()).read(|progress| progress.clone());
    let settled = |content: &ContentKey| {
        known.cells.values().any(|cell| cell.settled.as_ref().is_some_and(|settled| settled.contains(content)))
    };
    for promise in promises {
        let kept = match promise {
            Promise::Written(records) => records.clone().all(|n| process.has(process.file, n)),
            Promise::Sent(keys) => keys.clone().all(|n| process.has(process.other, n)),
            Promise::Listed(n) => {
                let content = ContentKey::of(&format!("blob-{n}"));
                known.pending.contains_key(&content) || settled(&content)
            }
            Promise::Settled(n) => settled(&ContentKey::of(&format!("blob-{n}"))),
            Promise::Letter(_) => true,
        };
        if !kept {
            return Err(format!("forgotten: {promise:?}"));
        }
    }
    for n in (0..law.records).step_by(RECORDS as usize) {
        let lacks: Vec<u32> = (n..n + RECORDS).filter(|n| !process.has(process.file, *n)).collect();
        if !lacks.is_empty() {
            process.write(&lacks).await.map_err(|error| format!("not delivered again: {error}"))?;
        }
    }
    drop(process);
    check_files(&mounted.disk.image(), promises, law)
}

fn check_files(image: &Image, promises: &[Promise], law: Law) -> Result<(), String> {
    let mut lines: HashMap<u32, usize> = HashMap::new();
    let mut letters = String::new();
    for (path, bytes) in image.files() {
        let name = path.to_string_lossy();
        if name == "var/dead.ndjson" {
            letters = String::from_utf8_lossy(&bytes).into_owned();
        }
        if !name.starts_with("audit.ndjson") {
            continue;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let id = serde_json::from_slice::<serde_json::Value>(line).ok();
            let id = id.and_then(|record| record["Id"].as_str()?.parse().ok());
            match id {
                Some(id) => *lines.entry(id).or_default() += 1,
                None if law.exact => return Err(format!("torn line in {name}")),
                None => {}
            }
        }
    }
    for n in 0..law.records {
        match lines.get(&n).copied().unwrap_or(0) {
            0 => return Err(format!("record {n} is not in the file")),
            1 => {}
            times if law.exact => return Err(format!("record {n} is {times} times in the file")),
            _ => {}
        }
    }
    for promise in promises {
        if let Promise::Letter(n) = promise
            && !letters.lines().any(|line| {
                serde_json::from_str::<serde_json::Value>(line)
                    .is_ok_and(|letter| letter["answer"] == format!("letter {n} end"))
            })
        {
            return Err(format!("dead letter {n} was counted and is gone"));
        }
    }
    Ok(())
}
