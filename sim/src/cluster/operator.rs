//! The operator of a cluster, who changes it while it suffers: who votes, which workers have work,
//! apps that are started again, savepoints, and masters that get a new data folder.
//!
//! All of it is asked for as in production: as a command to any node, which has the leader do it,
//! or to the process that it concerns. Whoever hears nothing asks again, another node perhaps.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::control::{Reply, Request, Role};
use gear_core::host::process::{Answer, Command, ProcessInput};
use gear_core::id::{AppId, Epoch, NodeId, RequestId};
use gear_core::time::Duration;

use super::fault::FaultKind;
use super::hosted::Doom;
use super::nemesis::{AMBUSH_EFFECTS, AMBUSH_NANOS};
use super::world::{Event, World};
use crate::oracle::savepoints;
use crate::random::Random;

/// The operator's number among those who ask.
const OPERATOR: u64 = 78;
/// An operator who hears nothing asks again after this, and looks as often what has become of it.
const PATIENCE: Duration = Duration::from_millis(700);
/// An operator who was refused so often asks no more.
const REFUSALS_MAX: u32 = 6;
/// Most voters that an operator wants.
const VOTERS_WANTED_MAX: usize = 5;
/// Bits of a command's number that say how often it was asked.
const ASKED_BITS: u32 = 16;
/// Of a thousand changes of the voters, those under which the leader is lost.
const LOST_UNDER: u64 = 400;

/// Something that an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    /// The nodes of these machines vote.
    Voters(BTreeSet<usize>),
    /// A worker has no work, or has work again.
    Drain { machine: usize, drains: bool },
    /// An app is started again.
    Restart { app: AppId },
    /// An epoch of an app is kept.
    Savepoint { app: AppId },
    /// What an app has put aside is given again. The poison is poison still: it is refused again.
    Replay { app: AppId },
    /// A master gets a new data folder in the place of one that is lost.
    Readmit { machine: usize },
}

/// An order that is not done yet.
#[derive(Clone, Debug)]
struct Open {
    order: Order,
    asked: u64,
    /// The process that was asked last and has not answered, where asking two would do it twice.
    waits_for: Option<usize>,
    refusals: u32,
    /// It was acknowledged, and its effect takes time.
    acknowledged: bool,
}

/// What the operator has asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    open: BTreeMap<u64, Open>,
    issued: u64,
    /// Savepoints that are there, by their names.
    savepoints: Vec<(AppId, String, Epoch)>,
}

impl Operator {
    /// True if the voters are being changed, as far as the operator knows.
    pub(crate) fn changes_voters(&self) -> bool {
        self.open.values().any(|open| matches!(open.order, Order::Voters(_)))
    }

    fn is_open(&self, is_it: impl Fn(&Order) -> bool) -> bool {
        self.open.values().any(|open| is_it(&open.order))
    }
}

impl World<'_> {
    /// Every set of machines that may be the voters now.
    pub(crate) fn voter_sets(&self) -> Vec<BTreeSet<usize>> {
        let machine = |node: &NodeId| node.0 as usize - 1;
        let sets = self.watch.orders.iter().flat_map(|orders| orders.voters.possible());
        sets.map(|nodes| nodes.iter().map(machine).collect()).collect()
    }

    /// Every machine whose node may vote now.
    pub(crate) fn voting(&self) -> BTreeSet<usize> {
        self.voter_sets().into_iter().flatten().collect()
    }

    /// True if every set that may be the voters has a majority whose disks are as they were.
    pub(crate) fn has_majority(set: &BTreeSet<usize>, damaged: impl Fn(usize) -> bool) -> bool {
        let intact = set.iter().filter(|machine| !damaged(**machine)).count();
        intact * 2 > set.len()
    }

    /// The operator wants something, if there is something to be wanted.
    pub(crate) fn order(&mut self, kind: FaultKind, random: &mut Random) {
        let order = match kind {
            FaultKind::ChangeVoters => self.other_voters(random),
            FaultKind::DrainWorker => self.worker_to_drain(random),
            FaultKind::RestartApp => {
                let apps: Vec<AppId> = self.watch.updates.latest().collect();
                (!apps.is_empty()).then(|| Order::Restart { app: apps[random.place(apps.len())] })
            }
            FaultKind::Savepoint => {
                let apps: Vec<AppId> = self.services.keys().copied().collect();
                (!apps.is_empty()).then(|| Order::Savepoint { app: apps[random.place(apps.len())] })
            }
            _ => {
                let lost = |machine: &usize| self.machines[*machine].disk.damaged;
                let lost: Vec<usize> = (0..self.machines.len()).filter(lost).collect();
                (!lost.is_empty())
                    .then(|| Order::Readmit { machine: lost[random.place(lost.len())] })
            }
        };
        let Some(order) = order.filter(|order| !self.operator.is_open(|open| open == order)) else {
            return;
        };
        // Draws nothing, so that a seed plans what it did before there was this.
        if let Order::Savepoint { app } = order {
            self.give_again(app);
        }
        self.operator.issued += 1;
        let number = self.operator.issued;
        match (&order, &mut self.watch.orders) {
            (Order::Voters(machines), Some(orders)) => orders.voters.asked(nodes(machines)),
            (Order::Drain { machine, drains }, Some(orders)) => {
                // Nobody waits any more for what ran there to move.
                let before = Order::Drain { machine: *machine, drains: true };
                self.operator.open.retain(|_, open| open.order != before);
                orders.drain_asked(Self::node_id(*machine), *drains);
            }
            (Order::Restart { app }, _) => self.watch.updates.restart_asked(request(number), *app),
            _ => {}
        }
        let leader = self.leader().and_then(|leader| self.machines[leader].node);
        let lost = matches!(order, Order::Voters(_)) && random.permille(LOST_UNDER);
        if let Some(leader) = leader.filter(|_| lost) {
            let effects = 1 + random.below(AMBUSH_EFFECTS * 8);
            let doom = Doom::Power(1 + random.below(AMBUSH_NANOS));
            self.processes[leader].trap = Some((effects, doom));
        }
        let open = Open { order, asked: 0, waits_for: None, refusals: 0, acknowledged: false };
        self.operator.open.insert(number, open);
        self.operate(number);
    }

    fn give_again(&mut self, app: AppId) {
        let order = Order::Replay { app };
        if self.operator.is_open(|open| *open == order) {
            return;
        }
        self.operator.issued += 1;
        let number = self.operator.issued;
        let open = Open { order, asked: 0, waits_for: None, refusals: 0, acknowledged: false };
        self.operator.open.insert(number, open);
        self.operate(number);
    }

    /// The process of an app's master, if it has one.
    fn app_master(&self, app: AppId) -> Option<usize> {
        self.processes.iter().rposition(|hosted| {
            let leads = matches!(hosted.role(), Some(Role::AppMaster(_)));
            hosted.alive && leads && self.home(hosted.app()) == app
        })
    }

    /// Voters of whom one more or one less votes than now, if no other change is under way.
    fn other_voters(&self, random: &mut Random) -> Option<Order> {
        let now = self.watch.orders.as_ref()?.voters.settled()?;
        let now: BTreeSet<usize> = now.iter().map(|node| node.0 as usize - 1).collect();
        let damaged = |machine: usize| self.machines[machine].disk.damaged;
        let mut choices = Vec::new();
        for machine in 0..self.machines.len() {
            let mut next = now.clone();
            if !next.remove(&machine) {
                next.insert(machine);
            }
            let joins = next.len() > now.len();
            let fit = !joins || self.machines[machine].node.is_some() && !damaged(machine);
            let fits = (1..=VOTERS_WANTED_MAX).contains(&next.len()) && fit;
            if fits && Self::has_majority(&next, damaged) {
                // One whose disk is lost is the first to go.
                let times = if damaged(machine) && !joins { 8 } else { 1 };
                choices.extend(std::iter::repeat_n(next, times));
            }
        }
        (!choices.is_empty())
            .then(|| Order::Voters(choices.swap_remove(random.place(choices.len()))))
    }

    /// A worker whose work fits elsewhere, or one that is to have work again.
    fn worker_to_drain(&self, random: &mut Random) -> Option<Order> {
        let open = self.operator.open.values();
        let mut open = open.filter(|open| matches!(open.order, Order::Drain { .. }));
        if open.any(|open| !open.acknowledged) {
            return None;
        }
        let workers: Vec<usize> = self.setup.workers().collect();
        let orders = self.watch.orders.as_ref()?;
        let drains = |machine: &usize| orders.may_drain(Self::node_id(*machine));
        if let Some(machine) = workers.iter().copied().find(drains) {
            return Some(Order::Drain { machine, drains: false });
        }
        let machine = workers[random.place(workers.len())];
        (workers.len() > 1).then_some(Order::Drain { machine, drains: true })
    }

    /// The operator asks for what is not done yet, and looks whether it is.
    pub(crate) fn operate(&mut self, number: u64) {
        let Some(open) = self.operator.open.get(&number).filter(|_| !self.calm).cloned() else {
            return;
        };
        let done = match open.order {
            Order::Drain { machine, .. } if open.acknowledged => self.is_left(machine),
            Order::Readmit { machine } => self.is_readmitted(machine),
            _ => false,
        };
        if done {
            self.operator.open.remove(&number);
            return;
        }
        let waits = open.waits_for.is_some_and(|process| self.processes[process].alive);
        if !open.acknowledged && !waits && !self.ask(number, &open) {
            self.give_up(number);
            return;
        }
        self.after(PATIENCE, Event::Operate { number });
    }

    /// Asks whoever can be asked. False if it makes no sense to ask any more.
    fn ask(&mut self, number: u64, open: &Open) -> bool {
        let command = |what| Command::Request { id: request(number), request: what };
        let (whom, command) = match &open.order {
            Order::Voters(machines) => {
                let voters = machines
                    .iter()
                    .map(|machine| (Self::node_id(*machine), Self::node_address(*machine)));
                (self.any_node(), command(Request::Voters { voters: voters.collect() }))
            }
            Order::Drain { machine, drains } => {
                let (node, drains) = (Self::node_id(*machine), *drains);
                (self.any_node(), command(Request::Drain { node, drains }))
            }
            Order::Restart { app } => (self.any_node(), command(Request::Restart { app: *app })),
            Order::Savepoint { app } => {
                let command = Command::Savepoint { name: savepoint(number, open.asked) };
                (self.app_master(*app), command)
            }
            Order::Replay { app } => (self.app_master(*app), Command::Replay),
            Order::Readmit { machine } => (self.machines[*machine].node, Command::Readmit),
        };
        let asked = open.asked + 1;
        if asked >> ASKED_BITS > 0 {
            return false;
        }
        if let Some(process) = whom {
            let once = matches!(open.order, Order::Savepoint { .. } | Order::Readmit { .. });
            if let Some(open) = self.operator.open.get_mut(&number) {
                (open.asked, open.waits_for) = (asked, whom.filter(|_| once));
            }
            let input = ProcessInput::Command { id: number << ASKED_BITS | open.asked, command };
            self.push(self.now, Event::Hear { process, input });
        }
        true
    }

    fn any_node(&mut self) -> Option<usize> {
        let nodes: Vec<usize> = self.machines.iter().filter_map(|machine| machine.node).collect();
        (!nodes.is_empty()).then(|| nodes[self.random.operator.place(nodes.len())])
    }

    /// A process answers the operator.
    pub(crate) fn answered(&mut self, command: u64, answer: Answer) {
        let (number, asked) = (command >> ASKED_BITS, command & ((1 << ASKED_BITS) - 1));
        // Somebody else may have answered before.
        let Some(open) = self.operator.open.get(&number).cloned() else { return };
        let judged = match (open.order, answer) {
            (Order::Voters(machines), Answer::Reply(Reply::Done)) => {
                self.operator.open.remove(&number);
                self.voters_changed(&machines);
                self.told()
            }
            (Order::Drain { machine, drains }, Answer::Reply(Reply::Done)) => {
                if !open.acknowledged {
                    self.drained(number, machine, drains);
                }
                self.told()
            }
            (Order::Restart { app }, Answer::Reply(Reply::Submitted { app: fresh })) => {
                self.operator.open.remove(&number);
                self.count(FaultKind::RestartApp);
                let judged = self.watch.updates.restarted(request(number), app, fresh);
                judged.and_then(|()| self.told())
            }
            (Order::Savepoint { app }, Answer::Savepoint { epoch }) => {
                self.operator.open.remove(&number);
                self.count(FaultKind::Savepoint);
                let name = savepoint(number, asked);
                let judged = savepoints::judge(&name, epoch, &self.services[&app].store);
                self.operator.savepoints.push((app, name, epoch));
                judged
            }
            (Order::Replay { .. }, Answer::Left(left)) => {
                self.operator.open.remove(&number);
                if left.counts.refused > 0 {
                    self.seen("poison was given again");
                }
                if left.counts.replayed > 0 {
                    Err(format!("poison was taken that is poison still: {left:?}"))
                } else {
                    Ok(())
                }
            }
            // What becomes of it is looked at.
            (Order::Readmit { .. }, Answer::Reply(Reply::Done)) => Ok(()),
            (_, Answer::Reply(Reply::Refused { .. }) | Answer::Refused { .. }) => {
                self.order_refused(number);
                Ok(())
            }
            (order, answer) => Err(format!("{order:?} was answered: {answer:?}")),
        };
        if let Err(violation) = judged {
            self.wrong(violation);
        }
    }

    /// Somebody does not do it, and another one that was asked may do it yet.
    fn order_refused(&mut self, number: u64) {
        let Some(open) = self.operator.open.get_mut(&number) else { return };
        open.waits_for = None;
        open.refusals += 1;
        if open.refusals >= REFUSALS_MAX && !matches!(open.order, Order::Readmit { .. }) {
            self.give_up(number);
        }
    }

    /// The operator waits no longer for what was asked for.
    fn give_up(&mut self, number: u64) {
        let Some(open) = self.operator.open.remove(&number).filter(|open| !open.acknowledged)
        else {
            return;
        };
        match (open.order, &mut self.watch.orders) {
            (Order::Voters(machines), Some(orders)) => orders.voters.given_up(nodes(&machines)),
            (Order::Drain { machine, drains }, Some(orders)) => {
                orders.drain_given_up(Self::node_id(machine), drains);
            }
            _ => {}
        }
    }

    fn voters_changed(&mut self, machines: &BTreeSet<usize>) {
        let before = self.voting();
        let lost = |machine: &usize| self.machines[*machine].disk.damaged;
        if before.difference(machines).any(lost) {
            self.seen("a voter left whose disk was lost");
        }
        if let Some(orders) = &mut self.watch.orders {
            orders.voters.acknowledged(nodes(machines));
        }
        self.count(FaultKind::ChangeVoters);
        let founders: BTreeSet<usize> = (0..self.setup.masters).collect();
        if machines.difference(&founders).next().is_some() {
            self.seen("a node voted that had not founded the cluster");
        }
    }

    fn drained(&mut self, number: u64, machine: usize, drains: bool) {
        if let Some(orders) = &mut self.watch.orders {
            orders.drain_acknowledged(Self::node_id(machine), drains);
        }
        self.count(FaultKind::DrainWorker);
        let works = self.machines[machine].node.is_some_and(|node| !self.children(node).is_empty());
        match self.operator.open.get_mut(&number).filter(|_| drains && works) {
            Some(open) => open.acknowledged = true,
            None => drop(self.operator.open.remove(&number)),
        }
    }

    /// True if nothing runs on a machine any more that drains, or it is down.
    fn is_left(&mut self, machine: usize) -> bool {
        let Some(node) = self.machines[machine].node else { return true };
        let left = self.children(node).is_empty();
        if left {
            self.seen("what ran on a drained worker has moved");
        }
        left
    }

    /// True if a master's new data folder has its place among the voters, or needs none.
    fn is_readmitted(&mut self, machine: usize) -> bool {
        let subject = |process: usize| self.processes[process].subject.as_ref();
        let Some(folder) =
            self.machines[machine].node.and_then(subject).and_then(|node| node.folder())
        else {
            return false;
        };
        let Some(leader) = self.leader().and_then(|leader| self.machines[leader].node) else {
            return false;
        };
        let known = subject(leader).and_then(|subject| subject.cluster(self.local(leader)));
        let Some(known) = known.filter(|known| known.settled) else { return false };
        let votes = known.voters.get(&Self::node_id(machine));
        let readmitted = votes.is_none_or(|votes| *votes == folder);
        if readmitted {
            self.machines[machine].disk.damaged = false;
            self.count(FaultKind::Readmit);
            if votes.is_some() {
                self.seen("a master votes again whose disk was lost");
            }
        }
        readmitted
    }

    /// Nodes remember who votes, for when they are started again.
    pub(crate) fn remember_voters(&mut self) {
        for machine in &mut self.machines {
            let subject = machine.node.and_then(|node| self.processes[node].subject.as_ref());
            if let Some(masters) = subject.and_then(|subject| subject.masters()) {
                machine.masters.clone_from(masters);
            }
        }
    }

    /// What is wrong with the savepoints that were made, at the end.
    pub(crate) fn judge_savepoints(&self) -> Vec<String> {
        let made = self.operator.savepoints.iter();
        let judged = made
            .map(|(app, name, epoch)| savepoints::judge(name, *epoch, &self.services[app].store));
        judged.filter_map(Result::err).collect()
    }
}

fn nodes(machines: &BTreeSet<usize>) -> BTreeSet<NodeId> {
    machines.iter().map(|machine| World::node_id(*machine)).collect()
}

const fn request(number: u64) -> RequestId {
    RequestId { client: OPERATOR, number }
}

/// A savepoint's name: each attempt has its own, since it is not known what became of the last.
fn savepoint(number: u64, asked: u64) -> String {
    format!("s{number}-{asked}")
}
