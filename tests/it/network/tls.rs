//! Certificates and TLS servers of the test's own: an authority, certificates that are good or wrong in one way,
//! and a server that opens TLS and passes on what is inside, or does something else with the connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, crypto, version};

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    NotYetValid,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    /// Both as files of these names in `dir`.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}

pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let (issuer, certificate) = crate::real::authority(name);
        Authority { certificate, issuer }
    }

    /// A certificate for these names, of servers and clients alike.
    pub fn sign(&self, names: &[&str], flaw: Flaw) -> Pair {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = match flaw {
            Flaw::None => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Flaw::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Flaw::NotYetValid => (date_time_ymd(2089, 1, 1), date_time_ymd(2090, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

/// How a server speaks TLS.
#[derive(Clone, Copy)]
pub struct Speech<'a> {
    pub pair: &'a Pair,
    /// Whoever signs the certificates that clients must show.
    pub clients_of: Option<&'a Authority>,
    /// 1.2 only, else 1.2 and 1.3.
    pub only_1_2: bool,
    pub alpn: &'a [&'a str],
}

impl<'a> Speech<'a> {
    pub fn with(pair: &'a Pair) -> Speech<'a> {
        Speech { pair, clients_of: None, only_1_2: false, alpn: &["http/1.1"] }
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];
        let versions = if self.only_1_2 { &BOTH[..1] } else { BOTH };
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
        let config = match self.clients_of {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                config.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(self.pair.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.pair.key.as_bytes()).unwrap();
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server on this machine; ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// What stands for one where there is none.
    pub fn nowhere(address: SocketAddr) -> Server {
        Server { address, task: tokio::spawn(async {}) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Does `with` to every connection.
pub async fn serve<F>(with: impl Fn(TcpStream) -> F + Send + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(with(stream));
        }
    });
    Server { address, task }
}

/// How far away a server is that is not on this machine.
const WAY_BACK: Duration = Duration::from_millis(150);

/// A connection over which what a server says takes [`WAY_BACK`], as from any server that is not on this machine: a
/// client has then sent its request before the server's alert is there, while over loopback either may be first.
fn from_far_away(near: TcpStream) -> DuplexStream {
    let (far, middle) = tokio::io::duplex(64 * 1024);
    let (mut from_client, mut to_client) = near.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(middle);
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    });
    tokio::spawn(async move {
        let mut said = Vec::new();
        while from_server.read_buf(&mut said).await.unwrap_or(0) > 0 {
            tokio::time::sleep(WAY_BACK).await;
            if to_client.write_all(&said).await.is_err() {
                return;
            }
            said.clear();
        }
        let _ = to_client.shutdown().await;
    });
    far
}

/// Opens TLS and passes on what is inside to a plain server.
pub async fn open_tls(speech: &Speech<'_>, to: SocketAddr) -> Server {
    let acceptor = speech.acceptor();
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(inside) = acceptor.accept(stream).await else { return };
            pass_on(inside, to).await;
        }
    })
    .await
}

/// The same, with a server that is not on this machine.
pub async fn open_tls_far_away(speech: &Speech<'_>, to: SocketAddr) -> Server {
    let acceptor = speech.acceptor();
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(inside) = acceptor.accept(from_far_away(stream)).await else { return };
            pass_on(inside, to).await;
        }
    })
    .await
}

async fn pass_on(mut inside: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut inside, &mut server).await;
}
