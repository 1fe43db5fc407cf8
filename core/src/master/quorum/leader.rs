//! The leader's half of replication: numbers updates, sends them to every voter, and knows which
//! of them a majority has on disk, and until when no other leader can have been elected.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde_bytes::ByteBuf;

use super::message::{KIND_BODY, KIND_DELTA, QuorumContent};
use super::replicated::{Delta, Replicated};
use super::storage::encode;
use super::{LEASE_MARGIN, Office, Quorum, QuorumEffect, UPDATES_OUTSTANDING_MAX};
use crate::host::{Fault, Faults};
use crate::id::{Incarnation, MasterTerm, NodeId};
use crate::limits::{HEARTBEAT_INTERVAL, LEADER_LEASE};
use crate::time::{Duration, Time};

/// Updates that the leader keeps for voters that have missed some: all that can be outstanding.
/// Who has missed more gets the whole state.
const UPDATES_KEPT_MAX: usize = UPDATES_OUTSTANDING_MAX + 64;
/// Bytes of updates that one message repeats; the rest follows with the next.
const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Longest time between two repetitions to a voter that does not take them in.
const REPEAT_MAX: Duration = Duration::from_secs(2);

/// What a leader knows.
#[derive(Debug)]
pub(super) struct Leader<S> {
    /// When it was elected.
    elected: Time,
    /// When it speaks next.
    pub(super) tick_at: Time,
    /// The last update that a majority has on disk, 0 before the write-back.
    pub(super) acknowledged: u64,
    pub(super) acknowledged_state: S,
    /// The last updates, in order.
    log: VecDeque<Update<S>>,
    /// What is known of each voter.
    peers: BTreeMap<(NodeId, Incarnation), Progress>,
    /// The update that made the voters what they are.
    pub(super) voters_at: u64,
    /// Masters that do not vote and have been heard: by folder, and whether they want their place
    /// back.
    pub(super) applicants: BTreeMap<NodeId, (Incarnation, bool)>,
    /// The whole state, encoded, and its number.
    whole: Option<(u64, ByteBuf)>,
}

#[derive(Debug)]
struct Update<S> {
    number: u64,
    delta: Delta<S>,
    bytes: ByteBuf,
}

/// What the leader knows of a voter.
#[derive(Debug)]
struct Progress {
    /// When the last message that it has answered was sent.
    heard: Option<Time>,
    received: u64,
    stored: u64,
    /// When it gets again what it has not taken in.
    repeat_at: Time,
    repeat_after: Duration,
}

impl<S> Leader<S> {
    pub(super) fn new(
        elected: Time,
        state: S,
        applicants: BTreeMap<NodeId, (Incarnation, bool)>,
    ) -> Self {
        Self {
            elected,
            tick_at: elected,
            acknowledged: 0,
            acknowledged_state: state,
            log: VecDeque::new(),
            peers: BTreeMap::new(),
            voters_at: 1,
            applicants,
            whole: None,
        }
    }
}

impl<S: Replicated, F: Faults> Quorum<S, F> {
    /// Until when no other can have been elected: a majority has answered a message that was sent
    /// this long before, and refuses other candidates for the lease from when it came.
    pub(super) fn lease_until(&self, leader: &Leader<S>) -> Time {
        let me = (self.config.node, self.identity.folder);
        let heard = self.voters().reached(|node, folder| {
            if (node, folder) == me {
                return Some(Time::MAX);
            }
            leader.peers.get(&(node, folder)).and_then(|peer| peer.heard)
        });
        heard.map_or(Time::ZERO, |heard| heard + (LEADER_LEASE - LEASE_MARGIN))
    }

    /// When a leader gives up that hears no more: when its lease ends, or never begins.
    pub(super) fn contact_until(&self, leader: &Leader<S>) -> Time {
        self.lease_until(leader).max(leader.elected + LEADER_LEASE)
    }

    /// Steps down if the lease is over.
    pub(super) fn expire(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        if let Office::Leader(leader) = &self.office
            && !F::has(Fault::IgnoreLease)
            && now >= self.contact_until(leader)
        {
            self.leader = None;
            self.step_down(now);
            self.flush(out);
        }
    }

    /// Updates that are not acknowledged.
    pub(super) fn outstanding(&self) -> usize {
        match &self.office {
            Office::Leader(leader) => {
                usize::try_from(self.position.number - leader.acknowledged).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Takes an update in and sends it to everybody; returns its number.
    pub(super) fn update(
        &mut self,
        now: Time,
        delta: Delta<S>,
        out: &mut Vec<QuorumEffect>,
    ) -> u64 {
        // Those who leave are told as well.
        let mut peers = self.peers();
        let Office::Leader(leader) = &mut self.office else {
            unreachable!("only a leader has updates");
        };
        self.position.number += 1;
        let number = self.position.number;
        self.body.apply(&delta);
        self.disk.touch_parts(delta.state.as_ref().map(Replicated::parts).unwrap_or_default());
        let bytes = ByteBuf::from(encode(KIND_DELTA, &delta));
        leader.log.push_back(Update { number, delta, bytes: bytes.clone() });
        while leader.log.len() > UPDATES_KEPT_MAX {
            leader.log.pop_front();
        }
        let term = self.promise.term;
        peers.extend(self.peers());
        for (peer, _) in peers {
            let deltas = Vec::from([bytes.clone()]);
            let content = QuorumContent::Append { term, sent: now, first: number, deltas };
            self.send(peer, content, out);
        }
        number
    }

    /// Tells every voter that the leader lives, and sends again what they have not taken in.
    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let peers = self.peers();
        let Office::Leader(leader) = &mut self.office else {
            return;
        };
        leader.tick_at = now + HEARTBEAT_INTERVAL;
        leader.peers.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            if !self.repeat(now, peer, out) {
                let (term, first) = (self.promise.term, self.position.number + 1);
                let deltas = Vec::new();
                let content = QuorumContent::Append { term, sent: now, first, deltas };
                self.send(peer.0, content, out);
            }
        }
        // A single voter has nobody to wait for.
        self.advance(now, out);
    }

    /// Sends a voter what it has not taken in, if it has been given the time; returns whether.
    fn repeat(
        &mut self,
        now: Time,
        to: (NodeId, Incarnation),
        out: &mut Vec<QuorumEffect>,
    ) -> bool {
        let (term, last) = (self.promise.term, self.position.number);
        let Office::Leader(leader) = &mut self.office else {
            return false;
        };
        let peer = leader.peers.entry(to).or_insert(Progress {
            heard: None,
            received: 0,
            stored: 0,
            repeat_at: now,
            repeat_after: HEARTBEAT_INTERVAL,
        });
        if peer.received >= last || now < peer.repeat_at {
            return false;
        }
        peer.repeat_at = now + peer.repeat_after;
        peer.repeat_after = (peer.repeat_after * 2).min(REPEAT_MAX);
        let first = peer.received + 1;
        let kept = leader.log.front().is_some_and(|update| update.number <= first);
        let content = if peer.received > 0 && kept {
            let mut room = APPEND_BYTES_MAX;
            let missing = leader.log.iter().filter(|update| update.number >= first);
            let fitting = missing.take_while(|update| {
                let fits = room > 0;
                room = room.saturating_sub(update.bytes.len());
                fits
            });
            let deltas = fitting.map(|update| update.bytes.clone()).collect();
            QuorumContent::Append { term, sent: now, first, deltas }
        } else {
            let cached = leader.whole.take().filter(|(number, _)| *number == last);
            let (_, body) =
                cached.unwrap_or_else(|| (last, ByteBuf::from(encode(KIND_BODY, &self.body))));
            leader.whole = Some((last, body.clone()));
            QuorumContent::Whole { term, sent: now, number: last, body }
        };
        self.send(to.0, content, out);
        true
    }

    pub(super) fn on_acknowledged(
        &mut self,
        now: Time,
        from: (NodeId, Incarnation),
        (term, sent): (MasterTerm, Time),
        received: u64,
        stored: u64,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        let last = self.position.number;
        let Office::Leader(leader) = &mut self.office else {
            return Ok(());
        };
        if term != self.promise.term {
            return Ok(());
        }
        if sent > now || received > last || stored > received {
            return Err(String::from("acknowledges what nobody has sent"));
        }
        let Some(peer) = leader.peers.get_mut(&from) else {
            return Ok(());
        };
        peer.stored = peer.stored.max(stored);
        // A voter that was restarted has only what it had stored: what it answers to a later
        // message counts, also if it is less.
        if Some(sent) > peer.heard && received < peer.received {
            (peer.received, peer.repeat_at, peer.repeat_after) =
                (received, now, HEARTBEAT_INTERVAL);
        } else if received > peer.received {
            peer.received = received;
            (peer.repeat_at, peer.repeat_after) = (now + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        }
        peer.heard = peer.heard.max(Some(sent));
        self.repeat(now, from, out);
        self.advance(now, out);
        Ok(())
    }

    /// Finds out what a majority has on disk, and goes on with what waited for it.
    pub(super) fn advance(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let me = (self.config.node, self.identity.folder);
        let (term, last) = (self.promise.term, self.position.number);
        let voters = self.body.voters.get();
        let Office::Leader(leader) = &mut self.office else {
            return;
        };
        let own = if self.disk.position.term == term { self.disk.position.number } else { 0 };
        let stored = |node, folder| {
            if (node, folder) == me {
                return Some(own);
            }
            leader.peers.get(&(node, folder)).map(|peer| peer.stored)
        };
        let mut reached = voters.reached(stored).unwrap_or(0);
        if F::has(Fault::AcknowledgeBeforeMajority) {
            let any = voters.members().filter_map(|(node, folder)| stored(node, folder)).max();
            reached = any.unwrap_or(0);
        }
        assert!(reached <= last, "nobody stores what was not sent");
        // With other voters less may be reached than was; what was acknowledged stays so.
        if reached > leader.acknowledged {
            for update in &leader.log {
                let now = update.number > leader.acknowledged && update.number <= reached;
                if let Some(delta) = update.delta.state.as_ref().filter(|_| now) {
                    leader.acknowledged_state.join(delta);
                }
            }
            leader.acknowledged = reached;
        }
        self.go_on_with_voters(now, out);
    }
}
