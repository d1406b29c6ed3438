//! That the simulator verifies what it says it does: one good assertion, and every way in which one may be wrong.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::RegisteredCertificate;
use super::*;

const DER: &[u8] = b"stands for a certificate";

struct App<'a> {
    probe: Probe<'a>,
    key: KeyPair,
    now: i64,
}

impl App<'_> {
    fn claims(&self, id: &str) -> Value {
        let access = &self.probe.simulator.tenants()[0];
        let audience = format!("{}/{}/oauth2/v2.0/token", self.probe.simulator.login_url(), access.tenant_id);
        json!({ "aud": audience, "iss": access.client_id, "sub": access.client_id, "jti": id, "nbf": self.now, "exp": self.now + 600 })
    }

    fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, DER));
        self.sign_as(algorithm, claims, json!({ "x5t#S256": thumbprint }))
    }

    /// With these thumbprints in the header.
    fn sign_as(&self, algorithm: &str, claims: &Value, mut header: Value) -> String {
        header["alg"] = json!(algorithm);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let padding = if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
        self.key.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The number of the refusal; 0: a token.
    async fn ask(&self, assertion: &str) -> u64 {
        let access = &self.probe.simulator.tenants()[0];
        let scope = format!("{}/.default", self.probe.simulator.api_url());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", access.client_id.as_str()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
            ("scope", &scope),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", self.probe.simulator.login_url(), access.tenant_id);
        let answer = self.probe.http.post(url).form(&form).send().await.unwrap();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        body["error_codes"][0].as_u64().unwrap_or(0)
    }
}

#[tokio::test]
async fn an_assertion_is_good_once_and_only_if_everything_in_it_is_right() {
    let simulator = start(WorldConfig::new().records(10)).await;
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let now = simulator.clock().now();
    let registered = RegisteredCertificate {
        der: DER.to_vec(),
        public_key: key.public_key().as_ref().to_vec(),
        not_before: now - 10,
        not_after: now + 1000,
    };
    let app = App { probe: Probe::new(&simulator), key, now };
    assert_eq!(app.ask(&app.sign("PS256", &app.claims("first"))).await, 700_027, "nothing is registered yet");
    simulator.add_certificate(registered.clone());
    let good = app.sign("PS256", &app.claims("first"));
    assert_eq!((app.ask(&good).await, app.ask(&good).await), (0, 50_027), "once");
    assert_eq!(app.ask(&app.sign("RS256", &app.claims("second"))).await, 0);
    let changed = |name: &str, value: Value| {
        let mut claims = app.claims("third");
        claims[name] = value;
        claims
    };
    for (what, assertion, code) in [
        ("an audience of another host", app.sign("PS256", &changed("aud", json!("https://login.example/x"))), 700_023),
        ("another application", app.sign("PS256", &changed("sub", json!("x"))), 700_021),
        ("one that is over", app.sign("PS256", &changed("exp", json!(now - 400))), 700_024),
        ("one of the future", app.sign("PS256", &changed("nbf", json!(now + 400))), 700_024),
        ("no identifier", app.sign("PS256", &changed("jti", json!(""))), 50_027),
        ("an algorithm that is not allowed", app.sign("none", &app.claims("fourth")), 700_027),
        ("no JWT", "x.y.z".to_owned(), 50_027),
    ] {
        assert_eq!(app.ask(&assertion).await, code, "{what}");
    }
    let thumbprint = |hash, of: &[u8]| URL_SAFE_NO_PAD.encode(digest(hash, of));
    for (what, sha1_of, code) in
        [("two thumbprints", DER, 0), ("one of another certificate", b"another".as_slice(), 700_027)]
    {
        let header =
            json!({ "x5t": thumbprint(&SHA1_FOR_LEGACY_USE_ONLY, sha1_of), "x5t#S256": thumbprint(&SHA256, DER) });
        assert_eq!(app.ask(&app.sign_as("PS256", &app.claims(what), header)).await, code, "{what}");
    }
    let mut parts: Vec<&str> = good.split('.').collect();
    let claims = URL_SAFE_NO_PAD.encode(app.claims("fifth").to_string());
    parts[1] = &claims;
    assert_eq!(app.ask(&parts.join(".")).await, 700_027, "claims that were not signed");
    simulator.withdraw_certificate(DER);
    simulator.add_certificate(RegisteredCertificate { not_after: now - 1, ..registered });
    assert_eq!(app.ask(&app.sign("PS256", &app.claims("sixth"))).await, 700_027, "an expired certificate");
    let violations = simulator.report().violations;
    assert_eq!((violations.len(), violations[0].count), (1, 2), "the reuse, and the one without an identifier");
    assert_eq!(simulator.sign_ins().values().sum::<u64>(), 3);
}

/// As Microsoft's API refuses a token of Graph.
#[tokio::test]
async fn a_token_for_another_resource_is_none_here() {
    let simulator = start(WorldConfig::new().records(10)).await;
    let mut probe = Probe::new(&simulator);
    let access = simulator.tenants()[0].clone();
    let ask = |scope: String| {
        let form = [
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", access.client_id.clone()),
            ("client_secret", access.client_secret.clone()),
            ("scope", scope),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", simulator.login_url(), access.tenant_id);
        probe.http.post(url).form(&form).send()
    };
    let answers = [
        ask("https://graph.microsoft.com/.default".to_owned()).await.unwrap(),
        ask(format!("{}//.default", simulator.api_url())).await.unwrap(),
    ];
    let url = probe.feed(0, "subscriptions/list");
    for (answer, status) in answers.into_iter().zip([401, 200]) {
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        probe.tokens.insert(0, body["access_token"].as_str().unwrap().to_owned());
        assert_eq!(probe.send(0, false, &url).await.unwrap().0, status);
    }
    let violations = simulator.report().violations;
    assert_eq!((violations.len(), violations[0].count), (1, 1));
}
