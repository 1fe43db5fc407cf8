//! Makes a failing run small: fewer kinds of faults, fewer machines, fewer faults.

use std::collections::BTreeSet;

use crate::cluster::{FaultKind, Faults, Wanted};
use crate::report::Report;

/// Shrinks a failing run as far as it still fails. `run` runs its seed, with less than the seed
/// means; `planned` says how many faults the seed has drawn at most. Gives what is left after at
/// most so many `runs`, and its report; none if the run does not fail.
pub fn shrink(
    wanted: &Wanted,
    planned: usize,
    runs: u32,
    run: &dyn Fn(&Wanted) -> Report,
) -> Option<(Wanted, Report)> {
    let report = run(wanted);
    if report.violations.is_empty() {
        return None;
    }
    let mut small = Small { wanted: wanted.clone(), report, run, left: runs };
    loop {
        let before = small.wanted.clone();
        small.kinds();
        small.machines();
        small.faults(planned);
        if small.wanted == before || small.left == 0 {
            return Some((small.wanted, small.report));
        }
    }
}

struct Small<'a> {
    wanted: Wanted,
    report: Report,
    run: &'a dyn Fn(&Wanted) -> Report,
    left: u32,
}

impl Small<'_> {
    /// Takes something away, if the run still fails without it.
    fn try_without(&mut self, wanted: Wanted) -> bool {
        if self.left == 0 || wanted == self.wanted {
            return false;
        }
        self.left -= 1;
        let report = (self.run)(&wanted);
        if report.violations.is_empty() {
            return false;
        }
        (self.wanted, self.report) = (wanted, report);
        true
    }

    /// All that never fired first, then kind by kind.
    fn kinds(&mut self) {
        let fired = |kind: &FaultKind| self.report.fired.contains_key(kind.name());
        let silent: Vec<FaultKind> =
            FaultKind::ALL.iter().copied().filter(|kind| !fired(kind)).collect();
        let off = silent.into_iter().fold(self.wanted.off, Faults::with);
        self.try_without(Wanted { off, ..self.wanted.clone() });
        for kind in FaultKind::ALL {
            if !self.wanted.off.has(*kind) {
                let off = self.wanted.off.with(*kind);
                self.try_without(Wanted { off, ..self.wanted.clone() });
            }
        }
    }

    fn machines(&mut self) {
        for masters in [1, 3] {
            if self.wanted.masters.is_none_or(|now| masters < now) {
                let masters = Some(masters);
                if self.try_without(Wanted { masters, ..self.wanted.clone() }) {
                    break;
                }
            }
        }
        for workers in 1..4 {
            if self.wanted.workers.is_none_or(|now| workers < now) {
                let workers = Some(workers);
                if self.try_without(Wanted { workers, ..self.wanted.clone() }) {
                    break;
                }
            }
        }
    }

    /// Faults by halves, quarters and so on, down to single ones.
    fn faults(&mut self, planned: usize) {
        let mut size = planned.div_ceil(2).max(1);
        loop {
            let left: Vec<usize> =
                (0..planned).filter(|at| !self.wanted.without.contains(at)).collect();
            for chunk in left.chunks(size) {
                let more = chunk.iter().copied();
                let without: BTreeSet<usize> =
                    self.wanted.without.iter().copied().chain(more).collect();
                self.try_without(Wanted { without, ..self.wanted.clone() });
            }
            if size == 1 {
                return;
            }
            size = size.div_ceil(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_taken_away() {
        // Fails if faults 3 and 11 happen, kills are on, and there are three masters.
        let run = |wanted: &Wanted| {
            let kills = !wanted.off.has(FaultKind::KillExecutor);
            let both = [3, 11].iter().all(|at| !wanted.without.contains(at));
            let masters = wanted.masters.unwrap_or(5) >= 3;
            let fails = kills && both && masters;
            Report {
                fired: [(FaultKind::KillExecutor.name(), 1), (FaultKind::Clog.name(), 1)].into(),
                violations: if fails { vec!["wrong".into()] } else { Vec::new() },
                ..Report::default()
            }
        };
        let (wanted, report) = shrink(&Wanted::default(), 16, 300, &run).expect("it fails");
        assert!(!report.violations.is_empty());
        assert_eq!(wanted.masters, Some(3));
        assert_eq!(wanted.off, Faults::all().without(FaultKind::KillExecutor));
        assert_eq!(16 - wanted.without.len(), 2);
        let never = |_: &Wanted| Report::default();
        assert!(shrink(&Wanted::default(), 16, 300, &never).is_none());
    }
}
