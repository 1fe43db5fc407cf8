//! How a master becomes the leader: it asks who would vote, has a term promised by a majority, and
//! takes over the newest state that they have.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_bytes::ByteBuf;

use super::leader::Leader;
use super::message::{KIND_BODY, Position, QuorumContent};
use super::replicated::{Body, Replicated};
use super::storage::{Promise, encode};
use super::{CAMPAIGN_DOUBLINGS_MAX, CAMPAIGN_TIME, ELECTION_SPREAD, Office, Quorum, QuorumEffect};
use crate::crdt::Lattice;
use crate::host::{Fault, Faults};
use crate::id::{Incarnation, MasterTerm, NodeId};
use crate::limits::{HEARTBEAT_INTERVAL, LEADER_LEASE};
use crate::time::{Duration, Time};
use crate::wire::message::decode_message;

/// What a candidate has gathered.
#[derive(Debug)]
pub(super) struct Campaign<S> {
    /// How new the candidate's own state is.
    own: Position,
    /// The highest position among those that have promised.
    best: Position,
    /// The join of the states of that position's term.
    joined: Body<S>,
    promised: BTreeSet<(NodeId, Incarnation)>,
    asked: BTreeSet<NodeId>,
}

impl<S: Replicated, F: Faults> Quorum<S, F> {
    /// Waits for a leader, a while longer than its lease. Who has no vote says so all the while.
    pub(super) fn await_leader(&mut self, now: Time) {
        if !self.is_voter() {
            self.election_at = self.election_at.min(now + HEARTBEAT_INTERVAL);
            return;
        }
        self.election_at = now + LEADER_LEASE + self.spread(ELECTION_SPREAD);
    }

    /// Between zero and `most`.
    fn spread(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.next() % nanos.max(1))
    }

    /// Follows nobody in particular.
    pub(super) fn step_down(&mut self, now: Time) {
        if !matches!(self.office, Office::Follower) {
            self.office = Office::Follower;
            self.await_leader(now);
        }
    }

    /// Promises a term; the disk has to have it before anybody is told.
    pub(super) fn promise(&mut self, term: MasterTerm, to: NodeId) {
        assert!(term > self.promise.term, "a term is promised once");
        self.promise = Promise { term, to: Some(to) };
        self.owed = None;
        self.leader = None;
        self.echo = Time::ZERO;
        self.disk.touch();
    }

    /// Whether a leader may still believe that it has this master's support.
    fn is_bound(&self, now: Time) -> bool {
        matches!(self.office, Office::Leader(_)) || self.is_fresh(now)
    }

    /// Begins an election, or begins it anew.
    pub(super) fn ask(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let doublings = self.failed_campaigns.min(CAMPAIGN_DOUBLINGS_MAX);
        let time = CAMPAIGN_TIME * (1 << doublings);
        self.election_at = now + time + self.spread(time);
        if self.is_bound(now) {
            return;
        }
        self.failed_campaigns = self.failed_campaigns.saturating_add(1);
        let term = self.promise.term.max(self.seen).next();
        let me = (self.config.node, self.identity.folder);
        self.leader = None;
        self.office = Office::Asking { term, granted: BTreeSet::from([me]) };
        for (peer, _) in self.peers() {
            self.send(peer, QuorumContent::PreVote { term }, out);
        }
        self.count_pre_votes(now, out);
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: MasterTerm,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        self.believe(term)?;
        let content = if self.is_bound(now) || term <= self.promise.term {
            QuorumContent::Refused { term: self.promise.term }
        } else {
            QuorumContent::PreVoteGranted { term }
        };
        self.send(from, content, out);
        Ok(())
    }

    pub(super) fn on_pre_vote_granted(
        &mut self,
        now: Time,
        from: (NodeId, Incarnation),
        of: MasterTerm,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        // A leader may have been heard since.
        if self.is_bound(now) {
            return Ok(());
        }
        if let Office::Asking { term, granted } = &mut self.office
            && *term == of
        {
            granted.insert(from);
            self.count_pre_votes(now, out);
        }
        Ok(())
    }

    /// Becomes a candidate, once enough would vote: first the own disk has to have the own vote,
    /// so that no later life of this master asks for the same term.
    fn count_pre_votes(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let Office::Asking { term, granted } = &self.office else {
            return;
        };
        let has = |node, folder| granted.contains(&(node, folder));
        if *term <= self.promise.term || !self.voters().is_quorum(has) {
            return;
        }
        let term = *term;
        self.promise(term, self.config.node);
        self.office = Office::Candidate(Campaign {
            own: self.position,
            best: self.position,
            joined: self.body.clone(),
            promised: BTreeSet::new(),
            asked: BTreeSet::new(),
        });
        if F::has(Fault::VoteBeforeStored) {
            self.ask_for_votes(now, out);
        }
    }

    /// The own promise is on disk: asks everybody who was not asked yet.
    pub(super) fn ask_for_votes(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let term = self.promise.term;
        let me = (self.config.node, self.identity.folder);
        let Office::Candidate(campaign) = &mut self.office else {
            return;
        };
        if self.disk.promise.term != term && !F::has(Fault::VoteBeforeStored) {
            return;
        }
        campaign.promised.insert(me);
        let mut whom: BTreeSet<_> = self.body.voters.get().members().collect();
        whom.extend(campaign.joined.voters.get().members());
        let whom: Vec<_> =
            whom.into_iter().map(|it| it.0).filter(|it| campaign.asked.insert(*it)).collect();
        let position = campaign.own;
        for node in whom.into_iter().filter(|node| *node != me.0) {
            self.send(node, QuorumContent::Vote { term, position }, out);
        }
        self.count_promises(now, out);
    }

    pub(super) fn on_vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: MasterTerm,
        position: Position,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        self.believe(term)?;
        let again = self.promise == (Promise { term, to: Some(from) });
        if !again && (self.is_bound(now) || term <= self.promise.term) {
            self.send(from, QuorumContent::Refused { term: self.promise.term }, out);
            return Ok(());
        }
        if !again {
            self.step_down(now);
            self.promise(term, from);
        }
        self.owed = Some((from, position));
        self.answer_vote(out);
        Ok(())
    }

    /// Answers the candidate to whom the current term was promised, if the disk has the promise.
    /// The disk has all of the state then: since the promise only its leader could change it.
    pub(super) fn answer_vote(&mut self, out: &mut Vec<QuorumEffect>) {
        let Some((to, theirs)) = self.owed else {
            return;
        };
        let stored = self.disk.promise == self.promise || F::has(Fault::VoteBeforeStored);
        // Once the term's leader has written here, it needs no vote.
        if !stored || self.position.term >= self.promise.term {
            return;
        }
        self.owed = None;
        let newer = self.position > theirs || F::has(Fault::JoinOlderTerms);
        let body = newer.then(|| ByteBuf::from(encode(KIND_BODY, &self.body)));
        let (term, position) = (self.promise.term, self.position);
        self.send(to, QuorumContent::Promised { term, position, body }, out);
    }

    pub(super) fn on_promised(
        &mut self,
        now: Time,
        from: (NodeId, Incarnation),
        term: MasterTerm,
        position: Position,
        body: Option<&[u8]>,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        let Office::Candidate(campaign) = &mut self.office else {
            return Ok(());
        };
        // Before the own disk has the term nobody was asked.
        if term != self.promise.term || campaign.promised.is_empty() {
            return Ok(());
        }
        if position.term >= term || (body.is_none() && position > campaign.own) {
            return Err(format!("promises {term} with a state that does not fit"));
        }
        if let Some(bytes) = body {
            let body: Body<S> =
                decode_message(KIND_BODY, bytes).map_err(|error| error.to_string())?;
            if position.term > campaign.best.term && !F::has(Fault::JoinOlderTerms) {
                // What older leaders have written and this one's term has not is void.
                campaign.joined = body;
            } else if position.term == campaign.best.term || F::has(Fault::JoinOlderTerms) {
                campaign.joined.join(&body);
            }
        }
        campaign.best = campaign.best.max(position);
        campaign.promised.insert(from);
        // The state may name voters that were not asked.
        self.ask_for_votes(now, out);
        Ok(())
    }

    fn count_promises(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let me = (self.config.node, self.identity.folder);
        let Office::Candidate(campaign) = &mut self.office else {
            return;
        };
        let voters = campaign.joined.voters.get();
        if !voters.is_quorum(|node, folder| campaign.promised.contains(&(node, folder))) {
            return;
        }
        if !voters.contains(me.0, me.1) {
            // A change of the voters that this master had not heard of has left it out.
            self.step_down(now);
            return;
        }
        assert_eq!(self.promise.to, Some(me.0), "a candidate has its own vote");
        assert!(campaign.best.term < self.promise.term, "nobody has led this term");
        self.body = campaign.joined.clone();
        self.position = Position { term: self.promise.term, number: 1 };
        self.disk.touch_all();
        self.leader = Some(me.0);
        self.failed_campaigns = 0;
        self.office = Office::Leader(Leader::new(now, self.body.state.clone(), BTreeMap::new()));
        self.tick(now, out);
    }

    pub(super) fn on_refused(
        &mut self,
        now: Time,
        from: (NodeId, Incarnation),
        term: MasterTerm,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        self.believe(term)?;
        match &self.office {
            // A voter has promised a later term: this one cannot go on.
            Office::Leader(_)
                if term > self.promise.term && self.voters().contains(from.0, from.1) =>
            {
                self.step_down(now);
            }
            // With a term that can be won.
            Office::Asking { term: asked, .. } if term >= *asked => self.ask(now, out),
            _ => {}
        }
        Ok(())
    }
}
