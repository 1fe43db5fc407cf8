//! The app master on its thread: drives the machine, and shows how the app is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gear_core::app::{AppMaster, AppPlan, Outcome, Status};
use gear_core::dag::Graph;
use gear_core::effect::{Effect, Notice, Place};
use gear_core::id::TaskId;
use gear_core::limits::SLOW_CALL;
use gear_core::message::{Input, Message};
use gear_core::task::Figures;
use gear_core::time::Time;

use super::executor::Shown;
use super::store::Request;
use super::{RunError, Wires, clock};
use crate::options::RuntimeOptions;
use crate::progress::Progress;
use crate::report::Report;

/// Longest sleep: how often the display is drawn and slow calls are looked for.
const TICK: Duration = Duration::from_millis(100);

/// Set by the first Ctrl-C; a second one ends the process at once.
static STOP: AtomicBool = AtomicBool::new(false);

/// Lets the first Ctrl-C stop the jobs of this process gracefully.
pub(crate) fn stop_on_interrupt() {
    // A program that has a handler of its own keeps it.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Runs the app master until the app has ended, and stops the executors.
pub(crate) fn run(
    plan: AppPlan,
    wires: &Wires,
    shown: &[Arc<Shown>],
    total_bytes: Option<u64>,
    options: &RuntimeOptions,
) -> Ended {
    let inbox = &wires.master;
    inbox.receive_here();
    let mut master: AppMaster = AppMaster::new(plan);
    let mut progress = Progress::new(total_bytes, options);
    let mut watch = Watch::default();
    let mut stop_sent = false;
    let mut mail = Vec::new();
    let mut fx = Vec::new();
    let began = clock::now();
    master.handle(began, Input::Start, &mut fx);
    perform(wires, &mut fx, &mut progress);
    while master.outcome().is_none() {
        let now = clock::now();
        inbox.take(&mut mail);
        for input in mail.drain(..) {
            master.handle(now, input, &mut fx);
            perform(wires, &mut fx, &mut progress);
        }
        if STOP.load(Ordering::SeqCst) && !std::mem::replace(&mut stop_sent, true) {
            progress.say("stopping: one last epoch, then the end (again to end at once)");
            master.handle(now, Input::Stop, &mut fx);
        }
        if master.next_timeout().is_some_and(|(at, _)| at <= now) {
            master.handle(now, Input::Timeout, &mut fx);
        }
        perform(wires, &mut fx, &mut progress);
        watch.look(now, shown);
        progress.draw(&master.status(now), &figures(shown));
        let left = master.next_timeout().map_or(TICK, |(at, _)| at.since(clock::now()));
        if master.outcome().is_none() && !inbox.has_mail() && !left.is_zero() {
            inbox.sleep(left.min(TICK));
        }
    }
    let status = master.status(clock::now());
    for executor in &wires.executors {
        let message = Message::Shutdown { term: status.term };
        executor.send(Input::Message { from: Place::AppMaster, message });
    }
    let took = clock::now().since(began);
    progress.finish();
    let outcome = master.outcome().cloned().expect("the loop ends with it");
    Ended { outcome, status, took, slow_calls: watch.slow_calls }
}

/// How an app ended, as its master saw it.
pub(crate) struct Ended {
    outcome: Outcome,
    status: Status,
    took: Duration,
    slow_calls: u64,
}

/// What there is to say of an app that has ended, once its executors have shown their last figures.
pub(crate) fn report(
    ended: Ended,
    shown: &[Arc<Shown>],
    graph: &Graph,
) -> Result<Report, RunError> {
    let Ended { outcome, status, took, slow_calls } = ended;
    if let Outcome::Failed(failure) = outcome {
        return Err(RunError::Failed(failure));
    }
    let name = |task: TaskId| {
        graph.processor(task.processor).map_or_else(String::new, |found| found.uid.clone())
    };
    let tasks = figures(shown).into_iter().map(|(task, figures)| (name(task), task, figures));
    Ok(Report::new(outcome, &status, took, tasks.collect(), slow_calls))
}

fn figures(shown: &[Arc<Shown>]) -> Vec<(TaskId, Figures)> {
    shown.iter().flat_map(|shown| shown.figures()).collect()
}

fn perform(wires: &Wires, fx: &mut Vec<Effect>, progress: &mut Progress) {
    for effect in fx.drain(..) {
        match effect {
            Effect::Send { to, message } => {
                wires.inbox(to).send(Input::Message { from: Place::AppMaster, message });
            }
            Effect::Store { token, request } => {
                let reply_to = Arc::clone(&wires.master);
                // The receiver goes only when the process ends.
                let _ = wires.store.send(Request { reply_to, token, request });
            }
            Effect::Notice(Notice { level, text }) => progress.notice(level, &text),
            Effect::Io { .. } => unreachable!("an app master has no connectors"),
        }
    }
}

/// Names the user's calls that take too long.
#[derive(Default)]
struct Watch {
    /// The turn of each thread that was named last, by its begin.
    named: Vec<u64>,
    slow_calls: u64,
}

impl Watch {
    fn look(&mut self, now: Time, shown: &[Arc<Shown>]) {
        self.named.resize(shown.len(), 0);
        for (shown, named) in shown.iter().zip(&mut self.named) {
            if let Some((task, since)) = shown.slow(now, SLOW_CALL)
                && *named != since
            {
                *named = since;
                self.slow_calls += 1;
                tracing::warn!(
                    target: "gear",
                    "a call of {task} has taken more than {} ms: nothing else runs on its thread \
                     meanwhile",
                    SLOW_CALL.as_millis()
                );
            }
        }
    }
}
