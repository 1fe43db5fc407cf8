//! What a master has on its disk, and what it makes of what it finds there.
//!
//! | entry | what |
//! |---|---|
//! | `quorum/identity` | of which cluster, node and folder this is |
//! | `quorum/promise` | the highest term that was promised, and to whom |
//! | `quorum/head` | who wrote the state, its number, the voters, how many parts there are |
//! | `quorum/part/NAME` | a part of the state |
//!
//! Every value is a message with version and checksum, and every write changes all of its entries
//! or none, so that promise, head and parts always fit together.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::message::Position;
use super::replicated::{Body, Replicated};
use super::voters::Voters;
use crate::crdt::Register;
use crate::host::process::DiskRequest;
use crate::id::{Incarnation, MasterTerm, NodeId, Token};
use crate::wire::message::{decode_message, encode_message};

/// What all entries' names begin with; a process may keep others on the same disk.
pub const PREFIX: &str = "quorum/";
const IDENTITY: &str = "quorum/identity";
const PROMISE: &str = "quorum/promise";
const HEAD: &str = "quorum/head";
const PART: &str = "quorum/part/";

const KIND_IDENTITY: u16 = 0x5111;
const KIND_PROMISE: u16 = 0x5112;
const KIND_HEAD: u16 = 0x5113;
const KIND_PART: u16 = 0x5114;

/// Of which cluster, node and folder a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) node: NodeId,
    pub(super) folder: Incarnation,
    /// True if the operator has said that it takes the place of a lost folder.
    pub(super) readmit: bool,
}

/// The highest term that was promised, and to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    pub(super) term: MasterTerm,
    pub(super) to: Option<NodeId>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    position: Position,
    voters: Register<Voters>,
    parts: usize,
}

/// Why a master does not vote with the disk that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// There is nothing on the disk, though the cluster was formed before.
    #[error(
        "the data folder is empty although the cluster was formed before: this master does not \
         vote, since its votes and what it had acknowledged are lost; put the folder back, or \
         have this master readmitted"
    )]
    Empty,
    /// The disk is another node's, or another cluster's.
    #[error(
        "the data folder belongs to {found_node} of cluster {found_cluster:#x}, not to {node} of \
         cluster {cluster:#x}: this master does not vote; put the right folder back, or have this \
         master readmitted, which empties the folder"
    )]
    Foreign {
        /// The cluster that the disk names.
        found_cluster: u64,
        /// The node that the disk names.
        found_node: NodeId,
        /// The cluster as configured.
        cluster: u64,
        /// The node as configured.
        node: NodeId,
    },
    /// An entry is missing or not what was written.
    #[error(
        "the entry {entry} of the data folder is damaged ({reason}): this master does not vote; \
         put the folder back, or have this master readmitted, which empties the folder"
    )]
    Damaged {
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a disk holds.
pub(super) struct Loaded<S> {
    pub(super) identity: Identity,
    pub(super) promise: Promise,
    pub(super) position: Position,
    pub(super) body: Body<S>,
}

fn entry<T: DeserializeOwned>(
    entries: &[(String, Vec<u8>)],
    name: &str,
    kind: u16,
) -> Result<T, Unfit> {
    let damaged = |reason| Unfit::Damaged { entry: name.to_string(), reason };
    let found = entries.iter().find(|(it, _)| it == name);
    let (_, bytes) = found.ok_or_else(|| damaged(String::from("it is missing")))?;
    decode_message(kind, bytes).map_err(|error| damaged(error.to_string()))
}

/// Reads what `node` of `cluster` has stored; [`Unfit::Empty`] if there is nothing.
pub(super) fn read<S: Replicated>(
    entries: &[(String, Vec<u8>)],
    cluster: u64,
    node: NodeId,
) -> Result<Loaded<S>, Unfit> {
    if !entries.iter().any(|(name, _)| name.starts_with(PREFIX)) {
        return Err(Unfit::Empty);
    }
    let identity: Identity = entry(entries, IDENTITY, KIND_IDENTITY)?;
    if (identity.cluster, identity.node) != (cluster, node) {
        let (found_cluster, found_node) = (identity.cluster, identity.node);
        return Err(Unfit::Foreign { found_cluster, found_node, cluster, node });
    }
    let promise: Promise = entry(entries, PROMISE, KIND_PROMISE)?;
    let Head { position, voters, parts } = entry(entries, HEAD, KIND_HEAD)?;
    let mut body = Body { voters, state: S::default() };
    let mut found = 0;
    for (name, _) in entries.iter().filter(|(name, _)| name.starts_with(PART)) {
        body.state.join(&entry(entries, name, KIND_PART)?);
        found += 1;
    }
    let damaged = |reason| Unfit::Damaged { entry: String::from(HEAD), reason };
    if found != parts {
        return Err(damaged(format!("it names {parts} parts, there are {found}")));
    }
    if position.term > promise.term {
        return Err(damaged(String::from("it is of a later term than the promise")));
    }
    Ok(Loaded { identity, promise, position, body })
}

/// What is written, and what has to be.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What is durable.
    pub(super) promise: Promise,
    /// What is durable.
    pub(super) position: Position,
    /// The last request's token.
    token: Token,
    writing: Option<Writing>,
    /// The parts that are on disk once what is being written is.
    parts: BTreeSet<String>,
    dirty: Dirty,
}

#[derive(Debug)]
struct Writing {
    token: Token,
    promise: Promise,
    position: Position,
}

#[derive(Debug, Default)]
struct Dirty {
    any: bool,
    identity: bool,
    /// Every part, and what is no part any more has to go.
    whole: bool,
    parts: BTreeSet<String>,
    /// Entries to be removed first.
    remove: Vec<String>,
}

impl Disk {
    pub(super) fn next_token(&mut self) -> Token {
        self.token = self.token.next();
        self.token
    }

    /// What was read stands on the disk.
    pub(super) fn loaded<S: Replicated>(&mut self, loaded: &Loaded<S>, names: &[String]) {
        (self.promise, self.position) = (loaded.promise, loaded.position);
        let parts = names.iter().filter_map(|name| name.strip_prefix(PART));
        self.parts = parts.map(ToString::to_string).collect();
    }

    /// The promise has to be written.
    pub(super) fn touch(&mut self) {
        self.dirty.any = true;
    }

    /// The parts that a delta names have to be written.
    pub(super) fn touch_parts(&mut self, names: Vec<String>) {
        self.dirty.any = true;
        self.dirty.parts.extend(names);
    }

    /// The state has been replaced.
    pub(super) fn touch_all(&mut self) {
        self.dirty.any = true;
        self.dirty.whole = true;
    }

    /// The disk begins anew, without these entries.
    pub(super) fn format(&mut self, remove: Vec<String>) {
        self.dirty = Dirty { any: true, identity: true, whole: true, remove, ..Dirty::default() };
    }

    /// The next write, if one is due and none is under way: everything since the last.
    pub(super) fn next_write<S: Replicated>(
        &mut self,
        identity: &Identity,
        promise: Promise,
        position: Position,
        body: &Body<S>,
    ) -> Option<(Token, DiskRequest)> {
        if self.writing.is_some() || !self.dirty.any {
            return None;
        }
        let dirty = core::mem::take(&mut self.dirty);
        // By name, so that an entry that is removed and written again is written.
        let mut entries: BTreeMap<String, Option<Vec<u8>>> =
            dirty.remove.into_iter().map(|name| (name, None)).collect();
        let mut names = dirty.parts;
        if dirty.whole {
            names = body.state.parts().into_iter().collect();
            for gone in self.parts.difference(&names) {
                entries.insert(format!("{PART}{gone}"), None);
            }
            self.parts.clone_from(&names);
        }
        for name in &names {
            let part = encode(KIND_PART, &body.state.part(name));
            entries.insert(format!("{PART}{name}"), Some(part));
        }
        self.parts.append(&mut names);
        if dirty.identity {
            entries.insert(String::from(IDENTITY), Some(encode(KIND_IDENTITY, identity)));
        }
        let head = Head { position, voters: body.voters.clone(), parts: self.parts.len() };
        entries.insert(String::from(PROMISE), Some(encode(KIND_PROMISE, &promise)));
        entries.insert(String::from(HEAD), Some(encode(KIND_HEAD, &head)));
        let token = self.next_token();
        self.writing = Some(Writing { token, promise, position });
        let entries = entries.into_iter().collect();
        Some((token, DiskRequest::Write { entries }))
    }

    /// A write is durable; false if it is not the one that is under way.
    pub(super) fn written(&mut self, token: Token) -> bool {
        if self.writing.as_ref().is_none_or(|writing| writing.token != token) {
            return false;
        }
        let writing = self.writing.take().expect("it was there a line ago");
        assert!(writing.promise.term >= self.promise.term, "promises are never taken back");
        assert!(writing.position >= self.position, "the state never retreats");
        (self.promise, self.position) = (writing.promise, writing.position);
        true
    }
}

/// A value of this crate, or of a replicated state, whose types all have an encoding.
pub(super) fn encode<T: Serialize>(kind: u16, value: &T) -> Vec<u8> {
    encode_message(kind, value).expect("a replicated state consists of types that postcard knows")
}
