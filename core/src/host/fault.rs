//! Bugs in the engine that a simulator can seed, to prove that it would see them.

/// A bug that can be seeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A task takes its snapshot at the first barrier, before its other channels have brought it.
    SnapshotBeforeAlignment,
    /// A sink commits when it has prepared, before the epoch's record exists.
    CommitBeforeRecord,
    /// A task reports its part of an epoch before the store has confirmed its objects.
    ReportBeforeStored,
    /// A restored task leaves the last object of each of its chains out.
    ForgetStateOnRestore,
    /// A worker follows orders of a term, or of a number in it, that is lower than it has heard.
    AcceptOldTermOrders,
    /// A leader orders what no majority of the masters has on disk yet.
    ActOnUnacknowledged,
    /// A leader gives the executor in the place of a lost one the same id.
    ReuseExecutorIds,
    /// The masters do not remember which requests they have answered: a repeated one counts twice.
    ForgetRequestIds,
    /// A drain or a change of voters that was carried out is carried out again when it is repeated.
    RepeatOrders,
    /// A link sends everything that it keeps after a reconnect, and takes everything that comes.
    ResumeWithoutDeduplication,
    /// A link keeps nothing of what it has written when its connection breaks.
    LinkForgetsUnacknowledged,
    /// A link gives each credit twice.
    GrantCreditTwice,
    /// A link goes on with a peer that was started again.
    AcceptAnySession,
    /// A region that is rolled back keeps its attempt, and its executors do not mind.
    ReuseAttemptOnRollBack,
    /// An executor obeys an app master though it has heard a later one.
    AcceptOldAppTerm,
    /// Only the tasks that were lost go back; those joined with them by channels go on.
    RollBackOnlyLostTasks,
    /// A new app master takes what its predecessor ran for running, without asking the executors.
    TakeOverWithoutReports,
    /// An app master deploys tasks without writing to the commit log that it will, so that nobody
    /// knows of it who takes over.
    DeployUnrecorded,
    /// A master answers a vote before its disk has the promise.
    VoteBeforeStored,
    /// A leader takes an update for acknowledged as soon as one disk has it, its own perhaps.
    AcknowledgeBeforeMajority,
    /// A new leader joins the states of all terms, not only of the highest that wrote one.
    JoinOlderTerms,
    /// A leader takes new voters for settled, and says so, before any majority has them on disk.
    SettleVotersBeforeMajority,
    /// A leader acts on after its lease.
    IgnoreLease,
    /// What was put aside is deleted as soon as it is in the stream again, before its epoch has
    /// committed.
    ReplayLeavesBeforeCommit,
}

/// Which bugs there are. Production runs [`NoFaults`], for which the compiler leaves nothing of
/// them.
pub trait Faults: Send + 'static {
    /// True if this bug is there.
    fn has(fault: Fault) -> bool;
}

/// No seeded bug.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    #[inline(always)]
    fn has(_: Fault) -> bool {
        false
    }
}
