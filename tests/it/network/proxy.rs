//! A forward proxy of the test's own: tunnels by CONNECT, asks for credentials, refuses, hangs up, says nothing,
//! and keeps the books: who was asked for, with what, and every byte that came along.
//!
//! Resolves nothing: each name that may be reached is told to it with an address of this machine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it meets a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Connects, if the credentials are right.
    Helpful,
    /// Asks for credentials whatever they are.
    NeverEnough,
    /// Answers with this status.
    Refuses(u16),
    /// Closes without a word.
    HangsUp,
    /// Takes the connection and says nothing.
    Silent,
}

/// What it has seen.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// `host:port` of every CONNECT.
    pub asked: Vec<String>,
    /// First lines that were no CONNECT: what should never come here.
    pub other: Vec<String>,
    /// CONNECTs without the right credentials.
    pub unauthorized: usize,
    /// Every byte from the client, requests to the proxy included.
    pub bytes: Vec<u8>,
}

impl Books {
    pub fn saw(&self, text: &str) -> bool {
        memchr::memmem::find(&self.bytes, text.as_bytes()).is_some()
    }

    pub fn asked_for(&self, host: &str) -> usize {
        self.asked.iter().filter(|asked| *asked == host).count()
    }
}

/// Ends when dropped, its tunnels too.
pub struct ForwardProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    /// `host:port` → where that is here.
    hosts: HashMap<String, SocketAddr>,
    /// `user:password`; `None`: anybody may.
    credentials: Option<String>,
    manner: Mutex<Manner>,
    books: Mutex<Books>,
    tunnels: Mutex<Vec<JoinHandle<()>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ForwardProxy {
    pub async fn start(hosts: &[(&str, SocketAddr)], credentials: Option<&str>, manner: Manner) -> ForwardProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            hosts: hosts.iter().map(|(host, address)| ((*host).to_owned(), *address)).collect(),
            credentials: credentials.map(str::to_owned),
            manner: Mutex::new(manner),
            books: Mutex::default(),
            tunnels: Mutex::default(),
        });
        let server = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let tunnel = tokio::spawn(serve(stream, Arc::clone(&shared)));
                    locked(&shared.tunnels).push(tunnel);
                }
            }
        });
        ForwardProxy { address, shared, server }
    }

    /// From now on it is like this, and every tunnel that stands is cut.
    pub fn become_(&self, manner: Manner) {
        *locked(&self.shared.manner) = manner;
        locked(&self.shared.tunnels).drain(..).for_each(|tunnel| tunnel.abort());
    }

    pub fn books(&self) -> Books {
        locked(&self.shared.books).clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.server.abort();
        locked(&self.shared.tunnels).drain(..).for_each(|tunnel| tunnel.abort());
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    locked(&shared.books).bytes.extend_from_slice(&head);
    let line = text.lines().next().unwrap_or_default();
    let Some(host) = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        locked(&shared.books).other.push(line.to_owned());
        return;
    };
    locked(&shared.books).asked.push(host.to_owned());
    let given = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
    });
    let wanted = shared.credentials.as_ref().map(|credentials| format!("Basic {}", STANDARD.encode(credentials)));
    let manner = *locked(&shared.manner);
    let is_right = manner != Manner::NeverEnough && wanted.is_none_or(|wanted| given == Some(wanted));
    let status = match manner {
        Manner::HangsUp => return,
        Manner::Silent => std::future::pending().await,
        Manner::Refuses(status) => status,
        _ if !is_right => 407,
        _ => 200,
    };
    if status == 407 {
        locked(&shared.books).unauthorized += 1;
    }
    let server = match shared.hosts.get(host) {
        Some(address) if status == 200 => TcpStream::connect(*address).await.ok(),
        _ => None,
    };
    let status = if status == 200 && server.is_none() { 502 } else { status };
    let answer = format!("HTTP/1.1 {status} As it is\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n");
    let _ = client.write_all(answer.as_bytes()).await;
    if let Some(server) = server {
        tunnel(client, server, &shared).await;
    }
}

async fn tunnel(client: TcpStream, server: TcpStream, shared: &Shared) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let out = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            locked(&shared.books).bytes.extend_from_slice(&buffer[..read]);
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    let _ = tokio::join!(out, back);
}
