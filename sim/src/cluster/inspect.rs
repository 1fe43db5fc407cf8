//! Looks at tasks and channels now and then: what they have come to has to fit together.

use std::collections::BTreeMap;

use gear_core::id::{AppId, Attempt, ChannelId};
use gear_core::link::{ReceiverFigures, SenderFigures};
use gear_core::time::Duration;

use super::subject::Channels;
use super::world::{Event, World};
use crate::oracle::{audit, credit};

/// Between two looks.
const INSPECT_INTERVAL: Duration = Duration::from_millis(70);

type Key = (AppId, ChannelId, Attempt);

impl World<'_> {
    /// Looks at every executor, and will again.
    pub(crate) fn inspect(&mut self) {
        self.after(INSPECT_INTERVAL, Event::Inspect);
        let punctual = self.work.punctual();
        let mut senders: BTreeMap<Key, SenderFigures> = BTreeMap::new();
        let mut receivers: BTreeMap<Key, ReceiverFigures> = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut resumed = false;
        for (number, hosted) in self.processes.iter_mut().enumerate() {
            let app = hosted.app();
            let Some(subject) = hosted.subject.as_mut() else { continue };
            for task in subject.tasks() {
                wrong.extend(self.watch.fences.runs(number, task.task, task.attempt).err());
                wrong.extend(self.watch.clocks.observe(number, task, punctual).err());
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
        if resumed {
            self.seen("a link was resumed with what it had kept");
        }
        wrong.into_iter().for_each(|violation| self.wrong(violation));
    }
}
