//! What stands between two machines: nothing, a cut that loses what is sent, or a clog that keeps
//! it until it opens.

use gear_core::time::Time;
use turmoil::Sim;

use super::transport::name;

/// The links of a cluster, as the faults want them.
#[derive(Debug)]
pub(crate) struct Links {
    machines: usize,
    /// Until when what one machine sends to another is lost.
    cut: Vec<Time>,
    /// Until when what one machine sends to another is kept; the same both ways.
    kept: Vec<Time>,
    /// What was told to the network.
    told: Vec<(bool, bool)>,
    now: Time,
}

impl Links {
    pub(crate) fn new(machines: usize) -> Self {
        let pairs = machines * machines;
        Self {
            machines,
            cut: vec![Time::ZERO; pairs],
            kept: vec![Time::ZERO; pairs],
            told: vec![(false, false); pairs],
            now: Time::ZERO,
        }
    }

    const fn place(&self, from: usize, to: usize) -> usize {
        from * self.machines + to
    }

    /// Loses what one machine sends to another, until a time.
    pub(crate) fn cut(&mut self, from: usize, to: usize, until: Time) {
        let place = self.place(from, to);
        self.cut[place] = self.cut[place].max(until);
    }

    /// Keeps what two machines send to each other, until a time.
    pub(crate) fn keep(&mut self, one: usize, other: usize, until: Time) {
        for place in [self.place(one, other), self.place(other, one)] {
            self.kept[place] = self.kept[place].max(until);
        }
    }

    /// Nothing stands between these machines any more.
    pub(crate) fn heal(&mut self, one: usize, other: usize) {
        for place in [self.place(one, other), self.place(other, one)] {
            self.cut[place] = Time::ZERO;
            self.kept[place] = Time::ZERO;
        }
    }

    /// True if what one of two machines says to the other is lost, or kept, one way at least.
    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        if one == other {
            return false;
        }
        [self.place(one, other), self.place(other, one)]
            .iter()
            .any(|place| self.cut[*place] > self.now || self.kept[*place] > self.now)
    }

    /// Tells the network what has changed by now.
    pub(crate) fn tell(&mut self, sim: &Sim<'_>, now: Time) {
        self.now = now;
        for one in 0..self.machines {
            for other in one + 1..self.machines {
                let (to, back) = (self.place(one, other), self.place(other, one));
                let kept = self.kept[to] > now;
                let cut = (self.cut[to] > now, self.cut[back] > now);
                let state = |cut: bool| (cut, kept);
                if (self.told[to], self.told[back]) == (state(cut.0), state(cut.1)) {
                    continue;
                }
                (self.told[to], self.told[back]) = (state(cut.0), state(cut.1));
                self.apply(sim, one, other);
            }
        }
    }

    /// Tells the network about the link between two machines once more.
    pub(crate) fn apply(&self, sim: &Sim<'_>, one: usize, other: usize) {
        let (one, other) = (one.min(other), one.max(other));
        let ((cut, kept), (cut_back, _)) =
            (self.told[self.place(one, other)], self.told[self.place(other, one)]);
        let (one, other) = (name(one), name(other));
        if cut || cut_back {
            sim.repair(one.as_str(), other.as_str());
            if cut {
                sim.partition_oneway(one.as_str(), other.as_str());
            }
            if cut_back {
                sim.partition_oneway(other.as_str(), one.as_str());
            }
        } else if kept {
            sim.hold(one.as_str(), other.as_str());
        } else {
            sim.release(one.as_str(), other.as_str());
        }
    }
}
