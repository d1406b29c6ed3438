//! What a tenant signs in with ends one day: the day as a metric, and a word in the log from 30 days before, once a
//! day. Comes in: the credential and its end, at each token request. Goes out: a gauge and log lines. Knows no end
//! that nobody told: that of a secret stands in the configuration, that of a projected token is not ours to watch.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Seconds;
use crate::config::CredentialConfig;
use crate::metrics::Metrics;

/// Values of the metric's label `kind`.
pub const KINDS: [&str; 2] = ["certificate", "client_secret"];

const DAY: Seconds = 86_400;
/// From when on it is said, and from when on it is pressing and a person must act, in days.
const SOON: Seconds = 30;
const PRESSING: Seconds = 14;
const URGENT: Seconds = 2;

/// The warnings of one tenant.
pub struct Warnings {
    tenant: String,
    metrics: Arc<Metrics>,
    /// The end that was last spoken of, and when.
    last: Mutex<Option<(Seconds, Seconds)>>,
}

impl Warnings {
    /// Of a tenant that signs in with this kind: what is known of another, from before a reload, is forgotten, and so is a
    /// day that is no longer configured.
    pub fn new(tenant: &str, kind: &CredentialConfig, metrics: Arc<Metrics>) -> Warnings {
        for other in KINDS.into_iter().filter(|label| *label != kind.kind()) {
            metrics.credential_expiry.with_label_values(&[tenant, other]).set(0);
        }
        if matches!(kind, CredentialConfig::ClientSecret { expires: None, .. }) {
            // The date was taken out of the configuration. A certificate's stays until it is read again.
            metrics.credential_expiry.with_label_values(&[tenant, kind.kind()]).set(0);
        }
        Warnings { tenant: tenant.to_owned(), metrics, last: Mutex::default() }
    }

    /// Shows when the credential ends. `certificate_ends`: what the certificate that signs says.
    pub fn note(&self, kind: &CredentialConfig, certificate_ends: Option<Seconds>, now: Seconds) {
        let ends = match kind {
            CredentialConfig::ClientSecret { expires, .. } => *expires,
            _ => certificate_ends,
        };
        let (Some(ends), Some(label)) = (ends, KINDS.into_iter().find(|label| *label == kind.kind())) else { return };
        self.metrics.credential_expiry.with_label_values(&[self.tenant.as_str(), label]).set(ends);
        let days = (ends - now).div_euclid(DAY);
        if days >= SOON || !self.is_due(ends, now) {
            return;
        }
        let (tenant, until) = (self.tenant.as_str(), day(ends));
        let what = label.replace('_', " ");
        match days {
            PRESSING.. => tracing::warn!(tenant, until, days, "the {what} ends within a month; make the next one"),
            URGENT.. => tracing::warn!(
                tenant,
                until,
                days,
                "the {what} ends within two weeks; put the next one in its place, no restart is needed"
            ),
            0.. => tracing::error!(
                tenant,
                until,
                days,
                "the {what} ends within two days; then nothing can be collected until it is replaced"
            ),
            _ => tracing::error!(
                tenant,
                until,
                days,
                "the {what} has ended by our clock; it is tried all the same, because the service's clock counts; replace it"
            ),
        }
    }

    /// Once a day, and at once when it is another one.
    fn is_due(&self, ends: Seconds, now: Seconds) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(known, at)| known == ends && (now - at).abs() < DAY) {
            return false;
        }
        *last = Some((ends, now));
        true
    }
}

/// A day as people write it, UTC.
pub fn day(at: Seconds) -> String {
    let moment = jiff::Timestamp::from_second(at).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    moment.map_or_else(|_| at.to_string(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretSource;

    #[test]
    fn the_end_is_a_metric_and_is_spoken_of_once_a_day_from_a_month_before() {
        let metrics = Metrics::new();
        let ends = 1_800_000_000;
        let kind = CredentialConfig::ClientSecret { secret: SecretSource::Value("canary".into()), expires: Some(ends) };
        metrics.credential_expiry.with_label_values(&["t", "certificate"]).set(5);
        let warnings = Warnings::new("t", &kind, Arc::clone(&metrics));
        assert_eq!(metrics.credential_expiry.with_label_values(&["t", "certificate"]).get(), 0, "of another kind");
        warnings.note(&kind, None, ends - 31 * DAY);
        assert_eq!(metrics.credential_expiry.with_label_values(&["t", "client_secret"]).get(), ends);
        assert!(warnings.last.lock().unwrap().is_none(), "a month ahead nothing is said");
        let spoken = |now| {
            let before = *warnings.last.lock().unwrap();
            warnings.note(&kind, None, now);
            *warnings.last.lock().unwrap() != before
        };
        let days = |count: Seconds| ends - count * DAY;
        assert!(spoken(days(29)) && !spoken(days(29) + 3600) && spoken(days(28)));
        assert!(spoken(days(-1)), "and afterwards");
        let managed = CredentialConfig::Certificate(crate::config::CertificateConfig {
            file: "/nowhere".into(),
            key_file: None,
            password: None,
        });
        warnings.note(&managed, None, ends);
        assert_eq!(metrics.credential_expiry.with_label_values(&["t", "certificate"]).get(), 0, "not known");
        let kind = CredentialConfig::ClientSecret { secret: SecretSource::Value("canary".into()), expires: None };
        metrics.credential_expiry.with_label_values(&["t", "client_secret"]).set(ends);
        Warnings::new("t", &kind, Arc::clone(&metrics)).note(&kind, None, ends);
        assert_eq!(metrics.credential_expiry.with_label_values(&["t", "client_secret"]).get(), 0, "no longer told");
        assert_eq!(day(ends), "2027-01-15");
    }
}
