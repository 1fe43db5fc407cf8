//! From one process of the operating system to another, over loopback.

mod counted;
mod framed;
mod machine;
mod masters;
mod raw;
mod tls;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

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
use gear_core::time::{Duration, seconds};
use gear_net::runtime::{Runtime, TransportChoice, spawned};
use gear_net::tcp::Tcp;
use gear_net::tls::Tls;
use gear_net::{EventLoop, Limits, Listener, Transport};

use hdrhistogram::Histogram;

use crate::jobs::{self, How};
use crate::row::{Row, Target};
use crate::threads::{Hundred, parse};
use crate::{keyed, latency};
use machine::drivers;
use masters::{Led, MASTERS};

/// The argument that makes this program one end of a pair.
pub(crate) const CHILD: &str = "--wire-child";

/// What is in front of the seconds that a process has used of the processor.
const USED: &str = "used ";
/// What is in front of what a sink has measured: only one of the processes has it.
const MEASURED: &str = "measured ";

/// What is printed of the latency.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Exactly once, as jobs run unless they are told otherwise.
const EPOCHS: Option<Duration> = Some(seconds(1));

const APP: AppId = AppId(1);
const CLUSTER: u64 = 1;
const TOKEN: u64 = 1;

/// Records of a run: enough for some epochs of a second. In the environment, so that all processes
/// have the same.
pub(crate) fn records() -> u64 {
    const RECORDS: u64 = 50_000_000;
    let set = std::env::var("FIGURES_RECORDS").ok();
    set.map_or(RECORDS, |text| text.parse().expect("FIGURES_RECORDS is a number"))
}

pub(crate) fn rows() -> Vec<Row> {
    let latency = |name, quantile: f64, target| {
        Row::beside(name, "us", Target::AtMost(target), "a bare socket", move || {
            (
                Box::new(move || {
                    let (values, _) = pair("latency", "epoll", EPOCHS);
                    values[QUANTILES.iter().position(|it| *it == quantile).unwrap()]
                }),
                Box::new(move || raw::latency(quantile)),
            )
        })
    };
    vec![
        Row::against(
            "two processes, 100-byte records",
            "M records/s",
            0.75,
            "raw TCP, the best of 5 sizes of a write",
            || (Box::new(|| one_way("epoll")), Box::new(raw::best)),
        ),
        Row::against(
            "two bare processes, frames as Gear's links",
            "M records/s",
            0.75,
            "raw TCP, the best of 5 sizes of a write",
            || (Box::new(framed::receive), Box::new(raw::best)),
        ),
        Row::against("two processes over io_uring", "M records/s", 0.95, "over epoll", || {
            (Box::new(|| one_way("io_uring")), Box::new(|| one_way("epoll")))
        }),
        Row::against("two processes over mTLS", "M records/s", 0.6, "a bare rustls pair", || {
            (Box::new(|| one_way("tls")), Box::new(tls::bare))
        }),
        Row::against(
            "two processes, keyed count, 1 M keys",
            "M records/s",
            0.6,
            "plain loop, same hash",
            || (Box::new(|| keyed(None)), Box::new(|| keyed::plain(records()))),
        ),
        Row::against(
            "two processes, keyed count, epochs of 1 s",
            "M records/s",
            0.95,
            "without epochs",
            || (Box::new(|| keyed(EPOCHS)), Box::new(|| keyed(None))),
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
        ["framed", to] => framed::send(to),
        ["paced", to] => raw::pace(to),
        ["tls", to, store] => tls::send(to, Path::new(store)),
        ["executor", job, transport, id, store] => {
            let id = ExecutorId(id.parse().unwrap());
            executor(job, transport, id, Path::new(store));
        }
        _ => panic!("unknown arguments {arguments:?}"),
    }
    println!("{USED}{}", jobs::cpu(libc::CLOCK_PROCESS_CPUTIME_ID).as_secs_f64());
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

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_string()
}

/// The seconds that a process without a sink has used of the processor.
fn used(output: &mut impl BufRead) -> f64 {
    line(output).strip_prefix(USED).unwrap().parse().unwrap()
}

/// What a sink measures of the way of each record, in nanoseconds.
type Found = Arc<Mutex<Histogram<u64>>>;

fn found() -> Found {
    Arc::new(Mutex::new(Histogram::new(3).unwrap()))
}

fn job(name: &str, found: &Found) -> Job {
    jobs::job(How::on_threads(2), |app| match name {
        "records" => {
            app.source("records", Hundred::new(records())).sink("parse", raw::timed(parse()));
        }
        "keyed" => keyed::describe(app, records(), counted::sink(records())),
        _ => latency::describe(app, found),
    })
}

fn order(role: Role) -> LaunchOrder {
    let process = ProcessId { app: APP, role };
    LaunchOrder { process, spec: AppSpec::default(), token: TOKEN }
}

/// Runs a process to its end.
fn drive<P: Process + 'static>(
    process: P,
    transport: &str,
    store: &Path,
    listens: impl FnOnce(Address),
) {
    let choice =
        if transport == "io_uring" { TransportChoice::Uring } else { TransportChoice::Epoll };
    let runtime = Runtime::new(choice).unwrap();
    let sockets = runtime.sockets(Tcp::new());
    if transport == "tls" {
        let tls = Tls::new(sockets, &tls::files(store)).unwrap();
        runtime.block_on(run(process, tls, store, listens));
    } else {
        runtime.block_on(run(process, sockets, store, listens));
    }
}

async fn run<P: Process + 'static, T: Transport>(
    process: P,
    transport: T,
    store: &Path,
    listens: impl FnOnce(Address),
) {
    let listener = transport.listen(&Address("127.0.0.1:0".into())).await.unwrap();
    listens(listener.address());
    let drivers = drivers(transport, store);
    let running = EventLoop::new(process, listener, drivers, Limits::default());
    let reason = spawned(running.run()).await;
    assert!(["finished", "the app has ended"].contains(&reason.as_str()), "{reason}");
}

fn executor(name: &str, transport: &str, id: ExecutorId, store: &Path) {
    let found = found();
    let Job { graph, factories, .. } = job(name, &found);
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
    let found = found.lock().unwrap();
    if !found.is_empty() {
        let values = QUANTILES.map(|it| (found.value_at_quantile(it) as f64 / 1e3).to_string());
        println!("{MEASURED}{}", values.join(" "));
    }
}

/// Records from one to the other.
fn one_way(transport: &str) -> f64 {
    let (values, used) = pair("records", transport, EPOCHS);
    rate(values[0], &used)
}

/// Numbers of a source in one process, counted by key in the other one. The counts go to a sink
/// beside the source.
fn keyed(epochs: Option<Duration>) -> f64 {
    let (values, used) = pair("keyed", "epoll", epochs);
    rate(values[0], &used)
}

/// Runs a job in two processes, its app master here; gives what the sink has measured, and the
/// seconds that each process has used of the processor.
fn pair(name: &str, transport: &str, epochs: Option<Duration>) -> (Vec<f64>, Vec<f64>) {
    let folder = jobs::temporary();
    let store: PathBuf = folder.path().join("store");
    std::fs::create_dir_all(&store).unwrap();
    tls::make(&store);
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
        plan: plan(&job(name, &found()), epochs),
    };
    let app = Led::new(AppProcess::new(config), executors);
    drive(app, transport, &store, |_| {});
    let (mut values, mut used) = (Vec::new(), Vec::new());
    for (mut child, output) in children {
        for line in output.lines().map(Result::unwrap) {
            if let Some(seconds) = line.strip_prefix(USED) {
                used.push(seconds.parse().unwrap());
            } else if let Some(found) = line.strip_prefix(MEASURED) {
                values = found.split(' ').map(|value| value.parse().unwrap()).collect();
            }
        }
        let status = child.wait().unwrap();
        assert!(status.success(), "an executor has ended with {status}");
    }
    (values, used)
}

/// M records/s by the time that passed; or by what the busier of the processes has used of the
/// processor, on a machine that others use.
fn rate(passed: f64, used: &[f64]) -> f64 {
    let busier = used.iter().copied().fold(0.0, f64::max);
    let seconds = if jobs::BY_CPU.load(Ordering::Relaxed) { busier } else { passed };
    records() as f64 / seconds / 1e6
}

/// A job with one task of each processor, of which neighbours sit apart.
fn plan(job: &Job, epochs: Option<Duration>) -> AppPlan {
    let identity = Identity { app: "wire".into(), digest: 1, arguments: String::new() };
    let mut plan = AppPlan::new(identity, 1);
    plan.epoch_interval = epochs;
    for (id, processor) in job.graph.with_ids() {
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
    }
    let task = |processor| TaskId { processor, index: 0 };
    let channels = job.graph.edges.iter().map(|edge| (task(edge.from), task(edge.to))).collect();
    plan.placement = Placement::Executors { wanted: 2, channels };
    plan
}
