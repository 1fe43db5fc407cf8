//! What a job says whose checkpoint store is none, or does not let it in; and that no key is in it.

use gear_tests::chaos::job::{self, Options};
use gear_tests::process::{Ended, Room};
use gear_tests::services::BUCKET;

use super::careless::{self, Fault};
use super::{CHAOS, Place};

/// Nothing may show the value of this variable.
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

fn options() -> Options {
    Options { count: 1_000, rate: 1_000, seed: 1, out: "out".into() }
}

/// Runs a job with these variables, and all that can be logged.
fn run(room: &Room, url: &str, variables: &[(&str, &str)]) -> Ended {
    let mut arguments = options().arguments(1, "50ms");
    arguments.extend(["--checkpoints", url, "--log", "trace"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = room.command(&arguments);
    command.envs(variables.iter().copied());
    let ended = room.start_command(command).wait();
    let (_, secret) = variables.iter().find(|it| it.0 == SECRET).expect("it is given");
    assert!(!ended.err.contains(secret) && !ended.out.contains(secret), "{ended:?}");
    ended
}

/// The variables for a server that believes everybody.
fn variables(endpoint: &str) -> [(&str, &str); 5] {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "anybody"),
        (SECRET, "of-no-account"),
        ("AWS_DISABLE_BULK_DELETE", "true"),
    ]
}

#[test]
fn what_is_wrong_with_the_store_is_said() {
    let Some(place) = Place::new("errors") else { return };
    let room = Room::new(CHAOS);
    let right = place.services.s3_variables();
    let with = |name: &str, value: &'static str| {
        let mut variables = right;
        let variable = variables.iter_mut().find(|it| it.0 == name);
        variable.expect("it is one of them").1 = value;
        variables
    };
    let url = &place.url();
    run(&room, url, &with(SECRET, "a-key-of-nobody")).refused(&[
        url,
        "SignatureDoesNotMatch",
        "look at the keys",
    ]);
    let id = "AWS_ACCESS_KEY_ID";
    run(&room, url, &with(id, "nobody")).refused(&[url, "InvalidAccessKeyId"]);
    run(&room, "s3://nowhere/gear", &right).refused(&["s3://nowhere/gear", "NoSuchBucket"]);
    let http = "AWS_ALLOW_HTTP";
    run(&room, url, &with(http, "false")).refused(&[url, "plain HTTP", "AWS_ALLOW_HTTP=true"]);
    // And all is well with the right ones.
    let _ = run(&room, url, &right).ok();
}

#[test]
fn a_server_that_is_not_there_is_waited_for_only_so_long() {
    // No other test is given this port.
    let nobody = "http://127.0.0.1:1";
    let room = Room::new(CHAOS);
    let ended = run(&room, "s3://gear/nobody", &variables(nobody));
    ended.refused(&["s3://gear/nobody", nobody, "Connection refused"]);
}

#[test]
fn a_store_that_creates_what_is_there_is_refused_by_the_probe() {
    for (fault, says) in [
        (Fault::Overwrites, "asked to refuse to create it again, it replaced it"),
        (Fault::NotImplemented, "NotImplemented"),
    ] {
        let room = Room::new(CHAOS);
        let url = format!("s3://{BUCKET}/careless");
        let ended = run(&room, &url, &variables(&careless::serve(fault)));
        ended.refused(&[&url, says, "create an object only if there is none of its name"]);
    }
}

#[test]
fn answers_that_are_lost_or_undecided_cost_nothing() {
    for fault in [Fault::LosesAnswers, Fault::Undecided] {
        let room = Room::new(CHAOS);
        let url = format!("s3://{BUCKET}/careless");
        let _ = run(&room, &url, &variables(&careless::serve(fault))).ok();
        let difference = job::compare(&job::expected(&options()), &room.path("out"));
        assert!(difference.told.is_empty(), "{fault:?}: {difference:?}");
    }
}
