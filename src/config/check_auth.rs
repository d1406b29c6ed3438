//! `auth:` as written → who signs in and how. Exactly one kind; what the file leaves out of a workload or managed
//! identity comes from the environment, by the names that Azure's webhook and hosts use (those of Microsoft's own
//! libraries). Comes in: what a tenant says. Goes out: an [`Identity`], or faults. Reads no key and no token.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use secrecy::SecretString;
use url::{Host, Url};

use super::check::warn_of_literal;
use super::faults::{Place, Reader};
use super::file::{AuthFile, CertificateFile, ManagedIdentityFile, TenantFile, WorkloadIdentityFile};
use super::section::{Field, Section};
use super::values::{At, Guid, Secret, is_guid, is_loopback, is_private};
use crate::config::{CertificateConfig, CredentialConfig, ManagedIdentityConfig, WorkloadIdentityConfig};

/// What the Azure workload identity webhook puts into a pod.
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const TENANT_ID: &str = "AZURE_TENANT_ID";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
/// A virtual machine's metadata service: link-local, never routed.
const METADATA_HOST: &str = "http://169.254.169.254";
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";
/// What replaces that host, as Microsoft's libraries have it.
const POD_IDENTITY_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
/// App Service, Functions and Container Apps.
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
const IDENTITY_HEADER: &str = "IDENTITY_HEADER";

/// What a tenant says of itself, or a sink of who asks for its tokens.
pub(super) struct Written<'a> {
    /// Of the section: a tenant's may lean on the defaults.
    pub title: &'static str,
    pub place: &'a Place,
    pub client_id: Field<Guid>,
    /// Already checked; `None` where it is missing or wrong.
    pub tenant_id: Option<String>,
    pub auth: Field<AuthFile>,
}

/// Who signs in, and how.
pub(super) struct Identity {
    pub client_id: String,
    pub credential: CredentialConfig,
    /// Where to sign in if the file does not say.
    pub authority_host: Option<Url>,
}

/// The tenant's id: as written, else that of its workload identity.
pub(super) fn tenant_id(
    file: &TenantFile,
    default_auth: &Field<AuthFile>,
    reader: &mut Reader<'_>,
) -> Option<At<Guid>> {
    let auth = file.auth.clone().or(default_auth).value().unwrap_or_default();
    directory(file.tenant_id.clone(), &auth.workload_identity, TenantFile::TITLE, &file.place, reader)
}

/// The directory id: as written, else that of the workload identity, else what the webhook says of it.
pub(super) fn directory(
    written: Field<Guid>,
    workload: &Field<WorkloadIdentityFile>,
    title: &str,
    place: &Place,
    reader: &mut Reader<'_>,
) -> Option<At<Guid>> {
    if let (Field::Absent, Field::Given(workload)) = (&written, workload) {
        if !matches!(workload.value.tenant_id, Field::Absent) {
            return workload.value.tenant_id.clone().given();
        }
        if let Some(id) = variable(TENANT_ID, reader) {
            return guid(&id, TENANT_ID, place, reader).map(|id| At { value: Guid(id), place: place.clone() });
        }
    }
    written.required("tenant_id", title, place, "the directory id from the portal's overview page", reader)
}

/// Who signs in, and how.
pub(super) fn identity(written: Written<'_>, reader: &mut Reader<'_>) -> Option<Identity> {
    let Written { title, place, client_id, tenant_id, auth } = written;
    let auth = auth.required(
        "auth",
        TenantFile::TITLE,
        place,
        "one of `client_secret`, `certificate`, `workload_identity`, `managed_identity`, here or in `tenant_defaults`; for instance `auth: { client_secret: \"${file:/run/secrets/…}\" }`",
        reader,
    );
    let Some(auth) = auth else {
        // A tenant without its application is said in the same breath.
        required_client_id(client_id, title, place, reader);
        return None;
    };
    let At { value: auth, place: at } = auth;
    let section = if title == TenantFile::TITLE { "`auth`" } else { title };
    let kinds = [
        ("client_secret", place_of(&auth.client_secret, &at)),
        ("certificate", place_of(&auth.certificate, &at)),
        ("workload_identity", place_of(&auth.workload_identity, &at)),
        ("managed_identity", place_of(&auth.managed_identity, &at)),
    ];
    let given: Vec<_> = kinds.into_iter().filter_map(|(key, place)| Some((key, place?))).collect();
    if let [(first, _), (second, place), ..] = given.as_slice() {
        reader.fault(
            place,
            format!("{section} has both `{first}` and `{second}`"),
            "give one: the application signs in one way; remove the other",
        );
        return None;
    }
    if given.is_empty() {
        reader.fault(
            &at,
            format!("{section} names no way to sign in"),
            "give one of `client_secret`, `certificate`, `workload_identity: {}`, `managed_identity: {}`; a secret best as \"${file:/run/secrets/…}\"",
        );
    }
    if let Field::Given(date) = &auth.client_secret_expires
        && matches!(auth.client_secret, Field::Absent)
    {
        reader.fault(
            &date.place,
            "`client_secret_expires` is the day on which a `client_secret` ends, and there is none",
            "remove it: a certificate says itself when it ends, and the other kinds do not",
        );
    }
    if given.is_empty() {
        return None;
    }
    if !matches!(auth.workload_identity, Field::Absent) {
        return workload_identity(auth.workload_identity.given()?, client_id, tenant_id.as_deref(), place, reader);
    }
    if !matches!(auth.managed_identity, Field::Absent) {
        return managed_identity(auth.managed_identity.given()?, reader);
    }
    let client_id = required_client_id(client_id, title, place, reader);
    let credential = if matches!(auth.certificate, Field::Absent) {
        let secret = auth.client_secret.given()?;
        warn_if_literal(&secret, "client secret", reader);
        let expires = auth.client_secret_expires.value().map(|day| day.0);
        CredentialConfig::ClientSecret { secret: secret.value.source, expires }
    } else {
        CredentialConfig::Certificate(certificate(auth.certificate.given()?, reader)?)
    };
    Some(Identity { client_id: client_id?, credential, authority_host: None })
}

/// Where a kind was written; one that was written wrong counts too.
fn place_of<T>(field: &Field<T>, section: &Place) -> Option<Place> {
    match field {
        Field::Absent => None,
        Field::Faulty => Some(section.clone()),
        Field::Given(at) => Some(at.place.clone()),
    }
}

fn required_client_id(client_id: Field<Guid>, title: &str, place: &Place, reader: &mut Reader<'_>) -> Option<String> {
    let hint = match title {
        TenantFile::TITLE => "the id of the app registration, here or in `tenant_defaults`",
        _ => "the id of the app registration",
    };
    client_id.required("client_id", title, place, hint, reader).map(|id| id.value.0)
}

fn warn_if_literal(secret: &At<Secret>, what: &str, reader: &mut Reader<'_>) {
    if secret.value.literal {
        warn_of_literal(&secret.place, what, reader);
    }
}

fn certificate(written: At<CertificateFile>, reader: &mut Reader<'_>) -> Option<CertificateConfig> {
    let At { value: written, place } = written;
    let hint = "`certificate: { file: /run/secrets/app.pem }`: certificate and key in PEM, or a PFX file";
    let file = written.file.required("file", CertificateFile::TITLE, &place, hint, reader)?;
    let key_file = written.key_file.given();
    for (path, what) in [(Some(&file), "certificate"), (key_file.as_ref(), "private key")] {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::metadata(&path.value) {
            reader.warning(
                &path.place,
                format!("cannot see the {what} in `{}` from here: {error}", path.value.display()),
                "it is read at each use and must be there when `run` starts",
            );
        }
        warn_of_readable(path, reader);
    }
    let password = written.password.given();
    if let Some(password) = &password {
        warn_if_literal(password, "password of the certificate's key", reader);
    }
    let files = CertificateConfig {
        file: file.value,
        key_file: key_file.map(|at| at.value),
        password: password.map(|at| at.value.source),
    };
    reader.certificate(&files, &file.place);
    Some(files)
}

/// A file with a private key in it is for its owner to read.
fn warn_of_readable(path: &At<PathBuf>, reader: &mut Reader<'_>) {
    use std::os::unix::fs::MetadataExt;
    let shown = path.value.display();
    let readable = std::fs::metadata(&path.value).is_ok_and(|found| found.mode() & 0o004 != 0);
    let holds_key = || std::fs::read(&path.value).is_ok_and(|bytes| !is_pem_without_key(&bytes));
    if readable && holds_key() {
        reader.warning(
            &path.place,
            format!("everybody on this machine can read the private key in `{shown}`"),
            format!("chmod o-r {shown}"),
        );
    }
}

fn is_pem_without_key(bytes: &[u8]) -> bool {
    let has = |what: &[u8]| memchr::memmem::find(bytes, what).is_some();
    has(b"-----BEGIN CERTIFICATE") && !has(b"PRIVATE KEY-----")
}

fn workload_identity(
    written: At<WorkloadIdentityFile>,
    client_id: Field<Guid>,
    tenant_id: Option<&str>,
    place: &Place,
    reader: &mut Reader<'_>,
) -> Option<Identity> {
    let At { value: written, place: at } = written;
    let token_file = match written.token_file {
        Field::Absent => {
            let from_environment = variable(TOKEN_FILE, reader).map(PathBuf::from);
            if from_environment.is_none() {
                reader.fault(
                    &at,
                    format!("`token_file` is missing in `workload_identity`, and `{TOKEN_FILE}` is not set"),
                    "the webhook sets it in pods with the label `azure.workload.identity/use: \"true\"`; elsewhere name the file that holds the projected token",
                );
            }
            from_environment
        }
        written => written.value(),
    };
    let client_id = match written.client_id.or(&client_id) {
        Field::Absent => match variable(CLIENT_ID, reader) {
            Some(id) => guid(&id, CLIENT_ID, &at, reader),
            None => {
                reader.fault(
                    &at,
                    format!("there is no `client_id`, and `{CLIENT_ID}` is not set"),
                    "annotate the ServiceAccount with `azure.workload.identity/client-id`, or give the id of the application",
                );
                None
            }
        },
        written => written.value().map(|id| id.0),
    };
    if let Field::Given(other) = &written.tenant_id
        && tenant_id.is_some_and(|tenant| tenant != other.value.0)
    {
        reader.fault(
            &other.place,
            "`tenant_id` in `workload_identity` is another than that of the tenant",
            "leave it out: a token is of one directory",
        );
    }
    let authority_host = variable(AUTHORITY_HOST, reader).and_then(|host| authority(&host, place, reader));
    let credential = CredentialConfig::WorkloadIdentity(WorkloadIdentityConfig { token_file: token_file? });
    Some(Identity { client_id: client_id?, credential, authority_host })
}

fn managed_identity(written: At<ManagedIdentityFile>, reader: &mut Reader<'_>) -> Option<Identity> {
    let At { value: written, place: at } = written;
    // One of its own only: the tenant's `client_id`, or that of the defaults, is of an app registration.
    let client_id = match written.client_id {
        Field::Absent => None,
        written => Some(written.given()?.value.0),
    };
    for (name, host) in [("IMDS_ENDPOINT", "Azure Arc"), ("IDENTITY_SERVER_THUMBPRINT", "Service Fabric")] {
        if variable(name, reader).is_some() {
            reader.fault(
                &at,
                format!("`{name}` is set: {host} hands out its identities in a way of its own that is not supported"),
                "use a certificate or a workload identity there",
            );
            return None;
        }
    }
    let (variable_name, written, header) =
        match (variable(IDENTITY_ENDPOINT, reader), variable(IDENTITY_HEADER, reader)) {
            (Some(endpoint), Some(header)) => (IDENTITY_ENDPOINT, endpoint, Some(SecretString::from(header))),
            _ => {
                let host = variable(POD_IDENTITY_HOST, reader).unwrap_or_else(|| METADATA_HOST.to_owned());
                (POD_IDENTITY_HOST, format!("{}{METADATA_PATH}", host.trim_end_matches('/')), None)
            }
        };
    let endpoint = Url::parse(&written).ok().filter(is_local);
    if endpoint.is_none() {
        reader.fault(
            &at,
            format!(
                "`{variable_name}` is no address of this machine or of its link: identities are handed out nowhere else"
            ),
            "unset it; it names `http://169.254.169.254`, or loopback",
        );
    }
    let credential = CredentialConfig::ManagedIdentity(ManagedIdentityConfig {
        client_id: client_id.clone(),
        endpoint: endpoint?,
        header,
    });
    Some(Identity { client_id: client_id.unwrap_or_default(), credential, authority_host: None })
}

/// Plain http to where no packet leaves the machine's own link.
fn is_local(url: &Url) -> bool {
    let is_link_local = match url.host() {
        Some(Host::Ipv4(address)) => Ipv4Addr::is_link_local(&address),
        _ => false,
    };
    url.scheme() == "http" && url.username().is_empty() && (is_link_local || is_loopback(url))
}

fn authority(host: &str, place: &Place, reader: &mut Reader<'_>) -> Option<Url> {
    let url = Url::parse(host).ok().filter(is_private);
    if url.is_none() {
        reader.fault(
            place,
            format!("`{AUTHORITY_HOST}` is not a URL that begins with https"),
            "the webhook sets it, for instance to `https://login.microsoftonline.com/`; or give `cloud`",
        );
    }
    url
}

/// What is set and not empty.
fn variable(name: &str, reader: &Reader<'_>) -> Option<String> {
    (reader.variables)(name).filter(|value| !value.is_empty())
}

fn guid(text: &str, name: &str, place: &Place, reader: &mut Reader<'_>) -> Option<String> {
    let good = is_guid(text).then(|| text.to_ascii_lowercase());
    if good.is_none() {
        reader.fault(place, format!("`{name}` is set and is not a GUID"), "unset it, or give the id in the file");
    }
    good
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
