//! Lets the planned faults happen, to whom they can.

use std::collections::BTreeSet;

use gear_core::control::Role;
use gear_core::id::AppId;
use gear_core::time::{Duration, Time};

use super::fault::{DEPOSED_MAX, FaultKind, Planned};
use super::hosted::Doom;
use super::subject::Look;
use super::world::{Event, World};
use crate::random::Random;

/// Effects within which a process dies that is to die between two of them, at most.
const TRAP_MAX: u64 = 60;

/// Ambushes in a run.
const AMBUSHES_MAX: u64 = 4;
/// Effects after which whoever is ambushed dies, at most.
pub(super) const AMBUSH_EFFECTS: u64 = 6;
/// The most that all masters are without power that have just elected one, in nanoseconds.
const ELECTION_NANOS: u64 = 300_000_000;
/// The least time for which a leader is held back, in nanoseconds: until its lease is over and
/// another one may have been elected.
const HELD_BACK_MIN: u64 = 1_150_000_000;
/// And how much more it may be: whoever hears nothing for longer closes the connection.
const HELD_BACK_MORE: u64 = 320_000_000;
/// A deposed leader is back so long after its successor was lost, so that it hears nothing of it.
const BACK_AFTER: Duration = Duration::from_millis(50);
/// The most that an ambushed machine is without power, in nanoseconds.
pub(super) const AMBUSH_NANOS: u64 = 4_000_000_000;

/// The rare state of a leader that is lost with what it has just acknowledged.
pub(crate) const ACKNOWLEDGER_LOST: &str = "a leader was lost right after it had acknowledged";

impl World<'_> {
    /// A planned fault happens, if there is somebody whom it can meet.
    pub(crate) fn strike(&mut self, place: usize) {
        if self.calm {
            return;
        }
        let planned = self.setup.planned[place];
        let mut random = planned.random();
        self.stopwatch.disturb(self.now + planned.hinders());
        self.trace.note(self.now, planned.kind.name(), &[place as u64]);
        let met = match planned.kind {
            FaultKind::Disconnect | FaultKind::DisconnectMachine => {
                self.disconnect(&planned, &mut random)
            }
            FaultKind::Latency => {
                let machine = random.place(self.machines.len());
                self.links.slow(machine, self.now + planned.lasts);
                true
            }
            FaultKind::Clog
            | FaultKind::Swizzle
            | FaultKind::PartitionSize
            | FaultKind::PartitionNodes
            | FaultKind::Isolate
            | FaultKind::OneWay => self.part(&planned, &mut random),
            FaultKind::CutOffAppMaster => self.cut_off(&planned, &mut random),
            FaultKind::PowerLoss => {
                let machine = random.place(self.machines.len());
                self.end_machine(machine, planned.lasts, &mut random)
            }
            FaultKind::KillNode => {
                let machine = random.place(self.machines.len());
                let node = self.machines[machine].node;
                node.is_some_and(|node| self.end_process(node, &mut random))
            }
            FaultKind::KillAppMaster => self.kill_child_of(true, &mut random),
            FaultKind::KillExecutor => self.kill_child_of(false, &mut random),
            FaultKind::KillLeader => {
                let leader = self.leader();
                leader.is_some_and(|at| self.end_machine(at, planned.lasts, &mut random))
            }
            FaultKind::KillMasters => {
                for master in self.voting() {
                    self.power_off(master, Some(planned.lasts.as_nanos() as u64));
                }
                true
            }
            FaultKind::PauseMachine | FaultKind::PauseProcess => self.pause(&planned, &mut random),
            FaultKind::WipeDisk | FaultKind::SwapDisks | FaultKind::RotDisk => {
                self.spoil_disk(&planned, &mut random)
            }
            FaultKind::FillDisk | FaultKind::SlowDisk => {
                let until = self.now + planned.lasts;
                let machine = random.place(self.machines.len());
                let machine = &mut self.machines[machine];
                if planned.kind == FaultKind::FillDisk {
                    machine.full_until = until;
                    // It is counted when it refuses something.
                    return;
                }
                machine.slow_disk_until = until;
                true
            }
            FaultKind::ClockJump => {
                let machine = random.place(self.machines.len());
                let micros = random.pick(&[-3_600_000_000, -1_000_000, 1_000_000, 86_400_000_000]);
                self.machines[machine].clock.jump(micros);
                true
            }
            FaultKind::ChangeVoters
            | FaultKind::DrainWorker
            | FaultKind::RestartApp
            | FaultKind::Savepoint
            | FaultKind::Readmit => {
                self.order(planned.kind, &mut random);
                // It is counted when it is done.
                return;
            }
            FaultKind::HoldBackLeader => self.hold_back(&mut random),
            FaultKind::DeposeLeader => self.depose(),
            FaultKind::BrokerOutage | FaultKind::LeaderMoves => {
                self.trouble_brokers(&planned, &mut random)
            }
            FaultKind::Retention => self.retain(&mut random),
            FaultKind::SafeMode => {
                self.safe_mode_until = self.now + planned.lasts;
                true
            }
            FaultKind::StoreOutage => {
                self.store_down_until = self.now + planned.lasts;
                true
            }
            _ => false,
        };
        if met {
            self.count(planned.kind);
        }
    }

    /// A process is at a moment at which one would be lost that matters: it is, at a rate.
    pub(crate) fn ambush(&mut self, process: usize, kind: FaultKind) {
        let rates = &self.setup.rates;
        let rate = match kind {
            FaultKind::AmbushLeader => rates.ambush_leader,
            FaultKind::AmbushAppMaster => rates.ambush_app_master,
            FaultKind::AmbushElection => rates.ambush_election,
            _ => rates.ambush_executor,
        };
        let never = rate == 0 && kind == FaultKind::AmbushElection;
        let over = self.calm || never || self.ambushes >= AMBUSHES_MAX;
        if over || !self.random.other.permille(rate) {
            return;
        }
        let effects = 1 + self.random.other.below(AMBUSH_EFFECTS);
        let doom = match kind {
            FaultKind::AmbushLeader => Doom::Power(1 + self.random.other.below(AMBUSH_NANOS)),
            FaultKind::AmbushElection => Doom::Masters(1 + self.random.other.below(ELECTION_NANOS)),
            _ => Doom::Kill,
        };
        let whom = match kind {
            FaultKind::AmbushExecutor => {
                let app = self.processes[process].app();
                let others: Vec<usize> = (0..self.processes.len())
                    .filter(|other| self.processes[*other].alive)
                    .filter(|other| self.processes[*other].app() == app)
                    .filter(|other| {
                        matches!(self.processes[*other].role(), Some(Role::Executor(_)))
                    })
                    .collect();
                if others.is_empty() {
                    return;
                }
                others[self.random.other.place(others.len())]
            }
            _ => process,
        };
        self.ambushes += 1;
        self.stopwatch.disturb(self.now);
        self.count(kind);
        self.processes[whom].trap = Some((effects, doom));
    }

    /// A leader has acknowledged something, and the client has heard it: its machine loses its
    /// power at once or within a few effects, at a rate.
    pub(crate) fn strike_acknowledger(&mut self) {
        let rate = self.setup.rates.strike_acknowledger;
        if self.calm || rate == 0 || !self.random.other.permille(rate) {
            return;
        }
        let Some(machine) = self.leader() else { return };
        let nanos = 1 + self.random.other.below(AMBUSH_NANOS);
        let node = self.machines[machine].node.filter(|_| self.random.other.permille(300));
        match node {
            Some(node) => {
                let effects = 1 + self.random.other.below(AMBUSH_EFFECTS);
                self.processes[node].trap = Some((effects, Doom::Power(nanos)));
            }
            None => self.power_off(machine, Some(nanos)),
        }
        self.count(FaultKind::KillLeader);
        self.seen(ACKNOWLEDGER_LOST);
    }

    /// What the leader says is heard late.
    fn hold_back(&mut self, random: &mut Random) -> bool {
        let Some(leader) = self.leader().filter(|_| self.machines.len() > 1) else { return false };
        let nanos = HELD_BACK_MIN + random.below(HELD_BACK_MORE);
        let until = self.now + Duration::from_nanos(nanos);
        (0..self.machines.len()).for_each(|other| self.links.shut(leader, other, until));
        true
    }

    /// The leader is cut off from the other masters.
    fn depose(&mut self) -> bool {
        let others = self.voting();
        let Some(leader) = self.leader().filter(|_| others.len() > 2) else { return false };
        let until = self.now + DEPOSED_MAX;
        others.into_iter().for_each(|other| self.links.shut_both(leader, other, until));
        self.deposed = Some(leader);
        true
    }

    /// A leader begins to act: if it is the successor of one that was deposed, it is lost, and
    /// that one is back.
    pub(crate) fn relieve(&mut self, process: usize) {
        let machine = self.processes[process].machine;
        let deposed = self.deposed.take_if(|deposed| *deposed != machine);
        let Some(deposed) = deposed.filter(|_| !self.calm) else { return };
        self.stopwatch.disturb(self.now);
        let effects = 1 + self.random.other.below(AMBUSH_EFFECTS);
        let nanos = 1 + self.random.other.below(AMBUSH_NANOS);
        self.processes[process].trap = Some((effects, Doom::Power(nanos)));
        let at = self.now + BACK_AFTER;
        for other in self.voting() {
            self.links.open_both(deposed, other, at);
        }
    }

    /// An app master and an executor of its app are cut off from everybody else.
    fn cut_off(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let alive = || self.processes.iter().filter(|hosted| hosted.alive);
        let masters: Vec<(AppId, usize)> = alive()
            .filter_map(|hosted| match hosted.look {
                Look::App(look) if look.runs => Some((look.app, hosted.machine)),
                _ => None,
            })
            .collect();
        if masters.is_empty() {
            return false;
        }
        let (app, machine) = masters[random.place(masters.len())];
        let executors = || {
            alive().filter(|hosted| hosted.machine != machine).filter_map(|hosted| {
                match hosted.look {
                    Look::Executor(look) if look.app == app => Some((hosted.machine, look.works)),
                    _ => None,
                }
            })
        };
        let mut there: Vec<usize> =
            executors().filter(|(_, works)| !works).map(|(machine, _)| machine).collect();
        if there.is_empty() {
            there = executors().map(|(machine, _)| machine).collect();
        }
        if there.is_empty() {
            return false;
        }
        let executor = there[random.place(there.len())];
        let group: Vec<bool> =
            (0..self.machines.len()).map(|other| other == machine || other == executor).collect();
        self.shut_off(&group, false, self.now + planned.lasts)
    }

    fn disconnect(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let mut open = self.open_connections();
        if planned.kind == FaultKind::DisconnectMachine {
            let machine = random.place(self.machines.len());
            open.retain(|conn| self.conns[*conn].ends.iter().any(|end| end.machine == machine));
        } else if !open.is_empty() {
            open = vec![open[random.place(open.len())]];
        }
        open.iter().for_each(|conn| self.sever(*conn, random));
        !open.is_empty()
    }

    /// Shuts links.
    fn part(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let all = self.machines.len();
        if all < 2 {
            return false;
        }
        let until = self.now + planned.lasts;
        let one_way = planned.kind == FaultKind::OneWay || random.permille(250);
        let group: Vec<bool> = match planned.kind {
            FaultKind::Clog => {
                let one = random.place(all);
                let other = (one + 1 + random.place(all - 1)) % all;
                self.links.shut(one, other, until);
                if !one_way {
                    self.links.shut(other, one, until);
                }
                return true;
            }
            FaultKind::Swizzle => {
                let chosen: Vec<usize> = (0..all).filter(|_| random.permille(500)).collect();
                for machine in chosen.iter().copied() {
                    // Each is released at a time of its own, in no order.
                    let nanos = planned.lasts.as_nanos() as u64;
                    let until = self.now + Duration::from_nanos(nanos / 2 + random.below(nanos));
                    let others = (0..all).filter(|other| *other != machine);
                    others.for_each(|other| self.links.shut_both(machine, other, until));
                }
                return !chosen.is_empty();
            }
            FaultKind::Isolate => {
                let alone = random.place(all);
                (0..all).map(|machine| machine == alone).collect()
            }
            FaultKind::PartitionSize => {
                let mut machines: Vec<usize> = (0..all).collect();
                for place in (1..all).rev() {
                    machines.swap(place, random.place(place + 1));
                }
                let size = 1 + random.place(all - 1);
                (0..all).map(|machine| machines[..size].contains(&machine)).collect()
            }
            _ => (0..all).map(|_| random.permille(500)).collect(),
        };
        self.shut_off(&group, one_way, until)
    }

    /// Shuts links between the machines of a group and all others; false if one of them is empty.
    fn shut_off(&mut self, group: &[bool], one_way: bool, until: Time) -> bool {
        let mut met = false;
        for from in (0..group.len()).filter(|from| group[*from]) {
            for to in (0..group.len()).filter(|to| !group[*to]) {
                self.links.shut(from, to, until);
                if !one_way {
                    self.links.shut(to, from, until);
                }
                met = true;
            }
        }
        met
    }

    /// A machine loses its power, at once or between two effects.
    fn end_machine(&mut self, machine: usize, lasts: Duration, random: &mut Random) -> bool {
        if !self.machines[machine].up {
            return false;
        }
        let nanos = lasts.as_nanos() as u64;
        let on_it = |process: &usize| {
            self.processes[*process].alive && self.processes[*process].machine == machine
        };
        let running: Vec<usize> = (0..self.processes.len()).filter(on_it).collect();
        if !running.is_empty() && random.permille(700) {
            let process = running[random.place(running.len())];
            self.processes[process].trap = Some((1 + random.below(TRAP_MAX), Doom::Power(nanos)));
        } else {
            self.power_off(machine, Some(nanos));
        }
        true
    }

    /// A process dies, at once or between two effects.
    fn end_process(&mut self, process: usize, random: &mut Random) -> bool {
        if random.permille(700) {
            self.processes[process].trap = Some((1 + random.below(TRAP_MAX), Doom::Kill));
        } else {
            self.doom(process, Doom::Kill);
        }
        true
    }

    fn kill_child_of(&mut self, app_master: bool, random: &mut Random) -> bool {
        let children: Vec<usize> = (0..self.processes.len())
            .filter(|process| self.processes[*process].alive)
            .filter(|process| match self.processes[*process].role() {
                Some(Role::AppMaster(_)) => app_master,
                Some(Role::Executor(_)) => !app_master,
                None => false,
            })
            .collect();
        if children.is_empty() {
            return false;
        }
        let child = children[random.place(children.len())];
        self.end_process(child, random)
    }

    /// The machine of the master that acts.
    pub(crate) fn leader(&self) -> Option<usize> {
        let acts = |master: &usize| match self.processes[self.machines[*master].node?].look {
            Look::Node(look) if look.acts => Some((look.term, *master)),
            _ => None,
        };
        // One that was cut off may not know yet that another leads.
        (0..self.machines.len()).filter_map(|node| acts(&node)).max().map(|(_, node)| node)
    }

    fn pause(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let running: Vec<usize> = (0..self.processes.len())
            .filter(|process| self.processes[*process].alive)
            .filter(|process| self.processes[*process].machine < self.machines.len())
            .collect();
        if running.is_empty() {
            return false;
        }
        let one = running[random.place(running.len())];
        let machine = self.processes[one].machine;
        let until = self.now + planned.lasts;
        for process in running {
            let meant = process == one
                || planned.kind == FaultKind::PauseMachine
                    && self.processes[process].machine == machine;
            if meant {
                self.processes[process].paused_until = until;
                self.push(until, Event::Resume { process });
            }
        }
        true
    }

    /// Masters' disks of which one more may be spoilt: a majority stays as it was.
    fn spoilable(&self, machine: usize) -> bool {
        let damaged = |at: usize| at == machine || self.machines[at].disk.damaged;
        let fits =
            |set: &BTreeSet<usize>| !set.contains(&machine) || Self::has_majority(set, damaged);
        self.machines[machine].disk.damaged || self.voter_sets().iter().all(fits)
    }

    /// A machine boots with another disk.
    fn spoil_disk(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let machine = random.place(self.machines.len());
        if !self.spoilable(machine) || self.machines[machine].disk.is_empty() {
            return false;
        }
        let nanos = Some(1 + planned.lasts.as_nanos() as u64);
        match planned.kind {
            FaultKind::WipeDisk => {
                self.power_off(machine, nanos);
                self.machines[machine].disk.wipe();
                true
            }
            FaultKind::RotDisk => {
                self.power_off(machine, nanos);
                self.machines[machine].disk.rot(random)
            }
            _ => {
                let other = random.place(self.machines.len());
                if other == machine || self.machines[other].disk.is_empty() {
                    return false;
                }
                let before = self.machines[machine].disk.damaged;
                self.machines[machine].disk.damaged = true;
                let fits = self.spoilable(other);
                self.machines[machine].disk.damaged = before;
                if !fits {
                    return false;
                }
                self.power_off(machine, nanos);
                self.power_off(other, nanos);
                let (low, high) = (machine.min(other), machine.max(other));
                let (left, right) = self.machines.split_at_mut(high);
                std::mem::swap(&mut left[low].disk, &mut right[0].disk);
                left[low].disk.damaged = true;
                right[0].disk.damaged = true;
                true
            }
        }
    }
}
