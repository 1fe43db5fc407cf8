//! A process that does what a closure says, and remembers what it has heard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gear_core::executor::Activity;
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::task::World;
use gear_core::time::{Duration, Time};

type Script = Box<dyn FnMut(ProcessInput, &mut Vec<ProcessEffect>)>;

/// What it does when its deadline has come.
#[derive(Clone, Copy)]
enum Due {
    Never,
    Once(Time),
    Every(Duration),
    Always,
}

pub(crate) struct Scripted {
    script: Script,
    due: Due,
    last: Time,
    busy: bool,
    heard: Rc<RefCell<Vec<ProcessInput>>>,
    turns: Rc<Cell<u64>>,
}

impl Scripted {
    pub(crate) fn new(script: impl FnMut(ProcessInput, &mut Vec<ProcessEffect>) + 'static) -> Self {
        Self {
            script: Box::new(script),
            due: Due::Never,
            last: Time::ZERO,
            busy: false,
            heard: Rc::default(),
            turns: Rc::default(),
        }
    }

    pub(crate) fn due(self, at: Time) -> Self {
        Self { due: Due::Once(at), ..self }
    }

    pub(crate) fn every(self, span: Duration) -> Self {
        Self { due: Due::Every(span), ..self }
    }

    pub(crate) fn always_due(self) -> Self {
        Self { due: Due::Always, ..self }
    }

    pub(crate) fn busy(self) -> Self {
        Self { busy: true, ..self }
    }

    pub(crate) fn heard(&self) -> Rc<RefCell<Vec<ProcessInput>>> {
        Rc::clone(&self.heard)
    }

    pub(crate) fn turns(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.turns)
    }
}

impl Process for Scripted {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        assert!(world.now >= self.last, "time does not go back");
        if input == ProcessInput::Timeout {
            assert!(self.next_timeout().is_some_and(|at| at <= world.now), "it is not due");
            if let Due::Once(_) = self.due {
                self.due = Due::Never;
            }
            self.last = world.now;
        }
        self.heard.borrow_mut().push(input.clone());
        (self.script)(input, out);
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        self.turns.set(self.turns.get() + 1);
        if self.busy { Activity::Busy } else { Activity::Idle(None) }
    }

    fn next_timeout(&self) -> Option<Time> {
        match self.due {
            Due::Never => None,
            Due::Once(at) => Some(at),
            Due::Every(span) => Some(self.last + span),
            Due::Always => Some(Time::ZERO),
        }
    }
}
