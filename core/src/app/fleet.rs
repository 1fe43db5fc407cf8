//! The executors of an app on a cluster: who was granted, who is up, who sits where.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::control::Address;
use crate::id::{ExecutorId, TaskId};
use crate::time::{Duration, Time};

/// How long an app master waits for the wanted number of executors, and for those that may run
/// tasks already to tell of them; then it goes on with what there is. Launching a process takes
/// well below a second, so this is for workers that are overloaded or gone.
pub const EXECUTORS_WAIT: Duration = Duration::from_secs(10);
/// How long the tasks of a lost executor wait for another one to come up in its place; then those
/// that are left take them. A worker that lives launches one in less.
pub const REPLACEMENT_WAIT: Duration = Duration::from_secs(1);

/// The executors of an app. Tasks belong to seats, and executors sit on them.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    /// What the masters have granted; none until they have said.
    granted: Option<BTreeSet<ExecutorId>>,
    up: BTreeMap<ExecutorId, Up>,
    /// Lost for good.
    lost: BTreeSet<ExecutorId>,
    seats: Vec<Option<ExecutorId>>,
    /// When nobody is waited for any more; none if that has passed.
    until: Option<Time>,
}

#[derive(Clone, Debug)]
struct Up {
    address: Address,
    /// It has told what it runs.
    reported: bool,
}

impl Fleet {
    pub(super) fn new(wanted: u32) -> Self {
        Self {
            granted: None,
            up: BTreeMap::new(),
            lost: BTreeSet::new(),
            seats: vec![None; wanted.max(1) as usize],
            until: None,
        }
    }

    pub(super) fn grant(&mut self, granted: BTreeSet<ExecutorId>) {
        self.granted = Some(granted);
    }

    /// An executor's link is up; false if that says nothing new.
    pub(super) fn up(&mut self, executor: ExecutorId, address: Address) -> bool {
        let is_new = !self.lost.contains(&executor) && !self.up.contains_key(&executor);
        if is_new {
            self.up.insert(executor, Up { address, reported: false });
        }
        is_new
    }

    /// An executor is lost; false if that was known.
    pub(super) fn lose(&mut self, now: Time, executor: ExecutorId) -> bool {
        if !self.lost.insert(executor) {
            return false;
        }
        self.up.remove(&executor);
        for seat in &mut self.seats {
            if *seat == Some(executor) {
                *seat = None;
                self.until = Some((now + REPLACEMENT_WAIT).max(self.until.unwrap_or(now)));
            }
        }
        self.sit_down();
        true
    }

    /// An executor has told what it runs: it may be used from now on. False if it is not up, or
    /// has told before.
    pub(super) fn reported(&mut self, executor: ExecutorId) -> bool {
        let Some(up) = self.up.get_mut(&executor) else { return false };
        let is_first = !core::mem::replace(&mut up.reported, true);
        self.sit_down();
        is_first
    }

    /// Gives vacant seats to those who have none, in the order of their ids.
    fn sit_down(&mut self) {
        let sits = |executor: &ExecutorId| self.seats.contains(&Some(*executor));
        let standing: Vec<_> = self.usable().filter(|executor| !sits(executor)).collect();
        let vacant = self.seats.iter_mut().filter(|seat| seat.is_none());
        for (seat, executor) in vacant.zip(standing) {
            *seat = Some(executor);
        }
    }

    /// Waits for executors from now on.
    pub(super) fn wait(&mut self, now: Time) {
        self.until = Some(now + EXECUTORS_WAIT);
    }

    /// When the wait ends, if it has not.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }

    /// A deadline may have come.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        self.until = self.until.filter(|until| *until > now);
    }

    /// True if somebody who may run tasks of an earlier app master has not told of them.
    pub(super) fn is_unheard(&self) -> bool {
        let Some(granted) = &self.granted else { return true };
        let is_heard = |executor: &ExecutorId| {
            self.lost.contains(executor) || self.up.get(executor).is_some_and(|up| up.reported)
        };
        !granted.iter().all(is_heard) || self.up.values().any(|up| !up.reported)
    }

    /// True if the masters have said what there is.
    pub(super) const fn is_granted(&self) -> bool {
        self.granted.is_some()
    }

    /// True if tasks are to be placed now: every seat is taken, or the wait is over and there is
    /// anybody at all.
    pub(super) fn is_ready(&self) -> bool {
        self.seats.iter().all(Option::is_some)
            || (self.until.is_none() && self.usable().next().is_some())
    }

    /// Where a task runs: on its seat, or on one of those who are left if that is vacant.
    /// Neighbours sit apart, so that the work of each processor is spread.
    pub(super) fn place(&self, task: TaskId) -> ExecutorId {
        let number = task.index as usize + task.processor.0 as usize;
        let seat = number % self.seats.len();
        self.seats[seat].unwrap_or_else(|| {
            let left: Vec<_> = self.usable().collect();
            left[(number / self.seats.len() + seat) % left.len()]
        })
    }

    /// Those who may be given tasks.
    pub(super) fn usable(&self) -> impl Iterator<Item = ExecutorId> + '_ {
        self.up.iter().filter(|(_, up)| up.reported).map(|(executor, _)| *executor)
    }

    /// Everybody whose link is up.
    pub(super) fn everybody(&self) -> impl Iterator<Item = ExecutorId> + '_ {
        self.up.keys().copied()
    }

    /// Where everybody listens whose link is up.
    pub(super) fn addresses(&self) -> BTreeMap<ExecutorId, Address> {
        self.up.iter().map(|(executor, up)| (*executor, up.address.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ProcessorId;
    use crate::time::seconds;

    fn fleet(wanted: u32, there: u32) -> Fleet {
        let mut fleet = Fleet::new(wanted);
        fleet.wait(Time::ZERO);
        for executor in (0..there).map(ExecutorId) {
            assert!(fleet.up(executor, Address::default()));
            assert!(fleet.reported(executor));
        }
        fleet
    }

    fn places(fleet: &Fleet) -> Vec<u32> {
        let task = |index| TaskId { processor: ProcessorId(1), index };
        (0..8).map(|index| fleet.place(task(index)).0).collect()
    }

    #[test]
    fn tasks_are_spread_and_stay_where_nobody_was_lost() {
        let mut fleet = fleet(4, 4);
        assert!(fleet.is_ready());
        assert_eq!(places(&fleet), [1, 2, 3, 0, 1, 2, 3, 0]);
        assert!(fleet.lose(Time::ZERO, ExecutorId(2)));
        assert!(!fleet.is_ready());
        fleet.handle_timeout(Time::ZERO + EXECUTORS_WAIT);
        assert!(fleet.is_ready());
        assert_eq!(places(&fleet), [1, 3, 3, 0, 1, 0, 3, 0]);
        assert!(fleet.up(ExecutorId(7), Address::default()));
        assert!(fleet.reported(ExecutorId(7)));
        assert_eq!(places(&fleet), [1, 7, 3, 0, 1, 7, 3, 0]);
    }

    #[test]
    fn who_is_lost_stays_lost() {
        let mut fleet = fleet(1, 1);
        assert!(fleet.lose(Time::ZERO, ExecutorId(0)));
        assert!(!fleet.lose(Time::ZERO, ExecutorId(0)));
        assert!(!fleet.up(ExecutorId(0), Address::default()));
        assert!(!fleet.reported(ExecutorId(0)));
        // Nobody at all is not enough, however long it takes.
        fleet.handle_timeout(Time::ZERO + seconds(100));
        assert!(!fleet.is_ready() && fleet.until().is_none());
    }

    #[test]
    fn everybody_who_was_granted_is_heard_or_lost() {
        let mut fleet = Fleet::new(2);
        assert!(fleet.is_unheard());
        fleet.grant([ExecutorId(0), ExecutorId(1)].into());
        fleet.up(ExecutorId(0), Address::default());
        fleet.reported(ExecutorId(0));
        assert!(fleet.is_unheard());
        fleet.lose(Time::ZERO, ExecutorId(1));
        assert!(!fleet.is_unheard());
    }
}
