//! Why there is no TLS with the brokers, in words: OpenSSL says no more than that a certificate was not believed, be it of
//! another authority, of another host or over its time. So the first broker is greeted once more, by a TLS that says which.
//! Comes in: the sink's settings. Goes out: a reason, or nothing. Sends no record and no login.

use std::time::Duration;

use super::KafkaConfig;
use super::producer::Shared;
use crate::config::ProxyConfig;
use crate::http;

/// One greeting.
const LIMIT: Duration = Duration::from_secs(3);

/// Learns why TLS fails, once for each trouble; whoever comes meanwhile waits for it.
pub(super) async fn learn(shared: &Shared, kafka: &KafkaConfig) {
    let _alone = shared.diagnosing.lock().await;
    if shared.wants_diagnosis()
        && let Some(found) = of_tls(kafka).await
    {
        shared.diagnosed(found);
    }
}

/// What is wrong with the certificate of the first broker, as far as a greeting shows it.
async fn of_tls(kafka: &KafkaConfig) -> Option<String> {
    let tls = kafka.tls.clone().filter(|tls| tls.verify != Some(false))?;
    let broker = kafka.brokers.split(',').next()?;
    let client = tokio::task::spawn_blocking(move || http::client(&tls, &ProxyConfig::Off, Some(LIMIT)).ok());
    let client = client.await.ok()??;
    let request = client.get(format!("https://{broker}/")).build().ok()?;
    // Whoever answers has been believed; a broker then ends the connection, since this is no request of Kafka's.
    let failure = client.execute(request).await.err()?;
    let said = failure.without_advice();
    let at = said.find("invalid peer certificate")?;
    Some(said[at..].to_owned())
}
