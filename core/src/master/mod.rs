//! A master: one of the few that together remember what runs on the cluster.
//!
//! Call order: `handle` with [`MasterInput::Start`] first, then with whatever comes; after each
//! call `next_timeout` says when [`MasterInput::Timeout`] is due.
//!
//! The [`quorum`] elects who leads and keeps the [`state`] in common; the leader's [`duties`] say
//! what is to change in it and what follows. Every other master answers what it knows, marked as
//! possibly old, and refuses the rest.

pub mod duties;
pub mod quorum;
pub mod state;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use duties::{Hearing, Leader, Said};
pub use quorum::QuorumMessage;
use quorum::{
    Formation, Quorum, QuorumConfig, QuorumEffect, QuorumInput, QuorumRole, UpdateNumber,
};
use state::State;

use crate::control::{
    Address, AppOrders, ClusterStatus, ControlMessage, Peer, Reply, Request, WorkerOrders,
    WorkerStatus,
};
use crate::effect::Notice;
use crate::host::process::{DiskReply, DiskRequest};
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{Incarnation, MasterTerm, NodeId, RequestId, Token};
use crate::scheduler::Scheduler;
use crate::time::{Duration, Time};

/// A master, as its operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterConfig {
    /// Names the cluster, from its formation on.
    pub cluster: u64,
    /// This master's node.
    pub node: NodeId,
    /// This life of the process, not 0.
    pub incarnation: Incarnation,
    /// Spreads elections in time, and is what the tokens of apps are drawn from: a secret.
    pub seed: u64,
    /// The first voters; later only whom a master asks that does not vote.
    pub voters: BTreeMap<NodeId, Address>,
    /// What to do about an empty data folder.
    pub formation: Formation,
}

/// What a master hears.
#[derive(Clone, Debug, PartialEq)]
pub enum MasterInput {
    /// Begin.
    Start,
    /// Somebody has said something.
    Message {
        /// Who, as the connection's handshake has proved.
        from: Peer,
        /// What.
        message: ControlMessage,
    },
    /// A connection with another node broke, which says nothing by itself.
    Disconnected {
        /// The node.
        node: NodeId,
    },
    /// The host of another node is there, and its process is not.
    Gone {
        /// The node.
        node: NodeId,
        /// When it was looked for: what was heard later is of another life.
        dialed: Time,
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

/// What a master wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum MasterEffect {
    /// Tell somebody; may get lost.
    Send {
        /// Whom.
        to: Peer,
        /// What.
        message: ControlMessage,
    },
    /// Do this on the process's disk.
    Disk {
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: DiskRequest,
    },
    /// Tell the user.
    Notice(Notice),
}

/// How a master is doing.
#[derive(Clone, Copy, Debug)]
pub struct MasterStatus<'a> {
    /// What it does for the quorum.
    pub role: QuorumRole,
    /// The highest term that it has promised: its own if it leads.
    pub term: MasterTerm,
    /// Whether it leads and may act.
    pub may_serve: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last update of this term that a majority has on disk; 0 if it does not lead.
    pub acknowledged: UpdateNumber,
    /// What it knows: updates that may be lost included, or out of date.
    pub state: &'a State,
    /// What a majority has on disk; none if it does not lead.
    pub acknowledged_state: Option<&'a State>,
    /// Orders to workers and app masters that it has sent in the term that it leads; 0 if it does
    /// not.
    pub orders_sent: u64,
}

/// A client that waits for the voters to have changed.
#[derive(Clone, Debug, PartialEq)]
struct VotersAsked {
    from: Peer,
    id: RequestId,
}

/// One of the masters.
#[derive(Debug)]
pub struct Master<F: Faults = NoFaults> {
    node: NodeId,
    seed: u64,
    quorum: Quorum<State, F>,
    scheduler: Scheduler,
    leader: Option<Leader<F>>,
    hearing: Hearing,
    /// Whether it might act when it was last looked at.
    serving: bool,
    voters_asked: Option<VotersAsked>,
    /// When workers that are not heard are dialled next, and told who votes.
    voters_told_at: Time,
}

/// Time after which workers that are still not heard are dialled again, and told who votes: some
/// are down for good, and a lost message costs no more than an election does.
const VOTERS_TOLD_INTERVAL: Duration = Duration::from_secs(1);

impl<F: Faults> Master<F> {
    /// A master that has not begun.
    ///
    /// # Panics
    /// If the incarnation is 0.
    #[must_use]
    pub fn new(config: MasterConfig) -> Self {
        Self::with_scheduler(config, Scheduler::default())
    }

    /// A master with a user's strategies; all masters need the same.
    ///
    /// # Panics
    /// If the incarnation is 0.
    #[must_use]
    pub fn with_scheduler(config: MasterConfig, scheduler: Scheduler) -> Self {
        let MasterConfig { cluster, node, incarnation, seed, voters, formation } = config;
        let life = incarnation;
        let quorum = QuorumConfig { cluster, node, life, formation, voters, seed };
        Self {
            node,
            seed,
            quorum: Quorum::new(quorum),
            scheduler,
            leader: None,
            hearing: Hearing::default(),
            serving: false,
            voters_asked: None,
            voters_told_at: Time::ZERO,
        }
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self, now: Time) -> MasterStatus<'_> {
        MasterStatus {
            role: self.quorum.role(),
            term: self.quorum.term(),
            may_serve: self.quorum.may_serve(now),
            leader: self.quorum.leader_hint(now),
            acknowledged: self.quorum.acknowledged(),
            state: self.quorum.state(),
            acknowledged_state: self.quorum.acknowledged_state(),
            orders_sent: self.leader.as_ref().map_or(0, Leader::orders_sent),
        }
    }

    /// This master's part in the quorum.
    #[must_use]
    pub const fn quorum(&self) -> &Quorum<State, F> {
        &self.quorum
    }

    /// When [`MasterInput::Timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let duties = self.leader.as_ref().filter(|_| self.serving).map(Leader::next_timeout);
        self.quorum.next_timeout().into_iter().chain(duties).min()
    }

    /// Hears, and says what is to be done.
    pub fn handle(&mut self, now: Time, input: MasterInput, out: &mut Vec<MasterEffect>) {
        let mut asked = Vec::new();
        let mut said = Vec::new();
        let mut heard = None;
        let mut quiet = None;
        let input = match input {
            MasterInput::Start => Some(QuorumInput::Start),
            MasterInput::Disk { token, reply } => Some(QuorumInput::Disk { token, reply }),
            MasterInput::Disconnected { node } => {
                quiet = Some(node);
                None
            }
            MasterInput::Gone { node, dialed } => {
                if let Some(leader) = &mut self.leader {
                    leader.worker_gone(node, dialed);
                }
                None
            }
            MasterInput::Readmit => Some(QuorumInput::Readmit),
            MasterInput::Timeout => Some(QuorumInput::Timeout),
            MasterInput::Message { from, message } => match (from, message) {
                (Peer::Node(from), ControlMessage::Quorum(message)) => {
                    Some(QuorumInput::Message { from, message })
                }
                message => {
                    heard = Some(message);
                    None
                }
            },
        };
        if let Some(input) = input {
            self.quorum.handle(now, input, &mut asked);
        }
        self.hearing.wake(now, self.quorum.leader_hint(now).is_some());
        self.settle(now, &mut said);
        if let Some((from, message)) = heard {
            self.hear(now, from, message, &mut asked, &mut said);
        }
        if let Some(node) = quiet {
            self.look_for(now, node, &mut said);
        }
        self.lead(now, &mut asked, &mut said);
        out.extend(asked.into_iter().map(|effect| match effect {
            QuorumEffect::Send { to, message } => {
                MasterEffect::Send { to: Peer::Node(to), message: ControlMessage::Quorum(message) }
            }
            QuorumEffect::Disk { token, request } => MasterEffect::Disk { token, request },
            QuorumEffect::Notice(notice) => MasterEffect::Notice(notice),
        }));
        let mut voters = None;
        let mut voters = || voters.get_or_insert_with(|| self.voters()).clone();
        out.extend(said.into_iter().map(|said| match said {
            Said::Send { to, message: ControlMessage::WorkerOrders(orders) } => {
                let orders = WorkerOrders { voters: voters(), ..orders };
                MasterEffect::Send { to, message: ControlMessage::WorkerOrders(orders) }
            }
            Said::Send { to, message: ControlMessage::AppOrders(orders) } => {
                let orders = AppOrders { voters: voters(), ..orders };
                MasterEffect::Send { to, message: ControlMessage::AppOrders(orders) }
            }
            Said::Send { to, message } => MasterEffect::Send { to, message },
            Said::Notice(notice) => MasterEffect::Notice(notice),
        }));
    }

    /// Takes office, or leaves it.
    fn settle(&mut self, now: Time, said: &mut Vec<Said>) {
        let serves = self.quorum.may_serve(now);
        let term = self.quorum.term();
        let leads = self.quorum.role() == QuorumRole::Leader;
        if let Some(leader) = self.leader.take_if(|it| !leads || it.term() != term) {
            let hint = self.hint(now);
            leader.resign(hint, said);
            if let Some(VotersAsked { from, id }) = self.voters_asked.take() {
                reply(from, id, Reply::NotLeader { leader: hint }, said);
            }
        }
        if let (true, None, Some(state)) = (serves, &self.leader, self.quorum.acknowledged_state())
        {
            self.leader = Some(Leader::new(now, term, self.seed, state, &self.hearing));
            // What it has heard before counts, unlike after a time in which it could not act.
            self.serving = true;
        }
        if let Some(leader) = self.leader.as_mut().filter(|_| serves) {
            if !self.serving {
                leader.resume(now);
            }
            leader.wake(now);
        }
        self.serving = serves;
    }

    /// Another master that seems to lead.
    fn hint(&self, now: Time) -> Option<NodeId> {
        self.quorum.leader_hint(now).filter(|leader| *leader != self.node)
    }

    fn hear(
        &mut self,
        now: Time,
        from: Peer,
        message: ControlMessage,
        asked: &mut Vec<QuorumEffect>,
        said: &mut Vec<Said>,
    ) {
        match message {
            ControlMessage::WorkerReport(report) if from == Peer::Node(report.worker) => {
                self.hearing.heard(now, report.worker);
                if let Some((leader, state)) = self.in_office() {
                    leader.hear_worker(now, report, state, said);
                } else if report.follows < self.quorum.term() {
                    // It may know only those who voted once, and the leader may not know it.
                    self.say_voters([from], said);
                }
            }
            ControlMessage::AppReport(report)
                if from == Peer::AppMaster(report.app, report.term) =>
            {
                if let Some((leader, state)) = self.in_office() {
                    leader.hear_app(now, report, state, said);
                }
            }
            ControlMessage::Request { id, request } => {
                self.on_request(now, from, id, request, asked, said);
            }
            // Not for a master, or not from whom it says: a confused sender is no reason to die.
            _ => {}
        }
    }

    /// The leader and what it acts on, if this master leads and may act.
    fn in_office(&mut self) -> Option<(&mut Leader<F>, &State)> {
        let leader = self.leader.as_mut().filter(|_| self.serving)?;
        let state = match F::has(Fault::ActOnUnacknowledged) {
            true => self.quorum.state(),
            false => self.quorum.acknowledged_state()?,
        };
        Some((leader, state))
    }

    fn on_request(
        &mut self,
        now: Time,
        from: Peer,
        id: RequestId,
        request: Request,
        asked: &mut Vec<QuorumEffect>,
        said: &mut Vec<Said>,
    ) {
        let hint = self.hint(now);
        let Some((leader, state)) = self.in_office() else {
            let answer = match request {
                Request::Apps => {
                    let apps = self.quorum.state().apps();
                    let apps = apps.map(|(id, app)| duties::status(id, app)).collect();
                    Reply::Apps { stale: true, apps }
                }
                Request::Cluster => {
                    let workers = duties::workers(self.quorum.state());
                    Reply::Cluster(self.cluster(now, true, workers))
                }
                _ => Reply::NotLeader { leader: hint },
            };
            reply(from, id, answer, said);
            return;
        };
        match request {
            Request::Apps => {
                let apps = leader.statuses(state);
                reply(from, id, Reply::Apps { stale: false, apps }, said);
            }
            Request::Cluster => {
                let workers = leader.workers(now, state);
                let status = self.cluster(now, false, workers);
                reply(from, id, Reply::Cluster(status), said);
            }
            Request::Submit(_)
            | Request::Wish { .. }
            | Request::Drain { .. }
            | Request::Restart { .. } => {
                leader.hear_request(from, id, request, said);
            }
            Request::Voters { .. } if state.has_done(id) && !F::has(Fault::RepeatOrders) => {
                reply(from, id, Reply::Done, said);
            }
            Request::Voters { voters } => {
                if let Some(asker) = self.voters_asked.as_mut().filter(|asker| asker.id == id) {
                    // Whoever asked through another node before asks again, and is told then.
                    asker.from = from;
                    return;
                }
                match self.quorum.change_voters(now, &voters, asked) {
                    Ok(_) => self.voters_asked = Some(VotersAsked { from, id }),
                    Err(error) => {
                        reply(from, id, Reply::Refused { reason: error.to_string() }, said);
                    }
                }
            }
        }
    }

    fn cluster(
        &self,
        now: Time,
        stale: bool,
        workers: BTreeMap<NodeId, WorkerStatus>,
    ) -> ClusterStatus {
        ClusterStatus {
            stale,
            leader: self.quorum.leader_hint(now),
            term: self.quorum.term(),
            voters: self.voters(),
            updates: self.quorum.acknowledged().0,
            workers,
        }
    }

    /// Whom to report to: where a master listens, its worker knows better than the voters' record.
    fn voters(&self) -> BTreeMap<NodeId, Address> {
        let state = self.quorum.state();
        let mut voters = self.quorum.voters().addresses();
        for (node, address) in &mut voters {
            if let Some(worker) = state.worker(*node) {
                address.clone_from(&worker.address);
            }
        }
        voters
    }

    /// Does what is due for the leader.
    fn lead(&mut self, now: Time, asked: &mut Vec<QuorumEffect>, said: &mut Vec<Said>) {
        if self.in_office().is_none() {
            return;
        }
        if self.quorum.voters_settled()
            && let Some(VotersAsked { from, id }) = self.voters_asked.take()
            && let Some(leader) = &mut self.leader
        {
            if F::has(Fault::SettleVotersBeforeMajority) {
                reply(from, id, Reply::Done, said);
            }
            // Answered once a majority remembers that it was done: a copy of it that comes later
            // does not undo what was asked for since.
            let request = Request::Voters { voters: self.quorum.voters().addresses() };
            leader.hear_request(from, id, request, said);
        }
        self.tell_voters(now, said);
        self.acknowledge(now, self.quorum.acknowledged(), said);
        // Shares the strategies, so that the leader can be changed beside them.
        let scheduler = self.scheduler.clone();
        let Some((leader, state)) = self.in_office() else { return };
        let Some(change) = leader.decide(now, state, &scheduler) else { return };
        let number = self.quorum.propose(now, change.delta.clone(), asked);
        let leader = self.leader.as_mut().expect("it is in office");
        match number {
            Some(number) => leader.proposed(number, change),
            // Those who asked repeat it, and everything else is found out again.
            None => leader.withdraw(change, said),
        }
        if let Some(number) = number.filter(|_| F::has(Fault::ActOnUnacknowledged)) {
            self.acknowledge(now, number, said);
        }
        self.acknowledge(now, self.quorum.acknowledged(), said);
    }

    /// A worker that was cut off or down while the voters changed reports to those that it knows,
    /// and would never be heard by one that it does not. And whoever dials one that has fallen
    /// silent may find that its process is gone.
    fn tell_voters(&mut self, now: Time, said: &mut Vec<Said>) {
        if now < self.voters_told_at {
            return;
        }
        self.voters_told_at = now + VOTERS_TOLD_INTERVAL;
        let changed = self.quorum.has_changed_voters();
        let Some((leader, state)) = self.in_office() else { return };
        let unheard = leader.unheard(now, state).filter(|_| changed);
        let workers: Vec<_> = unheard.chain(leader.quiet(now, state)).map(Peer::Node).collect();
        self.say_voters(workers, said);
    }

    /// A worker whose connection broke is dialled by the leader, which may find it gone.
    fn look_for(&mut self, now: Time, node: NodeId, said: &mut Vec<Said>) {
        let heard = |leader: &Leader<F>, state: &State| {
            state.worker(node).is_some() && !leader.is_worker_silent(now, node)
        };
        if self.in_office().is_some_and(|(leader, state)| heard(leader, state)) {
            self.say_voters([Peer::Node(node)], said);
        }
    }

    /// Tells these who votes.
    fn say_voters(&self, to: impl IntoIterator<Item = Peer>, said: &mut Vec<Said>) {
        let mut to = to.into_iter().peekable();
        if to.peek().is_some() {
            let message = ControlMessage::Voters { voters: self.voters() };
            said.extend(to.map(|to| Said::Send { to, message: message.clone() }));
        }
    }

    fn acknowledge(&mut self, now: Time, number: UpdateNumber, said: &mut Vec<Said>) {
        if let Some((leader, state)) = self.in_office() {
            leader.acknowledged(now, number, state, said);
        }
    }
}

fn reply(to: Peer, id: RequestId, reply: Reply, said: &mut Vec<Said>) {
    said.push(Said::Send { to, message: ControlMessage::Reply { id, reply } });
}
