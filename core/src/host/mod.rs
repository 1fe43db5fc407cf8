//! What is the same wherever an app runs: in threads, on a cluster, in a simulator.

mod control;
pub mod process;
mod sockets;
#[cfg(test)]
mod tests;

/// Bugs that a simulator can seed, to prove that it would see them. Production runs [`NoFaults`],
/// for which the compiler leaves nothing of them.
pub trait Faults: Send + 'static {
    /// A task takes its snapshot at the first barrier, before its other channels have brought it.
    const SNAPSHOT_BEFORE_ALIGNMENT: bool = false;
    /// A sink commits when it has prepared, before the epoch's record exists.
    const COMMIT_BEFORE_RECORD: bool = false;
    /// A task reports its part of an epoch before the store has confirmed its objects.
    const REPORT_BEFORE_STORED: bool = false;
    /// A restored task leaves the last object of each of its chains out.
    const FORGET_STATE_ON_RESTORE: bool = false;
    /// A worker follows orders of a term, or of a number in it, that is lower than it has heard.
    const ACCEPT_OLD_TERM_ORDERS: bool = false;
    /// A leader orders what no majority of the masters has on disk yet.
    const ACT_ON_UNACKNOWLEDGED: bool = false;
    /// A leader gives the executor in the place of a lost one the same id.
    const REUSE_EXECUTOR_IDS: bool = false;
    /// The masters do not remember which requests they have answered: a repeated one counts twice.
    const FORGET_REQUEST_IDS: bool = false;
}

/// No seeded bug.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
