//! Which faults happen when: all of it follows from a seed.

use std::fmt;
use std::time::Duration;

use crate::process::Dice;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of an executor.
    KillExecutor,
    /// An executor stands still for a while.
    StopExecutor,
    /// `kill -9` of the app master.
    KillAppMaster,
    /// The app master stands still for a while.
    StopAppMaster,
    /// `kill -9` of a node that is no master; it is started again later.
    KillWorker,
    /// A node that is no master stands still, and its processes go on.
    StopWorker,
    /// An operator stops a node, which is started again later.
    EndNode,
    /// `kill -9` of a master that does not lead; it is started again later.
    KillFollower,
    /// `kill -9` of the leading master; it is started again later.
    KillLeader,
    /// The leading master stands still for a while.
    StopLeader,
    /// `kill -9` of all masters at once; they are started again later.
    KillMasters,
    /// All connections of a process are cut.
    Cut,
}

impl Fault {
    /// All, each with how often it is drawn compared with the others.
    const ALL: [(Self, u64); 12] = [
        (Self::KillExecutor, 6),
        (Self::StopExecutor, 4),
        (Self::KillAppMaster, 4),
        (Self::StopAppMaster, 3),
        (Self::KillWorker, 4),
        (Self::StopWorker, 3),
        (Self::EndNode, 2),
        (Self::KillFollower, 2),
        (Self::KillLeader, 3),
        (Self::StopLeader, 2),
        (Self::KillMasters, 1),
        (Self::Cut, 6),
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillExecutor => "kill an executor",
            Self::StopExecutor => "stop and continue an executor",
            Self::KillAppMaster => "kill the app master",
            Self::StopAppMaster => "stop and continue the app master",
            Self::KillWorker => "kill a worker node",
            Self::StopWorker => "stop and continue a worker node",
            Self::EndNode => "end a node in order",
            Self::KillFollower => "kill a master that follows",
            Self::KillLeader => "kill the leader",
            Self::StopLeader => "stop and continue the leader",
            Self::KillMasters => "kill all masters",
            Self::Cut => "cut a process's connections",
        })
    }
}

/// A fault of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long after the one before.
    pub after: Duration,
    /// What goes wrong.
    pub fault: Fault,
    /// How long it lasts, if it is something that is put right again.
    pub lasts: Duration,
    /// Chooses among those whom it can hit.
    pub pick: u64,
}

/// The faults of a seed, for about so long. A short one has every kind before any comes twice.
#[must_use]
pub fn plan(seed: u64, lasts: Duration) -> Vec<Step> {
    let mut dice = Dice::of(seed);
    let mut steps = Vec::new();
    let mut total = Duration::ZERO;
    let mut once: Vec<Fault> = Fault::ALL.iter().map(|(fault, _)| *fault).collect();
    while total < lasts {
        let after = Duration::from_millis(300 + dice.below(2_200));
        let fault = if once.is_empty() {
            weighted(&mut dice)
        } else {
            let at = dice.below(once.len() as u64);
            once.swap_remove(at as usize)
        };
        // Half of them within the grace time of three seconds, half of them beyond it.
        let lasts = match dice.below(2) {
            0 => 100 + dice.below(1_900),
            _ => 3_500 + dice.below(3_000),
        };
        let lasts = Duration::from_millis(lasts);
        steps.push(Step { after, fault, lasts, pick: dice.below(u64::MAX) });
        total += after;
    }
    steps
}

fn weighted(dice: &mut Dice) -> Fault {
    let all: u64 = Fault::ALL.iter().map(|(_, weight)| weight).sum();
    let mut left = dice.below(all);
    for (fault, weight) in Fault::ALL {
        if left < weight {
            return fault;
        }
        left -= weight;
    }
    unreachable!("the weights add up")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_has_everything() {
        let lasts = Duration::from_secs(60);
        let one = plan(7, lasts);
        assert_eq!(one, plan(7, lasts));
        assert_ne!(one, plan(8, lasts));
        let kinds: BTreeSet<Fault> = one.iter().map(|step| step.fault).collect();
        assert_eq!(kinds.len(), Fault::ALL.len());
        assert_eq!(plan(7, lasts / 2), one[..plan(7, lasts / 2).len()], "a shorter one begins so");
    }
}
