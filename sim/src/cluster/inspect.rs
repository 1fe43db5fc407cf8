//! Looks at tasks and channels now and then: what they have come to has to fit together.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::id::{AppId, Attempt, ChannelId, TaskId};
use gear_core::link::{ReceiverFigures, SenderFigures};
use gear_core::time::Duration;

use super::fault::FaultKind;
use super::subject::{Channels, Look, Subject, TaskLook};
use super::world::{Event, World};
use crate::oracle::watch::Watch;
use crate::oracle::{audit, credit};

/// Between two looks.
pub(crate) const INSPECT_INTERVAL: Duration = Duration::from_millis(70);

type Key = (AppId, ChannelId, Attempt);

impl World<'_> {
    /// Looks at every executor, and will again.
    pub(crate) fn inspect(&mut self) {
        self.after(INSPECT_INTERVAL, Event::Inspect);
        if self.setup.faults.has(FaultKind::ChangeVoters) {
            self.remember_voters();
        }
        let punctual = self.work.punctual();
        let processes = self.processes.iter_mut().enumerate();
        let subjects = processes.filter_map(|(number, hosted)| {
            let app = hosted.app();
            Some((number, app, hosted.subject.as_deref_mut()?))
        });
        let Inspected { mut wrong, resumed, apart, tasks } =
            inspected(subjects, &mut self.watch, punctual);
        for (app, task) in tasks {
            let home = self.home(app);
            let services = self.services.get_mut(&home);
            wrong.extend(services.and_then(|services| services.commits.runs(task).err()));
        }
        if resumed {
            self.seen("a link was resumed with what it had kept");
        }
        let runs = |look| matches!(look, Look::App(look) if look.runs && apart.contains(&look.app));
        if self.processes.iter().any(|hosted| hosted.alive && runs(hosted.look)) {
            self.seen(REGION_GOES_ON);
        }
        wrong.into_iter().for_each(|violation| self.wrong(violation));
    }
}

/// The rare state of an app of which only a part of the tasks went back to the last epoch: all of
/// them run, and not in the same attempt.
pub(crate) const REGION_GOES_ON: &str = "a region went on while another one went back";

/// What was seen of the processes of apps.
#[derive(Debug, Default)]
pub(crate) struct Inspected {
    /// What is wrong with them.
    pub(crate) wrong: Vec<String>,
    /// A link was resumed.
    pub(crate) resumed: bool,
    /// Apps whose tasks are not all in the same attempt.
    pub(crate) apart: BTreeSet<AppId>,
    /// Every task, with its app.
    pub(crate) tasks: Vec<(AppId, TaskLook)>,
}

/// Looks at processes of apps, each with its number. `punctual` if no record may be late.
pub(crate) fn inspected<'a>(
    subjects: impl Iterator<Item = (usize, AppId, &'a mut (dyn Subject + 'static))>,
    watch: &mut Watch,
    punctual: bool,
) -> Inspected {
    let mut senders: BTreeMap<Key, SenderFigures> = BTreeMap::new();
    let mut receivers: BTreeMap<Key, ReceiverFigures> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut resumed = false;
    let mut tasks = Vec::new();
    // Of executors that were given up and are still there only what nobody else has says anything.
    let mut attempts: BTreeMap<(AppId, TaskId), Attempt> = BTreeMap::new();
    for (number, app, subject) in subjects {
        for task in subject.tasks() {
            let attempt = attempts.entry((app, task.task)).or_default();
            *attempt = task.attempt.max(*attempt);
            wrong.extend(watch.fences.runs(number, task.task, task.attempt).err());
            wrong.extend(watch.clocks.observe(number, &task, punctual).err());
            tasks.push((app, task));
        }
        let Channels { senders: sends, receivers: receives, links } = subject.channels();
        let key = |channel, attempt| (app, channel, attempt);
        senders.extend(sends.into_iter().map(|it| (key(it.channel, it.attempt), it)));
        receivers.extend(receives.into_iter().map(|it| (key(it.channel, it.attempt), it)));
        for link in links {
            wrong.extend(audit::judge(&link).err());
            resumed |= link.repeated > 0;
        }
    }
    for (key, sender) in &senders {
        if let Some(receiver) = receivers.get(key) {
            wrong.extend(credit::judge(sender, receiver).err());
        }
    }
    let pairs = attempts.iter().zip(attempts.iter().skip(1));
    let pairs = pairs.filter(|(one, other)| one.0.0 == other.0.0 && one.1 != other.1);
    let apart = pairs.map(|(one, _)| one.0.0).collect();
    Inspected { wrong, resumed, apart, tasks }
}
