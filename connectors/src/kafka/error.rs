//! What goes wrong with a Kafka cluster, and what to do about it.

use thiserror::Error;

use super::settings::SettingError;

/// What went wrong with a Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KafkaError {
    /// No broker answers.
    #[error(
        "no broker of {brokers} {}: {reason}; check the addresses, and that a broker runs and can \
         be reached from here", silence(*seconds)
    )]
    Unreachable {
        /// The addresses.
        brokers: String,
        /// The time in which none has answered, in seconds; 0 if it just stopped.
        seconds: u64,
        /// What the client says.
        reason: String,
    },
    /// The source names no topic.
    #[error("the source names no topic: name one at least")]
    NoTopic,
    /// The cluster does not know a topic.
    #[error(
        "there is no topic `{topic}` on {brokers}: check its name, or make it (it is not made by \
         itself)"
    )]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// The addresses of the brokers.
        brokers: String,
    },
    /// A topic has fewer partitions than are being read.
    #[error(
        "the topic `{topic}` has {count} partitions, and partition {partition} is to be read: \
         it was probably deleted and made again; start over with --fresh, or give the source a \
         new name"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that there is not.
        partition: u32,
        /// How many there are.
        count: u32,
    },
    /// The cluster refuses what was asked for.
    #[error(
        "{brokers} refuses access to {what}: {reason}; give this user the right to it, or start \
         with another user (`sasl.*` and `ssl.*` settings)"
    )]
    Refused {
        /// The addresses of the brokers.
        brokers: String,
        /// What was asked for.
        what: String,
        /// What the cluster says.
        reason: String,
    },
    /// A setting that the connector decides on.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A setting that the client library refuses.
    #[error("the setting `{name}` is refused: {reason}")]
    RefusedSetting {
        /// The setting; its value is not shown.
        name: String,
        /// What the library says.
        reason: String,
    },
    /// This process has no client of Kafka.
    #[error(
        "this job was built without Kafka: build it with the feature `kafka` of gear-node \
         (it needs a C++ compiler and make)"
    )]
    NotBuiltIn,
    /// Anything else.
    #[error("{brokers}: {what}: {reason}")]
    Failed {
        /// The addresses of the brokers.
        brokers: String,
        /// What was done.
        what: String,
        /// What the client says.
        reason: String,
    },
}

fn silence(seconds: u64) -> String {
    match seconds {
        0 => "answers".to_owned(),
        _ => format!("has answered for {seconds} s"),
    }
}

impl KafkaError {
    /// True if trying again may help: the cluster may come back, or the topic may appear.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::UnknownTopic { .. } | Self::UnknownPartition { .. }
        )
    }
}
