//! A keyed operator written by hand: counts in named state, and a timer of event time for each
//! hundred microseconds in which a key had a record.

use gear_core::api::{Process, ProcessContext, States, ValueState};
use gear_core::time::EventTime;

use super::{Row, is_poison};

/// The operator.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Chooses the rows on which it panics.
    pub salt: u64,
    count: ValueState<u64>,
}

impl Tally {
    /// One that panics on the poison of this salt.
    #[must_use]
    pub fn new(salt: u64) -> Self {
        Self { salt, count: ValueState::default() }
    }
}

/// When the timer for a record fires.
#[must_use]
pub const fn timer_of(at: i64) -> i64 {
    (at.div_euclid(100) + 1) * 100
}

/// What it emits for the so-manieth record of a key.
#[must_use]
pub const fn counted(key: u64, count: u64) -> Row {
    (count, key, 0, String::new())
}

/// What it emits when a timer fires.
#[must_use]
pub const fn fired(key: u64, at: i64) -> Row {
    (u64::MAX, key, at, String::new())
}

impl Process for Tally {
    type Key = u64;
    type In = Row;
    type Out = Row;
    type Side = Row;

    fn open(&mut self, states: &mut States) {
        self.count = states.value("count");
    }

    fn on_record(&mut self, row: Row, cx: &mut ProcessContext<'_, Row, Row>) {
        let count = cx.get(self.count).unwrap_or(0) + 1;
        cx.set(self.count, &count);
        cx.set_event_timer(EventTime(timer_of(cx.at.0)));
        cx.emit(counted(row.1, count));
        // Last, so that everything before has to be taken back.
        assert!(!is_poison(&row, self.salt), "poison");
    }

    fn on_event_timer(&mut self, at: EventTime, key: u64, cx: &mut ProcessContext<'_, Row, Row>) {
        cx.emit(fired(key, at.0));
    }
}
