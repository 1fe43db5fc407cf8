//! The phases of a run: faults, quiet, and then a core of the machines that has to come to its end
//! by itself.
//!
//! Faults that always heal hide those from which nobody recovers. So in the end only a core is
//! healed, a majority of the masters and as many workers as the apps need; everybody else stays
//! dead or cut off for ever.

use std::collections::BTreeSet;

use gear_core::id::AppId;
use gear_core::time::{Duration, Time};

use super::fault::FaultKind;
use super::subject::{ClientStart, KnownApp, Output, judged};
use super::world::{Event, World};
use crate::random::Random;

/// Within this time all machines have booted, in nanoseconds.
const BOOT_SPAN: u64 = 50_000_000;
/// Thousandths of the input that are there before the core is healed.
const FED_EARLY: u64 = 700;
/// Steps of the feeding.
const FEEDS: u64 = 50;
/// How often it is looked whether all is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Steps after which a run goes in circles.
const EVENTS_MAX: u64 = 4_000_000;

impl World<'_> {
    /// Runs all phases.
    pub(crate) fn run(&mut self) {
        self.feed(0);
        for machine in 0..self.machines.len() {
            let at = Time(self.random.other.below(BOOT_SPAN));
            self.push(at, Event::Boot { machine, life: 0 });
        }
        self.start_client();
        self.push(Time::ZERO, Event::Inspect);
        for (place, planned) in self.setup.planned.iter().enumerate() {
            self.push(Time::ZERO + planned.at, Event::Fault { place });
        }
        for step in (1..=FEEDS).take_while(|_| self.setup.feeds) {
            let at = self.setup.safety / FEEDS as u32 * step as u32;
            self.push(Time::ZERO + at, Event::Feed { permille: step * FED_EARLY / FEEDS });
        }
        self.run_until(Time::ZERO + self.setup.safety, Self::in_circles);
        self.trace.note(self.now, "quiet", &[]);
        self.calm = true;
        self.run_until(self.now + self.setup.quiet, Self::in_circles);
        if !self.violations.is_empty() {
            return;
        }
        self.heal();
        self.feed(1_000);
        let deadline = self.now + self.setup.patience;
        while self.violations.is_empty() && !self.all_done() {
            if self.now > deadline {
                self.stuck();
                return;
            }
            self.run_until(self.now + LOOK_INTERVAL, Self::in_circles);
        }
        self.go_on();
    }

    fn in_circles(&mut self) -> bool {
        if self.events > EVENTS_MAX && self.violations.is_empty() {
            self.wrong("liveness: it runs in circles".into());
        }
        false
    }

    fn start_client(&mut self) {
        let host = self.machines.len();
        let masters = match self.setup.faults.has(FaultKind::ChangeVoters) {
            // Whoever votes later is asked as well.
            true => self.nodes(),
            false => self.masters(),
        };
        let client = self.assembly.client(&ClientStart {
            cluster: super::hosted::CLUSTER,
            seed: crate::random::mix(self.setup.seed),
            masters: &masters,
            specs: self.work.specs(),
            wishes: self.work.wishes(),
            resubmit: self.setup.rates.resubmit,
        });
        let address = gear_core::control::Address(format!("m{host}:0"));
        let process = self.add(host, address, None);
        self.begin(process, client);
    }

    /// Heals a core and nobody else, for ever.
    fn heal(&mut self) {
        let mut random = Random::for_part(self.setup.seed, 104);
        let core = self.core(&mut random);
        let cut_off = random.permille(500);
        let numbers: Vec<u64> = core.iter().map(|machine| *machine as u64).collect();
        self.trace.note(self.now, "only this core goes on", &numbers);
        let client = self.machines.len();
        self.stopwatch.heal(self.now);
        for machine in (0..self.machines.len()).filter(|machine| !core.contains(machine)) {
            self.stopwatch.disturb(self.now);
            if cut_off {
                for other in (0..=client).filter(|other| *other != machine) {
                    self.links.shut_both(machine, other, Time::MAX);
                }
            } else {
                self.machines[machine].dead = true;
                self.power_off(machine, None);
            }
        }
        let mut healed = core.clone();
        healed.push(client);
        self.links.heal(&healed);
        self.store_down_until = Time::ZERO;
        self.safe_mode_until = Time::ZERO;
        self.heal_brokers();
        for machine in core {
            let there = &mut self.machines[machine];
            (there.full_until, there.slow_disk_until) = (Time::ZERO, Time::ZERO);
            let failed = there.disk.failed;
            match there.node {
                None => {
                    let life = there.lives;
                    self.push(self.now, Event::Boot { machine, life });
                }
                Some(process) if failed => self.start_again(process, self.now),
                Some(_) => {}
            }
        }
        for process in &mut self.processes {
            process.trap = None;
        }
        self.resume_all();
        self.retransmit();
    }

    /// A majority of the masters whose disks are as they were, and as many workers as are needed.
    fn core(&self, random: &mut Random) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, random.place(place + 1));
        }
        let damaged = |machine: &usize| self.machines[*machine].disk.damaged;
        // A worker has no use for a disk: those whose disk is lost are taken last.
        let spoilt: Vec<usize> = order.iter().copied().filter(damaged).collect();
        order.retain(|machine| !damaged(machine));
        let mut core: Vec<usize> = Vec::new();
        for set in self.voter_sets() {
            let there = core.iter().filter(|machine| set.contains(machine)).count();
            let more = order.iter().copied().filter(|it| set.contains(it) && !core.contains(it));
            let more: Vec<usize> = more.take((set.len() / 2 + 1).saturating_sub(there)).collect();
            core.extend(more);
        }
        let orders = self.watch.orders.as_ref();
        let drains =
            |machine: usize| orders.is_some_and(|orders| orders.may_drain(Self::node_id(machine)));
        let slots = |core: &[usize]| -> u32 {
            let gives = core.iter().filter(|machine| !drains(**machine));
            gives.map(|machine| self.setup.machines[*machine].slots).sum()
        };
        let needed = self.slots_needed();
        for machine in order {
            let more = slots(&core) < needed || random.permille(300);
            if more && !core.contains(&machine) && self.setup.machines[machine].slots > 0 {
                core.push(machine);
            }
        }
        for machine in spoilt {
            if slots(&core) < needed && self.setup.machines[machine].slots > 0 {
                core.push(machine);
            }
        }
        core
    }

    /// Slots that all apps together take.
    pub(crate) fn slots_needed(&self) -> u32 {
        let specs = self.work.specs();
        let specs = specs.iter();
        specs.map(|spec| spec.app_master.slots + spec.executors * spec.executor.slots).sum()
    }

    /// True if the leader knows of all apps, and each has ended, or is through and goes on.
    fn all_done(&mut self) -> bool {
        let Some(process) = self.leader().and_then(|leader| self.machines[leader].node) else {
            return false;
        };
        let subject = self.processes[process].subject.as_ref();
        let Some(known) = subject.and_then(|subject| subject.known(self.local(process))) else {
            return false;
        };
        if let Err(violation) = self.watch.updates.leader(&known) {
            self.wrong(violation);
        }
        let names: BTreeSet<&str> = known.values().map(|app| app.spec.name.as_str()).collect();
        let is_done =
            |(id, app): (&AppId, &KnownApp)| app.outcome.is_some() || self.is_through(*id);
        names.len() == self.work.specs().len() && known.iter().all(is_done)
    }

    /// The core did not come to its end.
    fn stuck(&mut self) {
        let mut shown = Vec::new();
        for process in 0..self.processes.len() {
            let (now, machine) = (self.local(process), self.processes[process].machine);
            if let Some(subject) = &mut self.processes[process].subject {
                let at = format!("process {process} on machine {machine}");
                shown.push(format!("{at}: {}", subject.describe(now)));
            }
        }
        let since = self.now.since(self.last_fault);
        self.wrong(format!(
            "liveness: the core has not come to its end, {since:?} after the last fault:\n    {}",
            shown.join("\n    ")
        ));
    }

    /// Judges what the apps have left. Gives how many records there are.
    pub(crate) fn judge(&mut self) -> u64 {
        let mut records = 0;
        let mut wrong = self.judge_savepoints();
        for (app, services) in &mut self.services {
            // What is visible has to be durable too.
            services.disk.crash();
            // The last of those that went on from where the one before was.
            let last =
                self.homes.iter().rfind(|(_, home)| *home == app).map_or(app, |(app, _)| app);
            let output = Output {
                app: &services.name,
                outcome: self.watch.updates.outcomes.outcome(*last),
                disk: &services.disk,
                // Readers of committed records wait for the end of each transaction.
                topics: services.brokers.as_ref().inspect(|brokers| brokers.expire_all()),
                commits: &services.commits,
                store: &services.store,
            };
            let (violations, count) = judged(self.work, &output);
            wrong.extend(violations);
            records += count;
        }
        wrong.into_iter().for_each(|violation| self.wrong(violation));
        records
    }
}
