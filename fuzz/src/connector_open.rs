//! Connectors refuse positions and accounts that they did not write, and never panic on them.

use gear_connectors::model::ModelDisk;
use gear_connectors::{collect, files, generate, stdout};
use gear_core::api::sink::{IoQueue, Sink as _, SinkConnector, SinkContext, SinkTask};
use gear_core::api::source::{Source as _, SourceConnector, SourceContext};
use gear_core::id::Attempt;
use gear_core::message::{Partition, Pending};
use gear_core::time::{Time, WallTime};

/// Opens every connector with the bytes as its position or account.
pub fn run(bytes: &[u8]) {
    source(&files::source(["a"]), "a#0-9", bytes);
    source(&files::source(["a"]).follow(), "a#0-", bytes);
    source(&generate::source(), "generated 1/3", bytes);
    sink(&files::lines_sink::<u64>("out"), bytes);
    sink(&stdout::lines::<u64>(), bytes);
    sink(&collect::sink::<u64>().1, bytes);
}

fn source(connector: &impl SourceConnector, name: &str, bytes: &[u8]) {
    let mut disk = ModelDisk::new(0);
    disk.put("a", "one\ntwo\n3");
    let mut cx = SourceContext { now: Time::ZERO, wall: WallTime(0), files: &mut disk };
    let mut source = connector.source();
    let position = Some(bytes.to_vec());
    let partition = Partition { name: name.to_owned(), position, done: false };
    if source.open(&[partition], &mut cx).is_ok() {
        // Long enough for each kind of answer.
        for _ in 0..8 {
            let _ = source.advance(&mut cx);
        }
        let _ = source.positions();
    }
}

fn sink(connector: &impl SinkConnector, bytes: &[u8]) {
    let mut io = IoQueue::default();
    let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
    let (name, attempt) = ("sink".to_owned(), Attempt(1));
    let task = SinkTask { app: "app".to_owned(), name, index: 0, parallelism: 1, attempt };
    let pending = Pending { index: 0, bytes: bytes.to_vec(), objects: Vec::new() };
    let _ = connector.sink(&task).open(&[pending], &mut cx);
}
