//! How a source tells event time: strategies, and their state for each partition that is read.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::time::{Duration, EventTime, Time};

/// How watermarks follow from the records of a source.
#[derive(Clone, Debug, Default)]
pub struct Watermarks {
    strategy: Strategy,
    idle_after: Option<Duration>,
}

/// What a watermark is worked out from.
#[derive(Clone, Debug, Default)]
pub enum Strategy {
    /// There are none: event time does not move before the stream ends.
    #[default]
    None,
    /// The latest event time of a partition, whose event times never fall.
    Monotonic,
    /// So much before the latest event time of a partition, whose records may come that much late.
    Bounded(Duration),
    /// What the author's generator says.
    Custom(Custom),
}

/// An author's rule, with its state for one partition.
///
/// After a restart it begins anew and hears, as its first record, the latest event time that the
/// partition had.
pub trait WatermarkGenerator: Send + Sync + 'static {
    /// A record came. Called for each, so it should be cheap.
    fn on_record(&mut self, at: EventTime);

    /// No record earlier than this follows in this partition. A lower one than before counts as
    /// that.
    fn watermark(&self) -> EventTime;
}

/// An author's generator, as it is before the first record.
pub struct Custom(Box<dyn Generator>);

/// A generator that can be cloned behind a pointer.
trait Generator: WatermarkGenerator {
    fn boxed_clone(&self) -> Box<dyn Generator>;
}

impl<G: WatermarkGenerator + Clone> Generator for G {
    fn boxed_clone(&self) -> Box<dyn Generator> {
        Box::new(self.clone())
    }
}

impl Clone for Custom {
    fn clone(&self) -> Self {
        Self(self.0.boxed_clone())
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Custom(at {})", self.0.watermark())
    }
}

impl Watermarks {
    /// No watermarks: event time does not move before the stream ends.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// For partitions whose event times never fall: the watermark is the latest.
    #[must_use]
    pub fn monotonic() -> Self {
        Self::from(Strategy::Monotonic)
    }

    /// For records that come at most `lateness` (to the microsecond) out of order.
    #[must_use]
    pub fn bounded(lateness: Duration) -> Self {
        Self::from(Strategy::Bounded(lateness))
    }

    /// As `generator` says, a clone of which follows each partition.
    #[must_use]
    pub fn custom(generator: impl WatermarkGenerator + Clone) -> Self {
        Self::from(Strategy::Custom(Custom(Box::new(generator))))
    }

    /// A partition without a record for so long does not hold the others' clock.
    #[must_use]
    pub fn idle_after(mut self, silence: Duration) -> Self {
        self.idle_after = Some(silence);
        self
    }

    /// What watermarks are worked out from.
    #[must_use]
    pub const fn strategy(&self) -> &Strategy {
        &self.strategy
    }

    /// The silence after which a partition is idle; none if it never is.
    #[must_use]
    pub const fn idleness(&self) -> Option<Duration> {
        self.idle_after
    }
}

impl From<Strategy> for Watermarks {
    fn from(strategy: Strategy) -> Self {
        Self { strategy, idle_after: None }
    }
}

/// What a source's task puts into its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// This watermark. It may be the last one again: then it says that the task is no longer idle,
    /// or where it stands after a restart.
    Advance(EventTime),
    /// That no partition is read at present, so that the task holds no clock.
    Idle,
    /// Nothing.
    Unchanged,
}

/// The clocks of the partitions that a source's task reads, numbered from 0.
///
/// The task's watermark is the lowest of the partitions that take part, and never retreats. One
/// that has seen nothing takes part and holds it, until it is idle; one that is idle or done does
/// not take part. If none does, the watermark stays and the task is [`Emit::Idle`]: the end of the
/// stream, and nothing else, is the end of time.
///
/// An idle partition that wakes takes part with what it had seen. Records of it that are earlier
/// than the watermark are late, and whoever receives them counts them; none is lost.
///
/// Methods that take a partition panic if there is none of this number.
#[derive(Clone, Debug)]
pub struct PartitionClocks {
    watermarks: Watermarks,
    /// The latest event time of each partition.
    maxima: Vec<EventTime>,
    /// One for each partition if the strategy is custom, else none.
    generators: Vec<Custom>,
    activity: Vec<Activity>,
    current: EventTime,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It last gave a record at this time, or was taken on then.
    Since(Time),
    Idle,
    Done,
}

/// What the readers of the task know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing, and a watermark was restored.
    Nothing,
    /// The watermark that is current.
    Current,
    Idle,
}

impl PartitionClocks {
    /// The clocks of so many partitions, of which nothing was read yet.
    #[must_use]
    pub fn new(watermarks: Watermarks, partitions: u32, now: Time) -> Self {
        let mut clocks = Self {
            watermarks,
            maxima: Vec::new(),
            generators: Vec::new(),
            activity: Vec::new(),
            current: EventTime::MIN,
            told: Told::Current,
        };
        for _ in 0..partitions {
            clocks.add(now);
        }
        clocks
    }

    /// Takes on one more partition and gives its number.
    pub fn add(&mut self, now: Time) -> u32 {
        let partition = self.maxima.len() as u32;
        self.maxima.push(EventTime::MIN);
        self.activity.push(Activity::Since(now));
        if let Strategy::Custom(generator) = &self.watermarks.strategy {
            self.generators.push(generator.clone());
        }
        partition
    }

    /// A record was read. Needs an [`Self::on_batch`] for the batch it is in.
    #[inline(always)]
    pub fn on_record(&mut self, partition: u32, at: EventTime) {
        let maximum = &mut self.maxima[partition as usize];
        if at > *maximum {
            *maximum = at;
        }
        if !self.generators.is_empty() {
            self.generate(partition, at);
        }
    }

    // Out of line: the loop over records of the other strategies stays small.
    #[inline(never)]
    fn generate(&mut self, partition: u32, at: EventTime) {
        self.generators[partition as usize].0.on_record(at);
    }

    /// Records were read: the partition is not idle. One that was done is read again.
    pub fn on_batch(&mut self, partition: u32, now: Time) {
        self.activity[partition as usize] = Activity::Since(now);
    }

    /// The task could not read for so long, since its readers were slow: this is no silence of the
    /// partitions.
    pub fn on_back_pressure(&mut self, span: Duration) {
        for activity in &mut self.activity {
            if let Activity::Since(time) = activity {
                *time = *time + span;
            }
        }
    }

    /// The partition was read to its end.
    pub fn done(&mut self, partition: u32) {
        self.activity[partition as usize] = Activity::Done;
    }

    /// What to put into the streams, once for each call; to be asked after each batch and at
    /// [`Self::next_idle`].
    pub fn watermark(&mut self, now: Time) -> Emit {
        self.fall_idle(now);
        let Some(lowest) = self.participants().map(|(_, watermark)| watermark).min() else {
            let was = core::mem::replace(&mut self.told, Told::Idle);
            return if was == Told::Idle { Emit::Unchanged } else { Emit::Idle };
        };
        let was = core::mem::replace(&mut self.told, Told::Current);
        if lowest > self.current {
            self.current = lowest;
        } else if was == Told::Current {
            return Emit::Unchanged;
        }
        Emit::Advance(self.current)
    }

    /// When the next partition falls idle if it gives no record until then; none if none can.
    #[must_use]
    pub fn next_idle(&self) -> Option<Time> {
        let silence = self.watermarks.idle_after?;
        let since = self.activity.iter().filter_map(|activity| match activity {
            Activity::Since(time) => Some(*time),
            Activity::Idle | Activity::Done => None,
        });
        since.min().map(|time| time + silence)
    }

    /// The watermark that was emitted last.
    #[must_use]
    pub const fn current(&self) -> EventTime {
        self.current
    }

    /// The partition that holds the watermark: of those that take part the lowest. None if none
    /// takes part.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        self.participants().min_by_key(|(_, watermark)| *watermark).map(|(partition, _)| partition)
    }

    /// True if every partition was read to its end.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.activity.iter().all(|activity| *activity == Activity::Done)
    }

    /// True if the partition fell idle.
    #[must_use]
    pub fn is_idle(&self, partition: u32) -> bool {
        self.activity[partition as usize] == Activity::Idle
    }

    /// The latest event time of each partition, for the snapshot; [`EventTime::MIN`] if it has
    /// seen none.
    #[must_use]
    pub fn maxima(&self) -> &[EventTime] {
        &self.maxima
    }

    /// Restores the latest event time of a partition.
    pub fn set_maximum(&mut self, partition: u32, maximum: EventTime) {
        self.maxima[partition as usize] = maximum;
        if let Some(generator) = self.generators.get_mut(partition as usize)
            && maximum > EventTime::MIN
        {
            generator.0.on_record(maximum);
        }
    }

    /// Restores the watermark, below which the task does not fall; it is emitted once more, since
    /// its readers begin anew too.
    pub fn set_current(&mut self, watermark: EventTime) {
        self.current = self.current.max(watermark);
        self.told = Told::Nothing;
    }

    fn fall_idle(&mut self, now: Time) {
        let Some(silence) = self.watermarks.idle_after else { return };
        for activity in &mut self.activity {
            if let Activity::Since(time) = *activity
                && now >= time + silence
            {
                *activity = Activity::Idle;
            }
        }
    }

    /// The partitions that take part, each with its own watermark.
    fn participants(&self) -> impl Iterator<Item = (u32, EventTime)> {
        (0..)
            .zip(&self.activity)
            .filter(|(_, activity)| matches!(activity, Activity::Since(_)))
            .map(|(partition, _)| (partition, self.watermark_of(partition)))
    }

    fn watermark_of(&self, partition: u32) -> EventTime {
        let maximum = self.maxima[partition as usize];
        match &self.watermarks.strategy {
            Strategy::None => EventTime::MIN,
            Strategy::Monotonic => maximum,
            Strategy::Bounded(lateness) => maximum - *lateness,
            Strategy::Custom(_) => self.generators[partition as usize].0.watermark(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // The prelude has a strategy of its own.
    use super::{Emit, PartitionClocks, WatermarkGenerator, Watermarks};
    use crate::time::{Duration, EventTime, Time};

    const fn at(micros: i64) -> EventTime {
        EventTime(micros)
    }

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    const fn now(micros: u64) -> Time {
        Time(micros * 1_000)
    }

    fn read(clocks: &mut PartitionClocks, partition: u32, time: Time, records: &[i64]) {
        clocks.on_batch(partition, time);
        records.iter().for_each(|micros| clocks.on_record(partition, at(*micros)));
    }

    #[test]
    fn the_latest_record_is_the_watermark_or_the_bound_before_it() {
        let mut monotonic = PartitionClocks::new(Watermarks::monotonic(), 1, now(0));
        read(&mut monotonic, 0, now(0), &[5, 9, 7]);
        assert_eq!(monotonic.watermark(now(0)), Emit::Advance(at(9)));
        assert_eq!(monotonic.watermark(now(0)), Emit::Unchanged);
        let mut bounded = PartitionClocks::new(Watermarks::bounded(micros(4)), 1, now(0));
        assert_eq!(bounded.watermark(now(0)), Emit::Unchanged);
        read(&mut bounded, 0, now(0), &[5, 9, 7]);
        assert_eq!(bounded.watermark(now(0)), Emit::Advance(at(5)));
        let mut none = PartitionClocks::new(Watermarks::none(), 1, now(0));
        read(&mut none, 0, now(0), &[5]);
        assert_eq!(none.watermark(now(0)), Emit::Unchanged);
    }

    #[test]
    fn a_partition_that_has_seen_nothing_holds_until_it_is_idle() {
        let watermarks = Watermarks::monotonic().idle_after(micros(10));
        let mut clocks = PartitionClocks::new(watermarks, 2, now(0));
        read(&mut clocks, 0, now(3), &[50]);
        assert_eq!(clocks.watermark(now(3)), Emit::Unchanged);
        assert_eq!(clocks.holder(), Some(1));
        assert_eq!(clocks.next_idle(), Some(now(10)));
        assert_eq!(clocks.watermark(now(9)), Emit::Unchanged);
        assert_eq!(clocks.watermark(now(10)), Emit::Advance(at(50)));
        assert!(clocks.is_idle(1));
        assert_eq!(clocks.next_idle(), Some(now(13)));
    }

    #[test]
    fn a_partition_that_wakes_holds_again_and_pulls_nothing_back() {
        let watermarks = Watermarks::monotonic().idle_after(micros(10));
        let mut clocks = PartitionClocks::new(watermarks, 2, now(0));
        read(&mut clocks, 0, now(0), &[10]);
        read(&mut clocks, 1, now(9), &[50]);
        assert_eq!(clocks.watermark(now(10)), Emit::Advance(at(50)), "partition 0 is idle");
        read(&mut clocks, 0, now(11), &[20]);
        read(&mut clocks, 1, now(11), &[90]);
        assert_eq!(clocks.watermark(now(11)), Emit::Unchanged, "20 is late, and nothing moves");
        assert_eq!(clocks.maxima(), [at(20), at(90)]);
        read(&mut clocks, 0, now(12), &[60]);
        assert_eq!(clocks.watermark(now(12)), Emit::Advance(at(60)));
    }

    #[test]
    fn when_all_are_idle_it_is_said_once_and_so_is_the_end_of_it() {
        let watermarks = Watermarks::monotonic().idle_after(micros(10));
        let mut clocks = PartitionClocks::new(watermarks, 2, now(0));
        read(&mut clocks, 0, now(0), &[10]);
        read(&mut clocks, 1, now(0), &[50]);
        assert_eq!(clocks.watermark(now(0)), Emit::Advance(at(10)));
        assert_eq!(clocks.watermark(now(10)), Emit::Idle, "and no jump to 50");
        assert_eq!(clocks.watermark(now(11)), Emit::Unchanged);
        assert_eq!((clocks.next_idle(), clocks.holder()), (None, None));
        read(&mut clocks, 0, now(12), &[3]);
        assert_eq!(clocks.watermark(now(12)), Emit::Advance(at(10)), "not idle any more");
        assert_eq!(clocks.watermark(now(12)), Emit::Unchanged);
    }

    #[test]
    fn partitions_that_are_done_or_were_never_there_hold_nothing() {
        let mut clocks = PartitionClocks::new(Watermarks::monotonic(), 2, now(0));
        read(&mut clocks, 0, now(0), &[10]);
        clocks.done(1);
        assert_eq!(clocks.watermark(now(0)), Emit::Advance(at(10)));
        clocks.done(0);
        assert_eq!(clocks.watermark(now(0)), Emit::Idle, "the end of the stream is not its own");
        let mut empty = PartitionClocks::new(Watermarks::monotonic(), 0, now(0));
        assert_eq!(empty.watermark(now(0)), Emit::Idle);
        assert_eq!(empty.add(now(5)), 0);
        assert_eq!(empty.watermark(now(5)), Emit::Advance(EventTime::MIN), "it holds again");
    }

    #[test]
    fn waiting_for_slow_readers_is_no_silence() {
        let watermarks = Watermarks::monotonic().idle_after(micros(10));
        let mut clocks = PartitionClocks::new(watermarks, 1, now(0));
        read(&mut clocks, 0, now(0), &[10]);
        clocks.watermark(now(0));
        clocks.on_back_pressure(micros(50));
        assert_eq!(clocks.watermark(now(59)), Emit::Unchanged);
        assert_eq!(clocks.watermark(now(60)), Emit::Idle);
    }

    #[test]
    fn a_restored_watermark_is_told_again() {
        let mut clocks = PartitionClocks::new(Watermarks::bounded(micros(5)), 2, now(0));
        clocks.set_maximum(0, at(100));
        clocks.set_maximum(1, at(40));
        clocks.set_current(at(90));
        assert_eq!(clocks.watermark(now(0)), Emit::Advance(at(90)));
        assert_eq!(clocks.watermark(now(0)), Emit::Unchanged);
        clocks.set_current(at(90));
        (0..2).for_each(|partition| clocks.done(partition));
        assert_eq!(clocks.watermark(now(0)), Emit::Idle);
    }

    /// Punctuated: every tenth microsecond is a promise.
    #[derive(Clone)]
    struct Tens(EventTime);

    impl WatermarkGenerator for Tens {
        fn on_record(&mut self, at: EventTime) {
            if at.0 % 10 == 0 {
                self.0 = at;
            }
        }

        fn watermark(&self) -> EventTime {
            self.0
        }
    }

    #[test]
    fn an_authors_generator_follows_each_partition() {
        let watermarks = Watermarks::custom(Tens(EventTime::MIN));
        let mut clocks = PartitionClocks::new(watermarks, 2, now(0));
        read(&mut clocks, 0, now(0), &[20, 27]);
        read(&mut clocks, 1, now(0), &[30, 31]);
        let mut copy = clocks.clone();
        assert_eq!(clocks.watermark(now(0)), Emit::Advance(at(20)));
        read(&mut clocks, 0, now(0), &[10]);
        assert_eq!(clocks.watermark(now(0)), Emit::Unchanged, "a promise is not taken back");
        read(&mut copy, 0, now(0), &[40]);
        assert_eq!(copy.watermark(now(0)), Emit::Advance(at(30)));
        clocks.set_maximum(0, at(50));
        assert_eq!(clocks.watermark(now(0)), Emit::Advance(at(30)));
    }

    proptest! {
        #[test]
        fn they_agree_with_naive_clocks(
            bound in 0..20_u64,
            silence in prop::option::of(1..30_u64),
            partitions in 0..5_u32,
            events in prop::collection::vec((0..5_u32, 0..12_u64, 0..4_u8, 0..100_i64), 0..80),
        ) {
            let mut watermarks = Watermarks::bounded(micros(bound));
            watermarks.idle_after = silence.map(micros);
            let mut clocks = PartitionClocks::new(watermarks, partitions, now(0));
            // Per partition: maximum, last activity, done. Idle follows, but wakes by a batch only.
            let mut model = alloc::vec![(None, 0, false); partitions as usize];
            let (mut time, mut clock, mut idle) = (0, i64::MIN, false);
            for (partition, passed, kind, micros) in events {
                time += passed;
                if partition < partitions {
                    let (maximum, last, done) = &mut model[partition as usize];
                    if kind == 0 {
                        clocks.done(partition);
                        *done = true;
                    } else if kind < 3 {
                        read(&mut clocks, partition, now(time), &[micros]);
                        *maximum = Some(maximum.map_or(micros, |old: i64| old.max(micros)));
                        (*last, *done) = (time, false);
                    }
                }
                let taking_part = model.iter().filter(|(_, last, done)| {
                    !done && silence.is_none_or(|silence| time - last < silence)
                });
                let lowest = taking_part
                    .map(|(max, ..)| max.map_or(i64::MIN, |max| max - bound as i64))
                    .min();
                let expected = match lowest {
                    None if idle => Emit::Unchanged,
                    None => Emit::Idle,
                    Some(lowest) if lowest > clock => Emit::Advance(at(lowest)),
                    Some(_) if idle => Emit::Advance(at(clock)),
                    Some(_) => Emit::Unchanged,
                };
                idle = lowest.is_none();
                clock = clock.max(lowest.unwrap_or(i64::MIN));
                prop_assert_eq!(clocks.watermark(now(time)), expected);
                prop_assert_eq!(clocks.current(), at(clock));
            }
        }
    }
}
