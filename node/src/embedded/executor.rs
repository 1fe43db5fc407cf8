//! The thread of an executor: hears, gives its tasks their turns, performs what they ask for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gear_connectors::schemes::AnyFiles;
use gear_core::effect::{Effect, Notice, Place};
use gear_core::executor::Executor;
use gear_core::id::TaskId;
use gear_core::message::Input;
use gear_core::task::{Figures, Turn, World};
use gear_core::time::Time;

use super::clock;
use super::guard::CatchPanic;
use super::io::IoWork;
use super::store::Request;
use super::{Inbox, Wires};

/// How long a thread looks for mail before it sleeps: the time that going to sleep and being woken
/// would take.
const SPIN: Duration = Duration::from_micros(50);
/// Longest sleep of a thread that waits for nothing in particular.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Time between two publications of the tasks' figures.
const FIGURES_INTERVAL: Duration = Duration::from_millis(100);

/// What a thread shows of itself to the others.
#[derive(Default)]
pub(crate) struct Shown {
    figures: Mutex<Vec<(TaskId, Figures)>>,
    /// When the present turn began, in nanoseconds of the monotonic time; 0 between turns.
    turn_since: AtomicU64,
    /// The task whose turn it is, by its place; its name is in `names`.
    turn_of: AtomicU32,
    names: Mutex<Vec<String>>,
}

impl Shown {
    pub(crate) fn figures(&self) -> Vec<(TaskId, Figures)> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The task that has been at its turn for longer than `limit`.
    pub(crate) fn slow(&self, now: Time, limit: Duration) -> Option<(String, u64)> {
        let since = self.turn_since.load(Ordering::Relaxed);
        if since == 0 || now.since(Time(since)) < limit {
            return None;
        }
        let place = self.turn_of.load(Ordering::Relaxed) as usize;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(place).map(|name| (name.clone(), since))
    }
}

/// Runs an executor on the calling thread until it is told to stop.
pub(crate) fn run(mut executor: Executor, wires: &Wires, inbox: &Arc<Inbox>, shown: &Shown) {
    inbox.receive_here();
    let mut files = AnyFiles::new(crate::drivers::notice);
    let mut guard = CatchPanic::new();
    let mut mail = Vec::new();
    let mut fx = Vec::new();
    let mut figures_at = Time::ZERO;
    let mut tasks = 0;
    let mut idle_since: Option<Time> = None;
    loop {
        inbox.take(&mut mail);
        let now = clock::now();
        let mut world = World { now, wall: clock::wall(), files: &mut files, guard: &mut guard };
        if !mail.is_empty() {
            idle_since = None;
        }
        for input in mail.drain(..) {
            executor.handle(input, &mut world, &mut fx);
            perform(&executor, wires, inbox, &mut fx);
        }
        if executor.is_stopped() {
            break;
        }
        // The first call may be the one that is slow, and has to be named.
        if tasks != executor.task_count() {
            tasks = executor.task_count();
            show(&mut executor, shown);
        }
        let (busy, until) = turns(&mut executor, wires, inbox, shown, &mut world, &mut fx);
        if now.since(figures_at) > FIGURES_INTERVAL {
            figures_at = now;
            show(&mut executor, shown);
        }
        if busy {
            idle_since = None;
            continue;
        }
        let since = *idle_since.get_or_insert(now);
        rest(inbox, since, until);
    }
    show(&mut executor, shown);
}

/// Gives each task a turn; true if one of them may go on at once.
fn turns(
    executor: &mut Executor,
    wires: &Wires,
    inbox: &Arc<Inbox>,
    shown: &Shown,
    world: &mut World<'_>,
    fx: &mut Vec<Effect>,
) -> (bool, Option<Time>) {
    let mut busy = false;
    let mut until: Option<Time> = None;
    for place in 0..executor.task_count() {
        shown.turn_of.store(place as u32, Ordering::Relaxed);
        shown.turn_since.store(world.now.0.max(1), Ordering::Relaxed);
        match executor.turn(place, world, fx) {
            Turn::Busy => {
                busy = true;
                world.now = clock::now();
            }
            Turn::Waits(Some(at)) => until = Some(until.map_or(at, |until| until.min(at))),
            Turn::Waits(None) => {}
        }
        perform(executor, wires, inbox, fx);
    }
    shown.turn_since.store(0, Ordering::Relaxed);
    executor.end_round(fx);
    perform(executor, wires, inbox, fx);
    (busy, until)
}

/// Waits for mail: awake for a moment, then asleep.
fn rest(inbox: &Inbox, since: Time, until: Option<Time>) {
    loop {
        // The clock costs more than a look at the mail.
        for _ in 0..8 {
            if inbox.has_mail() {
                return;
            }
            std::hint::spin_loop();
        }
        let now = clock::now();
        if until.is_some_and(|until| until <= now) {
            return;
        }
        let left = until.map_or(SLEEP_MAX, |until| until.since(now));
        if now.since(since) < SPIN || left < SPIN {
            continue;
        }
        inbox.sleep(left.min(SLEEP_MAX) - SPIN / 2);
        return;
    }
}

fn show(executor: &mut Executor, shown: &Shown) {
    let names = (0..executor.task_count()).filter_map(|place| executor.task_name(place)).collect();
    *shown.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    *shown.figures.lock().unwrap_or_else(PoisonError::into_inner) = executor.figures();
}

fn perform(executor: &Executor, wires: &Wires, inbox: &Arc<Inbox>, fx: &mut Vec<Effect>) {
    for effect in fx.drain(..) {
        match effect {
            Effect::Send { to, message } => {
                let from = Place::Executor(executor.id());
                wires.inbox(to).send(Input::Message { from, message });
            }
            Effect::Store { token, request } => {
                // The receiver goes only when the process ends.
                let _ = wires.store.send(Request { reply_to: Arc::clone(inbox), token, request });
            }
            Effect::Io { task, token, request } => {
                let reply_to = Arc::clone(inbox);
                wires.io.send(IoWork { reply_to, task, token, request });
            }
            Effect::Notice(Notice { level, text }) => super::notice(level, &text),
        }
    }
}
