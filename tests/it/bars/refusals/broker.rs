//! What Apache Kafka refuses us for.

use super::{CANARY, Case, Mend, TARGET, tls};
use crate::real::kafka::Kafka;

/// Checkpoint topics: one for each case, since what one has delivered they would tell the others; and one that carol may not touch.
pub(super) const CHECKPOINTS: [&str; 4] =
    ["allowed-checkpoint-0", "allowed-checkpoint-1", "allowed-checkpoint-2", "refused-checkpoint"];

fn scram(user: &str, password: &str) -> String {
    format!("sasl: {{ mechanism: SCRAM-SHA-512, username: {user}, password: {password} }}")
}

pub(super) fn cases(kafka: &Kafka) -> Vec<Case> {
    let to = |listener: &str, settings: &str| {
        format!("type: kafka, brokers: {:?}, topic: {TARGET}, {settings}", kafka.address(listener))
    };
    let right = |listener: &str, settings: &str| Mend::Sink(to(listener, settings));
    let (alice, bob, carol) =
        (scram("alice", "alice-secret"), scram("bob", "bob-secret"), scram("carol", "carol-secret"));
    let (ca, other_ca) = (tls(&kafka.file("ca.pem")), tls(&kafka.file("other-ca.pem")));
    let right_tls = || right("logintls", &format!("{alice}, {ca}"));
    let in_transactions = |id: &str, checkpoints: &str| {
        format!("{carol}, transactional: true, transactional_id: {id}, checkpoint_topic: {checkpoints}")
    };
    vec![
        Case {
            name: "password",
            named: &["refuse our login", "sasl.password"],
            target: "refused-password",
            wrong: to("login", &scram("alice", CANARY)),
            mend: right("login", &alice),
        },
        Case {
            name: "authority",
            named: &["no TLS with the brokers", "UnknownIssuer"],
            target: "refused-authority",
            wrong: to("logintls", &format!("{alice}, {other_ca}")),
            mend: right_tls(),
        },
        Case {
            name: "expired",
            named: &["no TLS with the brokers", "expired"],
            target: "refused-expired",
            wrong: to("expired", &ca),
            mend: right_tls(),
        },
        Case {
            name: "host",
            named: &["no TLS with the brokers", "not valid for name", "elsewhere.example"],
            target: "refused-host",
            wrong: to("elsewhere", &ca),
            mend: right_tls(),
        },
        Case {
            name: "missing topic",
            named: &["the topic `refused-missing` does not exist"],
            target: "refused-missing",
            wrong: to("open", ""),
            mend: Mend::Make,
        },
        Case {
            name: "no right at all",
            // For the topic, or to be an idempotent producer, whichever is asked for first.
            named: &["we are not authorised"],
            target: "refused-all",
            wrong: to("login", &bob),
            mend: right("login", &alice),
        },
        Case {
            name: "forbidden topic",
            named: &["not authorised for the topic `refused-topic`", "WRITE and DESCRIBE"],
            target: "refused-topic",
            wrong: to("login", &carol),
            mend: right("login", &alice),
        },
        Case {
            name: "topic that may only be seen",
            named: &["not authorised for the topic `visible-topic`", "WRITE and DESCRIBE"],
            target: "visible-topic",
            wrong: to("login", &carol),
            mend: Mend::Allow,
        },
        Case {
            name: "forbidden transactional id",
            named: &["not authorised for the transactional id `refused-id`", "WRITE and DESCRIBE"],
            target: "allowed-by-id",
            wrong: to("login", &in_transactions("refused-id", CHECKPOINTS[0])),
            mend: right("login", &in_transactions("allowed-0", CHECKPOINTS[0])),
        },
        Case {
            name: "forbidden checkpoint topic",
            named: &["not authorised for the topic `refused-checkpoint`", "READ, WRITE and DESCRIBE"],
            target: "allowed-by-checkpoint",
            wrong: to("login", &in_transactions("allowed-1", CHECKPOINTS[3])),
            mend: right("login", &in_transactions("allowed-1", CHECKPOINTS[1])),
        },
        Case {
            name: "forbidden topic in transactions",
            named: &["not authorised for the topic `refused-in-transactions`", "WRITE and DESCRIBE"],
            target: "refused-in-transactions",
            wrong: to("login", &in_transactions("allowed-2", CHECKPOINTS[2])),
            mend: Mend::Allow,
        },
    ]
}
