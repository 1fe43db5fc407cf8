//! The children of a simulated node: processes on ports of their own.

use std::collections::BTreeMap;
use std::rc::Rc;

use gear_core::control::{LaunchOrder, ProcessId};
use gear_core::time::Duration;
use gear_net::{ChildEvents, Children, Listener, Transport};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::drivers::nap;
use super::process::{begin, ended, reserve, sockets};
use super::shared::{Child, NODE_PORT, Shared};
use super::transport::address;
use crate::cluster::FaultKind;

/// Ports of a machine's children: they come again, so that an old address may lead to somebody
/// else.
const PORTS: u16 = 40;
/// A child that was told to end does so within this many nanoseconds.
const KILL: u64 = 1_000_000;

/// The children of one process.
pub(crate) struct Family {
    shared: Rc<Shared>,
    machine: usize,
    parent: usize,
    tasks: JoinSet<()>,
    /// Children that were ordered, and what ends their launch.
    ordered: BTreeMap<ProcessId, (usize, AbortHandle, ChildEvents)>,
}

impl Family {
    pub(crate) fn new(shared: Rc<Shared>, machine: usize, parent: usize) -> Self {
        Self { shared, machine, parent, tasks: JoinSet::new(), ordered: BTreeMap::new() }
    }
}

impl Children for Family {
    fn spawn(&mut self, order: LaunchOrder, events: ChildEvents) {
        let child = Child { order: order.clone(), parent: self.parent };
        let process = reserve(&self.shared, self.machine, Some(child));
        let id = order.process;
        let launching =
            launch(Rc::clone(&self.shared), self.machine, process, order, events.clone());
        let abort = self.tasks.spawn_local(launching);
        self.ordered.insert(id, (process, abort, events));
    }

    fn kill(&mut self, id: ProcessId) {
        let Some((process, launching, events)) = self.ordered.remove(&id) else { return };
        let alive = self.shared.state.borrow().processes[process].alive;
        if !alive {
            // It was still to be launched, or is gone and that has been said.
            if !launching.is_finished() {
                launching.abort();
                events.exited(id, "it was told to end".into());
            }
            return;
        }
        let shared = Rc::clone(&self.shared);
        let chance = shared.state.borrow_mut().random.other.below(KILL);
        self.tasks.spawn_local(async move {
            nap(KILL, chance).await;
            shared.end(process, "it was told to end");
        });
    }
}

/// Launches a child, and says how it is doing until it is gone.
async fn launch(
    shared: Rc<Shared>,
    machine: usize,
    process: usize,
    order: LaunchOrder,
    events: ChildEvents,
) {
    let (nanos, chance, fails, port) = {
        let rates = shared.rates();
        let state = &mut *shared.state.borrow_mut();
        let random = &mut state.random.other;
        let mut nanos = random.below(shared.setup.slow.spawn);
        let slow = random.permille(rates.spawn_slow);
        let (chance, fails) = (random.next(), random.permille(rates.spawn_fails));
        if slow {
            nanos *= 10;
            state.count(FaultKind::SpawnSlow);
        }
        let ports = &mut state.machines[machine].ports;
        let port = NODE_PORT + 1 + *ports;
        *ports = (*ports + 1) % PORTS;
        (nanos, chance, fails, port)
    };
    nap(nanos, chance).await;
    let id = order.process;
    if fails {
        shared.state.borrow_mut().count(FaultKind::SpawnFails);
        events.exited(id, "it could not be launched: out of processes".into());
        return;
    }
    let transport = sockets(&shared, machine, process);
    let listener = match transport.listen(&address(machine, port)).await {
        Ok(listener) => listener,
        Err(error) => {
            events.exited(id, format!("it cannot listen: {error}"));
            return;
        }
    };
    shared.state.borrow_mut().serve(shared.now(), id.app, &order.spec);
    let made = shared.made(process, listener.address()).await;
    match made {
        Err(reason) => events.exited(id, reason),
        Ok(subject) => {
            let at = listener.address();
            let running = begin(&shared, process, subject, transport, listener);
            events.running(id, at);
            let reason = ended(&shared, process, running).await;
            // The system tells the parent a little later.
            sleep(Duration::from_millis(1)).await;
            events.exited(id, reason);
        }
    }
}
