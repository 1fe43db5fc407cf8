//! The strategies that come with the engine.

use super::{Candidate, Cost, Request, Strategy};

/// Shares are compared in millionths.
const WHOLE: u64 = 1_000_000;

/// Puts processes of an app on as many workers as there are: the loss of one costs least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread;

/// Fills a worker before it begins the next: the fewest workers are in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pack;

/// Stays where the binary is and the app runs: quickest to start, and fewest hops.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalityFirst;

impl Strategy for Spread {
    fn name(&self) -> &str {
        "spread"
    }

    fn cost(&self, request: &Request, worker: &Candidate) -> Cost {
        [own(request, worker), taken(request, worker), fetches(request, worker), 0]
    }
}

impl Strategy for Pack {
    fn name(&self) -> &str {
        "pack"
    }

    fn cost(&self, request: &Request, worker: &Candidate) -> Cost {
        let idle = u64::from(worker.process_count() == 0);
        [idle, WHOLE - taken(request, worker), fetches(request, worker), 0]
    }
}

impl Strategy for LocalityFirst {
    fn name(&self) -> &str {
        "locality"
    }

    fn cost(&self, request: &Request, worker: &Candidate) -> Cost {
        let stranger = u64::from(own(request, worker) == 0);
        [fetches(request, worker), stranger, taken(request, worker), 0]
    }
}

/// Processes of the request's app on the worker.
fn own(request: &Request, worker: &Candidate) -> u64 {
    worker.processes.get(&request.app).copied().unwrap_or(0).into()
}

/// 1 if the node has to fetch the binary first.
fn fetches(request: &Request, worker: &Candidate) -> u64 {
    u64::from(!worker.binaries.contains(&request.binary))
}

/// The part of the worker that is taken with the request placed there, by whichever of its
/// resources is scarcer; at most [`WHOLE`].
fn taken(request: &Request, worker: &Candidate) -> u64 {
    let slots = u64::from(worker.used.slots) + u64::from(request.resources.slots);
    let memory = worker.used.memory.saturating_add(request.resources.memory);
    let slots = share(slots, u64::from(worker.capacity.slots));
    slots.max(share(memory, worker.capacity.memory))
}

/// `part` of `whole`, in millionths; of nothing, nothing can be taken.
fn share(part: u64, whole: u64) -> u64 {
    let share = (u128::from(part) * u128::from(WHOLE)).checked_div(u128::from(whole));
    share.map_or(0, |share| u64::try_from(share).unwrap_or(WHOLE).min(WHOLE))
}
