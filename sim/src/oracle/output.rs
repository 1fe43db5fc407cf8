//! Exactly once at the committed output.
//!
//! Two kinds of sinks: those whose rows follow from the input alone have to hold the model's rows,
//! each as often. Windows that take late records do not: there every record has to be in its
//! windows' last values or in the late output, never in both and never in neither.

use std::collections::BTreeMap;

use super::counted;
use crate::model::{Expected, starts};
use crate::workload::build::Judged;
use crate::workload::decode;

/// The rows of each sink.
pub type Rows = BTreeMap<String, Vec<Vec<u8>>>;

/// Violations that are told of one sink.
const TOLD_MAX: usize = 5;

/// Compares the committed output with the model's. Of an app that was ended early, `part` of it is
/// enough: rows may be missing, and still none is there twice or was never to be.
#[must_use]
pub fn judge(sinks: &[Judged], expected: &Expected, found: &Rows, part: bool) -> Vec<String> {
    let mut violations = Vec::new();
    for judged in sinks {
        match judged {
            Judged::Exact { sink } => {
                let rows = |rows: &Rows| rows.get(sink).cloned().unwrap_or_default();
                violations.extend(exact(sink, rows(&expected.sinks), rows(found), part));
            }
            Judged::Late { operator, values, late, sliding } => {
                let rows = |sink: &String| found.get(sink).cloned().unwrap_or_default();
                let mut windows = Late { sliding: *sliding, part, ..Late::new(expected, operator) };
                windows.judge(&rows(values), &rows(late));
                violations.append(&mut windows.violations);
            }
        }
    }
    for sink in found.keys().filter(|sink| !expected.sinks.contains_key(*sink)) {
        violations.push(format!("exactly once: {sink} has output, and there is no such sink"));
    }
    violations
}

/// Every row as often as it should be; at most so often if only a `part` has to be there.
#[must_use]
pub fn exact(sink: &str, expected: Vec<Vec<u8>>, found: Vec<Vec<u8>>, part: bool) -> Vec<String> {
    let (expected, found) = (counted(expected), counted(found));
    let mut violations = Vec::new();
    for (row, count) in &found {
        let should = expected.get(row).copied().unwrap_or(0);
        if should == 0 {
            violations.push(format!("phantom: {sink} holds {}", shown(row)));
        } else if *count > should {
            violations.push(format!(
                "duplicate: {sink} holds {} {count}, not {should} times",
                shown(row)
            ));
        }
    }
    for (row, should) in expected.iter().filter(|_| !part) {
        let count = found.get(row).copied().unwrap_or(0);
        if count < *should {
            violations
                .push(format!("lost: {sink} holds {} {count}, not {should} times", shown(row)));
        }
    }
    let more = violations.len().saturating_sub(TOLD_MAX);
    violations.truncate(TOLD_MAX);
    if more > 0 {
        violations.push(format!("and {more} more rows of {sink} are wrong"));
    }
    violations
}

fn shown(row: &[u8]) -> String {
    let (a, b, c, ballast) = decode(row);
    format!("({a}, {b}, {c}, {} bytes)", ballast.len())
}

/// The conservation of records in counting windows with a late output.
struct Late<'a> {
    expected: &'a Expected,
    operator: &'a str,
    sliding: bool,
    /// Records may be missing.
    part: bool,
    violations: Vec<String>,
}

impl<'a> Late<'a> {
    fn new(expected: &'a Expected, operator: &'a str) -> Self {
        Self { expected, operator, sliding: false, part: false, violations: Vec::new() }
    }

    fn judge(&mut self, values: &[Vec<u8>], late: &[Vec<u8>]) {
        let Some(input) = self.expected.windows.get(self.operator) else {
            self.violations.push(format!("the model has no windows {}", self.operator));
            return;
        };
        // How many records each window should have had at most, and how many of them were late.
        let mut windows: BTreeMap<(u64, i64), Count> = BTreeMap::new();
        for (at, bytes) in &input.records {
            for start in starts(input.windows, at.0) {
                windows.entry((decode(bytes).1, start)).or_default().most += 1;
            }
        }
        let mut times: BTreeMap<&[u8], Vec<i64>> = BTreeMap::new();
        for (at, bytes) in &input.records {
            times.entry(bytes).or_default().push(at.0);
        }
        for row in late {
            let at = times.get_mut(row.as_slice()).and_then(Vec::pop);
            let Some(at) = at else {
                self.wrong(format!("the late record {} was never read, or came twice", shown(row)));
                continue;
            };
            for start in starts(input.windows, at) {
                windows.entry((decode(row).1, start)).or_default().late += 1;
            }
        }
        self.values(values, &mut windows);
        for ((key, start), count) in windows {
            let got = count.values.keys().next_back().copied().unwrap_or(0);
            // A record that is late for one of its windows may still be in another.
            let fits = if self.sliding || self.part {
                got + count.late <= count.most
            } else {
                got + count.late == count.most
            };
            if !fits {
                self.wrong(format!("key {key} window {start}: {got} counted, {count:?}"));
            }
        }
        if self.sliding && !self.part {
            self.all_somewhere(values, late);
        }
    }

    /// A window's values rise one by one, each once.
    fn values(&mut self, values: &[Vec<u8>], windows: &mut BTreeMap<(u64, i64), Count>) {
        for row in values {
            let (count, key, start, _) = decode(row);
            *windows.entry((key, start)).or_default().values.entry(count).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for ((key, start), window) in windows.iter() {
            let (Some((first, _)), Some((last, _))) =
                (window.values.first_key_value(), window.values.last_key_value())
            else {
                continue;
            };
            let without_gap = last - first + 1 == window.values.len() as u64;
            if !without_gap || window.values.values().any(|times| *times != 1) {
                wrong.push(format!("key {key} window {start} had the values {:?}", window.values));
            }
        }
        wrong.into_iter().for_each(|text| self.wrong(text));
    }

    /// No record of overlapping windows is in none of them without being late.
    fn all_somewhere(&mut self, values: &[Vec<u8>], late: &[Vec<u8>]) {
        let mut last: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        for row in values {
            let (count, key, start, _) = decode(row);
            let last = last.entry((key, start)).or_default();
            *last = count.max(*last);
        }
        let in_windows: u64 = last.values().sum();
        let read = self.expected.windows[self.operator].records.len() as u64;
        if in_windows + (late.len() as u64) < read {
            let late = late.len();
            self.wrong(format!("{read} records, {in_windows} in windows and {late} late"));
        }
    }

    fn wrong(&mut self, text: String) {
        if self.violations.len() < TOLD_MAX {
            self.violations.push(format!("conservation: {}: {text}", self.operator));
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Count {
    most: u64,
    late: u64,
    values: BTreeMap<u64, u64>,
}

#[cfg(test)]
mod tests {
    use gear_core::flow::window::Windows;
    use gear_core::time::{Duration, EventTime};

    use super::*;
    use crate::model::WindowInput;
    use crate::workload::encode;

    fn row(id: u64, key: u64, time: i64) -> Vec<u8> {
        encode(&(id, key, time, String::new()))
    }

    #[test]
    fn lost_duplicate_and_phantom_rows_are_named() {
        let (a, b, c) = (row(1, 1, 1), row(2, 2, 2), row(3, 3, 3));
        let expected = vec![a.clone(), b.clone()];
        assert!(exact("s", expected.clone(), vec![b, a.clone()], false).is_empty());
        assert!(exact("s", expected.clone(), vec![a.clone()], true).is_empty());
        let part = exact("s", expected.clone(), vec![a.clone(), a.clone(), c.clone()], true);
        assert_eq!(part.len(), 2, "a duplicate and a phantom: {part:?}");
        let found = exact("s", expected, vec![a.clone(), a, c], false);
        let begins = |word| found.iter().filter(|text| text.starts_with(word)).count();
        assert_eq!(
            (begins("lost"), begins("duplicate"), begins("phantom")),
            (1, 1, 1),
            "{found:?}"
        );
    }

    fn late(values: &[Vec<u8>], late: &[Vec<u8>]) -> Vec<String> {
        judged(values, late, false)
    }

    fn judged(values: &[Vec<u8>], late: &[Vec<u8>], part: bool) -> Vec<String> {
        let size = Duration::from_micros(10);
        let windows = Windows { size, slide: size, lateness: size };
        let records = (0..3).map(|id| (EventTime(5), row(id, 7, 5))).collect();
        let mut expected = Expected::default();
        expected.windows.insert("w".into(), WindowInput { records, windows });
        let mut judge = Late { part, ..Late::new(&expected, "w") };
        judge.judge(values, late);
        judge.violations
    }

    #[test]
    fn each_record_is_in_a_window_or_late() {
        let count = |count| row(count, 7, 0);
        assert_eq!(late(&[count(2), count(3)], &[]), [] as [String; 0]);
        assert_eq!(late(&[count(2)], &[row(1, 7, 5)]), [] as [String; 0]);
        assert!(!late(&[count(2)], &[]).is_empty(), "one is lost");
        assert!(!late(&[count(3)], &[row(1, 7, 5)]).is_empty(), "one is in both");
        assert!(!late(&[count(1), count(3)], &[]).is_empty(), "a value is missing");
        assert!(!late(&[count(3), count(3)], &[]).is_empty(), "a value came twice");
        assert!(!late(&[count(2)], &[row(9, 7, 5)]).is_empty(), "a late one that never was");
        assert_eq!(judged(&[count(2)], &[], true), [] as [String; 0]);
        assert!(!judged(&[count(3)], &[row(1, 7, 5)], true).is_empty(), "one is in both");
    }
}
