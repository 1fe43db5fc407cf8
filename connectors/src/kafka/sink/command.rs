//! What a sink asks of a producer, and what it hears: the commands and answers of
//! [`IoRequest::Call`](gear_core::effect::IoRequest::Call).
//!
//! A command that could not be carried out for now is asked again as it is, so a producer does not
//! do twice what it has done.

use gear_core::effect::{IoError, IoErrorKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::mark::Mark;

/// The name of the service.
pub const SERVICE: &str = "kafka";

/// Settings of a client, by their names.
pub type Values = Vec<(String, String)>;

/// A producer of a sink's task: what was asked of an earlier one is not carried out by a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// The attempt of the task.
    pub attempt: u64,
    /// Its producers are numbered.
    pub number: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// What there is to know of a topic: [`Reply::Topic`].
    Describe {
        /// How to reach the cluster.
        settings: Values,
        /// The topic.
        topic: String,
    },
    /// A new producer in the place of every earlier one: with a transactional id it fences whoever
    /// has that id, in this process or in another, and a transaction of theirs is aborted.
    Open {
        /// The new producer.
        session: Session,
        /// How to reach the cluster.
        settings: Values,
        /// Its transactional id; none if it has no transactions.
        id: Option<String>,
    },
    /// What was committed last of this id: [`Reply::Mark`].
    Look {
        /// The producer that is to know.
        session: Session,
        /// Its id, which is the name of the group too.
        id: String,
        /// Under which topic the mark stands.
        topic: String,
    },
    /// Sends the records of the body, in a transaction if it has an id; answered once all are in
    /// its queue.
    Send {
        /// The producer.
        session: Session,
        /// Its id.
        id: Option<String>,
        /// Where to.
        topic: String,
        /// Which of the sends since the last commit or flush this is, from 0.
        number: u32,
    },
    /// Commits what was sent, with a mark; answered once the cluster has it.
    Commit {
        /// The producer.
        session: Session,
        /// Its id.
        id: String,
        /// Under which topic the mark stands.
        topic: String,
        /// The mark.
        mark: Mark,
        /// Which of the producer's commits this is, from 0.
        number: u32,
    },
    /// Waits until the cluster has all that was sent.
    Flush {
        /// The producer.
        session: Session,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// A topic.
    Topic {
        /// How many partitions it has.
        partitions: u32,
        /// Bytes of the largest batch that it takes; none if the cluster does not say.
        limit: Option<u32>,
    },
    /// What was committed last; none if there is nothing.
    Mark(Option<Mark>),
    /// The producer is of no more use, and whether the transaction was committed is not known.
    Lost(String),
    /// Another producer has the id, or the transaction took too long.
    Fenced(String),
}

/// The bytes of a command or an answer.
///
/// # Panics
/// Never: plain data encodes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data encodes")
}

/// The command or answer that bytes are.
///
/// # Errors
/// [`IoError`] if they are none: sink and driver are of one build.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IoError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(IoError {
            path: SERVICE.to_owned(),
            reason: "what a sink and its producer say to each other is damaged; this is a defect \
                     of Gear: please report it"
                .to_owned(),
            kind: IoErrorKind::Other,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_back() {
        let command = Command::Flush { session: Session { attempt: 3, number: 1 } };
        let bytes = encode(&command);
        assert_eq!(decode::<Command>(&bytes), Ok(command));
        assert!(decode::<Command>(&bytes[..1]).is_err());
    }
}
