//! Apache Kafka itself, one node in KRaft mode, with a listener of each kind: open, with a login (PLAIN
//! and SCRAM), with a login over TLS, with client certificates, with tokens, and two whose certificates are wrong. Jars come from Maven Central, once.
//! Topics are made through it, and read back whole.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, KeyPair};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tempfile::TempDir;

use super::{Daemon, authority, install, installer, place};
use crate::token::TokenSigner;

const VERSION: &str = "kafka-4.1.1";
/// What of its tools is in no jar of the broker.
const TOOLS: &str = "kafka-tools-4.1.1";
/// A start takes 5 seconds alone; a machine full of other tests takes longer.
const START: Duration = Duration::from_secs(180);

/// A broker of a test's own, or shared.
pub struct Kafka {
    dir: TempDir,
    jars: PathBuf,
    daemon: Mutex<Daemon>,
    /// Listener (`open`, `login`, `logintls`, `certificate`, `token`, `expired`, `elsewhere`) → port.
    ports: HashMap<&'static str, u16>,
    /// Signs the tokens that the listener `token` believes.
    pub signer: TokenSigner,
}

/// A message as it lies in a topic.
#[derive(Clone, Debug)]
pub struct Read {
    pub partition: i32,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub timestamp_ms: i64,
    pub headers: HashMap<String, String>,
}

/// Ports for these listeners, all different. Below the range that outgoing connections are given (32768 on
/// Linux): the ports stand empty while the broker is away, and a client's connection must not take one.
fn free_ports<const N: usize>(names: [&'static str; N]) -> HashMap<&'static str, u16> {
    let mut found = Vec::new();
    while found.len() < N {
        found.extend(TcpListener::bind(("127.0.0.1", fastrand::u16(20_000..32_000))));
    }
    names.into_iter().zip(&found).map(|(name, port)| (name, port.local_addr().unwrap().port())).collect()
}

fn jars() -> PathBuf {
    install(VERSION, |dir| {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/kafka/pom.xml");
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "-f"]).arg(pom);
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", dir.join("libs").display()));
        installer(&mut maven);
    })
}

fn tools() -> PathBuf {
    install(TOOLS, |dir| {
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"]);
        maven.arg(format!("-Dartifact=org.apache.kafka:{}", TOOLS.replace("tools-", "tools:")));
        maven.arg(format!("-DoutputDirectory={}", dir.display()));
        installer(&mut maven);
    })
}

impl Kafka {
    /// The broker that the tests of this process share; it ends with the last of them.
    pub fn shared() -> Arc<Kafka> {
        static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let kafka = Arc::new(Kafka::start());
            *shared = Arc::downgrade(&kafka);
            kafka
        })
    }

    /// Formats a directory and starts a broker on it.
    pub fn start() -> Kafka {
        let (dir, jars) = (place(), jars());
        let names = ["open", "login", "logintls", "certificate", "token", "expired", "elsewhere", "controller"];
        let ports = free_ports(names);
        let signer = TokenSigner::new();
        std::fs::write(dir.path().join("jwks.json"), signer.jwks()).unwrap();
        certificates(dir.path());
        let mut properties = include_str!("kafka/server.properties").replace("@dir@", &dir.path().to_string_lossy());
        for (name, port) in &ports {
            properties = properties.replace(&format!("@{name}@"), &port.to_string());
        }
        std::fs::write(dir.path().join("server.properties"), properties).unwrap();
        std::fs::write(dir.path().join("log4j2.properties"), include_str!("kafka/log4j2.properties")).unwrap();
        let mut format = java(dir.path(), &jars);
        format.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c"]);
        format.arg(dir.path().join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            for user in ["alice", "bob", "carol"] {
                format.args(["--add-scram", &format!("{mechanism}=[name={user},password={user}-secret]")]);
            }
        }
        installer(&mut format);
        let daemon = Mutex::new(begin(dir.path(), &jars));
        let kafka = Kafka { dir, jars, daemon, ports, signer };
        kafka.await_ready();
        kafka
    }

    /// `host:port` of a listener.
    pub fn address(&self, listener: &str) -> String {
        let host = if matches!(listener, "logintls" | "certificate" | "expired" | "elsewhere") {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{host}:{}", self.ports[listener])
    }

    /// `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`, `server.pem`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log_end(&self) -> String {
        self.daemon.lock().unwrap().log_end()
    }

    /// Ends the broker as a crash would.
    pub fn kill(&self) {
        self.daemon.lock().unwrap().kill();
    }

    /// Ends the broker in order.
    pub fn stop(&self) {
        self.daemon.lock().unwrap().stop(Duration::from_secs(30));
    }

    /// Starts it again on what it left; returns when it answers.
    pub fn start_again(&self) {
        *self.daemon.lock().unwrap() = begin(self.dir.path(), &self.jars);
        self.await_ready();
    }

    fn await_ready(&self) {
        self.daemon.lock().unwrap().await_port(self.ports["open"], START);
        let began = Instant::now();
        while self.client().fetch_metadata(None, Duration::from_secs(2)).is_err() {
            assert!(began.elapsed() < START, "the broker does not answer:\n{}", self.log_end());
        }
    }

    fn client(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address("open")).set("group.id", "test");
        config.set("fetch.message.max.bytes", "16777216").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "false").set("reconnect.backoff.max.ms", "200");
        config.create().unwrap()
    }

    /// Makes a topic of three partitions with these settings.
    pub async fn create_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address("open"));
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let topic = settings
            .iter()
            .fold(NewTopic::new(name, 3, TopicReplication::Fixed(1)), |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let made = admin.create_topics([&topic], &options).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Every message of the topics beyond `seen` (topic and partition → next offset), which moves on.
    pub fn read(&self, topics: &[&str], seen: &mut HashMap<(String, i32), i64>) -> Vec<Read> {
        let client = self.client();
        let (mut assigned, mut left) = (TopicPartitionList::new(), 0);
        let mut ends = HashMap::new();
        for topic in topics {
            for (topic, partition, (low, high)) in bounds(&client, topic) {
                let at = (topic, partition);
                let from = seen.get(&at).copied().unwrap_or(low);
                if high > from {
                    assigned.add_partition_offset(&at.0, partition, Offset::Offset(from)).unwrap();
                    left += 1;
                    ends.insert(at, high);
                }
            }
        }
        client.assign(&assigned).unwrap();
        let (mut read, began) = (Vec::new(), Instant::now());
        while left > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "the topics cannot be read to their ends");
            let Some(message) = client.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            let at = (message.topic().to_owned(), message.partition());
            let end = ends[&at];
            if message.offset() >= end {
                continue;
            }
            read.push(taken(&message));
            if message.offset() + 1 == end {
                left -= 1;
                seen.insert(at, end);
            }
        }
        read
    }

    /// Every message of the topics that a reader of committed messages sees.
    pub fn read_committed(&self, topics: &[&str]) -> Vec<Read> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address("open")).set("group.id", "test");
        config.set("fetch.message.max.bytes", "16777216").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        let client: BaseConsumer = config.create().unwrap();
        let (mut assigned, mut left) = (TopicPartitionList::new(), 0);
        for (topic, partition, _) in topics.iter().flat_map(|topic| bounds(&client, topic)) {
            assigned.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
            left += 1;
        }
        client.assign(&assigned).unwrap();
        let (mut read, began) = (Vec::new(), Instant::now());
        while left > 0 {
            assert!(began.elapsed() < Duration::from_secs(120), "the topics cannot be read to their ends");
            match client.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                Some(Err(error)) => println!("reading: {error}"),
                Some(Ok(message)) => read.push(taken(&message)),
            }
        }
        read
    }

    /// The next offset of each partition of the topics, marks of transactions included.
    pub fn ends(&self, topics: &[&str]) -> Vec<(String, i32, i64)> {
        let client = self.client();
        let end = |(topic, partition, (_, high))| (topic, partition, high);
        topics.iter().flat_map(|topic| bounds(&client, topic)).map(end).collect()
    }

    /// Lets the client of this id produce no more than so many bytes a second.
    pub fn throttle(&self, client_id: &str, bytes_a_second: u32) {
        let mut command = java(self.dir.path(), &self.jars);
        command.args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.address("open"), "--alter"]);
        command.args(["--add-config", &format!("producer_byte_rate={bytes_a_second}")]);
        command.args(["--entity-type", "clients", "--entity-name", client_id]);
        installer(&mut command);
    }

    /// Lets a user do these operations on what `resource` selects (arguments of `kafka-acls.sh`).
    pub fn allow(&self, user: &str, operations: &[&str], resource: &[&str]) {
        let mut command = java(self.dir.path(), &self.jars);
        // Of two class paths the later one counts.
        command.arg("-cp").arg(format!("{}/libs/*:{}/*", self.jars.display(), tools().display()));
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.address("open"), "--add"]);
        command.args(["--allow-principal", &format!("User:{user}")]);
        operations.iter().for_each(|operation| _ = command.args(["--operation", operation]));
        installer(command.args(resource));
    }

    /// How many messages the topics hold.
    pub fn count(&self, topics: &[&str]) -> i64 {
        let client = self.client();
        let held = |(_, _, (low, high)): (String, i32, (i64, i64))| high - low;
        topics.iter().flat_map(|topic| bounds(&client, topic)).map(held).sum()
    }

    /// Every message of the topics.
    pub fn read_all(&self, topics: &[&str]) -> Vec<Read> {
        self.read(topics, &mut HashMap::new())
    }
}

fn taken(message: &BorrowedMessage<'_>) -> Read {
    let headers = message.headers().map(|headers| {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    });
    Read {
        partition: message.partition(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        headers: headers.unwrap_or_default(),
    }
}

/// Topic, partition, first and next offset of each partition. A broker that has just started knows its
/// partitions a moment later than it answers.
fn bounds(client: &BaseConsumer, topic: &str) -> Vec<(String, i32, (i64, i64))> {
    let (began, limit) = (Instant::now(), Duration::from_secs(20));
    loop {
        let metadata = client.fetch_metadata(Some(topic), limit);
        let found = metadata.and_then(|metadata| {
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let bounds = |id| Ok((topic.to_owned(), id, client.fetch_watermarks(topic, id, limit)?));
            partitions.map(|partition| bounds(partition.id())).collect::<Result<Vec<_>, KafkaError>>()
        });
        match found {
            Ok(found) if !found.is_empty() => return found,
            other => assert!(began.elapsed() < limit, "`{topic}` cannot be read: {other:?}"),
        }
        super::pause();
    }
}

/// Small, quick to start, and with the jars; the class and its arguments follow.
fn java(dir: &Path, jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    java.arg(jars.join("libs/*"));
    let allowed = dir.join("jwks.json");
    java.arg(format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:{}", allowed.display()));
    java.arg(format!("-Dlog4j2.configurationFile={}", dir.join("log4j2.properties").display()));
    java
}

fn begin(dir: &Path, jars: &Path) -> Daemon {
    let mut command = java(dir, jars);
    command.arg("kafka.Kafka").arg(dir.join("server.properties"));
    Daemon::start(command, dir.join("log"))
}

/// An authority, a certificate of the broker and one of a client of it, and an authority that nobody trusts.
fn certificates(dir: &Path) {
    let (issuer, ca) = authority("auditferry tests");
    let (_, other) = authority("somebody else");
    let signed = |name: &str, hosts: Vec<String>, ended: bool| {
        let mut params = CertificateParams::new(hosts).unwrap();
        if ended {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server, server_key) = signed("localhost", vec!["localhost".into(), "127.0.0.1".into()], false);
    let (expired, expired_key) = signed("localhost", vec!["localhost".into(), "127.0.0.1".into()], true);
    let (elsewhere, elsewhere_key) = signed("elsewhere.example", vec!["elsewhere.example".into()], false);
    let (client, client_key) = signed("auditferry", Vec::new(), false);
    let server = format!("{server_key}{server}{ca}");
    for (name, text) in [
        ("ca.pem", &ca),
        ("other-ca.pem", &other),
        ("server.pem", &server),
        ("expired.pem", &format!("{expired_key}{expired}{ca}")),
        ("elsewhere.pem", &format!("{elsewhere_key}{elsewhere}{ca}")),
        ("client.pem", &client),
        ("client.key", &client_key),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}
