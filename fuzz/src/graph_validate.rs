//! Any graph can be validated, explained and compared.

use gear_core::dag::{Graph, diff, explain_dot, explain_text, validate, warnings};

/// Asks everything of the graph that the bytes encode.
pub fn run(bytes: &[u8]) {
    let Ok(graph) = postcard::from_bytes::<Graph>(bytes) else { return };
    let valid = validate(&graph);
    let _ = (warnings(&graph), explain_text(&graph), explain_dot(&graph));
    for (id, _) in graph.with_ids() {
        let _ = (graph.inputs_of(id).count(), graph.outputs_of(id).count(), graph.name_of(id));
    }
    assert_eq!(graph.topological_order().is_ok(), graph.cycles().is_empty());
    let again = postcard::to_allocvec(&graph).expect("plain data encodes");
    let again: Graph = postcard::from_bytes(&again).expect("was encoded");
    assert_eq!(again.digest(), graph.digest());
    let _ = diff(&graph, &again);
    match valid {
        Ok(()) => {
            assert!(graph.topological_order().is_ok(), "a valid graph has no cycle");
            assert!(diff(&graph, &again).is_empty(), "nothing has changed");
            let _ = graph.tasks().take(10_000).count() + graph.channels().take(10_000).count();
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            errors.iter().for_each(|error| assert!(!error.to_string().is_empty()));
        }
    }
}
