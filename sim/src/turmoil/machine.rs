//! What runs on a simulated machine: its node's process, started again whenever it ends.

use std::rc::Rc;

use gear_core::time::{Duration, Time};
use gear_net::{Listener, Transport};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::process::{begin, ended, reserve, sockets};
use super::shared::{Job, NODE_PORT, Shared};
use super::transport::address;
use crate::cluster::FaultKind;
use crate::cluster::clock::{Clock, TRUE_RATE};

/// A child outlives its node's process by this at most.
const ORPHAN_MILLIS: u64 = 40;

/// A machine from its boot to the loss of its power.
pub(crate) async fn run(shared: Rc<Shared>, machine: usize) -> turmoil::Result {
    boot(&shared, machine);
    loop {
        let process = reserve(&shared, machine, None);
        let transport = sockets(&shared, machine, process);
        let listener = transport.listen(&address(machine, NODE_PORT)).await?;
        {
            let there = &mut shared.state.borrow_mut().machines[machine];
            there.node = Some(process);
            there.lives += 1;
        }
        let subject = shared.made(process, listener.address()).await?;
        let running = begin(&shared, process, subject, transport, listener);
        ended(&shared, process, running).await;
        shared.state.borrow_mut().machines[machine].node = None;
        for child in shared.children(process) {
            let chance = shared.state.borrow_mut().random.other.below(ORPHAN_MILLIS);
            sleep(Duration::from_millis(chance / 4)).await;
            shared.end(child, "its worker is gone");
        }
        let restart = {
            let state = &mut *shared.state.borrow_mut();
            if state.machines[machine].disk.let_go(&mut state.random.disk) > 0 {
                state.seen("a node died with unanswered writes to its disk");
            }
            state.random.other.below(shared.setup.slow.restart)
        };
        sleep(Duration::from_millis(ORPHAN_MILLIS) + Duration::from_nanos(restart)).await;
    }
}

/// The host of whoever submits the apps: it is always up.
pub(crate) async fn client(shared: Rc<Shared>) -> turmoil::Result {
    let host = shared.setup.machines.len();
    let process = reserve(&shared, host, None);
    let transport = sockets(&shared, host, process);
    let listener = transport.listen(&address(host, NODE_PORT)).await?;
    let subject = shared.made(process, listener.address()).await?;
    let running = begin(&shared, process, subject, transport, listener);
    ended(&shared, process, running).await;
    Ok(())
}

/// The machine gets its power.
fn boot(shared: &Rc<Shared>, machine: usize) {
    let now = shared.now();
    let state = &mut *shared.state.borrow_mut();
    state.trace.note(now, "a machine boots", &[machine as u64]);
    let drift = shared.setup.rates.drift;
    let random = &mut state.random.other;
    let rate = TRUE_RATE - drift + random.below(2 * drift + 1);
    // Nobody may take the clock of one boot for that of another.
    let shown = random.below(1_000_000_000_000);
    let there = &mut state.machines[machine];
    there.clock = Clock::new(now, shown, rate);
    there.full_until = Time::ZERO;
    there.slow_disk_until = Time::ZERO;
    if drift > 0 {
        state.count(FaultKind::Drift);
    }
}

/// The machine of the services that outlive all others.
pub(crate) async fn serve(mut jobs: UnboundedReceiver<Job>) -> turmoil::Result {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(done) = running.join_next() => done?,
            job = jobs.recv() => match job {
                Some(job) => {
                    running.spawn_local(job);
                }
                None => return Ok(()),
            },
        }
    }
}
