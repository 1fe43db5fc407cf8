//! How voters change: by command, one at a time, each change acknowledged by a majority of those
//! before it and of those after it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::replicated::{Delta, Replicated};
use super::voters::{VOTERS_MAX, Voter};
use super::{Identity, Office, Quorum, QuorumContent, QuorumEffect, Standing, UpdateNumber};
use crate::control::Address;
use crate::crdt::{Register, Stamp};
use crate::effect::{Level, Notice};
use crate::host::{Fault, Faults};
use crate::id::{Incarnation, NodeId};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::time::Time;

/// Most masters without a vote of which a leader keeps note: a few more than ever wait at once.
const APPLICANTS_MAX: usize = 64;

/// Why voters do not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VotersError {
    /// Another master decides.
    #[error("this master does not lead; ask the one that does")]
    NotLeading,
    /// One change at a time.
    #[error("a change of the voters is under way; repeat the command when it is through")]
    Changing,
    /// More than one joins or leaves.
    #[error(
        "{joining} masters would join and {leaving} leave; voters change one at a time, so that \
         any two majorities have one in common: give one command for each"
    )]
    TooMany {
        /// Masters that would join.
        joining: usize,
        /// Masters that would leave.
        leaving: usize,
    },
    /// Nobody, or more than can vote.
    #[error("{count} voters, 1 to {VOTERS_MAX} can be")]
    Count {
        /// How many were asked for.
        count: usize,
    },
    /// A master that was not heard.
    #[error("the master of {node} has not been heard; start it, so that it joins, and repeat")]
    Unheard {
        /// Its node.
        node: NodeId,
    },
}

impl<S: Replicated, F: Faults> Quorum<S, F> {
    /// Begins to replace the voters, of whom at most one may join or leave. It is done when
    /// [`Quorum::voters_settled`]; until then it may still fail with this leader.
    ///
    /// # Errors
    /// [`VotersError`], and nothing has changed.
    pub fn change_voters(
        &mut self,
        now: Time,
        wanted: &BTreeMap<NodeId, Address>,
        out: &mut Vec<QuorumEffect>,
    ) -> Result<UpdateNumber, VotersError> {
        if !self.may_serve(now) {
            return Err(VotersError::NotLeading);
        }
        let Office::Leader(leader) = &self.office else {
            return Err(VotersError::NotLeading);
        };
        if !self.voters_settled() {
            return Err(VotersError::Changing);
        }
        if wanted.is_empty() || wanted.len() > VOTERS_MAX {
            return Err(VotersError::Count { count: wanted.len() });
        }
        let current = self.voters().current();
        let joining = wanted.keys().filter(|node| !current.contains_key(node)).count();
        let leaving = current.keys().filter(|node| !wanted.contains_key(node)).count();
        if joining + leaving > 1 {
            return Err(VotersError::TooMany { joining, leaving });
        }
        let mut next = BTreeMap::new();
        for (node, address) in wanted {
            let folder = match (current.get(node), leader.applicants.get(node)) {
                (Some(voter), _) => voter.folder,
                (None, Some((folder, _))) => *folder,
                (None, None) => return Err(VotersError::Unheard { node: *node }),
            };
            next.insert(*node, Voter { folder, address: address.clone() });
        }
        if next == *current {
            return Ok(self.acknowledged());
        }
        let number = self.replace_voters(now, next, out);
        self.flush(out);
        Ok(number)
    }

    /// Whether this master leads and the voters are those that a majority has on disk, with no
    /// change under way.
    #[must_use]
    pub fn voters_settled(&self) -> bool {
        match &self.office {
            Office::Leader(leader) => {
                let stored = leader.acknowledged >= leader.voters_at;
                !self.voters().is_changing()
                    && (stored || F::has(Fault::SettleVotersBeforeMajority))
            }
            _ => false,
        }
    }

    /// Whether the voters are others than those that founded the cluster, or have been.
    #[must_use]
    pub fn has_changed_voters(&self) -> bool {
        self.body.voters.stamp() != Stamp::ZERO
    }

    fn replace_voters(
        &mut self,
        now: Time,
        next: BTreeMap<NodeId, Voter>,
        out: &mut Vec<QuorumEffect>,
    ) -> UpdateNumber {
        let voters = self.voters().towards(next);
        self.write_voters(now, voters, out)
    }

    fn write_voters(
        &mut self,
        now: Time,
        voters: super::Voters,
        out: &mut Vec<QuorumEffect>,
    ) -> UpdateNumber {
        let stamp = Stamp { term: self.promise.term, counter: self.position.number + 1 };
        let voters = Some(Register::new(stamp, voters));
        let number = self.update(now, Delta { voters, state: None }, out);
        if let Office::Leader(leader) = &mut self.office {
            leader.voters_at = number;
            // Those who have come get everything now.
            leader.tick_at = now;
        }
        UpdateNumber(number)
    }

    /// Ends a change that both majorities have on disk, and leaves if this master is no voter.
    pub(super) fn go_on_with_voters(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        let Office::Leader(leader) = &self.office else {
            return;
        };
        let stored = leader.acknowledged >= leader.voters_at.max(1);
        if !stored && !F::has(Fault::SettleVotersBeforeMajority) {
            return;
        }
        if self.voters().is_changing() {
            let settled = self.voters().settled();
            self.write_voters(now, settled, out);
        } else if !self.is_voter() {
            self.leader = None;
            self.step_down(now);
        }
    }

    /// Tells the masters that this one is there and has no vote.
    pub(super) fn apply_for_membership(&mut self, now: Time, out: &mut Vec<QuorumEffect>) {
        self.election_at = now + HEARTBEAT_INTERVAL;
        let mut masters: BTreeSet<_> = self.config.voters.keys().copied().collect();
        masters.extend(self.voters().current().keys());
        masters.remove(&self.config.node);
        for master in masters {
            let readmit = self.identity.readmit;
            self.send(master, QuorumContent::Apply { readmit }, out);
        }
    }

    pub(super) fn on_apply(
        &mut self,
        now: Time,
        (node, folder): (NodeId, Incarnation),
        readmit: bool,
        out: &mut Vec<QuorumEffect>,
    ) {
        let serves = self.may_serve(now) && self.voters_settled();
        let Office::Leader(leader) = &mut self.office else {
            return;
        };
        if leader.applicants.len() < APPLICANTS_MAX || leader.applicants.contains_key(&node) {
            leader.applicants.insert(node, (folder, readmit));
        }
        let current = self.voters().current();
        let lost = current.get(&node).is_some_and(|voter| voter.folder != folder);
        if serves && readmit && lost {
            let mut next = current.clone();
            if let Some(voter) = next.get_mut(&node) {
                voter.folder = folder;
            }
            self.replace_voters(now, next, out);
            let text = format!(
                "the master of {node} votes with a new data folder; what its old one says counts \
                 no more"
            );
            out.push(QuorumEffect::Notice(Notice { level: Level::Info, text }));
        }
    }

    /// Empties the folder and begins anew, without a vote.
    pub(super) fn on_readmit(&mut self, out: &mut Vec<QuorumEffect>) {
        let Standing::Unfit { entries, .. } = &mut self.standing else {
            let text = format!(
                "{} was not readmitted: its data folder is not one that is lost",
                self.config.node
            );
            out.push(QuorumEffect::Notice(Notice { level: Level::Warning, text }));
            return;
        };
        let entries = core::mem::take(entries);
        self.identity = Identity {
            cluster: self.config.cluster,
            node: self.config.node,
            folder: self.config.life,
            readmit: true,
        };
        self.form(entries);
    }
}
