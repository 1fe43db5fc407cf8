//! Says in words why a request waits.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Candidate, PROCESSES_PER_WORKER_MAX, Request, covers};
use crate::control::Resources;

/// Why none of the workers takes one more of what is requested; `holder` names the request for
/// which a worker is kept.
pub(super) fn waiting<'a>(
    workers: &[Candidate],
    request: &Request,
    holder: impl Fn(&Candidate) -> Option<&'a Request>,
) -> String {
    let drained = workers.iter().filter(|worker| worker.drains).count();
    let workers: Vec<_> = workers.iter().filter(|worker| !worker.drains).collect();
    let why = why(&workers, request, holder);
    match (workers.len(), drained) {
        (_, 0) => why,
        (0, 1) => format!("{}: the only worker is drained", needs(request)),
        (0, _) => format!("{}: all {drained} workers are drained", needs(request)),
        (_, _) => format!("{why} ({drained} more drained)"),
    }
}

fn why<'a>(
    workers: &[&Candidate],
    request: &Request,
    holder: impl Fn(&Candidate) -> Option<&'a Request>,
) -> String {
    let needs = needs(request);
    if workers.is_empty() {
        return format!("{needs}: there is no worker");
    }
    let labelled: Vec<_> = workers.iter().filter(|worker| worker.has_labels(request)).collect();
    let label = if request.labels.len() > 1 { "labels" } else { "label" };
    if labelled.is_empty() {
        return match workers.len() {
            1 => format!("{needs}: the only worker does not have the {label}"),
            count => format!("{needs}: none of {count} workers has the {label}"),
        };
    }
    let those = those(labelled.len(), workers.len(), label, request);
    let what = |resources| amounts(resources, request.resources);
    if !labelled.iter().any(|worker| worker.could_ever_run(request)) {
        let largest = labelled.iter().map(|worker| worker.capacity).max().unwrap_or_default();
        return format!("{needs}: {those}, the largest has {} in all", what(largest));
    }
    let roomy: Vec<_> = labelled.iter().filter(|worker| worker.has_room(request)).collect();
    if let Some(first) = roomy.iter().find_map(|worker| holder(worker)) {
        return format!(
            "{needs}: {those}, and what is free is kept for {}, which has priority {}",
            first.app, first.priority
        );
    }
    let freest = labelled.iter().map(|worker| worker.free());
    let freest = freest.max_by_key(|free| (covers(*free, request.resources), *free));
    let freest = freest.unwrap_or_default();
    if covers(freest, request.resources) {
        let most = PROCESSES_PER_WORKER_MAX;
        return format!("{needs}: {those}, and those with room run {most} processes already");
    }
    format!("{needs}: {those}, the freest has {}", what(freest))
}

fn needs(request: &Request) -> String {
    let resources = amounts(request.resources, request.resources);
    if request.labels.is_empty() {
        return format!("needs {resources}");
    }
    let labels: Vec<_> =
        request.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("needs {resources} on a worker labelled {}", labels.join(" and "))
}

fn those(labelled: usize, all: usize, label: &str, request: &Request) -> String {
    match (labelled, request.labels.is_empty()) {
        (1, true) => "there is 1 worker".to_string(),
        (_, true) => format!("there are {all} workers"),
        (1, false) => format!("1 worker has the {label}"),
        (_, false) => format!("{labelled} workers have the {label}"),
    }
}

/// Slots and memory, of which only what is asked for is of interest.
fn amounts(resources: Resources, asked: Resources) -> String {
    let slots = match resources.slots {
        1 => "1 slot".to_string(),
        slots => format!("{slots} slots"),
    };
    match (asked.slots, asked.memory) {
        (_, 0) => slots,
        (0, _) => bytes(resources.memory),
        _ => format!("{slots} and {}", bytes(resources.memory)),
    }
}

/// Exact, in the largest unit in which the figure is whole: two that differ never look alike.
fn bytes(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |shift: &u32| count > 0 && count.trailing_zeros() >= *shift;
    match units.iter().find(|(shift, _)| whole(shift)) {
        Some((shift, unit)) => format!("{} {unit}", count >> shift),
        None => format!("{count} B"),
    }
}
