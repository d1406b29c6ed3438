//! Who may sign in as the application: secrets, certificates, federated credentials, managed identities. Several of
//! each at a time, added and withdrawn while the simulator runs, as an administrator rotates them. Comes in: the form
//! of a token request. Goes out: that it is proven, or a [`Denial`]; and a count of who signed in by what.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::server::Shared;
use super::{Denial, assertion, federated};

/// A certificate of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredCertificate {
    pub der: Vec<u8>,
    /// `RSAPublicKey` or `SubjectPublicKeyInfo`, DER.
    pub public_key: Vec<u8>,
    /// Seconds since 1970 UTC.
    pub not_before: i64,
    pub not_after: i64,
}

/// Whom the application trusts to sign for it: compared exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedCredential {
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

/// A key that an issuer publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    pub issuer: String,
    pub kid: String,
    /// `RSAPublicKey` or `SubjectPublicKeyInfo`, DER.
    pub public_key: Vec<u8>,
}

/// An identity of the machine that the simulator stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// Position of the tenant that it belongs to.
    pub tenant: usize,
    /// `None`: assigned by the system.
    pub client_id: Option<String>,
    /// App Service: what must be shown in `X-IDENTITY-HEADER`. `None`: a virtual machine's metadata service.
    pub header: Option<String>,
}

/// A secret of the application, and which one it is.
#[derive(Debug)]
struct Secret {
    number: u32,
    value: String,
    /// Seconds since 1970 UTC.
    expires: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    secrets: Vec<Secret>,
    made: u32,
    pub(super) certificates: Vec<RegisteredCertificate>,
    pub(super) federated: Vec<FederatedCredential>,
    pub(super) keys: Vec<IssuerKey>,
    pub(super) managed: Vec<ManagedIdentity>,
    /// Ids of assertions that were taken, and when they end: one is good once.
    pub(super) seen: HashMap<String, i64>,
    sign_ins: BTreeMap<String, u64>,
}

/// What is registered now.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Identities(Mutex<Registry>);

impl Identities {
    /// One secret that does not end.
    pub(in crate::simulator) fn new(secret: &str) -> Identities {
        let identities = Identities::default();
        identities.add_secret(secret, None);
        identities
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::simulator) fn add_secret(&self, value: &str, expires: Option<i64>) {
        let mut registry = self.registry();
        registry.made += 1;
        let number = registry.made;
        registry.secrets.push(Secret { number, value: value.to_owned(), expires });
    }

    pub(in crate::simulator) fn withdraw_secret(&self, value: &str) {
        self.registry().secrets.retain(|secret| secret.value != value);
    }

    pub(in crate::simulator) fn add_certificate(&self, certificate: RegisteredCertificate) {
        self.registry().certificates.push(certificate);
    }

    pub(in crate::simulator) fn withdraw_certificate(&self, der: &[u8]) {
        self.registry().certificates.retain(|certificate| certificate.der != der);
    }

    pub(in crate::simulator) fn federate(&self, credential: FederatedCredential) {
        self.registry().federated.push(credential);
    }

    pub(in crate::simulator) fn publish_key(&self, key: IssuerKey) {
        self.registry().keys.push(key);
    }

    pub(in crate::simulator) fn withdraw_key(&self, kid: &str) {
        self.registry().keys.retain(|key| key.kid != kid);
    }

    pub(in crate::simulator) fn assign(&self, identity: ManagedIdentity) {
        self.registry().managed.push(identity);
    }

    /// How often each proof was taken.
    pub(in crate::simulator) fn sign_ins(&self) -> BTreeMap<String, u64> {
        self.registry().sign_ins.clone()
    }

    /// Counts a proof that was taken.
    pub(super) fn took(&self, by: String) {
        *self.registry().sign_ins.entry(by).or_default() += 1;
    }

    /// Checks the proof in the form of a token request for the tenant at this position.
    pub(super) fn prove<'a>(
        &self,
        shared: &Shared,
        tenant: usize,
        field: &impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), Denial> {
        let by = match (field("client_secret"), field("client_assertion")) {
            (Some(secret), None) => self.secret(shared, secret)?,
            (None, Some(assertion)) => {
                const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                if field("client_assertion_type") != Some(TYPE) {
                    return Err(Denial::client(50_027, "JWT token is invalid or malformed."));
                }
                self.assertion(shared, tenant, assertion)?
            }
            _ => {
                return Err(Denial::client(
                    7_000_218,
                    "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
                ));
            }
        };
        self.took(by);
        Ok(())
    }

    fn secret(&self, shared: &Shared, given: &str) -> Result<String, Denial> {
        let (registry, app) = (self.registry(), &shared.world.client_id);
        let Some(secret) = registry.secrets.iter().find(|secret| secret.value == given) else {
            return Err(Denial::client(
                7_000_215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app}'."
                ),
            ));
        };
        if secret.expires.is_some_and(|expires| expires <= shared.world.clock.now()) {
            return Err(Denial::client(
                7_000_222,
                format!(
                    "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys for your app, or consider using certificate credentials for added security."
                ),
            ));
        }
        Ok(format!("secret {}", secret.number))
    }

    /// An assertion of the application's own, signed with a certificate, or of somebody whom it trusts.
    fn assertion(&self, shared: &Shared, tenant: usize, compact: &str) -> Result<String, Denial> {
        let jwt = assertion::Jwt::read(compact)
            .ok_or_else(|| Denial::client(50_027, "JWT token is invalid or malformed."))?;
        let mut registry = self.registry();
        let now = shared.world.clock.now();
        match jwt.is_of_certificate() {
            true => assertion::verify(&jwt, shared, tenant, &mut registry, now),
            false => federated::verify(&jwt, &registry, now),
        }
    }
}
