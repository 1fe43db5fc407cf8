//! Crashes between any two requests lose nothing and repeat nothing.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gear_core::api::sink::{IoQueue, Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::effect::IoErrorKind;
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Epoch};
use gear_core::message::Pending;
use gear_core::time::{EventTime, Time, WallTime};
use proptest::prelude::*;

use super::{FilesSink, FilesWriter, WRITE_BYTES, lines_sink, sink, written};
use crate::model::ModelDisk;
use crate::random::SplitMix;

const META: Meta = Meta { at: EventTime::MIN, partition: 0 };

fn connector() -> FilesSink<u64> {
    lines_sink("out").prefix("counts").suffix(".tsv").roll_bytes(40)
}

/// The numbers in the visible files; each file whole.
fn visible(disk: &ModelDisk) -> Vec<u64> {
    let names = disk.names().filter(|name| !name.contains("/.staged/"));
    let contents = names.map(|name| String::from_utf8(disk.content(name).unwrap().into()).unwrap());
    let mut numbers: Vec<u64> = contents
        .flat_map(|text| {
            assert!(text.ends_with('\n'), "{text:?}");
            text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Tasks of one sink, a disk, and the commit log: what the engine does, in its plainest form.
struct World {
    disk: ModelDisk,
    random: SplitMix,
    tasks: Vec<(FilesWriter<u64>, IoQueue)>,
    /// The accounts of the last committed epoch.
    log: Vec<Pending>,
    epoch: u64,
    committed: u64,
    next: u64,
    wall: i64,
    opened: usize,
}

/// The process died.
struct Crash;

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: ModelDisk::new(seed),
            random: SplitMix(seed ^ 1),
            tasks: Vec::new(),
            log: Vec::new(),
            epoch: 0,
            committed: 0,
            next: 0,
            wall: 0,
            opened: 0,
        }
    }

    /// Calls a task and performs what it asks for, with a crash in any gap.
    fn call<R>(
        &mut self,
        task: usize,
        crashes: u64,
        call: impl FnOnce(&mut FilesWriter<u64>, &mut SinkContext<'_>) -> Result<R, String>,
    ) -> Result<R, Crash> {
        let (sink, io) = &mut self.tasks[task];
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(self.wall), io };
        let result = call(sink, &mut cx).unwrap();
        for (token, request) in io.take() {
            if crashes > 0 && self.random.below(crashes) == 0 {
                return Err(Crash);
            }
            self.disk.perform(&request).unwrap();
            io.done(token);
        }
        Ok(result)
    }

    fn start(&mut self, parallelism: u32, crashes: u64) -> Result<(), Crash> {
        let attempt = Attempt(1);
        let task = |index| SinkTask {
            app: "app".to_owned(),
            name: "s".to_owned(),
            index,
            parallelism,
            attempt,
        };
        let new = |index| (connector().sink(&task(index)), IoQueue::default());
        self.tasks = (0..parallelism).map(new).collect();
        self.opened = 0;
        for index in 0..parallelism {
            let ours = self.log.iter().filter(|it| it.index % parallelism == index);
            let ours: Vec<_> = ours.cloned().collect();
            self.call(index as usize, crashes, |sink, cx| sink.open(&ours, cx))?;
            self.opened = index as usize + 1;
        }
        Ok(())
    }

    /// Some epochs; `next` is what has been committed when it ends in a crash.
    fn run(&mut self, epochs: u64, last: bool, crashes: u64) -> Result<(), Crash> {
        let mut next = self.next;
        for number in 1..=epochs {
            for _ in 0..self.random.below(30) {
                let task = self.random.below(self.tasks.len() as u64) as usize;
                self.call(task, crashes, |sink, cx| sink.write(META, next, cx))?;
                next += 1;
            }
            self.epoch += 1;
            let (epoch, last) = (Epoch(self.epoch), last && number == epochs);
            let mut accounts = Vec::new();
            for index in 0..self.tasks.len() {
                let bytes = self.call(index, crashes, |sink, cx| sink.prepare(epoch, last, cx))?;
                accounts.push(Pending { index: index as u32, bytes, objects: Vec::new() });
            }
            if !last && self.random.below(4) == 0 {
                // Given up: joins the next.
                continue;
            }
            self.log = accounts;
            self.committed = self.epoch;
            self.next = next;
            for index in 0..self.tasks.len() {
                self.call(index, crashes, |sink, cx| sink.commit(epoch, cx))?;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn committed_output_is_exact(seed: u64, sizes in prop::collection::vec(1_u32..5, 1..8)) {
        let mut world = World::new(seed);
        let crashes = 2 + world.random.below(60);
        for parallelism in sizes {
            let epochs = world.random.below(6);
            let lived = world.start(parallelism, crashes);
            if lived.and_then(|()| world.run(epochs, false, crashes)).is_err() {
                if world.random.below(2) == 0 {
                    world.disk.crash();
                }
                // Numbers of epochs that were never committed are given again.
                if world.random.below(2) == 0 {
                    world.epoch = world.committed;
                }
            }
            let seen = visible(&world.disk);
            prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", seen);
            prop_assert!(seen.iter().all(|number| *number < world.next), "{:?}", seen);
            // A zombie may go on to write to what it has open, without a commit.
            let mut zombies = std::mem::take(&mut world.tasks);
            zombies.truncate(world.opened);
            for (zombie, io) in &mut zombies {
                let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io };
                zombie.write(META, 999_999, &mut cx).unwrap();
                zombie.prepare(Epoch(world.committed + 1), false, &mut cx).unwrap();
                for (_, request) in io.take() {
                    let _ = world.disk.perform(&request);
                }
            }
            world.wall += i64::from(world.random.below(2) == 0);
        }
        let _ = world.start(3, 0);
        let _ = world.run(1, true, 0);
        prop_assert_eq!(visible(&world.disk), (0..world.next).collect::<Vec<_>>());
        let accounts: Vec<_> = world.log.iter().map(|it| it.bytes.clone()).collect();
        let found = written(accounts.iter().map(Vec::as_slice), &mut world.disk).unwrap();
        let names: BTreeSet<&str> = world.disk.names().collect();
        let told = found.visible.iter().chain(&found.staged).map(String::as_str).collect();
        prop_assert_eq!(names, told);
    }

    #[test]
    fn hostile_accounts_are_refused(bytes: Vec<u8>, cut: prop::sample::Index, flip: u8) {
        let attempt = Attempt(1);
        let (app, name) = ("app".to_owned(), "s".to_owned());
        let task = SinkTask { app, name, index: 0, parallelism: 1, attempt };
        let mut writer = connector().sink(&task);
        let mut io = IoQueue::default();
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        let mut open = |bytes: Vec<u8>| {
            let pending = Pending { index: 0, bytes, objects: Vec::new() };
            connector().sink(&task).open(&[pending], &mut cx)
        };
        prop_assert!(open(bytes.clone()).is_err() || bytes.len() > 2);
        let mut io = IoQueue::default();
        let mut cx2 = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        writer.write(META, 1, &mut cx2).unwrap();
        let mut good = writer.prepare(Epoch(1), false, &mut cx2).unwrap();
        let cut = cut.index(good.len());
        prop_assert!(open(good[..cut].to_vec()).is_err());
        good[cut] ^= flip;
        let _ = open(good);
    }
}

fn alone() -> (SinkTask, IoQueue) {
    let (name, attempt) = ("s".to_owned(), Attempt(1));
    (
        SinkTask { app: "app".to_owned(), name, index: 7, parallelism: 8, attempt },
        IoQueue::default(),
    )
}

fn perform(disk: &mut ModelDisk, io: &mut IoQueue) {
    io.take().into_iter().for_each(|(_, request)| disk.perform(&request).unwrap());
}

#[test]
fn an_empty_output_makes_no_file_and_names_are_as_documented() {
    let (task, mut io) = alone();
    let mut disk = ModelDisk::new(0);
    let mut writer = connector().sink(&task);
    let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
    writer.open(&[], &mut cx).unwrap();
    writer.prepare(Epoch(1), false, &mut cx).unwrap();
    writer.commit(Epoch(1), &mut cx).unwrap();
    perform(&mut disk, cx.io);
    assert_eq!(disk.requests(), 0);
    writer.write(META, 5, &mut cx).unwrap();
    writer.prepare(Epoch(2), true, &mut cx).unwrap();
    perform(&mut disk, cx.io);
    assert!(disk.names().all(|name| name.starts_with("out/.staged/counts-7-")));
    writer.commit(Epoch(2), &mut cx).unwrap();
    perform(&mut disk, cx.io);
    assert_eq!(disk.names().collect::<Vec<_>>(), ["out/counts-00007-000002.tsv"]);
}

#[test]
fn a_file_is_closed_by_age() {
    let (task, mut io) = alone();
    let mut writer = lines_sink::<u64>("out").roll_after(Duration::from_secs(60)).sink(&task);
    let mut disk = ModelDisk::new(0);
    for (epoch, seconds, files) in [(1, 0, 0), (2, 59, 0), (3, 60, 1), (4, 300, 1)] {
        let wall = WallTime(seconds * 1_000_000);
        let mut cx = SinkContext { now: Time::ZERO, wall, io: &mut io };
        writer.write(META, epoch, &mut cx).unwrap();
        writer.prepare(Epoch(epoch), false, &mut cx).unwrap();
        writer.commit(Epoch(epoch), &mut cx).unwrap();
        perform(&mut disk, cx.io);
        assert_eq!(disk.names().filter(|name| !name.contains(".staged")).count(), files);
    }
}

#[test]
fn a_format_that_panics_leaves_nothing_behind() {
    let (task, mut io) = alone();
    let connector = sink::<u64>("out", |number, out| {
        out.extend_from_slice(b"half a ");
        assert_ne!(number, 2, "an unlucky number");
        out.extend_from_slice(format!("{number}\n").as_bytes());
    });
    let mut writer = connector.sink(&task);
    let mut disk = ModelDisk::new(0);
    let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
    for number in 1..=3 {
        let call = AssertUnwindSafe(|| writer.write(META, number, &mut cx));
        assert_eq!(catch_unwind(call).is_err(), number == 2);
    }
    let call = AssertUnwindSafe(|| writer.write(META, 2, &mut cx));
    assert!(catch_unwind(call).is_err());
    writer.prepare(Epoch(1), true, &mut cx).unwrap();
    writer.commit(Epoch(1), &mut cx).unwrap();
    perform(&mut disk, cx.io);
    assert_eq!(disk.content("out/part-00007-000001"), Some(&b"half a 1\nhalf a 3\n"[..]));
}

#[test]
fn writes_are_large_and_a_full_disk_is_an_error() {
    let (task, mut io) = alone();
    let mut writer = sink::<u64>("out", |_, out| out.extend([b'x'; 100])).sink(&task);
    let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
    for number in 0..WRITE_BYTES as u64 / 50 {
        writer.write(META, number, &mut cx).unwrap();
    }
    let requests = cx.io.take();
    assert_eq!(requests.len(), 1);
    let mut disk = ModelDisk::new(0);
    disk.set_room(1_000);
    let error = disk.perform(&requests[0].1).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::Full);
}
