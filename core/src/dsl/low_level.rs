//! The low-level builder: processors with operators written by hand, and edges between them.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::api::operator::Operator;
use crate::api::record::{Record, type_name};
use crate::dag::{Kind, Partitioner};
use crate::dsl::app::App;
use crate::dsl::builder::{Connect, Draft, Shared};
use crate::dsl::chain::{Flow, Operated};
use crate::dsl::model::ModelOp;
use crate::dsl::stream::{Stream, port};
use crate::flow::tail::OneLane;

/// Puts hand-written operators into an app's graph, each edge with a partitioner of its own.
pub struct GraphBuilder {
    builder: Shared,
}

/// A processor of the graph whose output is of type `T`.
pub type Node<T, R> = Stream<T, Operated<R>>;

impl GraphBuilder {
    /// A builder over the graph of an app.
    #[must_use]
    pub fn of<O>(app: &App<O>) -> Self {
        Self { builder: app.shared() }
    }

    /// A processor that reads a stream over an edge with this partitioner (hash and custom ones are
    /// said on the stream, with `key_by` and `partition_by`).
    pub fn processor<R, C>(
        &mut self,
        name: &str,
        operator: R,
        input: Stream<R::In, C>,
        partitioner: Partitioner,
    ) -> Node<R::Out, R>
    where
        R: Operator,
        C: Flow<Out = R::In>,
    {
        let node = input.draft.node;
        let (_, upstream, before) = input.finish(|| OneLane, Connect::Chosen(partitioner));
        self.head(name, operator, Vec::from([upstream]), node, before.timed)
    }

    fn head<R: Operator>(
        &mut self,
        name: &str,
        operator: R,
        upstream: Vec<crate::dsl::builder::Upstream>,
        node: (usize, u32),
        timed: bool,
    ) -> Node<R::Out, R>
    where
        R::In: Record,
    {
        let mut shared = self.builder.borrow_mut();
        shared.claim(name);
        let node = shared.node(name, Vec::from([node]), type_name::<R::In>(), ModelOp::Opaque);
        let draft = Draft {
            id: shared.reserve(),
            uid: name.to_string(),
            kind: Kind::Operator,
            operators: Vec::from([name.to_string()]),
            input: Some(port::<R::In>("in")),
            extra: Vec::new(),
            dead_letters: Vec::new(),
            upstream,
            parallelism: None,
            timed,
            node,
        };
        drop(shared);
        let flow = Operated { name: Arc::from(name), operator, types: PhantomData };
        Stream { builder: self.builder.clone(), flow, draft }
    }
}
