//! Where a token may go. `contentUri` and `NextPageUri` come from an answer and are asked for with a
//! token, so an answer could lead the token anywhere. Only scheme, host and port of the configured
//! root and the feed's own path pass; everything else is refused before anything is sent.

use url::Url;

use super::error::{ApiError, printable};

/// The one root a tenant's token may be sent to.
#[derive(Clone, Debug)]
pub struct Pin {
    root: Url,
    /// Lower case.
    tenant_id: String,
    publisher_id: String,
}

/// A URL that passed. Only these are ever sent a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedUrl(Url);

impl PinnedUrl {
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl Pin {
    /// `root`: the API's scheme, host and port, optionally with a path before `/api/`.
    pub fn new(root: Url, tenant_id: &str, publisher_id: &str) -> Pin {
        Pin { root, tenant_id: tenant_id.to_ascii_lowercase(), publisher_id: publisher_id.to_owned() }
    }

    /// Our own URL of `operation` below the feed, with the publisher and `query`.
    pub fn feed_url(&self, operation: &str, query: &[(&str, &str)]) -> PinnedUrl {
        let mut url = self.root.clone();
        let path = format!("{}api/v1.0/{}/activity/feed/{operation}", self.prefix(), self.tenant_id);
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(query).append_pair("PublisherIdentifier", &self.publisher_id);
        PinnedUrl(url)
    }

    /// Our own URL of a blob, for when the one the service named may not be followed.
    pub fn content_url(&self, content_id: &str) -> PinnedUrl {
        let PinnedUrl(mut url) = self.feed_url("audit", &[]);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(content_id);
        }
        PinnedUrl(url)
    }

    /// The configured root's path, with a slash at both ends.
    fn prefix(&self) -> String {
        format!("{}/", self.root.path().trim_end_matches('/'))
    }

    /// Checks a URL that the service made. The path may say `v1` or `v1.0` (the documentation's own
    /// sample mixes them, activity-api 1.1); the publisher is appended where it is missing, or the
    /// request would count against everybody's quota (1.9).
    pub fn check(&self, text: &str) -> Result<PinnedUrl, ApiError> {
        let refuse = |reason| Err(ApiError::ForbiddenUrl { url: printable(text), reason });
        if text.bytes().any(|b| b == b'\\' || b <= b' ' || b == 0x7f) {
            return refuse("it has a backslash, a blank or a control character");
        }
        let Ok(mut url) = Url::parse(text) else {
            return refuse("it is not an absolute URL");
        };
        if url.scheme() != self.root.scheme() {
            return refuse("its scheme is not that of the configured root");
        }
        if url.host() != self.root.host() || url.port_or_known_default() != self.root.port_or_known_default() {
            return refuse("its host or port is not that of the configured root");
        }
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return refuse("it carries user information");
        }
        if url.fragment().is_some() {
            return refuse("it has a fragment");
        }
        if !self.is_feed_path(url.path()) {
            return refuse("its path is not below this tenant's feed");
        }
        let has_publisher = url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("PublisherIdentifier"));
        if !has_publisher {
            url.query_pairs_mut().append_pair("PublisherIdentifier", &self.publisher_id);
        }
        Ok(PinnedUrl(url))
    }

    fn is_feed_path(&self, path: &str) -> bool {
        let lower = path.to_ascii_lowercase();
        let Some(below) = lower.strip_prefix(&self.prefix().to_ascii_lowercase()) else { return false };
        let mut segments = below.split('/');
        let head = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
        let is_feed = matches!(head, [Some("api"), Some("v1.0" | "v1"), Some(tenant), Some("activity"), Some("feed")]
            if tenant == self.tenant_id);
        // An escaped slash, dot or backslash could be read as a step upwards behind a proxy.
        let steps = ["%2e", "%2f", "%5c", "//", "/../"];
        is_feed && segments.next().is_some_and(|s| !s.is_empty()) && !steps.iter().any(|s| lower.contains(s))
    }
}

/// What stands between `//` and the next `/`, as written.
fn authority(text: &str) -> &str {
    let after = text.split_once("//").map_or("", |(_, rest)| rest);
    after.split(['/', '?', '#']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    fn pin() -> Pin {
        Pin::new(Url::parse("https://manage.office.com").unwrap(), TENANT, "pub")
    }

    #[test]
    fn the_services_own_forms_pass_and_carry_the_publisher() {
        let feed = format!("https://manage.office.com/api/v1.0/{TENANT}/activity/feed");
        for text in [
            format!("{feed}/audit/2020$2020$audit_exchange$Audit_Exchange$emea0036"),
            format!("{feed}/Audit/20%24x"),
            format!(
                "https://manage.office.com:443/api/v1/{}/activity/feed/subscriptions/content?nextPage=a",
                TENANT.to_uppercase()
            ),
        ] {
            let url = pin().check(&text).unwrap();
            assert!(url.as_url().query().unwrap().contains("PublisherIdentifier=pub"), "{text}");
        }
        let own = pin().check(&format!("{feed}/audit/x?publisheridentifier=mine")).unwrap();
        assert_eq!(own.as_url().query(), Some("publisheridentifier=mine"));
    }

    proptest! {
        #[test]
        fn what_passes_is_always_the_pinned_host(text in "\\PC{0,80}") {
            if let Ok(url) = pin().check(&text) {
                prop_assert_eq!(url.as_url().host_str(), Some("manage.office.com"));
            }
        }

        #[test]
        fn no_authority_but_the_roots_own_passes(authority in "[a-z0-9.@:%-]{1,30}") {
            let text = format!("https://{authority}/api/v1.0/{TENANT}/activity/feed/audit/x");
            let own = ["manage.office.com", "manage.office.com:443", "manage.office.com:"].contains(&authority.as_str());
            prop_assert_eq!(pin().check(&text).is_ok(), own);
        }
    }
}
