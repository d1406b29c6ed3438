//! A token endpoint: signs tokens (ES256) for client credentials, as Entra and others do, and what is wrong with them is a
//! knob. Comes in: requests of any path. Goes out: tokens, each kept, or a refusal.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Signs tokens, and says by which key.
#[derive(Clone)]
pub struct TokenSigner(Arc<EcdsaKeyPair>);

impl TokenSigner {
    pub fn new() -> TokenSigner {
        TokenSigner(Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
    }

    /// The key, for whoever verifies.
    pub fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        format!(
            "{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"one\",\"alg\":\"ES256\",\"use\":\"sig\",\"x\":\"{x}\",\"y\":\"{y}\"}}]}}"
        )
    }

    /// A token of `subject` for `audience`, which ends so many seconds from now.
    pub fn sign(&self, subject: &str, audience: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let claims = format!(
            "{{\"iss\":\"tests\",\"sub\":{subject:?},\"aud\":{audience:?},\"scope\":\"write\",\"iat\":{},\"exp\":{},\"jti\":\"{}\"}}",
            now.min(now + seconds - 1),
            now + seconds,
            fastrand::u64(..)
        );
        let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
        let signed = format!("{}.{}", encode("{\"alg\":\"ES256\",\"kid\":\"one\",\"typ\":\"JWT\"}"), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// What it does.
#[derive(Clone)]
pub struct Knobs {
    pub secret: String,
    pub audience: String,
    pub subject: String,
    /// Signed by a key that nobody knows.
    pub forged: bool,
    /// How long a token lives, and how long it is said to.
    pub lives: i64,
    pub said: i64,
}

/// See the module's head.
#[derive(Clone)]
pub struct FakeTokens(Arc<Inner>);

struct Inner {
    signer: TokenSigner,
    knobs: Mutex<Knobs>,
    issued: Mutex<Vec<String>>,
    asked: Mutex<Vec<(String, String)>>,
    url: String,
}

impl FakeTokens {
    /// Gives good tokens of `alice` for the audience of the tests.
    pub async fn start(signer: &TokenSigner) -> FakeTokens {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let knobs = Knobs {
            secret: "right".into(),
            audience: "kafka-for-tests".into(),
            subject: "alice".into(),
            forged: false,
            lives: 3600,
            said: 3600,
        };
        let fake = FakeTokens(Arc::new(Inner {
            signer: signer.clone(),
            knobs: Mutex::new(knobs),
            issued: Mutex::default(),
            asked: Mutex::default(),
            url: format!("http://{}/", listener.local_addr().unwrap()),
        }));
        let app = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.0.knobs.lock().unwrap());
    }

    /// All tokens so far.
    pub fn issued(&self) -> Vec<String> {
        self.0.issued.lock().unwrap().clone()
    }

    /// Path and form of all requests so far.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.0.asked.lock().unwrap().clone()
    }
}

async fn answer(State(fake): State<FakeTokens>, request: axum::extract::Request) -> (StatusCode, String) {
    let path = request.uri().path().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    fake.0.asked.lock().unwrap().push((path, String::from_utf8_lossy(&body).into_owned()));
    let knobs = fake.0.knobs.lock().unwrap().clone();
    let secret = form.iter().find(|(name, _)| name == "client_secret").map(|(_, value)| value.as_str());
    if secret != Some(knobs.secret.as_str()) {
        let said = format!("AADSTS7000215: Invalid client secret provided: {}", secret.unwrap_or_default());
        return (StatusCode::UNAUTHORIZED, format!("{{\"error\":\"invalid_client\",\"error_description\":{said:?}}}"));
    }
    let signer = if knobs.forged { TokenSigner::new() } else { fake.0.signer.clone() };
    let token = signer.sign(&knobs.subject, &knobs.audience, knobs.lives);
    fake.0.issued.lock().unwrap().push(token.clone());
    let answer = format!("{{\"access_token\":{token:?},\"token_type\":\"Bearer\",\"expires_in\":{}}}", knobs.said);
    (StatusCode::OK, answer)
}
