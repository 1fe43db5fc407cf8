//! Zombies and successors on one store, cut and delayed at random.

use super::world::{Seen, World, plan};
use crate::app::Outcome;
use crate::id::AppTerm;
use crate::message::Input;

const SEEDS: u64 = 400;
const STEPS: usize = 2_500;

fn run(seed: u64) -> Seen {
    let mut world = World::new(seed, [2, 10, 30][(seed % 3) as usize]);
    let granted = seed.is_multiple_of(2);
    let mut incarnation = 0;
    let next_plan = |world: &mut World, incarnation: &mut u64| {
        *incarnation += 1;
        let mut plan = plan(*incarnation, 1 + world.random.below(3) as u32);
        plan.term = granted.then_some(AppTerm(*incarnation));
        plan
    };
    for _ in 0..STEPS {
        let ended = |node: &usize| world.outcome(*node).is_some();
        for node in world.alive().into_iter().filter(ended).collect::<alloc::vec::Vec<_>>() {
            world.crash(node);
        }
        let alive = world.alive();
        // Two at once now and then: one of them is a zombie.
        if alive.is_empty() || (alive.len() < 3 && world.random.below(250) == 0) {
            let plan = next_plan(&mut world, &mut incarnation);
            world.start(plan);
        } else if world.random.below(400) == 0 {
            world.seen.crashes += 1;
            let node = alive[world.random.below(alive.len())];
            world.crash(node);
        } else if world.random.below(1_500) == 0 {
            let node = alive[world.random.below(alive.len())];
            world.hear(node, Input::Stop);
        }
        world.step();
    }
    // The faults end, and one app master alone has to get on.
    world.alive().into_iter().for_each(|node| world.crash(node));
    world.faults = 0;
    let plan = next_plan(&mut world, &mut incarnation);
    let node = world.start(plan);
    world.run_epochs(node, 3);
    if world.outcome(node).is_none() {
        world.hear(node, Input::Stop);
    }
    let outcome = world.finish(node);
    assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    world.seen
}

#[test]
fn two_app_masters_on_one_store_never_lose_or_double_an_epoch() {
    let mut sum = Seen::default();
    for seed in 0..SEEDS {
        let seen = run(seed);
        sum.committed += seen.committed;
        sum.superseded += seen.superseded;
        sum.finished += seen.finished;
        sum.already_finished += seen.already_finished;
        sum.stopped += seen.stopped;
        sum.recovered += seen.recovered;
        sum.crashes += seen.crashes;
        sum.ghosts += seen.ghosts;
        sum.late_fences += seen.late_fences;
        sum.deleted += seen.deleted;
    }
    let Seen { committed, superseded, finished, already_finished, stopped, .. } = sum;
    let reached = [committed, superseded, finished, already_finished, stopped];
    assert!(reached.iter().all(|count| *count > SEEDS / 10), "the runs reach too little: {sum:?}");
    let faults = [sum.recovered, sum.crashes, sum.ghosts, sum.late_fences, sum.deleted];
    assert!(faults.iter().all(|count| *count > 0), "the runs are too kind: {sum:?}");
}
