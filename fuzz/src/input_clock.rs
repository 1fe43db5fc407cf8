//! The clock of a task against what it promises, whatever its channels say.

use gear_core::clock::InputClock;
use gear_core::time::EventTime;

use crate::script::Script;

/// Moves a clock as the bytes say.
pub fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let channels = usize::from(script.byte() % 5);
    let mut clock = InputClock::new(channels);
    // What each channel said last, and whether it takes part: none when it has ended.
    let mut said = vec![Some((i64::MIN, true)); channels];
    while channels > 0
        && let Some(choice) = script.next()
    {
        let channel = usize::from(choice >> 4) % channels;
        let before = clock.current();
        let ended = said[channel].is_none();
        let moved = match choice & 3 {
            0 => {
                let at = script.number() as i64;
                if let Some((last, active)) = &mut said[channel] {
                    (*last, *active) = (at.max(*last), true);
                }
                clock.observe(channel, EventTime(at))
            }
            1 => {
                if let Some((_, active)) = &mut said[channel] {
                    *active = false;
                }
                clock.idle(channel)
            }
            2 => {
                if let Some((_, active)) = &mut said[channel] {
                    *active = true;
                }
                clock.active(channel)
            }
            _ => {
                said[channel] = None;
                clock.ended(channel)
            }
        };
        assert!(clock.current() >= before, "a clock does not go back");
        assert_eq!(moved.is_some(), clock.current() > before);
        assert!(moved.is_none_or(|at| at == clock.current()));
        assert!(!ended || moved.is_none(), "one that has ended is not heard");
        let active = said.iter().flatten().filter(|(_, active)| *active);
        let lowest = active.map(|(last, _)| *last).min();
        let all_ended = said.iter().all(Option::is_none);
        assert_eq!(clock.all_ended(), all_ended);
        assert_eq!(clock.all_idle(), !all_ended && lowest.is_none());
        let expected = if all_ended { Some(i64::MAX) } else { lowest };
        assert_eq!(clock.current().0, expected.map_or(before.0, |at| at.max(before.0)));
        assert_eq!(clock.holder().is_some(), lowest.is_some());
    }
}
