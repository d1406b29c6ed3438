//! The certificate and the key that an application signs in with, out of one or two files, PEM or PFX. Comes in:
//! paths. Goes out: a [`KeyPair`] whose certificate is the one of its key, whatever else lies beside it. Reads the
//! files anew at each call, so that a new certificate needs no restart; keeps nothing.

use std::path::{Path, PathBuf};

use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::der::Der;
use super::leaf::Leaf;
use super::pbe::{Password, Trouble};
use super::{pem, pfx};
use crate::clock::Seconds;
use crate::config::CertificateConfig;
use crate::secret::SecretError;

/// A key, and the certificate that says whose it is.
pub struct KeyPair {
    pub leaf: Leaf,
    pub key: rsa::KeyPair,
}

/// Why there is nothing to sign with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read the certificate's file `{path}`: {source}; check that it is mounted and readable")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Password(#[from] SecretError),
    #[error("`{path}` is neither PEM nor a PFX file; export the certificate with its private key as one of them")]
    Neither { path: PathBuf },
    #[error("`{path}` is broken PEM: {reason}")]
    Pem { path: PathBuf, reason: String },
    #[error("`{path}` cannot be opened with this password; give the right one in `certificate.password`")]
    WrongPassword { path: PathBuf },
    #[error("`{path}` is protected by a password; give it in `certificate.password`")]
    NoPassword { path: PathBuf },
    #[error(
        "`{path}` is protected by {what}, which is not supported; write it anew: openssl pkcs12 -in OLD -legacy -nodes | openssl pkcs12 -export -out NEW"
    )]
    Protection { path: PathBuf, what: &'static str },
    #[error(
        "`{path}` is a broken PFX file, or one that is not DER (BER of unknown length, as browsers write it); write it anew: openssl pkcs12 -in OLD -legacy -nodes | openssl pkcs12 -export -out NEW"
    )]
    Pfx { path: PathBuf },
    #[error("`{path}` holds no private key; put it into the same file or name it in `certificate.key_file`")]
    NoKey { path: PathBuf },
    #[error("`{path}` holds no certificate; put it beside the private key")]
    NoCertificate { path: PathBuf },
    #[error("the private key in `{path}` is no RSA key of 2048 to 8192 bits; the token endpoint takes no other")]
    Key { path: PathBuf },
    #[error(
        "the private key in `{key}` belongs to none of the certificates in `{path}`; give the two that belong together"
    )]
    Strangers { path: PathBuf, key: PathBuf },
}

/// Reads the files. Of several pairs it takes one that is valid `now`, and of those the one that holds longest: the
/// successor may stand in the file already, and the one before still.
pub fn load(config: &CertificateConfig, now: Seconds) -> Result<KeyPair, CertificateError> {
    let password = config.password.as_ref().map(|password| password.read()).transpose()?;
    let password = password.as_ref().map(ExposeSecret::expose_secret);
    let mut found = pfx::Contents::default();
    collect(&config.file, password, &mut found)?;
    let key_path = config.key_file.as_ref().unwrap_or(&config.file);
    if let Some(key_file) = &config.key_file {
        // The file of the key says which key it is, whatever the other one holds.
        found.keys.clear();
        collect(key_file, password, &mut found)?;
    }
    if found.keys.is_empty() {
        return Err(CertificateError::NoKey { path: key_path.clone() });
    }
    let leaves: Vec<Leaf> = found.certificates.iter().filter_map(|der| Leaf::read(der)).collect();
    if leaves.is_empty() {
        return Err(CertificateError::NoCertificate { path: config.file.clone() });
    }
    let keys: Vec<rsa::KeyPair> = found.keys.iter().filter_map(|der| rsa_key(der)).collect();
    if keys.is_empty() {
        return Err(CertificateError::Key { path: key_path.clone() });
    }
    let pairs = keys.into_iter().flat_map(|key| {
        let own = leaves.iter().filter(|leaf| leaf.public_key == key.public_key().as_ref());
        let best = own.max_by_key(|leaf| preference(leaf, now)).cloned();
        best.map(|leaf| KeyPair { leaf, key })
    });
    let best = pairs.max_by_key(|pair| preference(&pair.leaf, now));
    best.ok_or_else(|| CertificateError::Strangers { path: config.file.clone(), key: key_path.clone() })
}

fn preference(leaf: &Leaf, now: Seconds) -> (bool, Seconds) {
    ((leaf.not_before..=leaf.not_after).contains(&now), leaf.not_after)
}

fn rsa_key(der: &[u8]) -> Option<rsa::KeyPair> {
    rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der)).ok()
}

/// Adds what is in the file at `path`.
fn collect(path: &Path, password: Option<&str>, found: &mut pfx::Contents) -> Result<(), CertificateError> {
    let path = path.to_owned();
    let bytes = std::fs::read(&path).map_err(|source| CertificateError::Read { path: path.clone(), source })?;
    let bytes = Zeroizing::new(bytes);
    let refuse = |trouble: Trouble| match trouble {
        Trouble::Password if password.is_none() => CertificateError::NoPassword { path: path.clone() },
        Trouble::Password => CertificateError::WrongPassword { path: path.clone() },
        Trouble::Unknown(what) => CertificateError::Protection { path: path.clone(), what },
        Trouble::Malformed => CertificateError::Pfx { path: path.clone() },
    };
    if pfx::is_pfx(&bytes) {
        let inside = pfx::read(&bytes, password.unwrap_or("")).map_err(refuse)?;
        found.certificates.extend(inside.certificates);
        found.keys.extend(inside.keys);
        return Ok(());
    }
    if !pem::is_pem(&bytes) {
        return Err(CertificateError::Neither { path });
    }
    let blocks = pem::blocks(&bytes).map_err(|reason| CertificateError::Pem { path: path.clone(), reason })?;
    for block in blocks {
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => found.certificates.push(block.der.to_vec()),
            // Behind it stands whom openssl shall trust it for, which is no part of it (openssl-x509, "Trusted certificate").
            "TRUSTED CERTIFICATE" => {
                found.certificates.extend(Der(&block.der).any().map(|(_, _, certificate)| certificate.to_vec()));
            }
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => found.keys.push(block.der),
            "ENCRYPTED PRIVATE KEY" => {
                let Some(password) = password else { return Err(CertificateError::NoPassword { path }) };
                let key = pfx::encrypted_key(Der(&block.der), &Password::new(password));
                found.keys.push(key.map_err(&refuse)?);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
