//! The names of what is collected: tenant, content type, feed, blob. Plain values, no behaviour
//! beyond parsing and printing; every room uses them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A content type of the Management Activity API (reference, "Working with the API").
/// The service echoes whatever case it was sent, so comparison ignores case and
/// [`ContentType::as_str`] is the documented spelling, the one we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContentType {
    AzureActiveDirectory,
    Exchange,
    SharePoint,
    General,
    Dlp,
}

impl ContentType {
    /// All five, in the order of the documentation.
    pub const ALL: [ContentType; 5] = [
        ContentType::AzureActiveDirectory,
        ContentType::Exchange,
        ContentType::SharePoint,
        ContentType::General,
        ContentType::Dlp,
    ];

    /// The documented spelling, as sent in `contentType=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ContentType::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            ContentType::Exchange => "Audit.Exchange",
            ContentType::SharePoint => "Audit.SharePoint",
            ContentType::General => "Audit.General",
            ContentType::Dlp => "DLP.All",
        }
    }

    /// Reads any casing; `None` for a name that is not one of the five.
    pub fn parse(name: &str) -> Option<ContentType> {
        ContentType::ALL.into_iter().find(|t| t.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tenant as configured. `id` is the directory GUID in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Label in metrics, `organization.name` in events.
    pub name: String,
    /// Directory id, lower-case GUID.
    pub id: String,
    /// Domains that count as internal.
    pub domains: Vec<String>,
}

/// One stream of the service: a content type of a tenant.
#[derive(Clone, Debug)]
pub struct Feed {
    pub tenant: Arc<Tenant>,
    pub content_type: ContentType,
}

impl Feed {
    /// What state is kept under: tenant id and content type, so that renaming a tenant loses nothing.
    pub fn key(&self) -> FeedKey {
        FeedKey { tenant_id: Arc::from(self.tenant.id.as_str()), content_type: self.content_type }
    }
}

/// The durable name of a feed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FeedKey {
    pub tenant_id: Arc<str>,
    pub content_type: ContentType,
}

impl fmt::Display for FeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant_id, self.content_type)
    }
}

/// Where a batch came from: a blob of a feed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobId {
    pub feed: Feed,
    /// `contentId`, opaque.
    pub content_id: Arc<str>,
    /// `contentCreated`, milliseconds since 1970 UTC.
    pub created_ms: i64,
}
