//! What holds for any workers and any requests.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Answer, Candidate, Request, Scheduler, covers};
use crate::control::Resources;
use crate::id::{AppId, NodeId};

fn place(workers: &[Candidate], requests: &[Request]) -> Vec<Answer> {
    Scheduler::default().place(workers.to_vec(), requests)
}

fn any_resources() -> impl Strategy<Value = Resources> {
    (0..5_u32, 0..5_u64).prop_map(|(slots, memory)| Resources { slots, memory })
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = prop_oneof![Just("a"), Just("b")];
    prop::collection::btree_map(Just("zone".to_owned()), value.prop_map(str::to_owned), 0..2)
}

fn any_workers() -> impl Strategy<Value = Vec<Candidate>> {
    let processes = prop::collection::btree_map((0..4_u64).prop_map(AppId), 0..3_u32, 0..3);
    let worker = (any_resources(), any_resources(), any_labels(), processes, any::<bool>());
    let worker = worker.prop_map(|(capacity, used, labels, processes, fetched)| Candidate {
        capacity,
        used,
        labels,
        processes,
        binaries: if fetched { [Vec::new()].into() } else { BTreeSet::new() },
        ..Candidate::default()
    });
    prop::collection::vec(worker, 0..6).prop_map(|mut workers| {
        for (at, worker) in workers.iter_mut().enumerate() {
            worker.node = NodeId(at as u64);
        }
        workers
    })
}

fn any_requests() -> impl Strategy<Value = Vec<Request>> {
    let strategy = prop_oneof![Just("spread"), Just("pack"), Just("locality"), Just("none")];
    let avoid = prop::collection::btree_set((0..6_u64).prop_map(NodeId), 0..3);
    let request = (0..4_u32, any_resources(), any_labels(), strategy, 0..3_i32, avoid);
    let request = request.prop_map(|(count, resources, labels, strategy, priority, avoid)| {
        let strategy = strategy.to_owned();
        Request { count, resources, labels, strategy, priority, avoid, ..Request::default() }
    });
    prop::collection::vec(request, 0..6).prop_map(|mut requests| {
        for (at, request) in requests.iter_mut().enumerate() {
            request.app = AppId(at as u64);
        }
        requests
    })
}

/// The workers with everything on them that was placed; fails where something does not fit.
fn after(workers: &[Candidate], requests: &[Request], answers: &[Answer]) -> Vec<Candidate> {
    let mut workers = workers.to_vec();
    for (request, answer) in requests.iter().zip(answers) {
        let wanted = request.count as usize;
        assert!(answer.placed.len() <= wanted);
        assert_eq!(answer.placed.len() < wanted, answer.waiting.is_some());
        for node in &answer.placed {
            let worker = workers.iter_mut().find(|worker| worker.node == *node).unwrap();
            assert!(worker.has_labels(request), "{request:?} on {worker:?}");
            assert!(covers(worker.free(), request.resources), "{request:?} on {worker:?}");
            worker.occupy(request.app, request.resources);
        }
    }
    workers
}

proptest! {
    #[test]
    fn never_takes_more_than_is_free(workers in any_workers(), requests in any_requests()) {
        after(&workers, &requests, &place(&workers, &requests));
    }

    #[test]
    fn the_order_of_the_workers_does_not_matter(
        (workers, shuffled) in any_workers().prop_flat_map(|workers| {
            (Just(workers.clone()), Just(workers).prop_shuffle())
        }),
        requests in any_requests(),
    ) {
        prop_assert_eq!(place(&workers, &requests), place(&shuffled, &requests));
    }

    #[test]
    fn a_higher_priority_gets_what_it_would_get_alone(
        workers in any_workers(),
        requests in any_requests(),
    ) {
        let answers = place(&workers, &requests);
        for level in 0..3 {
            let level_up: Vec<_> = requests.iter().filter(|it| it.priority >= level).collect();
            let alone: Vec<_> = level_up.iter().map(|it| (*it).clone()).collect();
            let alone = place(&workers, &alone);
            let among = requests.iter().zip(&answers).filter(|(it, _)| it.priority >= level);
            for ((_, among), alone) in among.zip(&alone) {
                prop_assert_eq!(&among.placed, &alone.placed);
            }
        }
    }

    #[test]
    fn what_fits_does_not_wait_unless_for_a_higher_priority(
        workers in any_workers(),
        requests in any_requests(),
    ) {
        let answers = place(&workers, &requests);
        let left = after(&workers, &requests, &answers);
        for (request, answer) in requests.iter().zip(&answers) {
            if answer.waiting.is_none() || request.strategy == "none" {
                continue;
            }
            let higher_waits = requests.iter().zip(&answers).any(|(other, answer)| {
                other.priority > request.priority
                    && answer.waiting.is_some()
                    && other.strategy != "none"
            });
            let fits = left.iter().any(|it| it.has_labels(request) && it.has_room(request));
            prop_assert!(!fits || higher_waits, "{:?} waits: {:?}", request, answer);
        }
    }
}
