//! OpenSearch itself, one node, the core without plugins: Maven Central has it as a zip. It refuses to run as root, so there
//! it runs as nobody, in a directory of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Daemon, free_port, install, installer, place};

const VERSION: &str = "2.19.3";
/// A start takes 15 seconds alone; a machine full of other tests takes longer.
const START: Duration = Duration::from_secs(180);
/// Nobody, on Debian and most others.
const NOBODY: &str = "65534";

/// A node of a test's own.
pub struct OpenSearch {
    _dir: TempDir,
    daemon: Daemon,
    base: String,
}

fn distribution() -> PathBuf {
    let name = format!("opensearch-{VERSION}");
    install(&name.clone(), |dir| {
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"]);
        maven.arg(format!("-Dartifact=org.opensearch.distribution.integ-test-zip:opensearch:{VERSION}:zip"));
        maven.arg(format!("-DoutputDirectory={}", dir.display()));
        installer(&mut maven);
    })
    .join(name)
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
        let (dir, port, transport) = (place(), free_port(), free_port());
        let home = dir.path().join("opensearch");
        installer(Command::new("cp").arg("-r").arg(distribution()).arg(&home));
        for name in ["data", "logs"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        installer(Command::new("chmod").args(["-R", "a+rwX"]).arg(dir.path()));
        let binary = home.join("bin/opensearch");
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command
                    .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"])
                    .arg(binary);
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
        command.current_dir(&home);
        let mut daemon = Daemon::start(command, dir.path().join("log"));
        tokio::task::block_in_place(|| daemon.await_port(port, START));
        OpenSearch { _dir: dir, daemon, base: format!("http://127.0.0.1:{port}") }
    }

    pub fn url(&self) -> String {
        self.base.clone()
    }

    /// Sends a request and gives the answer, which must be JSON and no refusal.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: String) -> Value {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.base));
        let answer = request.header("content-type", "application/json").body(body).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.daemon.log_end()));
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}
