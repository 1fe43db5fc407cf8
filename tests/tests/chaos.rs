//! A cluster of real processes in trouble of every kind: nothing is lost, nothing is there twice.
//! `cargo run -p gear-tests --bin chaos -- --minutes 30` is the same for longer.

use std::path::Path;
use std::time::Duration;

use gear_tests::chaos::Chaos;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_chaos");

#[test]
fn nothing_is_lost_whoever_is_killed_or_stands_still() {
    let seed = std::env::var("GEAR_TEST_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let report = Chaos::new(Path::new(NODE), Path::new(JOB), seed, Duration::from_secs(20)).run();
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.fired.len() >= 8 && report.restarts > 0, "nothing has happened: {report}");
}
