use alloc::borrow::ToOwned;
use alloc::string::ToString;

use super::*;

const MIB: u64 = 1 << 20;

fn worker(node: u64, slots: u32, memory: u64) -> Candidate {
    let capacity = Resources { slots, memory };
    Candidate { node: NodeId(node), capacity, ..Candidate::default() }
}

fn labelled(mut worker: Candidate, name: &str, value: &str) -> Candidate {
    worker.labels.insert(name.to_owned(), value.to_owned());
    worker
}

fn request(app: u64, count: u32, slots: u32) -> Request {
    Request {
        app: AppId(app),
        count,
        resources: Resources { slots, memory: 0 },
        strategy: "spread".to_string(),
        ..Request::default()
    }
}

fn nodes(answer: &Answer) -> Vec<u64> {
    answer.placed.iter().map(|node| node.0).collect()
}

fn place(workers: &[Candidate], requests: &[Request]) -> Vec<Answer> {
    Scheduler::default().place(workers.to_vec(), requests)
}

fn placed_by(strategy: &str, workers: &[Candidate], count: u32) -> Vec<u64> {
    let strategy = strategy.to_owned();
    nodes(&place(workers, &[Request { strategy, ..request(1, count, 1) }])[0])
}

#[test]
fn the_strategies_differ() {
    let mut workers = [worker(1, 4, 0), worker(2, 4, 0), worker(3, 4, 0)];
    assert_eq!(placed_by("spread", &workers, 4), [1, 2, 3, 1]);
    assert_eq!(placed_by("pack", &workers, 5), [1, 1, 1, 1, 2]);
    workers[2].occupy(AppId(9), Resources { slots: 1, memory: 0 });
    assert_eq!(placed_by("pack", &workers, 4), [3, 3, 3, 1]);
    workers[1].binaries.insert(Vec::new());
    assert_eq!(placed_by("locality", &workers, 5), [2, 2, 2, 2, 1]);
}

#[test]
fn a_worker_with_exactly_what_is_needed_is_taken() {
    let answers = place(&[worker(1, 2, 512 * MIB)], &[request(1, 1, 2)]);
    assert_eq!(answers[0], Answer { placed: alloc::vec![NodeId(1)], waiting: None });
}

#[test]
fn a_user_adds_his_own_strategy() {
    struct HighestNode;
    impl Strategy for HighestNode {
        fn name(&self) -> &str {
            "highest"
        }
        fn cost(&self, _: &Request, worker: &Candidate) -> Cost {
            [u64::MAX - worker.node.0, 0, 0, 0]
        }
    }
    let mut scheduler = Scheduler::default();
    scheduler.add(Arc::new(HighestNode));
    let mine = Request { strategy: "highest".to_owned(), ..request(1, 2, 1) };
    let answers = scheduler.place(alloc::vec![worker(1, 1, 0), worker(2, 1, 0)], &[mine]);
    assert_eq!(nodes(&answers[0]), [2, 1]);
    assert_eq!(scheduler.names().count(), 4);
}

#[test]
fn where_something_went_wrong_is_the_last_choice() {
    let workers = [worker(1, 2, 0), worker(2, 1, 0)];
    let avoiding = Request { avoid: [NodeId(1)].into(), ..request(1, 2, 1) };
    assert_eq!(nodes(&place(&workers, &[avoiding])[0]), [2, 1]);
}

#[test]
fn what_waits_for_a_high_priority_is_kept_from_lower_ones() {
    let mut workers = [worker(1, 4, 0), worker(2, 1, 0)];
    workers[0].occupy(AppId(9), Resources { slots: 2, memory: 0 });
    let large = Request { priority: 5, ..request(1, 1, 4) };
    let answers = place(&workers, &[request(2, 2, 1), large.clone()]);
    assert_eq!(nodes(&answers[0]), [2], "the large one can never run on node 2");
    assert_eq!(
        answers[0].waiting.as_deref(),
        Some(
            "needs 1 slot: there are 2 workers, and what is free is kept for app 1, \
             which has priority 5"
        )
    );
    assert_eq!(
        answers[1].waiting.as_deref(),
        Some("needs 4 slots: there are 2 workers, the freest has 2 slots")
    );
    let unknown = Request { strategy: "magic".to_owned(), ..large.clone() };
    assert_eq!(nodes(&place(&workers, &[request(2, 2, 1), unknown])[0]).len(), 2);
    let equal = Request { priority: 0, ..large };
    assert_eq!(nodes(&place(&workers, &[request(2, 2, 1), equal])[0]).len(), 2);
}

#[test]
fn says_why_a_request_waits() {
    let why = |workers: &[Candidate], request: &Request| {
        let answers = place(workers, core::slice::from_ref(request));
        assert_eq!(answers[0].placed, []);
        answers[0].waiting.clone().unwrap()
    };
    let mut wanted = request(1, 1, 2);
    wanted.resources.memory = 512 * MIB;
    wanted.labels.insert("zone".to_owned(), "a".to_owned());
    let needs = "needs 2 slots and 512 MiB on a worker labelled zone=a: ";
    let in_zone = |node, slots, memory| labelled(worker(node, slots, memory), "zone", "a");

    assert_eq!(why(&[], &wanted), needs.to_owned() + "there is no worker");
    let only = [worker(1, 8, 0)];
    assert_eq!(why(&only, &wanted), needs.to_owned() + "the only worker does not have the label");
    let none = [worker(1, 8, 0), labelled(worker(2, 8, 0), "zone", "b")];
    assert_eq!(why(&none, &wanted), needs.to_owned() + "none of 2 workers has the label");
    let small = [in_zone(1, 1, 256 * MIB), worker(2, 8, 1 << 30)];
    assert_eq!(
        why(&small, &wanted),
        needs.to_owned() + "1 worker has the label, the largest has 1 slot and 256 MiB in all"
    );
    let mut full = [in_zone(1, 4, 1 << 30), in_zone(2, 4, 1 << 30), in_zone(3, 2, 1 << 30)];
    for worker in &mut full {
        worker.used.slots = 3;
    }
    assert_eq!(
        why(&full, &wanted),
        needs.to_owned() + "3 workers have the label, the freest has 1 slot and 1 GiB"
    );
    full[0].used.slots = 0;
    full[0].used.memory = 1;
    full[0].capacity.memory = 512 * MIB;
    assert_eq!(
        why(&full, &wanted),
        needs.to_owned() + "3 workers have the label, the freest has 4 slots and 536870911 B"
    );
    full[0].used.memory = 0;
    full[0].processes.insert(AppId(7), PROCESSES_PER_WORKER_MAX);
    assert_eq!(
        why(&full, &wanted),
        needs.to_owned()
            + "3 workers have the label, and those with room run 1024 processes already"
    );
    let unknown = Request { strategy: "magic".to_owned(), ..wanted };
    assert_eq!(
        why(&full, &unknown),
        "no strategy is called `magic`; there are: spread, pack, locality"
    );
}
