//! The Pod Security Standard *restricted*, as Kubernetes writes it down (concepts/security/pod-security-standards),
//! by rule: a pod's template in, the breaches out. Beside it what is ours: a read-only root, no token of the
//! Kubernetes API, a memory limit. That it sees each breach is tested by breaking a good pod in every way.

use serde_json::{Value, json};

/// The only kinds of volumes that a restricted pod may have.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SELINUX: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Where in `object` a pod's template (metadata and spec) stands, if it makes pods.
pub fn template(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => Some(object),
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Some(&object["spec"]["template"]),
        _ => None,
    }
}

/// What the standard, or we, have against a pod's template; each with the field's path.
pub fn breaches(template: &Value) -> Vec<String> {
    let mut said = Vec::new();
    let mut refuse = |refused: bool, what: String| {
        if refused {
            said.push(what);
        }
    };
    let (spec, security) = (&template["spec"], &template["spec"]["securityContext"]);
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        refuse(spec[key] == true, format!("{key} is true"));
    }
    for volume in list(&spec["volumes"]) {
        let keys = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        for kind in keys.filter(|kind| !VOLUMES.contains(&kind.as_str())) {
            refuse(true, format!("volume `{}` is a {kind}", volume["name"]));
        }
    }
    for sysctl in list(&security["sysctls"]) {
        refuse(!SYSCTLS.contains(&sysctl["name"].as_str().unwrap_or("")), format!("sysctl {sysctl}"));
    }
    for (name, value) in template["metadata"]["annotations"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let unconfined = name.starts_with("container.apparmor.security.beta.kubernetes.io/")
            && !(value == "runtime/default" || value.starts_with("localhost/"));
        refuse(unconfined, format!("annotation {name}: {value}"));
    }
    for of in shared(security) {
        refuse(true, format!("securityContext.{of}"));
    }
    let containers = LISTS.iter().flat_map(|key| list(&spec[key]).iter().map(move |container| (key, container)));
    for (list_name, container) in containers {
        let at = format!("{list_name}/{}", container["name"].as_str().unwrap_or("?"));
        for of in container_breaches(container, security) {
            refuse(true, format!("{at}: {of}"));
        }
    }
    refuse(list(&spec["containers"]).is_empty(), "no containers".into());
    refuse(spec["automountServiceAccountToken"] != false, "automountServiceAccountToken is not false".into());
    said
}

fn container_breaches(container: &Value, pod: &Value) -> Vec<String> {
    let own = &container["securityContext"];
    let mut said = shared(own);
    let mut refuse = |refused: bool, what: &str| {
        if refused {
            said.push(what.to_owned());
        }
    };
    // What stands at the container wins over what stands at the pod.
    let of = |key: &str| if own[key].is_null() { &pod[key] } else { &own[key] };
    refuse(of("runAsNonRoot") != true, "runAsNonRoot is not true");
    let seccomp = of("seccompProfile")["type"].as_str().unwrap_or("");
    refuse(!["RuntimeDefault", "Localhost"].contains(&seccomp), "seccompProfile.type");
    refuse(own["privileged"] == true, "privileged");
    refuse(own["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation is not false");
    refuse(!["", "Default"].contains(&own["procMount"].as_str().unwrap_or("")), "procMount");
    refuse(!list(&own["capabilities"]["drop"]).contains(&json!("ALL")), "capabilities.drop has no ALL");
    let added = list(&own["capabilities"]["add"]);
    refuse(added.iter().any(|name| name != "NET_BIND_SERVICE"), "capabilities.add");
    let ports = list(&container["ports"]);
    refuse(ports.iter().any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0), "hostPort");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let host = ["httpGet", "tcpSocket"].iter().any(|kind| container[probe][kind]["host"].is_string());
        refuse(host, "a probe names a host");
    }
    // Ours.
    refuse(own["readOnlyRootFilesystem"] != true, "readOnlyRootFilesystem is not true");
    let is_ours = container["name"] == "auditferry" || container["name"] == "validate";
    refuse(is_ours && container["resources"]["limits"]["memory"].is_null(), "no memory limit");
    said
}

/// What is forbidden in the security context of a pod and of a container alike.
fn shared(security: &Value) -> Vec<String> {
    let mut said = Vec::new();
    if security["runAsUser"] == 0 {
        said.push("runAsUser is 0".into());
    }
    if security["runAsNonRoot"] == false {
        said.push("runAsNonRoot is false".into());
    }
    if security["windowsOptions"]["hostProcess"] == true {
        said.push("windowsOptions.hostProcess".into());
    }
    if security["seccompProfile"]["type"] == "Unconfined" {
        said.push("seccompProfile.type is Unconfined".into());
    }
    if security["appArmorProfile"]["type"] == "Unconfined" {
        said.push("appArmorProfile.type is Unconfined".into());
    }
    let selinux = &security["seLinuxOptions"];
    let named = ["user", "role"].iter().any(|key| !selinux[key].as_str().unwrap_or("").is_empty());
    if named || !SELINUX.contains(&selinux["type"].as_str().unwrap_or("")) {
        said.push("seLinuxOptions".into());
    }
    said
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn each_breach_of_the_standard_is_seen() {
    let good = json!({ "metadata": {}, "spec": {
        "automountServiceAccountToken": false,
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "state", "emptyDir": {} }],
        "containers": [{
            "name": "auditferry", "ports": [{ "containerPort": 9464 }], "resources": { "limits": { "memory": "256Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
        }],
    }});
    assert_eq!(breaches(&good), Vec::<String>::new());
    let container = "/spec/containers/0/securityContext";
    let broken: &[(&str, &str, Value)] = &[
        ("/spec", "hostNetwork", json!(true)),
        ("/spec", "hostPID", json!(true)),
        ("/spec", "hostIPC", json!(true)),
        ("/spec", "automountServiceAccountToken", json!(null)),
        ("/spec", "containers", json!([])),
        ("/spec", "initContainers", json!([{ "name": "bare" }])),
        ("/spec", "ephemeralContainers", json!([{ "name": "bare" }])),
        ("/spec/volumes/0", "hostPath", json!({ "path": "/" })),
        ("/spec/volumes/0", "nfs", json!({ "server": "a", "path": "/" })),
        (
            "/metadata",
            "annotations",
            json!({ "container.apparmor.security.beta.kubernetes.io/auditferry": "unconfined" }),
        ),
        ("/spec/securityContext", "runAsNonRoot", json!(null)),
        ("/spec/securityContext", "runAsUser", json!(0)),
        ("/spec/securityContext", "seccompProfile", json!(null)),
        ("/spec/securityContext", "seccompProfile", json!({ "type": "Unconfined" })),
        ("/spec/securityContext", "sysctls", json!([{ "name": "kernel.msgmax", "value": "1" }])),
        ("/spec/securityContext", "windowsOptions", json!({ "hostProcess": true })),
        ("/spec/securityContext", "appArmorProfile", json!({ "type": "Unconfined" })),
        ("/spec/securityContext", "seLinuxOptions", json!({ "type": "spc_t" })),
        (container, "seLinuxOptions", json!({ "user": "system_u" })),
        (container, "runAsNonRoot", json!(false)),
        (container, "runAsUser", json!(0)),
        (container, "seccompProfile", json!({ "type": "Unconfined" })),
        (container, "privileged", json!(true)),
        (container, "procMount", json!("Unmasked")),
        (container, "allowPrivilegeEscalation", json!(null)),
        (container, "readOnlyRootFilesystem", json!(false)),
        (container, "capabilities", json!({ "drop": ["NET_RAW"] })),
        (container, "capabilities", json!({ "drop": ["ALL"], "add": ["SYS_ADMIN"] })),
        ("/spec/containers/0/ports/0", "hostPort", json!(9464)),
        ("/spec/containers/0", "livenessProbe", json!({ "httpGet": { "host": "example.com", "port": 80 } })),
        ("/spec/containers/0", "resources", json!({})),
    ];
    for (place, key, value) in broken {
        let mut pod = good.clone();
        pod.pointer_mut(place).unwrap()[key] = value.clone();
        assert!(!breaches(&pod).is_empty(), "{place}/{key} = {value} was not seen");
    }
}
