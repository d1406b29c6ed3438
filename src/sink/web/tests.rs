//! Exchanges with a receiver and a token endpoint of the tests' own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use url::Url;

use super::*;
use crate::config::{
    BEARER, CredentialConfig, LoginConfig, ProxyConfig, SecretHeader, SignatureAlgorithm, SignatureConfig, TlsConfig,
    TokenConfig, TokenEndpoint,
};
use crate::http::{self, HttpClient};
use crate::secret::SecretSource;
use crate::sink::SendError;

/// What was heard, and what is to be answered; a token endpoint and a receiver in one.
#[derive(Default)]
struct Books {
    /// Headers and body of each request to the receiver.
    asked: Vec<(HeaderMap, Bytes)>,
    answers: VecDeque<(u16, String)>,
    /// Forms sent to the token endpoint, with its header Authorization.
    forms: Vec<(String, Option<String>)>,
    tokens: VecDeque<(u16, String)>,
}

type Shared = Arc<Mutex<Books>>;

async fn receive(State(books): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut books = books.lock().unwrap();
    books.asked.push((headers, body));
    let (status, body) = books.answers.pop_front().unwrap_or((200, String::new()));
    (StatusCode::from_u16(status).unwrap(), [("retry-after", "7")], body).into_response()
}

async fn grant(State(books): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let mut books = books.lock().unwrap();
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    books.forms.push((body, authorization));
    let number = books.forms.len();
    let granted = format!("{{\"access_token\":\"token-{number}\",\"token_type\":\"Bearer\",\"expires_in\":\"3600\"}}");
    let (status, body) = books.tokens.pop_front().unwrap_or((200, granted));
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

struct Peer {
    books: Shared,
    url: Url,
    client: HttpClient,
}

impl Peer {
    async fn start() -> Peer {
        let books = Shared::default();
        let app = Router::new().route("/", post(receive)).route("/token", post(grant)).with_state(Arc::clone(&books));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = http::client(&TlsConfig::default(), &ProxyConfig::Off, Some(Duration::from_secs(5))).unwrap();
        Peer { books, url, client }
    }

    fn answers(&self, status: u16, body: &str) {
        self.books.lock().unwrap().answers.push_back((status, body.to_owned()));
    }

    fn tokens(&self, status: u16, body: &str) {
        self.books.lock().unwrap().tokens.push_back((status, body.to_owned()));
    }

    fn oauth(&self, secret: SecretSource, basic: bool) -> Login {
        let url = self.url.join("token").unwrap();
        let config = TokenConfig {
            login: url.clone(),
            tenant_id: String::new(),
            client_id: "client:1".into(),
            credential: CredentialConfig::ClientSecret { secret, expires: None },
            scope: "logs/.default".into(),
            endpoint: Some(TokenEndpoint { url, parameters: vec![("audience".into(), "a b".into())], basic }),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::Off,
        };
        login(&LoginConfig::OAuth2(Box::new(config)))
    }

    async fn ask(&self, login: &Login) -> Result<Heard, NoAnswer> {
        let exchange = Exchange { sink: "s", client: &self.client, login, limit: 1000 };
        exchange.ask(self.client.post(self.url.clone()).body("body")).await
    }

    fn authorizations(&self) -> Vec<String> {
        let books = self.books.lock().unwrap();
        books.asked.iter().map(|(headers, _)| headers["authorization"].to_str().unwrap().to_owned()).collect()
    }

    fn forms(&self) -> Vec<(String, Option<String>)> {
        self.books.lock().unwrap().forms.clone()
    }
}

fn login(config: &LoginConfig) -> Login {
    Login::new("s", config).unwrap()
}

fn value(text: &str) -> SecretSource {
    SecretSource::Value(text.to_owned().into())
}

#[tokio::test]
async fn an_answer_is_read_in_bounds_and_without_the_secrets_of_now_and_before() {
    let peer = Peer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "canary-one\n").unwrap();
    let token = LoginConfig::Token { scheme: BEARER, token: SecretSource::File(path.clone()) };
    let extra = [
        SecretHeader { name: "X-Key".into(), value: value("canary-two"), is_secret: true },
        SecretHeader { name: "X-Plain".into(), value: value("plain-text"), is_secret: false },
    ];
    let login = login(&token).with_headers(&extra).unwrap();
    std::fs::write(&path, "canary-three").unwrap();
    assert!(login.read_again().await.unwrap() && !login.read_again().await.unwrap());
    peer.answers(503, &format!("canary-one canary-two canary-three plain-text {}", "x".repeat(2000)));
    let heard = peer.ask(&login).await.unwrap();
    let said = String::from_utf8(heard.body).unwrap();
    assert!(!said.contains("canary") && said.contains("plain-text"), "{said}");
    assert_eq!((heard.status, heard.is_whole), (503, false));
    assert_eq!(heard.retry_after, Some(Duration::from_secs(7)));
    let books = peer.books.lock().unwrap();
    assert_eq!(books.asked[0].0["authorization"], "Bearer canary-three");
    assert_eq!(books.asked[0].0["x-key"], "canary-two");
}

#[tokio::test]
async fn basic_is_name_and_password_and_neither_is_repeated_in_any_form() {
    let peer = Peer::start().await;
    let login = login(&LoginConfig::Basic { username: "Aladdin".into(), password: value("open sesame") });
    peer.answers(401, "not `QWxhZGRpbjpvcGVuIHNlc2FtZQ==` nor open sesame");
    let heard = peer.ask(&login).await.unwrap();
    // RFC 7617, 2.
    assert_eq!(peer.authorizations(), ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
    assert_eq!(String::from_utf8(heard.body).unwrap(), "not `[redacted]` nor [redacted]");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_anew_when_the_receiver_no_longer_takes_it() {
    let peer = Peer::start().await;
    let login = peer.oauth(value("se/cret+x"), false);
    for _ in 0..3 {
        assert_eq!(peer.ask(&login).await.unwrap().status, 200);
    }
    assert_eq!(peer.authorizations(), ["Bearer token-1"; 3]);
    let form = "grant_type=client_credentials&client_id=client%3A1&client_secret=se%2Fcret%2Bx&scope=logs%2F.default&audience=a+b";
    assert_eq!(peer.forms(), [(form.to_owned(), None)]);
    // It no longer takes the first one, and repeats it.
    peer.answers(401, "token-1");
    let heard = peer.ask(&login).await.unwrap();
    assert_eq!((heard.status, peer.authorizations().last().unwrap().as_str()), (200, "Bearer token-2"));
    // It takes none at all: said once more, not for ever.
    peer.answers(401, "");
    peer.answers(401, "token-3 se/cret+x se%2Fcret%2Bx");
    let heard = peer.ask(&login).await.unwrap();
    assert_eq!((heard.status, peer.forms().len()), (401, 3));
    assert_eq!(String::from_utf8(heard.body).unwrap(), "[redacted] [redacted] [redacted]");
    // A probe asks for another one.
    assert!(!login.read_again().await.unwrap());
    login.prepare().await.unwrap();
    assert_eq!(peer.forms().len(), 4);
}

#[tokio::test]
async fn a_token_that_was_fetched_for_a_request_and_is_refused_is_not_fetched_once_more() {
    let peer = Peer::start().await;
    let login = peer.oauth(value("secret"), false);
    peer.answers(401, "no");
    assert_eq!(peer.ask(&login).await.unwrap().status, 401);
    assert_eq!((peer.forms().len(), peer.authorizations().len()), (1, 1));
    // The next request is shown another one.
    assert_eq!(peer.ask(&login).await.unwrap().status, 200);
    assert_eq!(peer.authorizations(), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn credentials_may_stand_in_the_header() {
    let peer = Peer::start().await;
    let login = peer.oauth(value("se cret"), true);
    peer.ask(&login).await.unwrap();
    let (form, authorization) = peer.forms().remove(0);
    assert_eq!(form, "grant_type=client_credentials&scope=logs%2F.default&audience=a+b");
    // `client%3A1:se+cret`
    assert_eq!(authorization.as_deref(), Some("Basic Y2xpZW50JTNBMTpzZStjcmV0"));
    peer.answers(400, "not `Basic Y2xpZW50JTNBMTpzZStjcmV0`");
    assert_eq!(peer.ask(&login).await.unwrap().body, b"not `Basic [redacted]`", "nor is it repeated");
}

#[tokio::test]
async fn a_refused_client_holds_an_endpoint_that_is_down_is_asked_again_and_neither_brings_the_secret_out() {
    let peer = Peer::start().await;
    let login = peer.oauth(value("canary-secret"), false);
    let said = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret canary-secret, \u0063anary-secret"}"#;
    peer.tokens(401, said);
    let error = peer.ask(&login).await.err().unwrap();
    assert!(error.is_login_refused && !error.may_have_arrived);
    assert!(!error.reason.contains("canary") && error.reason.contains("value was pasted"), "{}", error.reason);
    assert!(matches!(SendError::from(error), SendError::Fatal { .. }));
    assert!(peer.ask(&login).await.err().unwrap().is_login_refused && peer.forms().len() == 1, "it is believed");
    // As a probe does.
    login.read_again().await.unwrap();
    peer.tokens(503, "busy");
    let error = peer.ask(&login).await.err().unwrap();
    assert!(matches!(SendError::from(error), SendError::Retry { .. }));
    login.read_again().await.unwrap();
    peer.tokens(302, "");
    let error = peer.ask(&login).await.err().unwrap();
    assert!(error.is_login_refused && error.reason.contains("redirects are not followed"), "{}", error.reason);
    for odd in [r#"{"access_token":"t","token_type":"mac"}"#, "<html>", r#"{"access_token":"a\nb"}"#] {
        login.read_again().await.unwrap();
        peer.tokens(200, odd);
        assert!(!peer.ask(&login).await.err().unwrap().is_login_refused, "{odd}");
    }
    assert_eq!(peer.books.lock().unwrap().asked.len(), 0, "nothing is sent without a token");
    login.read_again().await.unwrap();
    assert_eq!(peer.ask(&login).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_signature_is_of_the_very_bytes_and_of_their_time() {
    let peer = Peer::start().await;
    let config = SignatureConfig {
        header: "X-Signature".into(),
        algorithm: SignatureAlgorithm::Sha256,
        secret: value("Jefe"),
        timestamp_header: Some("X-Time".into()),
    };
    let login = login(&LoginConfig::None).with_signature(Some(&config)).unwrap();
    peer.ask(&login).await.unwrap();
    let books = peer.books.lock().unwrap();
    let (headers, body) = &books.asked[0];
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"Jefe");
    let signed = [headers["x-time"].as_bytes(), b".", body].concat();
    let hex = headers["x-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    let tag: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    aws_lc_rs::hmac::verify(&key, &signed, &tag).unwrap();
}

#[test]
fn what_no_header_can_carry_is_refused_at_the_start_without_being_shown() {
    let token = LoginConfig::Token { scheme: BEARER, token: value("canary\nx") };
    let error = Login::new("s", &token).err().unwrap();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn an_excerpt_fits_a_line_of_a_log() {
    assert_eq!(excerpt(b" a\r\nb\x1b "), "a\\r\\nb\\u{1b}");
    assert_eq!(excerpt("\u{e9}".repeat(1000).as_bytes()).chars().count(), 200);
}
