//! Generated records: the same for the same seed, whatever the parallelism and the failures.

use std::marker::PhantomData;

use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{Files, Owned};
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::{Duration, EventTime, Time};

use crate::random::{GOLDEN, below, mix};
pub use crate::zipf::Zipf;

/// Keys of [`source`] unless set.
pub const KEYS_DEFAULT: u64 = 1_000_000;
/// Records of one partition before the next one's turn: long enough for a tight loop, short enough
/// that the partitions of a task stay close to each other.
const RUN: u64 = 256;
const POSITION_VERSION: u8 = 1;

/// Endless records `(sequence, key)` in one partition, with uniform keys.
#[must_use]
pub const fn source() -> Generate<Keys> {
    Generate { settings: Settings::NEW, make: Keys::Uniform(KEYS_DEFAULT) }
}

/// `count` records, each made of its sequence number, in so many partitions.
pub fn from_fn<T: Owned, F>(count: u64, partitions: u32, make: F) -> Generate<FromFn<T, F>>
where
    F: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    let settings = Settings { count, partitions: at_least_one(partitions), ..Settings::NEW };
    Generate { settings, make: FromFn(make, PhantomData) }
}

#[derive(Clone, Debug)]
struct Settings {
    count: u64,
    per_second: Option<u64>,
    seed: u64,
    partitions: u32,
}

impl Settings {
    const NEW: Self = Self { count: u64::MAX, per_second: None, seed: 0, partitions: 1 };
}

const fn at_least_one(partitions: u32) -> u32 {
    if partitions == 0 { 1 } else { partitions }
}

/// Makes a record of its sequence number and of the random number that belongs to it.
pub trait Make: Clone + Send + Sync + 'static {
    /// The record.
    type Out: Owned;
    /// The record of this number.
    fn make(&self, seed: u64, sequence: u64) -> Self::Out;
}

/// The random number of a record.
#[inline(always)]
const fn random(seed: u64, sequence: u64) -> u64 {
    mix(seed.wrapping_add(sequence.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// Records `(sequence, key)`.
#[derive(Clone, Debug)]
pub enum Keys {
    /// So many keys, all as likely.
    Uniform(u64),
    /// Keys of which few are frequent.
    Zipf(Zipf),
}

impl Make for Keys {
    type Out = (u64, u64);

    #[inline]
    fn make(&self, seed: u64, sequence: u64) -> (u64, u64) {
        let random = random(seed, sequence);
        match self {
            Self::Uniform(keys) => (sequence, below(random, *keys)),
            Self::Zipf(zipf) => (sequence, zipf.sample(random)),
        }
    }
}

/// Records that a closure makes of the sequence number.
#[derive(Clone, Debug)]
pub struct FromFn<T, F>(F, PhantomData<fn() -> T>);

impl<T: Owned, F: Fn(u64) -> T + Clone + Send + Sync + 'static> Make for FromFn<T, F> {
    type Out = T;

    #[inline]
    fn make(&self, _: u64, sequence: u64) -> T {
        (self.0)(sequence)
    }
}

/// Records that a closure makes of the sequence number and a random number.
#[derive(Clone, Debug)]
pub struct Mapped<T, F>(F, PhantomData<fn() -> T>);

impl<T: Owned, F: Fn(u64, u64) -> T + Clone + Send + Sync + 'static> Make for Mapped<T, F> {
    type Out = T;

    #[inline]
    fn make(&self, seed: u64, sequence: u64) -> T {
        (self.0)(sequence, random(seed, sequence))
    }
}

/// A generator; made by [`source`] and [`from_fn`].
#[derive(Clone, Debug)]
pub struct Generate<M> {
    settings: Settings,
    make: M,
}

impl<M> Generate<M> {
    /// So many records in all.
    #[must_use]
    pub const fn count(mut self, records: u64) -> Self {
        self.settings.count = records;
        self
    }

    /// Records a second in all, at least 1; as fast as possible unless set. What was missed while
    /// the job could not keep up is made up for at once.
    #[must_use]
    pub const fn rate(mut self, per_second: u64) -> Self {
        self.settings.per_second = Some(if per_second == 0 { 1 } else { per_second });
        self
    }

    /// What the random numbers depend on, beside the sequence number.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Partitions, at least 1: partition `p` of `n` has the sequence numbers `p`, `p + n`, ...
    #[must_use]
    pub const fn partitions(mut self, partitions: u32) -> Self {
        self.settings.partitions = at_least_one(partitions);
        self
    }
}

impl Generate<Keys> {
    /// So many keys from 0, all as likely.
    #[must_use]
    pub fn keys(mut self, keys: u64) -> Self {
        self.make = Keys::Uniform(keys);
        self
    }

    /// So many keys from 0, the `k`-th as likely as `1 / (k + 1) ^ exponent`.
    #[must_use]
    pub fn zipf(mut self, keys: u64, exponent: f64) -> Self {
        self.make = Keys::Zipf(Zipf::new(keys, exponent));
        self
    }

    /// Other records, made of the sequence number and of a random number that depends on it and on
    /// the seed only.
    pub fn map<T: Owned, F>(self, make: F) -> Generate<Mapped<T, F>>
    where
        F: Fn(u64, u64) -> T + Clone + Send + Sync + 'static,
    {
        Generate { settings: self.settings, make: Mapped(make, PhantomData) }
    }
}

impl<M: Make> SourceConnector for Generate<M> {
    type Source = Generator<M>;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        let all = self.settings.partitions;
        Ok((0..all).map(|number| format!("generated {number}/{all}")).collect())
    }

    fn source(&self) -> Generator<M> {
        Generator {
            settings: self.settings.clone(),
            make: self.make.clone(),
            parts: Vec::new(),
            part: 0,
            sequence: 0,
            stride: 0,
            left: 0,
            running: false,
            started: None,
        }
    }
}

/// A partition: every `stride`-th number.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    number: u64,
    stride: u64,
    /// The next sequence number, when this is not the running part.
    next: u64,
    /// Records since the start, for the rate.
    given: u64,
    done: bool,
}

/// Generates the partitions of one task.
#[derive(Clone, Debug)]
pub struct Generator<M> {
    settings: Settings,
    make: M,
    parts: Vec<Part>,
    part: usize,
    /// The current record, if `running`.
    sequence: u64,
    stride: u64,
    /// Records that follow in this run.
    left: u64,
    running: bool,
    started: Option<Time>,
}

impl<M: Make> Source for Generator<M> {
    type Out = M::Out;

    fn open(&mut self, partitions: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        self.parts = partitions.iter().map(Part::open).collect::<Result<_, _>>()?;
        (self.part, self.left, self.running, self.started) = (0, 0, false, None);
        Ok(())
    }

    #[inline(always)]
    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        if self.left > 0 {
            self.left -= 1;
            self.sequence += self.stride;
            return Ok(Advance::Record);
        }
        Ok(self.next_run(cx.now))
    }

    #[inline(always)]
    fn current(&self) -> (Meta, M::Out) {
        let meta = Meta { at: EventTime::MIN, partition: self.part as u32 };
        (meta, self.make.make(self.settings.seed, self.sequence))
    }

    fn positions(&self) -> Vec<Partition> {
        let parts = self.parts.iter().enumerate();
        let next = |number, part: &Part| {
            let running = self.running && number == self.part;
            if running { self.sequence.saturating_add(part.stride) } else { part.next }
        };
        parts.map(|(number, part)| part.partition(next(number, part))).collect()
    }
}

impl<M> Generator<M> {
    #[inline(never)]
    fn next_run(&mut self, now: Time) -> Advance {
        if std::mem::take(&mut self.running) {
            let part = &mut self.parts[self.part];
            part.next = self.sequence.saturating_add(part.stride);
        }
        let elapsed = now.since(*self.started.get_or_insert(now));
        let count = self.parts.len();
        let mut due = Time::MAX;
        for _ in 0..count {
            self.part = if self.part + 1 < count { self.part + 1 } else { 0 };
            let part = &mut self.parts[self.part];
            if part.done {
                continue;
            }
            if part.next >= self.settings.count {
                part.done = true;
                return Advance::PartitionEnd(self.part as u32);
            }
            let left = (self.settings.count - part.next).div_ceil(part.stride);
            let allowed = part.allowed(self.settings.per_second, elapsed);
            if allowed == 0 {
                let at = now.0.saturating_sub(elapsed.as_nanos() as u64);
                due = due.min(part.due(self.settings.per_second, Time(at)));
                continue;
            }
            let run = RUN.min(left).min(allowed);
            part.given += run;
            (self.sequence, self.stride) = (part.next, part.stride);
            (self.left, self.running) = (run - 1, true);
            return Advance::Record;
        }
        if due < Time::MAX { Advance::Wait(due) } else { Advance::End }
    }
}

impl Part {
    fn open(partition: &Partition) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no partition or has no position of this generator; give the changed \
                 source a new name, or start over with --fresh",
                partition.name
            )
        };
        let numbers = partition.name.strip_prefix("generated ").and_then(|it| it.split_once('/'));
        let parsed = numbers.and_then(|(number, stride)| {
            let (number, stride) = (number.parse::<u64>().ok()?, stride.parse::<u64>().ok()?);
            (number < stride && stride <= u64::from(u32::MAX)).then_some((number, stride))
        });
        let (number, stride) = parsed.ok_or_else(wrong)?;
        let next = match partition.position.as_deref() {
            None => number,
            Some([POSITION_VERSION, next @ ..]) => {
                let next = next.try_into().map(u64::from_le_bytes).map_err(|_| wrong())?;
                if next % stride != number && next != u64::MAX {
                    return Err(wrong());
                }
                next
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Self {
            name: partition.name.clone(),
            number,
            stride,
            next,
            given: 0,
            done: partition.done,
        })
    }

    fn partition(&self, next: u64) -> Partition {
        let mut position = vec![POSITION_VERSION];
        position.extend_from_slice(&next.to_le_bytes());
        Partition { name: self.name.clone(), position: Some(position), done: self.done }
    }

    /// Records that are due and were not given.
    fn allowed(&self, per_second: Option<u64>, elapsed: Duration) -> u64 {
        let Some(rate) = per_second else { return u64::MAX };
        // The n-th record of all partitions is due n periods after the start.
        let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
        let own = due.saturating_sub(u128::from(self.number)).div_ceil(u128::from(self.stride));
        u64::try_from(own).unwrap_or(u64::MAX).saturating_sub(self.given)
    }

    /// When the next record is due.
    fn due(&self, per_second: Option<u64>, started: Time) -> Time {
        let Some(rate) = per_second else { return started };
        let number = u128::from(self.given) * u128::from(self.stride) + u128::from(self.number);
        let nanos = (number * 1_000_000_000).div_ceil(u128::from(rate));
        started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use gear_core::time::WallTime;
    use proptest::prelude::*;

    use super::*;
    use crate::model::ModelDisk;

    fn partitions(connector: &impl SourceConnector) -> Vec<Partition> {
        let names = connector.partitions(&mut ModelDisk::new(0)).unwrap();
        let new = |name| Partition { name, position: None, done: false };
        names.into_iter().map(new).collect()
    }

    fn run<S: Source>(
        source: &mut S,
        limit: usize,
        now: Time,
    ) -> Vec<<S::Out as gear_core::api::Record>::View<'_>>
    where
        S::Out: Owned,
    {
        let mut disk = ModelDisk::new(0);
        let mut cx = SourceContext { now, wall: WallTime(0), files: &mut disk };
        let mut out = Vec::new();
        while out.len() < limit {
            match source.advance(&mut cx).unwrap() {
                Advance::Record => out.push(source.current().1),
                Advance::NewPartition(_) | Advance::PartitionEnd(_) => {}
                Advance::Wait(_) | Advance::End => break,
                Advance::Malformed { .. } => panic!("a generator makes no bad records"),
            }
        }
        out
    }

    fn open<S: Source>(source: &mut S, partitions: &[Partition]) -> Result<(), String> {
        let mut disk = ModelDisk::new(0);
        let mut cx = SourceContext { now: Time::ZERO, wall: WallTime(0), files: &mut disk };
        source.open(partitions, &mut cx)
    }

    proptest! {
        #[test]
        fn the_records_depend_on_the_seed_only(
            count in 0_u64..2_000, of in 1_u32..6, stop in 0_usize..2_000, seed: u64,
        ) {
            let one = source().count(count).seed(seed).zipf(50, 1.1);
            let mut whole = one.source();
            open(&mut whole, &partitions(&one)).unwrap();
            let expected = run(&mut whole, usize::MAX, Time::ZERO);
            prop_assert_eq!(expected.len() as u64, count);

            let split = one.partitions(of);
            let mut first = split.source();
            open(&mut first, &partitions(&split)).unwrap();
            let mut found = run(&mut first, stop, Time::ZERO);
            let mut second = split.source();
            open(&mut second, &first.positions()).unwrap();
            found.extend(run(&mut second, usize::MAX, Time::ZERO));
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn hostile_positions_are_refused(position: Vec<u8>, name in ".{0,20}") {
            let bad = Partition { name, position: Some(position), done: false };
            let _ = open(&mut source().source(), &[bad]);
        }
    }

    #[test]
    fn the_rate_is_kept() {
        let connector = source().rate(1_000).partitions(3);
        let mut generator = connector.source();
        open(&mut generator, &partitions(&connector)).unwrap();
        assert_eq!(run(&mut generator, usize::MAX, Time(5)).len(), 1);
        let mut found = run(&mut generator, usize::MAX, Time(5) + Duration::from_millis(999));
        found.sort_unstable();
        assert_eq!(found.len(), 999);
        assert_eq!(found.last().map(|record| record.0), Some(999));
    }
}
