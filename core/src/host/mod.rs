//! What is the same wherever an app runs: in threads, on a cluster, in a simulator.

mod app;
pub mod command;
mod control;
mod executor;
pub mod figures;
mod links;
mod node;
pub mod process;
mod requests;
mod sockets;
#[cfg(test)]
mod tests;

pub use app::{AppConfig, AppProcess};
pub use executor::{ExecutorConfig, ExecutorProcess};
pub use node::{NodeConfig, NodeProcess};

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
    /// A drain or a change of voters that was carried out is carried out again when it is repeated.
    const REPEAT_ORDERS: bool = false;
    /// A link sends everything that it keeps after a reconnect, and takes everything that comes.
    const RESUME_WITHOUT_DEDUPLICATION: bool = false;
    /// A link keeps nothing of what it has written when its connection breaks.
    const LINK_FORGETS_UNACKNOWLEDGED: bool = false;
    /// A link gives each credit twice.
    const GRANT_CREDIT_TWICE: bool = false;
    /// A link goes on with a peer that was started again.
    const ACCEPT_ANY_SESSION: bool = false;
    /// A region that is rolled back keeps its attempt, and its executors do not mind.
    const REUSE_ATTEMPT_ON_ROLL_BACK: bool = false;
    /// An executor obeys an app master though it has heard a later one.
    const ACCEPT_OLD_APP_TERM: bool = false;
    /// Only the tasks that were lost go back; those joined with them by channels go on.
    const ROLL_BACK_ONLY_LOST_TASKS: bool = false;
    /// A new app master takes what its predecessor ran for running, without asking the executors.
    const TAKE_OVER_WITHOUT_REPORTS: bool = false;
    /// An app master deploys tasks without writing to the commit log that it will, so that nobody
    /// knows of it who takes over.
    const DEPLOY_UNRECORDED: bool = false;
    /// A master answers a vote before its disk has the promise.
    const VOTE_BEFORE_STORED: bool = false;
    /// A leader takes an update for acknowledged as soon as one disk has it, its own perhaps.
    const ACKNOWLEDGE_BEFORE_MAJORITY: bool = false;
    /// A new leader joins the states of all terms, not only of the highest that wrote one.
    const JOIN_OLDER_TERMS: bool = false;
    /// A leader takes new voters for settled, and says so, before any majority has them on disk.
    const SETTLE_VOTERS_BEFORE_MAJORITY: bool = false;
    /// A leader acts on after its lease.
    const IGNORE_LEASE: bool = false;
    /// What was put aside is deleted as soon as it is in the stream again, before its epoch has
    /// committed.
    const REPLAY_LEAVES_BEFORE_COMMIT: bool = false;
}

/// No seeded bug.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
