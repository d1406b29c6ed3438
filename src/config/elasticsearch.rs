//! What a sink of type `elasticsearch` is told, and how its targets may be called. Comes in: what the file says,
//! checked. Goes out: where documents go and by what right. Opens nothing.
//!
//! Names: Elasticsearch, "Create index API" and "Data stream naming scheme".

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::{LoginConfig, ProxyConfig, TlsConfig};

/// One cluster of Elasticsearch or OpenSearch.
#[derive(Clone, Debug, PartialEq)]
pub struct ElasticsearchConfig {
    /// Nodes or load balancers of it, at least one.
    pub urls: Vec<Url>,
    pub target: IndexTarget,
    pub pipeline: Pipeline,
    pub gzip: bool,
    pub login: LoginConfig,
    pub tls: TlsConfig,
    pub proxy: ProxyConfig,
    pub timeout: Duration,
}

impl ElasticsearchConfig {
    /// For a person.
    pub fn target(&self) -> String {
        let urls: Vec<String> = self.urls.iter().map(|url| url.origin().ascii_serialization()).collect();
        format!("{} {}", urls.join(", "), self.target.text())
    }
}

/// Where documents go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexTarget {
    DataStream(DataStream),
    /// A template, which may have `{day}` too.
    Index(String),
}

impl IndexTarget {
    /// As it was written.
    pub fn text(&self) -> String {
        match self {
            IndexTarget::DataStream(stream) => stream.name(),
            IndexTarget::Index(text) => text.clone(),
        }
    }
}

/// What an ingest pipeline of the cluster does with documents before they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// None, whatever the index says: Elastic's pipeline for o365 expects other documents than ours.
    None,
    /// The index's own default.
    OfIndex,
    Named(String),
}

/// A data stream by its naming scheme: `type-dataset-namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataStream {
    pub kind: String,
    pub dataset: String,
    pub namespace: String,
}

/// The default.
pub const DATA_STREAM: &str = "logs-o365.audit-default";
/// Bytes of a data stream's dataset and of its namespace.
const PART_LENGTH: usize = 100;

impl DataStream {
    /// Reads a name; says what is wrong with it.
    pub fn parse(name: &str) -> Result<DataStream, String> {
        let mut parts = name.splitn(3, '-');
        let (Some(kind), Some(dataset), Some(namespace)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("a data stream is called type-dataset-namespace".to_owned());
        };
        for (part, what) in [(kind, "type"), (dataset, "dataset"), (namespace, "namespace")] {
            if part.is_empty() || part.len() > PART_LENGTH {
                return Err(format!("the {what} of a data stream has 1 to {PART_LENGTH} bytes"));
            }
        }
        if let Some(fault) = fault_of_name(name) {
            return Err(fault);
        }
        if name.starts_with('.') {
            return Err("a name that begins with `.` belongs to the cluster itself".to_owned());
        }
        Ok(DataStream { kind: kind.to_owned(), dataset: dataset.to_owned(), namespace: namespace.to_owned() })
    }

    pub fn name(&self) -> String {
        format!("{}-{}-{}", self.kind, self.dataset, self.namespace)
    }
}

/// What is wrong with the name of an index, or with the beginning of one.
pub fn fault_of_name(name: &str) -> Option<String> {
    if name.starts_with(['-', '_', '+']) {
        return Some("no index's name may begin with `-`, `_` or `+`".to_owned());
    }
    let wrong = |c: &char| c.is_control() || c.is_whitespace() || r#"\/*?"<>|,#:{}"#.contains(*c);
    if let Some(character) = name.chars().find(wrong) {
        return Some(format!("no index's name may have `{}` in it", character.escape_default()));
    }
    if name.chars().any(char::is_uppercase) {
        return Some("an index's name has small letters only".to_owned());
    }
    (name == "." || name == "..").then(|| "this is no index's name".to_owned())
}

/// The address that a cloud id stands for; says what is wrong with one that means nothing. `name:` and base64 of
/// `host[:port]$id of Elasticsearch[:port]$id of Kibana` ("Connect to Elastic Cloud").
pub fn address_of_cloud_id(id: &str) -> Result<Url, &'static str> {
    let (_, encoded) = id.rsplit_once(':').ok_or("it has no `:` between its name and the rest")?;
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| "what stands behind its `:` is not base64")?;
    let decoded = String::from_utf8(decoded).map_err(|_| "it holds no text")?;
    let mut parts = decoded.split('$');
    let host = parts.next().filter(|host| !host.is_empty()).ok_or("it names no host")?;
    let own = parts.next().filter(|id| !id.is_empty()).ok_or("it names no Elasticsearch of the deployment")?;
    let split = |text: &str| match text.split_once(':') {
        Some((name, port)) => (name.to_owned(), Some(port.to_owned())),
        None => (text.to_owned(), None),
    };
    let ((host, port), (own, own_port)) = (split(host), split(own));
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !is_name(&host) || !is_name(&own) {
        return Err("what it names is no host");
    }
    let port = own_port.or(port).unwrap_or_else(|| "443".to_owned());
    Url::parse(&format!("https://{own}.{host}:{port}")).map_err(|_| "what it names is no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_stream_is_called_by_its_scheme() {
        let good = DataStream::parse("logs-o365.audit-team-a").unwrap();
        assert_eq!((good.dataset.as_str(), good.namespace.as_str()), ("o365.audit", "team-a"));
        assert_eq!(good.name(), "logs-o365.audit-team-a");
        assert_eq!(DataStream::parse(DATA_STREAM).unwrap().name(), DATA_STREAM);
        let long = format!("logs-{}-default", "x".repeat(101));
        for (name, part) in [
            ("logs", "type-dataset-namespace"),
            ("logs-o365.audit", "type-dataset-namespace"),
            ("logs--x", "the dataset"),
            ("logs-a-", "the namespace"),
            (&long, "1 to 100 bytes"),
            ("Logs-a-b", "small letters"),
            ("logs-a-{tenant}", "`{`"),
            ("logs-a b-c", "` `"),
            ("_logs-a-b", "begin with"),
            (".ds-a-b", "the cluster itself"),
        ] {
            assert!(DataStream::parse(name).unwrap_err().contains(part), "{name}");
        }
    }

    #[test]
    fn a_cloud_id_is_an_address_and_nonsense_is_refused() {
        let id = |text: &str| format!("my-deployment:{}", STANDARD.encode(text));
        let address = |text: &str| address_of_cloud_id(&id(text)).map(|url| url.to_string());
        let plain = "us-east-1.aws.found.io$abc123$def456";
        assert_eq!(address(plain).unwrap(), "https://abc123.us-east-1.aws.found.io/");
        assert_eq!(address("host.example:9243$abc$def").unwrap(), "https://abc.host.example:9243/");
        assert_eq!(address("host.example:9243$abc:9200$def").unwrap(), "https://abc.host.example:9200/");
        assert_eq!(address("host.example$abc").unwrap(), "https://abc.host.example/");
        for (cloud_id, part) in [
            ("no colon".to_owned(), "no `:`"),
            ("name:???".to_owned(), "not base64"),
            (id(""), "no host"),
            (id("host"), "no Elasticsearch"),
            (id("host$"), "no Elasticsearch"),
            (id("host/evil$abc"), "is no host"),
            (id("host$abc@evil"), "is no host"),
            (id("host:port$abc"), "is no host"),
        ] {
            assert!(address_of_cloud_id(&cloud_id).unwrap_err().contains(part), "{cloud_id}");
        }
    }
}
