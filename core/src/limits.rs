//! Every bound of the engine, named, with its unit and its reason.

use crate::time::Duration;

/// Key groups of an app unless set: fixed with its first epoch, so it has to outlast any growth.
pub const KEY_GROUPS_DEFAULT: u32 = 1_024;
/// Most key groups of an app; a group's number travels in 16 bits.
pub const KEY_GROUPS_MAX: u32 = 32_768;
/// Most processors of a DAG: a graph is validated and drawn as a whole.
pub const PROCESSORS_MAX: usize = 1_000;
/// Bytes at which a batch is sent: large enough to amortise the hand-over, small enough that the
/// batches in flight stay in the second-level cache (1 MiB a core). A batch and its header fit into
/// one segment as the kernel hands it to loopback or a network card (65,483 bytes): for 64 KiB and
/// a header it makes two, and a bare socket carries half as much.
pub const BATCH_BYTES: usize = 48 * 1_024;
/// Bytes in flight on a channel before its sender has to wait, to begin with.
pub const CHANNEL_WINDOW_BYTES: usize = 512 * 1_024;
/// Least bytes of a channel's window: one batch on its way while another one is worked off.
pub const CHANNEL_WINDOW_BYTES_MIN: usize = 2 * BATCH_BYTES;
/// Most bytes of a channel's window: a link of 10 Gbit/s with a round trip of 3 ms is kept full.
pub const CHANNEL_WINDOW_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Parts of a channel's window in which credit is given: a sender that has used up three of four
/// hears of the fourth in time, and one word a batch would cost as much as the batch.
pub const CHANNEL_CREDIT_PARTS: u64 = 4;
/// What is in flight on a channel between processes is worked off in this time: no barrier waits
/// longer behind records.
pub const CHANNEL_IN_FLIGHT_TARGET: Duration = Duration::from_millis(100);
/// Bytes that a link writes at once if so many wait.
pub const TRANSMIT_BYTES: usize = 64 * 1_024;
/// Bytes that arrive on a link before they are acknowledged, unless something is sent anyway.
pub const ACKNOWLEDGE_BYTES: usize = 256 * 1_024;
/// Longest time until what arrives on a link is acknowledged.
pub const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(20);
/// Heartbeats that a link may miss before its connection is given up and another one dialled.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;
/// Frames and messages that a link keeps for a peer that does not acknowledge them: watermarks and
/// barriers have no credit, but a few dozen a second come in the grace time.
pub const LINK_ENTRIES_MAX: usize = 65_536;
/// Bytes of messages that a link keeps, likewise: a few of the largest.
pub const LINK_MESSAGE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// Connections of a link in a row that may break by what came over them, before anything new did:
/// what is damaged on its way is repaired by another try, a peer that is not sound is not.
pub const LINK_BROKEN_MAX: u32 = 8;
/// Largest encoded record; a larger one is quarantined where it enters.
pub const RECORD_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Most bytes of a message on a connection: a whole deployment, or the masters' whole state.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Most bytes of a message from a peer that has not yet said who it is: a hello has about 100.
pub const HANDSHAKE_BYTES_MAX: usize = 4 * 1_024;
/// Empty buffers that a task keeps for its next batches.
pub const POOL_BUFFERS_MAX: usize = 32;
/// Records between two looks at the budget and at the outputs' room.
pub const RECORDS_PER_SLICE: usize = 256;
/// Slices that a source reads in one turn, so that the tasks of one thread take turns.
pub const SLICES_PER_TURN: usize = 16;
/// Time between two watermarks of a busy source: each one seals the batches before it.
pub const WATERMARK_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes that a sink may have asked to be written; then its task waits.
pub const SINK_BYTES_OUTSTANDING_MAX: usize = 8 * 1_024 * 1_024;
/// Keyed entries that a snapshot writes between two batches: keeps its pauses below 1 ms, and is
/// more than a batch holds, so that a snapshot of any size ends well before the next one begins.
pub const SNAPSHOT_ENTRIES_PER_SLICE: usize = 16_384;
/// Epochs that may be uncommitted at once; then the open one ages and back-pressure begins.
pub const EPOCHS_UNCOMMITTED_MAX: usize = 4;
/// Time between two epochs unless set.
pub const EPOCH_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// Committed epochs whose objects are kept: the last, and one more to fall back to.
pub const EPOCHS_RETAINED: usize = 2;
/// Incremental objects in a task's chain before a full snapshot replaces them.
pub const SNAPSHOT_CHAIN_MAX: usize = 12;
/// Tries of a checkpoint-store request before its failure is reported.
pub const STORE_RETRIES_MAX: u32 = 8;
/// Wait before the first repetition of a store request; doubles up to [`STORE_BACKOFF_MAX`].
pub const STORE_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait between two tries of a store request.
pub const STORE_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Quarantined records that an app keeps; at the limit it stops and says so.
pub const QUARANTINED_RECORDS_MAX: u64 = 100_000;
/// Bytes of a quarantined record that are kept; the rest is cut and the cut is marked.
pub const QUARANTINED_BYTES_MAX: usize = 64 * 1_024;
/// Highest term, epoch and number of the commit log that is believed: no app ever comes near, and
/// counting on from it does not overflow.
pub const LOG_NUMBER_MAX: u64 = u64::MAX / 2;
/// A user's call that takes longer is named in a warning and counted.
pub const SLOW_CALL: Duration = Duration::from_millis(250);
/// Time between two reports or heartbeats of a healthy process.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(200);
/// A leader that has not heard a majority for this long acts no more; no other is elected before
/// it has passed.
pub const LEADER_LEASE: Duration = Duration::from_secs(1);
/// A peer that is not heard for this long is lost; until then a lost connection is only a delay.
pub const GRACE: Duration = Duration::from_secs(3);
/// A connection that is not there after this long is given up, and dialled again.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before a dial is repeated; doubles up to [`DIAL_BACKOFF_MAX`].
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest wait between two dials.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection whose handshake is not done after this long is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that have not yet said who they are; more are closed at once.
pub const STRANGERS_MAX: usize = 256;
/// Different refusals that a process tells a person of in its life: strangers can make up more.
pub const REFUSALS_TOLD_MAX: usize = 32;
/// Messages that wait for a control connection; the oldest is forgotten, for all are repeated.
pub const CONTROL_QUEUE_MAX: usize = 64;
/// Silence on a control connection after which whoever dialled asks whether the peer is there.
pub const PING_INTERVAL: Duration = Duration::from_millis(500);
/// Silence after which a control connection is dialled anew: it may be broken without a sign.
pub const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// Time in which a node has the masters answer a request, an election included; then it is refused.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A master that does not answer a request for this long is passed over for the next: a leader
/// answers as soon as a majority of disks has the change.
pub const REQUEST_SILENCE: Duration = Duration::from_secs(1);
/// Wait before a request that was turned away is sent to another master.
pub const REQUEST_RETRY: Duration = Duration::from_millis(50);
/// Time between two messages of an executor that say how it is doing, for people.
pub const FIGURES_INTERVAL: Duration = Duration::from_secs(1);
/// Time in which a savepoint is made, the epoch that it waits for included; then it is given up.
pub const SAVEPOINT_DEADLINE: Duration = Duration::from_secs(300);
/// Time in which what is in the quarantine is given to its operators again, or dropped, the epoch
/// included; then nobody waits for it any more.
pub const REPLAY_DEADLINE: Duration = Duration::from_secs(120);
/// Objects of the quarantine that one request takes out: their names travel in one message.
pub const REPLAY_OBJECTS_MAX: usize = 10_000;
/// An answer that may be old is given after this long if no leader is found: people look on.
pub const STALE_PATIENCE: Duration = Duration::from_secs(1);

const _: () = assert!(BATCH_BYTES * 2 <= CHANNEL_WINDOW_BYTES, "a window holds two batches");
const _: () = assert!(CHANNEL_WINDOW_BYTES_MIN <= CHANNEL_WINDOW_BYTES);
const _: () = assert!(CHANNEL_WINDOW_BYTES <= CHANNEL_WINDOW_BYTES_MAX);
const _: () = assert!(KEY_GROUPS_DEFAULT <= KEY_GROUPS_MAX);
