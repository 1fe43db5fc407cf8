//! The masters' quorum: one leader a term, and a state that survives while a majority of disks
//! does. [`Quorum`] is one master's part in it; `ALGORITHM.md` beside this folder says why it is
//! right.
//!
//! Generic over what is kept in common ([`Replicated`]), so that it can be tested with a set of
//! numbers.

mod election;
mod leader;
mod membership;
mod message;
mod random;
mod replicated;
mod replication;
mod storage;
#[cfg(test)]
mod tests;
mod voters;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use election::Campaign;
use leader::Leader;
pub use membership::VotersError;
pub use message::{Position, QuorumContent, QuorumMessage, TERM_MAX};
use random::Random;
pub use replicated::Replicated;
use replicated::{Body, Delta};
use storage::{Disk, Identity, Promise};
pub use storage::{PREFIX, Unfit};
pub use voters::{VOTERS_MAX, Voter, Voters};

use crate::control::Address;
use crate::crdt::{Register, Stamp};
use crate::effect::{Level, Notice};
use crate::host::process::{DiskReply, DiskRequest};
use crate::host::{Fault, Faults};
use crate::id::{Incarnation, MasterTerm, NodeId, Token};
use crate::limits::LEADER_LEASE;
use crate::time::{Duration, Time};

/// What a leader's lease is shorter than the time for which voters refuse other candidates, so
/// that clocks may run apart by a tenth.
pub const LEASE_MARGIN: Duration = Duration::from_millis(100);
/// Over this much the elections of different masters are spread: several times a message's way and
/// a disk's write, so that one is mostly over before the next begins.
pub const ELECTION_SPREAD: Duration = Duration::from_millis(500);
/// A campaign that is not won by then begins anew; doubles with each that fails, up to
/// [`CAMPAIGN_DOUBLINGS_MAX`] times, so that slow disks get their chance.
pub const CAMPAIGN_TIME: Duration = Duration::from_millis(300);
/// Times that the time for a campaign doubles.
pub const CAMPAIGN_DOUBLINGS_MAX: u32 = 3;
/// Updates that are proposed and not acknowledged; then nothing more is taken.
pub const UPDATES_OUTSTANDING_MAX: usize = 1_024;
/// Peers about whom a notice was given; the list says only who has been named already.
const NAMED_MAX: usize = 64;

/// Of what the folder of a founding voter is called: all of them write the same list.
const FOUNDERS_FOLDER: Incarnation = Incarnation(0);

/// What a master makes of an empty data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formation {
    /// The cluster is formed now: this master is one of the first voters. For the very first start
    /// of a node only, since an empty folder votes then.
    First,
    /// The cluster was formed before, and this master had a part in it: it does not vote.
    Before,
    /// This master is new: it does not vote until a command makes it a voter.
    Joins,
}

/// A master, as its operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuorumConfig {
    /// Names the cluster, from its formation on.
    pub cluster: u64,
    /// This master's node.
    pub node: NodeId,
    /// This life of the process, not 0: names the data folder if it is formed in this life.
    pub life: Incarnation,
    /// What to do about an empty data folder.
    pub formation: Formation,
    /// The first voters; later only whom a master asks that does not vote.
    pub voters: BTreeMap<NodeId, Address>,
    /// Spreads elections in time.
    pub seed: u64,
}

/// What a master hears of the others, and of its disk.
#[derive(Clone, Debug, PartialEq)]
pub enum QuorumInput {
    /// Begin.
    Start,
    /// A master has said something.
    Message {
        /// Who, as the connection's handshake has proved.
        from: NodeId,
        /// What.
        message: QuorumMessage,
    },
    /// The disk answered.
    Disk {
        /// The request's token.
        token: Token,
        /// The answer.
        reply: DiskReply,
    },
    /// The operator says that this master's folder is lost: it empties it and asks for its place.
    Readmit,
    /// The time that `next_timeout` gave has come.
    Timeout,
}

/// What a master wants done for its quorum, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum QuorumEffect {
    /// Tell another master; may get lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: QuorumMessage,
    },
    /// Do this on the process's disk.
    Disk {
        /// Names the request in its answer; the quorum counts its own.
        token: Token,
        /// What to do.
        request: DiskRequest,
    },
    /// Tell the user.
    Notice(Notice),
}

/// The leader's number of an update. Rises by one within its term; says nothing in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpdateNumber(pub u64);

/// What a master does for its quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumRole {
    /// Nothing: its disk has not been read, is none to vote with, or has failed.
    Unfit,
    /// It keeps what a leader sends, and votes if it is a voter.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It was elected; [`Quorum::may_serve`] says whether it may act.
    Leader,
}

/// Whether a master takes part.
#[derive(Debug)]
enum Standing {
    /// The disk is being read, if that was asked for.
    Loading { token: Option<Token> },
    /// The first entries are being written.
    Forming,
    /// It does.
    Ready,
    /// It waits for a better disk, or for [`QuorumInput::Readmit`], which removes these entries.
    Unfit { why: Unfit, entries: Vec<String> },
    /// The disk has failed.
    Failed,
}

/// What a master is busy with.
#[derive(Debug)]
enum Office<S> {
    Follower,
    /// Those that would vote for this term.
    Asking {
        term: MasterTerm,
        granted: BTreeSet<(NodeId, Incarnation)>,
    },
    Candidate(Campaign<S>),
    Leader(Leader<S>),
}

/// One master's part in the quorum.
#[derive(Debug)]
pub struct Quorum<S, F> {
    config: QuorumConfig,
    random: Random,
    standing: Standing,
    identity: Identity,
    disk: Disk,
    promise: Promise,
    /// Whom the promise has to be answered, and how new that candidate's state is.
    owed: Option<(NodeId, Position)>,
    position: Position,
    body: Body<S>,
    office: Office<S>,
    /// The highest term that anybody has named.
    seen: MasterTerm,
    leader: Option<NodeId>,
    /// The `sent` of the leader's latest message.
    echo: Time,
    /// When a leader was last heard, or may have been by an earlier life of this process; none if
    /// no other can have led.
    heard: Option<Time>,
    /// When something is to be done about a missing leader.
    election_at: Time,
    failed_campaigns: u32,
    /// Those that a notice has named.
    named: BTreeSet<NodeId>,
    faults: PhantomData<F>,
}

impl<S: Replicated, F: Faults> Quorum<S, F> {
    /// A master that has not begun.
    #[must_use]
    pub fn new(config: QuorumConfig) -> Self {
        assert!(config.life != FOUNDERS_FOLDER, "life 0 is the founders'");
        let identity = Identity {
            cluster: config.cluster,
            node: config.node,
            folder: config.life,
            readmit: false,
        };
        Self {
            random: Random::new(config.seed),
            config,
            standing: Standing::Loading { token: None },
            identity,
            disk: Disk::default(),
            promise: Promise::default(),
            owed: None,
            position: Position::default(),
            body: Body::default(),
            office: Office::Follower,
            seen: MasterTerm(0),
            leader: None,
            echo: Time::ZERO,
            heard: None,
            election_at: Time::MAX,
            failed_campaigns: 0,
            named: BTreeSet::new(),
            faults: PhantomData,
        }
    }

    /// Hears something.
    pub fn handle(&mut self, now: Time, input: QuorumInput, out: &mut Vec<QuorumEffect>) {
        self.expire(now, out);
        match input {
            QuorumInput::Start => self.on_start(out),
            QuorumInput::Message { from, message } => self.on_message(now, from, message, out),
            QuorumInput::Disk { token, reply } => self.on_disk(now, token, reply, out),
            QuorumInput::Readmit => self.on_readmit(out),
            QuorumInput::Timeout => self.on_timeout(now, out),
        }
        self.flush(out);
        assert!(self.position.term <= self.promise.term, "nothing is taken without a promise");
    }

    /// When [`QuorumInput::Timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        match (&self.standing, &self.office) {
            (Standing::Ready, Office::Leader(leader)) if F::has(Fault::IgnoreLease) => {
                Some(leader.tick_at)
            }
            (Standing::Ready, Office::Leader(leader)) => {
                Some(leader.tick_at.min(self.contact_until(leader)))
            }
            (Standing::Ready, _) => Some(self.election_at),
            _ => None,
        }
    }

    /// What this master does.
    #[must_use]
    pub const fn role(&self) -> QuorumRole {
        match (&self.standing, &self.office) {
            (Standing::Ready, Office::Leader(_)) => QuorumRole::Leader,
            (Standing::Ready, Office::Follower) => QuorumRole::Follower,
            (Standing::Ready, _) => QuorumRole::Candidate,
            _ => QuorumRole::Unfit,
        }
    }

    /// The highest term that this master has promised: its own if it leads.
    #[must_use]
    pub const fn term(&self) -> MasterTerm {
        self.promise.term
    }

    /// Who leads, as far as this master knows: itself included, none if nobody has been heard for
    /// the lease.
    #[must_use]
    pub fn leader_hint(&self, now: Time) -> Option<NodeId> {
        match self.role() {
            QuorumRole::Leader => Some(self.config.node),
            _ => self.leader.filter(|_| self.is_fresh(now)),
        }
    }

    /// Whether this master leads, with a lease, and the state it began with is on a majority's
    /// disks: only then it may act.
    #[must_use]
    pub fn may_serve(&self, now: Time) -> bool {
        match (&self.standing, &self.office) {
            (Standing::Ready, Office::Leader(leader)) => {
                leader.acknowledged > 0
                    && (F::has(Fault::IgnoreLease) || now < self.lease_until(leader))
            }
            _ => false,
        }
    }

    /// The latest state on this master: updates that may be lost included, or out of date.
    #[must_use]
    pub const fn state(&self) -> &S {
        &self.body.state
    }

    /// How new [`Quorum::state`] is.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The state that a majority has on disk, and no later leader is without; none if this master
    /// does not lead, or has not written back.
    #[must_use]
    pub const fn acknowledged_state(&self) -> Option<&S> {
        match &self.office {
            Office::Leader(leader) if leader.acknowledged > 0 => Some(&leader.acknowledged_state),
            _ => None,
        }
    }

    /// The last update of this term that a majority has on disk; 0 if this master does not lead.
    #[must_use]
    pub const fn acknowledged(&self) -> UpdateNumber {
        match &self.office {
            Office::Leader(leader) => UpdateNumber(leader.acknowledged),
            _ => UpdateNumber(0),
        }
    }

    /// Who votes, as far as this master knows.
    #[must_use]
    pub const fn voters(&self) -> &Voters {
        self.body.voters.get()
    }

    /// Why this master does not vote, if its disk is the reason.
    #[must_use]
    pub const fn unfit(&self) -> Option<&Unfit> {
        match &self.standing {
            Standing::Unfit { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Joins `delta` into the state, and has it written by all. None if this master may not serve,
    /// or too much is not acknowledged yet: it was not taken, ask again.
    pub fn propose(
        &mut self,
        now: Time,
        delta: S,
        out: &mut Vec<QuorumEffect>,
    ) -> Option<UpdateNumber> {
        if !self.may_serve(now) || self.outstanding() >= UPDATES_OUTSTANDING_MAX {
            return None;
        }
        let number = self.update(now, Delta { voters: None, state: Some(delta) }, out);
        self.flush(out);
        Some(UpdateNumber(number))
    }

    fn on_start(&mut self, out: &mut Vec<QuorumEffect>) {
        let Standing::Loading { token: token @ None } = &mut self.standing else {
            return;
        };
        let next = self.disk.next_token();
        *token = Some(next);
        out.push(QuorumEffect::Disk { token: next, request: DiskRequest::Load });
    }

    fn on_disk(&mut self, now: Time, token: Token, reply: DiskReply, out: &mut Vec<QuorumEffect>) {
        match reply {
            DiskReply::Loaded { entries } => {
                if matches!(self.standing, Standing::Loading { token: Some(it) } if it == token) {
                    self.on_loaded(now, &entries, out);
                }
            }
            DiskReply::Written => {
                if self.disk.written(token) {
                    self.on_written(now, out);
                }
            }
            DiskReply::Failed { reason } => {
                self.standing = Standing::Failed;
                self.office = Office::Follower;
                let text = format!(
                    "the disk of {}'s master has failed ({reason}): it neither leads nor votes; \
                     mend the disk or make room on it, and start the node again",
                    self.config.node
                );
                out.push(QuorumEffect::Notice(Notice { level: Level::Error, text }));
            }
        }
    }

    fn on_loaded(&mut self, now: Time, entries: &[(String, Vec<u8>)], out: &mut Vec<QuorumEffect>) {
        let names: Vec<_> = entries.iter().map(|(name, _)| name.clone()).collect();
        let why = match storage::read(entries, self.config.cluster, self.config.node) {
            Ok(loaded) => {
                self.disk.loaded(&loaded, &names);
                self.identity = loaded.identity;
                (self.promise, self.position) = (loaded.promise, loaded.position);
                self.body = loaded.body;
                self.begin(now);
                return;
            }
            Err(why) => why,
        };
        match (&why, self.config.formation) {
            (Unfit::Empty, Formation::First) => {
                self.identity.folder = FOUNDERS_FOLDER;
                let founder =
                    |address: &Address| Voter { folder: FOUNDERS_FOLDER, address: address.clone() };
                let voters = self.config.voters.iter();
                let voters = voters.map(|(node, address)| (*node, founder(address))).collect();
                self.body.voters = Register::new(Stamp::ZERO, Voters::new(voters));
                self.form(Vec::new());
            }
            (Unfit::Empty, Formation::Joins) => self.form(Vec::new()),
            _ => {
                let node = self.config.node;
                let text = format!("{node}: {why}: `gear-node voters --readmit {}`", node.0);
                out.push(QuorumEffect::Notice(Notice { level: Level::Error, text }));
                let entries = names.into_iter().filter(|name| name.starts_with(PREFIX)).collect();
                self.standing = Standing::Unfit { why, entries };
            }
        }
    }

    /// Writes the first entries, in place of these.
    fn form(&mut self, remove: Vec<String>) {
        self.disk.format(remove);
        self.standing = Standing::Forming;
    }

    /// The disk holds what this master is. An earlier life may have heard a leader a moment ago,
    /// unless it was the only one who could lead.
    fn begin(&mut self, now: Time) {
        self.standing = Standing::Ready;
        self.seen = self.seen.max(self.promise.term);
        if self.has_led_alone() {
            self.election_at = now;
        } else {
            self.heard = Some(now);
            self.await_leader(now);
        }
    }

    /// Whether the disk proves that no other master has a lease: this one is the only voter, and
    /// has promised its last term to nobody else. `ALGORITHM.md` says why both are needed.
    fn has_led_alone(&self) -> bool {
        let me = (self.config.node, self.identity.folder);
        let alone = self.is_voter() && self.voters().members().all(|member| member == me);
        alone && self.promise.to.is_none_or(|to| to == self.config.node)
    }

    /// Whether a leader has been heard within the lease, or may have been.
    fn is_fresh(&self, now: Time) -> bool {
        self.heard.is_some_and(|heard| now < heard + LEADER_LEASE)
    }

    fn on_written(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        if matches!(self.standing, Standing::Forming) {
            self.begin(now);
            return;
        }
        self.answer_vote(out);
        match &self.office {
            Office::Follower => self.acknowledge(out),
            Office::Candidate(_) => self.ask_for_votes(now, out),
            Office::Leader(_) => self.advance(now, out),
            Office::Asking { .. } => {}
        }
    }

    fn on_timeout(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        if !matches!(self.standing, Standing::Ready) {
            return;
        }
        if let Office::Leader(leader) = &self.office {
            if now >= leader.tick_at {
                self.tick(now, out);
            }
        } else if now >= self.election_at {
            if self.is_voter() {
                self.ask(now, out);
            } else {
                self.apply_for_membership(now, out);
            }
        }
    }

    fn on_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: QuorumMessage,
        out: &mut Vec<QuorumEffect>,
    ) {
        if !matches!(self.standing, Standing::Ready) || from == self.config.node {
            return;
        }
        let QuorumMessage { cluster, folder, content } = message;
        if cluster != self.config.cluster {
            let (there, here) = (cluster, self.config.cluster);
            let what = format!("is of cluster {there:#x}, not of {here:#x}; correct its addresses");
            self.refuse_peer(from, &what, out);
            return;
        }
        let result = match content {
            QuorumContent::PreVote { term } => self.on_pre_vote(now, from, term, out),
            QuorumContent::PreVoteGranted { term } => {
                self.on_pre_vote_granted(now, (from, folder), term, out)
            }
            QuorumContent::Vote { term, position } => self.on_vote(now, from, term, position, out),
            QuorumContent::Promised { term, position, body } => {
                let body = body.as_ref().map(|bytes| bytes.as_slice());
                self.on_promised(now, (from, folder), term, position, body, out)
            }
            QuorumContent::Refused { term } => self.on_refused(now, (from, folder), term, out),
            QuorumContent::Append { term, sent, first, deltas } => {
                self.on_append(now, from, (term, sent), first, &deltas, out)
            }
            QuorumContent::Whole { term, sent, number, body } => {
                self.on_whole(now, from, (term, sent), number, &body, out)
            }
            QuorumContent::Acknowledged { term, sent, received, stored } => {
                self.on_acknowledged(now, (from, folder), (term, sent), received, stored, out)
            }
            QuorumContent::Apply { readmit } => {
                self.on_apply(now, (from, folder), readmit, out);
                Ok(())
            }
        };
        if let Err(what) = result {
            self.refuse_peer(from, &what, out);
        }
    }

    /// Says once of each peer that something is wrong with what it sends.
    fn refuse_peer(&mut self, from: NodeId, what: &str, out: &mut Vec<QuorumEffect>) {
        if self.named.len() < NAMED_MAX && self.named.insert(from) {
            let text = format!("the master of {from} is not listened to: it {what}");
            out.push(QuorumEffect::Notice(Notice { level: Level::Warning, text }));
        }
    }

    fn send(&self, to: NodeId, content: QuorumContent, out: &mut Vec<QuorumEffect>) {
        let (cluster, folder) = (self.config.cluster, self.identity.folder);
        let message = QuorumMessage { cluster, folder, content };
        out.push(QuorumEffect::Send { to, message });
    }

    /// The folder with which this master takes part; none if it does not.
    #[must_use]
    pub const fn folder(&self) -> Option<Incarnation> {
        match self.standing {
            Standing::Ready => Some(self.identity.folder),
            _ => None,
        }
    }

    fn is_voter(&self) -> bool {
        self.voters().contains(self.config.node, self.identity.folder)
    }

    /// The other voters, each once.
    fn peers(&self) -> BTreeSet<(NodeId, Incarnation)> {
        let me = (self.config.node, self.identity.folder);
        self.voters().members().filter(|member| *member != me).collect()
    }

    /// A term that may be believed; the highest is remembered.
    fn believe(&mut self, term: MasterTerm) -> Result<(), String> {
        if term.0 > TERM_MAX {
            return Err(format!("speaks of {term}, which no cluster reaches"));
        }
        self.seen = self.seen.max(term);
        Ok(())
    }

    /// Has written what is not on disk, if nothing is being written.
    fn flush(&mut self, out: &mut Vec<QuorumEffect>) {
        if matches!(self.standing, Standing::Failed | Standing::Unfit { .. }) {
            return;
        }
        let write = self.disk.next_write(&self.identity, self.promise, self.position, &self.body);
        if let Some((token, request)) = write {
            out.push(QuorumEffect::Disk { token, request });
        }
    }
}
