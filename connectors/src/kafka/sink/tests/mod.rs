//! The sink against a cluster in memory.

mod by_hand;
mod random;

use std::collections::{BTreeMap, VecDeque};

use gear_core::api::sink::{
    Answered, IoQueue, ObjectRequest, Sink, SinkConnector, SinkContext, SinkTask,
};
use gear_core::effect::{IoError, IoErrorKind, IoRequest};
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Epoch, Token};
use gear_core::message::{ObjectRef, Pending};
use gear_core::time::{EventTime, Time, WallTime};

use super::{KafkaSink, KafkaWriter};
use crate::kafka::model::{ModelCluster, ModelProducers, ProducerFaults};

const TOPIC: &str = "out";

type Pair = (String, String);

/// Objects of the checkpoint store, by name.
type Store = BTreeMap<String, Vec<u8>>;

/// A task of the sink with what is around it: one process's producers, and answers on their way.
struct Task {
    writer: KafkaWriter<Pair>,
    io: IoQueue,
    producers: ModelProducers,
    calls: VecDeque<(Token, IoRequest)>,
    objects: VecDeque<(Token, ObjectRequest)>,
    answers: VecDeque<(Token, Result<Vec<u8>, IoError>)>,
    /// Epochs that were prepared: the account, its objects, and what it waits for.
    prepared: VecDeque<Prepared>,
    failed: Option<String>,
    warnings: Vec<String>,
}

#[derive(Clone, Debug)]
struct Prepared {
    epoch: u64,
    account: Vec<u8>,
    objects: Vec<ObjectRef>,
    mark: Token,
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
struct Clock {
    now: Time,
    wall: WallTime,
}

impl Clock {
    const fn start() -> Self {
        Self { now: Time(1), wall: WallTime(1_000) }
    }

    fn advance(&mut self, micros: u64) {
        self.now = Time(self.now.0 + micros * 1_000);
        self.wall = WallTime(self.wall.0 + micros as i64);
    }
}

impl Task {
    fn open(
        sink: &KafkaSink<Pair>,
        (index, parallelism, attempt): (u32, u32, u64),
        producers: ModelProducers,
        pending: &[Pending],
        clock: Clock,
    ) -> Self {
        let (app, name) = ("app".to_owned(), "sink".to_owned());
        let attempt = Attempt(attempt);
        let folder = format!("output/sink-{index}/{}", attempt.0);
        let mut task = Self {
            writer: sink.sink(&SinkTask { app, name, index, parallelism, attempt }),
            io: IoQueue::new(Token(0), folder, Epoch(0)),
            producers,
            calls: VecDeque::new(),
            objects: VecDeque::new(),
            answers: VecDeque::new(),
            prepared: VecDeque::new(),
            failed: None,
            warnings: Vec::new(),
        };
        task.with(clock, |writer, cx| writer.open(pending, cx));
        task
    }

    /// Calls the writer, and takes what it asks for.
    fn with<R: Default>(
        &mut self,
        clock: Clock,
        call: impl FnOnce(&mut KafkaWriter<Pair>, &mut SinkContext<'_>) -> Result<R, String>,
    ) -> R {
        if self.failed.is_some() {
            return R::default();
        }
        let mut cx = SinkContext { now: clock.now, wall: clock.wall, io: &mut self.io };
        let result = call(&mut self.writer, &mut cx).unwrap_or_else(|reason| {
            self.failed = Some(reason);
            R::default()
        });
        self.collect(clock);
        result
    }

    fn collect(&mut self, clock: Clock) {
        self.io.resume(clock.now);
        self.calls.extend(self.io.take());
        self.objects.extend(self.io.take_objects());
        self.warnings.extend(self.io.take_warnings());
    }

    /// True if it takes records and barriers.
    fn takes(&self) -> bool {
        self.writer.is_open() && self.writer.has_room()
    }

    fn write(&mut self, key: &str, value: &str, clock: Clock) {
        let view = (key.to_owned(), value.to_owned());
        self.with(clock, |writer, cx| writer.write(Meta::at(EventTime::MIN), view, cx));
    }

    fn prepare(&mut self, epoch: u64, clock: Clock) {
        let account = self.with(clock, |writer, cx| writer.prepare(Epoch(epoch), false, cx));
        let (objects, mark) = (self.writer.objects(), self.io.mark());
        self.prepared.push_back(Prepared { epoch, account, objects, mark });
    }

    fn commit(&mut self, epoch: u64, clock: Clock) {
        self.prepared.retain(|prepared| prepared.epoch > epoch);
        self.with(clock, |writer, cx| writer.commit(Epoch(epoch), cx));
    }

    /// True if all that an epoch's account waits for is done.
    fn is_reported(&self, epoch: u64) -> bool {
        let prepared = self.prepared.iter().find(|prepared| prepared.epoch == epoch);
        prepared.is_some_and(|prepared| self.io.is_done(prepared.mark))
    }

    fn account(&self, epoch: u64) -> (Vec<u8>, Vec<ObjectRef>) {
        let prepared = self.prepared.iter().find(|prepared| prepared.epoch == epoch);
        let prepared = prepared.expect("it was prepared");
        (prepared.account.clone(), prepared.objects.clone())
    }

    /// A request to the cluster is carried out.
    fn call(&mut self) -> bool {
        let Some((token, request)) = self.calls.pop_front() else { return false };
        let IoRequest::Call { service, command, body } = request else {
            panic!("the sink writes no files: {request:?}")
        };
        assert_eq!(service, super::SERVICE);
        let result = self.producers.perform(&command, &body);
        self.answers.push_back((token, result));
        true
    }

    /// A request to the checkpoint store is carried out.
    fn store(&mut self, store: &mut Store) -> bool {
        let Some((token, request)) = self.objects.pop_front() else { return false };
        let result = match request {
            ObjectRequest::Keep(object, bytes) => {
                let before = store.insert(object.name.clone(), bytes.to_vec());
                assert_eq!(before, None, "{} is written once", object.name);
                Ok(Vec::new())
            }
            ObjectRequest::Fetch(object) => store.get(&object.name).cloned().ok_or_else(|| {
                let (path, reason) = (object.name, "it is missing".to_owned());
                IoError { path, reason, kind: IoErrorKind::NotFound }
            }),
        };
        self.answers.push_back((token, result));
        true
    }

    /// An answer arrives.
    fn hear(&mut self, clock: Clock) -> bool {
        let Some((token, result)) = self.answers.pop_front() else { return false };
        self.answer(token, result, clock);
        true
    }

    fn answer(&mut self, token: Token, result: Result<Vec<u8>, IoError>, clock: Clock) {
        self.with(clock, |writer, cx| {
            let answered = writer.answered(token, result, cx)?;
            match answered {
                Answered::Done => assert!(cx.io.done(token), "it was done before"),
                Answered::Again { request, at } => {
                    let wait = at.since(cx.now);
                    assert!(wait <= super::BACKOFF_MAX, "it waits for {wait:?}");
                    cx.io.again(token, request, at);
                }
            }
            Ok(())
        });
    }

    /// Does everything that can be done, as time goes by.
    fn settle(&mut self, store: &mut Store, clock: &mut Clock) {
        for _ in 0..10_000 {
            let busy = self.call() | self.store(store) | self.hear(*clock);
            if !busy {
                match self.io.next_due() {
                    Some(_) if self.failed.is_none() => clock.advance(10_000),
                    _ => return,
                }
            }
            self.collect(*clock);
        }
        panic!("it does not come to rest");
    }
}

/// Everything that a reader of committed records finds, by partition.
fn committed(cluster: &ModelCluster, partitions: u32) -> Vec<Vec<(String, String)>> {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
    let read = |partition| {
        let records = cluster.with(TOPIC, partition, |log| {
            log.read(0, usize::MAX, true).expect("nothing is removed").records
        });
        records.into_iter().map(|(_, record)| (text(record.key), text(record.value))).collect()
    };
    (0..partitions).map(read).collect()
}

/// How the tests write.
fn sink() -> KafkaSink<Pair> {
    super::sink("model", TOPIC)
}

fn calm(cluster: &ModelCluster) -> ModelProducers {
    ModelProducers::new(cluster.clone(), 1, ProducerFaults::default())
}
