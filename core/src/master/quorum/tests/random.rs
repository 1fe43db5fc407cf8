//! Random trouble for the quorum, then a healed world in which it has to work.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::super::{Formation, PREFIX, QuorumInput, QuorumRole};
use super::world::{Weather, World};
use crate::host::{Faults, NoFaults};
use crate::time::{Duration, Time, millis};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// How long trouble lasts.
const TROUBLE: Duration = Duration::from_secs(20);
/// How long a healed world may take to serve, and to acknowledge what is proposed.
const HEALED: Duration = Duration::from_secs(8);

/// What has gone wrong on purpose, and has to be put right.
#[derive(Default)]
struct Trouble {
    /// Whose folder is lost: another may only be when this one has its place back.
    lost: Option<u64>,
    /// Whose folders were swapped.
    swapped: Option<(u64, u64)>,
}

/// One run; panics if a rule is broken.
pub(super) fn run<F: Faults>(seed: u64) -> World<F> {
    let founders = if seed.is_multiple_of(3) { 5 } else { 3 };
    let mut world = World::<F>::new(seed, founders, 2);
    let treacherous = world.draw(2) == 0;
    let any = |world: &mut World<F>, most: u64| {
        if world.draw(2) == 0 { 0 } else { world.draw(most) }
    };
    world.weather = Weather {
        loss: any(&mut world, 200),
        doubled: any(&mut world, 100),
        late: any(&mut world, 50),
        way: millis(1 + any(&mut world, 80)),
        write: millis(1 + any(&mut world, 400) + if treacherous { 150 } else { 0 }),
    };
    let chaos = 150 + world.draw(1_000);
    let mut trouble = Trouble::default();
    while world.now < Time::ZERO + TROUBLE {
        let pause = millis(world.draw(chaos));
        let until = world.now + pause;
        while world.now < until {
            let step = millis(1 + world.draw(150));
            world.run((world.now + step).min(until));
            for id in world.serving() {
                world.propose(id);
            }
            // The worst moment to die.
            if treacherous && world.draw(3) == 0 {
                for id in world.promising() {
                    world.crash(id);
                    restart(&mut world, id);
                }
            }
        }
        disturb(&mut world, &mut trouble);
    }
    heal(&mut world, &mut trouble);
    world
}

fn alive<F: Faults>(world: &World<F>) -> Vec<u64> {
    world.nodes.iter().filter(|(_, node)| node.quorum.is_some()).map(|(id, _)| *id).collect()
}

fn restart<F: Faults>(world: &mut World<F>, id: u64) {
    // A first start may not have come to its first write.
    let formation = match world.nodes[&id].formed {
        true => Formation::Before,
        false if id < world.founders => Formation::First,
        false => Formation::Joins,
    };
    world.start(id, formation);
}

fn disturb<F: Faults>(world: &mut World<F>, trouble: &mut Trouble) {
    let count = world.nodes.len() as u64;
    let id = world.draw(count);
    match world.draw(16) {
        0..=3 => {
            // Leaders are worth more trouble than others.
            let leader = world.serving().first().copied();
            let id = if world.draw(2) == 0 { leader.unwrap_or(id) } else { id };
            if world.nodes[&id].quorum.is_some() {
                world.crash(id);
            }
        }
        4..=6 => {
            let down = world.nodes.iter().find(|(_, node)| node.quorum.is_none());
            if let Some(id) = down.map(|(id, _)| *id) {
                restart(world, id);
            }
        }
        7 | 8 => {
            // A part of the nodes hears nothing of the rest, or says nothing to it, or both.
            let (side, way) = (world.draw(1 << count), world.draw(3));
            for from in 0..count {
                for to in 0..count {
                    let (a, b) = (side >> from & 1, side >> to & 1);
                    if (a == 1 && b == 0 && way != 1) || (a == 0 && b == 1 && way != 0) {
                        world.cut.insert((from, to));
                    }
                }
            }
        }
        9..=11 => world.cut.clear(),
        12 => change_voters(world, trouble),
        13 => lose_folder(world, trouble, id),
        14 => swap(world, trouble),
        _ => {
            if world.draw(3) == 0 {
                for id in alive(world) {
                    world.crash(id);
                }
                for id in 0..count {
                    if world.nodes[&id].quorum.is_none() {
                        restart(world, id);
                    }
                }
            }
        }
    }
    readmit(world, trouble);
}

fn change_voters<F: Faults>(world: &mut World<F>, trouble: &Trouble) {
    let Some(mut voters) = world.settled_voters() else {
        return;
    };
    if trouble.lost.is_some() {
        return;
    }
    let id = world.draw(world.nodes.len() as u64);
    if !voters.remove(&id) {
        voters.insert(id);
    }
    if voters.len() >= 3
        && let Some(leader) = world.serving().first().copied()
    {
        world.change_voters(leader, &voters);
    }
}

/// A voter's disk is emptied or damaged, while all others have theirs.
fn lose_folder<F: Faults>(world: &mut World<F>, trouble: &mut Trouble, id: u64) {
    let voter = world.settled_voters().is_some_and(|voters| voters.contains(&id));
    if !voter || trouble.lost.is_some() || trouble.swapped.is_some() {
        return;
    }
    if world.nodes[&id].quorum.is_some() {
        world.crash(id);
    }
    let (empty, which, at) = (world.draw(2) == 0, world.random.next(), world.random.next());
    let disk = &mut world.nodes.get_mut(&id).expect("it exists").disk;
    if empty {
        disk.clear();
    } else {
        let count = disk.len() as u64;
        let nth = usize::try_from(which % count.max(1)).expect("few entries");
        let value = disk.values_mut().nth(nth).expect("a voter's disk is not empty");
        let byte = usize::try_from(at % value.len() as u64).expect("few bytes");
        value[byte] ^= 0x10;
    }
    trouble.lost = Some(id);
    world.start(id, Formation::Before);
}

/// The operator has the master readmitted whose folder is lost.
fn readmit<F: Faults>(world: &mut World<F>, trouble: &mut Trouble) {
    let Some(id) = trouble.lost else {
        return;
    };
    let Some(quorum) = &world.nodes[&id].quorum else {
        return;
    };
    if quorum.unfit().is_some() {
        assert_eq!(quorum.role(), QuorumRole::Unfit);
        if world.draw(4) == 0 {
            world.tell(id, QuorumInput::Readmit);
        }
        return;
    }
    // It has its place back when the leader says so, with the folder that it has now.
    let folder = quorum.identity.folder;
    let Some(leader) = world.serving().first().copied() else {
        return;
    };
    let quorum = world.nodes[&leader].quorum.as_ref().expect("it serves");
    if quorum.voters_settled() && quorum.voters().contains(crate::id::NodeId(id), folder) {
        trouble.lost = None;
    }
}

/// Two nodes get each other's disks, or their own back.
fn swap<F: Faults>(world: &mut World<F>, trouble: &mut Trouble) {
    let (a, b) = match trouble.swapped.take() {
        Some(pair) => pair,
        None => {
            let count = world.nodes.len() as u64;
            let (a, b) = (world.draw(count), world.draw(count));
            let formed = world.nodes[&a].formed && world.nodes[&b].formed;
            if a == b || !formed || trouble.lost.is_some() {
                return;
            }
            trouble.swapped = Some((a, b));
            (a, b)
        }
    };
    for id in [a, b] {
        if world.nodes[&id].quorum.is_some() {
            world.crash(id);
        }
    }
    let disk = core::mem::take(&mut world.nodes.get_mut(&a).expect("it exists").disk);
    let other = &mut world.nodes.get_mut(&b).expect("it exists").disk;
    let disk = core::mem::replace(other, disk);
    world.nodes.get_mut(&a).expect("it exists").disk = disk;
    for id in [a, b] {
        let foreign = trouble.swapped.is_some();
        let empty = world.nodes[&id].disk.is_empty();
        if foreign && !empty {
            world.start(id, Formation::Before);
        } else if !foreign {
            restart(world, id);
        }
    }
}

/// Puts everything right; then there has to be a leader, and all have to have the same.
fn heal<F: Faults>(world: &mut World<F>, trouble: &mut Trouble) {
    world.cut.clear();
    world.weather = Weather { way: millis(2), write: millis(5), ..Weather::default() };
    if trouble.swapped.is_some() {
        swap(world, trouble);
    }
    for id in 0..world.nodes.len() as u64 {
        if world.nodes[&id].quorum.is_none() {
            restart(world, id);
        }
    }
    // Time for what is still on its way.
    let until = world.now + HEALED;
    while world.now < until {
        world.run(world.now + millis(50));
        readmit(world, trouble);
    }
    let leader = world.serving().first().copied();
    let leader = leader.unwrap_or_else(|| panic!("nobody leads {}", world.describe()));
    assert!(world.propose(leader), "the leader takes an update {}", world.describe());
    world.run(world.now + Duration::from_secs(3));
    let quorum = world.nodes[&leader].quorum.as_ref().expect("it leads");
    let state = quorum.acknowledged_state().expect("it leads").clone();
    assert_eq!(&state, quorum.state(), "all is acknowledged {}", world.describe());
    assert!(quorum.voters_settled(), "no change hangs {}", world.describe());
    let voters: BTreeSet<_> = quorum.voters().current().keys().map(|node| node.0).collect();
    for id in voters {
        let quorum = world.nodes[&id].quorum.as_ref().expect("all run");
        assert_eq!(quorum.state(), &state, "{id} has the same {}", world.describe());
        let disk = &world.nodes[&id].disk;
        assert!(disk.keys().all(|name| name.starts_with(PREFIX)));
    }
}

#[test]
fn no_trouble_breaks_a_rule() {
    let (mut acknowledged, mut terms, mut steps) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = run::<NoFaults>(seed);
        acknowledged += world.acknowledged().len();
        terms += world.terms();
        steps += world.steps;
    }
    // There was trouble, and there was work.
    assert!(terms as u64 > SEEDS * 3, "{terms} terms");
    assert!(acknowledged as u64 > SEEDS * 20, "{acknowledged} updates in {steps} steps");
}
