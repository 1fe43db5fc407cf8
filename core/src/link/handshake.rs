//! The first words on every connection: who dials, whom it wants, and what both can read.
//!
//! Whoever dialled sends a [`Hello`]; whoever listens judges it with [`Door::judge`] and answers
//! with a [`Welcome`] or a [`Refusal`], after which it closes. Until then nothing else is read.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::control::Peer;
use crate::id::AppTerm;

/// What this build reads and writes on connections.
///
/// The rule: every change after which one of two builds no longer reads what the other says, the
/// types of messages and of what is in them as much as the way they are framed, raises `highest`,
/// also between releases; a test digests their definitions and names the two numbers to change.
/// Nothing has been released yet, so `lowest` is raised with it, and nodes of two versions refuse
/// each other by name. From the first release on `lowest` stays one behind, since nodes are
/// upgraded one after the other, and what is said is written as the older of the two reads it.
pub const VERSIONS: Versions = Versions { lowest: 2, highest: 2 };

/// A range of versions of what is said on connections, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub lowest: u16,
    /// The newest.
    pub highest: u16,
}

impl Versions {
    /// The newest that both know; none if there is none.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

/// What whoever dialled says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it can read and write.
    pub versions: Versions,
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Who it is.
    pub from: Peer,
    /// Whom it wants: another process may listen by now at the address that it knows.
    pub to: Peer,
    /// What it was told at its launch, by which processes of one app know each other.
    pub token: u64,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Control messages, each for itself.
    Control,
    /// A link between two processes of an app.
    Link {
        /// The life of whoever dials: differs between any two starts.
        session: u64,
    },
}

/// The answer that lets the peer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version in which both write from now on.
    pub version: u16,
    /// Who answers.
    pub from: Peer,
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It cannot read what is written here, or the other way round.
    #[error(
        "versions {there} of the wire were offered, {here} are spoken here; upgrade the nodes one \
         version at a time"
    )]
    Versions {
        /// What is spoken where it dialled to.
        here: Versions,
        /// What it offered.
        there: Versions,
    },
    /// It belongs to another cluster.
    #[error("cluster {there:016x} was wanted, this is {here:016x}; correct the address")]
    Cluster {
        /// The cluster of whoever listens.
        here: u64,
        /// Its own.
        there: u64,
    },
    /// Somebody else listens at the address: the process that was wanted is gone.
    #[error("{there} was wanted, but {here} listens at this address; ask where it is now")]
    Addressee {
        /// Who listens.
        here: Peer,
        /// Who was wanted.
        there: Peer,
    },
    /// It does not know what the processes of this app know.
    #[error("the token is not that of this app's processes; start it through its worker")]
    Token,
    /// An app master with a higher term has been heard.
    #[error("{there} is over, {here} has been heard; end this app master")]
    Superseded {
        /// The highest term that is known.
        here: AppTerm,
        /// Its own.
        there: AppTerm,
    },
    /// Nobody has announced it here yet.
    #[error("it is not known here yet; dial again later")]
    Unknown,
    /// It was given up, and what it did is done by others.
    #[error("it was not heard for too long and has been given up; end it")]
    GivenUp,
    /// It is not the process with which this link began.
    #[error("it has been started again since this link began; it is another process now")]
    AnotherLife,
}

impl Refusal {
    /// True if there is no use in dialling again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// What whoever listens knows of a peer that says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is expected.
    Known,
    /// It was never heard of.
    Unknown,
    /// It was lost, and stays so.
    GivenUp,
}

/// What whoever listens asks of those who come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// What is spoken here: [`VERSIONS`].
    pub versions: Versions,
    /// The cluster.
    pub cluster: u64,
    /// Who listens.
    pub here: Peer,
    /// The token that has to be shown; none where everybody may come.
    pub token: Option<u64>,
    /// The highest term that is known of the app whose app master may come; 0 if none.
    pub term: AppTerm,
}

impl Door {
    /// Judges a hello of a peer of which so much is known.
    ///
    /// # Errors
    /// The [`Refusal`] that is to be sent before the connection is closed.
    pub fn judge(&self, hello: &Hello, standing: Standing) -> Result<Welcome, Refusal> {
        let (here, there) = (self.versions, hello.versions);
        let Some(version) = here.common(there) else {
            return Err(Refusal::Versions { here, there });
        };
        if hello.cluster != self.cluster {
            return Err(Refusal::Cluster { here: self.cluster, there: hello.cluster });
        }
        if hello.to != self.here {
            return Err(Refusal::Addressee { here: self.here, there: hello.to });
        }
        if self.token.is_some_and(|token| token != hello.token) {
            return Err(Refusal::Token);
        }
        if let Peer::AppMaster(_, there) = hello.from
            && there < self.term
        {
            return Err(Refusal::Superseded { here: self.term, there });
        }
        match standing {
            Standing::Known => Ok(Welcome { version, from: self.here }),
            Standing::Unknown => Err(Refusal::Unknown),
            Standing::GivenUp => Err(Refusal::GivenUp),
        }
    }
}

impl Hello {
    /// The version in which both write, if the answer fits.
    ///
    /// # Errors
    /// [`Refusal`] if the answer does not follow from this hello: close the connection.
    pub fn check(&self, welcome: &Welcome) -> Result<u16, Refusal> {
        let Welcome { version, from } = *welcome;
        if from != self.to {
            return Err(Refusal::Addressee { here: from, there: self.to });
        }
        let answer = Versions { lowest: version, highest: version };
        match self.versions.common(answer) {
            Some(version) => Ok(version),
            None => Err(Refusal::Versions { here: answer, there: self.versions }),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::AppMaster(app, term) => write!(f, "the app master of {app} in {term}"),
            Self::Executor(app, executor) => write!(f, "{executor} of {app}"),
            Self::Client(number) => write!(f, "client {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::id::{AppId, ExecutorId};
    use crate::limits::HANDSHAKE_BYTES_MAX;
    use crate::wire::message::decode_message;
    use crate::wire::stream::{Decoder, Entry, encode_entry, kind};

    const MASTER: Peer = Peer::AppMaster(AppId(1), AppTerm(4));
    const EXECUTOR: Peer = Peer::Executor(AppId(1), ExecutorId(2));
    const HELLO: Hello = Hello {
        versions: VERSIONS,
        cluster: 7,
        from: MASTER,
        to: EXECUTOR,
        token: 5,
        purpose: Purpose::Link { session: 3 },
    };
    const DOOR: Door =
        Door { versions: VERSIONS, cluster: 7, here: EXECUTOR, token: Some(5), term: AppTerm(4) };

    #[test]
    fn who_fits_is_let_in() {
        let welcome = DOOR.judge(&HELLO, Standing::Known).expect("fits");
        assert_eq!(welcome, Welcome { version: VERSIONS.highest, from: EXECUTOR });
        assert_eq!(HELLO.check(&welcome), Ok(VERSIONS.highest));
        let open = Door { token: None, term: AppTerm(0), ..DOOR };
        assert!(open.judge(&Hello { token: 0, ..HELLO }, Standing::Known).is_ok());
        let newer = Hello { from: Peer::AppMaster(AppId(1), AppTerm(5)), ..HELLO };
        assert!(DOOR.judge(&newer, Standing::Known).is_ok());
    }

    #[test]
    fn who_does_not_fit_is_refused_by_name() {
        let refused = |hello: Hello| DOOR.judge(&hello, Standing::Known).expect_err("refused");
        let next = VERSIONS.highest + 1;
        let there = Versions { lowest: next, highest: next + 1 };
        let versions = Refusal::Versions { here: VERSIONS, there };
        assert_eq!(refused(Hello { versions: there, ..HELLO }), versions);
        let says = format!("versions {there} of the wire were offered, {VERSIONS} are");
        assert!(versions.to_string().starts_with(&says), "{versions}");
        let cluster = Refusal::Cluster { here: 7, there: 8 };
        assert_eq!(refused(Hello { cluster: 8, ..HELLO }), cluster);
        let addressee = Refusal::Addressee { here: EXECUTOR, there: MASTER };
        assert_eq!(refused(Hello { to: MASTER, ..HELLO }), addressee);
        assert_eq!(refused(Hello { token: 6, ..HELLO }), Refusal::Token);
        let older = Peer::AppMaster(AppId(1), AppTerm(3));
        let superseded = Refusal::Superseded { here: AppTerm(4), there: AppTerm(3) };
        assert_eq!(refused(Hello { from: older, ..HELLO }), superseded);
        assert_eq!(DOOR.judge(&HELLO, Standing::Unknown), Err(Refusal::Unknown));
        assert_eq!(DOOR.judge(&HELLO, Standing::GivenUp), Err(Refusal::GivenUp));
        assert!(Refusal::GivenUp.is_final() && !Refusal::Unknown.is_final());
    }

    #[test]
    fn an_answer_of_another_is_refused() {
        let other = Welcome { version: VERSIONS.highest, from: MASTER };
        let addressee = Refusal::Addressee { here: MASTER, there: EXECUTOR };
        assert_eq!(HELLO.check(&other), Err(addressee));
        let newer = Welcome { version: VERSIONS.highest + 1, from: EXECUTOR };
        assert!(matches!(HELLO.check(&newer), Err(Refusal::Versions { .. })));
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let range = |lowest, highest| Versions { lowest, highest };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(2, 2).common(range(2, 5)), Some(2));
        assert_eq!(range(1, 1).common(range(2, 5)), None);
        assert_eq!(range(3, 1).common(range(1, 5)), None, "no range at all");
    }

    #[test]
    fn a_stranger_may_send_the_whole_handshake() {
        let mut bytes = Vec::new();
        let far = Versions { lowest: u16::MAX, highest: u16::MAX };
        let most = Peer::AppMaster(AppId(u64::MAX), AppTerm(u64::MAX));
        let purpose = Purpose::Link { session: u64::MAX };
        let hello = Hello {
            versions: far,
            cluster: u64::MAX,
            from: most,
            to: most,
            token: u64::MAX,
            purpose,
        };
        encode_entry(kind::HELLO, &hello, &mut bytes).expect("short");
        assert!(bytes.len() < HANDSHAKE_BYTES_MAX / 8);
        let mut decoder = Decoder::new();
        let mut input = bytes.as_slice();
        let entry = decoder.next(&mut input);
        let Ok(Some(Entry::Message(bytes))) = entry else { panic!("{entry:?}") };
        assert_eq!(decode_message(kind::HELLO, bytes), Ok(hello));
    }
}
