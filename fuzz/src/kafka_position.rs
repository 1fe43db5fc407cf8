//! A Kafka source refuses positions that it did not write, and never panics on them; one that it
//! takes it writes again.

use gear_connectors::kafka::model::{ModelCluster, ModelConsumers, ModelRecord};
use gear_connectors::kafka::{self, WhenGone};
use gear_connectors::model::ModelDisk;
use gear_core::api::source::{Advance, Source as _, SourceConnector as _, SourceContext};
use gear_core::message::Partition;
use gear_core::time::{Time, WallTime, seconds};

/// Steps in which whatever is asked has been answered, and all records read.
const STEPS: usize = 200;

/// The first byte chooses the partition and what to do when a position is gone; the rest is the
/// position.
pub fn run(bytes: &[u8]) {
    let Some((&choice, position)) = bytes.split_first() else { return };
    let cluster = ModelCluster::new();
    cluster.create("t", 2);
    for value in ["a", "b", "c"] {
        cluster.append("t", 0, ModelRecord::new("k", value, 5));
    }
    cluster.with("t", 0, |log| log.remove_before(1));
    let mut disk = ModelDisk::new(0);
    disk.offer_kafka(ModelConsumers::new(cluster, 1));
    let gone = [WhenGone::Fail, WhenGone::Earliest, WhenGone::Latest];
    let connector = kafka::source("model", ["t"]).when_gone(gone[usize::from(choice >> 2) % 3]);
    let name = ["t#0", "t#1", "t#2+", "t#9"][usize::from(choice & 3)].to_owned();
    let mut cx = SourceContext { now: Time::ZERO, wall: WallTime(0), files: &mut disk };
    let mut source = connector.source();
    let partition = Partition { name, position: Some(position.to_vec()), done: false };
    if source.open(&[partition], &mut cx).is_err() {
        return;
    }
    for _ in 0..STEPS {
        match source.advance(&mut cx) {
            Ok(Advance::Record) => drop(format!("{:?}", source.current())),
            Ok(Advance::Wait(until)) => cx.now = until + seconds(1),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let positions = source.positions();
    connector.source().open(&positions, &mut cx).expect("a source reads what it wrote");
}
