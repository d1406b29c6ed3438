//! Lanes: each carries one batch at a time, from its first byte to its acknowledgement.
//!
//! A lane is a data channel (a GUID), the cookies that a load balancer set, and, once the receiver
//! acknowledges, a connection of its own: acknowledgements are known only to the server that took the
//! batch. One batch a channel at a time, because a server that restarts counts its `ackId`s from the
//! beginning: with two batches on one channel, the answer for the new one could be taken for the old.
//! For the same reason a lane that lost an answer is dropped, and its channel with it.
//!
//! Never: a channel that two batches use at once, a cookie sent anywhere but to the receiver that set it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use crate::config::{ProxyConfig, TlsConfig};
use crate::http::{HttpClient, HttpError, Outfit};

/// Names the data channel ("About HTTP Event Collector Indexer Acknowledgment": sending events with a channel).
const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");

/// Cookies kept a lane; a load balancer sets one or two.
const MAX_COOKIES: usize = 16;
/// Bytes of one cookie: what browsers take (RFC 6265, 6.1).
const MAX_COOKIE: usize = 4096;

/// See the module's head.
pub(super) struct Lane {
    pub client: HttpClient,
    /// The GUID; `None` where no channel is wanted.
    channel: Option<String>,
    has_own_connection: bool,
    cookies: Vec<(String, String)>,
}

impl Lane {
    fn new(client: HttpClient, with_channel: bool, has_own_connection: bool) -> Lane {
        Lane { client, channel: with_channel.then(guid), has_own_connection, cookies: Vec::new() }
    }

    /// Adds channel and cookies.
    pub fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        let Some(channel) = &self.channel else { return request };
        let request = request.header(CHANNEL, channel.as_str());
        if self.cookies.is_empty() {
            return request;
        }
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        match HeaderValue::from_str(&pairs.join("; ")) {
            Ok(mut cookies) => {
                cookies.set_sensitive(true);
                request.header(COOKIE, cookies)
            }
            Err(_) => request,
        }
    }

    /// The GUID, where there is one.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// Keeps the cookies of an answer. A name is set anew or, with an empty value, forgotten; what a
    /// cookie says of domain, path and age is for clients that speak to more than one server.
    pub fn hear(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Some((name, value)) = header.to_str().ok().and_then(|text| text.split(';').next()?.split_once('='))
            else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() && name.len() + value.len() <= MAX_COOKIE && self.cookies.len() < MAX_COOKIES {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

/// The lanes of one sink.
pub(super) struct Lanes {
    outfit: Outfit,
    timeout: Duration,
    /// Of all lanes until the receiver is known to acknowledge.
    shared: HttpClient,
    with_channel: bool,
    own_connections: AtomicBool,
    idle: Mutex<Vec<Lane>>,
}

impl Lanes {
    /// `with_channel`: whether acknowledgements may be asked for.
    pub fn new(
        tls: &TlsConfig,
        proxy: &ProxyConfig,
        timeout: Duration,
        with_channel: bool,
    ) -> Result<Lanes, HttpError> {
        let outfit = Outfit::read(tls, proxy)?;
        Ok(Lanes {
            shared: outfit.client(Some(timeout))?,
            outfit,
            timeout,
            with_channel,
            own_connections: AtomicBool::new(false),
            idle: Mutex::default(),
        })
    }

    /// From now on each lane has a connection of its own.
    pub fn separate(&self) {
        if !self.own_connections.swap(true, Ordering::AcqRel) {
            self.idle().retain(|lane| lane.has_own_connection);
        }
    }

    /// A free lane.
    pub async fn take(&self) -> Result<Lane, HttpError> {
        let idle = self.idle().pop();
        if let Some(lane) = idle {
            return Ok(lane);
        }
        let own = self.own_connections.load(Ordering::Acquire);
        let client = match own {
            true => {
                // Reads the system's authorities: milliseconds.
                let (outfit, timeout) = (self.outfit.clone(), Some(self.timeout));
                let built = tokio::task::spawn_blocking(move || outfit.client_of_one_connection(timeout)).await;
                built.unwrap_or_else(|join| Err(HttpError::Build(join.to_string())))?
            }
            false => self.shared.clone(),
        };
        Ok(Lane::new(client, self.with_channel, own))
    }

    /// Gives a lane back of which every batch has its answer. Any other is dropped instead.
    pub fn put(&self, lane: Lane) {
        if lane.has_own_connection == self.own_connections.load(Ordering::Acquire) {
            self.idle().push(lane);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random GUID (version 4), from the standard library's own source of randomness: the keys of its
/// hash tables, drawn from the operating system once and different at each use.
fn guid() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let (high, low) = (random() & !0xF000 | 0x4000, random() & !(0b11 << 62) | 0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        Lanes::new(&TlsConfig::default(), &ProxyConfig::Off, Duration::from_secs(1), true).unwrap()
    }

    fn set(cookies: &[&'static str]) -> HeaderMap {
        cookies.iter().map(|cookie| (SET_COOKIE, HeaderValue::from_static(cookie))).collect()
    }

    fn header(lane: &Lane, name: HeaderName) -> Option<String> {
        let request = lane.dress(lane.client.get("http://localhost/")).build().unwrap();
        request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_channel_is_a_guid_of_its_own_and_stays_with_its_lane() {
        let lanes = lanes();
        let (one, two) = (lanes.take().await.unwrap(), lanes.take().await.unwrap());
        let channel = header(&one, CHANNEL).unwrap();
        let groups: Vec<_> = channel.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!((&channel[14..15], "89ab".contains(&channel[19..20])), ("4", true), "{channel}");
        assert_ne!(Some(&channel), header(&two, CHANNEL).as_ref());
        lanes.put(one);
        assert_eq!(header(&lanes.take().await.unwrap(), CHANNEL), Some(channel));
        let many: std::collections::HashSet<_> = (0..10_000).map(|_| guid()).collect();
        assert_eq!(many.len(), 10_000);
    }

    #[tokio::test]
    async fn cookies_stay_with_the_lane_that_was_given_them() {
        let lanes = lanes();
        let mut lane = lanes.take().await.unwrap();
        assert_eq!(header(&lane, COOKIE), None);
        lane.hear(&set(&["AWSALB=one; Path=/; Max-Age=5", "other = x y", "no-value", "session=1"]));
        lane.hear(&set(&["AWSALB=two", "session="]));
        assert_eq!(header(&lane, COOKIE).as_deref(), Some("other=x y; AWSALB=two"));
        assert_eq!(header(&lanes.take().await.unwrap(), COOKIE), None);
    }

    #[tokio::test]
    async fn lanes_that_share_a_connection_are_not_used_once_acknowledgements_are_known() {
        let lanes = lanes();
        let (before, idle) = (lanes.take().await.unwrap(), lanes.take().await.unwrap());
        lanes.put(idle);
        lanes.separate();
        lanes.put(before);
        assert!(lanes.take().await.unwrap().has_own_connection);
    }
}
