//! What a process sees of what happens to another machine.

use std::cell::RefCell;
use std::rc::Rc;

use gear_core::control::Address;
use gear_core::executor::Activity;
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::id::{ConnectionId, NodeId};
use gear_core::task::World;
use gear_core::time::{Duration, Time, millis};

use super::stage::{Due, Stage};
use super::toy::Toys;
use crate::cluster::{
    Assembly, ChildStart, ClientStart, Faults, Look, NodeStart, Setup, Subject, Wanted,
};
use crate::trace::Trace;

/// What the first node has heard of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Dialed,
    Refused,
    NoAnswer,
    Echo(u8),
    Closed,
}

#[derive(Clone, Default)]
struct Probes(Rc<RefCell<Vec<Heard>>>);

/// The first node dials the second, and sends it a number whenever the last has come back or the
/// connection is new; the second sends back what comes.
struct Probe {
    heard: Rc<RefCell<Vec<Heard>>>,
    other: Option<Address>,
    connection: u64,
    there: bool,
    number: u8,
    due: Time,
}

impl Assembly for Probes {
    fn node(&self, start: &NodeStart<'_>) -> Box<dyn Subject> {
        let other = start.masters.get(&NodeId(2)).filter(|_| start.node == NodeId(1)).cloned();
        let heard = Rc::clone(&self.0);
        Box::new(Probe { heard, other, connection: 0, there: false, number: 0, due: Time::ZERO })
    }

    fn child(&self, _: &ChildStart<'_>) -> Result<Box<dyn Subject>, String> {
        Err("probes have no children".into())
    }

    fn client(&self, start: &ClientStart<'_>) -> Box<dyn Subject> {
        Toys::default().client(start)
    }
}

impl Process for Probe {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let Some(to) = self.other.clone() else {
            if let ProcessInput::Received { connection, bytes } = input {
                out.push(ProcessEffect::Write { connection, bytes });
            }
            self.due = world.now + Duration::from_secs(1);
            return;
        };
        let heard = match input {
            ProcessInput::Dialed { .. } => {
                self.there = true;
                Heard::Dialed
            }
            ProcessInput::DialFailed { refused, .. } => {
                self.connection = self.connection.next_multiple_of(1_000);
                if refused { Heard::Refused } else { Heard::NoAnswer }
            }
            ProcessInput::Received { bytes, .. } => Heard::Echo(bytes[0]),
            ProcessInput::Closed { .. } => {
                self.there = false;
                self.connection = self.connection.next_multiple_of(1_000);
                Heard::Closed
            }
            ProcessInput::Start | ProcessInput::Timeout => {
                self.due = world.now + millis(100);
                let connection = ConnectionId(self.connection);
                if self.there {
                    self.number += 1;
                    out.push(ProcessEffect::Write { connection, bytes: vec![self.number] });
                } else if self.connection.is_multiple_of(1_000) {
                    self.connection += 1;
                    let connection = ConnectionId(self.connection);
                    out.push(ProcessEffect::Dial { connection, to });
                }
                return;
            }
            other => panic!("{other:?}"),
        };
        self.heard.borrow_mut().push(heard);
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.due)
    }
}

impl Subject for Probe {
    fn look(&self, _: Time) -> Look {
        Look::Nothing
    }
}

/// Lets two nodes talk for a second, does something to them, and gives what was heard in the next
/// three seconds, repetitions left out.
fn after(what: impl FnOnce(&mut Stage<'_>)) -> Vec<Heard> {
    let wanted = Wanted {
        masters: Some(2),
        workers: Some(0),
        faults: Some(Faults::none()),
        ..Wanted::default()
    };
    let setup = Setup::draw(3, 1, &wanted);
    let (probes, toys) = (Probes::default(), Toys::default());
    let mut stage = Stage::new(Rc::new(setup), &probes, &toys, Trace::new(false, false));
    stage.run_until(Time::ZERO + Duration::from_secs(2));
    let before = std::mem::take(&mut *probes.0.borrow_mut());
    assert!(matches!(before.last(), Some(Heard::Echo(_))), "{before:?}");
    what(&mut stage);
    stage.run_until(stage.now() + Duration::from_secs(3));
    assert!(!stage.is_wrong(), "{:?}", stage.shared.state.borrow().violations);
    let mut heard = probes.0.take();
    heard.dedup();
    heard
}

fn echoes(heard: &[Heard]) -> Vec<u8> {
    let echo = |heard: &Heard| if let Heard::Echo(number) = heard { Some(*number) } else { None };
    heard.iter().filter_map(echo).collect()
}

fn others(heard: &[Heard]) -> Vec<Heard> {
    let mut others: Vec<Heard> =
        heard.iter().filter(|it| !matches!(it, Heard::Echo(_))).copied().collect();
    others.dedup();
    others
}

#[test]
fn a_killed_process_closes_its_connections_and_refuses_until_it_is_back() {
    let heard = after(|stage| {
        let node = stage.shared.state.borrow().machines[1].node.expect("it runs");
        stage.shared.end(node, "it was killed");
    });
    assert_eq!(others(&heard)[..1], [Heard::Closed], "{heard:?}");
    assert!(others(&heard).ends_with(&[Heard::Dialed]), "{heard:?}");
    assert!(matches!(heard.last(), Some(Heard::Echo(_))), "{heard:?}");
}

#[test]
fn nobody_hears_of_a_loss_of_power_and_a_dead_machine_answers_no_dial() {
    let heard = after(|stage| stage.power_off(1, None));
    assert_eq!(others(&heard), [], "silence: {heard:?}");
    let heard = after(|stage| stage.power_off(1, Some(millis(500))));
    // The machine that is back knows nothing of the connection.
    assert_eq!(others(&heard), [Heard::Closed, Heard::Dialed], "{heard:?}");
    let heard = after(|stage| {
        stage.power_off(1, None);
        let node = stage.shared.state.borrow().machines[0].node.expect("it runs");
        stage.shared.end(node, "it was killed, and its successor has to dial");
    });
    assert_eq!(others(&heard), [Heard::NoAnswer], "{heard:?}");
}

#[test]
fn a_clog_delays_and_a_cut_loses() {
    let heard = after(|stage| {
        let until = stage.now() + Duration::from_secs(1);
        stage.shared.state.borrow_mut().links.keep(0, 1, until);
    });
    assert_eq!(others(&heard), [], "{heard:?}");
    let numbers = echoes(&heard);
    assert!(numbers.len() > 20 && numbers.windows(2).all(|pair| pair[1] > pair[0]), "{heard:?}");
    let heard = after(|stage| {
        let until = stage.now() + Duration::from_secs(1);
        stage.shared.state.borrow_mut().links.cut(0, 1, until);
    });
    assert!(heard.len() <= 1, "the stream has a hole, and stands still for ever: {heard:?}");
}

#[test]
fn a_paused_process_finds_everything_when_it_goes_on() {
    let heard = after(|stage| {
        let node = stage.shared.state.borrow().machines[1].node.expect("it runs");
        stage.shared.state.borrow().processes[node].gate.shut();
        let until = stage.now() + Duration::from_secs(2);
        stage.due(until, Due::Resume { process: node });
    });
    assert_eq!(others(&heard), [], "{heard:?}");
    let numbers = echoes(&heard);
    assert!(numbers.windows(2).all(|pair| pair[1] > pair[0]), "{heard:?}");
    let gap = numbers.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(gap.is_some_and(|gap| gap > 10), "what came together is read together: {heard:?}");
}
