//! The child processes of a node, for whoever wants to see or ask them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use gear_core::control::{Address, ProcessId};
use gear_core::host::process::{Answer, Command};
use gear_core::limits::SAVEPOINT_DEADLINE;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Processes that have ended and are still shown.
const ENDED_MAX: usize = 256;
/// Commands that wait for a child to read them.
const COMMANDS_MAX: usize = 64;
/// How long whoever asks a child waits: longer than any answer takes that the engine bounds.
const ANSWER_TIMEOUT: Duration = SAVEPOINT_DEADLINE.saturating_add(Duration::from_secs(5));

/// How a child process is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It has been launched, or is about to be.
    Starting,
    /// It listens.
    Running {
        /// Where.
        address: Address,
    },
    /// It is gone.
    Exited {
        /// What a user should know of it.
        reason: String,
        /// When.
        at: SystemTime,
    },
}

/// A child process.
#[derive(Clone, Debug)]
pub struct ChildInfo {
    /// Its number in the operating system; none before it was started.
    pub pid: Option<u32>,
    /// When it was launched.
    pub since: SystemTime,
    /// How it is doing.
    pub state: ChildState,
    /// What it has said of itself last; none if it has not yet.
    pub status: Option<Answer>,
}

/// A command on its way to a child, and who waits for the answer.
pub(crate) type Asked = (Command, oneshot::Sender<Answer>);

#[derive(Debug)]
struct Entry {
    info: ChildInfo,
    commands: mpsc::Sender<Asked>,
    /// Which launch of the process this is: an earlier one that ends says nothing of it.
    launch: u64,
}

/// The child processes of a node.
#[derive(Clone, Debug, Default)]
pub struct ChildTable {
    entries: Arc<Mutex<BTreeMap<ProcessId, Entry>>>,
}

impl ChildTable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every process that runs here, and those that have ended lately.
    #[must_use]
    pub fn list(&self) -> BTreeMap<ProcessId, ChildInfo> {
        self.lock().iter().map(|(process, entry)| (*process, entry.info.clone())).collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, process: ProcessId) -> Option<ChildInfo> {
        self.lock().get(&process).map(|entry| entry.info.clone())
    }

    /// Has a process here do something, and waits for what comes of it.
    pub async fn command(&self, process: ProcessId, command: Command) -> Answer {
        let refused = |reason: String| Answer::Refused { reason };
        let commands = self.lock().get(&process).map(|entry| entry.commands.clone());
        let Some(commands) = commands else {
            return refused(format!("the {process} does not run on this node"));
        };
        let (asker, answer) = oneshot::channel();
        if commands.try_send((command, asker)).is_err() {
            return refused(format!("the {process} has ended, or does not keep up with commands"));
        }
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => refused(format!("the {process} has ended")),
            Err(_) => refused(format!(
                "the {process} has not answered within {} s",
                ANSWER_TIMEOUT.as_secs()
            )),
        }
    }

    /// A process is about to be launched; gives what it will be asked.
    pub(crate) fn starts(&self, process: ProcessId, launch: u64) -> mpsc::Receiver<Asked> {
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let info = ChildInfo {
            pid: None,
            since: SystemTime::now(),
            state: ChildState::Starting,
            status: None,
        };
        let mut entries = self.lock();
        entries.insert(process, Entry { info, commands, launch });
        let ended = entries.iter().filter_map(|(process, entry)| match &entry.info.state {
            ChildState::Exited { at, .. } => Some((*at, *process)),
            _ => None,
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort();
        let over = ended.len().saturating_sub(ENDED_MAX);
        for (_, process) in ended.into_iter().take(over) {
            entries.remove(&process);
        }
        asked
    }

    /// Something is to be noted of a launch of a process.
    pub(crate) fn note(&self, process: ProcessId, launch: u64, note: impl FnOnce(&mut ChildInfo)) {
        if let Some(entry) = self.lock().get_mut(&process)
            && entry.launch == launch
        {
            note(&mut entry.info);
        }
    }
}

#[cfg(test)]
mod tests {
    use gear_core::control::Role;
    use gear_core::id::{AppId, ExecutorId};

    use super::*;

    fn process(number: u32) -> ProcessId {
        ProcessId { app: AppId(1), role: Role::Executor(ExecutorId(number)) }
    }

    #[test]
    fn those_that_have_ended_are_forgotten_oldest_first() {
        let table = ChildTable::default();
        for number in 0..2 * ENDED_MAX as u32 {
            table.starts(process(number), u64::from(number));
            table.note(process(number), u64::from(number), |info| {
                info.state = ChildState::Exited { reason: "over".into(), at: SystemTime::now() };
            });
        }
        let running = process(9_999);
        table.starts(running, 9_999);
        let list = table.list();
        assert_eq!(list.len(), ENDED_MAX + 1);
        assert!(list.contains_key(&running) && !list.contains_key(&process(0)));
    }

    #[tokio::test]
    async fn who_is_gone_or_unknown_is_not_waited_for() {
        let table = ChildTable::default();
        let unknown = table.command(process(1), Command::Status).await;
        assert!(matches!(unknown, Answer::Refused { reason } if reason.contains("does not run")));
        let asked = table.starts(process(1), 1);
        let asking = table.command(process(1), Command::Status);
        drop(asked);
        assert!(matches!(asking.await, Answer::Refused { reason } if reason.contains("ended")));
    }

    #[test]
    fn an_earlier_launch_says_nothing_of_a_later_one() {
        let table = ChildTable::default();
        table.starts(process(1), 1);
        table.starts(process(1), 2);
        table.note(process(1), 1, |info| info.pid = Some(1));
        assert_eq!(table.get(process(1)).expect("it is there").pid, None);
    }
}
