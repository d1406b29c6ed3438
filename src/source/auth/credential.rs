//! A token request, by the kind of credential. Comes in: the configuration of a tenant or a sink and the time. Goes out: a
//! request that is ready to be sent, and every secret in it, so that an answer that repeats one can be cleaned. What
//! it needs it reads from its files at each request; it keeps nothing.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::assertion::{self, ASSERTION_TYPE};
use super::certificate::{self, CertificateError};
use super::federated::{self, FederatedError};
use super::leaf::Leaf;
use crate::clock::Seconds;
use crate::config::{CredentialConfig, ManagedIdentityConfig, TenantConfig, TokenConfig, TokenEndpoint};
use crate::secret::{SecretError, SecretSource};

/// Who asks, and where.
pub struct Credential {
    pub login: Url,
    pub tenant_id: String,
    pub client_id: String,
    pub kind: CredentialConfig,
    /// The resource: the API's root without a slash at the end (activity-api 1.1).
    pub resource: String,
    /// In place of the token endpoint of `login` and `tenant_id`: one that is not Entra's.
    pub endpoint: Option<TokenEndpoint>,
    /// In place of all rights on the resource; empty: none is asked for.
    pub scope: Option<String>,
}

/// A request, and what must not be repeated of it.
pub struct TokenRequest {
    pub request: Request,
    pub secrets: Vec<SecretString>,
    /// The certificate that signed it.
    pub leaf: Option<Leaf>,
}

/// A request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Federated(#[from] FederatedError),
    #[error("the certificate's key does not sign; is it damaged?")]
    Signature,
    #[error("the header of the managed identity cannot be sent; is `IDENTITY_HEADER` what the host set?")]
    Header,
}

/// Versions of the two interfaces of managed identities, of the machine and of App Service.
const METADATA_VERSION: &str = "2018-02-01";
const APP_SERVICE_VERSION: &str = "2019-08-01";

impl Credential {
    /// That of a tenant.
    pub fn of(config: &TenantConfig) -> Credential {
        Credential {
            login: config.login.clone(),
            tenant_id: config.tenant.id.clone(),
            client_id: config.client_id.clone(),
            kind: config.credential.clone(),
            resource: config.api.as_str().trim_end_matches('/').to_owned(),
            endpoint: None,
            scope: None,
        }
    }

    /// That of a sink.
    pub fn of_sink(config: &TokenConfig) -> Credential {
        Credential {
            login: config.login.clone(),
            tenant_id: config.tenant_id.clone(),
            client_id: config.client_id.clone(),
            kind: config.credential.clone(),
            resource: config.scope.strip_suffix("/.default").unwrap_or(&config.scope).to_owned(),
            endpoint: config.endpoint.clone(),
            scope: Some(config.scope.clone()),
        }
    }

    /// The token endpoint, version 2, which is also whom an assertion is made to.
    pub fn endpoint(&self) -> Url {
        if let Some(endpoint) = &self.endpoint {
            return endpoint.url.clone();
        }
        let mut url = self.login.clone();
        url.set_path(&format!("{}/{}/oauth2/v2.0/token", url.path().trim_end_matches('/'), self.tenant_id));
        url
    }

    /// A request for a token. `now`: the token endpoint's time as far as it is known.
    pub fn request(&self, now: Seconds) -> Result<TokenRequest, CredentialError> {
        match &self.kind {
            CredentialConfig::ClientSecret { secret, .. } => self.with_secret(secret.read()?),
            CredentialConfig::Certificate(config) => {
                let pair = certificate::load(config, now)?;
                let signed = assertion::sign(&pair, &self.client_id, self.endpoint().as_str(), now);
                let request = self.with_assertion(signed.ok_or(CredentialError::Signature)?);
                Ok(TokenRequest { leaf: Some(pair.leaf), ..request })
            }
            CredentialConfig::WorkloadIdentity(config) => Ok(self.with_assertion(federated::read(&config.token_file)?)),
            CredentialConfig::ManagedIdentity(config) => self.of_managed(config),
        }
    }

    fn with_secret(&self, secret: SecretString) -> Result<TokenRequest, CredentialError> {
        let client_id = SecretString::from(self.client_id.as_str());
        if !self.endpoint.as_ref().is_some_and(|endpoint| endpoint.basic) {
            return Ok(self.form(&[("client_id", &client_id), ("client_secret", &secret)], vec![secret.clone()]));
        }
        // RFC 6749, 2.3.1: both are form-encoded first.
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = STANDARD.encode(format!("{}:{}", encode(&self.client_id), encode(secret.expose_secret())));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| CredentialError::Header)?;
        value.set_sensitive(true);
        let mut asked = self.form(&[], vec![secret, pair.into()]);
        asked.request.headers_mut().insert(AUTHORIZATION, value);
        Ok(asked)
    }

    fn with_assertion(&self, assertion: SecretString) -> TokenRequest {
        let (client_id, kind) = (SecretString::from(self.client_id.as_str()), SecretString::from(ASSERTION_TYPE));
        let proof = [("client_id", &client_id), ("client_assertion_type", &kind), ("client_assertion", &assertion)];
        self.form(&proof, vec![assertion.clone()])
    }

    fn form(&self, proof: &[(&str, &SecretString)], secrets: Vec<SecretString>) -> TokenRequest {
        let scope = self.scope.clone().unwrap_or_else(|| format!("{}/.default", self.resource));
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in proof {
            form.append_pair(name, value.expose_secret());
        }
        if !scope.is_empty() {
            form.append_pair("scope", &scope);
        }
        for (name, value) in self.endpoint.iter().flat_map(|endpoint| &endpoint.parameters) {
            form.append_pair(name, value);
        }
        let form = form.finish();
        let mut request = Request::new(Method::POST, self.endpoint());
        *request.body_mut() = Some(form.into());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        TokenRequest { request, secrets, leaf: None }
    }

    /// What a machine in Azure asks its own link: no proof is sent, to be there is the proof.
    fn of_managed(&self, config: &ManagedIdentityConfig) -> Result<TokenRequest, CredentialError> {
        let mut url = config.endpoint.clone();
        let version = if config.header.is_some() { APP_SERVICE_VERSION } else { METADATA_VERSION };
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", &self.resource);
        if let Some(client_id) = &config.client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        let mut request = Request::new(Method::GET, url);
        let mut secrets = Vec::new();
        match &config.header {
            Some(header) => {
                let value = HeaderValue::try_from(header.expose_secret());
                let mut value = value.map_err(|_| CredentialError::Header)?;
                value.set_sensitive(true);
                request.headers_mut().insert(HeaderName::from_static("x-identity-header"), value);
                secrets.push(header.clone());
            }
            None => {
                // A forwarded request does not bear it: what keeps others from asking in our name.
                request.headers_mut().insert(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
            }
        }
        Ok(TokenRequest { request, secrets, leaf: None })
    }

    /// A hash of all that the request is made of: another one means that somebody changed a file. What cannot be
    /// read counts as empty, so that its coming is a change too.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let read = |source: &SecretSource| source.read().unwrap_or_default();
        match &self.kind {
            CredentialConfig::ClientSecret { secret, .. } => add(read(secret).expose_secret().as_bytes()),
            CredentialConfig::Certificate(config) => {
                for path in [Some(&config.file), config.key_file.as_ref()].into_iter().flatten() {
                    add(&zeroize::Zeroizing::new(std::fs::read(path).unwrap_or_default()));
                }
                config.password.iter().for_each(|password| add(read(password).expose_secret().as_bytes()));
            }
            CredentialConfig::WorkloadIdentity(config) => {
                add(federated::read(&config.token_file).unwrap_or_default().expose_secret().as_bytes());
            }
            CredentialConfig::ManagedIdentity(_) => {}
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        fingerprint
    }

    /// Whether it rests on files, which may change.
    pub fn may_change(&self) -> bool {
        match &self.kind {
            CredentialConfig::ClientSecret { secret, .. } => matches!(secret, SecretSource::File(_)),
            CredentialConfig::Certificate(_) | CredentialConfig::WorkloadIdentity(_) => true,
            CredentialConfig::ManagedIdentity(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(more: &str) -> (String, String) {
        let text = format!(
            "tenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}, {more}}}]\nsinks: [{{name: o, type: stdout}}]"
        );
        let config = crate::config::load_str("c.yaml", &text).unwrap_or_else(|faults| panic!("{faults}"));
        let request = Credential::of(&config.tenants[0]).request(0).unwrap().request;
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap();
        let scope = url::form_urlencoded::parse(body).find(|(name, _)| name == "scope").unwrap().1.into_owned();
        (request.url().to_string(), scope)
    }

    /// activity-api 1.1.
    #[test]
    fn each_cloud_has_its_endpoint_and_its_scope() {
        const PATH: &str = "00000000-0000-4000-8000-00000000000a/oauth2/v2.0/token";
        for (cloud, login, scope) in [
            ("cloud: enterprise", "https://login.microsoftonline.com", "https://manage.office.com/.default"),
            ("cloud: gcc", "https://login.microsoftonline.com", "https://manage-gcc.office.com/.default"),
            ("cloud: gcc_high", "https://login.microsoftonline.us", "https://manage.office365.us/.default"),
            ("cloud: dod", "https://login.microsoftonline.us", "https://manage.protection.apps.mil/.default"),
            (
                "endpoints: {api: 'https://a.example', login: 'https://l.example/x/'}",
                "https://l.example/x",
                "https://a.example/.default",
            ),
        ] {
            assert_eq!(form(cloud), (format!("{login}/{PATH}"), scope.to_owned()), "{cloud}");
        }
    }

    #[test]
    fn a_managed_identity_is_asked_for_by_its_own_rules() {
        let ask = |header: Option<&str>| {
            let config = ManagedIdentityConfig {
                client_id: Some("id".into()),
                endpoint: "http://169.254.169.254/metadata/identity/oauth2/token".parse().unwrap(),
                header: header.map(Into::into),
            };
            let credential = Credential {
                login: "https://login.example".parse().unwrap(),
                tenant_id: "t".into(),
                client_id: String::new(),
                kind: CredentialConfig::ManagedIdentity(config),
                resource: "https://manage.office.com".into(),
                endpoint: None,
                scope: None,
            };
            credential.request(0).unwrap()
        };
        let (metadata, app) = (ask(None), ask(Some("shown")));
        let query = "resource=https%3A%2F%2Fmanage.office.com&client_id=id";
        assert_eq!(metadata.request.url().query(), Some(format!("api-version=2018-02-01&{query}").as_str()));
        assert_eq!(app.request.url().query(), Some(format!("api-version=2019-08-01&{query}").as_str()));
        assert_eq!(metadata.request.headers()["metadata"], "true");
        assert!(app.request.headers()["x-identity-header"].is_sensitive() && app.secrets.len() == 1);
        assert!(!format!("{:?}", app.request).contains("shown"));
    }
}
