//! `verify`: what the service still lists, against what the state says became of it. Reads the state directory
//! without taking it, so it may be asked while a process runs; asks no sink. Field names of the JSON are
//! public: they change only with a note in the CHANGELOG.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Exit;
use super::logging::escaped;
use crate::config::Config;
use crate::feed::{ContentType, FeedKey};
use crate::metrics::Metrics;
use crate::source::relist::{Account, books_of, reconcile, relist};
use crate::state::{FeedProgress, State};

/// Unknown blobs named one by one for people.
const NAMED: usize = 20;

#[derive(Serialize)]
struct Verified {
    complete: bool,
    feeds: Vec<VerifiedFeed>,
}

#[derive(Serialize)]
struct VerifiedFeed {
    tenant: String,
    content_type: ContentTypeName,
    /// Why it could not be listed.
    unreachable: Option<String>,
    #[serde(flatten)]
    account: Option<Account>,
}

type ContentTypeName = &'static str;

/// Lists again, compares, prints; the exit code is the answer.
pub(super) async fn verify(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let config = match crate::config::load(file) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(Exit::Usage);
        }
    };
    let verified = match verify_feeds(&config).await {
        Ok(verified) => verified,
        Err(error) => return super::state::unusable(error),
    };
    let out = &mut std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut *out, &verified)?;
        writeln!(out)?;
    } else {
        print(&verified, out)?;
    }
    Ok(exit(&verified))
}

/// What the state says now, wherever it is kept.
async fn inspect(config: &Config) -> anyhow::Result<Vec<(FeedKey, FeedProgress)>> {
    let kept = super::state::kept(config).await?;
    let books = State::inspect(&config.state.dir);
    drop(kept);
    Ok(books?)
}

async fn verify_feeds(config: &Config) -> anyhow::Result<Verified> {
    let before = inspect(config).await?;
    let metrics = Metrics::new();
    let http = crate::http::client(&config.collect.tls, &config.collect.proxy, None)?;
    let mut listed = Vec::new();
    for tenant in &config.tenants {
        let begun = |content: &ContentType| {
            Some((*content, books_of(&before, &tenant.tenant.id, *content).and_then(|books| books.from)?))
        };
        let from: HashMap<_, _> = tenant.content_types.iter().filter_map(begun).collect();
        let feeds = relist(&config.collect, tenant, &config.clock, http.clone(), &metrics, &from).await;
        listed.push((Arc::clone(&tenant.tenant), feeds));
    }
    // Only now: what a running process learned meanwhile is not to look like a gap.
    let books = inspect(config).await?;
    let none = FeedProgress::default();
    let mut feeds = Vec::new();
    for (tenant, relisted) in listed {
        for feed in relisted {
            let known = books_of(&books, &tenant.id, feed.content_type).unwrap_or(&none);
            let (unreachable, account) = match feed.cells {
                Ok(cells) => (None, Some(reconcile(known, &cells, feed.at))),
                Err(text) => (Some(text), None),
            };
            let content_type = feed.content_type.as_str();
            feeds.push(VerifiedFeed { tenant: tenant.name.clone(), content_type, unreachable, account });
        }
    }
    let complete = feeds.iter().all(|feed| feed.account.as_ref().is_some_and(|account| !account.has_gap()));
    Ok(Verified { complete, feeds })
}

/// A gap is the answer whatever else could not be asked.
fn exit(verified: &Verified) -> Exit {
    if verified.feeds.iter().any(|feed| feed.account.as_ref().is_some_and(Account::has_gap)) {
        Exit::No
    } else if verified.feeds.iter().any(|feed| feed.unreachable.is_some()) {
        Exit::Unreachable
    } else {
        Exit::Good
    }
}

fn print(verified: &Verified, out: &mut dyn Write) -> std::io::Result<()> {
    for feed in &verified.feeds {
        writeln!(out, "{}  {}", feed.tenant, feed.content_type)?;
        let Some(account) = &feed.account else {
            let why = feed.unreachable.as_deref().unwrap_or_default();
            writeln!(out, "  could not be listed: {}", escaped(why))?;
            continue;
        };
        writeln!(
            out,
            "  listed {}: settled {}, in closed hours {}, pending {}, not yet listed by us {}",
            account.listed, account.settled, account.closed, account.pending, account.not_yet_listed
        )?;
        writeln!(
            out,
            "  lost {}, unknown {}, refused as too old {} s; known and no longer listed {}",
            account.lost, account.unknown, account.refused_seconds, account.no_longer_listed
        )?;
        for blob in account.unknown_blobs.iter().take(NAMED) {
            let created = jiff::Timestamp::from_millisecond(blob.created_ms).unwrap_or_default();
            writeln!(out, "    unknown: {}  created {created}", blob.content_id.escape_debug())?;
        }
    }
    let word = match exit(verified) {
        Exit::Good => "everything that the service lists is accounted for",
        Exit::No => "something is missing; `state show` names what was given up",
        _ => "not everything could be listed",
    };
    writeln!(out, "{word}")
}
