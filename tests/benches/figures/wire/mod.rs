//! From one process of the operating system to another, over loopback.

mod latency;
mod machine;
mod masters;
mod raw;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use gear_connectors::os::OsFiles;
use gear_core::app::{AppPlan, Placement, ProcessorPlan};
use gear_core::checkpoint::Identity;
use gear_core::control::{Address, AppSpec, LaunchOrder, ProcessId, Role};
use gear_core::dag::Kind;
use gear_core::dsl::Job;
use gear_core::executor::Program;
use gear_core::host::process::Process;
use gear_core::host::{AppConfig, AppProcess, ExecutorConfig, ExecutorProcess, NoFaults};
use gear_core::id::{AppId, AppTerm, ExecutorId, Incarnation, TaskId};
use gear_core::task::{QuarantinePolicy, TaskOptions};
use gear_core::time::seconds;
use gear_net::tcp::Tcp;
use gear_net::{EventLoop, Limits, Listener, Transport};

use crate::jobs::{self, How};
use crate::row::{Row, Target};
use crate::threads::{Hundred, parse};
use machine::drivers;
use masters::{Led, MASTERS};

/// The argument that makes this program one end of a pair.
pub(crate) const CHILD: &str = "--wire-child";

const APP: AppId = AppId(1);
const CLUSTER: u64 = 1;
const TOKEN: u64 = 1;
pub(crate) const RECORDS: u64 = 100_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let latency = |name, quantile: f64, target| {
        Row::alone(name, "us", Target::AtMost(target), move || {
            Box::new(move || pair("latency", "epoll", Some(quantile)))
        })
    };
    vec![
        Row::against(
            "two processes, 100-byte records",
            "M records/s",
            0.75,
            "raw TCP, the best of 5 sizes of a write",
            || (Box::new(|| pair("records", "epoll", None)), Box::new(raw::best)),
        ),
        latency("two processes at 50,000 records/s, p50", 0.5, 100.0),
        latency("two processes at 50,000 records/s, p99", 0.99, 1_000.0),
        latency("two processes at 50,000 records/s, p99.9", 0.999, 5_000.0),
    ]
}

/// One end of a pair, by the arguments behind [`CHILD`].
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["raw", to, size] => raw::send(to, size.parse().unwrap()),
        ["executor", job, transport, id, store] => {
            let id = ExecutorId(id.parse().unwrap());
            executor(job, transport, id, Path::new(store));
        }
        _ => panic!("unknown arguments {arguments:?}"),
    }
    ExitCode::SUCCESS
}

/// This program again, with its output to be read.
fn launch(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .arg(CHILD)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn line(output: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_string()
}

fn job(name: &str) -> Job {
    jobs::job(How::on_threads(2), |app| match name {
        "records" => {
            app.source("records", Hundred::new(RECORDS)).sink("parse", raw::timed(parse()));
        }
        _ => latency::describe(app),
    })
}

fn order(role: Role) -> LaunchOrder {
    let process = ProcessId { app: APP, role };
    LaunchOrder { process, spec: AppSpec::default(), token: TOKEN }
}

/// Runs a process to its end.
fn drive<P: Process>(process: P, transport: &str, store: &Path, listens: impl FnOnce(Address)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    match transport {
        "epoll" => local.block_on(&runtime, run(process, Tcp::new(), store, listens)),
        other => panic!("unknown transport {other}"),
    }
}

async fn run<P: Process, T: Transport>(
    process: P,
    transport: T,
    store: &Path,
    listens: impl FnOnce(Address),
) {
    let listener = transport.listen(&Address("127.0.0.1:0".into())).await.unwrap();
    listens(listener.address());
    let drivers = drivers(transport, store);
    let reason = EventLoop::new(process, listener, drivers, Limits::default()).run().await;
    assert!(["finished", "the app has ended"].contains(&reason.as_str()), "{reason}");
}

fn executor(name: &str, transport: &str, id: ExecutorId, store: &Path) {
    let Job { graph, factories, .. } = job(name);
    let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
    let config = ExecutorConfig {
        cluster: CLUSTER,
        order: order(Role::Executor(id)),
        incarnation: Incarnation(u64::from(id.0) + 2),
        program: Arc::new(Program { graph, factories, options }),
        memory: 0,
    };
    let process = ExecutorProcess::<NoFaults>::new(config);
    drive(process, transport, store, |address| println!("{address}"));
}

/// Runs a job in two processes, its app master here; gives what the sink has measured.
fn pair(name: &str, transport: &str, quantile: Option<f64>) -> f64 {
    let folder = jobs::temporary();
    let store: PathBuf = folder.path().join("store");
    std::fs::create_dir_all(&store).unwrap();
    let mut children = Vec::new();
    let mut executors = BTreeMap::new();
    for id in 0..2 {
        let number = id.to_string();
        let arguments = ["executor", name, transport, &number, store.to_str().unwrap()];
        let (child, mut output) = launch(&arguments);
        executors.insert(ExecutorId(id), Address(line(&mut output)));
        children.push((child, output));
    }
    let config = AppConfig {
        cluster: CLUSTER,
        order: order(Role::AppMaster(AppTerm(1))),
        incarnation: Incarnation(1),
        masters: BTreeMap::from([(MASTERS, masters::address())]),
        plan: plan(&job(name)),
    };
    let app = Led::new(AppProcess::new(config), executors);
    drive(app, transport, &store, |_| {});
    let (_, output) = &mut children[1];
    let result = line(output);
    for (child, _) in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let values: Vec<f64> = result.split(' ').map(|value| value.parse().unwrap()).collect();
    match quantile {
        None => values[0],
        Some(quantile) => values[latency::QUANTILES.iter().position(|it| *it == quantile).unwrap()],
    }
}

/// A job with an epoch each second, its first processor on one executor and its last on another.
fn plan(job: &Job) -> AppPlan {
    let identity = Identity { app: "wire".into(), digest: 1, arguments: String::new() };
    let mut plan = AppPlan::new(identity, 1);
    plan.epoch_interval = Some(seconds(1));
    let mut placement = Vec::new();
    for (number, (id, processor)) in (0..).zip(job.graph.with_ids()) {
        let source = job.sources.iter().find(|source| source.processor == id);
        let files = &mut OsFiles::default();
        plan.processors.push(ProcessorPlan {
            id,
            uid: processor.uid.clone(),
            parallelism: 1,
            source: processor.kind == Kind::Source,
            sink: processor.kind == Kind::Sink,
            partitions: source
                .map_or_else(Vec::new, |source| source.connector.partitions(files).unwrap()),
            discovers: false,
        });
        placement.push((TaskId { processor: id, index: 0 }, ExecutorId(number)));
    }
    plan.placement = Placement::Fixed(placement);
    plan
}
