//! What a sink asks of a producer, and what it hears: the commands and answers of
//! [`IoRequest::Call`](gear_core::effect::IoRequest::Call).
//!
//! A command that could not be carried out for now is asked again as it is, so a producer does not
//! do twice what it has done.

use gear_core::effect::{IoError, IoErrorKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// What a transaction commits beside its records: up to which epoch output has been produced, and
/// how much of the next one if that does not fit into one transaction. It is the offset of a
/// consumer group that nobody joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// All output up to and with this epoch has been produced.
    pub epoch: u64,
    /// So many segments of the output of the epoch after it have been, too.
    pub segments: u32,
    /// The life of the sink to which the epoch belongs: one that starts over counts anew.
    pub lineage: u64,
    /// The attempt of the task that produced it.
    pub attempt: u64,
    /// How far another life had come when this one wrote its first mark.
    pub before: Option<Before>,
}

/// How far another life of a sink had come, as a [`Mark`] remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// All of its output up to and with this epoch had been produced.
    pub epoch: u64,
    /// So many segments of the output of the epoch after it had been, too.
    pub segments: u32,
    /// That life.
    pub lineage: u64,
    /// The attempt of the task that produced it.
    pub attempt: u64,
}

impl Mark {
    /// What is written beside the offset.
    #[must_use]
    pub fn metadata(&self) -> String {
        let life = |lineage, attempt, segments| {
            let part = if segments > 0 { format!("+{segments}") } else { String::new() };
            format!("{lineage:016x} {attempt}{part}")
        };
        let own = format!("gear {}", life(self.lineage, self.attempt, self.segments));
        match self.before {
            None => own,
            Some(Before { epoch, segments, lineage, attempt }) => {
                format!("{own} {epoch} {}", life(lineage, attempt, segments))
            }
        }
    }

    /// The mark that an offset is; of no life that this program knows if something else wrote it.
    #[must_use]
    pub fn read(offset: i64, metadata: &str) -> Self {
        let parsed = || {
            let mut words = metadata.strip_prefix("gear ")?.split(' ');
            let own = life(&mut words)?;
            let before = match words.next() {
                None => None,
                Some(epoch) => {
                    let epoch = epoch.parse().ok()?;
                    let (lineage, attempt, segments) = life(&mut words)?;
                    Some(Before { epoch, segments, lineage, attempt })
                }
            };
            words.next().is_none().then_some((own, before))
        };
        let ((lineage, attempt, segments), before) = parsed().unwrap_or_default();
        let epoch = u64::try_from(offset).unwrap_or(0);
        Self { epoch, segments, lineage, attempt, before }
    }

    /// The last epoch of which something has been produced.
    #[must_use]
    pub const fn last(&self) -> u64 {
        if self.segments > 0 { self.epoch.saturating_add(1) } else { self.epoch }
    }

    /// What it says of a life: its own, or the one that it remembers.
    #[must_use]
    pub fn of(self, life: u64) -> Option<Self> {
        if self.lineage == life {
            return Some(self);
        }
        let before = self.before.filter(|before| before.lineage == life)?;
        let Before { epoch, segments, lineage, attempt } = before;
        Some(Self { epoch, segments, lineage, attempt, before: None })
    }

    /// What a life that begins behind it has to remember. It may be that of an attempt which comes
    /// late and takes itself for the first: then the later attempt that is fenced by it is needed.
    #[must_use]
    pub fn remembered(self) -> Before {
        let Self { epoch, segments, lineage, attempt, before } = self;
        let own = Before { epoch, segments, lineage, attempt };
        before.filter(|before| before.attempt > attempt).unwrap_or(own)
    }
}

/// A life, its attempt, and how many segments it has produced of the next epoch.
fn life<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<(u64, u64, u32)> {
    let lineage = u64::from_str_radix(words.next()?, 16).ok()?;
    let word = words.next()?;
    let (attempt, segments) = word.split_once('+').unwrap_or((word, "0"));
    let segments = segments.parse().ok()?;
    Some((lineage, attempt.parse().ok()?, segments))
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
    fn a_mark_is_read_back_and_what_others_wrote_is_of_no_life() {
        let mark = Mark { epoch: 7, segments: 0, lineage: 0xab, attempt: 1 << 40, before: None };
        assert_eq!(Mark::read(7, "gear 00000000000000ab 1099511627776"), mark);
        assert_eq!(Mark::read(7, &mark.metadata()), mark);
        let mark = Mark { segments: 3, ..mark };
        assert_eq!((Mark::read(7, &mark.metadata()), mark.last()), (mark, 8));
        let next =
            Mark { epoch: 0, segments: 0, lineage: 0xac, before: Some(mark.remembered()), ..mark };
        assert_eq!(Mark::read(0, &next.metadata()), next);
        assert_eq!(next.of(0xab), Some(mark));
        assert_eq!((next.of(0xac), next.of(1)), (Some(next), None));
        for other in ["", "gear", "gear x 1", "gear 1 y", "gear 1 2 3", "gear 1 2+", "consumer 1 2"]
        {
            let none = Mark { epoch: 7, segments: 0, lineage: 0, attempt: 0, before: None };
            assert_eq!(Mark::read(7, other), none);
        }
        assert_eq!(Mark::read(-1, "").epoch, 0);
    }

    #[test]
    fn a_command_comes_back() {
        let command = Command::Flush { session: Session { attempt: 3, number: 1 } };
        let bytes = encode(&command);
        assert_eq!(decode::<Command>(&bytes), Ok(command));
        assert!(decode::<Command>(&bytes[..1]).is_err());
    }
}
