//! `auth:` in every form: what is meant by it, and what is wrong with it and how that is said.

use super::super::load::{Loaded, load_text};
use crate::config::CredentialConfig;

const APP: &str = "00000000-0000-4000-8000-00000000000b";
const TENANT: &str = "00000000-0000-4000-8000-00000000000a";
const OTHER: &str = "00000000-0000-4000-8000-00000000000c";

fn text(auth: &str) -> String {
    format!(
        "tenants:\n- name: a\n  tenant_id: {TENANT}\n  client_id: {APP}\n  auth: {auth}\nsinks: [{{name: o, type: stdout}}]\n"
    )
}

fn good(text: &str, variables: &[(&str, &str)]) -> Loaded {
    load_text("c.yaml", text, &lookup(variables)).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults =
        load_text("c.yaml", text, &lookup(variables)).err().unwrap_or_else(|| panic!("nothing wrong:\n{text}"));
    faults.0.iter().map(ToString::to_string).collect()
}

fn lookup(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// What Azure's webhook puts into a pod.
const POD: [(&str, &str); 4] = [
    ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
    ("AZURE_CLIENT_ID", APP),
    ("AZURE_TENANT_ID", TENANT),
    ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"),
];

#[test]
fn each_kind_is_read_as_meant() {
    let of = |auth: &str| good(&text(auth), &[]).config.tenants[0].credential.clone();
    let CredentialConfig::ClientSecret { expires, .. } = of("{client_secret: x, client_secret_expires: 2027-01-31}")
    else {
        panic!()
    };
    assert_eq!(expires, Some(1_801_353_600), "midnight UTC");
    let CredentialConfig::Certificate(files) = of("{certificate: {file: /a.pem, key_file: /k.pem, password: canary}}")
    else {
        panic!()
    };
    assert_eq!(
        (files.file.to_str(), files.key_file.as_deref().and_then(|p| p.to_str())),
        (Some("/a.pem"), Some("/k.pem"))
    );
    assert!(!format!("{files:?}").contains("canary"));
    let CredentialConfig::WorkloadIdentity(workload) = of("{workload_identity: {token_file: /t}}") else { panic!() };
    assert_eq!(workload.token_file.to_str(), Some("/t"));
    let CredentialConfig::ManagedIdentity(managed) = of("{managed_identity: {}}") else { panic!() };
    assert_eq!(managed.endpoint.as_str(), "http://169.254.169.254/metadata/identity/oauth2/token");
    assert!(managed.client_id.is_none() && managed.header.is_none());
}

#[test]
fn in_a_pod_with_workload_identity_nothing_more_has_to_be_said() {
    let bare = "tenants: [{name: a, auth: {workload_identity: {}}}]\nsinks: [{name: o, type: stdout}]";
    let tenant = good(bare, &POD).config.tenants[0].clone();
    assert_eq!((tenant.tenant.id.as_str(), tenant.client_id.as_str()), (TENANT, APP));
    assert_eq!(tenant.login.as_str(), "https://login.microsoftonline.us/");
    // What the file says rules.
    let said = text(&format!("{{workload_identity: {{client_id: {OTHER}, token_file: /t}}}}\n  cloud: gcc"));
    let tenant = good(&said, &POD).config.tenants[0].clone();
    assert_eq!((tenant.client_id.as_str(), tenant.login.as_str()), (OTHER, "https://login.microsoftonline.com/"));
}

#[test]
fn app_service_and_other_hosts_of_managed_identities_are_found_in_the_environment() {
    let managed = |variables: &[(&str, &str)]| {
        let config = good(&text(&format!("{{managed_identity: {{client_id: {OTHER}}}}}")), variables).config;
        let CredentialConfig::ManagedIdentity(managed) = config.tenants[0].credential.clone() else { panic!() };
        assert!(!format!("{managed:?}").contains("canary"));
        (managed.endpoint.to_string(), managed.header.is_some(), managed.client_id)
    };
    let app = [("IDENTITY_ENDPOINT", "http://169.254.130.2:8081/msi/token"), ("IDENTITY_HEADER", "canary")];
    assert_eq!(managed(&app), ("http://169.254.130.2:8081/msi/token".into(), true, Some(OTHER.into())));
    let (endpoint, header, _) = managed(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:2579/")]);
    assert_eq!((endpoint.as_str(), header), ("http://127.0.0.1:2579/metadata/identity/oauth2/token", false));
}

#[test]
fn each_fault_of_auth_is_said_at_its_place_with_a_way_out() {
    for (auth, variables, parts) in [
        ("{}", &[][..], ["c.yaml:5:9: error: `auth` names no way to sign in", "`certificate`"]),
        ("{client_secret: x, certificate: {file: /a}}", &[], ["c.yaml:5:41: error: `auth` has both", "give one"]),
        (
            "{managed_identity: {}, workload_identity: {}}",
            &[],
            ["has both `workload_identity` and `managed", "give one"],
        ),
        (
            "{client_secret: x, client_secret_expires: soon}",
            &[],
            ["c.yaml:5:51: error: `soon` is not a date", "2027-01-31"],
        ),
        (
            "{certificate: {file: /a}, client_secret_expires: 2027-01-31}",
            &[],
            ["c.yaml:5:58: error: `client_secret_expires`", "remove it"],
        ),
        ("{certificate: {}}", &[], ["c.yaml:5:23: error: `file` is missing in `certificate`", "PFX"]),
        ("{certificate: {file: /a, pasword: x}}", &[], ["unknown key `pasword`", "did you mean `password`?"]),
        ("{workload_identity: {}}", &[], ["`AZURE_FEDERATED_TOKEN_FILE` is not set", "azure.workload.identity/use"]),
        (
            "{workload_identity: {tenant_id: 00000000-0000-4000-8000-00000000000c, token_file: /t}}",
            &[],
            ["c.yaml:5:41: error: `tenant_id` in `workload_identity`", "leave it out"],
        ),
        (
            "{workload_identity: {token_file: /t}}",
            &[("AZURE_AUTHORITY_HOST", "http://evil.example")],
            ["`AZURE_AUTHORITY_HOST`", "https"],
        ),
        (
            "{managed_identity: {}}",
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://evil.example")],
            ["no address of this machine", "169.254.169.254"],
        ),
        (
            "{managed_identity: {}}",
            &[("IDENTITY_ENDPOINT", "http://10.0.0.1/msi"), ("IDENTITY_HEADER", "canary")],
            ["`IDENTITY_ENDPOINT` is no address", "loopback"],
        ),
        ("{managed_identity: {}}", &[("IMDS_ENDPOINT", "http://localhost:40342")], ["Azure Arc", "certificate"]),
    ] {
        let said = faults(&text(auth), variables);
        let found = said.iter().any(|fault| parts.iter().all(|part| fault.contains(part)));
        assert!(found && !said.iter().any(|fault| fault.contains("canary")), "{auth}\n{said:#?}");
    }
    let nobody = "tenants: [{name: a, auth: {workload_identity: {}}}]\nsinks: [{name: o, type: stdout}]";
    let said = faults(nobody, &POD[..1]);
    for part in ["`tenant_id` is missing", "`AZURE_CLIENT_ID` is not set"] {
        assert!(said.iter().any(|fault| fault.contains(part)), "{part}\n{said:#?}");
    }
}

#[test]
fn a_private_key_that_everybody_can_read_brings_a_word() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pem");
    let warnings = |content: &str, mode| {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        good(&text(&format!("{{certificate: {{file: {}}}}}", path.display())), &[]).warnings.len()
    };
    let key = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";
    assert_eq!((warnings(key, 0o644), warnings(key, 0o600)), (1, 0));
    assert_eq!(warnings("-----BEGIN CERTIFICATE-----\n", 0o644), 0, "a certificate is no secret");
}

#[test]
fn a_header_that_the_login_or_the_signature_sets_is_not_given_twice() {
    let of = |rest: &str| {
        text("{client_secret: x}").replace(
            "{name: o, type: stdout}",
            &format!("{{name: o, type: http, url: 'https://soc.example/', {rest}}}"),
        )
    };
    for (rest, section) in [
        ("auth: {bearer: t}, headers: {authorization: x}", "`auth`"),
        ("auth: {header: {name: X-Key, value: t}}, headers: {x-key: x}", "`auth`"),
        ("signature: {secret: s}, headers: {X-Signature: x}", "`signature`"),
        ("signature: {secret: s, timestamp_header: X-Time}, headers: {X-Time: x}", "`signature`"),
    ] {
        let faults = faults(&of(rest), &[]);
        assert!(faults.len() == 1 && faults[0].contains(section) && faults[0].contains("too"), "{rest}: {faults:?}");
    }
    good(&of("headers: {Authorization: x}"), &[]);
    good(&of("auth: {header: {name: X-Key, value: t}}, headers: {Authorization: x}"), &[]);
}
