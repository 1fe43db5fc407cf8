//! Jobs that decode what comes from outside, through crashes, by hand.

use gear_node::prelude::*;
use gear_node::testing::{self, Harness, Input, Output};

#[expect(dead_code, unreachable_pub, reason = "a program that is tested from within")]
#[path = "../examples/json_events.rs"]
mod json_events;

use json_events::Event;

/// The lines of the visible files below a folder, in order.
fn lines(job: &mut Harness, folder: &str) -> Vec<String> {
    let disk = job.disk();
    let names: Vec<String> =
        disk.names().filter(|name| name.starts_with(folder)).map(str::to_owned).collect();
    let content = |name: &String| {
        String::from_utf8_lossy(disk.content(name).unwrap_or_default()).into_owned()
    };
    let text: String = names.iter().map(content).collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn events_are_counted_and_what_is_none_is_told_once() {
    let mut input = Vec::new();
    for second in 0..300 {
        input.extend(
            format!("{{\"at\":{second},\"kind\":\"k{}\",\"more\":[]}}\n", second % 2).bytes(),
        );
        if second % 100 == 0 {
            input.extend(b"{\"at\":");
            input.push(0xff);
            input.push(b'\n');
        }
    }
    let options = json_events::Options { paths: vec!["in.json".into()], out: "o".into() };
    let mut job =
        Harness::setup_with(options, json_events::job).file("in.json", input).start().unwrap();
    job.epoch();
    job.crash_and_restore_with(2);
    job.epoch();
    job.crash_and_restore();
    job.run();
    (0..5).for_each(|_| job.advance(seconds(60)));
    assert!(job.is_finished());
    let counts = lines(&mut job, "o/counts/part");
    assert_eq!(counts.len(), 10, "{counts:?}");
    assert_eq!(counts[0], r#"{"kind":"k0","from":0,"count":30}"#);
    let letter = concat!(
        r#"{"operator":"parse","reason":"line 1 column 7: expected value","#,
        r#""record_hex":"7b226174223aff"}"#
    );
    assert_eq!(lines(&mut job, "o/refused/part"), [letter; 3]);
    assert!(job.quarantined().is_empty());
}

#[test]
fn letters_survive_crashes_once_and_those_of_a_source_say_where() {
    let (input, events) = (Input::<Ref<str>>::new(), Output::<Event>::new());
    let (parse, source) = (Output::<String>::new(), Output::<String>::new());
    let mut job = Harness::new({
        let (input, events) = (input.clone(), events.clone());
        let (parse, source) = (parse.clone(), source.clone());
        move |app| {
            let (read, unread) = app.source("in", testing::input(&input)).dead_letters();
            let (parsed, refused) =
                read.try_map::<Event, _, _>("parse", |line| json::decode(line)).dead_letters();
            let shown = |letter: DeadLetter<'_>| {
                let text = String::from_utf8_lossy(letter.payload()).into_owned();
                let partition = if letter.partition.is_empty() { "-" } else { "+" };
                format!("{partition} {} {text}: {}", letter.operator, letter.reason)
            };
            unread.map("unread", shown).sink("source-letters", testing::output(&source));
            refused.map("refused", shown).sink("parse-letters", testing::output(&parse));
            parsed.sink("events", testing::output(&events));
            Ok(())
        }
    })
    .unwrap();
    let at = EventTime::from_seconds(1);
    input.push(r#"{"at":1,"kind":"a"}"#, at);
    input.push("x1", at);
    input.push_malformed(b"bytes", "is not UTF-8");
    job.epoch();
    input.push("x2", at);
    job.run();
    job.crash_and_restore_with(3);
    job.run();
    job.epoch();
    job.run();
    assert_eq!(events.committed(), [Event { at: 1, kind: "a".into() }]);
    let refused = |text| format!("- parse {text}: line 1 column 1: expected value");
    let mut letters = parse.committed();
    letters.sort();
    assert_eq!(letters, [refused("x1"), refused("x2")]);
    assert_eq!(source.committed(), ["+ in bytes: is not UTF-8"]);
    assert!(job.quarantined().is_empty());
    input.end();
    job.run();
}
