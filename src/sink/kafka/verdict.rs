//! What an error code of Kafka's means for a message, and the words for it. Comes in: codes of delivery
//! reports, of metadata, of the connection. Goes out: what the sink does next and a text that tells the
//! causes apart and names the way out. Pure.
//!
//! Codes: Kafka protocol, "Error Codes"; librdkafka's own begin with an underscore there.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::config::MESSAGE_MAX_BYTES;

/// What to do about a failed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Produce it again.
    Again,
    /// Refused for good, if it was alone in its request; with others it must be tried alone first.
    Refused,
    /// Nothing of the kind will be taken until somebody mends something.
    Held,
}

/// The class of a code in a delivery report or of a produce call.
pub(super) fn class(code: Code) -> Class {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation => Class::Refused,
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedVersion
        | Code::InvalidRequiredAcks => Class::Held,
        _ => Class::Again,
    }
}

/// Whether a code of the class `Held` is about one topic, so that others may go on.
pub(super) fn is_of_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
    )
}

/// Why `topic` takes nothing, and what to do.
pub(super) fn held(code: Code, topic: &str) -> String {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            format!(
                "the topic `{topic}` does not exist; create it, or let the brokers do so (auto.create.topics.enable)"
            )
        }
        Code::TopicAuthorizationFailed => {
            format!("we are not authorised for the topic `{topic}`; allow our user WRITE and DESCRIBE on it")
        }
        Code::ClusterAuthorizationFailed => {
            "we are not authorised to write with idempotence; allow our user IDEMPOTENT_WRITE on the cluster".to_owned()
        }
        Code::InvalidTopic => format!("`{topic}` is no name of a topic; change `topic` of the sink"),
        Code::UnsupportedCompressionType => {
            "the brokers do not know this compression; choose another `compression`".to_owned()
        }
        other => format!("the brokers take nothing for `{topic}`: {other:?}; see their log"),
    }
}

/// What is wrong between us and the brokers as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Login,
    Tls,
    Away,
    /// As `Away`, said when every broker is; which says nothing of the cause.
    AllAway,
}

/// The trouble that a code of the connection means, with what librdkafka `said`; `None` for what passes
/// by itself. A certificate of ours that is refused comes as a broken connection (in TLS 1.3 the
/// handshake is over by then), and only OpenSSL's text says that it was an alert of the other side.
pub(super) fn trouble(code: Code, said: &str) -> Option<Trouble> {
    match code {
        Code::BrokerTransportFailure if said.contains("SSL routines") && said.contains("alert") => Some(Trouble::Tls),
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => Some(Trouble::Login),
        Code::SSL => Some(Trouble::Tls),
        Code::AllBrokersDown => Some(Trouble::AllAway),
        Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => Some(Trouble::Away),
        _ => None,
    }
}

/// How librdkafka begins what it says when we had no token for it (rdkafka_sasl_oauthbearer.c).
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

impl Trouble {
    /// Which of two troubles says more.
    pub fn weight(self) -> u8 {
        match self {
            Trouble::Login | Trouble::Tls => 3,
            Trouble::Away => 2,
            Trouble::AllAway => 1,
        }
    }

    /// The words for it, with what librdkafka `said`.
    pub fn words(self, said: &str) -> String {
        match self {
            Trouble::Login if said.contains(NO_TOKEN) => {
                format!("there is no token to log in to the brokers with: {said}; check `sasl.token` of the sink")
            }
            // RFC 7628 3.2.2: the status of a token that is not taken.
            Trouble::Login if said.contains("OAUTHBEARER") || said.contains("\"invalid_token\"") => format!(
                "the brokers refuse our token: {said}; check that `sasl.token` names the identity and the scope that they expect, and that the identity has rights there"
            ),
            Trouble::Login => format!(
                "the brokers refuse our login: {said}; check `sasl.username` and `sasl.password`, and that the listener has this mechanism"
            ),
            Trouble::Tls => format!(
                "no TLS with the brokers: {said}; check `tls.ca_file`, the name and the end in their certificate, our own certificate, and that the listener speaks TLS"
            ),
            Trouble::Away | Trouble::AllAway => format!("no broker can be reached: {said}; tried again"),
        }
    }
}

/// Why a message of so many bytes is refused for good, with the limit. `ours`: the largest that is handed to
/// librdkafka; `theirs`: what the topic takes, where we may know it.
pub(super) fn refusal(bytes: u64, topic: &str, code: Code, ours: u64, theirs: Option<u64>) -> String {
    match code {
        Code::MessageSizeTooLarge if bytes >= ours => {
            format!(
                "the message is larger than `{MESSAGE_MAX_BYTES}` of the sink ({ours} bytes); raise it under `librdkafka`"
            )
        }
        Code::MessageSizeTooLarge => {
            let known = theirs.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"));
            format!(
                "the message is larger, compressed, than `max.message.bytes` of the topic `{topic}`{known}; raise it there (or `message.max.bytes` of the brokers)"
            )
        }
        other => format!("the brokers refuse the message for topic `{topic}`: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_not_authorised_and_away_are_told_apart() {
        assert_eq!(class(Code::UnknownTopicOrPartition), Class::Held);
        assert_eq!(class(Code::NotEnoughReplicas), Class::Again);
        assert_eq!(class(Code::PurgeQueue), Class::Again);
        assert_eq!(class(Code::MessageSizeTooLarge), Class::Refused);
        assert!(held(Code::UnknownTopic, "t").contains("does not exist"));
        assert!(held(Code::TopicAuthorizationFailed, "t").contains("not authorised for the topic `t`"));
        assert_eq!(trouble(Code::SSL, ""), Some(Trouble::Tls));
        assert_eq!(trouble(Code::BrokerTransportFailure, "Connection refused"), Some(Trouble::Away));
        let alert = "Receive failed: ssl: error:0A00045C:SSL routines::tlsv13 alert certificate required";
        assert_eq!(trouble(Code::BrokerTransportFailure, alert), Some(Trouble::Tls));
        assert_eq!(
            trouble(Code::BrokerTransportFailure, "SSL routines::unexpected eof while reading"),
            Some(Trouble::Away)
        );
    }
}
