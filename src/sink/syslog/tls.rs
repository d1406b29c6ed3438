//! TLS towards a syslog receiver (RFC 5425): rustls with the platform's authorities, or those of `ca_file`.
//!
//! Comes in: the TLS settings and a connection. Goes out: the same connection with TLS 1.2 or newer on it, to a
//! server that showed a certificate for the configured name, and that has had time to refuse ours. Files are
//! read again for each connection. Never speaks without checking, but where `verify: false` says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ClientConfig, ResolvesClientCert};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, ProtocolVersion, RootCertStore, SignatureScheme, version};

use crate::config::TlsConfig;

/// How long a server that asked for our certificate has to refuse it before anything is written: under TLS 1.3 our
/// side is done before the server has looked (RFC 8446, 4.4.2.4), and some look at all only after the handshake.
const SECOND_THOUGHTS: Duration = Duration::from_millis(500);
/// The same after the server's first ticket, with which TLS is content, and under TLS 1.2, where it is by then.
const LAST_THOUGHTS: Duration = Duration::from_millis(50);
const LOOKED_AFTER: Duration = Duration::from_millis(10);

/// TLS cannot be set up from what is configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read `{path}`: {source}; check that the file is mounted and readable")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "`{path}` holds no usable PEM certificate: {reason}; give a file with one or more `BEGIN CERTIFICATE` blocks"
    )]
    Certificate { path: PathBuf, reason: String },
    #[error("`{path}` holds no usable PEM key: {reason}; give a private key that is not encrypted")]
    Key { path: PathBuf, reason: String },
    #[error("`{path}` and its key make no client certificate: {reason}; give PEM files that belong together")]
    Identity { path: PathBuf, reason: String },
    #[error("a client certificate needs both `cert_file` and `key_file`; give the one that is missing")]
    HalfIdentity,
    #[error("the platform's authorities cannot be used: {0}; give the receiver's authority as `ca_file`")]
    Platform(String),
    #[error("`{0}` can be no name of a certificate; write a host name or an IP address")]
    Name(String),
}

/// What one connection is made with.
pub(super) struct Outfit {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    certificate: Arc<Shown>,
}

impl Outfit {
    /// Reads the files; blocks.
    pub fn read(tls: &TlsConfig, host: &str) -> Result<Outfit, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let identity = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => Some(Arc::new(identity(cert, key, &provider)?)),
            (None, None) => None,
            _ => return Err(TlsError::HalfIdentity),
        };
        let certificate = Arc::new(Shown { identity, asked: AtomicBool::new(false) });
        let versions = [&version::TLS13, &version::TLS12];
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Platform(error.to_string()))?;
        let builder = if tls.verify == Some(false) {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else if let Some(path) = &tls.ca_file {
            builder.with_root_certificates(roots(path)?)
        } else {
            let verifier = rustls_platform_verifier::Verifier::new(provider);
            let verifier = verifier.map_err(|error| TlsError::Platform(error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let resolver = Arc::clone(&certificate);
        let config = Arc::new(builder.with_client_cert_resolver(resolver));
        Ok(Outfit { config, name, certificate })
    }

    /// The handshake, and the server's second thoughts.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> io::Result<TlsStream<S>> {
        let mut stream = TlsConnector::from(self.config).connect(self.name, stream).await?;
        if self.certificate.asked.load(Ordering::Acquire) {
            second_thoughts(&mut stream).await?;
        }
        Ok(stream)
    }
}

async fn second_thoughts<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut TlsStream<S>) -> io::Result<()> {
    let mut until = Instant::now() + SECOND_THOUGHTS;
    let mut content = false;
    while Instant::now() < until {
        let session = stream.get_ref().1;
        let is_12 = session.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        if !content && (is_12 || session.tls13_tickets_received() > 0) {
            content = true;
            until = Instant::now() + LAST_THOUGHTS;
        }
        let mut byte = [0];
        match timeout(LOOKED_AFTER, stream.read(&mut byte)).await {
            Ok(Ok(0)) => return Err(hung_up(&io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => return Err(hung_up(&error)),
            Ok(Err(error)) => return Err(error),
            // A receiver has nothing to say; what it says all the same is nothing to us.
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(())
}

/// It asked for our certificate and then left.
fn hung_up(error: &io::Error) -> io::Error {
    let text = "the receiver asked for a client certificate and then hung up: it may not like ours, or that there is none (its log says why)";
    io::Error::new(error.kind(), text)
}

/// Our certificate, and whether the server asked for one.
#[derive(Debug)]
struct Shown {
    identity: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Release);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

/// Takes any certificate; signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Certificate { path: path.to_owned(), reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() { Err(refuse("there is none in it".to_owned())) } else { Ok(found) }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let refuse = |error: Error| TlsError::Certificate { path: path.to_owned(), reason: error.to_string() };
        roots.add(certificate).map_err(refuse)?;
    }
    Ok(roots)
}

fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let refuse = |reason: String| TlsError::Key { path: key.to_owned(), reason };
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| refuse(error.to_string()))?;
    let refuse = |error: Error| TlsError::Identity { path: cert.to_owned(), reason: error.to_string() };
    CertifiedKey::from_der(chain, key_der, provider).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let fault =
            |tls: TlsConfig| Outfit::read(&tls, "siem").err().map(|error| error.to_string()).unwrap_or_default();
        let empty = TlsConfig { ca_file: path("ca.pem", "nothing"), ..TlsConfig::default() };
        assert!(fault(empty).contains("ca.pem` holds no usable PEM certificate: there is none in it"));
        let missing = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()), ..TlsConfig::default() };
        assert!(fault(missing).contains("cannot read `/nowhere/ca.pem`"));
        let half = TlsConfig { cert_file: Some("a".into()), ..TlsConfig::default() };
        assert!(fault(half).contains("needs both"));
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (one, other) = (made("one"), made("other"));
        let (cert, key) = (path("one.pem", &one.cert.pem()), path("other.key", &other.signing_key.serialize_pem()));
        let tls = TlsConfig { cert_file: cert.clone(), key_file: key, verify: Some(false), ..TlsConfig::default() };
        assert!(fault(tls).contains("one.pem` and its key make no client certificate"));
        let tls = TlsConfig { cert_file: cert.clone(), key_file: cert, verify: Some(false), ..TlsConfig::default() };
        assert!(fault(tls).contains("one.pem` holds no usable PEM key"));
        let name = Outfit::read(&TlsConfig { verify: Some(false), ..TlsConfig::default() }, "a b");
        assert!(matches!(name, Err(TlsError::Name(_))));
    }
}
