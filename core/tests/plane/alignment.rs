//! Barriers over several channels, in every order in which the channels can be served.

use gear_core::api::{Operator, OperatorContext};
use gear_core::dag::Partitioner;
use gear_core::dsl::{App, GraphBuilder, Settings};
use gear_core::id::Epoch;
use gear_core::message::{Barrier, EpochStart, Item};
use gear_core::time::WallTime;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Restore, Rig, drain, nothing, options};

/// Passes records with their channel, and keeps their sum.
#[derive(Clone, Default)]
struct Tag {
    sum: u64,
}

impl Operator for Tag {
    type In = u64;
    type Out = (u32, u64);

    fn on_record(&mut self, record: u64, cx: &mut OperatorContext<'_, (u32, u64)>) {
        self.sum += record;
        cx.emit((cx.channel, record));
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend(self.sum.to_le_bytes());
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.sum = u64::from_le_bytes(state.try_into().map_err(|_| "not a sum")?);
        Ok(())
    }

    fn on_stop(&mut self, cx: &mut OperatorContext<'_, (u32, u64)>) {
        cx.emit((u32::MAX, self.sum));
    }
}

fn plane() -> Plane {
    let mut app = App::new("plane", (), Settings::default());
    let source = app.source("source", nothing::<u64>());
    let mut graph = GraphBuilder::of(&app);
    graph.processor("tag", Tag::default(), source, Partitioner::Rebalance).sink("out", drain());
    Plane { job: app.finish().expect("a job") }
}

#[derive(Clone, Debug)]
enum Piece {
    Records(u8),
    Watermark(u8),
    Idle,
}

/// What comes over a channel: its epochs, of which the last has no barrier but the end.
type Script = Vec<Vec<Piece>>;

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let piece = prop_oneof![
        4 => (1..5_u8).prop_map(Piece::Records),
        2 => (0..10_u8).prop_map(Piece::Watermark),
        1 => Just(Piece::Idle),
    ];
    vec(vec(vec(piece, 0..4), 1..5), 1..5)
}

enum Fed {
    Batch(Vec<(i64, u64)>),
    Item(Item),
    Barrier(u64),
}

/// What is to be fed, and the records of each channel and epoch.
fn written(scripts: &[Script]) -> (Vec<Vec<Fed>>, Vec<Vec<Vec<u64>>>) {
    let (mut fed, mut records, mut number) = (Vec::new(), Vec::new(), 0);
    for script in scripts {
        let (mut of_channel, mut epochs, mut clock) = (Vec::new(), Vec::new(), 0);
        for (place, pieces) in script.iter().enumerate() {
            let mut of_epoch = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Records(count) => {
                        let numbers = number + 1..=number + u64::from(*count);
                        number += u64::from(*count);
                        of_epoch.extend(numbers.clone());
                        of_channel.push(Fed::Batch(numbers.map(|number| (0, number)).collect()));
                    }
                    Piece::Watermark(ahead) => {
                        clock += i64::from(*ahead);
                        of_channel
                            .push(Fed::Item(Item::Watermark(gear_core::time::EventTime(clock))));
                    }
                    Piece::Idle => of_channel.push(Fed::Item(Item::Idle)),
                }
            }
            epochs.push(of_epoch);
            if place + 1 < script.len() {
                of_channel.push(Fed::Barrier(place as u64 + 1));
            }
        }
        of_channel.push(Fed::Item(Item::End));
        of_channel.reverse();
        fed.push(of_channel);
        records.push(epochs);
    }
    (fed, records)
}

/// Feeds everything in an order that `choices` says, with steps between.
fn run(align: bool, scripts: &[Script], choices: &[(u8, u8)]) -> (Rig, Vec<Vec<Vec<u64>>>) {
    let plane = plane();
    let restore = Restore { options: options(align), ..Restore::default() };
    let mut rig = plane.start("tag", (0, 1), scripts.len() as u32, restore);
    let (mut fed, records) = written(scripts);
    let mut choices = choices.iter().cycle();
    while fed.iter().any(|channel| !channel.is_empty()) {
        let (choice, steps) = choices.next().copied().unwrap_or((0, 0));
        let open: Vec<_> = (0..fed.len()).filter(|channel| !fed[*channel].is_empty()).collect();
        let channel = open[choice as usize % open.len()];
        match fed[channel].pop() {
            Some(Fed::Batch(records)) => rig.batch(channel as u32, &records),
            Some(Fed::Item(item)) => rig.item(channel as u32, item),
            Some(Fed::Barrier(epoch)) => rig.barrier(channel as u32, epoch, None),
            None => {}
        }
        for _ in 0..steps {
            rig.step();
        }
    }
    rig.settle();
    (rig, records)
}

/// The records that left between two barriers, with those barriers' numbers and counts.
fn parted(rig: &Rig) -> (Vec<Vec<(u32, u64)>>, Vec<Barrier>) {
    let (mut parts, mut barriers) = (vec![Vec::new()], Vec::new());
    for (_, item) in &rig.out {
        match item {
            Item::Batch(batch) => {
                let mut reader = batch.reader(0);
                while let Some((_, record)) = reader.next::<(u32, u64)>().expect("encoded") {
                    parts.last_mut().expect("one").push(record);
                }
            }
            Item::Barrier(barrier) => {
                barriers.push(*barrier);
                parts.push(Vec::new());
            }
            _ => {}
        }
    }
    (parts, barriers)
}

fn of_channel(part: &[(u32, u64)], channel: usize) -> Vec<u64> {
    part.iter().filter(|it| it.0 as usize == channel).map(|it| it.1).collect()
}

/// Each barrier says how many records came before it, and no watermark goes back.
fn check_marks(rig: &Rig, parts: &[Vec<(u32, u64)>], barriers: &[Barrier]) {
    assert_eq!(rig.failed, None);
    for (barrier, part) in barriers.iter().zip(parts) {
        assert_eq!(barrier.records, part.len() as u64);
    }
    let marks = rig.out.iter().filter_map(|(_, item)| match item {
        Item::Watermark(at) => Some(*at),
        _ => None,
    });
    assert!(marks.collect::<Vec<_>>().is_sorted());
    assert_eq!(rig.out.last().map(|(_, item)| item), Some(&Item::End));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn aligned_barriers_part_the_streams_of_all_channels_alike(
        scripts in scripts(),
        choices in vec((any::<u8>(), 0..4_u8), 1..40),
    ) {
        let (rig, records) = run(true, &scripts, &choices);
        let (parts, barriers) = parted(&rig);
        check_marks(&rig, &parts, &barriers);
        let epochs = scripts.iter().map(Vec::len).max().unwrap_or(0);
        let numbers: Vec<_> = barriers.iter().map(|barrier| barrier.start.epoch.0).collect();
        prop_assert_eq!(numbers, (1..epochs as u64).collect::<Vec<_>>());
        let mut sum = 0;
        for (epoch, part) in parts.iter().enumerate() {
            for (channel, epochs) in records.iter().enumerate() {
                let expected = epochs.get(epoch).cloned().unwrap_or_default();
                sum += expected.iter().sum::<u64>();
                prop_assert_eq!(of_channel(part, channel), expected);
            }
            if epoch + 1 < parts.len() {
                let snapshot = &rig.snapshots[&(epoch as u64 + 1)];
                let object = &rig.store[&snapshot.chain.last().expect("has state").name];
                let reader = gear_core::flow::state::SnapshotReader::open(object).expect("whole");
                prop_assert!(reader.meta().ends_with(&sum.to_le_bytes()), "of epoch {}", epoch);
            }
        }
    }

    #[test]
    fn barriers_that_do_not_align_hold_nothing_back_and_pass_nothing(
        scripts in scripts(),
        choices in vec((any::<u8>(), 0..4_u8), 1..40),
    ) {
        let (rig, records) = run(false, &scripts, &choices);
        let (parts, barriers) = parted(&rig);
        check_marks(&rig, &parts, &barriers);
        let numbers: Vec<_> = barriers.iter().map(|barrier| barrier.start.epoch.0).collect();
        let epochs = scripts.iter().map(Vec::len).max().unwrap_or(0);
        prop_assert_eq!(numbers, (1..epochs as u64).collect::<Vec<_>>());
        for (channel, epochs) in records.iter().enumerate() {
            let all: Vec<_> = parts.iter().flat_map(|part| of_channel(part, channel)).collect();
            prop_assert_eq!(all, epochs.concat());
            let (mut got, mut due) = (0, 0);
            for (epoch, part) in parts.iter().enumerate() {
                got += of_channel(part, channel).len();
                due += epochs.get(epoch).map_or(0, Vec::len);
                prop_assert!(got >= due, "epoch {} of channel {}", epoch + 1, channel);
            }
        }
    }
}

#[test]
fn nothing_of_the_next_epoch_is_processed_while_a_channel_lacks_its_barrier() {
    let mut rig = plane().task("tag", 2);
    rig.batch::<u64>(0, &[(0, 1)]);
    rig.barrier(0, 1, None);
    rig.batch::<u64>(0, &[(0, 2)]);
    rig.batch::<u64>(1, &[(0, 3)]);
    rig.settle();
    let got = |rig: &mut Rig| -> Vec<_> {
        rig.records::<(u32, u64)>(0).into_iter().map(|(_, record)| record).collect()
    };
    assert_eq!(got(&mut rig), [(1, 3), (0, 1)]);
    assert!(rig.snapshots.is_empty());
    rig.item(1, Item::End);
    rig.settle();
    assert!(rig.snapshots.contains_key(&1), "a channel that has ended counts as aligned");
    assert_eq!(got(&mut rig), [(0, 2)]);
}

#[test]
fn a_wrong_count_fails_the_task_loudly() {
    for records in [0, 2] {
        let mut rig = plane().task("tag", 1);
        rig.batch::<u64>(0, &[(0, 1)]);
        let start = EpochStart { epoch: Epoch(1), base: None, stop: false };
        rig.item(0, Item::Barrier(Barrier { start, records, born: WallTime(0) }));
        rig.settle();
        let reason = rig.failed.expect("failed");
        for word in ["tag", "got 1 records", &format!("{records} were sent"), "epoch 1"] {
            assert!(reason.contains(word), "{word} is missing in: {reason}");
        }
        assert!(rig.snapshots.is_empty());
    }
}
