//! The clock of a task: the lowest watermark of the channels that it reads.

use alloc::vec::Vec;

use crate::time::EventTime;

/// The clock of a task that reads channels, numbered from 0.
///
/// It is the lowest watermark of the channels that take part, and never retreats:
/// * a channel that was not heard yet takes part with [`EventTime::MIN`], so it holds the clock;
/// * an idle one does not take part, and comes back with the watermark it had;
/// * an ended one takes part with [`EventTime::MAX`]: it holds nobody, but while no other takes
///   part it does not push the clock either, since idle channels may go on.
///
/// While every channel that has not ended is idle the clock stays, and the task tells its readers
/// that it is idle ([`Self::all_idle`]). When one wakes, the task tells them its clock again, even
/// if it did not move: else they would go on without it.
///
/// Methods that take a channel panic if there is none of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputClock {
    channels: Vec<Channel>,
    current: EventTime,
    /// Channels in [`State::Active`].
    active: usize,
    /// Channels in [`State::Idle`].
    idle: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    watermark: EventTime,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Idle,
    Ended,
}

impl InputClock {
    /// The clock of a task that reads so many channels and has heard of none. Without a channel it
    /// stands at [`EventTime::MAX`]: nothing will ever come.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self::starting_at(channels, EventTime::MIN)
    }

    /// The clock of a task that goes on from a snapshot, in which its clock stood at `clock`. It
    /// stays there until every channel was heard again.
    #[must_use]
    pub fn starting_at(channels: usize, clock: EventTime) -> Self {
        let silent = Channel { watermark: EventTime::MIN, state: State::Active };
        Self {
            channels: alloc::vec![silent; channels],
            current: if channels == 0 { EventTime::MAX } else { clock },
            active: channels,
            idle: 0,
        }
    }

    /// A watermark came. Gives the clock if that moved it.
    ///
    /// One below the channel's last counts as that; a channel that has ended is not heard.
    pub fn observe(&mut self, channel: usize, watermark: EventTime) -> Option<EventTime> {
        let Channel { watermark: last, state } = self.channels[channel];
        if state == State::Ended {
            return None;
        }
        self.channels[channel].watermark = last.max(watermark);
        self.enter(channel, State::Active);
        // One that was ahead of the clock does not hold it: another does, and still will.
        if state == State::Active && last > self.current {
            return None;
        }
        self.advance()
    }

    /// The channel said that it is idle. Gives the clock if that moved it.
    pub fn idle(&mut self, channel: usize) -> Option<EventTime> {
        if self.channels[channel].state == State::Active {
            self.enter(channel, State::Idle);
            return self.advance();
        }
        None
    }

    /// A batch came: if the channel was idle it takes part again. Gives the clock if that moved it,
    /// which can only be if all channels were idle.
    #[inline]
    pub fn active(&mut self, channel: usize) -> Option<EventTime> {
        if self.channels[channel].state == State::Idle {
            self.enter(channel, State::Active);
            return self.advance();
        }
        None
    }

    /// The channel has ended. Gives the clock if that moved it; [`EventTime::MAX`] when it was the
    /// last.
    pub fn ended(&mut self, channel: usize) -> Option<EventTime> {
        self.enter(channel, State::Ended);
        self.advance()
    }

    /// The clock.
    #[inline]
    #[must_use]
    pub const fn current(&self) -> EventTime {
        self.current
    }

    /// True if every channel that has not ended is idle, and there is one.
    #[must_use]
    pub const fn all_idle(&self) -> bool {
        self.active == 0 && self.idle > 0
    }

    /// True if every channel has ended.
    #[must_use]
    pub const fn all_ended(&self) -> bool {
        self.active == 0 && self.idle == 0
    }

    /// The channel that holds the clock: of those that take part the one with the lowest
    /// watermark. None if none takes part.
    #[must_use]
    pub fn holder(&self) -> Option<usize> {
        self.participants().min_by_key(|(_, watermark)| *watermark).map(|(channel, _)| channel)
    }

    /// The last watermark of a channel; [`EventTime::MIN`] if it was not heard yet,
    /// [`EventTime::MAX`] if it has ended.
    #[must_use]
    pub fn watermark_of(&self, channel: usize) -> EventTime {
        match self.channels[channel] {
            Channel { state: State::Ended, .. } => EventTime::MAX,
            Channel { watermark, .. } => watermark,
        }
    }

    fn participants(&self) -> impl Iterator<Item = (usize, EventTime)> {
        let channels = self.channels.iter().enumerate();
        channels
            .filter(|(_, channel)| channel.state == State::Active)
            .map(|(number, channel)| (number, channel.watermark))
    }

    fn enter(&mut self, channel: usize, state: State) {
        let was = core::mem::replace(&mut self.channels[channel].state, state);
        self.active -= usize::from(was == State::Active);
        self.idle -= usize::from(was == State::Idle);
        self.active += usize::from(state == State::Active);
        self.idle += usize::from(state == State::Idle);
    }

    fn advance(&mut self) -> Option<EventTime> {
        let lowest = if self.all_ended() {
            EventTime::MAX
        } else {
            self.participants().map(|(_, watermark)| watermark).min()?
        };
        if lowest <= self.current {
            return None;
        }
        self.current = lowest;
        Some(lowest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(micros: i64) -> EventTime {
        EventTime(micros)
    }

    #[test]
    fn the_lowest_channel_holds_the_clock() {
        let mut clock = InputClock::new(2);
        assert_eq!(clock.holder(), Some(0));
        assert_eq!(clock.observe(0, at(10)), None, "channel 1 was not heard yet");
        assert_eq!(clock.holder(), Some(1));
        assert_eq!(clock.observe(1, at(5)), Some(at(5)));
        assert_eq!(clock.observe(1, at(3)), None, "no channel retreats");
        assert_eq!(clock.observe(1, at(20)), Some(at(10)));
        assert_eq!(clock.watermark_of(1), at(20));
        assert_eq!(clock.holder(), Some(0));
    }

    #[test]
    fn an_idle_channel_holds_nobody_and_comes_back_without_pulling_the_clock_back() {
        let mut clock = InputClock::new(2);
        clock.observe(0, at(10));
        assert_eq!(clock.idle(1), Some(at(10)));
        assert_eq!(clock.active(1), None);
        assert_eq!(clock.current(), at(10));
        assert_eq!(clock.observe(0, at(30)), None, "channel 1 takes part again");
        assert_eq!(clock.observe(1, at(8)), None, "and is still behind");
        assert_eq!(clock.observe(1, at(12)), Some(at(12)));
    }

    #[test]
    fn when_all_are_idle_the_clock_stays() {
        let mut clock = InputClock::new(3);
        clock.observe(0, at(100));
        clock.observe(1, at(50));
        assert_eq!(clock.ended(2), Some(at(50)));
        assert_eq!(clock.idle(0), None);
        assert!(!clock.all_idle());
        assert_eq!(clock.idle(1), None, "neither to 100 nor, for channel 2, to the end of time");
        assert!(clock.all_idle());
        assert_eq!(clock.holder(), None);
        assert_eq!(clock.active(0), Some(at(100)));
        assert!(!clock.all_idle());
    }

    #[test]
    fn the_end_of_all_is_the_end_of_time() {
        let mut clock = InputClock::new(2);
        clock.idle(0);
        assert_eq!(clock.ended(1), None, "channel 0 may go on");
        assert_eq!(clock.ended(0), Some(EventTime::MAX));
        assert!(clock.all_ended() && !clock.all_idle());
        assert_eq!(clock.observe(0, at(3)), None);
        assert_eq!(clock.active(0), None);
        assert_eq!(clock.idle(0), None);
        assert_eq!(clock.ended(0), None);
        assert!(clock.all_ended());
        assert_eq!(InputClock::new(0).current(), EventTime::MAX);
    }

    #[test]
    fn a_restored_clock_waits_where_it_stood() {
        let mut clock = InputClock::starting_at(2, at(40));
        assert_eq!(clock.observe(0, at(60)), None);
        assert_eq!(clock.observe(1, at(30)), None);
        assert_eq!(clock.current(), at(40));
        assert_eq!(clock.observe(1, at(50)), Some(at(50)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Observe(i64),
        Idle,
        Active,
        Ended,
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..40_i64).prop_map(Event::Observe),
            2 => Just(Event::Idle),
            2 => Just(Event::Active),
            1 => Just(Event::Ended),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_clock(
            channels in 1..6_usize,
            events in prop::collection::vec((0..6_usize, any_event()), 0..120),
        ) {
            let mut clock = InputClock::new(channels);
            // Per channel: watermark, idle, ended.
            let mut model = alloc::vec![(i64::MIN, false, false); channels];
            let mut now = i64::MIN;
            for (channel, event) in events {
                let channel = channel % channels;
                let moved = match event {
                    Event::Observe(micros) => clock.observe(channel, at(micros)),
                    Event::Idle => clock.idle(channel),
                    Event::Active => clock.active(channel),
                    Event::Ended => clock.ended(channel),
                };
                let (watermark, idle, ended) = &mut model[channel];
                match event {
                    _ if *ended => {}
                    Event::Observe(micros) => {
                        *watermark = micros.max(*watermark);
                        *idle = false;
                    }
                    Event::Idle => *idle = true,
                    Event::Active => *idle = false,
                    Event::Ended => *ended = true,
                }
                let open = || model.iter().filter(|(_, _, ended)| !ended);
                let taking_part = || open().filter(|(_, idle, _)| !idle);
                let lowest = if open().count() == 0 {
                    i64::MAX
                } else {
                    taking_part().map(|(watermark, ..)| *watermark).min().unwrap_or(now)
                };
                prop_assert_eq!(moved, (lowest > now).then_some(at(lowest)));
                now = now.max(lowest);
                prop_assert_eq!(clock.current(), at(now));
                let all_idle = open().count() > 0 && taking_part().count() == 0;
                prop_assert_eq!(clock.all_idle(), all_idle);
                prop_assert_eq!(clock.holder().is_some(), taking_part().count() > 0);
                if let Some(holder) = clock.holder() {
                    prop_assert_eq!(clock.watermark_of(holder), at(lowest));
                }
            }
        }
    }
}
