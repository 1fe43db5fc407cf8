//! The graphs that the DSL builds, and its mistakes.

use gear_core::clock::Watermarks;
use gear_core::dag::Partitioner;
use gear_core::dsl::{App, Job, JobError, Settings, Sliding, Tumbling};
use gear_core::limits::KEY_GROUPS_DEFAULT;
use gear_core::time::Duration;

use crate::rig::{drain, nothing};

fn app(parallelism: u32) -> App {
    App::new("graphs", (), Settings { parallelism, key_groups: KEY_GROUPS_DEFAULT })
}

/// The edges as `from.output -> to`, with their partitioners.
fn edges(job: &Job) -> Vec<(String, Partitioner)> {
    let name = |id| job.graph.name_of(id);
    let edges = job.graph.edges.iter().map(|edge| {
        let output = if edge.output == 0 { String::new() } else { format!(".{}", edge.output) };
        (format!("{}{output} -> {}", name(edge.from), name(edge.to)), edge.partitioner.clone())
    });
    let mut edges: Vec<_> = edges.collect();
    edges.sort_by(|one, other| one.0.cmp(&other.0));
    edges
}

fn mistakes(app: App) -> Vec<String> {
    let errors: Vec<JobError> = app.finish().err().expect("a mistake");
    errors.iter().map(ToString::to_string).collect()
}

fn assert_says(mistakes: &[String], words: &[&str]) {
    let says = |text: &&String| words.iter().all(|word| text.contains(word));
    assert!(mistakes.iter().any(|text| says(&text)), "{words:?} are not in {mistakes:#?}");
}

#[test]
fn a_union_is_read_over_one_edge_from_each_stream() {
    let mut app = app(2);
    let one = app.source("one", nothing::<u64>()).map("a", |number| number);
    let two = app.source("two", nothing::<u64>()).set_parallelism(1);
    one.union("both", two).map("m", |number| number).sink("out", drain());
    let job = app.finish().expect("a job");
    use Partitioner::{Forward, Rebalance};
    let expected = [("m -> out", Forward), ("one -> m", Forward), ("two -> m", Rebalance)];
    assert_eq!(edges(&job), expected.map(|(text, by)| (text.to_owned(), by)));
    assert_eq!(job.warnings, []);
}

#[test]
fn a_branch_is_an_output_of_its_own_and_an_unread_one_is_no_mistake() {
    let mut app = app(1);
    let source = app.source("one", nothing::<u64>());
    let (even, _odd) = source.branch("parity", |number| number % 2 == 0);
    even.sink("even", drain());
    let job = app.finish().expect("a job");
    assert_eq!(edges(&job), [("one -> even".to_owned(), Partitioner::Forward)]);
    let parity = &job.graph.processors[0];
    assert_eq!(parity.operators, ["one", "parity"]);
    assert_eq!(parity.outputs.len(), 2);
}

#[test]
fn a_fork_is_read_as_often_as_it_is_cloned() {
    let mut app = app(1);
    let forked = app.source("one", nothing::<u64>()).map("m", |number| number).fork();
    forked.clone().sink("first", drain());
    forked.clone().filter("f", |_| true).sink("second", drain());
    forked.key_by(|number| *number).count("c").sink("third", drain());
    let job = app.finish().expect("a job");
    let edges = edges(&job);
    let from_one = edges.iter().filter(|(text, _)| text.starts_with("one"));
    assert_eq!(from_one.count(), 4, "one that only passes on to the key: {edges:?}");
    let sinks = edges.iter().filter(|(text, _)| text.ends_with("first") || text.ends_with("third"));
    assert_eq!(sinks.count(), 2, "{edges:?}");
}

#[test]
fn a_key_is_an_edge_by_hash_and_a_late_output_one_of_its_own() {
    let mut app = app(3);
    let timed = app.source("one", nothing::<u64>()).watermarks(Watermarks::monotonic());
    let keyed = timed.key_by(|number| number % 5);
    let counts = keyed.window(Tumbling::of(Duration::from_secs(1))).count("c");
    counts.late().sink("late", drain());
    counts.sink("out", drain());
    let job = app.finish().expect("a job");
    use Partitioner::{Forward, Hash};
    let expected = [("c -> out", Forward), ("c.1 -> late", Forward), ("one -> c", Hash)];
    assert_eq!(edges(&job), expected.map(|(text, by)| (text.to_owned(), by)));
    assert!(job.graph.edges.iter().all(|edge| edge.timed));
}

#[test]
fn exchanges_say_how() {
    let mut app = app(2);
    let stream = app.source("one", nothing::<u64>()).broadcast().map("b", |number| number);
    let stream = stream.partition_by("own", |_, _| 0).map("p", |number| number);
    stream.rebalance().map("r", |number| number).global().sink("out", drain());
    let job = app.finish().expect("a job");
    let by: Vec<_> = edges(&job).into_iter().map(|(_, by)| by).collect();
    for partitioner in [
        Partitioner::Broadcast,
        Partitioner::Custom("own".to_owned()),
        Partitioner::Rebalance,
        Partitioner::Global,
    ] {
        assert!(by.contains(&partitioner), "{partitioner:?} in {by:?}");
    }
    assert_eq!(job.graph.processors.last().map(|sink| sink.parallelism), Some(1));
}

#[test]
fn two_operators_of_one_name_are_refused_by_it() {
    let mut app = app(1);
    let stream = app.source("one", nothing::<u64>()).map("same", |number| number);
    stream.filter("same", |_| true).sink("one", drain());
    let mistakes = mistakes(app);
    assert_says(&mistakes, &["two operators are named same", "give each its own"]);
    assert_says(&mistakes, &["two operators are named one"]);
}

#[test]
fn a_window_needs_event_time_and_a_length() {
    let mut app = app(1);
    let keyed = app.source("one", nothing::<u64>()).key_by(|number| *number);
    keyed.window(Sliding::of(Duration::from_secs(1), Duration::ZERO)).count("w").sink("o", drain());
    let keyed = app.source("two", nothing::<u64>()).key_by(|number| *number);
    keyed.window(Tumbling::of(Duration::from_nanos(999))).count("v").sink("p", drain());
    let mistakes = mistakes(app);
    for name in ["w", "v"] {
        assert_says(&mistakes, &[&format!("{name} is a window"), ".watermarks(...)"]);
        assert_says(&mistakes, &[&format!("{name} has windows of no length"), "one microsecond"]);
    }
}

#[test]
fn watermarks_belong_behind_a_source() {
    let mut app = app(1);
    let far = app.source("one", nothing::<u64>()).rebalance().map("m", |number| number);
    far.watermarks(Watermarks::monotonic()).sink("out", drain());
    assert_says(&mistakes(app), &["near m", "move .watermarks(...) up"]);
    let mut app = self::app(1);
    let near = app.source("one", nothing::<u64>()).map("m", |number| number);
    near.watermarks(Watermarks::monotonic()).sink("out", drain());
    assert!(app.finish().is_ok());
}

#[test]
fn a_parallelism_that_cannot_be_is_refused_by_name() {
    for parallelism in [0, KEY_GROUPS_DEFAULT + 1] {
        let mut app = app(1);
        let stream = app.source("one", nothing::<u64>()).map("m", |number| number);
        stream.set_parallelism(parallelism).sink("out", drain());
        assert_says(&mistakes(app), &["one", &parallelism.to_string()]);
    }
}
