//! OpenSearch itself, one node: the core without plugins, open to everybody; or with its security plugin, over HTTPS, with the
//! users and roles of the files in `opensearch/security`. Both are zips of Maven Central. It refuses to run as root, so there it
//! runs as nobody, in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Daemon, authority, free_port, install, installer, place};

const VERSION: &str = "2.19.3";
/// The security plugin for it.
const SECURITY: &str = "2.19.3.0";
/// A start takes 15 seconds alone; a machine full of other tests takes longer.
const START: Duration = Duration::from_secs(180);
/// How long an index may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// Nobody, on Debian and most others.
const NOBODY: &str = "65534";

/// Who does what the tests do themselves, with the security plugin.
const KEEPER: (&str, &str) = ("keeper", "keeper-secret");
/// Who may be whom, and do what.
const RIGHTS: [(&str, &str); 4] = [
    ("config.yml", include_str!("opensearch/security/config.yml")),
    ("internal_users.yml", include_str!("opensearch/security/internal_users.yml")),
    ("roles.yml", include_str!("opensearch/security/roles.yml")),
    ("roles_mapping.yml", include_str!("opensearch/security/roles_mapping.yml")),
];

/// A node of a test's own.
pub struct OpenSearch {
    dir: TempDir,
    daemon: Daemon,
    base: String,
    client: Client,
    is_secured: bool,
}

/// Unpacks a zip of Maven Central, once.
fn unpacked(name: &str, artifact: &str) -> PathBuf {
    install(name, |dir| {
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"]);
        maven.arg(format!("-Dartifact={artifact}:zip")).arg(format!("-DoutputDirectory={}", dir.display()));
        installer(&mut maven);
    })
}

fn distribution() -> PathBuf {
    let name = format!("opensearch-{VERSION}");
    unpacked(&name, &format!("org.opensearch.distribution.integ-test-zip:opensearch:{VERSION}")).join(&name)
}

/// Puts the security plugin, its configuration and the certificates into a distribution.
fn secure(home: &Path) {
    let name = format!("opensearch-security-{VERSION}");
    let plugin = unpacked(&name, &format!("org.opensearch.plugin:opensearch-security:{SECURITY}"));
    let (plugins, config) = (home.join("plugins"), home.join("config"));
    std::fs::create_dir_all(&plugins).unwrap();
    installer(Command::new("cp").arg("-r").arg(&plugin).arg(plugins.join("opensearch-security")));
    // Of what it wants to be configured most is as it comes.
    installer(Command::new("cp").arg("-r").arg(plugin.join("config")).arg(config.join("opensearch-security")));
    for (name, text) in RIGHTS {
        std::fs::write(config.join("opensearch-security").join(name), text).unwrap();
    }
    std::fs::write(config.join("opensearch.yml"), include_str!("opensearch/opensearch.yml")).unwrap();
    certificates(&config);
}

/// An authority, a certificate of the node, which names `localhost` and no address, and one of a client of it; an authority
/// that nobody trusts, and a certificate of a client of that.
fn certificates(dir: &Path) {
    let (issuer, ca) = authority("auditferry tests");
    let (other_issuer, other) = authority("somebody else");
    let signed = |name: &str, hosts: Vec<String>, issuer| {
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
    };
    let (node, node_key) = signed("node", vec!["localhost".into()], &issuer);
    let (client, client_key) = signed("auditferry", Vec::new(), &issuer);
    let (forged, forged_key) = signed("auditferry", Vec::new(), &other_issuer);
    for (name, text) in [
        ("ca.pem", ca),
        ("other-ca.pem", other),
        ("node.pem", node),
        ("node.key", node_key),
        ("client.pem", client),
        ("client.key", client_key),
        ("forged.pem", forged),
        ("forged.key", forged_key),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// The directory of the Java that would run.
fn java_home() -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let java = std::env::split_paths(&paths).map(|dir| dir.join("java")).find(|java| java.is_file());
    let java = java.expect("java is needed by the tests").canonicalize().unwrap();
    java.ancestors().nth(2).unwrap().to_owned()
}

impl OpenSearch {
    /// Starts a node, and returns when it answers.
    pub async fn start() -> OpenSearch {
        let (dir, home) = prepared(false);
        begin(dir, &home, Client::new(), "http://127.0.0.1", false).await
    }

    /// The same with the security plugin: HTTPS on `localhost`, and nobody does anything without a login.
    pub async fn start_secured() -> OpenSearch {
        let (dir, home) = prepared(true);
        let ca = std::fs::read(home.join("config/ca.pem")).unwrap();
        let client = Client::builder().tls_certs_only([Certificate::from_pem(&ca).unwrap()]).build().unwrap();
        let engine = begin(dir, &home, client, "https://localhost", true).await;
        // It takes connections before it knows anybody.
        let began = Instant::now();
        while !engine.request(Method::GET, "/").send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < START, "it lets nobody in:\n{}", engine.daemon.log_end());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        engine
    }

    pub fn url(&self) -> String {
        self.base.clone()
    }

    /// The same node by an address that its certificate does not name.
    pub fn url_by_address(&self) -> String {
        self.base.replace("localhost", "127.0.0.1")
    }

    /// `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`, `forged.pem`, `forged.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("opensearch/config").join(name)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.is_secured { request.basic_auth(KEEPER.0, Some(KEEPER.1)) } else { request }
    }

    /// Sends a request and gives the answer, which must be JSON and no refusal. An index that has just been made is not
    /// ready at once.
    pub async fn ask(&self, method: Method, path: &str, body: String) -> Value {
        let began = Instant::now();
        loop {
            let request = self.request(method.clone(), path).header("content-type", "application/json");
            let answer = request.body(body.clone()).send().await;
            let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.daemon.log_end()));
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            if status.is_success() {
                return serde_json::from_str(&text).unwrap();
            }
            let may_pass = status == StatusCode::SERVICE_UNAVAILABLE && began.elapsed() < READY;
            assert!(may_pass, "{path}: {status}: {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many documents an index, a stream or a pattern has; none where it is not there.
    pub async fn count(&self, index: &str) -> u64 {
        self.ask(Method::POST, &format!("/{index}/_refresh?ignore_unavailable=true"), String::new()).await;
        let path = format!("/{index}/_count?ignore_unavailable=true");
        self.ask(Method::GET, &path, String::new()).await["count"].as_u64().unwrap()
    }

    /// Everything in it: `_id` and `_source`, as the engine gives it back.
    pub async fn documents(&self, index: &str) -> Vec<(String, Value)> {
        self.ask(Method::POST, &format!("/{index}/_refresh?ignore_unavailable=true"), String::new()).await;
        let first = json!({ "size": 2000, "sort": ["_doc"] }).to_string();
        let path = format!("/{index}/_search?scroll=1m&ignore_unavailable=true");
        let mut page = self.ask(Method::POST, &path, first).await;
        let mut all = Vec::new();
        loop {
            let hits = page["hits"]["hits"].as_array_mut().unwrap();
            if hits.is_empty() {
                return all;
            }
            all.extend(hits.iter_mut().map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].take())));
            let next = json!({ "scroll": "1m", "scroll_id": page["_scroll_id"] }).to_string();
            page = self.ask(Method::POST, "/_search/scroll", next).await;
        }
    }
}

/// A distribution in a directory of its own, ready to be started.
fn prepared(is_secured: bool) -> (TempDir, PathBuf) {
    let dir = place();
    let home = dir.path().join("opensearch");
    installer(Command::new("cp").arg("-r").arg(distribution()).arg(&home));
    for name in ["data", "logs"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    if is_secured {
        secure(&home);
    }
    installer(Command::new("chmod").args(["-R", "a+rwX"]).arg(dir.path()));
    (dir, home)
}

async fn begin(dir: TempDir, home: &Path, client: Client, address: &str, is_secured: bool) -> OpenSearch {
    let (port, transport) = (free_port(), free_port());
    let binary = home.join("bin/opensearch");
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(binary);
            command
        }
        false => Command::new(binary),
    };
    let at = |name: &str| dir.path().join(name).display().to_string();
    for setting in [
        "discovery.type=single-node".to_owned(),
        "network.host=127.0.0.1".to_owned(),
        format!("http.port={port}"),
        format!("transport.port={transport}"),
        format!("path.data={}", at("data")),
        format!("path.logs={}", at("logs")),
        // A full disk of the machine is not what is tested.
        "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
    ] {
        command.arg(format!("-E{setting}"));
    }
    command.env("OPENSEARCH_JAVA_HOME", java_home()).env("OPENSEARCH_JAVA_OPTS", "-Xms512m -Xmx512m");
    command.current_dir(home);
    let mut daemon = Daemon::start(command, dir.path().join("log"));
    tokio::task::block_in_place(|| daemon.await_port(port, START));
    OpenSearch { dir, daemon, base: format!("{address}:{port}"), client, is_secured }
}
