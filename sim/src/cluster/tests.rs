//! The world itself, with processes that check what they are told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use gear_connectors::model::ModelDisk;
use gear_core::control::{Address, AppSpec};
use gear_core::executor::Activity;
use gear_core::host::process::{
    ACCEPTED, DiskReply, DiskRequest, Process, ProcessEffect, ProcessInput,
};
use gear_core::id::{AppId, ConnectionId, Incarnation, MasterTerm, NodeId, Token};
use gear_core::task;
use gear_core::time::{Duration, Time};

use super::*;

/// What all toys of a run have met.
#[derive(Default)]
struct Met {
    received: u64,
    refused: u64,
    unanswered: u64,
    closed: u64,
    cut: u64,
    restored: u64,
}

/// Sends numbers to every other node, and checks those that it gets. Writes a count to its disk
/// before it shows it to anybody, and so never shows less than it has shown before.
struct Toy {
    node: NodeId,
    life: Incarnation,
    others: Vec<Address>,
    next_connection: u64,
    /// Connections that it has dialled: since when, and whether they are up.
    dialed: BTreeMap<ConnectionId, (usize, bool, u64)>,
    /// What has come over connections that others have dialled.
    accepted: BTreeMap<ConnectionId, (Vec<u8>, u64)>,
    count: u64,
    wake: Time,
    met: Rc<RefCell<Met>>,
    shown: Rc<RefCell<BTreeMap<NodeId, u64>>>,
}

impl Toy {
    fn dial(&mut self, to: usize, out: &mut Vec<ProcessEffect>) {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.dialed.insert(connection, (to, false, 0));
        out.push(ProcessEffect::Dial { connection, to: self.others[to].clone() });
    }

    fn received(&mut self, connection: ConnectionId, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "something or nothing comes");
        let (buffer, next) = self.accepted.get_mut(&connection).expect("it was accepted");
        if !bytes.len().is_multiple_of(8) {
            self.met.borrow_mut().cut += 1;
        }
        buffer.extend_from_slice(bytes);
        while let Some((number, rest)) = buffer.split_first_chunk::<8>() {
            assert_eq!(u64::from_le_bytes(*number), *next, "bytes come in order, each once");
            *next += 1;
            *buffer = rest.to_vec();
            self.met.borrow_mut().received += 1;
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        self.wake = now + Duration::from_millis(10);
        for (connection, (_, up, number)) in &mut self.dialed {
            if *up {
                let bytes = number.to_le_bytes().to_vec();
                *number += 1;
                out.push(ProcessEffect::Write { connection: *connection, bytes });
            }
        }
        self.count += 1;
        let entries = vec![("count".to_owned(), Some(self.count.to_le_bytes().to_vec()))];
        let request = DiskRequest::Write { entries };
        out.push(ProcessEffect::Disk { token: Token(self.count), request });
    }

    fn disk(&mut self, now: Time, token: Token, reply: DiskReply, out: &mut Vec<ProcessEffect>) {
        match reply {
            DiskReply::Loaded { entries } => {
                if let Some((_, bytes)) = entries.first() {
                    let bytes = bytes.as_slice().try_into().expect("a count has eight bytes");
                    self.count = u64::from_le_bytes(bytes);
                    self.met.borrow_mut().restored += 1;
                }
                let shown = self.shown.borrow().get(&self.node).copied().unwrap_or(0);
                assert!(self.count >= shown, "{} has shown {shown}", self.node);
                self.next_connection = 1;
                (0..self.others.len()).for_each(|to| self.dial(to, out));
                self.tick(now, out);
            }
            DiskReply::Written => {
                self.shown.borrow_mut().insert(self.node, token.0);
            }
            DiskReply::Failed { reason } => out.push(ProcessEffect::Exit { reason }),
        }
    }
}

impl Process for Toy {
    fn handle(
        &mut self,
        world: &mut task::World<'_>,
        input: ProcessInput,
        out: &mut Vec<ProcessEffect>,
    ) {
        match input {
            ProcessInput::Start => {
                self.wake = world.now + Duration::from_secs(5);
                out.push(ProcessEffect::Disk { token: Token(0), request: DiskRequest::Load });
            }
            ProcessInput::Disk { token, reply } => self.disk(world.now, token, reply, out),
            ProcessInput::Accepted { connection } => {
                assert!(connection.0 & ACCEPTED != 0);
                self.accepted.insert(connection, Default::default());
            }
            ProcessInput::Dialed { connection } => {
                self.dialed.get_mut(&connection).expect("it has dialled").1 = true;
            }
            ProcessInput::DialFailed { connection, refused } => {
                let (to, up, _) = self.dialed.remove(&connection).expect("it has dialled");
                assert!(!up, "a connection that was there is closed");
                let mut met = self.met.borrow_mut();
                *if refused { &mut met.refused } else { &mut met.unanswered } += 1;
                drop(met);
                self.dial(to, out);
            }
            ProcessInput::Received { connection, bytes } => self.received(connection, &bytes),
            ProcessInput::Closed { connection } => {
                self.met.borrow_mut().closed += 1;
                if let Some((to, up, _)) = self.dialed.remove(&connection) {
                    assert!(up, "what was never there is no connection");
                    self.dial(to, out);
                } else {
                    self.accepted.remove(&connection).expect("it was accepted, and is closed once");
                }
            }
            ProcessInput::Timeout => {
                assert!(world.now >= self.wake, "a deadline does not come early");
                if self.next_connection == 0 {
                    // The disk has not answered yet.
                    self.wake = world.now + Duration::from_secs(5);
                } else {
                    self.tick(world.now, out);
                }
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn turn(&mut self, _: &mut task::World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.wake)
    }
}

impl Subject for Toy {
    fn look(&self, _: Time) -> Look {
        let term = MasterTerm(self.life.0);
        Look::Node(NodeLook { term, acts: self.count > 0, ..NodeLook::default() })
    }

    fn known(&self, _: Time) -> Option<BTreeMap<AppId, KnownApp>> {
        Some(BTreeMap::new())
    }
}

/// A client that wants nothing.
struct Silent;

impl Process for Silent {
    fn handle(&mut self, _: &mut task::World<'_>, _: ProcessInput, _: &mut Vec<ProcessEffect>) {}

    fn turn(&mut self, _: &mut task::World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        None
    }
}

impl Subject for Silent {
    fn look(&self, _: Time) -> Look {
        Look::Nothing
    }
}

#[derive(Default)]
struct Toys {
    met: Rc<RefCell<Met>>,
    shown: Rc<RefCell<BTreeMap<NodeId, u64>>>,
}

impl Assembly for Toys {
    fn node(&self, start: &NodeStart<'_>) -> Box<dyn Subject> {
        let others = start.masters.iter().filter(|(node, _)| **node != start.node);
        Box::new(Toy {
            node: start.node,
            life: start.incarnation,
            others: others.map(|(_, address)| address.clone()).collect(),
            next_connection: 0,
            dialed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            count: 0,
            wake: Time::MAX,
            met: Rc::clone(&self.met),
            shown: Rc::clone(&self.shown),
        })
    }

    fn child(&self, _: &ChildStart<'_>) -> Result<Box<dyn Subject>, String> {
        Err("toys have no children".into())
    }

    fn client(&self, _: &ClientStart<'_>) -> Box<dyn Subject> {
        Box::new(Silent)
    }
}

/// Nothing is to be done.
struct Idle;

impl Work for Idle {
    fn specs(&self) -> Vec<AppSpec> {
        Vec::new()
    }

    fn files(&self) -> ModelDisk {
        ModelDisk::new(0)
    }

    fn feed(&self, _: u64) {}

    fn punctual(&self) -> bool {
        true
    }

    fn judge(&self, _: &Output<'_>) -> (Vec<String>, u64) {
        (Vec::new(), 0)
    }
}

/// Faults that a toy knows: it believes its disk, and nobody commands it.
fn survivable() -> Faults {
    let disks = [FaultKind::WipeDisk, FaultKind::SwapDisks, FaultKind::RotDisk];
    disks
        .iter()
        .chain(FaultKind::COMMANDS)
        .fold(Faults::all(), |faults, kind| faults.without(*kind))
}

fn run(seed: u64, keep: bool) -> (Report, Met) {
    let wanted = Wanted { faults: Some(survivable()), ..Wanted::default() };
    let setup = Setup::draw(seed, 1, &wanted);
    let toys = Toys::default();
    let report = simulate(&setup, &toys, &Idle, &Options { keep, print: false });
    (report, toys.met.take())
}

#[test]
fn bytes_come_in_order_and_disks_keep_what_they_have_answered() {
    let mut sum = Met::default();
    let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..150 {
        let (report, met) = run(seed, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        sum.received += met.received;
        sum.refused += met.refused;
        sum.unanswered += met.unanswered;
        sum.closed += met.closed;
        sum.cut += met.cut;
        sum.restored += met.restored;
        for (fault, count) in report.fired {
            *fired.entry(fault).or_default() += count;
        }
    }
    assert!(sum.received > 100_000, "{} numbers", sum.received);
    assert!(sum.refused > 0 && sum.closed > 0 && sum.cut > 0 && sum.restored > 0);
    for kind in [
        FaultKind::Disconnect,
        FaultKind::Clog,
        FaultKind::Swizzle,
        FaultKind::PartitionSize,
        FaultKind::PartitionNodes,
        FaultKind::Isolate,
        FaultKind::OneWay,
        FaultKind::Chop,
        FaultKind::PowerLoss,
        FaultKind::KillNode,
        FaultKind::KillLeader,
        FaultKind::KillMasters,
        FaultKind::PauseMachine,
        FaultKind::PauseProcess,
        FaultKind::FillDisk,
        FaultKind::SlowDisk,
        FaultKind::Drift,
        FaultKind::ClockJump,
        FaultKind::Latency,
    ] {
        assert!(fired.contains_key(kind.name()), "{} never fired: {fired:?}", kind.name());
    }
}

#[test]
fn a_seed_of_the_world_means_one_trace() {
    for seed in 0..20 {
        let (one, two) = (run(seed, true).0, run(seed, true).0);
        for (number, (left, right)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(left, right, "seed {seed}, line {number}");
        }
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
}
