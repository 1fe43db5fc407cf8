//! Exactly once in Kafka, where the broker stands: an epoch's output is committed behind the epoch,
//! epochs in their order, and what came in order goes out in order.

use std::collections::BTreeMap;

use gear_connectors::kafka::sink::Mark;
use gear_core::id::Epoch;

/// Violations that are told of one topic.
const TOLD_MAX: usize = 5;

/// What the groups of sinks have committed, by group and topic.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<(String, String), Mark>);

impl Marks {
    /// A transaction was committed perhaps; its mark stands there, and this epoch has committed
    /// last. True if it was.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn observe(
        &mut self,
        group: &str,
        topic: &str,
        mark: Mark,
        committed: Epoch,
    ) -> Result<bool, String> {
        let before = self.0.insert((group.to_owned(), topic.to_owned()), mark);
        if before == Some(mark) {
            return Ok(false);
        }
        if mark.last() > committed.0 {
            return Err(format!(
                "{group} has produced output of epoch {}, and {committed} has committed last",
                mark.last()
            ));
        }
        match before.filter(|before| before.lineage == mark.lineage) {
            Some(before) if reached(before) > reached(mark) => Err(format!(
                "{group} has produced up to {}, and then up to {}",
                shown(before),
                shown(mark)
            )),
            Some(before) if before.attempt > mark.attempt => Err(format!(
                "{group} has produced in attempt {:x} behind attempt {:x}",
                mark.attempt, before.attempt
            )),
            _ => Ok(true),
        }
    }
}

/// How far output has been produced: to an epoch, and segments behind it.
const fn reached(mark: Mark) -> (u64, u32) {
    (mark.epoch, mark.segments)
}

fn shown(mark: Mark) -> String {
    match mark.segments {
        0 => format!("epoch {}", mark.epoch),
        segments => format!("epoch {} and {segments} segments of the next", mark.epoch),
    }
}

/// Records of a partition in the order in which a reader finds them, each with the log that it came
/// from and its place there: those of one log are in its order.
#[must_use]
pub fn ordered(topic: &str, found: impl Iterator<Item = (usize, usize)>) -> Vec<String> {
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (log, place) in found {
        if let Some(before) = last.insert(log, place)
            && before >= place
            && violations.len() < TOLD_MAX
        {
            violations.push(format!(
                "order: {topic} holds record {place} of partition {log} behind record {before}"
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_produced_behind_their_records_and_in_order() {
        let mark = |epoch| Mark { epoch, segments: 0, lineage: 1, attempt: 1, before: None };
        let mut marks = Marks::default();
        assert_eq!(marks.observe("g", "t", mark(1), Epoch(1)), Ok(true));
        assert_eq!(marks.observe("g", "t", mark(1), Epoch(1)), Ok(false));
        assert!(marks.clone().observe("g", "t", mark(3), Epoch(2)).is_err());
        assert_eq!(marks.observe("g", "t", mark(3), Epoch(3)), Ok(true));
        assert!(marks.clone().observe("g", "t", mark(2), Epoch(3)).is_err());
        let part = |epoch, segments| Mark { segments, ..mark(epoch) };
        assert_eq!(marks.observe("g", "t", part(3, 2), Epoch(4)), Ok(true));
        assert!(marks.clone().observe("g", "t", part(3, 1), Epoch(4)).is_err());
        assert!(marks.clone().observe("g", "t", part(4, 1), Epoch(4)).is_err());
        let older = Mark { attempt: 0, ..mark(4) };
        assert!(marks.clone().observe("g", "t", older, Epoch(4)).is_err());
        let afresh = Mark { lineage: 2, ..mark(1) };
        assert_eq!(marks.observe("g", "t", afresh, Epoch(4)), Ok(true));
    }

    #[test]
    fn each_log_keeps_its_order() {
        assert!(ordered("t", [(0, 1), (1, 1), (0, 2), (1, 5)].into_iter()).is_empty());
        assert_eq!(ordered("t", [(0, 1), (0, 1)].into_iter()).len(), 1, "twice");
        assert_eq!(ordered("t", [(0, 2), (1, 1), (0, 1)].into_iter()).len(), 1);
    }
}
