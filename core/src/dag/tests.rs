use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;

use super::explain::{explain_dot, explain_text};
use super::*;
use crate::api::key::{groups_of_task, key_group, task_of_group};
use crate::id::{ChannelId, ProcessorId, TaskId};
use crate::limits::{KEY_GROUPS_DEFAULT, PROCESSORS_MAX};

fn port(name: &str, record: &str) -> Port {
    Port { name: name.into(), record: record.into() }
}

fn processor(uid: &str, kind: Kind, parallelism: u32) -> Processor {
    Processor {
        uid: uid.into(),
        kind,
        operators: vec![uid.into()],
        parallelism,
        inputs: if kind == Kind::Source { vec![] } else { vec![port("in", "str")] },
        outputs: if kind == Kind::Sink { vec![] } else { vec![port("out", "str")] },
    }
}

fn edge(from: u32, to: u32, partitioner: Partitioner) -> Edge {
    let (from, to) = (ProcessorId(from), ProcessorId(to));
    Edge { from, output: 0, to, input: 0, partitioner, timed: true }
}

/// lines x2 -> count x4 -> print x1
fn words() -> Graph {
    Graph {
        name: "words".into(),
        key_groups: KEY_GROUPS_DEFAULT,
        processors: vec![
            processor("lines", Kind::Source, 2),
            processor("count", Kind::Operator, 4),
            processor("print", Kind::Sink, 1),
        ],
        edges: vec![edge(0, 1, Partitioner::Hash), edge(1, 2, Partitioner::Global)],
    }
}

/// The only error of what `change` makes of a good graph.
fn refused(change: impl FnOnce(&mut Graph)) -> GraphError {
    let mut errors = all_refused(change);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn all_refused(change: impl FnOnce(&mut Graph)) -> Vec<GraphError> {
    let mut graph = words();
    change(&mut graph);
    validate(&graph).expect_err("the graph is bad")
}

#[test]
fn a_good_graph_passes_without_warnings() {
    assert_eq!(validate(&words()), Ok(()));
    assert_eq!(warnings(&words()), []);
}

#[test]
fn uids_that_name_no_object_are_refused() {
    let rename = |uid: &str| refused(|graph| graph.processors[1].uid = uid.into());
    assert!(matches!(rename(""), GraphError::EmptyUid { processor: ProcessorId(1), .. }));
    assert!(matches!(rename(".count"), GraphError::UidDot { .. }));
    assert!(matches!(rename("a/b"), GraphError::UidCharacter { found: '/', .. }));
    assert!(matches!(rename("a b"), GraphError::UidCharacter { found: ' ', .. }));
    assert!(matches!(rename(&"x".repeat(129)), GraphError::UidTooLong { .. }));
    assert_eq!(
        rename("lines"),
        GraphError::DuplicateUid { uid: "lines".into(), count: 2 },
        "told once, however many there are"
    );
    let mut graph = words();
    graph.processors[1].uid = "Zähler-9_日本.v2".into();
    assert_eq!(validate(&graph), Ok(()));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let groups = |groups: u32| all_refused(|graph| graph.key_groups = groups);
    assert_eq!(groups(0)[0], GraphError::KeyGroups { key_groups: 0 });
    assert_eq!(groups(32_769), [GraphError::KeyGroups { key_groups: 32_769 }]);
    let tasks = |tasks: u32| refused(|graph| graph.processors[1].parallelism = tasks);
    assert_eq!(tasks(0), GraphError::NoParallelism { uid: "count".into() });
    let too_many =
        GraphError::TooParallel { uid: "count".into(), parallelism: 1_025, key_groups: 1_024 };
    assert_eq!(tasks(1_025), too_many);
    let many = refused(|graph| {
        graph.processors = vec![processor("same", Kind::Sink, 1); PROCESSORS_MAX + 1];
    });
    assert_eq!(many, GraphError::TooManyProcessors { count: PROCESSORS_MAX + 1 });
}

#[test]
fn edges_that_lead_nowhere_are_refused() {
    let unknown = all_refused(|graph| graph.edges[1].to = ProcessorId(9));
    assert!(matches!(&unknown[1], GraphError::UnknownProcessor { to, .. } if to == "#9"));
    assert!(matches!(&unknown[0], GraphError::NoInput { uid, kind: Kind::Sink } if uid == "print"));
    let output = refused(|graph| graph.edges[0].output = 3);
    assert!(matches!(output, GraphError::UnknownOutput { output: 3, has: 1, .. }));
    let input = all_refused(|graph| graph.edges[0].input = u32::MAX);
    assert!(matches!(&input[0], GraphError::UnfedInput { uid, .. } if uid == "count"));
    assert!(matches!(&input[1], GraphError::UnknownInput { input: u32::MAX, has: 1, .. }));
    let types = refused(|graph| graph.processors[1].inputs[0].record = "u64".into());
    assert!(types.to_string().contains("\"lines\" writes str"), "{types}");
    assert!(types.to_string().contains("\"count\" reads u64"), "{types}");
    let forward = refused(|graph| graph.edges[0].partitioner = Partitioner::Forward);
    assert!(matches!(forward, GraphError::ForwardParallelism { from_tasks: 2, to_tasks: 4, .. }));
}

#[test]
fn processors_in_wrong_places_are_refused() {
    let source = all_refused(|graph| graph.edges.push(edge(1, 0, Partitioner::Hash)));
    assert!(source.contains(&GraphError::SourceWithInput { uid: "lines".into() }));
    assert!(matches!(&source[0], GraphError::Cycle { path } if *path == ["lines", "count"]));
    let sink = refused(|graph| graph.processors[2].outputs.push(port("more", "str")));
    assert_eq!(sink, GraphError::SinkWithOutput { uid: "print".into() });
    let unfed = all_refused(|graph| drop(graph.edges.remove(0)));
    let expected = [
        GraphError::NoInput { uid: "count".into(), kind: Kind::Operator },
        GraphError::Unreachable { uid: "print".into() },
    ];
    assert_eq!(unfed, expected);
    let empty = validate(&Graph { key_groups: 1, ..Graph::default() });
    assert_eq!(empty, Err(vec![GraphError::NoSource, GraphError::NoSink]));
}

#[test]
fn what_nobody_can_have_meant_is_warned_of() {
    let mut graph = words();
    graph.processors[1].outputs.push(port("late", "str"));
    graph.processors[2].parallelism = 3;
    graph.processors.push(processor("loose", Kind::Source, 1));
    graph.processors[3].outputs.clear();
    assert_eq!(validate(&graph), Ok(()));
    let expected = [
        GraphWarning::UnreadOutput { uid: "count".into(), output: "late".into() },
        GraphWarning::IdleTasks { uid: "print".into(), parallelism: 3 },
        GraphWarning::NoOutput { uid: "loose".into(), kind: Kind::Source },
    ];
    assert_eq!(warnings(&graph), expected);
}

#[test]
fn a_cycle_is_told_as_a_path() {
    let error = refused(|graph| {
        graph.processors.push(processor("again", Kind::Operator, 4));
        graph.edges.push(edge(1, 3, Partitioner::Hash));
        graph.edges.push(edge(3, 1, Partitioner::Hash));
    });
    assert!(error.to_string().contains("count -> again -> count;"), "{error}");
}

#[test]
fn channels_and_tasks_are_counted_out() {
    let mut graph = words();
    assert_eq!(graph.tasks().count(), 7);
    assert_eq!(graph.tasks().last(), Some(TaskId { processor: ProcessorId(2), index: 0 }));
    assert_eq!(graph.channels().count(), 2 * 4 + 4);
    assert_eq!(graph.channels().last(), Some(ChannelId { edge: 1, from: 3, to: 0 }));
    graph.processors[0].parallelism = 4;
    graph.edges[0].partitioner = Partitioner::Forward;
    let channels: Vec<_> = graph.channels_of_edge(&graph.edges[0]).collect();
    assert_eq!(channels, [(0, 0), (1, 1), (2, 2), (3, 3)]);
    graph.processors[2].parallelism = 5;
    let channels: Vec<_> = graph.channels_of_edge(&graph.edges[1]).collect();
    assert_eq!(channels, [(0, 0), (1, 0), (2, 0), (3, 0)]);
}

#[test]
fn the_text_says_who_reads_what() {
    let mut graph = words();
    graph.processors[0].operators = vec!["lines".into(), "split".into()];
    let expected = "\
words: 3 processors, 2 edges, 7 tasks, 1024 key groups
  source    lines  x2  lines > split
  operator  count  x4
      <- lines.out: str by hash, timed
  sink      print  x1
      <- count.out: str by global, timed
";
    assert_eq!(explain_text(&graph), expected);
}

#[test]
fn the_drawing_escapes_what_graphviz_reads() {
    let mut graph = words();
    graph.name = "a \"b\" \\".into();
    graph.processors[0].uid = "x&y\nz".into();
    graph.edges.push(edge(0, 77, Partitioner::Hash));
    let dot = explain_dot(&graph);
    assert!(dot.starts_with("digraph \"a \\\"b\\\" \\\\\" {\n"), "{dot}");
    assert!(dot.contains("p0 [label=\"x&amp;y\\nz\\nsource x2"), "{dot}");
    assert!(dot.contains("p0 -> p1 [label=\"hash\\nstr\"];"), "{dot}");
    assert!(!dot.contains("77"), "{dot}");
}

#[test]
fn the_difference_is_told_by_uid() {
    let (old, mut new) = (words(), words());
    assert!(diff(&old, &new).is_empty());
    assert_eq!(diff(&old, &new).to_string(), "nothing has changed\n");
    new.processors.remove(2);
    new.processors.insert(0, processor("store", Kind::Sink, 1));
    new.processors[2].parallelism = 8;
    new.processors[2].outputs[0].record = "u64".into();
    new.edges = vec![edge(1, 2, Partitioner::Rebalance), edge(2, 0, Partitioner::Global)];
    let diff = diff(&old, &new);
    let expected = "\
+ store
- print
~ count: parallelism 4 -> 8
~ count: outputs (out: str) -> (out: u64)
+ count.out -> store.in
- count.out -> print.in
~ lines.out -> count.in: hash, timed -> rebalance, timed
";
    assert_eq!(diff.to_string(), expected);
}

#[test]
fn a_second_stream_between_the_same_ports_is_one_more() {
    let (old, mut new) = (words(), words());
    new.edges.push(edge(0, 1, Partitioner::Hash));
    let there = diff(&old, &new);
    assert_eq!((there.edges_added.len(), there.edges_removed.len()), (1, 0));
    let back = diff(&new, &old);
    assert_eq!((back.edges_added.len(), back.edges_removed.len()), (0, 1));
}

#[test]
fn the_digest_is_what_it_was() {
    // Stored with an app: a change of the encoding has to change DIGEST_VERSION too.
    assert_eq!(words().digest(), 14_354_120_112_502_580_820);
    let mut other = words();
    other.edges[0].timed = false;
    assert_ne!(other.digest(), words().digest());
}

prop_compose! {
    /// A graph without cycles whose ids are in no particular order, and an order of its processors.
    fn any_dag()(size in 2..24_usize)(
        order in Just((0..size as u32).collect::<Vec<_>>()).prop_shuffle(),
        ends in prop::collection::vec((0..size, 0..size), 1..60),
        tasks in prop::collection::vec(1..9_u32, size),
    ) -> (Graph, Vec<u32>) {
        let processors = tasks
            .iter()
            .enumerate()
            .map(|(id, tasks)| processor(&format!("p{id}"), Kind::Operator, *tasks))
            .collect();
        let edges = ends
            .into_iter()
            .filter(|(a, b)| a != b)
            .map(|(a, b)| edge(order[a.min(b)], order[a.max(b)], Partitioner::Rebalance))
            .collect();
        (Graph { name: String::from("any"), key_groups: 64, processors, edges }, order)
    }
}

proptest! {
    #[test]
    fn every_processor_comes_behind_those_that_feed_it((graph, _) in any_dag()) {
        let order = graph.topological_order().expect("it has no cycle");
        prop_assert_eq!(order.len(), graph.processors.len());
        let place = |id| order.iter().position(|other| *other == id);
        for edge in &graph.edges {
            prop_assert!(place(edge.from) < place(edge.to));
        }
        prop_assert!(graph.cycles().is_empty());
    }

    #[test]
    fn an_edge_back_is_always_refused_as_a_cycle(
        (mut graph, _) in any_dag(),
        pick in any::<prop::sample::Index>(),
        start in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!graph.edges.is_empty());
        // Up to three edges down the stream, then back to where it began.
        let first = graph.edges[start.index(graph.edges.len())].clone();
        let mut last = first.to;
        for _ in 0..pick.index(3) {
            if let Some((_, edge)) = graph.outputs_of(last).next() {
                last = edge.to;
            }
        }
        graph.edges.push(Edge { from: last, to: first.from, ..first });
        let errors = validate(&graph).expect_err("it has a cycle");
        let is_cycle = |error: &GraphError| matches!(error, GraphError::Cycle { .. });
        prop_assert!(errors.iter().any(is_cycle));
        for Cycle(path) in graph.cycles() {
            for (at, id) in path.iter().enumerate() {
                let next = path[(at + 1) % path.len()];
                prop_assert!(graph.outputs_of(*id).any(|(_, edge)| edge.to == next));
            }
        }
    }

    #[test]
    fn a_graph_survives_its_encoding((graph, _) in any_dag()) {
        let bytes = postcard::to_allocvec(&graph).expect("a graph encodes");
        let read: Graph = postcard::from_bytes(&bytes).expect("and decodes");
        prop_assert_eq!(read.digest(), graph.digest());
        prop_assert!(diff(&graph, &read).is_empty());
        prop_assert_eq!(read, graph);
    }

    #[test]
    fn no_graph_makes_the_readers_panic(
        (mut graph, _) in any_dag(),
        wild in prop::collection::vec((0..30_u32, 0..3_u32, 0..30_u32, 0..3_u32), 0..20),
    ) {
        for (from, output, to, input) in wild {
            graph.edges.push(Edge { output, input, ..edge(from, to, Partitioner::Forward) });
        }
        let _ = (validate(&graph), warnings(&graph), graph.channels().count());
        let _ = (explain_text(&graph), explain_dot(&graph), diff(&words(), &graph).to_string());
    }

    #[test]
    fn groups_follow_the_naive_model(hash: u64, groups in 1..=32_768_u32, tasks in 1..200_u32) {
        let tasks = tasks.min(groups);
        // The hashes in `groups` equal ranges, the groups in `tasks` ranges of almost equal size.
        let group = key_group(hash, groups);
        let (hash, all) = (u128::from(hash), u128::from(groups));
        prop_assert!(u128::from(group) << 64 <= hash * all);
        prop_assert!(hash * all < (u128::from(group) + 1) << 64);
        let model = (0..tasks).rfind(|task| {
            u64::from(*task) * u64::from(groups) <= u64::from(group) * u64::from(tasks)
        });
        prop_assert_eq!(Some(task_of_group(group, tasks, groups)), model);
    }

    #[test]
    fn a_rescale_moves_whole_groups_and_loses_none(
        groups in 1..2_000_u32,
        before in 1..100_u32,
        after in 1..100_u32,
    ) {
        for tasks in [before.min(groups), after.min(groups)] {
            let mut next = 0;
            for task in 0..tasks {
                let range = groups_of_task(task, tasks, groups);
                prop_assert_eq!(range.start, next, "each group once, in order");
                prop_assert!(!range.is_empty(), "no task without a group");
                next = range.end;
            }
            prop_assert_eq!(next, groups);
        }
        let least = groups / before.min(groups);
        prop_assert!(groups_of_task(0, before.min(groups), groups).len() as u32 - least <= 1);
    }
}
