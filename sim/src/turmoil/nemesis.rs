//! Lets the planned faults happen between two steps, to whom they can.

use gear_core::control::Role;
use gear_core::time::{Duration, Time};

use super::shared::{Doom, State};
use super::stage::{Due, Stage};
use crate::cluster::{FaultKind, Look, Planned};
use crate::random::Random;

/// Effects within which a process dies that is to die between two of them, at most.
const TRAP_MAX: u64 = 60;

/// Ambushes in a run.
const AMBUSHES_MAX: u64 = 4;
/// Effects after which whoever is ambushed dies, at most.
const AMBUSH_EFFECTS: u64 = 6;
/// The most that an ambushed machine is without power, in nanoseconds.
const AMBUSH_NANOS: u64 = 4_000_000_000;

impl State {
    /// A process is at a moment at which one would be lost that matters: it is, at a rate.
    pub(super) fn ambush(&mut self, process: usize, kind: FaultKind) {
        let rate = match kind {
            FaultKind::AmbushLeader => self.rates.ambush_leader,
            FaultKind::AmbushAppMaster => self.rates.ambush_app_master,
            _ => self.rates.ambush_executor,
        };
        if self.calm || self.ambushes >= AMBUSHES_MAX || !self.random.other.permille(rate) {
            return;
        }
        let effects = 1 + self.random.other.below(AMBUSH_EFFECTS);
        let doom = match kind {
            FaultKind::AmbushLeader => {
                Doom::Power(Duration::from_nanos(1 + self.random.other.below(AMBUSH_NANOS)))
            }
            _ => Doom::Kill,
        };
        let mut whom = process;
        if kind == FaultKind::AmbushExecutor {
            let app = self.processes[process].app();
            let is_one = |other: &usize| {
                let hosted = &self.processes[*other];
                let executes = matches!(hosted.role(), Some(Role::Executor(_)));
                hosted.alive && executes && hosted.app() == app
            };
            let others: Vec<usize> = (0..self.processes.len()).filter(is_one).collect();
            if others.is_empty() {
                return;
            }
            whom = others[self.random.other.place(others.len())];
        }
        self.ambushes += 1;
        self.count(kind);
        self.processes[whom].trap = Some((effects, doom));
    }

    /// The machine of the master that acts.
    pub(super) fn leader(&self) -> Option<usize> {
        let acts = |master: &usize| match self.processes[self.machines[*master].node?].look {
            Look::Node(look) if look.acts => Some((look.term, *master)),
            _ => None,
        };
        // One that was cut off may not know yet that another leads.
        let masters = 0..self.masters;
        masters.filter_map(|master| acts(&master)).max().map(|(_, master)| master)
    }
}

impl Stage<'_> {
    /// A planned fault happens, if there is somebody whom it can meet.
    pub(super) fn strike(&mut self, place: usize) {
        if self.shared.state.borrow().calm {
            return;
        }
        let setup = std::rc::Rc::clone(&self.shared.setup);
        let planned = &setup.planned[place];
        let mut random = planned.random();
        let now = self.now();
        {
            let state = &mut *self.shared.state.borrow_mut();
            state.stopwatch.disturb(now + planned.hinders());
            state.trace.note(now, planned.kind.name(), &[place as u64]);
        }
        let machine = random.place(self.machines());
        let until = now + planned.lasts;
        let met = match planned.kind {
            FaultKind::Disconnect | FaultKind::DisconnectMachine => {
                self.disconnect(planned, &mut random)
            }
            FaultKind::Latency => {
                self.slow(machine, until);
                true
            }
            FaultKind::Clog
            | FaultKind::Swizzle
            | FaultKind::PartitionSize
            | FaultKind::PartitionNodes
            | FaultKind::Isolate
            | FaultKind::OneWay => self.part(planned, &mut random),
            FaultKind::PowerLoss => self.end_machine(machine, planned.lasts, &mut random),
            FaultKind::KillNode => {
                let node = self.shared.state.borrow().machines[machine].node;
                node.is_some_and(|node| self.end_process(node, &mut random))
            }
            FaultKind::KillAppMaster => self.kill_child_of(true, &mut random),
            FaultKind::KillExecutor => self.kill_child_of(false, &mut random),
            FaultKind::KillLeader => self
                .leader()
                .is_some_and(|leader| self.end_machine(leader, planned.lasts, &mut random)),
            FaultKind::KillMasters => {
                for master in 0..self.shared.setup.masters {
                    self.power_off(master, Some(planned.lasts));
                }
                true
            }
            FaultKind::PauseMachine | FaultKind::PauseProcess => self.pause(planned, &mut random),
            FaultKind::WipeDisk | FaultKind::SwapDisks | FaultKind::RotDisk => {
                self.spoil_disk(planned, &mut random)
            }
            FaultKind::FillDisk => {
                // It is counted when it refuses something.
                self.shared.state.borrow_mut().machines[machine].full_until = until;
                false
            }
            FaultKind::SlowDisk => {
                self.shared.state.borrow_mut().machines[machine].slow_disk_until = until;
                true
            }
            FaultKind::ClockJump => {
                let micros = random.pick(&[-3_600_000_000, -1_000_000, 1_000_000, 86_400_000_000]);
                self.shared.state.borrow_mut().machines[machine].clock.jump(micros);
                true
            }
            FaultKind::StoreOutage => {
                self.shared.state.borrow_mut().store_down_until = until;
                true
            }
            _ => false,
        };
        if met {
            self.shared.state.borrow_mut().count(planned.kind);
        }
    }

    /// Loses what is under way between two machines, or on all links of one: connections that
    /// carried it stand still for ever, and only a heartbeat that stays out can tell.
    fn disconnect(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let all = self.machines();
        if all < 2 {
            return false;
        }
        let one = random.place(all);
        let other = (one + 1 + random.place(all - 1)) % all;
        let until = self.now() + Duration::from_millis(1);
        let links = &mut self.shared.state.borrow_mut().links;
        let machine = planned.kind == FaultKind::DisconnectMachine;
        for peer in (0..all).filter(|peer| *peer == other || machine && *peer != one) {
            links.cut(one, peer, until);
            links.cut(peer, one, until);
        }
        true
    }

    /// Shuts links: what is sent is lost, or kept until they open.
    fn part(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let all = self.machines();
        if all < 2 {
            return false;
        }
        let now = self.now();
        let until = now + planned.lasts;
        let one_way = planned.kind == FaultKind::OneWay || random.permille(250);
        let keeps = !one_way && random.permille(500);
        let links = &mut self.shared.state.borrow_mut().links;
        let mut shut = |from: usize, to: usize, until: Time| {
            if keeps {
                links.keep(from, to, until);
            } else {
                links.cut(from, to, until);
                if !one_way {
                    links.cut(to, from, until);
                }
            }
        };
        let group: Vec<bool> = match planned.kind {
            FaultKind::Clog => {
                let one = random.place(all);
                shut(one, (one + 1 + random.place(all - 1)) % all, until);
                return true;
            }
            FaultKind::Swizzle => {
                let chosen: Vec<usize> = (0..all).filter(|_| random.permille(500)).collect();
                for machine in chosen.iter().copied() {
                    // Each is released at a time of its own, in no order.
                    let nanos = planned.lasts.as_nanos() as u64;
                    let until = now + Duration::from_nanos(nanos / 2 + random.below(nanos));
                    (0..all).filter(|other| *other != machine).for_each(|other| {
                        links.keep(machine, other, until);
                    });
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
        let mut met = false;
        for from in (0..all).filter(|from| group[*from]) {
            for to in (0..all).filter(|to| !group[*to]) {
                shut(from, to, until);
                met = true;
            }
        }
        met
    }

    /// A machine loses its power, at once or between two effects.
    fn end_machine(&mut self, machine: usize, lasts: Duration, random: &mut Random) -> bool {
        if !self.shared.state.borrow().machines[machine].up {
            return false;
        }
        let running = self.shared.running(|hosted| hosted.machine == machine);
        if !running.is_empty() && random.permille(700) {
            let process = running[random.place(running.len())];
            self.trap(process, Doom::Power(lasts), random);
        } else {
            self.power_off(machine, Some(lasts));
        }
        true
    }

    /// A process dies, at once or between two effects.
    fn end_process(&mut self, process: usize, random: &mut Random) -> bool {
        if random.permille(700) {
            self.trap(process, Doom::Kill, random);
        } else {
            self.shared.end(process, "it was killed");
        }
        true
    }

    fn trap(&mut self, process: usize, doom: Doom, random: &mut Random) {
        let trap = (1 + random.below(TRAP_MAX), doom);
        self.shared.state.borrow_mut().processes[process].trap = Some(trap);
    }

    fn kill_child_of(&mut self, app_master: bool, random: &mut Random) -> bool {
        let children = self.shared.running(|hosted| match hosted.role() {
            Some(Role::AppMaster(_)) => app_master,
            Some(Role::Executor(_)) => !app_master,
            None => false,
        });
        if children.is_empty() {
            return false;
        }
        let child = children[random.place(children.len())];
        self.end_process(child, random)
    }

    /// The machine of the master that acts.
    pub(super) fn leader(&self) -> Option<usize> {
        self.shared.state.borrow().leader()
    }

    fn pause(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let machines = self.machines();
        let running = self.shared.running(|hosted| hosted.machine < machines);
        if running.is_empty() {
            return false;
        }
        let one = running[random.place(running.len())];
        let mut paused = vec![one];
        if planned.kind == FaultKind::PauseMachine {
            let machine = self.shared.state.borrow().processes[one].machine;
            paused = self.shared.running(|hosted| hosted.machine == machine);
        }
        let until = self.now() + planned.lasts;
        for process in paused {
            self.shared.state.borrow().processes[process].gate.shut();
            self.due(until, Due::Resume { process });
        }
        true
    }

    /// Masters' disks of which one more may be spoilt: a majority stays as it was.
    fn spoilable(&self, machine: usize) -> bool {
        let state = self.shared.state.borrow();
        let setup = &self.shared.setup;
        let damaged = |at: &usize| state.machines[*at].disk.damaged;
        let spoilt = (0..setup.masters).filter(damaged).count();
        let most = setup.masters - setup.majority();
        machine >= setup.masters || damaged(&machine) || spoilt < most
    }

    /// A machine boots with another disk.
    fn spoil_disk(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let machine = random.place(self.machines());
        let is_empty =
            |stage: &Self, at: usize| stage.shared.state.borrow().machines[at].disk.is_empty();
        if !self.spoilable(machine) || is_empty(self, machine) {
            return false;
        }
        let lasts = Some(planned.lasts + Duration::from_millis(1));
        if planned.kind != FaultKind::SwapDisks {
            self.power_off(machine, lasts);
            let disk = &mut self.shared.state.borrow_mut().machines[machine].disk;
            if planned.kind == FaultKind::RotDisk {
                return disk.rot(random);
            }
            disk.wipe();
            return true;
        }
        let other = random.place(self.machines());
        if other == machine || is_empty(self, other) {
            return false;
        }
        let before = self.damage(machine, true);
        let fits = self.spoilable(other);
        self.damage(machine, before);
        if !fits {
            return false;
        }
        self.power_off(machine, lasts);
        self.power_off(other, lasts);
        let machines = &mut self.shared.state.borrow_mut().machines;
        let (left, right) = machines.split_at_mut(machine.max(other));
        let (left, right) = (&mut left[machine.min(other)].disk, &mut right[0].disk);
        std::mem::swap(left, right);
        (left.damaged, right.damaged) = (true, true);
        true
    }

    fn damage(&self, machine: usize, damaged: bool) -> bool {
        let disk = &mut self.shared.state.borrow_mut().machines[machine].disk;
        std::mem::replace(&mut disk.damaged, damaged)
    }
}
