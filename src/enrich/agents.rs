//! User agent → browser or client, operating system, device (ECS 8.17, field set `user_agent`). Comes in: the text as the
//! record has it. Goes out: members of `user_agent`, appended; of what is not recognised, nothing.
//!
//! The patterns are those of uap-core 0.18 (github.com/ua-parser/uap-core, Apache-2.0), which Elasticsearch's processor uses too,
//! so names are the same: `agents.json` has all of its browsers and systems, and of its 633 devices the 37 of Apple, Google, Samsung, of any
//! Android and of robots, because the other 596 cost 14 MiB (docs/decisions/016). Before them come the few of [`CLIENTS`] and [`SYSTEMS`].
//! They are compiled at the first text, so that who has none does not pay for them.

use std::fmt;
use std::sync::OnceLock;

use ua_parser::{Regexes, device, os, user_agent};

use super::cache::Cache;
use super::place::Object;
use super::schema::Text;

/// Texts that are remembered, at some 300 bytes each. A tenant has hundreds, most events come from a few dozen.
const REMEMBERED: usize = 4096;
/// Longer texts are somebody's game; what says something stands in front.
const LONGEST: usize = 1024;

const PATTERNS: &str = include_str!("agents.json");

/// What uap-core does not know, or takes for what it is built on, as Microsoft 365 shows it in its records: pattern and name (`None`:
/// the first group); the version is what the other groups found.
const CLIENTS: &[(&str, Option<&str>)] = &[
    // Built on Electron, or on WebView2, and saying so too.
    (r"\b(Teams)/(\d+)\.(\d+)(?:\.(\d+)(?:\.(\d+)|)|)", Some("Microsoft Teams")),
    (r"\b(TeamsMobile)-(?:Android|iOS)/v?(\d+)\.(\d+)(?:\.(\d+)(?:\.(\d+)|)|)", Some("Microsoft Teams Mobile")),
    (r"(?:^|[ ;])(PowerShell)/(\d+)\.(\d+)(?:\.(\d+)|)", None),
    (r"(Outlook-Android)/(\d+)\.(\d+)", None),
    // Exchange's and Entra's own words for old ways to sign in, of interest to whoever looks for password spraying.
    (r"^(BAV2ROPC|CBAInPROD|CBAInTAP)\b", None),
];

/// The same for systems: uap-core takes the version of Outlook for that of the system.
const SYSTEMS: &[&str] = &[r"\bOutlook-(iOS|Android)\b"];

/// See the module's head.
pub(super) struct Agents {
    extractor: OnceLock<Option<Box<Extractor>>>,
    cache: Cache<Box<str>>,
}

struct Extractor {
    client: user_agent::Extractor<'static>,
    system: os::Extractor<'static>,
    device: device::Extractor<'static>,
}

impl Agents {
    pub fn new() -> Agents {
        Agents { extractor: OnceLock::new(), cache: Cache::new(REMEMBERED) }
    }

    /// Appends what is recognised.
    pub fn write(&self, text: &str, out: &mut Vec<u8>) {
        let text = &text[..text.floor_char_boundary(LONGEST)];
        if text.is_empty() || self.cache.get(text, out) {
            return;
        }
        let start = out.len();
        if let Some(extractor) = self.extractor.get_or_init(build) {
            extractor.write(text, out);
        }
        self.cache.insert(text.into(), &out[start..]);
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents").field("compiled", &self.extractor.get().is_some()).finish_non_exhaustive()
    }
}

/// Compiles the patterns: some 30 ms.
fn build() -> Option<Box<Extractor>> {
    match try_build() {
        Ok(extractor) => Some(Box::new(extractor)),
        Err(error) => {
            tracing::error!(%error, "the patterns of user agents cannot be compiled, by a fault of ours; events go on without `user_agent.name`");
            None
        }
    }
}

fn try_build() -> Result<Extractor, Box<dyn std::error::Error>> {
    let patterns: Regexes<'static> = serde_json::from_str(PATTERNS)?;
    let own = CLIENTS.iter().map(|(regex, name)| user_agent::Parser {
        regex: (*regex).into(),
        family_replacement: name.map(Into::into),
        ..user_agent::Parser::default()
    });
    let systems = SYSTEMS.iter().map(|regex| os::Parser { regex: (*regex).into(), ..os::Parser::default() });
    Ok(Extractor {
        client: user_agent::Builder::new().push_all(own.chain(patterns.user_agent_parsers))?.build()?,
        system: os::Builder::new().push_all(systems.chain(patterns.os_parsers))?.build()?,
        device: device::Builder::new().push_all(patterns.device_parsers)?.build()?,
    })
}

impl Extractor {
    fn write(&self, text: &str, out: &mut Vec<u8>) {
        let mut members = Object::open(out);
        if let Some(device) = self.device.extract(text) {
            members.nested("device", |object| object.text("name", Text(Some(&device.device))));
        }
        let client = self.client.extract(text);
        let (name, client_version) = match &client {
            Some(found) => (Some(&*found.family), version([found.major, found.minor, found.patch, found.patch_minor])),
            None => product(text).map_or((None, None), |(name, version)| (Some(name), Some(version.to_owned()))),
        };
        members.text("name", Text(name.filter(|name| !name.is_empty())));
        if let Some(system) = self.system.extract(text) {
            let parts = [&system.major, &system.minor, &system.patch, &system.patch_minor];
            let version = version(parts.map(|part| part.as_deref()));
            members.nested("os", |object| {
                if let Some(version) = &version {
                    object.text("full", Text(Some(&format!("{} {version}", system.os))));
                }
                object.text("name", Text(Some(&system.os)));
                object.text("version", Text(version.as_deref()));
            });
        }
        members.text("version", Text(client_version.as_deref()));
    }
}

/// `120.0.0.0`: the parts up to the first that is missing.
fn version(parts: [Option<&str>; 4]) -> Option<String> {
    let there = parts.into_iter().map_while(|part| part.filter(|part| !part.is_empty()));
    let version = there.collect::<Vec<_>>().join(".");
    Some(version).filter(|version| !version.is_empty())
}

/// The first product of a text that follows RFC 9110, section 10.1.5 (`name/1.2 more`), where no pattern knows it. Browsers
/// all call themselves Mozilla, which says nothing.
fn product(text: &str) -> Option<(&str, &str)> {
    /// Longer ones are no names.
    const LONGEST: usize = 64;
    let word = text.split([' ', ';', '(', ',']).next()?;
    let (name, version) = word.split_once('/')?;
    let version = version.trim_start_matches('v').split('/').next()?;
    let is_name = !name.is_empty()
        && name.len() <= LONGEST
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_.+".contains(&letter));
    let is_version = version.starts_with(|letter: char| letter.is_ascii_digit()) && version.len() <= LONGEST;
    (is_name && is_version && name != "Mozilla").then_some((name, version))
}

#[cfg(test)]
mod tests;
