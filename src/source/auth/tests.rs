//! The token of a tenant against an endpoint in this process, on a clock that stands unless it is moved.

use std::collections::VecDeque;
use std::sync::Mutex as StdMutex;

use super::super::connections::Transport;
use super::*;
use crate::secret::SecretSource;

const GRANTED: (u16, &str) = (200, r#"{"access_token":"t","expires_in":4000}"#);
const REFUSED: (u16, &str) = (401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: no"}"#);
const DOWN: (u16, &str) = (503, "");

/// An endpoint that gives these answers one after the other, and the last of them from then on.
struct Endpoint {
    answers: Arc<StdMutex<VecDeque<(u16, &'static str)>>>,
    tokens: Arc<TokenSource>,
}

impl Endpoint {
    fn new(secret: SecretSource, answers: &[(u16, &'static str)]) -> Endpoint {
        let answers = Arc::new(StdMutex::new(VecDeque::from(answers.to_vec())));
        let next = Arc::clone(&answers);
        let connections = Connections::new(Transport::InProcess(Arc::new(move |_| {
            let mut answers = next.lock().unwrap();
            let (status, body) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] };
            Box::pin(async move {
                let mut response = axum::http::Response::new(body.into());
                *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap();
                Ok(response)
            })
        })));
        let credential = Credential {
            login: "http://login.example/".parse().unwrap(),
            tenant_id: "id".into(),
            client_id: "client".into(),
            kind: CredentialConfig::ClientSecret { secret, expires: None },
            resource: "resource".into(),
            endpoint: None,
            scope: None,
        };
        let clock = Clock::following(1_700_000_000_000);
        let tokens = TokenSource::new(connections, clock, credential, "t", Metrics::new());
        Endpoint { answers, tokens: Arc::new(tokens) }
    }

    fn of_value(answers: &[(u16, &'static str)]) -> Endpoint {
        Endpoint::new(SecretSource::Value("s".into()), answers)
    }

    /// The serial of the token after so many seconds, or the error's class.
    async fn after(&self, seconds: u64) -> Result<u64, &'static str> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        self.tokens.get().await.map(|token| token.serial).map_err(|error| error.class())
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_serves_to_its_end_while_the_endpoint_cannot_renew_it() {
    let endpoint = Endpoint::of_value(&[GRANTED, DOWN]);
    assert_eq!(endpoint.after(0).await, Ok(1));
    for seconds in [3001, 1, 900] {
        assert_eq!(endpoint.after(seconds).await, Ok(1), "it lives");
    }
    assert_eq!(endpoint.after(98).await, Err("transient"), "it has ended");
    endpoint.answers.lock().unwrap().push_back(GRANTED);
    assert_eq!(endpoint.after(6).await, Err("transient"));
    assert_eq!(endpoint.after(6).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_refused_credential_or_one_that_was_refused_does_not_come_back() {
    let endpoint = Endpoint::of_value(&[GRANTED, DOWN, REFUSED, DOWN]);
    assert_eq!(endpoint.after(0).await, Ok(1));
    assert_eq!(endpoint.after(3001).await, Ok(1));
    assert_eq!(endpoint.after(55).await, Ok(1), "while there is a token nobody is in a hurry");
    assert_eq!(endpoint.after(6).await, Err("unauthorized"));
    assert_eq!(endpoint.after(61).await, Err("transient"));
    let endpoint = Endpoint::of_value(&[GRANTED, DOWN]);
    let token = endpoint.tokens.get().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(endpoint.after(3001).await, Ok(1));
    endpoint.tokens.invalidate(&token).await;
    assert_eq!(endpoint.after(0).await, Err("transient"));
    let endpoint = Endpoint::of_value(&[GRANTED, DOWN, GRANTED]);
    assert_eq!(endpoint.after(0).await, Ok(1));
    assert_eq!(endpoint.after(3001).await, Ok(1));
    endpoint.tokens.renew_if_older(30).await;
    assert_eq!(endpoint.after(0).await, Ok(2), "asked at once, whatever failed before");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_anew_is_answered_anew_and_learns_of_another_credential() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "old-secret").unwrap();
    let endpoint = Endpoint::new(SecretSource::File(path.clone()), &[REFUSED, GRANTED]);
    assert_eq!(endpoint.after(0).await, Err("unauthorized"));
    assert_eq!(endpoint.after(1).await, Err("unauthorized"), "believed");
    assert!(!endpoint.tokens.ask_anew().await);
    assert_eq!(endpoint.after(0).await, Ok(1));
    std::fs::write(&path, "new/secret").unwrap();
    assert!(endpoint.tokens.ask_anew().await);
    let token = endpoint.tokens.get().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(token.serial, 2);
    assert!(!endpoint.tokens.ask_anew().await, "it was asked with");
    assert!(!endpoint.tokens.invalidate(&token).await, "it is held no more");
    assert_eq!(endpoint.tokens.scrub(b"new%2fsecret, old-secret"), b"[redacted], [redacted]");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_credential_is_noticed_though_an_outage_followed_its_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "old").unwrap();
    let endpoint = Endpoint::new(SecretSource::File(path.clone()), &[REFUSED, DOWN]);
    assert_eq!(endpoint.after(0).await, Err("unauthorized"));
    assert_eq!(endpoint.after(61).await, Err("transient"));
    std::fs::write(&path, "new").unwrap();
    tokio::time::timeout(Duration::from_secs(60), endpoint.tokens.changed()).await.expect("nobody looks at the file");
}

/// A file that does not answer, as on a mount whose server is gone: here a pipe that nobody writes to.
#[tokio::test]
async fn a_credential_that_cannot_be_read_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let endpoint = Endpoint::new(SecretSource::File(path.clone()), &[GRANTED]);
    let (done, told) = std::sync::mpsc::channel::<()>();
    // Whoever waits for it is let go in any case.
    let writer = std::thread::spawn(move || {
        let _ = told.recv_timeout(Duration::from_secs(5));
        let _pipe = std::fs::File::create(&path).unwrap();
        // Whoever reads again finds a file.
        let file = path.with_extension("file");
        std::fs::write(&file, "s").unwrap();
        std::fs::rename(file, path).unwrap();
    });
    let waited = tokio::time::timeout(Duration::from_millis(100), endpoint.tokens.get()).await;
    drop(done);
    writer.join().unwrap();
    assert!(waited.is_err(), "the thread of all others waited with it");
}
