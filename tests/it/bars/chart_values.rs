//! Chart values: each wrong value is refused before anything is installed, with a message that names the key; and the
//! names that operators type from memory are there.

use std::process::id;

use crate::bars::chart::CHART;
use crate::real::kubernetes::{documents, helm, only};
use crate::support::figure;

/// What is wrong, and what the message must name.
const WRONG: &[(&str, &[&str])] = &[
    ("replicas: 2", &["replicas", "0, 1"]),
    ("replicas: one", &["replicas", "integer"]),
    ("replicaz: 1", &["replicaz", "not allowed"]),
    ("image: { repo: x }", &["image", "repo", "not allowed"]),
    ("image: { repository: '' }", &["image/repository"]),
    ("image: { repository: 'x:1.2' }", &["image/repository", "pattern"]),
    ("image: { pullPolicy: Sometimes }", &["image/pullPolicy", "Always", "IfNotPresent"]),
    ("image: { digest: 'sha256:12' }", &["image/digest", "pattern"]),
    ("image: { tag: 1.0 }", &["image/tag", "string"]),
    ("kind: DaemonSet", &["kind", "Deployment", "StatefulSet"]),
    ("terminationGracePeriodSeconds: 10", &["terminationGracePeriodSeconds", "25"]),
    ("persistence: { size: lots }", &["persistence/size"]),
    ("persistence: { accessModes: [ReadOnlyMany] }", &["persistence/accessModes/0", "ReadWriteOnce"]),
    ("persistence: { storageClass: fast }", &["persistence", "storageClass", "not allowed"]),
    ("podMonitor: { interval: 30 }", &["podMonitor/interval", "string"]),
    ("podMonitor: { interval: soon }", &["podMonitor/interval", "pattern"]),
    ("serviceMonitor: { enabled: 'yes' }", &["serviceMonitor/enabled", "boolean"]),
    ("service: { port: 99999 }", &["service/port", "65,535"]),
    ("securityContext: { privileged: true }", &["securityContext/privileged"]),
    ("podSecurityContext: { runAsUser: 0 }", &["podSecurityContext/runAsUser", "minimum"]),
    ("env: { A: b }", &["env", "array"]),
    ("env: [ { value: b } ]", &["env/0", "name"]),
    ("resources: { limits: { memory: 256MB } }", &["resources/limits/memory"]),
    ("networkPolicy: { sinkPorts: [https] }", &["networkPolicy/sinkPorts/0", "integer"]),
    ("workloadIdentity: { enabled: true, clientId: contoso }", &["workloadIdentity/clientId", "pattern"]),
    ("config: { sinks: [ { name: out } ] }", &["config/sinks/0", "type"]),
    ("config: { tenants: { contoso: {} } }", &["config/tenants", "array"]),
    ("config: { admin: { listen: 'off' } }", &["config/admin/listen", "pattern"]),
    ("extraVolumeMounts: [ { name: x } ]", &["extraVolumeMounts/0", "mountPath"]),
    ("existingSecret: 'My Secret'", &["existingSecret", "pattern"]),
    // What the schema cannot say, the templates do.
    ("config: { tenants: null }", &["config.tenants", "at least one"]),
    ("config: { sinks: [] }", &["config.sinks", "at least one"]),
    ("config: { admin: { listen: '127.0.0.1:9464' } }", &["config.admin.listen", "0.0.0.0:9464"]),
    ("workloadIdentity: { enabled: true }", &["workloadIdentity.clientId"]),
    ("updateStrategy: { type: RollingUpdate }", &["updateStrategy.rollingUpdate.maxSurge", "Recreate"]),
    ("updateStrategy: { rollingUpdate: { maxSurge: 1 } }", &["updateStrategy.rollingUpdate.maxSurge", "Recreate"]),
    ("updateStrategy: { type: OnDelete }", &["updateStrategy.type", "Recreate"]),
    ("{ kind: StatefulSet, updateStrategy: { type: Recreate } }", &["updateStrategy.type", "OnDelete"]),
    (
        "{ podMonitor: { enabled: true }, serviceMonitor: { enabled: true } }",
        &["podMonitor.enabled", "serviceMonitor.enabled"],
    ),
];

/// Keys that operators know from other charts (Vector, Fluent Bit, Alloy), and the values they would give.
const KNOWN: &[&str] = &[
    "nameOverride=a",
    "fullnameOverride=a",
    "image.registry=r",
    "image.repository=a",
    "image.tag=1",
    "image.pullPolicy=Always",
    "image.pullSecrets[0]=a",
    "imagePullSecrets[0].name=a",
    "replicas=1",
    "serviceAccount.create=false",
    "serviceAccount.annotations.a=b",
    "serviceAccount.name=a",
    "serviceAccount.automountServiceAccountToken=false",
    "podAnnotations.a=b",
    "podLabels.a=b",
    "podSecurityContext.fsGroup=1",
    "securityContext.runAsUser=1",
    "resources.limits.memory=1Gi",
    "nodeSelector.a=b",
    "tolerations[0].key=a",
    "affinity.nodeAffinity=null",
    "topologySpreadConstraints[0].maxSkew=1",
    "priorityClassName=a",
    "env[0].name=A",
    "envFrom[0].prefix=a",
    "extraEnv[0].name=A",
    "extraVolumes[0].name=a",
    "extraContainers[0].name=a",
    "initContainers[0].name=a",
    "service.enabled=true",
    "service.type=NodePort",
    "service.annotations.a=b",
    "podDisruptionBudget.enabled=true",
    "podDisruptionBudget.minAvailable=1",
    "podDisruptionBudget.maxUnavailable=1",
    "persistence.enabled=false",
    "persistence.existingClaim=a",
    "persistence.storageClassName=a",
    "persistence.accessModes[0]=ReadWriteOnce",
    "persistence.size=1Gi",
    "existingConfigMap=a",
    "existingSecret=a",
    "livenessProbe.timeoutSeconds=1",
    "readinessProbe.timeoutSeconds=1",
    "startupProbe.timeoutSeconds=1",
    "terminationGracePeriodSeconds=60",
    "updateStrategy.type=Recreate",
    "podMonitor.enabled=true",
    "podMonitor.interval=1m",
    "podMonitor.additionalLabels.a=b",
    "podMonitor.relabelings[0].action=drop",
    "podMonitor.metricRelabelings[0].action=drop",
    "serviceMonitor.tlsConfig.insecureSkipVerify=true",
    "prometheusRule.enabled=true",
    "prometheusRule.additionalLabels.a=b",
    "prometheusRule.runbookUrl=https://a",
    "prometheusRule.grafanaUrl=https://a",
    "prometheusRule.rules[0].record=a",
    "dashboards.enabled=true",
    "dashboards.labelKey=a",
    "dashboards.annotations.a=b",
    "dashboards.namespace=a",
    "networkPolicy.enabled=true",
    "networkPolicy.ingress[0].ports=null",
    "networkPolicy.egress[0].ports=null",
    "extraObjects[0].kind=ConfigMap",
    "rollWorkload=false",
    "commonLabels.a=b",
    "args[0]=run",
    "workloadIdentity.enabled=false",
    "workloadIdentity.clientId=",
    "workloadIdentity.tenantId=",
    "kind=StatefulSet",
];

fn splunk() -> String {
    format!("{CHART}/ci/splunk-values.yaml")
}

#[test]
fn chart_values_that_are_wrong_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("wrong-{}.yaml", id()));
    for (values, named) in WRONG {
        std::fs::write(&file, values).unwrap();
        let said = helm(&["template", "a", CHART, "--values", &splunk(), "--values", file.to_str().unwrap()]);
        let said = said.expect_err(values);
        for part in *named {
            assert!(said.contains(part), "`{values}`: no word of `{part}` in\n{said}");
        }
    }
    figure("chart", format_args!("{} wrong values refused, each by its name", WRONG.len()));
    assert!(WRONG.len() >= 20);
}

#[test]
fn chart_values_known_from_other_charts_are_known_here() {
    let unknown: Vec<&&str> = KNOWN
        .iter()
        .filter(|set| {
            let said = helm(&["lint", CHART, "--values", &splunk(), "--set", set]);
            said.is_err_and(|said| said.contains("not allowed"))
        })
        .collect();
    figure("chart", format_args!("{} keys known from other charts", KNOWN.len() - unknown.len()));
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn chart_values_roll_the_pod_and_carry_the_identity() {
    let checksum = |set: &str| {
        let text = helm(&["template", "a", CHART, "--values", &splunk(), "--set", set]).unwrap();
        let documents = documents(&text);
        only(&documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    let before = checksum("config.collect.in_flight=32MiB");
    assert!(
        before.is_string() && before != checksum("config.collect.in_flight=64MiB"),
        "a new configuration, the same pod"
    );
    assert!(checksum("rollWorkload=false").is_null());

    let values = format!("{CHART}/ci/workload-identity-projected-values.yaml");
    let all = documents(&helm(&["template", "a", CHART, "--namespace", "soc", "--values", &values]).unwrap());
    let template = &only(&all, "Deployment")["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["azure.workload.identity/use"], "true");
    // `validate` asks for the variables that the webhook gives to pods with the label.
    assert_eq!(only(&all, "Pod")["metadata"]["labels"]["azure.workload.identity/use"], "true");
    let account = only(&all, "ServiceAccount");
    assert_eq!(
        account["metadata"]["annotations"]["azure.workload.identity/client-id"],
        "00000000-0000-4000-8000-0000000000aa"
    );
    assert_eq!(account["metadata"]["name"], template["spec"]["serviceAccountName"]);
    let container = &template["spec"]["containers"][0];
    let variable =
        |name: &str| container["env"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap()["value"].clone();
    let file = variable("AZURE_FEDERATED_TOKEN_FILE");
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| file.as_str().unwrap().starts_with(mount["mountPath"].as_str().unwrap())));
}
