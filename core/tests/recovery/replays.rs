//! Records that are put aside and given again while executors and app masters are lost: in the end
//! each is in the output or in the quarantine, once.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::catch_unwind;

use gear_core::api::Record;
use gear_core::app::{Leave, Outcome};
use gear_core::checkpoint::Aside;
use gear_core::checkpoint::history::{Records, settle};
use gear_core::checkpoint::record::{self, Record as LogRecord, number_of};
use gear_core::dsl::{App, Job, Settings};
use gear_core::host::{Faults, NoFaults};
use gear_core::task::decode_quarantine;

use crate::cluster::{Cluster, Who};
use crate::job::{KEYS, Numbers, epochs, visible};
use crate::random::{Reached, fault};

const SEEDS: u64 = 200;

thread_local! {
    /// The world outside is as it should be: nothing is refused.
    static HEALED: Cell<bool> = const { Cell::new(false) };
}

/// Numbers that are refused while the world outside is not as it should be.
const fn is_poison(number: u64) -> bool {
    number % 7 == 3
}

fn check(number: u64) -> Result<u64, &'static str> {
    if is_poison(number) && !HEALED.get() {
        Err("the world is not as it should be")
    } else {
        Ok(number)
    }
}

/// As the plain job, with an operator in each part that refuses some numbers for a while.
fn job(numbers: Numbers) -> Job {
    let parallelism = numbers.partitions;
    let mut app = App::new("replays", (), Settings { parallelism, key_groups: 16 });
    let plain = app.source("plain", numbers).try_map::<u64, _, _>("check", |it: &u64| check(*it));
    plain.sink("copy", epochs::<u64>());
    let keyed = app.source("keyed", numbers).map("same", |number: u64| number);
    let keyed = keyed.try_map::<u64, _, _>("test", |it: &u64| check(*it));
    let keyed = keyed.key_by(|number: &u64| *number % KEYS);
    keyed.count("count").updates().sink("counts", epochs::<(u64, u64)>());
    app.finish().unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What the runs have come to together.
#[derive(Debug, Default)]
struct Sum {
    replayed: u64,
    refused: u64,
    dropped: u64,
    ended: u64,
    failed: u64,
    roll_backs: u64,
    left: u64,
}

/// The numbers that are in the quarantine, by operator.
fn quarantined(store: &BTreeMap<String, Vec<u8>>) -> BTreeMap<(String, u64), u64> {
    let records: Records = store
        .range(record::FOLDER.to_owned()..)
        .filter_map(|(name, bytes)| Some((number_of(name)?, LogRecord::decode(bytes))))
        .collect();
    let history = settle(&records);
    let aside = history.epochs.last().map_or_else(Aside::default, |(_, last)| last.aside.clone());
    let mut found = BTreeMap::new();
    for (name, bytes) in store.iter().filter(|(name, _)| aside.holds(name)) {
        for entry in decode_quarantine(bytes).unwrap_or_else(|error| panic!("{name} {error}")) {
            let number = u64::decode(&mut entry.bytes.as_slice()).expect("it is a number");
            *found.entry((entry.operator, number)).or_default() += 1;
        }
    }
    found
}

/// The rows that are to be visible if these numbers are not.
fn expected(
    numbers: Numbers,
    aside: &BTreeMap<(String, u64), u64>,
) -> BTreeMap<(String, Vec<u8>), u64> {
    let mut rows = BTreeMap::new();
    let mut counts = BTreeMap::<u64, u64>::new();
    for number in 0..numbers.len {
        let shown = |operator: &str| {
            let aside = aside.get(&(operator.to_owned(), number)).copied().unwrap_or_default();
            u64::from(numbers.partitions).checked_sub(aside).expect("it is not put aside twice")
        };
        let mut row = Vec::new();
        u64::encode(&number, &mut row);
        if shown("check") > 0 {
            rows.insert(("copy".to_owned(), row), shown("check"));
        }
        *counts.entry(number % KEYS).or_default() += shown("test");
    }
    for (key, count) in counts {
        for count in 1..=count {
            let mut row = Vec::new();
            <(u64, u64)>::encode(&(key, count), &mut row);
            rows.insert(("counts".to_owned(), row), 1);
        }
    }
    rows
}

/// One run, with faults for a while and then without.
pub(crate) fn run<F: Faults>(seed: u64) -> u64 {
    let mut sum = Sum::default();
    one::<F>(seed, &mut sum);
    sum.replayed
}

fn one<F: Faults>(seed: u64, sum: &mut Sum) {
    HEALED.set(false);
    let mut faults = [0, 4, 8, 16][(seed % 4) as usize];
    let drops = seed.is_multiple_of(5);
    let numbers = Numbers { partitions: 1 + (seed % 4) as u32, len: 60 };
    let mut cluster: Cluster<F> = Cluster::of(job, seed, 1 + (seed / 3 % 3) as u32, numbers);
    let (mut zombies, mut reached): (Vec<Who>, _) = (Vec::new(), Reached::default());
    let mut asked = 0;
    let mut dropped = false;
    while cluster.master().outcome().is_none() {
        cluster.replaces |= !cluster.step() || faults == 0;
        for (_, leave, result) in cluster.gone() {
            match result {
                Ok(left) => {
                    sum.replayed += left.counts.replayed;
                    sum.refused += left.counts.refused;
                    sum.ended += left.counts.ended;
                    sum.dropped += left.dropped;
                    sum.left += left.objects;
                    dropped |= leave == Leave::Drop;
                    let kept = left.counts.kept() - left.counts.ended;
                    assert_eq!(
                        kept, 0,
                        "they are whole, and of operators that there are: {left:?}"
                    );
                }
                Err(_) => sum.failed += 1,
            }
        }
        if cluster.random.below(150) == 0 {
            HEALED.set(HEALED.get() || cluster.random.below(4) == 0);
            asked += 1;
            let drop = drops && cluster.random.below(4) == 0;
            dropped |= drop;
            cluster.leave_quarantine(asked, if drop { Leave::Drop } else { Leave::Replay });
        }
        if faults > 0 && cluster.random.below(400) == 0 {
            faults -= 1;
            fault(&mut cluster, &mut zombies, &mut reached);
        }
        if matches!(cluster.master().outcome(), Some(Outcome::Stopped { .. })) {
            cluster.stop_wished = false;
            let there = cluster.executors().into_iter().map(Who::Executor);
            there.chain(zombies.drain(..)).for_each(|who| cluster.kill(who));
            cluster.start_master();
        }
    }
    let outcome = cluster.master().outcome().cloned().expect("it was just seen");
    let is_over = matches!(outcome, Outcome::Finished { .. } | Outcome::AlreadyFinished { .. });
    assert!(is_over, "{outcome:?}");
    for _ in 0..2_000 {
        cluster.step();
    }
    let aside = quarantined(&cluster.store);
    let is_poisoned = aside.keys().all(|(_, number)| is_poison(*number));
    assert!(is_poisoned, "only poison is put aside: {aside:?}");
    if dropped {
        // What was dropped is nowhere.
        let all = expected(numbers, &aside);
        for (row, count) in visible(&cluster.files) {
            assert!(all.get(&row).is_some_and(|most| count <= *most), "seed {seed}: {row:?}");
        }
    } else {
        assert_eq!(visible(&cluster.files), expected(numbers, &aside), "seed {seed}");
    }
    let is_roll_back = |notice: &&String| notice.contains("is lost (");
    sum.roll_backs += cluster.notices.iter().filter(is_roll_back).count() as u64;
}

#[test]
fn each_record_is_in_the_output_or_in_the_quarantine_whoever_is_lost() {
    let mut sum = Sum::default();
    let mut failed = Vec::new();
    for seed in 0..SEEDS {
        let mut it = Sum::default();
        if catch_unwind(std::panic::AssertUnwindSafe(|| one::<NoFaults>(seed, &mut it))).is_err() {
            failed.push(seed);
        }
        sum.replayed += it.replayed;
        sum.refused += it.refused;
        sum.dropped += it.dropped;
        sum.ended += it.ended;
        sum.failed += it.failed;
        sum.roll_backs += it.roll_backs;
        sum.left += it.left;
    }
    assert!(failed.is_empty(), "these seeds fail: {failed:?}, {sum:?}");
    let Sum { replayed, refused, dropped, ended, failed, roll_backs, left } = sum;
    let all = [replayed, refused, dropped, ended, failed, roll_backs, left];
    assert!(all.iter().all(|count| *count > SEEDS / 20), "the runs reach too little: {sum:?}");
}
