//! What stands at the other end: product and version, as `GET /` tells them. Pure.
//!
//! Comes in: the answer. Goes out: an [`Engine`]. OpenSearch says its name as `distribution` and in its tagline, also where
//! `compatibility.override_main_response_version` makes it say 7.10.2; so the number alone is not relied on, and neither is the
//! header `X-Elastic-Product`, which OpenSearch and old versions do not send.

use std::fmt;

use serde::Deserialize;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    pub product: Product,
    /// Major, minor; `(0, 0)` where nothing readable was said.
    pub version: (u32, u32),
    /// As it was said.
    pub(super) number: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Elasticsearch,
    /// Elastic Cloud Serverless: always the newest, and without what is about nodes and shards.
    Serverless,
    OpenSearch,
    Unknown,
}

#[derive(Deserialize)]
struct Main {
    version: Version,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: String,
    #[serde(default)]
    build_flavor: String,
}

impl Engine {
    /// Nobody knows.
    pub fn unknown() -> Engine {
        Engine { product: Product::Unknown, version: (0, 0), number: String::new() }
    }

    /// Reads the body of an answer to `GET /`.
    pub fn read(body: &[u8]) -> Engine {
        let Ok(Main { version, tagline }) = serde_json::from_slice::<Main>(body) else { return Engine::unknown() };
        let product = if version.distribution == "opensearch" || tagline.contains("OpenSearch") {
            Product::OpenSearch
        } else if version.build_flavor == "serverless" {
            Product::Serverless
        } else if version.distribution.is_empty() && tagline == "You Know, for Search" {
            Product::Elasticsearch
        } else {
            Product::Unknown
        };
        let mut numbers = version.number.split('.').map(|part| part.parse().unwrap_or(0));
        let numbers = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let number = version.number.chars().filter(|c| !c.is_control()).take(32).collect();
        Engine { product, version: numbers, number }
    }

    /// Whether it is one that this sink was made for: Elasticsearch 7 to 9, OpenSearch 1 to 3.
    pub fn is_known(&self) -> bool {
        match self.product {
            Product::Elasticsearch => (7..=9).contains(&self.version.0),
            // With the compatibility override it says 7.10.
            Product::OpenSearch => (1..=3).contains(&self.version.0) || self.version == (7, 10),
            Product::Serverless => true,
            Product::Unknown => false,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.product {
            Product::Elasticsearch => write!(f, "Elasticsearch {}", self.number),
            Product::Serverless => f.write_str("Elasticsearch Serverless"),
            Product::OpenSearch => write!(f, "OpenSearch {}", self.number),
            Product::Unknown if self.number.is_empty() => f.write_str("an unknown server"),
            Product::Unknown => write!(f, "an unknown server of version {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_versions_are_told_apart() {
        let main = |number: &str, more: &str, tagline: &str| {
            Engine::read(
                format!("{{\"version\":{{\"number\":\"{number}\"{more}}},\"tagline\":\"{tagline}\"}}").as_bytes(),
            )
        };
        const ELASTIC: &str = "You Know, for Search";
        const OPEN: &str = "The OpenSearch Project: https://opensearch.org/";
        let distribution = ",\"distribution\":\"opensearch\"";
        for (engine, said, known) in [
            (main("8.15.3", ",\"build_flavor\":\"default\"", ELASTIC), "Elasticsearch 8.15.3", true),
            (main("7.17.0", "", ELASTIC), "Elasticsearch 7.17.0", true),
            (main("9.2.1", "", ELASTIC), "Elasticsearch 9.2.1", true),
            (main("6.8.0", "", ELASTIC), "Elasticsearch 6.8.0", false),
            (main("10.0.0", "", ELASTIC), "Elasticsearch 10.0.0", false),
            (main("8.11.0", ",\"build_flavor\":\"serverless\"", ELASTIC), "Elasticsearch Serverless", true),
            (main("2.19.3", distribution, OPEN), "OpenSearch 2.19.3", true),
            (main("3.1.0", distribution, OPEN), "OpenSearch 3.1.0", true),
            (main("7.10.2", distribution, OPEN), "OpenSearch 7.10.2", true),
            (main("7.10.2", "", OPEN), "OpenSearch 7.10.2", true),
            (main("1.0", ",\"distribution\":\"other\"", "x"), "an unknown server of version 1.0", false),
            (Engine::read(b"<html>"), "an unknown server", false),
        ] {
            assert_eq!((engine.to_string().as_str(), engine.is_known()), (said, known));
        }
        assert_eq!(main("8.15.3", "", ELASTIC).version, (8, 15));
    }
}
