//! The network between machines: connections as TCP has them, over links that may be slow or shut.
//!
//! What is sent over a link that is shut arrives when it is open again, as a transport repeats what
//! is not acknowledged. A machine without power answers nothing; once it has booted it knows
//! nothing of its old connections, and says so to whoever goes on with one.

use gear_core::control::Address;
use gear_core::host::process::{ACCEPTED, ProcessInput};
use gear_core::id::ConnectionId;
use gear_core::time::Time;

use super::conn::{Conn, End, Pipe, Segment, Side, chop};
use super::fault::FaultKind;
use super::world::{Event, World};

/// Which links are shut or slow, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// From each machine to each.
    shut: Vec<Vec<Time>>,
    /// What a machine sends takes long.
    slow: Vec<Time>,
}

impl Links {
    /// All open, between so many machines.
    pub(crate) fn new(machines: usize) -> Self {
        Self { shut: vec![vec![Time::ZERO; machines]; machines], slow: vec![Time::ZERO; machines] }
    }

    /// Nothing gets from one machine to another before a time.
    pub(crate) fn shut(&mut self, from: usize, to: usize, until: Time) {
        if from != to {
            let shut = &mut self.shut[from][to];
            *shut = until.max(*shut);
        }
    }

    /// Both directions.
    pub(crate) fn shut_both(&mut self, one: usize, other: usize, until: Time) {
        self.shut(one, other, until);
        self.shut(other, one, until);
    }

    /// Both directions open at a time, if not before.
    pub(crate) fn open_both(&mut self, one: usize, other: usize, at: Time) {
        for (from, to) in [(one, other), (other, one)] {
            let shut = &mut self.shut[from][to];
            *shut = at.min(*shut);
        }
    }

    /// What a machine sends takes long until then.
    pub(crate) fn slow(&mut self, machine: usize, until: Time) {
        self.slow[machine] = until.max(self.slow[machine]);
    }

    /// All that concerns these machines is as it should be.
    pub(crate) fn heal(&mut self, machines: &[usize]) {
        for from in machines {
            machines.iter().for_each(|to| self.shut[*from][*to] = Time::ZERO);
            self.slow[*from] = Time::ZERO;
        }
    }

    /// When the link opens, if it is shut now.
    pub(crate) fn opens(&self, from: usize, to: usize, now: Time) -> Option<Time> {
        (from != to && self.shut[from][to] > now).then(|| self.shut[from][to])
    }

    fn is_slow(&self, machine: usize, now: Time) -> bool {
        self.slow[machine] > now
    }
}

/// How much longer a message takes from a slow machine.
const SLOWNESS: u64 = 40;
/// The most time on the way within a machine, in nanoseconds.
const LOOPBACK: u64 = 20_000;
/// A transport that gets no answer gives a connection up after this time at the earliest.
const KEEP_ALIVE_MIN: u64 = 5_000_000_000;
/// And at the latest.
const KEEP_ALIVE_MAX: u64 = 20_000_000_000;

impl World<'_> {
    /// The place of an address, `m<machine>:<port>`.
    pub(crate) fn machine_of(address: &Address) -> Option<usize> {
        address.0.strip_prefix('m')?.split_once(':')?.0.parse().ok()
    }

    fn travel(&mut self, from: usize, to: usize) -> Time {
        let most = if from == to { LOOPBACK } else { self.setup.slow.network };
        let slow = from != to && self.links.is_slow(from, self.now);
        let nanos = 1 + self.random.net.below(most);
        Time(self.now.0 + if slow { nanos * SLOWNESS } else { nanos })
    }

    /// A process dials.
    pub(crate) fn dial(&mut self, process: usize, id: ConnectionId, to: Address) {
        let machine = self.processes[process].machine;
        let end = |process, machine, open| End { process, machine, id, open, silent: false };
        // A host that is not there answers nothing.
        let Some(host) = Self::machine_of(&to).filter(|host| *host < self.machines.len()) else {
            return;
        };
        let conn = self.conns.len();
        self.conns.push(Conn {
            ends: [end(Some(process), machine, true), end(None, host, false)],
            pipes: [Pipe::default(), Pipe::default()],
            to: self.addresses.number(to),
            accepted: false,
            dialed: false,
            severed: false,
        });
        self.processes[process].conns.insert(id, (conn, 0));
        let at = self.travel(machine, host);
        self.push(at, Event::Syn { conn });
    }

    /// A dial reaches the other machine.
    pub(crate) fn syn(&mut self, conn: usize) {
        let [dialler, other] = self.conns[conn].ends;
        if self.conns[conn].accepted || !dialler.open {
            return;
        }
        if let Some(at) = self.links.opens(dialler.machine, other.machine, self.now) {
            self.push(at, Event::Syn { conn });
            return;
        }
        if !self.is_up(other.machine) {
            return;
        }
        let Some(process) = self.listener(self.conns[conn].to) else {
            let at = self.travel(other.machine, dialler.machine);
            self.push(at, Event::Refused { conn });
            return;
        };
        let accepts = &mut self.processes[process];
        accepts.accepted += 1;
        let id = ConnectionId(ACCEPTED | accepts.accepted);
        accepts.conns.insert(id, (conn, 1));
        let there = &mut self.conns[conn];
        there.accepted = true;
        there.ends[1] = End { process: Some(process), id, open: true, ..other };
        let at = self.travel(other.machine, dialler.machine);
        self.conns[conn].pipes[1].not_before(at);
        self.push(at, Event::SynAck { conn });
        self.hear(process, ProcessInput::Accepted { connection: id });
    }

    /// The answer to a dial arrives.
    pub(crate) fn syn_ack(&mut self, conn: usize) {
        let [dialler, other] = self.conns[conn].ends;
        if self.conns[conn].dialed {
            return;
        }
        if let Some(at) = self.links.opens(other.machine, dialler.machine, self.now) {
            self.push(at, Event::SynAck { conn });
            return;
        }
        if !dialler.open {
            // Nobody waits for it any more: the other side is told so.
            self.reset_later(conn, 1);
            return;
        }
        self.conns[conn].dialed = true;
        let process = dialler.process.expect("a dialler is a process");
        self.hear(process, ProcessInput::Dialed { connection: dialler.id });
    }

    /// A refusal arrives.
    pub(crate) fn refused(&mut self, conn: usize) {
        let [dialler, other] = self.conns[conn].ends;
        if let Some(at) = self.links.opens(other.machine, dialler.machine, self.now) {
            self.push(at, Event::Refused { conn });
        } else if dialler.open {
            self.seen("a dial was refused");
            let process = self.let_go(conn, 0);
            let input = ProcessInput::DialFailed { connection: dialler.id, refused: true };
            self.hear(process, input);
        }
    }

    /// A process writes.
    pub(crate) fn write(&mut self, process: usize, id: ConnectionId, bytes: Vec<u8>) {
        let Some(&(conn, side)) = self.processes[process].conns.get(&id) else { return };
        assert!(!bytes.is_empty(), "a process writes something or nothing");
        let pieces = if self.random.net.permille(self.setup.rates.chop) {
            self.count(FaultKind::Chop);
            chop(bytes, &mut self.random.net)
        } else {
            vec![bytes]
        };
        for piece in pieces {
            self.send(conn, side, Segment::Bytes(piece));
        }
        let executes = |end: &End| end.process.is_some_and(|process| self.works(process));
        let between = self.conns[conn].ends.iter().all(executes);
        let rate = self.setup.rates.ambush_link;
        if rate > 0 && between && !self.calm && self.random.net.permille(rate) {
            self.count(FaultKind::AmbushLink);
            self.stopwatch.disturb(self.now);
            let mut random = self.random.net.clone();
            self.sever(conn, &mut random);
            self.random.net = random;
        }
    }

    fn send(&mut self, conn: usize, side: Side, segment: Segment) {
        if self.conns[conn].severed {
            return;
        }
        let (from, to) =
            (self.conns[conn].ends[side].machine, self.conns[conn].ends[1 - side].machine);
        let at = self.travel(from, to);
        let (number, at) = self.conns[conn].pipes[side].push(segment, at);
        self.push(at, Event::Arrive { conn, side, number });
    }

    /// A process lets a connection go: what it has written still arrives.
    pub(crate) fn close(&mut self, process: usize, id: ConnectionId) {
        let Some(&(conn, side)) = self.processes[process].conns.get(&id) else { return };
        self.let_go(conn, side);
        self.send(conn, side, Segment::Fin);
    }

    /// An end is over for its process, which is given.
    fn let_go(&mut self, conn: usize, side: Side) -> usize {
        let end = &mut self.conns[conn].ends[side];
        end.open = false;
        let process = end.process.expect("an end that was open has a process");
        let id = end.id;
        self.processes[process].conns.remove(&id);
        process
    }

    /// What one end has sent arrives at the other.
    pub(crate) fn arrive(&mut self, conn: usize, side: Side, number: u64) {
        let there = &self.conns[conn];
        let (from, to) = (there.ends[side], there.ends[1 - side]);
        if let Some(at) = self.links.opens(from.machine, to.machine, self.now) {
            self.push(at, Event::Arrive { conn, side, number });
            return;
        }
        if side == 1 && !there.dialed {
            self.syn_ack(conn);
        }
        if !self.conns[conn].accepted {
            // Bytes that were written before the answer to the dial has come.
            let at = Time(self.now.0 + self.setup.slow.network);
            if self.conns[conn].ends[0].open {
                self.push(at, Event::Arrive { conn, side, number });
            }
            return;
        }
        let to = self.conns[conn].ends[1 - side];
        let Some(process) = to.process else { return };
        if !to.open {
            self.dropped(conn, side);
            return;
        }
        if self.processes[process].defers(self.now) {
            self.processes[process].backlog.push(Event::Arrive { conn, side, number });
            return;
        }
        let together = self.random.net.permille(self.setup.rates.chop);
        let upto =
            if together { self.conns[conn].pipes[side].last().unwrap_or(number) } else { number };
        let upto = upto.max(number);
        for segment in self.conns[conn].pipes[side].arrive(upto, together) {
            if !self.conns[conn].ends[1 - side].open {
                return;
            }
            match segment {
                Segment::Bytes(bytes) => {
                    let connection = to.id;
                    self.hear(process, ProcessInput::Received { connection, bytes });
                }
                Segment::Fin => {
                    self.let_go(conn, 1 - side);
                    self.hear(process, ProcessInput::Closed { connection: to.id });
                }
            }
        }
    }

    /// Something came for an end that is no longer there: the sender is told, if anybody can.
    fn dropped(&mut self, conn: usize, side: Side) {
        let there = &mut self.conns[conn];
        there.pipes[side].cut();
        let (from, to) = (there.ends[side], there.ends[1 - side]);
        if from.open && self.is_up(to.machine) {
            self.reset_later(conn, side);
        }
    }

    fn reset_later(&mut self, conn: usize, side: Side) {
        let there = &self.conns[conn];
        let (from, to) = (there.ends[1 - side].machine, there.ends[side].machine);
        let at = self.travel(from, to);
        self.push(at, Event::Reset { conn, side, remote: true });
    }

    /// An end hears that its connection is over; what was on its way to it is lost.
    pub(crate) fn reset(&mut self, conn: usize, side: Side, remote: bool) {
        let there = &self.conns[conn];
        let (end, other) = (there.ends[side], there.ends[1 - side]);
        let Some(process) = end.process.filter(|_| end.open) else { return };
        if remote && let Some(at) = self.links.opens(other.machine, end.machine, self.now) {
            self.push(at, Event::Reset { conn, side, remote });
            return;
        }
        if self.processes[process].defers(self.now) {
            self.processes[process].backlog.push(Event::Reset { conn, side, remote });
            return;
        }
        let there = &mut self.conns[conn];
        there.pipes.iter_mut().for_each(Pipe::cut);
        let input = if side == 0 && !there.dialed {
            ProcessInput::DialFailed { connection: end.id, refused: false }
        } else {
            ProcessInput::Closed { connection: end.id }
        };
        self.let_go(conn, side);
        self.hear(process, input);
    }

    /// A connection breaks: both ends hear of it, each in its time.
    pub(crate) fn sever(&mut self, conn: usize, random: &mut crate::random::Random) {
        self.conns[conn].severed = true;
        self.conns[conn].pipes.iter_mut().for_each(Pipe::cut);
        for side in 0..2 {
            let most = random.pick(&[1_000, 300_000_000]);
            let at = Time(self.now.0 + 1 + random.below(most));
            self.push(at, Event::Reset { conn, side, remote: false });
        }
    }

    /// A process is gone. If its machine goes on, the others hear it.
    pub(crate) fn drop_connections(&mut self, process: usize, silent: bool) {
        let conns = std::mem::take(&mut self.processes[process].conns);
        for (conn, side) in conns.into_values() {
            let end = &mut self.conns[conn].ends[side];
            end.open = false;
            end.silent = silent;
            if silent {
                let keep = KEEP_ALIVE_MIN + self.random.net.below(KEEP_ALIVE_MAX - KEEP_ALIVE_MIN);
                let at = Time(self.now.0 + keep);
                self.push(at, Event::Reset { conn, side: 1 - side, remote: false });
            } else {
                self.send(conn, side, Segment::Fin);
            }
        }
    }

    /// A machine has booted: it refuses what others send over connections of its earlier life.
    pub(crate) fn forget_connections(&mut self, machine: usize) {
        for conn in 0..self.conns.len() {
            for side in 0..2 {
                let ends = self.conns[conn].ends;
                if ends[side].machine == machine && ends[side].silent && ends[1 - side].open {
                    let at = Time(self.now.0 + 1 + self.random.net.below(1_000_000_000));
                    self.push(at, Event::Reset { conn, side: 1 - side, remote: true });
                }
            }
        }
    }

    /// Links are open again: what was held back is sent once more.
    pub(crate) fn retransmit(&mut self) {
        for conn in 0..self.conns.len() {
            let ends = self.conns[conn].ends;
            if ends[0].open && !self.conns[conn].accepted {
                let at = self.travel(ends[0].machine, ends[1].machine);
                self.push(at, Event::Syn { conn });
            }
            if self.conns[conn].accepted && !self.conns[conn].dialed {
                let at = self.travel(ends[1].machine, ends[0].machine);
                self.push(at, Event::SynAck { conn });
            }
            for side in 0..2 {
                if let Some(number) = self.conns[conn].pipes[side].last() {
                    let at = self.travel(ends[side].machine, ends[1 - side].machine);
                    self.push(at, Event::Arrive { conn, side, number });
                }
            }
        }
    }

    /// Connections that both ends hold, by number.
    pub(crate) fn open_connections(&self) -> Vec<usize> {
        let is_open = |conn: &usize| {
            let there = &self.conns[*conn];
            there.ends[0].open && there.ends[1].open
        };
        (0..self.conns.len()).filter(is_open).collect()
    }
}
