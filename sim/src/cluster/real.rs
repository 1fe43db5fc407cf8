//! The processes of production in a simulated cluster, and what can be seen of them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use gear_core::app::Stage;
use gear_core::control::{Address, Peer, Role};
use gear_core::host::{
    AppConfig, AppProcess, ExecutorConfig, ExecutorProcess, Faults, NodeConfig, NodeProcess,
};
use gear_core::id::{AppId, Incarnation, MasterTerm, NodeId};
use gear_core::link::Link;
use gear_core::master::quorum::{Formation, QuorumRole, UpdateNumber};
use gear_core::time::Time;

use super::client::Client;
use super::jobs::{Jobs, app_plan, program};
use super::subject::{
    AppLook, Assembly, Channels, ChildStart, ClientStart, ExecutorLook, KnownApp, KnownCluster,
    Look, NodeLook, NodeStart, Subject, TaskLook,
};
use crate::oracle::voids::Stamps;

/// Makes the processes of production, with or without a seeded bug.
pub struct Real<'a, F: Faults> {
    jobs: &'a dyn Jobs,
    faults: PhantomData<fn() -> F>,
}

impl<'a, F: Faults> Real<'a, F> {
    /// They run these jobs.
    #[must_use]
    pub const fn new(jobs: &'a dyn Jobs) -> Self {
        Self { jobs, faults: PhantomData }
    }
}

impl<F: Faults> Assembly for Real<'_, F> {
    fn node(&self, start: &NodeStart<'_>) -> Box<dyn Subject> {
        Box::new(NodeProcess::<F>::new(NodeConfig {
            cluster: start.cluster,
            node: start.node,
            incarnation: start.incarnation,
            address: start.address.clone(),
            masters: start.masters.clone(),
            formation: match (start.masters.contains_key(&start.node), start.formed) {
                (false, _) if !start.joins => None,
                (_, true) => Some(Formation::Before),
                (true, false) => Some(Formation::First),
                (false, false) => Some(Formation::Joins),
            },
            seed: start.seed,
            capacity: start.capacity,
            labels: BTreeMap::new(),
        }))
    }

    fn child(&self, start: &ChildStart<'_>) -> Result<Box<dyn Subject>, String> {
        let job = self.jobs.job(start.incarnation.0)?;
        let order = start.order.clone();
        let (cluster, incarnation) = (start.cluster, start.incarnation);
        Ok(match order.process.role {
            Role::AppMaster(_) => {
                let mut files = start.files.clone();
                let plan = app_plan(&job, &order.spec, self.jobs, &mut files)?;
                let masters = start.masters.clone();
                let config = AppConfig { cluster, order, incarnation, masters, plan };
                Box::new(AppProcess::<F>::new(config))
            }
            Role::Executor(_) => {
                let program = Arc::new(program(job));
                let config = ExecutorConfig { cluster, order, incarnation, program, memory: 0 };
                Box::new(ExecutorProcess::<F>::new(config))
            }
        })
    }

    fn client(&self, start: &ClientStart<'_>) -> Box<dyn Subject> {
        Box::new(Client::new(start))
    }
}

impl<F: Faults> Subject for NodeProcess<F> {
    fn look(&self, now: Time) -> Look {
        let follows = self.worker().leader().map_or(MasterTerm(0), |(_, term)| term);
        let Some(master) = self.master() else {
            return Look::Node(NodeLook { follows, ..NodeLook::default() });
        };
        let status = master.status(now);
        let leads = status.role == QuorumRole::Leader;
        Look::Node(NodeLook {
            term: status.term,
            acts: leads && status.may_serve,
            writes_back: leads && status.acknowledged == UpdateNumber(0),
            follows,
        })
    }

    fn known(&self, now: Time) -> Option<BTreeMap<AppId, KnownApp>> {
        let state = self.master()?.status(now).acknowledged_state?;
        let known = state.apps().map(|(id, app)| {
            let (spec, outcome) = (app.spec().clone(), app.outcome().cloned());
            let (request, after) = (app.submission().request, app.submission().after);
            (id, KnownApp { request, after, spec, wish: app.wish.0, outcome })
        });
        Some(known.collect())
    }

    fn cluster(&self, now: Time) -> Option<KnownCluster> {
        let master = self.master()?;
        let state = master.status(now).acknowledged_state?;
        let voters = master.quorum().voters().current().iter();
        Some(KnownCluster {
            voters: voters.map(|(node, voter)| (*node, voter.folder)).collect(),
            settled: master.quorum().voters_settled(),
            drains: state.drains.iter().map(|(node, ())| *node).collect(),
        })
    }

    fn masters(&self) -> Option<&BTreeMap<NodeId, Address>> {
        Some(Self::masters(self))
    }

    fn folder(&self) -> Option<Incarnation> {
        self.master()?.quorum().folder()
    }

    fn stamps(&self, now: Time) -> Option<Stamps> {
        let state = self.master()?.status(now).acknowledged_state?;
        let mut stamps = Stamps::new();
        for (id, app) in state.apps() {
            if let Some(master) = &app.master {
                stamps.insert(format!("the app master of {id}"), master.stamp());
            }
            for (executor, assignment) in app.executors.iter() {
                stamps.insert(format!("executor {executor} of {id}"), assignment.stamp());
            }
        }
        let workers = state.workers.iter();
        stamps.extend(workers.map(|(node, record)| (format!("worker {node}"), record.stamp())));
        Some(stamps)
    }
}

impl<F: Faults> Subject for AppProcess<F> {
    fn look(&self, now: Time) -> Look {
        let status = self.app_master().status(now);
        let again = status.roll_backs > 0 || status.recovered.is_some();
        Look::App(AppLook {
            app: self.app(),
            term: status.term,
            committed: status.committed.unwrap_or_default(),
            runs: status.stage == Stage::Running,
            recovers: status.stage == Stage::Deploying && again,
            ended: status.stage == Stage::Ended,
            roll_backs: status.roll_backs,
        })
    }

    fn describe(&mut self, now: Time) -> String {
        format!("app master of {}: {:?}", self.app(), self.app_master().status(now))
    }

    fn channels(&self) -> Channels {
        channels(self.links())
    }
}

impl<F: Faults> Subject for ExecutorProcess<F> {
    fn look(&self, _: Time) -> Look {
        let (app, term) = (self.app(), self.app_term());
        let works = self.executor().tasks().next().is_some();
        Look::Executor(ExecutorLook { app, term, works })
    }

    fn describe(&mut self, _: Time) -> String {
        let waiting = self.executor_mut().figures().into_iter();
        let waiting = waiting.filter(|(_, figures)| !figures.ended);
        let waiting = waiting.map(|(task, figures)| format!("{task}: {figures:?}"));
        let waiting: Vec<String> = waiting.collect();
        let links = self.links().map(|(peer, link)| {
            let state = if link.is_lost() { "lost" } else { "" };
            let state = if link.is_connected() { "up" } else { state };
            format!("{peer} {state}")
        });
        let links: Vec<String> = links.collect();
        let (app, term) = (self.app(), self.app_term());
        format!("executor of {app} for {term}; links: {links:?}; not ended: {waiting:#?}")
    }

    fn tasks(&mut self) -> Vec<TaskLook> {
        let executor = self.executor_mut();
        let figures = executor.figures();
        let looks = executor.tasks().zip(figures).map(|(task, (_, figures))| TaskLook {
            task: task.id(),
            uid: task.info().uid.clone(),
            attempt: task.info().attempt,
            restored: task.restored(),
            clock: figures.clock,
            late: figures.late,
        });
        looks.collect()
    }

    fn channels(&self) -> Channels {
        channels(self.links())
    }
}

fn channels<'a, F: Faults>(links: impl Iterator<Item = (Peer, &'a Link<F>)>) -> Channels {
    let mut channels = Channels::default();
    for (_, link) in links {
        channels.senders.extend(link.senders());
        channels.receivers.extend(link.receivers());
        channels.links.push(link.figures());
    }
    channels
}
