//! The way out: proxies, authorities, client certificates, versions of TLS, and what is said when it does not
//! work. Proxy and servers are the test's own, on this machine; the names of Microsoft's hosts are resolved by
//! nobody, because only the proxy is ever asked for them.

mod proxy;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use auditferry::config::{ProxyAddress, ProxyConfig, TlsConfig};
use auditferry::http::{CONNECT_TIMEOUT, client};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use self::proxy::{Books, ForwardProxy, Manner};
use self::tls::{Authority, Flaw, Pair, Server, Speech, open_tls, open_tls_far_away, serve};
use crate::bars::little_service::{Blob, LittleService, TENANT_ID, TOKEN, body};
use crate::hec::{FakeHec, Options};
use crate::support::{Place, Process, figure};

const SECRET: &str = "canary~client.secret-5e1f00d7";
const USER: &str = "ferry";
const PASSWORD: &str = "canary%proxy:pass/word@77";
const API: &str = "manage.office.com";
const LOGIN: &str = "login.microsoftonline.com";
/// A label of 64 letters is no name: the system's resolver refuses it without asking anybody.
const NO_NAME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid";
const LIMIT: Duration = Duration::from_secs(30);

/// Microsoft, as it looks through a proxy: API and login, each with a certificate of another authority.
struct Microsoft {
    platform: Authority,
    own: Authority,
    service: LittleService,
    api: Server,
    login: Server,
}

impl Microsoft {
    async fn start(blobs: Vec<Blob>) -> Microsoft {
        let (platform, own) = (Authority::new("platform"), Authority::new("own"));
        let service = LittleService::start_as(Some(&format!("https://{API}")), blobs, 1.0, |_, _| None).await;
        let (api, login) = (own.sign(&[API], Flaw::None), platform.sign(&[LOGIN], Flaw::None));
        let api = open_tls(&Speech::with(&api), service.address).await;
        let login = open_tls(&Speech::with(&login), service.address).await;
        Microsoft { platform, own, service, api, login }
    }

    fn hosts(&self) -> [(&'static str, SocketAddr); 2] {
        [("manage.office.com:443", self.api.address), ("login.microsoftonline.com:443", self.login.address)]
    }

    /// The configuration but for sinks. `top`: further lines at the top.
    fn config(&self, place: &Place, top: &str) -> String {
        std::fs::write(place.path("own.pem"), &self.own.certificate).unwrap();
        std::fs::write(place.path("platform.pem"), &self.platform.certificate).unwrap();
        format!(
            "state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n{top}\n\
             collect: {{ backfill: 6h, requests_per_minute: 100000, poll_interval: 1s, tls: {{ ca_file: {:?} }} }}\n\
             tenants:\n  - {{ name: little, tenant_id: {TENANT_ID:?}, client_id: {TENANT_ID:?}, auth: {{ client_secret: {SECRET:?} }}, content_types: [Audit.Exchange] }}\n",
            place.state_dir(),
            place.path("own.pem"),
        )
    }
}

/// Starts the binary where the platform's authorities are the test's and no proxy comes from outside.
fn start(place: &Place, arguments: &[&str], level: &str, environment: &[(&str, &str)]) -> Process {
    let roots = place.path("platform.pem");
    let mut all = vec![("SSL_CERT_FILE", roots.to_str().unwrap()), ("AUDITFERRY_LOG", level)];
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];
    all.extend(names.map(|name| (name, "")));
    all.extend_from_slice(environment);
    place.start(arguments, &all)
}

async fn until(what: &str, place: &Place, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not come:\n{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn log(place: &Place) -> String {
    std::fs::read_to_string(place.path("log")).unwrap_or_default()
}

/// What `/status` says keeps the feeds.
async fn trouble(admin: &str) -> String {
    let status = reqwest::get(format!("http://{admin}/status")).await.unwrap().text().await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    // While it starts there are none.
    let feeds = status["tenants"][0]["feeds"].as_array().into_iter().flatten();
    feeds.filter_map(|feed| feed["trouble"].as_str()).collect::<Vec<_>>().join("\n")
}

async fn trouble_that_says(admin: &str, part: &str, place: &Place) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = trouble(admin).await;
        if said.contains(part) {
            return said;
        }
        assert!(Instant::now() < deadline, "`{part}` is not in the trouble `{said}`\n{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// No secret, in any spelling that these libraries might use, is in what was written or, but for the proxy's own
/// credentials, in what the proxy saw.
fn no_secret_is_shown(place: &Place, books: &Books) {
    let encoded: String = url::form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
    let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for file in ["log", "log-of-the-first", "status"] {
        let said = std::fs::read_to_string(place.path(file)).unwrap_or_default();
        for secret in [PASSWORD, &encoded, &basic, &PASSWORD.replace('%', "%25"), SECRET, TOKEN] {
            assert!(!said.contains(secret), "{file} shows `{secret}`");
        }
    }
    for secret in [TOKEN, SECRET, "Bearer", "client_secret", "Splunk token", PASSWORD] {
        assert!(!books.saw(secret), "the proxy saw `{secret}`");
    }
    assert!(books.saw(&basic), "the books of the proxy hold what is sent to it");
    assert_eq!(books.other, [""; 0], "nothing but CONNECT is asked of a proxy");
}

/// Records arrive, through a proxy with a password, by the configuration or by the environment: API, login and sink
/// go through it, what `no_proxy` names does not, and it sees names and nothing else. Authorities: the service's are the
/// platform's and one's own, a sink's are one's own only.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_records_arrive_and_it_sees_names_only() {
    let microsoft = Microsoft::start(vec![("Audit.Exchange", "one", body(0..20))]).await;
    let hec_tls = |authority: &Authority, name: &str| {
        let pair = authority.sign(&[name], Flaw::None);
        Options { tls: Some((pair.certificate, pair.key)), ..Options::default() }
    };
    let hec = FakeHec::start_with(hec_tls(&microsoft.own, "splunk.example")).await;
    let foreign = FakeHec::start_with(hec_tls(&microsoft.platform, "foreign.example")).await;
    let mut hosts = microsoft.hosts().to_vec();
    hosts.extend([("splunk.example:8088", hec.address()), ("foreign.example:8088", foreign.address())]);
    for by_environment in [false, true] {
        let proxy = ForwardProxy::start(&hosts, Some(&format!("{USER}:{PASSWORD}")), Manner::Helpful).await;
        let place = Place::new();
        std::fs::write(place.path("password"), format!("{PASSWORD}\n")).unwrap();
        let url = format!("http://{}", proxy.address);
        let top = format!(
            "proxy: {{ url: {url:?}, username: {USER}, password: \"${{file:{}}}\", no_proxy: [.invalid] }}",
            place.path("password").display()
        );
        let config = microsoft.config(&place, if by_environment { "" } else { &top });
        let sink = |name: &str, host: &str, required: bool| {
            let ca = place.path("own.pem");
            format!(
                "  - {{ name: {name}, type: splunk_hec, url: \"https://{host}:8088\", token: token, required: {required}, tls: {{ ca_file: {ca:?} }}, retry: {{ initial: 100ms, max: 200ms }} }}\n"
            )
        };
        let sinks = [
            sink("splunk", "splunk.example", true),
            sink("foreign", "foreign.example", false),
            sink("past", NO_NAME, false),
        ];
        place.write_text(&format!("{config}sinks:\n{}", sinks.concat()));

        let before = hec.count();
        let encoded: String = url::form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
        let of_environment = format!("http://{USER}:{encoded}@{}", proxy.address);
        let environment = [("HTTPS_PROXY", of_environment.as_str()), ("NO_PROXY", "a.example,.invalid")];
        let mut process = start(&place, &[], "trace", if by_environment { &environment } else { &[] });
        assert!(hec.wait_for(before + 20, LIMIT).await, "{}", place.log_tail());
        until("the refusal of a foreign authority", &place, || log(&place).contains("explain tls-unknown-authority"))
            .await;
        until("the name that is none", &place, || log(&place).contains("explain dns")).await;
        let admin = process.admin().await.unwrap();
        let status = reqwest::get(format!("http://{admin}/status")).await.unwrap().text().await.unwrap();
        std::fs::write(place.path("status"), status).unwrap();
        process.kill();

        let books = proxy.books();
        for host in
            ["manage.office.com:443", "login.microsoftonline.com:443", "splunk.example:8088", "foreign.example:8088"]
        {
            assert!(books.asked_for(host) > 0, "{host}: {:?}", books.asked);
        }
        assert_eq!(books.asked_for(&format!("{NO_NAME}:8088")), 0, "what `no_proxy` names goes past the proxy");
        assert_eq!((books.unauthorized, foreign.count()), (0, 0));
        let foreign_said = log(&place);
        let line = foreign_said.lines().find(|line| line.contains("explain tls-unknown-authority")).unwrap();
        assert!(line.contains("foreign.example") && line.contains(&format!("through the proxy `{url}`")), "{line}");
        no_secret_is_shown(&place, &books);
        figure(
            "network",
            format_args!("20 records through a proxy, {} tunnels, by environment: {by_environment}", books.asked.len()),
        );
    }
    assert!(
        microsoft
            .service
            .asked()
            .iter()
            .any(|asked| asked.authorization.as_deref() == Some(&format!("Bearer {TOKEN}")))
    );
}

/// A proxy that stops letting us through is named in `/status` and in the log with cause and way out; nothing is lost,
/// and the password is read again, so that mending it needs no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_fails_is_named_and_costs_no_record() {
    let microsoft = Microsoft::start(vec![("Audit.Exchange", "one", body(0..20))]).await;
    let proxy = ForwardProxy::start(&microsoft.hosts(), Some(&format!("{USER}:{PASSWORD}")), Manner::Helpful).await;
    let place = Place::new();
    std::fs::write(place.path("password"), "canary-wrong").unwrap();
    let url = format!("http://{}", proxy.address);
    let top = format!(
        "proxy: {{ url: {url:?}, username: {USER}, password: \"${{file:{}}}\" }}",
        place.path("password").display()
    );
    place.write_text(&format!("{}sinks:\n{}", microsoft.config(&place, &top), place.file_sink("out.ndjson")));
    let mut process = start(&place, &[], "trace", &[]);
    let admin = process.admin().await.unwrap();
    let said = trouble_that_says(&admin, "explain proxy-407", &place).await;
    for part in [&format!("`{LOGIN}` through the proxy `{url}`"), "`username` and `password`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        log(&place).lines().any(|line| line.contains("cannot list the subscriptions") && line.contains("proxy-407"))
    );
    // The next try is half a minute away; a start finds the mended password at once.
    std::fs::write(place.path("password"), PASSWORD).unwrap();
    process.kill();
    std::fs::rename(place.path("log"), place.path("log-of-the-first")).unwrap();
    let mut process = start(&place, &[], "trace", &[]);
    let admin = process.admin().await.unwrap();
    let lines = || std::fs::read_to_string(place.path("out.ndjson")).unwrap_or_default().lines().count();
    until("what is listed", &place, || lines() == 20).await;

    proxy.become_(Manner::NeverEnough);
    trouble_that_says(&admin, "explain proxy-407", &place).await;
    proxy.become_(Manner::Refuses(403));
    let said = trouble_that_says(&admin, "explain proxy-refused", &place).await;
    assert!(said.contains(&format!("`{API}` through the proxy `{url}`")) && said.contains("CONNECT"), "{said}");
    proxy.become_(Manner::Helpful);
    let deadline = Instant::now() + LIMIT;
    while !trouble(&admin).await.is_empty() {
        assert!(Instant::now() < deadline, "the trouble stays\n{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = reqwest::get(format!("http://{admin}/status")).await.unwrap().text().await.unwrap();
    std::fs::write(place.path("status"), status).unwrap();
    process.kill();
    assert_eq!(lines(), 20, "nothing twice, nothing lost");
    assert_eq!(place.ledger()["feeds"][0]["ledger"]["blobs_lost"].as_u64().unwrap_or(0), 0);
    no_secret_is_shown(&place, &proxy.books());
}

/// Where requests of the table go.
struct Way {
    url: String,
    tls: TlsConfig,
    proxy: ProxyConfig,
}

impl Way {
    fn to(server: &Server) -> Way {
        let url = format!("https://localhost:{}/", server.address.port());
        Way { url, tls: TlsConfig::default(), proxy: ProxyConfig::Off }
    }

    fn through(proxy: SocketAddr) -> Way {
        let address = ProxyAddress::parse(&format!("http://ann:{SECRET}@{proxy}")).unwrap();
        Way { url: format!("https://{API}/"), tls: TlsConfig::default(), proxy: ProxyConfig::Through(address) }
    }

    fn trusting(mut self, authority: &Path) -> Way {
        self.tls.ca_file = Some(authority.to_owned());
        self
    }

    /// What is said of a request that must fail.
    async fn failure(&self) -> String {
        let client = client(&self.tls, &self.proxy, Some(LIMIT)).unwrap();
        let request = client.get(&self.url).build().unwrap();
        match client.execute(request).await {
            Ok(answer) => panic!("{} is answered: {}", self.url, answer.status()),
            Err(failure) => failure.to_string(),
        }
    }
}

/// Nothing is there and nothing will be.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An HTTP/2 server that takes the first request and says that it is going away.
async fn going_away(pair: &Pair) -> Server {
    let acceptor = Speech { alpn: &["h2"], ..Speech::with(pair) }.acceptor();
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut inside) = acceptor.accept(stream).await else { return };
            let _ = inside.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            // Until the HEADERS of the request are here: a frame of type 1 in what came.
            let mut came = Vec::new();
            while !came.windows(9).any(|head| head[3] == 1 && head[5..] == [0, 0, 0, 1]) {
                if inside.read_buf(&mut came).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            // GOAWAY before stream 1 with ENHANCE_YOUR_CALM (RFC 9113, 6.8).
            let _ = inside.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]).await;
            let _ = inside.flush().await;
            let _ = inside.read_to_end(&mut came).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cause_is_named_with_its_way_out() {
    let files = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &ours.certificate).unwrap();
    let plain = serve(|mut stream| async move {
        let mut head = [0; 64];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let good = ours.sign(&["localhost"], Flaw::None);
    let tls = async |pair: &Pair| open_tls(&Speech::with(pair), plain.address).await;
    let demanding = Speech { clients_of: Some(&other), ..Speech::with(&good) };
    let demanding_early = open_tls(&Speech { only_1_2: true, ..demanding }, plain.address).await;
    let demanding_far_away = open_tls_far_away(&demanding, plain.address).await;
    let demanding = open_tls(&demanding, plain.address).await;
    let expired = tls(&ours.sign(&["localhost"], Flaw::Expired)).await;
    let early = tls(&ours.sign(&["localhost"], Flaw::NotYetValid)).await;
    let misnamed = tls(&ours.sign(&["elsewhere.example"], Flaw::None)).await;
    let foreign = tls(&other.sign(&["localhost"], Flaw::None)).await;
    let cut = serve(|mut stream| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    let going = going_away(&good).await;
    let proxy = async |manner| ForwardProxy::start(&[], Some("nobody:knows"), manner).await;
    let (asking, refusing, hanging_up) =
        (proxy(Manner::Helpful).await, proxy(Manner::Refuses(403)).await, proxy(Manner::HangsUp).await);
    let refused = Server::nowhere(nobody().await);

    let table = [
        ("proxy-407", Way::through(asking.address)),
        ("proxy-refused", Way::through(refusing.address)),
        ("proxy-broke-off", Way::through(hanging_up.address)),
        ("proxy-unreachable", Way::through(nobody().await)),
        ("tls-unknown-authority", Way::to(&foreign).trusting(&ca)),
        ("tls-expired", Way::to(&expired).trusting(&ca)),
        ("tls-not-yet-valid", Way::to(&early).trusting(&ca)),
        ("tls-wrong-name", Way::to(&misnamed).trusting(&ca)),
        ("tls-client-certificate", Way::to(&demanding_early).trusting(&ca)),
        ("tls-client-certificate", Way::to(&demanding_far_away).trusting(&ca)),
        ("tls-no-tls", Way::to(&plain).trusting(&ca)),
        ("http2-goaway", Way::to(&going).trusting(&ca)),
        ("connection-refused", Way::to(&refused)),
        // By http, or TLS would refuse the name before anybody is asked for it.
        ("dns", Way { url: format!("http://{NO_NAME}/"), ..Way::to(&refused) }),
    ];
    for (code, way) in table {
        let said = way.failure().await;
        figure("network", format_args!("{code}: {said}"));
        assert!(said.contains(&format!("explain {code}`")), "{code}: {said}");
        let host = url::Url::parse(&way.url).unwrap();
        assert!(said.contains(host.host_str().unwrap()) && !said.contains(SECRET), "{code}: {said}");
        let is_proxied = matches!(way.proxy, ProxyConfig::Through(_));
        assert_eq!(said.contains("through the proxy `http://127.0.0.1:"), is_proxied, "{code}: {said}");
    }
    // Cut in the handshake: the system may say it in more than one way.
    let said = Way::to(&cut).trusting(&ca).failure().await;
    assert!(["tls-broke-off", "connection-reset"].iter().any(|code| said.contains(code)), "{said}");
    // With TLS 1.3 and no way between, its alert and the request race: whoever is first, the way out is said.
    for _ in 0..20 {
        let said = Way::to(&demanding).trusting(&ca).failure().await;
        let is_named = ["tls-client-certificate", "closed-at-once"].iter().any(|code| said.contains(code));
        assert!(is_named && said.contains("`cert_file` and `key_file`"), "{said}");
    }
}

/// A connection that ends before it took the request is told from one that ended after: the one is tried again, the
/// other may have been heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_not_sent_is_sent_again_and_no_other() {
    let (ours, taken) = (Authority::new("ours"), Arc::new(AtomicUsize::new(0)));
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &ours.certificate).unwrap();
    let acceptor = Speech::with(&ours.sign(&["localhost"], Flaw::None)).acceptor();
    let hanging_up = {
        let taken = Arc::clone(&taken);
        serve(move |stream| {
            let (acceptor, taken) = (acceptor.clone(), Arc::clone(&taken));
            async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut head = [0; 64];
                if inside.read(&mut head).await.unwrap_or(0) > 0 {
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await
    };
    let way = Way::to(&hanging_up).trusting(&ca);
    for _ in 0..20 {
        let before = taken.load(Ordering::Relaxed);
        let said = way.failure().await;
        assert!(said.contains("explain connection-reset"), "{said}");
        assert_eq!(taken.load(Ordering::Relaxed), before + 1, "{said}");
    }
}

/// Whoever says nothing is given up after the time for a connection, not after that of an answer. The clock is
/// virtual.
#[tokio::test(start_paused = true)]
async fn whoever_takes_a_connection_and_says_nothing_is_given_up_in_time() {
    let silent = serve(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let proxy = ForwardProxy::start(&[], None, Manner::Silent).await;
    let url = format!("https://127.0.0.1:{}/", silent.address.port());
    for way in [Way { url, ..Way::to(&silent) }, Way::through(proxy.address)] {
        let began = tokio::time::Instant::now();
        let client = client(&way.tls, &way.proxy, None).unwrap();
        let failure = client.execute(client.get(&way.url).build().unwrap()).await.unwrap_err().to_string();
        assert!(failure.contains("explain timeout"), "{failure}");
        assert!(began.elapsed() <= CONNECT_TIMEOUT + Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_where_it_is_demanded() {
    let microsoft = Authority::new("server");
    let clients = Authority::new("clients");
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &microsoft.certificate).unwrap();
    let good = microsoft.sign(&["localhost"], Flaw::None);
    let service = LittleService::start(Vec::new(), 1.0, |_, _| None).await;
    let speech = Speech { clients_of: Some(&clients), ..Speech::with(&good) };
    let server = open_tls_far_away(&speech, service.address).await;
    let mut way = Way::to(&server).trusting(&ca);
    way.url.push_str("x/oauth2/v2.0/token");
    let said = way.failure().await;
    assert!(said.contains("explain tls-client-certificate") && said.contains("`cert_file` and `key_file`"), "{said}");
    let (certificate, key) = clients.sign(&["client"], Flaw::None).write(files.path(), "client");
    let answer = |cert_file: PathBuf, key_file: PathBuf| {
        let tls = TlsConfig { cert_file: Some(cert_file), key_file: Some(key_file), ..way.tls.clone() };
        let client = client(&tls, &ProxyConfig::Off, Some(LIMIT)).unwrap();
        let request = client.get(&way.url).build().unwrap();
        async move { client.execute(request).await }
    };
    assert_eq!(answer(certificate, key).await.unwrap().status(), 200);
    let (certificate, key) = microsoft.sign(&["client"], Flaw::None).write(files.path(), "foreign");
    let said = answer(certificate, key).await.unwrap_err().to_string();
    assert!(said.contains("explain tls-client-certificate"), "{said}");
}

/// 1.2 is spoken; 1.1 and 1.0 are neither offered nor taken, and the message says so. The old server is OpenSSL's, and
/// OpenSSL's client shows that it does speak what ours refuses.
#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_is_the_least() {
    let authority = Authority::new("ours");
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &authority.certificate).unwrap();
    let pair = authority.sign(&["localhost"], Flaw::None);
    let service = LittleService::start(Vec::new(), 1.0, |_, _| None).await;
    let server = open_tls(&Speech { only_1_2: true, ..Speech::with(&pair) }, service.address).await;
    let way = Way::to(&server).trusting(&ca);
    let client = client(&way.tls, &way.proxy, Some(LIMIT)).unwrap();
    assert_eq!(client.execute(client.get(&way.url).build().unwrap()).await.unwrap().status(), 404);

    for old in ["-tls1_1", "-tls1"] {
        let server = OldServer::start(old, &pair, files.path()).await;
        assert!(server.speaks_to_openssl(old).await, "the old server does not even speak {old}");
        let url = format!("https://localhost:{}/", server.port);
        let said = Way { url, tls: way.tls.clone(), proxy: ProxyConfig::Off }.failure().await;
        figure("network", format_args!("{old}: {said}"));
        assert!(said.contains("explain tls-version"), "{said}");
    }
    assert_eq!(offered_versions().await, [[3, 4], [3, 3]], "TLS 1.3 and 1.2");
}

/// OpenSSL's test server on this machine; ends when dropped.
struct OldServer {
    port: u16,
    child: tokio::process::Child,
}

impl Drop for OldServer {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
    }
}

impl OldServer {
    async fn start(version: &str, pair: &Pair, dir: &Path) -> OldServer {
        let (certificate, key) = pair.write(dir, "old");
        let port = nobody().await.port();
        let mut command = tokio::process::Command::new("openssl");
        command.args(["s_server", version, "-www", "-cipher", "ALL:@SECLEVEL=0", "-accept"]);
        command.arg(format!("127.0.0.1:{port}")).arg("-cert").arg(certificate).arg("-key").arg(key);
        // The system's settings may forbid old versions.
        command.env("OPENSSL_CONF", "/dev/null").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn();
        let mut child = child.expect("there is no openssl: apt-get install openssl");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async { while lines.next_line().await.unwrap().is_some_and(|line| line != "ACCEPT") {} };
        tokio::time::timeout(LIMIT, ready).await.expect("openssl s_server accepts");
        OldServer { port, child }
    }

    async fn speaks_to_openssl(&self, version: &'static str) -> bool {
        let port = self.port;
        let ask = move || {
            let mut command = Command::new("openssl");
            command
                .args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"])
                .arg(format!("127.0.0.1:{port}"));
            command.env("OPENSSL_CONF", "/dev/null").stdin(Stdio::null()).output().unwrap()
        };
        let output = tokio::task::spawn_blocking(ask).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("Cipher is") && !said.contains("Cipher is (NONE)")
    }
}

/// The versions that a ClientHello of ours offers (RFC 8446, 4.1.2 and 4.2.1).
async fn offered_versions() -> Vec<[u8; 2]> {
    let (told, hello) = tokio::sync::oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let listening = serve(move |mut stream: TcpStream| {
        let told = told.lock().unwrap().take();
        async move {
            let mut head = [0; 5];
            let _ = stream.read_exact(&mut head).await;
            let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            let _ = stream.read_exact(&mut record).await;
            if let Some(told) = told {
                let _ = told.send(record);
            }
        }
    })
    .await;
    let _ = Way::to(&listening).failure().await;
    let hello = hello.await.unwrap();
    // Type and length 4, version 2, random 32; then session, suites, compressions, extensions.
    let mut at = 38;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]) + 2;
    loop {
        let kind = u16::from_be_bytes([hello[at], hello[at + 1]]);
        let length = usize::from(u16::from_be_bytes([hello[at + 2], hello[at + 3]]));
        if kind == 43 {
            return hello[at + 5..at + 4 + length].chunks(2).map(|two| [two[0], two[1]]).collect();
        }
        at += 4 + length;
    }
}

const DENIAL: &str = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys for app '11111111' are expired. Visit the Azure portal to create new keys for your app.\r\nTrace ID: 7aa1c0de-trace\r\nCorrelation ID: 9bb2c0de-correlation\r\nTimestamp: 2026-11-22 03:00:00Z","error_codes":[7000222],"trace_id":"7aa1c0de-trace","correlation_id":"9bb2c0de-correlation"}"#;

/// A refusal of login or API is in the log and in `/status` in Microsoft's words, with the ids by which support finds it,
/// and with the way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_shown_whole_with_its_ids_and_the_way_out() {
    let is_login_good = Arc::new(AtomicBool::new(false));
    let service = {
        let is_login_good = Arc::clone(&is_login_good);
        LittleService::start(vec![("Audit.Exchange", "one", body(0..1))], 60.0, move |asked, _| {
            if asked.path.ends_with("/token") && !is_login_good.load(Ordering::Relaxed) {
                return Some((StatusCode::UNAUTHORIZED, [("x-ms-request-id", "5cc3c0de-request")], DENIAL).into_response());
            }
            asked.is_listing("Audit.Exchange").then(|| {
                let said = r#"{"error":{"code":"AF10001","message":"The permission set () sent in the request does not include the expected permission."}}"#;
                let ids = [("request-id", "0f1ec0de-request"), ("client-request-id", "4b5ac0de-client")];
                (StatusCode::UNAUTHORIZED, ids, said).into_response()
            })
        })
        .await
    };
    let place = Place::new();
    place.write_text(&format!(
        "{}sinks:\n{}",
        service.config(&place.state_dir(), SECRET, ""),
        place.file_sink("out.ndjson")
    ));
    let process = place.start(&[], &[]);
    let admin = process.admin().await.unwrap();
    let login = [
        "`invalid_client`",
        "Visit the Azure portal",
        "7aa1c0de-trace",
        "9bb2c0de-correlation",
        "x-ms-request-id 5cc3c0de-request",
        "make a new secret",
        "explain AADSTS7000222",
    ];
    let said = trouble_that_says(&admin, "AADSTS7000222", &place).await;
    for part in login {
        assert!(said.contains(part), "{part}: {said}");
        assert!(
            log(&place).lines().any(|line| line.contains("AADSTS7000222") && line.contains(part)),
            "{part} is not in the log"
        );
    }
    is_login_good.store(true, Ordering::Relaxed);
    let said = trouble_that_says(&admin, "AF10001", &place).await;
    for part in [
        "The permission set () sent",
        "request-id 0f1ec0de-request",
        "client-request-id 4b5ac0de-client",
        "ActivityFeed.Read",
        "explain AF10001",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn explain_prints_an_entry_and_says_no_to_what_it_does_not_know() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_auditferry")).arg("explain").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = run(&["AADSTS700016"]);
    assert!(code == Some(0) && said.contains("`client_id` and `tenant_id`"), "{said}");
    let (code, said, _) = run(&["warn: status 400, AF20023: The subscription was disabled."]);
    assert!(code == Some(0) && said.starts_with("AF20023"), "{said}");
    let (code, said, _) = run(&[]);
    assert!(code == Some(0) && said.contains("proxy-407") && said.contains("AF50000"), "{said}");
    let (code, said, error) = run(&["AADSTS99999991"]);
    assert!(code == Some(1) && said.is_empty() && error.contains("error?code=99999991"), "{error}");
}
