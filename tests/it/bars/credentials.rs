//! What the tests sign in with: certificates with their keys, and somebody whom the application trusts. All made when a
//! test runs; no key stands in the repository.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auditferry::simulator::{FederatedCredential, IssuerKey, RegisteredCertificate};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub const ISSUER: &str = "https://cluster.example/oidc/";
pub const SUBJECT: &str = "system:serviceaccount:audit:auditferry";
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
const DAY: i64 = 86_400;

/// Seconds since 1970 UTC.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A certificate with its key, made for this test.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
    pub registered: RegisteredCertificate,
}

impl Certificate {
    /// Valid from so many days from now until so many.
    pub fn new(from: i64, until: i64) -> Certificate {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let (not_before, not_after) = (now() + from * DAY, now() + until * DAY);
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        let at = |second: i64| (UNIX_EPOCH + Duration::from_secs(second as u64)).into();
        (params.not_before, params.not_after) = (at(not_before), at(not_after));
        let certificate = params.self_signed(&key).unwrap();
        Certificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            registered: RegisteredCertificate {
                der: certificate.der().to_vec(),
                public_key: key.public_key_raw().to_vec(),
                not_before,
                not_after,
            },
        }
    }

    pub fn pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }

    /// As a PFX file, which openssl writes.
    pub fn write_pfx(&self, path: &Path, password: &str, legacy: bool) {
        let pem = path.with_extension("in");
        std::fs::write(&pem, self.pem()).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-export", "-in"]).arg(&pem).arg("-out").arg(path);
        openssl.args(["-passout", &format!("pass:{password}")]).args(legacy.then_some("-legacy"));
        let ran = openssl.output().expect("openssl is wanted: apt-get install openssl");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::remove_file(pem).unwrap();
    }
}

/// Somebody whom the application trusts.
pub struct Issuer {
    key: rsa::KeyPair,
    kid: String,
}

impl Issuer {
    pub fn new(kid: &str) -> Issuer {
        Issuer { key: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(), kid: kid.to_owned() }
    }

    pub fn published(&self) -> IssuerKey {
        IssuerKey { issuer: ISSUER.into(), kid: self.kid.clone(), public_key: self.key.public_key().as_ref().to_vec() }
    }

    /// A token for `audience` that lives so many seconds.
    pub fn token(&self, subject: &str, audience: &str, lifetime: i64) -> String {
        let header = serde_json::json!({ "alg": "RS256", "kid": self.kid });
        let claims = serde_json::json!({ "iss": ISSUER, "sub": subject, "aud": [audience], "nbf": now() - 3600, "exp": now() + lifetime });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Trust of the application in the issuer.
pub fn trust() -> FederatedCredential {
    FederatedCredential { issuer: ISSUER.into(), subject: SUBJECT.into(), audience: AUDIENCE.into() }
}
