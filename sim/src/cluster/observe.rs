//! What the oracles are shown of a running cluster, and which rare states it reaches.

use gear_core::control::{Role, Wish};
use gear_core::effect::Notice;
use gear_core::id::{AppId, AppTerm, MasterTerm};

use super::fault::FaultKind;
use super::hosted::LogState;
use super::subject::{Answer, AppLook, ExecutorLook, Look, NodeLook};
use super::world::{Machine, World};
use crate::oracle::deadlines;

impl World<'_> {
    /// A process has made a step.
    pub(crate) fn watched(&mut self, process: usize, look: Look) {
        let before = std::mem::replace(&mut self.processes[process].look, look);
        let judged = match look {
            _ if look == before => return,
            Look::Nothing => Ok(()),
            Look::Node(now) => self.node_watched(process, &before, now),
            Look::App(now) => self.app_watched(process, &before, now),
            Look::Executor(ExecutorLook { term: AppTerm(0), .. }) => Ok(()),
            Look::Executor(now) => self.watch.fences.obeys(process, now.term),
            Look::Client(_) => self.client_watched(process),
        };
        if let Err(violation) = judged {
            self.wrong(violation);
        }
    }

    /// A process has got what it wanted: if it waits for anybody, it has a deadline.
    pub(crate) fn waits(&mut self, process: usize) {
        let hosted = &self.processes[process];
        let Some(subject) = &hosted.subject else { return };
        if hosted.machine < self.machines.len() && !hosted.catches_up {
            let now = self.local(process);
            let judged = deadlines::judge(hosted.conns.len(), subject.next_timeout(), now);
            if let Err(violation) = judged {
                self.wrong(format!("process {process}: {violation}"));
            }
        }
    }

    fn node_watched(&mut self, process: usize, before: &Look, now: NodeLook) -> Result<(), String> {
        let id = Self::node_id(self.processes[process].machine);
        let leads = now.acts || now.writes_back;
        self.watch.leaders.observe((id, process as u64), now.term, leads)?;
        self.watch.fences.follows(process, now.follows)?;
        let acted = matches!(before, Look::Node(look) if look.acts);
        if now.acts && !acted {
            self.stopwatch.leader_acts(self.now);
            self.leader_knows(process)?;
            self.leader_begins(process, now.term)?;
            self.relieve(process);
        }
        if acted && !now.acts {
            self.seen("a leader stepped down");
        }
        if now.writes_back && !matches!(before, Look::Node(look) if look.writes_back) {
            self.ambush(process, FaultKind::AmbushLeader);
            self.ambush(process, FaultKind::AmbushElection);
        }
        Ok(())
    }

    fn client_watched(&mut self, process: usize) -> Result<(), String> {
        let subject = self.processes[process].subject.as_mut();
        for answer in subject.map(|subject| subject.answers()).unwrap_or_default() {
            match answer {
                Answer::Submitted { id, app, spec } => {
                    let repeated = self.watch.updates.knows(id);
                    self.watch.updates.submitted(id, app, &spec)?;
                    self.told()?;
                    if repeated {
                        self.count(FaultKind::Resubmit);
                    } else {
                        self.strike_acknowledger();
                    }
                }
                Answer::Wished { app, wish } => {
                    self.seen(match wish {
                        Wish::Kill => "an app was to be killed",
                        _ => "an app was to stop",
                    });
                    self.watch.updates.wished(app, wish);
                    self.told()?;
                }
                Answer::TooLate { app } => {
                    self.seen("an app had ended before the user could end it");
                    self.watch.updates.outcomes.too_late(app);
                    self.told()?;
                }
                Answer::Read { stale: true } => self.seen("a stale answer was marked"),
                Answer::Read { stale: false } => {}
                Answer::Wrong(text) => return Err(text),
            }
        }
        Ok(())
    }

    /// A client was told something that will not be forgotten: whoever acts now has to know of it.
    pub(crate) fn told(&mut self) -> Result<(), String> {
        match self.leader().and_then(|at| self.machines[at].node) {
            Some(process) => self.leader_knows(process),
            None => Ok(()),
        }
    }

    /// A leader that acts is asked what it knows.
    pub(crate) fn leader_knows(&mut self, process: usize) -> Result<(), String> {
        let subject = self.processes[process].subject.as_ref();
        let now = self.local(process);
        let cluster = subject.and_then(|subject| subject.cluster(now));
        if let (Some(known), Some(orders)) = (cluster, &self.watch.orders) {
            orders.leader(&known)?;
        }
        match subject.and_then(|subject| subject.known(now)) {
            Some(known) => self.watch.updates.leader(&known),
            None => Ok(()),
        }
    }

    /// A leader begins to act.
    fn leader_begins(&mut self, process: usize, term: MasterTerm) -> Result<(), String> {
        let subject = self.processes[process].subject.as_ref();
        match subject.and_then(|subject| subject.stamps(self.local(process))) {
            Some(stamps) => self.watch.voids.begins(term, stamps),
            None => Ok(()),
        }
    }

    fn app_watched(&mut self, process: usize, before: &Look, now: AppLook) -> Result<(), String> {
        let logged = self
            .services
            .get(&self.home(now.app))
            .map_or_else(Default::default, |services| services.commits.last());
        self.watch.fences.believes((now.app, now.term), now.committed, logged)?;
        let Look::App(before) = before else { return Ok(()) };
        if now.recovers && !before.recovers {
            self.ambush(process, FaultKind::AmbushExecutor);
        }
        if before.recovers && !now.recovers && now.runs {
            self.seen("an app went back to its last epoch and runs again");
            if now.roll_backs == 0 {
                self.seen("a new app master took running tasks over, or took all back");
            }
            self.stopwatch.rolled(now.app);
        }
        if now.ended && !before.ended {
            self.stopwatch.output(self.now, now.app, true);
        }
        Ok(())
    }

    /// An epoch has committed.
    pub(crate) fn committed(&mut self, app: AppId) {
        self.stopwatch.output(self.now, app, false);
        if self.masters_up() == 0 {
            self.seen("an epoch committed while all masters were down");
        } else if self.leader().is_none() {
            self.seen("an epoch committed without a leader");
        }
        let leads = self.processes.iter().filter(|hosted| {
            hosted.alive && matches!(hosted.role(), Some(Role::AppMaster(_))) && hosted.app() == app
        });
        if leads.count() > 1 {
            self.seen("an epoch committed while two app masters were alive");
        }
    }

    fn masters_up(&self) -> usize {
        self.voting().into_iter().filter(|master| self.machines[*master].node.is_some()).count()
    }

    /// True if more is wrong than that a machine is down, or only a process of it: another one is
    /// down too, a master cannot vote, or nobody is left to lead or to take the tasks.
    fn is_troubled(&self, machine: usize, down: bool) -> bool {
        let voting = self.voting();
        let unfit = |(place, there): (usize, &Machine)| {
            let is_down = place != machine && (!there.up || there.node.is_none());
            let spoilt = voting.contains(&place) && there.disk.damaged;
            is_down || spoilt || there.disk.failed
        };
        let alone = voting.len() == 1 && voting.contains(&machine);
        self.machines.iter().enumerate().any(unfit)
            || down && (alone || !self.fits_without(machine))
    }

    /// True if the other machines have slots for everything.
    fn fits_without(&self, machine: usize) -> bool {
        let others = self.setup.machines.iter().enumerate().filter(|(place, _)| *place != machine);
        let slots: u32 = others.map(|(_, resources)| resources.slots).sum();
        slots >= self.slots_needed()
    }

    /// A process is gone, with its machine perhaps; what was seen of it last is still there.
    pub(crate) fn died(&mut self, process: usize, silent: bool) {
        let hosted = &self.processes[process];
        let machine = hosted.machine;
        let down = silent || self.machines.get(machine).is_some_and(|there| there.node.is_none());
        match hosted.look {
            Look::Node(look) => {
                if look.acts {
                    let troubled = self.is_troubled(machine, true);
                    self.stopwatch.leader_died(self.now, troubled);
                    self.seen("the leader was lost");
                    if self.operator.changes_voters() {
                        self.seen("the leader was lost while voters changed");
                    }
                }
                if look.writes_back {
                    self.seen("a leader was lost while it wrote back");
                }
            }
            Look::App(look) => {
                self.stopwatch.recoveries += 1;
                if look.ended {
                    return;
                }
                self.seen("an app master was lost");
                match self.processes[process].log {
                    LogState::Quiet => {}
                    LogState::Asked => {
                        self.seen("an app master was lost with a record on its way to the log");
                    }
                    LogState::Appended => {
                        self.seen("an app master was lost before it heard of its record");
                    }
                }
                if look.recovers {
                    self.seen("an app master was lost while tasks were rolled back");
                }
            }
            Look::Executor(look) => {
                self.stopwatch.recoveries += 1;
                let master = self.processes.iter().rev().find_map(|hosted| match hosted.look {
                    Look::App(master) if master.app == look.app => Some((master, hosted.alive)),
                    _ => None,
                });
                if look.works && master.is_some_and(|(master, _)| !master.ended) {
                    let troubled = self.is_troubled(machine, down);
                    self.stopwatch.executor_died(self.now, look.app, (silent, troubled));
                }
                match master.filter(|(_, alive)| *alive).map(|(master, _)| master) {
                    Some(master) if master.ended => {}
                    Some(master) => {
                        self.seen("an executor was lost");
                        if master.recovers {
                            self.seen("an executor was lost while tasks were rolled back");
                        }
                    }
                    None => self.seen("an executor was lost while there was no app master"),
                }
            }
            Look::Nothing | Look::Client(_) => {}
        }
    }

    /// A process tells the user something.
    pub(crate) fn noticed(&mut self, process: usize, notice: &Notice) {
        self.trace.write(self.now, || format!("process {process} says: {}", notice.text));
        self.app_told(self.processes[process].app(), &notice.text);
    }
}
