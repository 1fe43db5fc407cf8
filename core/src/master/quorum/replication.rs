//! The follower's half of replication: takes in what the leader of a promised term sends, without
//! gaps, and says what of it is on disk.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_bytes::ByteBuf;

use super::message::{KIND_BODY, KIND_DELTA, Position, QuorumContent, TERM_MAX};
use super::replicated::{Body, Delta, Replicated};
use super::{Office, Quorum, QuorumEffect};
use crate::host::Faults;
use crate::id::{MasterTerm, NodeId};
use crate::time::Time;
use crate::wire::message::decode_message;

impl<S: Replicated, F: Faults> Quorum<S, F> {
    /// Whether `from` leads, as far as this master has to believe.
    fn follow(
        &mut self,
        now: Time,
        from: NodeId,
        (term, sent): (MasterTerm, Time),
        out: &mut Vec<QuorumEffect>,
    ) -> Result<bool, String> {
        self.believe(term)?;
        if term < self.promise.term {
            self.send(from, QuorumContent::Refused { term: self.promise.term }, out);
            return Ok(false);
        }
        if term == self.promise.term {
            if matches!(self.office, Office::Leader(_)) {
                return Err(String::from("claims to lead the term that this master leads"));
            }
            if self.leader.is_some_and(|leader| leader != from) {
                return Err(String::from("claims to lead the term that another master leads"));
            }
        } else {
            // So nobody gets this master's vote in a term that has a leader.
            self.promise(term, from);
        }
        self.office = Office::Follower;
        self.leader = Some(from);
        self.heard = Some(now);
        self.echo = self.echo.max(sent);
        self.failed_campaigns = 0;
        self.await_leader(now);
        Ok(true)
    }

    pub(super) fn on_append(
        &mut self,
        now: Time,
        from: NodeId,
        heading: (MasterTerm, Time),
        first: u64,
        deltas: &[ByteBuf],
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        if first > TERM_MAX {
            return Err(String::from("counts further than any leader does"));
        }
        if !self.follow(now, from, heading, out)? {
            return Ok(());
        }
        let mut taken = false;
        // Updates of a term go on from its whole state only.
        if self.position.term == heading.0 {
            for (number, bytes) in (first..).zip(deltas) {
                if number != self.position.number + 1 {
                    continue;
                }
                let delta: Delta<S> =
                    decode_message(KIND_DELTA, bytes).map_err(|error| error.to_string())?;
                self.disk.touch_parts(delta.state.as_ref().map(S::parts).unwrap_or_default());
                self.body.apply(&delta);
                self.position.number = number;
                taken = true;
            }
        }
        // What was taken in is acknowledged once it is on disk.
        if !taken {
            self.acknowledge(out);
        }
        Ok(())
    }

    pub(super) fn on_whole(
        &mut self,
        now: Time,
        from: NodeId,
        heading: (MasterTerm, Time),
        number: u64,
        body: &[u8],
        out: &mut Vec<QuorumEffect>,
    ) -> Result<(), String> {
        if number > TERM_MAX {
            return Err(String::from("counts further than any leader does"));
        }
        if !self.follow(now, from, heading, out)? {
            return Ok(());
        }
        let position = Position { term: heading.0, number };
        if position > self.position {
            let body: Body<S> =
                decode_message(KIND_BODY, body).map_err(|error| error.to_string())?;
            // Not joined: what an older term has left here may never have been acknowledged.
            self.body = body;
            self.position = position;
            self.disk.touch_all();
        }
        self.acknowledge(out);
        Ok(())
    }

    /// Tells the leader what has come from it.
    pub(super) fn acknowledge(&mut self, out: &mut Vec<QuorumEffect>) {
        let Some(leader) = self.leader else {
            return;
        };
        let term = self.promise.term;
        let of_term = |it: Position| if it.term == term { it.number } else { 0 };
        let received = of_term(self.position);
        let stored = of_term(self.disk.position);
        let content = QuorumContent::Acknowledged { term, sent: self.echo, received, stored };
        self.send(leader, content, out);
    }
}
