//! What the oracles are shown of a running cluster, and which rare states it reaches. The rules
//! are those of the direct simulator.

use gear_core::control::{Role, Wish};
use gear_core::id::{AppId, AppTerm};
use gear_core::time::Time;

use super::shared::{Machine, Shared, State};
use crate::cluster::{Answer, AppLook, ExecutorLook, FaultKind, LogState, Look, NodeLook};
use crate::oracle::deadlines;

impl State {
    /// A process has made a step: it holds or dials so many connections, and wants to be woken at
    /// a time of its own clock.
    pub(crate) fn watched(
        &mut self,
        now: Time,
        process: usize,
        (connections, next): (usize, Option<Time>),
        look: Look,
    ) {
        let machine = self.processes[process].machine;
        let judged = match self.machines.get(machine) {
            Some(there) => deadlines::judge(connections, next, there.clock.local(now)),
            None => Ok(()),
        };
        if let Err(violation) = judged {
            self.wrong(now, format!("process {process}: {violation}"));
            return;
        }
        let before = std::mem::replace(&mut self.processes[process].look, look);
        let judged = match look {
            _ if look == before => return,
            Look::Nothing => Ok(()),
            Look::Node(look) => self.node_watched(now, process, &before, look),
            Look::App(look) => self.app_watched(now, process, &before, look),
            Look::Executor(ExecutorLook { term: AppTerm(0), .. }) => Ok(()),
            Look::Executor(look) => self.watch.fences.obeys(process, look.term),
            Look::Client(_) => self.client_watched(now, process),
        };
        if let Err(violation) = judged {
            self.wrong(now, violation);
        }
    }

    fn node_watched(
        &mut self,
        now: Time,
        process: usize,
        before: &Look,
        look: NodeLook,
    ) -> Result<(), String> {
        let id = Shared::node_id(self.processes[process].machine);
        let leads = look.acts || look.writes_back;
        self.watch.leaders.observe((id, process as u64), look.term, leads)?;
        self.watch.fences.follows(process, look.follows)?;
        let acted = matches!(before, Look::Node(before) if before.acts);
        if look.acts && !acted {
            self.stopwatch.leader_acts(now);
            self.leader_knows(now, process)?;
        }
        if acted && !look.acts {
            self.seen("a leader stepped down");
        }
        if look.writes_back && !matches!(before, Look::Node(before) if before.writes_back) {
            self.ambush(process, FaultKind::AmbushLeader);
        }
        Ok(())
    }

    fn client_watched(&mut self, now: Time, process: usize) -> Result<(), String> {
        let subject = self.processes[process].subject.as_mut();
        for answer in subject.map(|subject| subject.answers()).unwrap_or_default() {
            match answer {
                Answer::Submitted { id, app, spec } => {
                    self.watch.updates.submitted(id, app, &spec)?;
                    self.told(now)?;
                }
                Answer::Wished { app, wish } => {
                    self.seen(match wish {
                        Wish::Kill => "an app was to be killed",
                        _ => "an app was to stop",
                    });
                    self.watch.updates.wished(app, wish);
                    self.told(now)?;
                }
                Answer::TooLate { app } => {
                    self.seen("an app had ended before the user could end it");
                    self.watch.updates.outcomes.too_late(app);
                    self.told(now)?;
                }
                Answer::Read { stale: true } => self.seen("a stale answer was marked"),
                Answer::Read { stale: false } => {}
                Answer::Wrong(text) => return Err(text),
            }
        }
        Ok(())
    }

    /// A client was told something that will not be forgotten: whoever acts now has to know of it.
    fn told(&mut self, now: Time) -> Result<(), String> {
        match self.leader().and_then(|at| self.machines[at].node) {
            Some(process) => self.leader_knows(now, process),
            None => Ok(()),
        }
    }

    /// A leader that acts is asked what it knows.
    fn leader_knows(&mut self, now: Time, process: usize) -> Result<(), String> {
        let local = self.local(now, process);
        let subject = self.processes[process].subject.as_ref();
        match subject.and_then(|subject| subject.known(local)) {
            Some(known) => self.watch.updates.leader(&known),
            None => Ok(()),
        }
    }

    fn app_watched(
        &mut self,
        now: Time,
        process: usize,
        before: &Look,
        look: AppLook,
    ) -> Result<(), String> {
        let services = self.services.get(&look.app);
        let logged = services.map_or_else(Default::default, |services| services.commits.last());
        self.watch.fences.believes((look.app, look.term), look.committed, logged)?;
        let Look::App(before) = before else { return Ok(()) };
        if look.recovers && !before.recovers {
            self.ambush(process, FaultKind::AmbushExecutor);
        }
        if before.recovers && !look.recovers && look.runs {
            self.seen("an app went back to its last epoch and runs again");
            self.stopwatch.rolled(look.app);
        }
        if look.ended && !before.ended {
            self.stopwatch.output(now, look.app, true);
        }
        Ok(())
    }

    /// An epoch has committed.
    pub(crate) fn committed(&mut self, now: Time, app: AppId) {
        self.stopwatch.output(now, app, false);
        let masters = &self.machines[..self.masters];
        if masters.iter().all(|machine| machine.node.is_none()) {
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

    /// True if more is wrong than that a machine is down, or only a process of it: another one is
    /// down too, a master cannot vote, or nobody is left to lead.
    fn is_troubled(&self, machine: usize, leads: bool) -> bool {
        let unfit = |(place, there): (usize, &Machine)| {
            let is_down = place != machine && (!there.up || there.node.is_none());
            is_down || place < self.masters && there.disk.damaged || there.disk.failed
        };
        self.machines.iter().enumerate().any(unfit) || leads && self.masters == 1
    }

    /// A process is gone; what was seen of it last is still there.
    pub(crate) fn died(&mut self, now: Time, process: usize) {
        let machine = self.processes[process].machine;
        match self.processes[process].look {
            Look::Node(look) => {
                if look.acts {
                    let troubled = self.is_troubled(machine, true);
                    self.stopwatch.leader_died(now, troubled);
                    self.seen("the leader was lost");
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
                    Look::App(master) if hosted.alive && master.app == look.app => Some(master),
                    _ => None,
                });
                match master {
                    Some(master) if master.ended => {}
                    Some(master) => {
                        if look.works {
                            let troubled = self.is_troubled(machine, false);
                            let dark = !self.machines[machine].up;
                            self.stopwatch.executor_died(now, look.app, (dark, troubled));
                        }
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
}
