//! Looks at tasks and channels now and then: what they have come to has to fit together.

use std::collections::BTreeMap;

use gear_core::id::{AppId, Attempt, ChannelId};
use gear_core::link::{ReceiverFigures, SenderFigures};
use gear_core::time::Duration;

use super::subject::{Channels, Subject};
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
        let punctual = self.work.punctual();
        let processes = self.processes.iter_mut().enumerate();
        let subjects = processes.filter_map(|(number, hosted)| {
            let app = hosted.app();
            Some((number, app, hosted.subject.as_deref_mut()?))
        });
        let (wrong, resumed) = inspected(subjects, &mut self.watch, punctual);
        if resumed {
            self.seen("a link was resumed with what it had kept");
        }
        wrong.into_iter().for_each(|violation| self.wrong(violation));
    }
}

/// What is wrong with processes of apps, each with its number; and whether a link was resumed.
/// `punctual` if no record may be late.
pub(crate) fn inspected<'a>(
    subjects: impl Iterator<Item = (usize, AppId, &'a mut (dyn Subject + 'static))>,
    watch: &mut Watch,
    punctual: bool,
) -> (Vec<String>, bool) {
    let mut senders: BTreeMap<Key, SenderFigures> = BTreeMap::new();
    let mut receivers: BTreeMap<Key, ReceiverFigures> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut resumed = false;
    for (number, app, subject) in subjects {
        for task in subject.tasks() {
            wrong.extend(watch.fences.runs(number, task.task, task.attempt).err());
            wrong.extend(watch.clocks.observe(number, task, punctual).err());
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
    (wrong, resumed)
}
