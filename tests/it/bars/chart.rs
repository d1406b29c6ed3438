//! Chart: Helm's own linter, the schemas of Kubernetes and of the Prometheus operator, restricted Pod Security and
//! the product's own `validate` over everything that the value sets of `deploy/helm/auditferry/ci` render; and
//! what is derived from the chart is what it renders now.
//!
//! After a change of the chart, the rules or the boards: `make manifests`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bars::pod_security::{breaches, template};
use crate::real::kubernetes::{documents, helm, kustomize, only, validate};
use crate::support::{figure, size};

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/auditferry");
/// From what Chart.yaml asks for (`kubeVersion`) to the newest of kubectl 1.34.
const ALL_VERSIONS: &[&str] = &["1.28", "1.29", "1.30", "1.31", "1.32", "1.33", "1.34"];
/// Where the chart mounts the Secret.
const SECRETS: &str = "/run/secrets/auditferry/";
/// What a stop may take, a receiver that hangs included (`bars::kill::drain`).
const LONGEST_STOP: Duration = Duration::from_secs(20);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn value_sets() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(CHART).join("ci")).unwrap();
    let mut sets: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    sets.sort();
    sets
}

/// What the chart renders for a value set, as Helm would install it.
fn rendered(values: &Path) -> String {
    let text = helm(&["template", "audit", CHART, "--namespace", "audit", "--values", values.to_str().unwrap()]);
    text.unwrap_or_else(|said| panic!("{}: {said}", values.display()))
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn chart_every_value_set_is_linted_valid_restricted_and_configured_well() {
    let (sets, dir) = (value_sets(), tempfile::tempdir().unwrap());
    assert!(sets.len() >= 12, "only {} value sets", sets.len());
    let (mut files, mut objects, mut pods, mut configured) = (Vec::new(), 0, 0, 0);
    for values in &sets {
        let lint = helm(&["lint", "--strict", CHART, "--values", values.to_str().unwrap()]);
        assert!(lint.is_ok(), "{}: {lint:?}", name(values));
        let text = rendered(values);
        let documents = documents(&text);
        objects += documents.len();
        for object in &documents {
            let Some(template) = template(object) else { continue };
            assert_eq!(breaches(template), Vec::<String>::new(), "{}: {}", name(values), object["metadata"]["name"]);
            pods += 1;
        }
        one_process_and_time_to_stop(name(values), &documents);
        configured += usize::from(validated(name(values), &documents));
        let file = dir.path().join(name(values));
        std::fs::write(&file, text).unwrap();
        files.push(file);
    }
    let versions = size(&["1.28", "1.34"][..], ALL_VERSIONS);
    let (checked, faults) = validate(&files, versions);
    assert_eq!(faults, Vec::<String>::new());
    figure(
        "chart",
        format_args!(
            "{} value sets, {objects} objects: lint --strict, {checked} checks against the schemas of Kubernetes {versions:?} \
             and the Prometheus operator, {pods} pods restricted, {configured} configurations accepted by `validate`",
            sets.len()
        ),
    );
    assert!(checked as usize > objects && pods > sets.len() && configured >= 12);
}

/// One process per state directory, ended before the next begins, with time to stop.
fn one_process_and_time_to_stop(set: &str, documents: &[Value]) {
    let workloads = documents.iter().filter(|object| object["spec"]["template"].is_object());
    for workload in workloads {
        let spec = &workload["spec"];
        assert!(spec["replicas"].as_u64().unwrap() <= 1, "{set}");
        let strategy = if workload["kind"] == "Deployment" { "/strategy/type" } else { "/updateStrategy/type" };
        let expected = if workload["kind"] == "Deployment" { "Recreate" } else { "RollingUpdate" };
        assert_eq!(spec.pointer(strategy).unwrap(), expected, "{set}");
        let grace = Duration::from_secs(spec["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(grace > LONGEST_STOP, "{set}: {grace:?} is not enough to stop in");
    }
}

/// Whether there is a configuration; it is given to the product's own `validate`, each file of the Secret being there.
fn validated(set: &str, documents: &[Value]) -> bool {
    let text = documents.iter().find_map(|object| object["data"]["auditferry.yaml"].as_str());
    let Some(text) = text else { return false };
    let dir = tempfile::tempdir().unwrap();
    for name in text.split(SECRETS).skip(1) {
        let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        std::fs::write(dir.path().join(name), "secret").unwrap();
    }
    let file = dir.path().join("auditferry.yaml");
    std::fs::write(&file, text.replace(SECRETS, &format!("{}/", dir.path().display()))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.arg("validate").arg("-c").arg(file).envs(environment(documents));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{set}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    true
}

/// The variables of the workload's container, those that come from Secrets and those that the workload identity
/// webhook adds included.
fn environment(documents: &[Value]) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Some(workload) = documents.iter().find(|object| object["spec"]["template"].is_object()) else {
        return variables;
    };
    let template = &workload["spec"]["template"];
    for variable in template["spec"]["containers"][0]["env"].as_array().into_iter().flatten() {
        let value = variable["value"].as_str().unwrap_or("secret");
        variables.insert(variable["name"].as_str().unwrap().to_owned(), value.to_owned());
    }
    let account = documents.iter().find(|object| object["kind"] == "ServiceAccount");
    let is_labelled = template["metadata"]["labels"]["azure.workload.identity/use"] == "true";
    if let Some(account) = account.filter(|_| is_labelled) {
        let annotation = |name: &str| account["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
        let added = [
            ("AZURE_CLIENT_ID", annotation("azure.workload.identity/client-id")),
            ("AZURE_TENANT_ID", annotation("azure.workload.identity/tenant-id")),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/".into()),
            ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token".into()),
        ];
        for (name, value) in added {
            variables.entry(name.into()).or_insert(value);
        }
    }
    variables
}

/// The files that are derived from the chart or copied into it, as they should be.
fn derived() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    // A chart reads only what lies inside it.
    let inside = Path::new(CHART).join("files");
    let rules = root().join("deploy/prometheus/rules.yaml");
    if rules.exists() {
        files.insert(inside.join("rules.yaml"), read(&rules));
    }
    for board in boards(&root().join("dashboards")) {
        files.insert(inside.join("dashboards").join(board.file_name().unwrap()), read(&board));
    }
    // The base of kustomize is the chart with fixed values, without what only Helm knows.
    let base = root().join("deploy/kustomize/base");
    let text = helm(
        &["template", "auditferry", CHART, "--namespace", "auditferry", "--skip-tests", "--values"]
            .into_iter()
            .chain([base.join("values.yaml").to_str().unwrap()])
            .collect::<Vec<_>>(),
    );
    let ours = |line: &&str| {
        !["app.kubernetes.io/managed-by: Helm", "helm.sh/chart:", "namespace: auditferry", "# Source:"]
            .iter()
            .any(|of| line.trim_start().starts_with(of))
    };
    let head =
        "# Derived from the chart by `make manifests`; change deploy/helm/auditferry or values.yaml beside this.\n";
    let text: String = text.unwrap().lines().filter(ours).map(|line| format!("{line}\n")).collect();
    files.insert(base.join("workload.yaml"), format!("{head}{text}"));
    files
}

fn boards(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(boards(&path));
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
    found
}

#[test]
fn chart_what_is_derived_from_it_is_what_it_renders() {
    let update = std::env::var_os("UPDATE_MANIFESTS").is_some();
    let same = |path: &Path, text: &str| {
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == text, "{} is not up to date: run `make manifests`", path.display());
    };
    let files = derived();
    for (path, text) in &files {
        same(path, text);
    }
    // A board that was taken away must not live on in the chart.
    let copies: BTreeSet<PathBuf> = boards(&Path::new(CHART).join("files")).into_iter().collect();
    let stale: Vec<_> = copies.iter().filter(|copy| !files.contains_key(*copy)).collect();
    assert!(stale.is_empty(), "{stale:?} is a copy of nothing: remove it");
    let head = "# The whole of auditferry for `kubectl apply`, derived from deploy/kustomize/base by `make manifests`.\n\
                # Give it a configuration and a Secret first: docs/kubernetes.md.\n";
    let built = kustomize(&root().join("deploy/kustomize/base")).unwrap();
    same(&root().join("deploy/kubernetes/install.yaml"), &format!("{head}{built}"));
}

#[test]
fn chart_kustomize_and_the_plain_manifest_are_valid_and_restricted() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![root().join("deploy/kubernetes/install.yaml")];
    let overlays = std::fs::read_dir(root().join("deploy/kustomize/overlays")).unwrap();
    for overlay in overlays.map(|entry| entry.unwrap().path()) {
        let file = dir.path().join(overlay.file_name().unwrap());
        std::fs::write(&file, kustomize(&overlay).unwrap_or_else(|said| panic!("{said}"))).unwrap();
        files.push(file);
    }
    for file in &files {
        let documents = documents(&std::fs::read_to_string(file).unwrap());
        let deployment = only(&documents, "Deployment");
        assert_eq!(breaches(template(deployment).unwrap()), Vec::<String>::new(), "{}", file.display());
        one_process_and_time_to_stop(name(file), &documents);
        assert!(validated(name(file), &documents), "{} has no configuration", file.display());
        let space = &only(&documents, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(space, "restricted", "{}", file.display());
        // What the pod asks for is in the same file, but for the Secret.
        let config_map = &only(&documents, "ConfigMap")["metadata"]["name"];
        let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == *config_map), "{}", file.display());
        // A volume of a Secret that nobody makes would keep the pod from starting.
        let configuration = only(&documents, "ConfigMap")["data"]["auditferry.yaml"].as_str().unwrap();
        let mounts_secrets = volumes.iter().any(|volume| volume["secret"].is_object());
        assert_eq!(mounts_secrets, configuration.contains(SECRETS), "{}", file.display());
    }
    let versions = size(&["1.28", "1.34"][..], ALL_VERSIONS);
    let (checked, faults) = validate(&files, versions);
    assert_eq!(faults, Vec::<String>::new());
    figure("chart", format_args!("install.yaml and {} overlays: {checked} checks, restricted", files.len() - 1));
    assert!(files.len() > 3);
}

/// What is checked by schemas can be found wrong by them: what the chart renders, broken in one place each.
#[test]
fn chart_schemas_see_what_is_wrong() {
    let good = documents(&rendered(&Path::new(CHART).join("ci/monitoring-values.yaml")));
    let broken: &[(&str, &str, &str, Value)] = &[
        ("Deployment", "/spec", "replicaz", json!(1)),
        ("Deployment", "/spec", "replicas", json!("one")),
        ("Deployment", "/spec/template/spec/containers/0", "args", json!("run")),
        ("Service", "/spec/ports/0", "port", json!("9464")),
        ("PersistentVolumeClaim", "/spec", "accessModes", json!("ReadWriteOnce")),
        ("PodMonitor", "/spec/podMetricsEndpoints/0", "intervall", json!("30s")),
        ("PrometheusRule", "/spec", "groups", json!([{ "rules": [] }])),
        ("ConfigMap", "", "kind", json!("ConfigMapp")),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, (kind, place, key, value)) in broken.iter().enumerate() {
        let mut object = good.iter().find(|object| object["kind"] == *kind).unwrap().clone();
        object.pointer_mut(place).unwrap()[key] = value.clone();
        files.push(dir.path().join(format!("{number}.yaml")));
        // JSON is YAML.
        std::fs::write(files.last().unwrap(), object.to_string()).unwrap();
    }
    let (_, faults) = validate(&files, &["1.34"]);
    for (file, wrong) in files.iter().zip(broken) {
        let seen = faults.iter().any(|fault| fault.starts_with(file.to_str().unwrap()));
        assert!(seen, "{wrong:?} was not seen; {faults:?}");
    }
}

#[test]
fn chart_notes_say_the_next_command_and_what_is_lost() {
    let notes = |values: &str| {
        let values = format!("{CHART}/ci/{values}-values.yaml");
        helm(&["install", "audit", CHART, "--namespace", "soc", "--dry-run=client", "--values", &values]).unwrap()
    };
    let usual = notes("splunk");
    assert!(usual.contains("helm test audit -n soc --logs") && !usual.contains("WARNING"), "{usual}");
    assert!(notes("stdout").contains("WARNING: persistence.enabled is false"));
    let identity = notes("workload-identity");
    assert!(identity.contains("system:serviceaccount:soc:audit-auditferry"), "{identity}");
}

/// What Prometheus and Grafana fill in is in braces as Helm's is, and must reach them as it stands.
#[test]
fn chart_rules_and_boards_come_through_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(CHART).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    let chart = dir.path().join("auditferry");
    std::fs::create_dir_all(chart.join("files/dashboards")).unwrap();
    let summary = "{{ $labels.tenant }}: {{ $value | humanizeDuration }}";
    let rules = json!({ "groups": [{ "name": "test", "rules": [{
        "alert": "AuditferryTest", "expr": "up == 0", "for": "1000000s",
        "annotations": { "summary": summary, "runbook_url": "https://auditferry.example/docs/runbooks/AuditferryTest.md" },
    }] }] });
    std::fs::write(chart.join("files/rules.yaml"), serde_json::to_string_pretty(&rules).unwrap()).unwrap();
    let board = json!({ "title": "Test", "panels": [{ "legendFormat": "{{tenant}} {{ .Values }}" }], "n": 12_345_678 });
    std::fs::write(chart.join("files/dashboards/Test.json"), board.to_string()).unwrap();
    let values = chart.join("ci/monitoring-values.yaml");
    let url = "prometheusRule.runbookUrl=https://wiki.example/audit";
    let text = helm(&["template", "a", chart.to_str().unwrap(), "--values", values.to_str().unwrap(), "--set", url]);
    let documents = documents(&text.unwrap());
    let groups = &only(&documents, "PrometheusRule")["spec"]["groups"];
    let rule = groups.as_array().unwrap().iter().find(|group| group["name"] == "test").unwrap()["rules"][0].clone();
    assert_eq!(rule["annotations"]["summary"], summary);
    assert_eq!(rule["annotations"]["runbook_url"], "https://wiki.example/audit/AuditferryTest.md");
    assert_eq!(groups.as_array().unwrap().last().unwrap()["name"], "auditferry-additional");
    let boards = documents.iter().find(|object| object["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    assert_eq!(boards["metadata"]["namespace"], "monitoring");
    assert_eq!(serde_json::from_str::<Value>(boards["data"]["Test.json"].as_str().unwrap()).unwrap(), board);

    // With both places given, no link leads to where nobody is.
    let here = "prometheusRule.runbookUrl=https://wiki.example/audit,prometheusRule.grafanaUrl=https://boards.example";
    let text = helm(&["template", "a", CHART, "--values", values.to_str().unwrap(), "--set", here]).unwrap();
    assert!(
        text.contains("https://wiki.example/audit/AuditferryDown.md") && text.contains("https://boards.example/d/")
    );
    for nobody in ["auditferry.example", "grafana.example"] {
        assert!(!text.contains(nobody), "a link to {nobody}");
    }
}
