//! What becomes of records that retention removes before the job has read them: what the job has
//! chosen, and all of it is told.

use gear_connectors::kafka::{TopicPartition, WhenGone};

use super::runs;

/// What in a notice says that a position is gone.
const GONE: &str = "retention has removed";
/// What has to stand in the reason of a job that fails since a position is gone.
const CHOICES: [&str; 3] = ["WhenGone::Earliest", "WhenGone::Latest", "--fresh"];
/// Violations that are told of one partition.
const TOLD_MAX: usize = 3;

/// What a source says whose position is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Of which partition.
    pub of: TopicPartition,
    /// Up to where the job has read it.
    pub read: u64,
    /// Where it goes on; none if it does not.
    pub next: Option<u64>,
}

impl Said {
    /// Reads what the user is told; none if it is about something else.
    ///
    /// # Errors
    /// That it is about that, and does not say what happens.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        text.contains(GONE).then(|| {
            Self::parts(text).ok_or_else(|| format!("gone: this does not say enough: {text}"))
        })
    }

    fn parts(text: &str) -> Option<Self> {
        let (_, text) = text.split_once("partition ")?;
        let (partition, text) = text.split_once(" of `")?;
        let (topic, text) = text.split_once("` was read up to offset ")?;
        let (read, text) = text.split_once(',')?;
        let next = match text.split_once("It goes on with ") {
            Some((_, text)) => Some(text.split_once(", at ")?.1.split_once(':')?.0.parse().ok()?),
            None if names_choices(text) => None,
            None => return None,
        };
        let of = TopicPartition { topic: topic.to_owned(), partition: partition.parse().ok()? };
        Some(Self { of, read: read.parse().ok()?, next })
    }

    /// Whether a job that has chosen this says so, of a log that begins and ends there now.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn judge(&self, chosen: WhenGone, (start, end): (u64, u64)) -> Result<(), String> {
        let due = match chosen {
            WhenGone::Fail => None,
            WhenGone::Earliest => Some(start),
            WhenGone::Latest => Some(end),
        };
        let of = printed(&self.of);
        if self.read >= start {
            return Err(format!("gone: {of} begins at {start}, and {self:?} tells of a loss"));
        }
        if self.next != due {
            return Err(format!("gone: of {of} with {chosen:?}: {self:?}, and due is {due:?}"));
        }
        Ok(())
    }
}

/// True if this says among what the user can choose.
#[must_use]
pub fn names_choices(text: &str) -> bool {
    CHOICES.iter().all(|choice| text.contains(choice))
}

fn printed(of: &TopicPartition) -> String {
    format!("partition {} of {}", of.partition, of.topic)
}

/// What is known of a partition in the end.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The offsets of its records, each with whether the job has read it.
    pub records: Vec<(u64, bool)>,
    /// So many of the first ones were removed before any epoch had read them: a job whose epochs
    /// have no position yet begins with the first record there is.
    pub unread: usize,
    /// From where to where the job has said that it goes on.
    pub told: Vec<(u64, u64)>,
    /// The app has ended before it had read all.
    pub part: bool,
}

impl Outcome {
    /// The place of the first record at this offset or behind it.
    fn place(&self, offset: u64) -> usize {
        self.records.partition_point(|(at, _)| *at < offset)
    }

    /// True if the record of this place may be missing.
    #[must_use]
    pub fn may_miss(&self, place: usize) -> bool {
        let is_in = |(from, to): &(u64, u64)| (self.place(*from)..self.place(*to)).contains(&place);
        place < self.unread || self.told.iter().any(is_in)
    }

    /// What is missing was removed before the job had read anything, or lies between two places
    /// that the job has told of, up to the second of them and no further. If only a part was read,
    /// nothing is missing before its end.
    #[must_use]
    pub fn judge(&self, of: &TopicPartition) -> Vec<String> {
        let mut violations = Vec::new();
        for run in runs(self.records.iter().map(|(_, read)| !read)) {
            if self.part && run.end == self.records.len() {
                continue;
            }
            let begins =
                run.start == 0 || self.told.iter().any(|(from, _)| self.place(*from) == run.start);
            let ends = run.start == 0 && run.end <= self.unread
                || self.told.iter().any(|(_, to)| self.place(*to) == run.end);
            let told = run.clone().all(|place| self.may_miss(place));
            if !(begins && ends && told) {
                let (first, last) = (self.records[run.start].0, self.records[run.end - 1].0);
                violations.push(format!(
                    "gone: of {} the records from {first} to {last} were passed, and what was told \
                     is {:?}",
                    printed(of),
                    self.told
                ));
            }
        }
        violations.truncate(TOLD_MAX);
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of() -> TopicPartition {
        TopicPartition { topic: "t".to_owned(), partition: 3 }
    }

    #[test]
    fn what_is_told_is_read() {
        let told = "source-0: partition 3 of `t` was read up to offset 5, and its first record is \
                    at 9 now: retention has removed up to 4 records that were not read";
        let goes_on = format!("{told}. It goes on with the end, at 17: 12 offsets are passed");
        let said = |next| Said { of: of(), read: 5, next };
        assert_eq!(Said::parse(&goes_on), Some(Ok(said(Some(17)))));
        let fails = format!("{told}. Choose: WhenGone::Earliest, WhenGone::Latest, or --fresh");
        assert_eq!(Said::parse(&fails), Some(Ok(said(None))));
        assert!(Said::parse(told).expect("it is about that").is_err(), "and then?");
        assert_eq!(Said::parse("the brokers are away"), None);
        said(None).judge(WhenGone::Fail, (9, 17)).unwrap();
        said(Some(9)).judge(WhenGone::Earliest, (9, 17)).unwrap();
        said(Some(17)).judge(WhenGone::Latest, (9, 17)).unwrap();
        assert!(said(Some(17)).judge(WhenGone::Latest, (5, 17)).is_err(), "nothing is gone");
        assert!(said(Some(17)).judge(WhenGone::Earliest, (9, 17)).is_err(), "too far");
        assert!(said(Some(9)).judge(WhenGone::Latest, (9, 17)).is_err(), "not far enough");
        assert!(said(Some(9)).judge(WhenGone::Fail, (9, 17)).is_err(), "it goes on");
    }

    /// Records at every other offset, of which those are missing for which there is a dot.
    fn judged(read: &str, unread: usize, told: &[(u64, u64)], part: bool) -> usize {
        let records = read.chars().zip(0..).map(|(read, place)| (2 * place, read == 'x'));
        let told = told.to_vec();
        Outcome { records: records.collect(), unread, told, part }.judge(&of()).len()
    }

    #[test]
    fn what_is_missing_was_told() {
        assert_eq!(judged("xxxx", 2, &[], false), 0);
        assert_eq!(judged("..xx", 2, &[], false), 0, "nobody had read them");
        assert_eq!(judged("...x", 2, &[], false), 1);
        assert_eq!(judged("x..x", 0, &[], false), 1, "nobody has told it");
        assert_eq!(judged("x..x", 0, &[(1, 5)], false), 0);
        assert_eq!(judged("x..x", 0, &[(2, 8)], false), 1, "one was read that is passed");
        assert_eq!(judged("x...", 0, &[(2, 5)], false), 1, "more was passed");
        assert_eq!(judged("x...", 0, &[(2, 4), (4, 7)], false), 0);
        assert_eq!(judged("...x", 1, &[(2, 6)], false), 0);
        assert_eq!(judged("xx..", 0, &[], true), 0, "it was not read to its end");
        assert_eq!(judged("x.x.", 0, &[], true), 1);
    }
}
