//! A task: its inputs with their alignment and clock, its logic, and its part of each epoch.
//!
//! A task is turned by [`Task::step`]; what happens in a step, in this order: what an earlier step
//! left is finished, a slice of a snapshot is written, then one item is taken from an input.

mod blocked;
mod completion;
mod figures;
mod input;
mod latency;
mod objects;
mod quarantine;
mod replay;
mod report;
mod snapshot;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::api::files::Files;
use crate::api::sink::IoQueue;
use crate::clock::InputClock;
use crate::effect::{Effect, Place};
use crate::flow::batch::Batch;
use crate::flow::logic::{Assignment, Cx, Logic, Polled, TaskInfo, Work};
use crate::flow::push::{Guard, guarded};
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{ChannelId, Epoch, TaskId, Token};
use crate::message::{EpochStart, Item, Message, ObjectRef, TaskDeployment};
use crate::time::{Time, WallTime};

use blocked::Blocked;
pub use figures::Figures;
use input::Input;
pub use latency::{LATENCY_BOUNDS, Latency};
use objects::Objects;
pub use quarantine::{QuarantinePolicy, decode as decode_quarantine, encode as encode_quarantine};
pub use replay::ReplayCounts;
use replay::Replays;
use snapshot::Snapshots;

/// How a task treats barriers and bad records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Hold a channel back from its barrier until all have theirs: exactly once.
    pub align: bool,
    /// What happens to a record that panics or does not decode.
    pub quarantine: QuarantinePolicy,
}

/// What a task may use during a step.
pub struct World<'a> {
    /// The monotonic time.
    pub now: Time,
    /// The wall-clock time.
    pub wall: WallTime,
    /// Files to read.
    pub files: &'a mut dyn Files,
    /// What catches the panics of the user's code.
    pub guard: &'a mut dyn Guard,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It did something and may have more to do.
    Busy,
    /// It waits: for an input, for room, for a completion, or until this time.
    Waits(Option<Time>),
}

/// What came of finishing what an earlier step left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Nothing is left.
    All,
    /// A record was put aside; there may be more behind it.
    Interrupted,
    /// There is no room for it.
    Waits,
}

/// Where a task is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Objects of the restored epoch are being read.
    Restoring {
        chains: Vec<Vec<ObjectRef>>,
        reading: Option<Token>,
        /// Tries of the present object, and when the next is due.
        tries: u32,
        not_before: Time,
    },
    /// Restored; waits for the order to run.
    Ready,
    Running,
    /// The inputs have ended, and what the logic makes of that is being emitted.
    Ending,
    /// The end is sent; the last snapshot may still be on its way.
    Ended,
    Failed,
}

/// One of a processor's parallel instances.
pub struct Task<F: Faults = NoFaults> {
    info: TaskInfo,
    options: TaskOptions,
    logic: Box<dyn Logic>,
    is_source: bool,
    is_sink: bool,
    inputs: Vec<Input>,
    /// The output channels, by slot.
    outgoing: Vec<ChannelId>,
    /// The input that was served last.
    served: usize,
    work: Option<Work>,
    clock: InputClock,
    io: IoQueue,
    objects: Objects,
    snapshots: Snapshots,
    replays: Replays,
    phase: Phase,
    assignment: Assignment,
    restored: Epoch,
    /// Finished in the restored epoch: it only ends its stream again.
    finished_before: bool,
    /// A watermark to forward once the logic has drained.
    forward: Option<crate::time::EventTime>,
    /// A channel has ended, which may be what an epoch's alignment waited for.
    realign: bool,
    /// Epochs that sources are asked for and have not yet begun.
    asked: VecDeque<EpochStart>,
    /// A barrier is passed behind which a stopping source reads nothing.
    stopped: bool,
    waits_until: Option<Time>,
    credits: Vec<(ChannelId, u64, Vec<u8>)>,
    idle_sent: bool,
    /// To be said once the logic has drained: the channels hold no clock back.
    forward_idle: bool,
    records_in: u64,
    bytes_in: u64,
    latency: Latency,
    /// Time in which there was no room for what it sends, and since when there is none.
    blocked: Blocked,
    /// The time of its last step.
    now: Time,
    /// Why it cannot go on.
    failure: String,
    /// Records that had been read when this task began.
    records_before: u64,
    faults: PhantomData<F>,
}

/// What a task is made of.
pub struct TaskParts {
    /// Which task it is.
    pub info: TaskInfo,
    /// How it treats barriers and bad records.
    pub options: TaskOptions,
    /// Its operators.
    pub logic: Box<dyn Logic>,
    /// Its input channels, each with its port; none for a source.
    pub inputs: Vec<(ChannelId, u32)>,
    /// True if its output has to be committed.
    pub is_sink: bool,
    /// The folder of its objects, with the attempt in it: no other task or attempt writes there.
    pub store_prefix: String,
    /// The tokens of its store requests and of its I/O begin above this.
    pub tokens: u64,
}

impl<F: Faults> Task<F> {
    /// A task that is about to be restored.
    #[must_use]
    pub fn new(mut parts: TaskParts, deployment: TaskDeployment, epoch: Epoch) -> Self {
        let outgoing = parts.logic.outputs().channels().collect();
        let channels = parts.inputs.len();
        let output = ["output/", &*parts.store_prefix].concat();
        Self {
            is_source: parts.inputs.is_empty(),
            is_sink: parts.is_sink,
            snapshots: Snapshots::new(
                parts.store_prefix,
                &parts.info,
                parts.tokens,
                deployment.quarantined,
                epoch,
                F::has(Fault::ReportBeforeStored),
            ),
            replays: Replays::default(),
            info: parts.info,
            options: parts.options,
            logic: parts.logic,
            inputs: parts.inputs.into_iter().map(|(id, port)| Input::new(id, port)).collect(),
            outgoing,
            served: 0,
            work: None,
            clock: InputClock::new(channels),
            io: IoQueue::new(Token(parts.tokens), output, epoch),
            objects: Objects::default(),
            phase: Phase::Restoring {
                chains: deployment.restore.into_iter().rev().collect(),
                reading: None,
                tries: 0,
                not_before: Time::ZERO,
            },
            assignment: Assignment {
                partitions: deployment.partitions,
                pending: deployment.pending,
                records: deployment.records,
            },

            restored: epoch,
            finished_before: deployment.finished,
            forward: None,
            realign: false,
            asked: VecDeque::new(),
            stopped: false,
            waits_until: None,
            credits: Vec::new(),
            idle_sent: false,
            forward_idle: false,
            records_in: 0,
            bytes_in: 0,
            latency: Latency::default(),
            blocked: Blocked::default(),
            now: Time::ZERO,
            failure: String::new(),
            records_before: deployment.records,
            faults: PhantomData,
        }
    }

    /// Which task it is.
    #[must_use]
    pub const fn info(&self) -> &TaskInfo {
        &self.info
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> TaskId {
        self.info.task
    }

    /// The order to run.
    pub fn run(&mut self) {
        if self.phase == Phase::Ready {
            self.phase = Phase::Running;
        }
    }

    /// The order to begin an epoch; sources act on it, others wait for its barrier.
    pub fn start_epoch(&mut self, start: EpochStart) {
        let ended = matches!(self.phase, Phase::Ended | Phase::Failed);
        if self.is_source && !ended && self.asked.back().is_none_or(|last| last.epoch < start.epoch)
        {
            self.asked.push_back(start);
        }
        self.waits_until = None;
    }

    /// Takes what came over a channel.
    pub fn receive(&mut self, input: usize, item: Item) {
        self.inputs[input].queue.push_back(item);
    }

    /// The next item that leaves, with the slot of its channel.
    pub fn take_ready(&mut self) -> Option<(usize, Item)> {
        self.logic.outputs().take_ready()
    }

    /// The output channels, by slot.
    #[must_use]
    pub fn output_channels(&self) -> &[ChannelId] {
        &self.outgoing
    }

    /// The output channel of a slot.
    pub fn channel(&self, slot: usize) -> ChannelId {
        self.outgoing[slot]
    }

    /// Credit that came back over an output channel.
    pub fn credit(&mut self, slot: usize, bytes: u64, buffer: Vec<u8>) {
        self.logic.outputs().credit(slot, bytes, buffer);
    }

    /// Credit to be given back to the senders of this task's inputs.
    pub fn take_credit(&mut self) -> Option<(ChannelId, u64, Vec<u8>)> {
        self.credits.pop()
    }

    /// True if nothing will come from this task but the commit of its sink.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// One step: at most one item, or one turn of a source.
    pub fn step(&mut self, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Turn {
        if self.phase == Phase::Failed {
            return Turn::Waits(None);
        }
        self.now = world.now;
        match self.try_step(world, fx) {
            Ok(turn) => {
                self.submit(world.now, fx);
                let due = [
                    self.snapshots.next_retry(),
                    self.replays.next_retry(),
                    self.objects.next_retry(),
                    self.io.next_due(),
                ];
                match (turn, due.into_iter().flatten().min()) {
                    (Turn::Waits(until), Some(due)) => {
                        Turn::Waits(Some(until.map_or(due, |until| until.min(due))))
                    }
                    _ => turn,
                }
            }
            Err(reason) => {
                self.fail(reason, fx);
                Turn::Waits(None)
            }
        }
    }

    /// It cannot go on.
    pub(crate) fn fail(&mut self, reason: String, fx: &mut Vec<Effect>) {
        self.phase = Phase::Failed;
        self.failure.clone_from(&reason);
        let TaskInfo { task, attempt, .. } = self.info;
        let message = Message::Failed { task, attempt, reason };
        fx.push(Effect::Send { to: Place::AppMaster, message });
    }

    fn try_step(&mut self, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Result<Turn, String> {
        match &self.phase {
            Phase::Restoring { .. } => return self.restore_step(world, fx),
            Phase::Ready | Phase::Failed => return Ok(Turn::Waits(None)),
            Phase::Running | Phase::Ending | Phase::Ended => {}
        }
        let mut busy = self.snapshots.write_slice(self.logic.as_mut());
        self.snapshots.collect(world.now, &self.io, fx);
        if self.phase == Phase::Ended {
            return Ok(if busy { Turn::Busy } else { Turn::Waits(None) });
        }
        let drained = self.drain(world)?;
        self.blocked.note(drained == Drained::Waits, world.now);
        match drained {
            Drained::All => {}
            Drained::Interrupted => {
                self.aside()?;
                return Ok(Turn::Busy);
            }
            Drained::Waits => {
                self.aside()?;
                return Ok(if busy { Turn::Busy } else { Turn::Waits(None) });
            }
        }
        self.forward();
        if self.phase == Phase::Ending {
            self.finish(world, fx)?;
            return Ok(Turn::Busy);
        }
        // Between two batches: the barrier waits behind the last record of an object.
        if self.replays.is_at_hand() && self.work.is_none() {
            self.replay_step(world, fx)?;
            return Ok(Turn::Busy);
        }
        self.replays.read(world.now, &mut self.snapshots, fx);
        let turn = if self.is_source { self.poll(world)? } else { self.serve(world, fx)? };
        self.tell(fx);
        self.aside()?;
        busy |= turn == Turn::Busy;
        Ok(if busy { Turn::Busy } else { turn })
    }

    /// Tells the readers of the clock, behind everything that its advance made due.
    fn forward(&mut self) {
        if let Some(at) = self.forward.take() {
            self.logic.outputs().watermark(at);
        }
        if core::mem::take(&mut self.forward_idle) && self.clock.all_idle() && !self.idle_sent {
            self.idle_sent = true;
            self.logic.outputs().idle();
        }
    }

    /// A channel is heard: if the readers were told that none is, they wait for the clock again.
    fn wake(&mut self) {
        if core::mem::take(&mut self.idle_sent) {
            self.forward = Some(self.clock.current());
        }
    }

    /// Finishes what an earlier step left.
    fn drain(&mut self, world: &mut World<'_>) -> Result<Drained, String> {
        if !self.logic.outputs().has_room() {
            return Ok(Drained::Waits);
        }
        if let Some(at) = self.logic.next_timer()
            && at <= world.wall
        {
            self.call(world, |logic, _, cx| logic.on_timer(cx))?;
        }
        // Stays as it is if the call panics: the record at hand is put aside, and others wait.
        let mut drained = Drained::Interrupted;
        self.call(world, |logic, _, cx| {
            drained = if logic.drain(cx)? { Drained::All } else { Drained::Waits };
            Ok(())
        })?;
        let has_room = self.logic.outputs().has_room();
        Ok(if drained == Drained::All && !has_room { Drained::Waits } else { drained })
    }

    /// Calls the logic under the guard; a panic puts the record at hand aside.
    fn call(
        &mut self,
        world: &mut World<'_>,
        mut call: impl FnMut(&mut dyn Logic, Option<&mut Work>, &mut Cx<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let logic = self.logic.as_mut();
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        let work = &mut self.work;
        match guarded(world.guard, || call(logic, work.as_mut(), &mut cx)) {
            Ok(result) => result,
            Err(panic) => {
                let logic = self.logic.as_mut();
                logic
                    .rerun(self.work.as_mut(), panic, world.guard, &mut cx)
                    .map_err(|panic| ["panicked where no record was at hand: ", &panic].concat())
            }
        }
    }

    /// A source's turn.
    fn poll(&mut self, world: &mut World<'_>) -> Result<Turn, String> {
        if let Some(start) = self.asked.pop_front() {
            self.barrier(start, world.wall, world)?;
            return Ok(Turn::Busy);
        }
        if self.stopped {
            return Ok(Turn::Waits(None));
        }
        if self.finished_before {
            self.phase = Phase::Ending;
            return Ok(Turn::Busy);
        }
        if let Some(until) = self.waits_until
            && world.now < until
        {
            return Ok(Turn::Waits(Some(until)));
        }
        self.waits_until = None;
        let mut polled = Polled::More;
        self.call(world, |logic, _, cx| {
            polled = logic.poll(cx)?;
            Ok(())
        })?;
        match polled {
            Polled::More => Ok(Turn::Busy),
            Polled::Wait(until) => {
                self.logic.outputs().flush();
                self.waits_until = Some(until);
                Ok(Turn::Waits(Some(until)))
            }
            Polled::End => {
                self.phase = Phase::Ending;
                Ok(Turn::Busy)
            }
        }
    }

    /// Takes one item from the inputs, or goes on with the batch at hand.
    fn serve(&mut self, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Result<Turn, String> {
        if core::mem::take(&mut self.realign) {
            self.try_align(world)?;
            return Ok(Turn::Busy);
        }
        if self.work.is_none() {
            let Some(input) = self.next_input() else {
                return self.nothing_waits(world, fx);
            };
            let Some(item) = self.inputs[input].queue.pop_front() else {
                return Ok(Turn::Waits(None));
            };
            self.take(input, item, world)?;
        }
        if self.work.is_some() {
            self.call(world, |logic, work, cx| match work {
                Some(work) => logic.work(work, cx),
                None => Ok(()),
            })?;
            if self.work.as_ref().is_some_and(Work::is_done)
                && let Some(work) = self.work.take()
            {
                self.consumed(work.channel as usize, work.batch);
            }
        }
        Ok(Turn::Busy)
    }

    fn consumed(&mut self, input: usize, batch: Batch) {
        let bytes = batch.len() as u64;
        let mut buffer = batch.into_buffer();
        buffer.clear();
        self.credits.push((self.inputs[input].id, bytes, buffer));
    }

    /// The next input that has an item and is not held back.
    fn next_input(&mut self) -> Option<usize> {
        let count = self.inputs.len();
        let next = (1..=count)
            .map(|step| (self.served + step) % count)
            .find(|&input| self.inputs[input].may_serve())?;
        self.served = next;
        Some(next)
    }

    fn nothing_waits(
        &mut self,
        world: &mut World<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Turn, String> {
        if self.inputs.iter().all(|input| input.ended) {
            self.call(world, |logic, _, cx| {
                logic.on_watermark(crate::time::EventTime::MAX, cx)?;
                Ok(())
            })?;
            if !self.finished_before {
                self.call(world, |logic, _, cx| logic.on_end(cx))?;
            }
            self.phase = Phase::Ending;
            return Ok(Turn::Busy);
        }
        let cx = &mut Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        self.logic.idle(cx);
        self.logic.outputs().flush();
        self.submit(world.now, fx);
        let timer = self.logic.next_timer().map(|at| {
            let micros = u64::try_from(at.0.saturating_sub(world.wall.0)).unwrap_or(0);
            Time(world.now.0.saturating_add(micros.saturating_mul(1_000)))
        });
        Ok(Turn::Waits(timer))
    }

    fn take(&mut self, input: usize, item: Item, world: &mut World<'_>) -> Result<(), String> {
        match item {
            Item::Batch(batch) => {
                let advanced = self.clock.active(input);
                self.wake();
                self.advanced(advanced, world)?;
                let count = u64::from(batch.count());
                self.inputs[input].records += count;
                self.records_in += count;
                self.bytes_in += batch.len() as u64;
                let port = self.inputs[input].port;
                self.work = Some(Work { batch, cursor: 0, port, channel: input as u32 });
                Ok(())
            }
            Item::Watermark(at) => {
                let advanced = self.clock.observe(input, at);
                self.wake();
                self.advanced(advanced, world)
            }
            Item::Idle => {
                let advanced = self.clock.idle(input);
                self.forward_idle = true;
                self.advanced(advanced, world)
            }
            Item::Barrier(barrier) => {
                self.inputs[input].audit(&self.info.uid, barrier)?;
                if self.options.align {
                    self.inputs[input].held = true;
                }
                self.latency.observe(barrier.born, world.wall);
                self.inputs[input].aligned.push_back((barrier.start, barrier.born));
                self.try_align(world)
            }
            Item::End => {
                self.inputs[input].ended = true;
                // What the advance of the clock makes due comes before the barrier: alignment waits
                // until it is drained.
                self.realign = true;
                let advanced = self.clock.ended(input);
                self.advanced(advanced, world)
            }
        }
    }

    fn advanced(
        &mut self,
        advanced: Option<crate::time::EventTime>,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        if let Some(at) = advanced
            && at != crate::time::EventTime::MAX
        {
            self.call(world, |logic, _, cx| logic.on_watermark(at, cx))?;
            self.forward = Some(at);
        }
        Ok(())
    }

    /// Passes on each barrier that every channel has brought, unless it has ended.
    fn try_align(&mut self, world: &mut World<'_>) -> Result<(), String> {
        loop {
            let first = |input: &Input| input.aligned.front().copied();
            let firsts = self.inputs.iter().filter_map(first);
            let Some((start, _)) = firsts.clone().min_by_key(|(start, _)| start.epoch) else {
                return Ok(());
            };
            let of_it = firsts.filter(|(it, _)| it.epoch == start.epoch);
            let born = of_it.map(|(_, born)| born).min().unwrap_or(world.wall);
            let waits = |input: &Input| {
                !F::has(Fault::SnapshotBeforeAlignment)
                    && !input.ended
                    && input.aligned.back().is_none_or(|(last, _)| last.epoch < start.epoch)
            };
            if self.inputs.iter().any(waits) {
                return Ok(());
            }
            for input in &mut self.inputs {
                while input.aligned.front().is_some_and(|(it, _)| it.epoch <= start.epoch) {
                    input.aligned.pop_front();
                    input.held = false;
                }
            }
            if F::has(Fault::SnapshotBeforeAlignment) && start.epoch <= self.snapshots.last_epoch()
            {
                continue;
            }
            self.barrier(start, born, world)?;
        }
    }

    /// The barrier has come to this task: what it emits from now on belongs to the next epoch.
    fn barrier(
        &mut self,
        start: EpochStart,
        born: WallTime,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        self.aside()?;
        while self.snapshots.is_writing() {
            self.snapshots.write_slice(self.logic.as_mut());
        }
        self.forward();
        self.stopped |= start.stop;
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        let replayed = self.replays.capture(start.epoch);
        self.snapshots.begin((start, false), replayed, self.logic.as_mut(), &mut cx)?;
        if F::has(Fault::CommitBeforeRecord) {
            self.logic.committed(start.epoch, &mut cx)?;
        }
        self.logic.outputs().barrier(start, born);
        Ok(())
    }

    /// Everything is emitted: the end is sent, and the last snapshot taken.
    fn finish(&mut self, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Result<(), String> {
        self.aside()?;
        self.refuse_replays(fx);
        while self.snapshots.is_writing() {
            self.snapshots.write_slice(self.logic.as_mut());
        }
        let replayed = self.replays.capture(self.snapshots.last_epoch().next());
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        self.snapshots.begin_last(replayed, self.logic.as_mut(), &mut cx)?;
        self.logic.outputs().end();
        self.phase = Phase::Ended;
        self.submit(world.now, fx);
        self.snapshots.collect(world.now, &self.io, fx);
        Ok(())
    }

    /// Keeps what was put aside for the epoch's quarantine, or fails if that is the policy.
    fn aside(&mut self) -> Result<(), String> {
        if !self.logic.outputs().has_quarantined() {
            return Ok(());
        }
        let entries = self.logic.outputs().take_quarantined();
        if self.options.quarantine == QuarantinePolicy::Fail
            && let Some(entry) = entries.first()
        {
            return Err(quarantine::refuse(entry));
        }
        self.snapshots.put_aside(entries)
    }
}
