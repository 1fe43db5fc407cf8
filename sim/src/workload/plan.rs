//! Random small graphs, as a list of steps over a pool of streams: the same list builds the same
//! job at any parallelism.

use crate::random::Random;

/// A graph to be built.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How many sources there are; each begins a stream of the pool.
    pub sources: usize,
    /// What is done, one after the other. Streams left in the pool end in sinks.
    pub steps: Vec<Step>,
    /// Event times and watermarks are such that no record is ever late.
    pub punctual: bool,
}

/// Something that is done to a stream of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The stream; its result takes its place, further results go to the end of the pool.
    pub stream: usize,
    /// What.
    pub op: Op,
    /// Draws keys, poison and choices.
    pub salt: u64,
    /// Set a parallelism of its own.
    pub own_parallelism: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the operators are")]
pub enum Op {
    Map,
    Filter,
    FlatMap,
    /// Map, filter, flat_map and try_map in one chain.
    Chain,
    TryMap,
    /// A chain whose second operator gives what it refuses to the second result.
    DeadLetters,
    PanickingMap,
    PanickingFlatMap,
    Rebalance,
    PartitionBy,
    Branch,
    Fork,
    /// With another stream of the pool, by its place.
    Union(usize),
    /// To every task, made one again by `distinct`.
    Broadcast,
    Count,
    Updates,
    Fold,
    PanickingFold,
    Reduce,
    Distinct,
    /// A keyed operator written by hand, with state and timers.
    Tally,
    Tumbling,
    Sliding,
    /// A window with a late output, the second result.
    Late {
        sliding: bool,
    },
}

/// What is known of a stream while a plan is drawn.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Its event times do not depend on the schedule.
    timed: bool,
    /// Nothing more is done to it.
    ended: bool,
}

/// Streams that a plan has at most.
const STREAMS_MAX: usize = 5;

impl Plan {
    /// A random plan.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let sources = if random.permille(250) { 2 } else { 1 };
        let mut plan = Self { sources, steps: Vec::new(), punctual: random.permille(800) };
        let mut pool = vec![Known { timed: true, ended: false }; sources];
        let steps = random.pick(&[1, 2, 2, 3, 3, 4, 6]);
        for _ in 0..steps {
            let open: Vec<usize> = (0..pool.len()).filter(|place| !pool[*place].ended).collect();
            if open.is_empty() {
                break;
            }
            let stream = random.pick(&open);
            let mut op = plan.draw_op(random, &pool, stream);
            let salt = random.next();
            // Behind the draws, so that seeds from before there was this operator mean what they
            // did. Its timers are exact where event times are.
            let exact = plan.punctual && pool[stream].timed;
            if op == Op::PanickingFold && exact && salt.is_multiple_of(2) {
                op = Op::Tally;
            }
            // Likewise.
            if op == Op::TryMap && pool.len() < STREAMS_MAX && salt.is_multiple_of(2) {
                op = Op::DeadLetters;
            }
            plan.steps.push(Step { stream, op, salt, own_parallelism: random.permille(200) });
            apply(&mut pool, stream, op);
        }
        plan
    }

    fn draw_op(&self, random: &mut Random, pool: &[Known], stream: usize) -> Op {
        const PLAIN: &[Op] = &[
            Op::Map,
            Op::Filter,
            Op::FlatMap,
            Op::Chain,
            Op::TryMap,
            Op::PanickingMap,
            Op::PanickingFlatMap,
            Op::Rebalance,
            Op::PartitionBy,
            Op::Branch,
            Op::Fork,
            Op::Broadcast,
        ];
        const KEYED: &[Op] = &[
            Op::Count,
            Op::Count,
            Op::Updates,
            Op::Fold,
            Op::PanickingFold,
            Op::Reduce,
            Op::Distinct,
        ];
        let others: Vec<usize> =
            (0..pool.len()).filter(|other| *other != stream && !pool[*other].ended).collect();
        if !others.is_empty() && random.permille(200) {
            return Op::Union(random.pick(&others));
        }
        if pool[stream].timed && random.permille(300) {
            return match random.below(2) {
                _ if !self.punctual => Op::Late { sliding: random.permille(400) },
                0 => Op::Tumbling,
                _ => Op::Sliding,
            };
        }
        let op = if random.permille(500) { random.pick(KEYED) } else { random.pick(PLAIN) };
        let splits = matches!(op, Op::Branch | Op::Fork);
        if splits && pool.len() >= STREAMS_MAX { Op::Map } else { op }
    }

    /// A short name for a table.
    #[must_use]
    pub fn describe(&self) -> String {
        let steps = self.steps.iter().map(|step| format!("{}:{:?}", step.stream, step.op));
        format!("{} sources, {}", self.sources, steps.collect::<Vec<_>>().join(" "))
    }
}

fn apply(pool: &mut Vec<Known>, stream: usize, op: Op) {
    match op {
        Op::Branch | Op::Fork | Op::DeadLetters => pool.push(pool[stream]),
        Op::Union(other) => {
            pool[stream].timed &= pool[other].timed;
            pool[other].ended = true;
        }
        Op::Count
        | Op::Updates
        | Op::Fold
        | Op::PanickingFold
        | Op::Reduce
        | Op::Distinct
        | Op::Tally
        | Op::Broadcast => pool[stream].timed = false,
        Op::Late { .. } => {
            pool[stream].ended = true;
            pool.push(Known { timed: false, ended: true });
        }
        _ => {}
    }
}
