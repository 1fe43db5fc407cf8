//! How other threads have a loop's process do something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gear_core::control::Address;
use gear_core::host::process::{Answer, Command, ProcessInput};
use gear_core::id::NodeId;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// What waits for a loop to hear it; whoever has more to say waits.
const SAID_MAX: usize = 64;
/// Commands of a loop that are not answered; further ones are refused. Each holds a request, and
/// people and programs that look on ask a few a second.
const COMMANDS_MAX: usize = 1_024;

/// Something for a loop to hear.
#[derive(Debug)]
pub(crate) enum Said {
    Command(Command, oneshot::Sender<Answer>),
    Known(NodeId, Address),
}

/// Speaks to the process of an [`EventLoop`](crate::EventLoop), from any thread, for as long as the
/// loop lasts.
#[derive(Clone, Debug)]
pub struct Handle {
    said: Sender<Said>,
    turned_away: Arc<AtomicU64>,
}

impl Handle {
    /// Has the process do something, and waits for what comes of it.
    ///
    /// Every command is answered once: by the process within its deadline, or by
    /// [`Answer::Refused`] when the loop has ended. Dropped, the command is still done.
    pub async fn command(&self, command: Command) -> Answer {
        let (asker, answer) = oneshot::channel();
        let heard = self.said.send(Said::Command(command, asker)).await;
        let answer = match heard {
            Ok(()) => answer.await.ok(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Answer::Refused {
            reason: "the process has ended: start it again, and ask again".into(),
        })
    }

    /// Connections that others have opened and that were closed before they were let in: by what
    /// secures them, by the loop's bounds, or by the process.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Tells the process where a node listens. What a loop that is busy has no room to hear is
    /// forgotten: whoever finds nodes says it again.
    pub fn known(&self, node: NodeId, address: Address) {
        let _ = self.said.try_send(Said::Known(node, address));
    }
}

/// The loop's end: who waits for the answer to which command.
#[derive(Debug)]
pub(crate) struct Commands {
    /// One end is kept here, so that the other never hears that all are gone.
    handle: Handle,
    said: Receiver<Said>,
    asked: BTreeMap<u64, oneshot::Sender<Answer>>,
    next: u64,
    /// What the handles show of strangers.
    turned_away: u64,
}

impl Commands {
    pub(crate) fn new() -> Self {
        let (handle, said) = channel(SAID_MAX);
        let handle = Handle { said: handle, turned_away: Arc::default() };
        Self { handle, said, asked: BTreeMap::new(), next: 0, turned_away: 0 }
    }

    /// Lets whoever has a handle see how many strangers were not let in. What they share is written
    /// on a change only: this is asked with every input.
    pub(crate) fn note_turned_away(&mut self, turned_away: u64) {
        if self.turned_away != turned_away {
            self.turned_away = turned_away;
            self.handle.turned_away.store(turned_away, Ordering::Relaxed);
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What was said next; dropped, nothing is lost.
    pub(crate) async fn next(&mut self) -> Said {
        self.said.recv().await.expect("one end is kept here")
    }

    pub(crate) fn try_next(&mut self) -> Option<Said> {
        self.said.try_recv().ok()
    }

    /// What the process is to hear of it; nothing if too much is unanswered.
    pub(crate) fn take(&mut self, said: Said) -> Option<ProcessInput> {
        match said {
            Said::Known(node, address) => Some(ProcessInput::Known { node, address }),
            Said::Command(command, asker) => {
                if self.asked.len() >= COMMANDS_MAX {
                    let reason =
                        format!("{COMMANDS_MAX} commands are unanswered already: ask again later");
                    let _ = asker.send(Answer::Refused { reason });
                    return None;
                }
                let id = self.next;
                self.next += 1;
                self.asked.insert(id, asker);
                Some(ProcessInput::Command { id, command })
            }
        }
    }

    /// The process has answered; one who does not wait any more does not mind.
    pub(crate) fn answer(&mut self, id: u64, answer: Answer) {
        let asker = self.asked.remove(&id).expect("a command is answered once");
        let _ = asker.send(answer);
    }
}
