//! Anything goes wrong in any order; then all is well again, and everything runs.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::world::{World, spec};
use crate::control::{Reply, Request, Role};
use crate::host::NoFaults;
use crate::id::{AppId, ExecutorId, NodeId};
use crate::time::{millis, seconds};

/// Slots of a worker: two of three have room for all that a run can submit.
const SLOTS: u32 = 64;

#[derive(Clone, Debug)]
enum Event {
    Submit(u32),
    /// A process that runs ends by itself.
    Exit(usize),
    /// An app master gives an executor up.
    GiveUp(usize, usize),
    Silence(usize),
    /// A worker is to have no work, or may have some again.
    Drain(u64, bool),
    /// An app is restarted.
    Again(usize),
    RestartWorker(u64),
    StopMaster(u64),
    StartMaster(u64),
    Cut(u64),
    Join(u64),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let node = || prop_oneof![1..4_u64, 11..14_u64];
    prop_oneof![
        2 => (1..4_u32).prop_map(Event::Submit),
        2 => (0..20_usize).prop_map(Event::Exit),
        1 => (0..5_usize, 0..5_usize).prop_map(|(app, at)| Event::GiveUp(app, at)),
        1 => (0..5_usize).prop_map(Event::Silence),
        2 => (11..14_u64, any::<bool>()).prop_map(|(node, drains)| Event::Drain(node, drains)),
        1 => (0..5_usize).prop_map(Event::Again),
        1 => (11..14_u64).prop_map(Event::RestartWorker),
        1 => (1..4_u64).prop_map(Event::StopMaster),
        1 => (1..4_u64).prop_map(Event::StartMaster),
        2 => node().prop_map(Event::Cut),
        2 => node().prop_map(Event::Join),
        4 => (10..3_000_u64).prop_map(Event::Wait),
    ]
}

struct Run {
    world: World<NoFaults>,
    apps: Vec<AppId>,
}

impl Run {
    fn happen(&mut self, event: &Event) {
        let world = &mut self.world;
        match *event {
            Event::Submit(executors) => self.submit(executors),
            Event::Exit(at) => {
                let process = world.children.keys().map(|(_, process)| *process).nth(at);
                if let Some(process) = process {
                    world.exit(process);
                }
            }
            Event::GiveUp(app, at) => {
                let executors = self.apps.get(app).map(|app| world.executors(*app));
                let executor = executors.unwrap_or_default().get(at).copied();
                let master = self.master(app);
                if let (Some(executor), Some(master)) = (executor, master) {
                    master.report().lost.push(ExecutorId(executor));
                }
            }
            Event::Silence(app) => {
                if let Some(master) = self.master(app) {
                    master.silent = true;
                }
            }
            Event::Drain(node, drains) => {
                let (id, request) =
                    (world.request_id(), Request::Drain { node: NodeId(node), drains });
                if let Some(leader) = world.leader() {
                    world.ask(leader, id, request);
                }
            }
            Event::Again(at) => self.again(at),
            Event::RestartWorker(node) => {
                world.stop_worker(node);
                world.start_worker(node, SLOTS, &[]);
            }
            Event::StopMaster(node) => world.stop_master(node),
            Event::StartMaster(node) => {
                if !world.masters.contains_key(&node) {
                    world.start_master(node);
                }
            }
            Event::Cut(node) => {
                world.cut.insert(node);
            }
            Event::Join(node) => {
                world.cut.remove(&node);
            }
            Event::Wait(span) => world.run(millis(span)),
        }
    }

    fn submit(&mut self, executors: u32) {
        let id = self.world.request_id();
        let name = alloc::format!("app-{}", id.number);
        let Some(leader) = self.world.leader() else { return };
        let request = Request::Submit(Box::new(spec(&name, executors)));
        if let Some(Reply::Submitted { app }) = self.world.ask(leader, id, request) {
            self.apps.push(app);
        }
    }

    fn again(&mut self, at: usize) {
        let (Some(leader), true) = (self.world.leader(), at < self.apps.len()) else { return };
        let id = self.world.request_id();
        // It ends, also if nobody hears that.
        let app = self.apps.remove(at);
        match self.world.ask(leader, id, Request::Restart { app }) {
            Some(Reply::Submitted { app }) => self.apps.push(app),
            Some(Reply::Refused { .. }) => self.apps.push(app),
            _ => {}
        }
    }

    /// Some app master of an app, if any runs.
    fn master(&mut self, app: usize) -> Option<&mut super::world::Child> {
        let app = *self.apps.get(app)?;
        let mut children = self.world.children.iter_mut();
        let found = children.find(|((_, process), _)| {
            process.app == app && matches!(process.role, Role::AppMaster(_))
        });
        found.map(|(_, child)| child)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn everything_runs_again(events in prop::collection::vec(any_event(), 0..40)) {
        let mut run = Run { world: World::with_workers(3, 3, SLOTS), apps: Vec::new() };
        for event in &events {
            run.happen(event);
        }
        let world = &mut run.world;
        world.cut.clear();
        for node in 1..=3 {
            if !world.masters.contains_key(&node) {
                world.start_master(node);
            }
        }
        world.run(seconds(5));
        for node in [12, 13] {
            world.command(Request::Drain { node: NodeId(node), drains: false });
        }
        world.run(seconds(25));
        for app in &run.apps {
            prop_assert!(world.state().app(*app).is_some(), "{} is forgotten", app);
            prop_assert!(world.is_complete(*app), "{:?}", world.app(*app));
        }
        if world.state().drains.contains(&NodeId(11)) {
            let left = world.children.keys().filter(|(node, _)| *node == 11).count();
            prop_assert_eq!(left, 0, "processes are left on a worker that is drained");
        }
        // Nothing runs that nobody wants.
        let wanted = world.state().running().flat_map(|(id, app)| {
            app.processes(id).map(|(process, _)| process).collect::<Vec<_>>()
        });
        let wanted: Vec<_> = wanted.collect();
        for (_, process) in world.children.keys() {
            prop_assert!(wanted.contains(process), "{} runs", process);
        }
    }
}
