//! Jobs that read and write an HDFS on whole clusters: at volume, and with bugs in the connectors.

mod common;
#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use common::{checked, first_seed};
use gear_connectors::faults;
use gear_core::host;
use seeded::{Bug, Seeded};
use sim::cluster::{FaultKind, Swarm, Wanted, run_folders, run_folders_with};
use sim::report::Options;
use sim::sweep::{Limits, sweep};

/// Seeds of one run of the tests.
const SEEDS: u64 = 300;
/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const BUG_SEEDS: u64 = 600;

#[test]
fn seeds_of_this_commit_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| run_folders(seed, &Wanted::default(), &Options::default());
    let all = sweep(first..first + SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    for kind in FaultKind::HDFS {
        let name = kind.name();
        assert!(all.fired.contains_key(name), "{name} never fired: {:?}", all.fired);
    }
    println!("{:?}\n{:?}", all.fired, all.rare);
}

fn in_hdfs(bug: Bug) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let draw = Swarm::draw_folders::<Seeded>;
    seeded::found(bug, 0..BUG_SEEDS, |seed| {
        run_folders_with::<Seeded>(draw, seed, &wanted, &options)
    });
}

bugs! {
    faults::Fault, in_hdfs;
    position_of_read_ahead: PositionOfReadAhead;
    cut_lines: CutLines;
    leave_out_sync: LeaveOutSync;
    publish_before_record: PublishBeforeRecord;
    remove_before_record: RemoveBeforeRecord;
}

bugs! {
    host::Fault, in_hdfs;
    commit_before_record: CommitBeforeRecord;
}
