//! Records that were put aside on a cluster of real processes come back into the job.

use std::path::Path;
use std::process::Command;

use gear_core::control::AppOutcome;
use gear_tests::cluster::{Cluster, kill};
use gear_tests::{rest, words};

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const HOSTILE: &str = env!("CARGO_BIN_EXE_job_hostile");
/// Numbers that the job reads, 2,000 of them a second: it lasts longer than what is done to it.
const NUMBERS: u64 = 40_000;

#[test]
fn what_was_put_aside_is_given_again_once_though_an_executor_is_killed() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let (mended, out) = (cluster.path("mended"), cluster.path("out"));
    let (count, file) = (NUMBERS.to_string(), mended.display().to_string());
    let job = ["--case", "outside", "--count", &count, "--path", &file];
    let folder = out.display().to_string();
    let how = ["--out", &folder, "--parallelism", "2", "--epoch-interval", "100ms"];
    let app = cluster.submit(Path::new(HOSTILE), 2, &[&job[..], &how[..]].concat());
    let path = format!("/api/v1/apps/{}/quarantine", app.0);
    let at = cluster.serves(0);
    let records = || rest::get(at, &path).and_then(|summary| summary["records"].as_u64());
    cluster.wait_for("records are put aside", |_| records().is_some_and(|count| count > 5));

    // As long as nothing is mended, what is given again is refused again.
    let (status, answer) = rest::ask(at, "POST", &format!("{path}/replay")).expect("it answers");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
    assert_eq!(status, 200, "{answer}");
    assert!(answer["refused"].as_u64() > Some(5) && answer["replayed"] == 0, "{answer}");
    assert!(records() > Some(5), "they are where they were");

    std::fs::write(&mended, "").expect("it can be written");
    let children = cluster.children(0);
    let executor = children.iter().find(|(_, name)| name.contains(": executor"));
    kill(*executor.expect("the job runs").0);
    let mut said = String::new();
    cluster.wait_for("nothing is put aside", |_| {
        let app = app.0.to_string();
        let mut command = Command::new(NODE);
        command.args(["quarantine", &app, "--replay", "--cluster", &at.to_string()]);
        let output = command.output().expect("it is a program");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        records() == Some(0)
    });
    assert!(said.contains("records were given again, with epoch"), "{said}");
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{said}");
    let lines = words::lines(&out);
    let mut numbers: Vec<u64> = lines.iter().map(|it| it.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers == (0..NUMBERS).collect::<Vec<_>>(), "{} numbers: {said}", numbers.len());
    assert_eq!(records(), Some(0));
}
