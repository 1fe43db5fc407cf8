//! The phases of a run: faults, quiet, and then a core of the machines that has to come to its end
//! by itself.

use gear_core::time::{Duration, Time};

use super::stage::{Due, Stage};
use crate::cluster::inspect::{INSPECT_INTERVAL, Inspected, REGION_GOES_ON, inspected};
use crate::cluster::{Look, Output, judged};
use crate::random::Random;

/// Thousandths of the input that are there before the core is healed.
const FED_EARLY: u64 = 700;
/// Steps of the feeding.
const FEEDS: u64 = 50;
/// How often it is looked whether all is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Stage<'_> {
    /// Runs all phases.
    pub(super) fn run(&mut self) {
        self.work.feed(0);
        let feeds = self.shared.setup.feeds;
        let (safety, quiet) = (self.shared.setup.safety, self.shared.setup.quiet);
        self.due(Time::ZERO, Due::Inspect);
        for step in (1..=FEEDS).take_while(|_| feeds) {
            let at = Time::ZERO + safety / FEEDS as u32 * step as u32;
            self.due(at, Due::Feed { permille: step * FED_EARLY / FEEDS });
        }
        self.run_until(Time::ZERO + safety);
        self.shared.state.borrow_mut().calm = true;
        self.run_until(self.now() + quiet);
        if self.is_wrong() {
            return;
        }
        let mut random = Random::for_part(self.shared.setup.seed, 104);
        let core = self.core(&mut random);
        self.heal_only(&core, random.permille(500));
        self.work.feed(1_000);
        let deadline = self.now() + self.shared.setup.patience;
        while !self.is_wrong() && !self.all_done() {
            if self.now() > deadline {
                self.stuck();
                return;
            }
            self.run_until(self.now() + LOOK_INTERVAL);
        }
    }

    /// Looks at every executor, and will again.
    pub(super) fn inspect(&mut self) {
        let now = self.now();
        self.due(now + INSPECT_INTERVAL, Due::Inspect);
        let punctual = self.work.punctual();
        let state = &mut *self.shared.state.borrow_mut();
        let processes = state.processes.iter_mut().enumerate();
        let subjects = processes.filter_map(|(number, hosted)| {
            let app = hosted.app();
            Some((number, app, hosted.subject.as_deref_mut()?))
        });
        let Inspected { mut wrong, resumed, apart, tasks } =
            inspected(subjects, &mut state.watch, punctual);
        for (app, task) in tasks {
            let services = state.services.get_mut(&app);
            wrong.extend(services.and_then(|services| services.commits.runs(task).err()));
        }
        if resumed {
            state.seen("a link was resumed with what it had kept");
        }
        let runs = |look| matches!(look, Look::App(look) if look.runs && apart.contains(&look.app));
        if state.processes.iter().any(|hosted| hosted.alive && runs(hosted.look)) {
            state.seen(REGION_GOES_ON);
        }
        wrong.into_iter().for_each(|violation| state.wrong(now, violation));
    }

    /// A majority of the masters whose disks are as they were, and as many workers as are needed.
    fn core(&self, random: &mut Random) -> Vec<usize> {
        let setup = &self.shared.setup;
        let state = self.shared.state.borrow();
        let mut order: Vec<usize> = (0..self.machines()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, random.place(place + 1));
        }
        order.retain(|machine| !state.machines[*machine].disk.damaged);
        let masters = order.iter().copied().filter(|machine| *machine < setup.masters);
        let mut core: Vec<usize> = masters.take(setup.majority()).collect();
        let slots = |core: &[usize]| -> u32 {
            core.iter().map(|machine| setup.machines[*machine].slots).sum()
        };
        let specs = self.work.specs();
        let needed =
            specs.iter().map(|spec| spec.app_master.slots + spec.executors * spec.executor.slots);
        let needed: u32 = needed.sum();
        for machine in order {
            let more = slots(&core) < needed || random.permille(300);
            if more && !core.contains(&machine) && setup.machines[machine].slots > 0 {
                core.push(machine);
            }
        }
        core
    }

    /// True if the leader knows of all apps, and that each has ended.
    fn all_done(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let state = &mut *self.shared.state.borrow_mut();
        let Some(process) = state.machines[leader].node else { return false };
        let subject = state.processes[process].subject.as_ref();
        let local = state.local(self.now(), process);
        let Some(known) = subject.and_then(|subject| subject.known(local)) else { return false };
        if let Err(violation) = state.watch.updates.leader(&known) {
            state.wrong(self.now(), violation);
        }
        let ended = known.values().filter(|app| app.outcome.is_some()).count();
        ended == self.work.specs().len() && ended == known.len()
    }

    /// The core did not come to its end.
    fn stuck(&self) {
        let now = self.now();
        let state = &mut *self.shared.state.borrow_mut();
        let mut shown = Vec::new();
        for process in 0..state.processes.len() {
            let (local, hosted) = (state.local(now, process), &mut state.processes[process]);
            if let Some(subject) = &mut hosted.subject {
                let at = format!("process {process} on machine {}", hosted.machine);
                shown.push(format!("{at}: {}", subject.describe(local)));
            }
        }
        let shown = shown.join("\n    ");
        state.wrong(now, format!("liveness: the core has not come to its end:\n    {shown}"));
    }

    /// Judges what the apps have left. Gives how many records there are.
    pub(super) fn judge(&self) -> u64 {
        let now = self.now();
        let state = &mut *self.shared.state.borrow_mut();
        let mut records = 0;
        let mut wrong = Vec::new();
        for (app, services) in &mut state.services {
            // What is visible has to be durable too.
            services.disk.crash();
            let output = Output {
                app: &services.name,
                outcome: state.watch.updates.outcomes.outcome(*app),
                disk: &services.disk,
                topics: None,
                commits: &services.commits,
                store: &services.store,
            };
            let (violations, count) = judged(self.work, &output);
            wrong.extend(violations);
            records += count;
        }
        wrong.into_iter().for_each(|violation| state.wrong(now, violation));
        records
    }
}
