//! What librdkafka says, as the connector tells it. No value of a setting is in it.

use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};

use crate::kafka::error::KafkaError;
use crate::kafka::settings::ClientSettings;

/// Tells what went wrong with a client that has these settings.
pub(crate) struct Errors<'a> {
    pub(crate) settings: &'a ClientSettings,
}

impl Errors<'_> {
    fn brokers(&self) -> String {
        self.settings.brokers().to_owned()
    }

    /// A client could not be made.
    pub(crate) fn creation(&self, error: Client) -> KafkaError {
        match error {
            Client::ClientConfig(_, reason, name, _) => {
                let hidden = "its value is not what librdkafka expects (it is not shown)";
                let shown = ClientSettings::may_be_shown(&name);
                let reason = if shown { reason } else { hidden.to_owned() };
                KafkaError::RefusedSetting { name, reason }
            }
            other => self.failed("a client cannot be made", other.to_string()),
        }
    }

    pub(crate) fn failed(&self, what: &str, reason: String) -> KafkaError {
        KafkaError::Failed { brokers: self.brokers(), what: what.to_owned(), reason }
    }

    pub(crate) fn unreachable(&self, seconds: u64, reason: String) -> KafkaError {
        KafkaError::Unreachable { brokers: self.brokers(), seconds, reason }
    }

    pub(crate) fn unknown_topic(&self, topic: &str) -> KafkaError {
        KafkaError::UnknownTopic { topic: topic.to_owned(), brokers: self.brokers() }
    }

    /// Something about `what` failed with this code, after so many seconds.
    pub(crate) fn of(&self, code: Code, what: &str, seconds: u64, said: &str) -> KafkaError {
        let reason = if said.is_empty() { code.to_string() } else { said.to_owned() };
        if is_refusal(code) {
            let (brokers, what) = (self.brokers(), what.to_owned());
            return KafkaError::Refused { brokers, what, reason };
        }
        if may_pass(code) {
            return self.unreachable(seconds, reason);
        }
        self.failed(what, reason)
    }
}

/// True if the cluster knows what is wanted, and does not grant it.
pub(crate) const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::Authentication
            | Code::SSL
    )
}

/// True if the client goes on trying by itself, and may succeed.
pub(crate) const fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::RequestTimedOut
            | Code::OffsetNotAvailable
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
            | Code::KafkaStorageError
            | Code::UnknownBroker
            | Code::WaitCache
            | Code::Outdated
            | Code::Retry
    )
}

/// True if a topic or a partition is not known.
pub(crate) const fn is_unknown(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
    )
}
