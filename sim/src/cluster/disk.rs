//! The own disk of a machine: a small map, changed in order and by whole batches.

use std::collections::{BTreeMap, VecDeque};

use gear_core::host::process::DiskReply;
use gear_core::id::Token;

use crate::random::Random;

/// Entries that change together; none removes one.
type Batch = Vec<(String, Option<Vec<u8>>)>;

/// What a machine keeps over a loss of power.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeDisk {
    entries: BTreeMap<String, Vec<u8>>,
    /// Batches that are not answered yet, in order.
    pending: VecDeque<(Token, Batch)>,
    /// A write has failed: nothing later takes effect, until the node is started again.
    pub(crate) failed: bool,
    /// Something was written to it, or to the one that it replaces.
    pub(crate) used: bool,
    /// It was wiped, rotten or another machine's: its node may never vote with it.
    pub(crate) damaged: bool,
}

impl NodeDisk {
    /// A batch is to be written; [`Self::settle`] will be called in the same order.
    pub(crate) fn submit(&mut self, token: Token, batch: Batch) {
        self.pending.push_back((token, batch));
    }

    /// The oldest batch is about to be answered. `refuse` if the disk is full.
    pub(crate) fn settle(&mut self, token: Token, refuse: bool, random: &mut Random) -> DiskReply {
        let Some((oldest, batch)) = self.pending.pop_front() else {
            return failed("the node was started again meanwhile");
        };
        assert_eq!(oldest, token, "a disk answers in order");
        if self.failed {
            return failed("an earlier write has failed");
        }
        if refuse {
            self.failed = true;
            if random.permille(500) {
                self.apply(batch);
            }
            return failed("no space left on the device");
        }
        self.apply(batch);
        DiskReply::Written
    }

    /// Everything that is there.
    pub(crate) fn load(&self) -> DiskReply {
        let entries = self.entries.iter().map(|(name, bytes)| (name.clone(), bytes.clone()));
        DiskReply::Loaded { entries: entries.collect() }
    }

    fn apply(&mut self, batch: Batch) {
        self.used = true;
        for (name, bytes) in batch {
            match bytes {
                Some(bytes) => self.entries.insert(name, bytes),
                None => self.entries.remove(&name),
            };
        }
    }

    /// The process that wrote is gone. Of the batches that were not answered the first ones are
    /// there, by chance. Gives how many were lost.
    pub(crate) fn let_go(&mut self, random: &mut Random) -> u64 {
        let kept = random.place(self.pending.len() + 1);
        let pending = std::mem::take(&mut self.pending);
        let lost = (pending.len() - kept) as u64;
        if !self.failed {
            pending.into_iter().take(kept).for_each(|(_, batch)| self.apply(batch));
        }
        self.failed = false;
        lost
    }

    /// It is replaced by an empty one.
    pub(crate) fn wipe(&mut self) {
        *self = Self { damaged: true, used: self.used, ..Self::default() };
    }

    /// A bit changes. False if there is none.
    pub(crate) fn rot(&mut self, random: &mut Random) -> bool {
        let filled: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if filled.is_empty() {
            return false;
        }
        let name = &filled[random.place(filled.len())];
        let bytes = self.entries.get_mut(name).expect("the name was just seen");
        let place = random.place(bytes.len());
        bytes[place] ^= 1 << random.below(8);
        self.damaged = true;
        true
    }

    /// True if nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn failed(reason: &str) -> DiskReply {
    DiskReply::Failed { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u8) -> Batch {
        vec![("a".into(), Some(vec![number])), ("b".into(), Some(vec![number]))]
    }

    fn values(disk: &NodeDisk) -> Vec<u8> {
        match disk.load() {
            DiskReply::Loaded { entries } => entries.into_iter().flat_map(|(_, it)| it).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_is_there_whole_or_not_at_all_and_what_was_answered_stays() {
        let mut seen = [false; 3];
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let mut disk = NodeDisk::default();
            for number in 1..=3 {
                disk.submit(Token(u64::from(number)), batch(number));
            }
            assert_eq!(disk.settle(Token(1), false, &mut random), DiskReply::Written);
            let lost = disk.let_go(&mut random);
            let values = values(&disk);
            assert_eq!(values[0], values[1]);
            assert_eq!(u64::from(values[0]), 3 - lost);
            seen[values[0] as usize - 1] = true;
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn nothing_takes_effect_behind_a_failure() {
        let mut random = Random::new(1);
        let mut disk = NodeDisk::default();
        disk.submit(Token(1), batch(1));
        disk.submit(Token(2), batch(2));
        assert!(matches!(disk.settle(Token(1), true, &mut random), DiskReply::Failed { .. }));
        assert!(matches!(disk.settle(Token(2), false, &mut random), DiskReply::Failed { .. }));
        assert!(values(&disk).iter().all(|value| *value == 1));
        disk.submit(Token(3), batch(3));
        disk.let_go(&mut random);
        assert!(values(&disk).iter().all(|value| *value == 1));
        disk.submit(Token(4), batch(4));
        assert_eq!(disk.settle(Token(4), false, &mut random), DiskReply::Written);
        assert!(disk.rot(&mut random) && disk.damaged);
        disk.wipe();
        assert!(disk.is_empty() && disk.damaged);
    }
}
