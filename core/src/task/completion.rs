//! What a task does with the answers to what it asked for: I/O, commits, objects of the store.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::snapshot::retry_wait;
use super::{Phase, Task, Turn, World};
use crate::api::sink::Answered;
use crate::effect::{Effect, IoError, Level, Notice, Place, StoreReply};
use crate::flow::logic::{Cx, TaskInfo};
use crate::flow::state::SnapshotReader;
use crate::host::{Fault, Faults};
use crate::id::{Epoch, Token};
use crate::limits::STORE_RETRIES_MAX;
use crate::message::{Message, ObjectRef};
use crate::time::Time;

impl<F: Faults> Task<F> {
    /// A request of the sink was performed, or was not.
    pub fn io_done(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        world: &mut World<'_>,
        fx: &mut Vec<Effect>,
    ) {
        if self.phase == Phase::Failed || !self.io.is_outstanding(token) {
            return;
        }
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        match self.logic.answered(token, result, &mut cx) {
            Ok(Answered::Done) => {
                self.io.done(token);
            }
            Ok(Answered::Again { request, at }) => self.io.again(token, request, at),
            Err(reason) => {
                self.fail(reason, fx);
                return;
            }
        }
        self.submit(world.now, fx);
        self.snapshots.collect(world.now, &self.io, fx);
    }

    /// Asks the driver and the store for what the sink wants done.
    pub(super) fn submit(&mut self, now: Time, fx: &mut Vec<Effect>) {
        let task = self.info.task;
        self.io.resume(now);
        let warned = self.io.take_warnings().into_iter();
        fx.extend(warned.map(|text| {
            let text = format!("{}[{}]: {text}", self.info.uid, task.index);
            Effect::Notice(Notice { level: Level::Warning, text })
        }));
        for (token, request) in self.io.take_objects() {
            self.objects.ask(token, request, &mut self.snapshots);
        }
        self.objects.send(now, fx);
        fx.extend(self.io.take().into_iter().map(|(token, request)| Effect::Io {
            task,
            token,
            request,
        }));
    }

    /// This epoch has committed.
    pub fn committed(&mut self, epoch: Epoch, world: &mut World<'_>, fx: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Failed | Phase::Restoring { .. }) {
            return;
        }
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        if let Err(reason) = self.logic.committed(epoch, &mut cx) {
            self.fail(reason, fx);
            return;
        }
        self.replays.committed(epoch);
        self.snapshots.committed(epoch, self.is_sink.then(|| self.io.mark()));
        self.submit(world.now, fx);
        self.snapshots.collect(world.now, &self.io, fx);
    }

    /// The store answered a request of this task.
    pub fn stored(
        &mut self,
        token: Token,
        reply: StoreReply,
        world: &mut World<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let now = world.now;
        if self.objects.owns(token) {
            let heard = self.objects.stored(token, reply, now, &mut self.snapshots, fx);
            if let Some((token, result)) = heard {
                self.io_done(token, result, world, fx);
            }
            return;
        }
        let result = match &mut self.phase {
            Phase::Failed => return,
            Phase::Restoring { reading, tries, not_before, .. } if *reading == Some(token) => {
                *reading = None;
                match reply {
                    StoreReply::Failed { retriable: true, .. } if *tries < STORE_RETRIES_MAX => {
                        *tries += 1;
                        *not_before = now + retry_wait(*tries);
                        Ok(())
                    }
                    reply => {
                        *tries = 0;
                        self.restore_object(reply)
                    }
                }
            }
            _ if self.replays.stored(token, &reply, now) => Ok(()),
            _ => self.snapshots.stored(token, reply, now, fx),
        };
        if let Err(reason) = result {
            self.fail(reason, fx);
            return;
        }
        self.snapshots.collect(now, &self.io, fx);
    }

    fn restore_object(&mut self, reply: StoreReply) -> Result<(), String> {
        let Phase::Restoring { chains, .. } = &mut self.phase else { return Ok(()) };
        let Some(chain) = chains.last_mut() else { return Ok(()) };
        if chain.is_empty() {
            return Ok(());
        }
        let object = chain.remove(0);
        if chain.is_empty() {
            chains.pop();
            if F::has(Fault::ForgetStateOnRestore) {
                return Ok(());
            }
        }
        let bytes = match reply {
            StoreReply::Bytes(bytes) => bytes,
            StoreReply::Missing => return Err(damaged(&object, "is missing")),
            StoreReply::Failed { reason, .. } => {
                return Err([&object.name, " cannot be read: ", &reason].concat());
            }
            _ => return Err(damaged(&object, "has no content")),
        };
        if bytes.len() as u64 != object.len || crc32c::crc32c(&bytes) != object.crc {
            return Err(damaged(&object, "is not what was written"));
        }
        let reader =
            SnapshotReader::open(&bytes).map_err(|error| damaged(&object, &error.to_string()))?;
        self.logic.restore(&reader, self.restored)
    }

    pub(super) fn restore_step(
        &mut self,
        world: &mut World<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Turn, String> {
        let Phase::Restoring { chains, reading, not_before, .. } = &mut self.phase else {
            return Ok(Turn::Waits(None));
        };
        if reading.is_some() {
            return Ok(Turn::Waits(None));
        }
        if world.now < *not_before {
            return Ok(Turn::Waits(Some(*not_before)));
        }
        while chains.last().is_some_and(Vec::is_empty) {
            chains.pop();
        }
        if let Some(object) = chains.last().and_then(|chain| chain.first()) {
            let token = self.snapshots.token();
            let request = crate::effect::StoreRequest::Get { name: object.name.clone() };
            *reading = Some(token);
            fx.push(Effect::Store { token, request });
            return Ok(Turn::Waits(None));
        }
        let assignment = core::mem::take(&mut self.assignment);
        self.call(world, |logic, _, cx| logic.start(&assignment, cx))?;
        self.phase = Phase::Ready;
        let TaskInfo { task, attempt, .. } = self.info;
        let message = Message::Ready { task, attempt };
        fx.push(Effect::Send { to: Place::AppMaster, message });
        Ok(Turn::Waits(None))
    }
}

fn damaged(object: &ObjectRef, how: &str) -> String {
    [
        "the checkpoint object ",
        &object.name,
        " ",
        how,
        "; restore it from a backup, or start over with --fresh",
    ]
    .concat()
}
