//! The processes of a cluster as their drivers see them: commands, figures, and what operators do
//! to an app while it runs.

#[path = "../recovery/job.rs"]
mod job;
mod machine;

use gear_core::app::Stage;
use gear_core::control::{
    AppOutcome, AppSpec, AppStatus, ClusterStatus, ProcessId, Reply, Request, Resources, Role, Wish,
};
use gear_core::host::figures::{AppFigures, ProcessorKind, RegionState};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{AppId, AppTerm, Epoch, NodeId};
use gear_core::master::duties::TERMS_PER_APP;
use gear_core::time::Duration;
use job::{Numbers, OUT, expected, visible};
use machine::Machine;

const NUMBERS: Numbers = Numbers { partitions: 2, len: 300 };

fn spec() -> AppSpec {
    let one = Resources { slots: 1, memory: 1 << 20 };
    AppSpec {
        name: "app".into(),
        binary: b"job".to_vec(),
        executors: 2,
        executor: one,
        app_master: one,
        strategy: "spread".into(),
        ..AppSpec::default()
    }
}

fn submit(machine: &mut Machine, spec: AppSpec) -> AppId {
    match machine.request(2, Request::Submit(Box::new(spec))) {
        Reply::Submitted { app } => app,
        reply => panic!("{reply:?}"),
    }
}

fn status(machine: &mut Machine, app: AppId) -> AppStatus {
    match machine.request(2, Request::Apps) {
        Reply::Apps { stale: false, apps } => {
            apps.into_iter().find(|status| status.app == app).expect("it is known")
        }
        reply => panic!("{reply:?}"),
    }
}

fn cluster(machine: &mut Machine) -> ClusterStatus {
    match machine.request(2, Request::Cluster) {
        Reply::Cluster(status) => status,
        reply => panic!("{reply:?}"),
    }
}

/// The process of the app master that leads.
fn app_master(machine: &mut Machine, app: AppId) -> u64 {
    let end = machine.now + Duration::from_secs(40);
    loop {
        let term = status(machine, app).term;
        let process = ProcessId { app, role: Role::AppMaster(term) };
        if let Some((_, process)) = machine.child(process) {
            return process;
        }
        assert!(machine.now < end, "{app} has an app master: {:?}", machine.notices);
        machine.run(Duration::from_millis(50));
    }
}

fn figures(machine: &mut Machine, app: AppId) -> AppFigures {
    let master = app_master(machine, app);
    match machine.command(master, Command::Status) {
        Answer::Status(figures) => *figures,
        answer => panic!("{answer:?}"),
    }
}

fn runs_since(machine: &mut Machine, app: AppId, epoch: u64) -> AppFigures {
    let end = machine.now + Duration::from_secs(30);
    loop {
        let figures = figures(machine, app);
        if figures.committed >= Epoch(epoch) && figures.executors.len() == 2 {
            return figures;
        }
        assert!(machine.now < end, "it commits: {figures:?}");
        machine.run(Duration::from_millis(50));
    }
}

fn finish(machine: &mut Machine, app: AppId) {
    let end = machine.now + Duration::from_secs(50);
    let mut ended = None;
    while ended.is_none() {
        assert!(machine.now < end, "it ends: {:?}", machine.notices);
        machine.run(Duration::from_millis(200));
        ended = status(machine, app).outcome;
    }
    assert_eq!(ended, Some(AppOutcome::Finished), "{:?}", machine.notices);
}

#[test]
fn figures_tell_of_everything_that_runs() {
    let mut machine = Machine::new(2, NUMBERS);
    let app = submit(&mut machine, spec());
    runs_since(&mut machine, app, 3);
    machine.run(Duration::from_millis(1_200));
    let figures = figures(&mut machine, app);
    assert_eq!((figures.app, figures.term, figures.stage), (app, AppTerm(1), Stage::Running));
    let uids: Vec<_> = figures.processors.iter().map(|it| (it.uid.as_str(), it.kind)).collect();
    assert!(uids.contains(&("plain", ProcessorKind::Source)), "{uids:?}");
    assert!(uids.contains(&("counts", ProcessorKind::Sink)), "{uids:?}");
    let tasks: u32 = figures.processors.iter().map(|it| it.parallelism).sum();
    assert_eq!(figures.placement.len(), tasks as usize);
    assert!(figures.regions.iter().all(|region| region.state == RegionState::Running));
    let in_regions: usize = figures.regions.iter().map(|region| region.tasks.len()).sum();
    assert_eq!(in_regions, tasks as usize);
    assert!(figures.epochs.iter().any(|epoch| epoch.bytes > 0));
    assert!(figures.epochs.is_sorted_by(|a, b| a.epoch < b.epoch));
    assert!(figures.min_clock.is_some() && figures.records > 0);
    assert_eq!(figures.links.len(), 2);
    assert!(figures.links.values().all(|link| link.bytes_in > 0 && link.bytes_out > 0));
    let (mut read, mut sent) = (0, 0);
    for (executor, its) in &figures.executors {
        for (task, task_figures) in &its.tasks {
            assert_eq!(figures.placement[task], *executor);
            assert!(task_figures.epoch > Epoch(0), "{task_figures:?}");
            read += u64::from(task_figures.is_source) * task_figures.records_in;
            sent += task_figures.bytes_out;
        }
    }
    assert!(read > 0 && sent > 0);
    assert!(figures.audit.checked > 0, "there are channels between the executors");
    assert_eq!((figures.audit.gaps, figures.audit.duplicates), (0, 0));
    // An executor says the same of itself.
    let executor = *figures.executors.keys().next().expect("it was just seen");
    let process = ProcessId { app, role: Role::Executor(executor) };
    let (_, process) = machine.child(process).expect("it runs");
    let Answer::Figures(own) = machine.command(process, Command::Status) else { panic!() };
    assert_eq!(own.tasks.keys().collect::<Vec<_>>(), {
        figures.executors[&executor].tasks.keys().collect::<Vec<_>>()
    });
    finish(&mut machine, app);
    assert_eq!(visible(&machine.files), expected(NUMBERS));
}

#[test]
fn whoever_is_asked_for_what_it_does_not_do_says_who_does() {
    let mut machine = Machine::new(2, NUMBERS);
    let app = submit(&mut machine, spec());
    runs_since(&mut machine, app, 1);
    let master = app_master(&mut machine, app);
    let request = machine.command(
        master,
        Command::Request { id: gear_core::id::RequestId::default(), request: Request::Apps },
    );
    let Answer::Refused { reason } = request else { panic!("{request:?}") };
    assert!(reason.contains("ask a node"), "{reason}");
    let savepoint = machine.command(1, Command::Savepoint { name: "x".into() });
    let Answer::Refused { reason } = savepoint else { panic!("{savepoint:?}") };
    assert!(reason.contains("ask the app master"), "{reason}");
}

#[test]
fn a_node_finds_the_master_that_has_moved_and_says_when_there_is_none() {
    let mut machine = Machine::with_master_at("elsewhere", 2, NUMBERS);
    let id = gear_core::id::RequestId::default();
    let ask = || Command::Request { id, request: Request::Cluster };
    let Answer::Refused { reason } = machine.command(2, ask()) else { panic!("nobody answers") };
    assert!(reason.contains("node 1 at elsewhere"), "{reason}");
    machine.known(2, 1);
    let Answer::Reply(Reply::Cluster(status)) = machine.command(2, ask()) else {
        panic!("it is found")
    };
    assert!(!status.stale);
    // From the masters' orders it knows the place since, as any other would.
    machine.run(Duration::from_secs(1));
    let status = cluster(&mut machine);
    assert!(status.workers[&NodeId(2)].alive);
    assert_eq!(status.voters[&NodeId(1)].0, "node-1");
}

#[test]
fn an_app_outlasts_a_drain_of_the_node_that_it_runs_on() {
    let mut machine = Machine::new(3, NUMBERS);
    let app = submit(&mut machine, spec());
    runs_since(&mut machine, app, 2);
    let (node, _) = *machine.children().last().expect("it runs");
    let drain = Request::Drain { node: NodeId(node), drains: true };
    assert_eq!(machine.request(2, drain), Reply::Done);
    machine.until("drained", |it| it.children().iter().all(|(on, _)| *on != node));
    machine.run(Duration::from_millis(500));
    let worker = &cluster(&mut machine).workers[&NodeId(node)];
    assert!(worker.drains && worker.alive && worker.processes.is_empty());
    assert!(status(&mut machine, app).restarts > 0);
    finish(&mut machine, app);
    assert_eq!(visible(&machine.files), expected(NUMBERS));
}

#[test]
fn an_app_that_is_restarted_goes_on_where_it_was() {
    let mut machine = Machine::new(2, NUMBERS);
    let old = submit(&mut machine, spec());
    runs_since(&mut machine, old, 2);
    let Reply::Submitted { app: new } = machine.request(1, Request::Restart { app: old }) else {
        panic!("it is taken")
    };
    let figures = runs_since(&mut machine, new, 1);
    assert_eq!(status(&mut machine, old).outcome, Some(AppOutcome::Stopped));
    assert!(figures.recovered > Epoch(1) && figures.term > AppTerm(1));
    finish(&mut machine, new);
    assert_eq!(visible(&machine.files), expected(NUMBERS), "each exactly once");
}

#[test]
fn an_app_begins_from_a_savepoint_of_another() {
    let mut machine = Machine::new(2, NUMBERS);
    let old = submit(&mut machine, spec());
    runs_since(&mut machine, old, 2);
    let master = app_master(&mut machine, old);
    let made = machine.command(master, Command::Savepoint { name: "before".into() });
    let Answer::Savepoint { epoch } = made else { panic!("{made:?}") };
    let kill = Request::Wish { app: old, wish: Wish::Kill };
    assert_eq!(machine.request(1, kill), Reply::Done);
    machine.until("nothing runs", |it| it.children().is_empty());
    let before = machine.files.clone();
    let folder = status(&mut machine, old).spec.state;
    let from = Some(format!("{folder}/savepoints/before"));
    let new = submit(&mut machine, AppSpec { from, ..spec() });
    let figures = runs_since(&mut machine, new, epoch.0 + 1);
    assert_eq!((figures.recovered, figures.term), (epoch, AppTerm(new.0 * TERMS_PER_APP)));
    finish(&mut machine, new);
    // What the old app had made visible since the savepoint is made again, and nothing before it.
    let mut fresh = machine.files.clone();
    fresh.retain(|path, _| !(path.starts_with(OUT) && before.contains_key(path)));
    let (rows, all) = (visible(&fresh), expected(NUMBERS));
    let count = |rows: &std::collections::BTreeMap<_, u64>| rows.values().sum::<u64>();
    assert!(rows.iter().all(|(row, count)| count <= &all[row]), "nothing is doubled");
    assert!(count(&rows) > 0 && count(&rows) < count(&all), "it did not begin anew");
    let seen = visible(&machine.files);
    assert!(all.keys().all(|row| seen.contains_key(row)), "nothing is missing");
}
