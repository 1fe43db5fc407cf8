//! The outputs of a task: lanes that fill, channels with credit, and what waits to be taken.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::api::dead_letter::DeadLetter;
use crate::api::record::{Record, Ref, type_name};
use crate::dag::Partitioner;
use crate::flow::batch::{Batch, Mark};
use crate::flow::logic::CHANNEL;
use crate::flow::push::{Meta, Quarantined};
use crate::id::ChannelId;
use crate::limits::{
    BATCH_BYTES, CHANNEL_WINDOW_BYTES, CHANNEL_WINDOW_BYTES_MAX, POOL_BUFFERS_MAX,
    QUARANTINED_BYTES_MAX,
};
use crate::message::{Barrier, EpochStart, Item};
use crate::time::{EventTime, WallTime};

/// What an output port feeds: one edge by key, or any number of edges with the same batches.
#[derive(Clone, Debug)]
pub struct OutputEdge {
    /// How the edge chooses among its channels.
    pub partitioner: Partitioner,
    /// Its channels, by receiving task.
    pub channels: Vec<ChannelId>,
}

/// Everything a task sends.
#[derive(Debug, Default)]
pub struct Outputs {
    ports: Vec<Port>,
    channels: Vec<Channel>,
    /// Channels without credit; while there is one, the task waits.
    exhausted: usize,
    ready: VecDeque<(usize, Item)>,
    pool: Vec<Vec<u8>>,
    /// Counts the input records, so that a lane knows what it got for the present one.
    record: u64,
    quarantined: Vec<(u64, Quarantined)>,
    /// The names of a source's partitions, so that what is put aside says where it came from.
    partitions: Vec<String>,
    /// The ports of operators whose dead letters somebody reads.
    dead_letters: Vec<(String, usize)>,
    watermark: Option<EventTime>,
    /// The readers were told not to wait for the clock.
    idle: bool,
    sent: u64,
    sent_bytes: u64,
}

#[derive(Debug)]
struct Port {
    lanes: Vec<Lane>,
    edges: Vec<Edge>,
    timed: bool,
}

/// A batch that fills. It is sealed between two input records only, so that what a record had
/// emitted can be cut off when its operator panics.
#[derive(Debug)]
struct Lane {
    batch: Batch,
    mark: Mark,
    record: u64,
}

#[derive(Debug)]
struct Edge {
    /// One lane a channel, instead of all channels from the one lane.
    by_lane: bool,
    broadcast: bool,
    channels: Vec<usize>,
    next: usize,
}

#[derive(Debug)]
struct Channel {
    id: ChannelId,
    credit: i64,
    records: u64,
}

impl Outputs {
    /// Outputs of these ports, each with its edges.
    ///
    /// # Panics
    /// If a port that is partitioned by record has more than one edge: the builder gives each such
    /// edge a port of its own.
    #[must_use]
    pub fn new(ports: Vec<(bool, Vec<OutputEdge>)>) -> Self {
        let mut outputs = Self { record: 1, ..Self::default() };
        for (timed, edges) in ports {
            let by_lane = edges
                .iter()
                .any(|edge| matches!(edge.partitioner, Partitioner::Hash | Partitioner::Custom(_)));
            assert!(!by_lane || edges.len() == 1, "a port by key has one edge");
            let lanes = if by_lane { edges[0].channels.len() } else { 1 };
            let edges = edges
                .into_iter()
                .map(|edge| Edge {
                    by_lane,
                    broadcast: edge.partitioner == Partitioner::Broadcast,
                    next: 0,
                    channels: edge.channels.into_iter().map(|id| outputs.open(id)).collect(),
                })
                .collect();
            let lanes = (0..lanes)
                .map(|_| Lane {
                    batch: Batch::new(Vec::new(), timed),
                    mark: Mark::default(),
                    record: 0,
                })
                .collect();
            outputs.ports.push(Port { lanes, edges, timed });
        }
        outputs
    }

    fn open(&mut self, id: ChannelId) -> usize {
        self.channels.push(Channel { id, credit: CHANNEL_WINDOW_BYTES as i64, records: 0 });
        self.channels.len() - 1
    }

    /// The channels, by slot.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> + '_ {
        self.channels.iter().map(|channel| channel.id)
    }

    /// True if somebody reads this port.
    #[must_use]
    pub fn has_readers(&self, port: usize) -> bool {
        self.ports.get(port).is_some_and(|port| !port.edges.is_empty())
    }

    /// The lanes of a port: the tasks among which a partitioner chooses.
    #[must_use]
    pub fn lanes(&self, port: usize) -> usize {
        self.ports[port].lanes.len()
    }

    /// Says that what follows belongs to the next input record.
    #[inline(always)]
    pub fn begin_record(&mut self) {
        self.record += 1;
    }

    /// Appends a record to a lane.
    #[inline(always)]
    pub fn push<T: Record>(&mut self, port: usize, lane: usize, meta: Meta, view: &T::View<'_>) {
        let record = self.record;
        let place = &mut self.ports[port].lanes[lane];
        if place.record != record {
            place.record = record;
            if place.batch.len() >= BATCH_BYTES || place.batch.is_empty() {
                self.renew(port, lane);
            }
            let place = &mut self.ports[port].lanes[lane];
            place.mark = place.batch.mark();
            place.batch.push_ahead::<T>(meta.at, view);
        } else {
            place.batch.push_ahead::<T>(meta.at, view);
        }
    }

    /// Seals a full lane and gives an empty one a buffer.
    #[cold]
    fn renew(&mut self, port: usize, lane: usize) {
        if !self.ports[port].lanes[lane].batch.is_empty() {
            self.seal(port, lane);
        }
        let timed = self.ports[port].timed;
        let buffer = self.pool.pop().unwrap_or_default();
        let batch = &mut self.ports[port].lanes[lane].batch;
        *batch = Batch::new(buffer, timed);
        batch.reserve(BATCH_BYTES + BATCH_BYTES / 16);
    }

    fn seal(&mut self, port: usize, lane: usize) {
        let timed = self.ports[port].timed;
        let place = &mut self.ports[port].lanes[lane];
        if place.batch.is_empty() {
            return;
        }
        let mut batch = Some(core::mem::replace(&mut place.batch, Batch::new(Vec::new(), timed)));
        place.mark = Mark::default();
        self.sent += u64::from(batch.as_ref().map_or(0, Batch::count));
        let mut targets: Vec<usize> = Vec::new();
        let edges = &mut self.ports[port].edges;
        if let [edge] = edges.as_mut_slice()
            && !edge.broadcast
        {
            let slot = edge.target(lane);
            if let Some(batch) = batch.take() {
                self.send(slot, batch);
            }
            return;
        }
        for edge in edges {
            if edge.broadcast {
                targets.extend(&edge.channels);
            } else {
                targets.push(edge.target(lane));
            }
        }
        let Some(last) = targets.pop() else { return };
        for slot in targets {
            let copy = batch.clone().expect("taken below only");
            self.send(slot, copy);
        }
        if let Some(batch) = batch.take() {
            self.send(last, batch);
        }
    }

    fn send(&mut self, slot: usize, batch: Batch) {
        let channel = &mut self.channels[slot];
        let had = channel.credit > 0;
        channel.credit -= batch.len() as i64;
        channel.records += u64::from(batch.count());
        self.sent_bytes += batch.len() as u64;
        if had && channel.credit <= 0 {
            self.exhausted += 1;
        }
        self.ready.push_back((slot, Item::Batch(batch)));
    }

    /// True if something waits to be taken.
    #[inline(always)]
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// True if every channel may take another batch.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.exhausted == 0 && self.ready.len() < READY_MAX
    }

    /// Gives back credit, and the buffer that was in flight.
    pub fn credit(&mut self, slot: usize, bytes: u64, buffer: Vec<u8>) {
        let channel = &mut self.channels[slot];
        let had = channel.credit > 0;
        channel.credit += bytes as i64;
        let most = CHANNEL_WINDOW_BYTES_MAX as i64;
        assert!(channel.credit <= most, "more credit than any window");
        if !had && channel.credit > 0 {
            self.exhausted -= 1;
        }
        if buffer.capacity() > 0
            && buffer.capacity() <= 4 * BATCH_BYTES
            && self.pool.len() < POOL_BUFFERS_MAX
        {
            self.pool.push(buffer);
        }
    }

    /// Seals every lane, so that what is in them leaves at once.
    pub fn flush(&mut self) {
        for port in 0..self.ports.len() {
            for lane in 0..self.ports[port].lanes.len() {
                self.seal(port, lane);
            }
        }
    }

    /// Sends a watermark behind what was emitted, if it is later than the one before or if the
    /// readers do not wait for one at present.
    pub fn watermark(&mut self, at: EventTime) {
        let at = self.watermark.map_or(at, |sent| at.max(sent));
        let was_idle = core::mem::take(&mut self.idle);
        if !was_idle && self.watermark == Some(at) {
            return;
        }
        self.watermark = Some(at);
        self.everywhere(&Item::Watermark(at));
    }

    /// The last watermark that was sent.
    #[must_use]
    pub fn clock(&self) -> EventTime {
        self.watermark.unwrap_or(EventTime::MIN)
    }

    /// Says downstream that it need not wait for this task's clock.
    pub fn idle(&mut self) {
        self.idle = true;
        self.everywhere(&Item::Idle);
    }

    /// Sends the barrier behind what was emitted; `born` is when a source began it.
    pub fn barrier(&mut self, start: EpochStart, born: WallTime) {
        self.flush();
        for slot in 0..self.channels.len() {
            let records = core::mem::take(&mut self.channels[slot].records);
            self.ready.push_back((slot, Item::Barrier(Barrier { start, records, born })));
        }
    }

    /// Sends the end of the stream behind what was emitted.
    pub fn end(&mut self) {
        self.everywhere(&Item::End);
    }

    fn everywhere(&mut self, item: &Item) {
        self.flush();
        for slot in 0..self.channels.len() {
            self.ready.push_back((slot, item.clone()));
        }
    }

    /// The next item that leaves, with the slot of its channel.
    pub fn take_ready(&mut self) -> Option<(usize, Item)> {
        self.ready.pop_front()
    }

    /// Removes everything that the present input record has emitted and put aside.
    pub fn cut(&mut self) {
        let record = self.record;
        for lane in self.ports.iter_mut().flat_map(|port| &mut port.lanes) {
            if lane.record == record {
                lane.batch.cut(lane.mark);
            }
        }
        self.quarantined.retain(|(of, _)| *of != record);
    }

    /// The partitions that the records of this task come from, by number.
    pub(crate) fn name_partitions(&mut self, partitions: Vec<String>) {
        self.partitions = partitions;
    }

    /// What these operators put aside goes to ports, as far as somebody reads those.
    pub(crate) fn give_dead_letters(&mut self, ports: &[(String, u32)]) {
        for (operator, port) in ports {
            if self.has_readers(*port as usize) {
                self.dead_letters.push((operator.clone(), *port as usize));
            }
        }
    }

    fn port_of_dead_letters(&self, operator: &str) -> Option<usize> {
        let mut ports = self.dead_letters.iter();
        ports.find(|(name, _)| name == operator).map(|(_, port)| *port)
    }

    fn push_dead_letter(&mut self, port: usize, letter: &DeadLetter<'_>) {
        let meta = Meta { at: letter.at, partition: 0 };
        self.push::<DeadLetter<'static>>(port, 0, meta, letter);
    }

    /// Puts a record aside.
    #[cold]
    pub fn quarantine<T: Record>(
        &mut self,
        operator: &str,
        meta: Meta,
        view: &T::View<'_>,
        error: String,
    ) {
        let mut bytes = Vec::new();
        T::encode(view, &mut bytes);
        let record = type_name::<T>();
        if let Some(port) = self.port_of_dead_letters(operator) {
            let letter = DeadLetter {
                operator,
                reason: &error,
                partition: "",
                position: "",
                at: meta.at,
                record_type: &record,
                bytes: &bytes,
            };
            return self.push_dead_letter(port, &letter);
        }
        let number = meta.partition;
        let named = self.partitions.get(number as usize).cloned();
        let partition = named.unwrap_or_else(|| alloc::format!("{CHANNEL}{number}"));
        self.put_aside(operator, partition, String::new(), meta.at, record, bytes, error);
    }

    /// Puts bytes aside that never became a record.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the context of a quarantined record, once")]
    pub fn quarantine_bytes(
        &mut self,
        operator: &str,
        partition: String,
        position: String,
        at: EventTime,
        record: String,
        bytes: Vec<u8>,
        error: String,
    ) {
        let Some(port) = self.port_of_dead_letters(operator) else {
            return self.put_aside(operator, partition, position, at, record, bytes, error);
        };
        let mut encoded = Vec::new();
        Ref::<[u8]>::encode(&bytes.as_slice(), &mut encoded);
        let letter = DeadLetter {
            operator,
            reason: &error,
            partition: &partition,
            position: &position,
            at,
            record_type: &type_name::<Ref<[u8]>>(),
            bytes: &encoded,
        };
        self.push_dead_letter(port, &letter);
    }

    #[expect(clippy::too_many_arguments, reason = "the context of a quarantined record, once")]
    fn put_aside(
        &mut self,
        operator: &str,
        partition: String,
        position: String,
        at: EventTime,
        record: String,
        mut bytes: Vec<u8>,
        error: String,
    ) {
        let cut = bytes.len() > QUARANTINED_BYTES_MAX;
        bytes.truncate(QUARANTINED_BYTES_MAX);
        let operator = operator.to_string();
        let entry = Quarantined { operator, partition, position, at, record, bytes, cut, error };
        self.quarantined.push((self.record, entry));
    }

    /// Takes what was put aside since the last call.
    pub fn take_quarantined(&mut self) -> Vec<Quarantined> {
        self.quarantined.drain(..).map(|(_, entry)| entry).collect()
    }

    /// Takes over what was put aside elsewhere.
    pub(crate) fn adopt_quarantined(&mut self, entries: Vec<Quarantined>) {
        for entry in entries {
            // One that was cut is no whole record any more.
            match self.port_of_dead_letters(&entry.operator).filter(|_| !entry.cut) {
                None => self.quarantined.push((self.record, entry)),
                Some(port) => {
                    let letter = DeadLetter {
                        operator: &entry.operator,
                        reason: &entry.error,
                        partition: "",
                        position: "",
                        at: entry.at,
                        record_type: &entry.record,
                        bytes: &entry.bytes,
                    };
                    self.push_dead_letter(port, &letter);
                }
            }
        }
    }

    /// True if something was put aside since it was last taken.
    #[must_use]
    pub fn has_quarantined(&self) -> bool {
        !self.quarantined.is_empty()
    }

    /// Records sent since the start; a record that goes to several edges counts once.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of the records that were sent, as often as they were.
    #[must_use]
    pub const fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Bytes that may be sent at once over the channel that has least; none if there is none.
    #[must_use]
    pub fn least_credit(&self) -> Option<u64> {
        let credit = self.channels.iter().map(|channel| channel.credit).min()?;
        Some(u64::try_from(credit).unwrap_or(0))
    }

    /// Bytes of the buffers that wait here.
    #[must_use]
    pub fn allocated(&self) -> usize {
        let lanes = self.ports.iter().flat_map(|port| &port.lanes);
        self.pool.iter().map(Vec::capacity).sum::<usize>()
            + lanes.map(|lane| lane.batch.allocated()).sum::<usize>()
    }
}

/// Items that may wait to be taken from the outputs: a driver takes them after each slice.
const READY_MAX: usize = 4_096;

impl Edge {
    fn target(&mut self, lane: usize) -> usize {
        if self.by_lane {
            return self.channels[lane];
        }
        let slot = self.channels[self.next];
        self.next = (self.next + 1) % self.channels.len();
        slot
    }
}
