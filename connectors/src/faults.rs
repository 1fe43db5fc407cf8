//! Bugs in connectors that a simulator can seed, to prove that it would see them.

/// Which of them there are. Production runs [`NoFaults`], for which the compiler leaves nothing of
/// them.
pub trait Faults: Send + Sync + 'static {
    /// A Kafka sink produces an epoch's output at the barrier, before the epoch's record exists.
    const PRODUCE_BEFORE_RECORD: bool = false;
    /// A Kafka sink takes a transaction whose outcome is not known for committed.
    const TAKE_UNKNOWN_FOR_COMMITTED: bool = false;
    /// A Kafka sink's transaction does not say which epoch's output it holds.
    const LEAVE_OUT_EPOCH_NUMBER: bool = false;
    /// A Kafka sink that opens a producer in the place of a lost one goes by what it has read
    /// before, while the lost one could still commit.
    const LOOK_BEFORE_FENCE: bool = false;
    /// A Kafka sink produces the newest of the epochs that are missing first.
    const PRODUCE_NEWEST_FIRST: bool = false;
    /// A Kafka sink produces what tasks that there are no more have left under its own id, without
    /// fencing theirs, and without a look at how far they came.
    const FENCE_OWN_ID_ONLY: bool = false;
    /// A Kafka sink's account names the output of its own epoch only, so that what earlier ones
    /// still have to produce is collected with their records.
    const COLLECT_BEFORE_PRODUCED: bool = false;
    /// A file sink trusts what it has written, without a sync.
    const LEAVE_OUT_SYNC: bool = false;
    /// A file sink gives a file its visible name at the barrier, before the epoch's record exists.
    const PUBLISH_BEFORE_RECORD: bool = false;
    /// A file sink removes the file that it has copied before any record names the copy.
    const REMOVE_BEFORE_RECORD: bool = false;
    /// A Kafka source's positions are behind all that it has fetched.
    const POSITIONS_OF_FETCHED: bool = false;
    /// A Kafka source whose position is gone goes on behind the last record there is, whatever the
    /// job has chosen.
    const LATEST_WHEN_GONE: bool = false;
    /// A Kafka source whose position is gone goes on with the first record there is where the job
    /// has chosen the end.
    const EARLIEST_FOR_LATEST: bool = false;
    /// The same where the job has chosen to fail.
    const EARLIEST_FOR_FAIL: bool = false;
    /// A Kafka source tells nobody what it passes.
    const PASS_UNTOLD: bool = false;
    /// A Kafka source that is told that an offset is not there begins anew, as if it had read
    /// nothing.
    const BEGIN_ANEW_OUT_OF_RANGE: bool = false;
    /// A Kafka source that goes on from an epoch looks for partitions that turn up from the number
    /// on with which the job has begun, and so reads again those that it had found.
    const FIND_PARTITIONS_AGAIN: bool = false;
}

/// No seeded bug.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
