//! Two links over connections that break, and each rule by itself.

mod model;
mod rules;

use crate::control::Peer;
use crate::id::{AppId, AppTerm, ExecutorId};
use crate::link::LinkConfig;
use crate::message::{EpochStart, Message};

/// Two executors of an app; the first one dials.
fn pair() -> [LinkConfig; 2] {
    let [one, two] = [1, 2].map(|id| Peer::Executor(AppId(1), ExecutorId(id)));
    let config =
        LinkConfig { cluster: 7, local: one, remote: two, token: 5, dials: true, session: 100 };
    [config, LinkConfig { local: two, remote: one, dials: false, session: 200, ..config }]
}

/// A message that is no item and no credit, and its number.
fn note(number: u64) -> Message {
    let epoch = crate::id::Epoch(number);
    Message::StartEpoch { term: AppTerm(1), start: EpochStart { epoch, base: None, stop: false } }
}

/// The number of a note; none if it is something else.
fn noted(message: &Message) -> Option<u64> {
    match message {
        Message::StartEpoch { start, .. } => Some(start.epoch.0),
        _ => None,
    }
}

/// Numbers that look drawn, from a seed.
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    const fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// True once in so many times.
    const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
