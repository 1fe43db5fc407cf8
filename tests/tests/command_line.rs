//! What every job's binary answers on its command line and takes from its environment.

use gear_tests::process::{Ended, Room};

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");
const LATE_EVENTS: &str = env!("CARGO_BIN_EXE_job_late_events");

fn room() -> Room {
    let room = Room::new(WORD_COUNT);
    room.write("text.txt", b"a b a\n\xff");
    room
}

#[test]
fn help_shows_the_job_and_the_runtime() {
    let help = room().run(&["--help"]).ok().out;
    let options = [
        "PATH",
        "--top",
        "--out",
        "--parallelism",
        "--epoch-interval",
        "--state",
        "--memory",
        "--guarantee",
        "--quarantine",
        "--on-bad-record",
        "--log",
        "--fresh",
        "--take-over",
        "--explain",
        "GEAR_PARALLELISM",
        "GEAR_MEMORY",
        "Runtime options",
    ];
    for option in options {
        assert!(help.contains(option), "{option}: {help}");
    }
}

#[test]
fn explain_shows_the_graph_and_runs_nothing() {
    let room = room();
    let text = room.run(&["text.txt", "--explain"]).ok().out;
    for part in ["lines", "split", "counts", "files", "hash"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!room.path("out").exists() && !room.path("gear-state").exists());
}

#[test]
fn explain_dot_is_a_graph_in_dot() {
    for (program, nodes) in [(WORD_COUNT, 3), (LATE_EVENTS, 6)] {
        let room = Room::new(program);
        let arguments: &[&str] =
            if program == WORD_COUNT { &["x", "--explain=dot"] } else { &["--explain=dot"] };
        let dot = room.run(arguments).ok().out;
        let body = dot.trim().strip_prefix("digraph ").expect("a directed graph");
        let (name, body) = body.split_once('{').expect("a body");
        assert!(name.trim().starts_with('"') || !name.trim().contains(['-', ' ']), "{name}");
        let body = body.strip_suffix('}').expect("one body");
        assert_eq!(dot.matches('"').count() % 2, 0, "{dot}");
        assert_eq!(dot.matches('[').count(), dot.matches(']').count(), "{dot}");
        let statements = || body.lines().map(str::trim).filter(|line| !line.is_empty());
        assert!(statements().all(|line| line.ends_with([';', '{', '}'])), "{dot}");
        let edges = statements().filter(|line| line.contains("->")).count();
        assert!(edges >= nodes - 1, "{dot}");
    }
}

fn with_environment(room: &Room, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = room.command(arguments);
    command.envs(variables.iter().copied());
    room.start_command(command).wait()
}

#[test]
fn options_come_from_the_environment_and_the_command_line_wins() {
    let room = room();
    let variables = [("GEAR_STATE", "my-state"), ("GEAR_QUIET", "true"), ("GEAR_PARALLELISM", "2")];
    let ended = with_environment(&room, &variables, &["text.txt"]).ok();
    assert!(room.path("my-state/log").exists(), "{ended:?}");
    assert!(!ended.out.contains("finished: "), "{ended:?}");
    assert_eq!(room.table("out")["a"], "2");

    let explained = |variables: &[(&str, &str)], arguments: &[&str]| {
        with_environment(&room, variables, &[&["text.txt", "--explain"], arguments].concat())
            .ok()
            .out
    };
    let two = explained(&[("GEAR_PARALLELISM", "2")], &[]);
    assert_eq!(explained(&[], &["--parallelism", "2"]), two);
    assert_ne!(explained(&[("GEAR_PARALLELISM", "2")], &["--parallelism", "3"]), two);
    with_environment(&room, &[("GEAR_MEMORY", "lots")], &["text.txt"]).refused(&["lots", "512M"]);
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    let room = room();
    room.run(&["text.txt", "--epoch-interval", "soon"]).refused(&["soon", "100ms"]);
    room.run(&["text.txt", "--memory", "4x"]).refused(&["4x", "512M"]);
    room.run(&["text.txt", "--parallelism", "2000"]).refused(&["2000", "key groups"]);
    room.run(&["text.txt", "--parallelism", "0"]).refused(&["parallelism"]);
    room.run(&["--no-such-option"]).refused(&["--no-such-option"]);
}
