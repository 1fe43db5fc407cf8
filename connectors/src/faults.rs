//! Bugs in connectors that a simulator can seed, to prove that it would see them.

/// A bug that can be seeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A Kafka sink produces an epoch's output at the barrier, before the epoch's record exists.
    ProduceBeforeRecord,
    /// A Kafka sink takes a transaction whose outcome is not known for committed.
    TakeUnknownForCommitted,
    /// A Kafka sink's transaction does not say which epoch's output it holds.
    LeaveOutEpochNumber,
    /// A Kafka sink that opens a producer in the place of a lost one goes by what it has read
    /// before, while the lost one could still commit.
    LookBeforeFence,
    /// A Kafka sink produces the newest of the epochs that are missing first.
    ProduceNewestFirst,
    /// A Kafka sink produces what tasks that there are no more have left under its own id, without
    /// fencing theirs, and without a look at how far they came.
    FenceOwnIdOnly,
    /// A Kafka sink's account names the output of its own epoch only, so that what earlier ones
    /// still have to produce is collected with their records.
    CollectBeforeProduced,
    /// A Kafka sink that holds as much as it may takes no more, though what waits is of an epoch
    /// that can only commit behind a barrier that it does not let pass.
    WaitForUncommitted,
    /// A Kafka sink that goes on behind a part of an epoch's output produces all of it.
    ForgetPart,
    /// A Kafka sink ends a transaction for its time though the segment that was sent last may be in
    /// it, of which nothing was heard.
    EndUnheard,
    /// A file sink trusts what it has written, without a sync.
    LeaveOutSync,
    /// A file sink gives a file its visible name at the barrier, before the epoch's record exists.
    PublishBeforeRecord,
    /// A file sink removes the file that it has copied before any record names the copy.
    RemoveBeforeRecord,
    /// A file source's position is behind all the lines that it has read ahead.
    PositionOfReadAhead,
    /// A file source that finds no end of a line where files cannot be reached gives what there is
    /// of it.
    CutLines,
    /// A Kafka source's positions are behind all that it has fetched.
    PositionsOfFetched,
    /// A Kafka source whose position is gone goes on behind the last record there is, whatever the
    /// job has chosen.
    LatestWhenGone,
    /// A Kafka source whose position is gone goes on with the first record there is where the job
    /// has chosen the end.
    EarliestForLatest,
    /// The same where the job has chosen to fail.
    EarliestForFail,
    /// A Kafka source tells nobody what it passes.
    PassUntold,
    /// A Kafka source that is told that an offset is not there begins anew, as if it had read
    /// nothing.
    BeginAnewOutOfRange,
    /// A Kafka source that goes on from an epoch looks for partitions that turn up from the number
    /// on with which the job has begun, and so reads again those that it had found.
    FindPartitionsAgain,
}

/// Which bugs there are. Production runs [`NoFaults`], for which the compiler leaves nothing of
/// them.
pub trait Faults: Send + Sync + 'static {
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
