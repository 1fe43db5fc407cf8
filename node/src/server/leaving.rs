//! A node that is told to end gives its work to others first, so that nothing goes back to an
//! earlier epoch more often than it must, and its next life takes work again.

use std::time::Duration;

use gear_core::control::{ClusterStatus, ProcessState, Reply, Request, WorkerStatus};
use gear_core::id::NodeId;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::folder::FolderError;
use super::{Cluster, Kept};

/// Between two looks at what still runs here.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the masters may take to answer one question; the next look asks again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// When no master has answered for this long, nobody moves anything: longer than an election takes.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Whether a node has to wait before it ends.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    /// Its work can still move to others.
    Drain,
    /// Nothing runs here.
    Idle,
    /// Nobody else takes work.
    Alone,
}

/// What the state of the cluster means for a node that is to end.
fn stay(status: &ClusterStatus, me: NodeId) -> Stay {
    let has_ended = |state: &ProcessState| matches!(state, ProcessState::Exited { .. });
    let worker = status.workers.get(&me);
    if worker.is_none_or(|it| it.processes.values().all(has_ended)) {
        return Stay::Idle;
    }
    let takes = |it: &WorkerStatus| it.alive && !it.drains && it.capacity.slots > 0;
    let mut others = status.workers.iter().filter(|(node, _)| **node != me);
    if others.any(|(_, it)| takes(it)) { Stay::Drain } else { Stay::Alone }
}

/// The cluster as its leader sees it; none if it does not answer.
async fn look(cluster: &Cluster) -> Option<ClusterStatus> {
    match timeout(ANSWER_TIMEOUT, cluster.request(Request::Cluster)).await {
        Ok(Reply::Cluster(status)) if !status.stale => Some(status),
        _ => None,
    }
}

async fn drain(cluster: &Cluster, drains: bool) -> bool {
    let request = Request::Drain { node: cluster.node(), drains };
    matches!(timeout(ANSWER_TIMEOUT, cluster.request(request)).await, Ok(Reply::Done))
}

/// Moves this node's work away; returns when that is done, cannot be done, or has taken this long.
pub(super) async fn leave(cluster: &Cluster, kept: &Kept, grace: Duration) {
    if grace.is_zero() {
        return;
    }
    let until = Instant::now() + grace;
    let mut told = false;
    let leaving = async {
        let mut heard = Instant::now();
        loop {
            match look(cluster).await.map(|status| (stay(&status, cluster.node()), status)) {
                Some((Stay::Idle, _)) => return "its work has moved to others",
                Some((Stay::Alone, _)) => return "no other node takes its work",
                Some((Stay::Drain, status)) if !told => {
                    let mine = status.workers.get(&cluster.node());
                    // What somebody else has asked for stays as it is.
                    if !mine.is_some_and(|it| it.drains)
                        && let Err(error) = kept.change(|identity| identity.leaves = true)
                    {
                        tracing::warn!(target: "gear", "{error}");
                        return "it cannot remember that it leaves";
                    }
                    told = drain(cluster, true).await;
                    if told {
                        let seconds = grace.as_secs();
                        tracing::info!(
                            target: "gear",
                            "told to end: its work moves to others, for at most {seconds} s; a \
                             second signal ends it at once"
                        );
                    }
                }
                Some(_) => {}
                None if heard.elapsed() > SILENCE_MAX => return "no master answers",
                None => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
            }
            heard = Instant::now();
            sleep(LOOK_EVERY).await;
        }
    };
    match timeout_at(until, leaving).await {
        Ok(why) => tracing::info!(target: "gear", "the node leaves: {why}"),
        Err(_) => tracing::warn!(
            target: "gear",
            "the node leaves with work that has not moved within {grace:?}: others replace it"
        ),
    }
}

/// Takes work again, if an earlier life has given it away since it was told to end.
///
/// # Errors
/// If that cannot be kept.
pub(super) async fn come_back(cluster: &Cluster, kept: &Kept) -> Result<(), FolderError> {
    if kept.identity().leaves && drain(cluster, false).await {
        kept.change(|identity| identity.leaves = false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gear_core::control::{Address, ProcessId, Resources, Role};
    use gear_core::id::{AppId, ExecutorId, Incarnation, MasterTerm};

    use super::*;

    fn worker(processes: &[ProcessState]) -> WorkerStatus {
        let named = |(number, state): (usize, &ProcessState)| {
            let role = Role::Executor(ExecutorId(number.try_into().expect("they are few")));
            (ProcessId { app: AppId(1), role }, state.clone())
        };
        WorkerStatus {
            incarnation: Incarnation(1),
            address: Address::default(),
            capacity: Resources { slots: 4, memory: 1 << 30 },
            used: Resources::default(),
            labels: BTreeMap::new(),
            drains: false,
            alive: true,
            processes: processes.iter().enumerate().map(named).collect(),
        }
    }

    fn cluster(workers: Vec<WorkerStatus>) -> ClusterStatus {
        ClusterStatus {
            stale: false,
            leader: Some(NodeId(0)),
            term: MasterTerm(1),
            voters: BTreeMap::new(),
            updates: 0,
            workers: (0..).map(NodeId).zip(workers).collect(),
        }
    }

    #[test]
    fn a_node_waits_for_as_long_as_its_work_can_move() {
        let runs = [ProcessState::Starting];
        let exited = [ProcessState::Exited { reason: String::new() }];
        let of = |workers| stay(&cluster(workers), NodeId(0));
        assert_eq!(of(vec![worker(&runs), worker(&[])]), Stay::Drain);
        assert_eq!(of(vec![worker(&[]), worker(&runs)]), Stay::Idle);
        assert_eq!(of(vec![worker(&exited), worker(&[])]), Stay::Idle);
        assert_eq!(of(vec![worker(&runs)]), Stay::Alone);
        let dead = WorkerStatus { alive: false, ..worker(&[]) };
        let drains = WorkerStatus { drains: true, ..worker(&[]) };
        let full = WorkerStatus { capacity: Resources::default(), ..worker(&[]) };
        assert_eq!(of(vec![worker(&runs), dead, drains, full]), Stay::Alone);
    }
}
