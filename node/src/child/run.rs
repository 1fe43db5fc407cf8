//! A job's binary as a process of a cluster: an app master, or an executor.

use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use gear_core::control::{Address, Role};
use gear_core::host::process::Process;
use gear_core::host::{AppConfig, AppProcess, ExecutorConfig, ExecutorProcess, NoFaults};
use gear_net::runtime::spawned;
use gear_net::{EventLoop, Handle, Limits, Listener, Transport as _};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::protocol::{FromChild, Launch, ToChild, read, write};
use crate::command::{Called, start_logging};
use crate::drivers::{IoThread, RemoteStore, of_job};
use crate::store::CheckpointStore;
use crate::wire::{Wire, Wiring};

/// What a process ends with whose worker is gone.
const ORPHAN: i32 = 3;

/// Understands the arguments with which a job was submitted.
type Parse<'a> = dyn Fn(&[String]) -> Result<Called<'a>, clap::Error> + 'a;

/// Runs the process that the worker at the other end of standard input wants.
pub(crate) fn run(name: &str, parse: &Parse<'_>) -> ExitCode {
    let services = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("gear-services")
        .enable_all()
        .build();
    let services = match services {
        Ok(services) => services,
        Err(error) => return failed(name, &error.to_string()),
    };
    let mut worker = match Worker::meet(&services) {
        Ok(worker) => worker,
        Err(reason) => return failed(name, &reason),
    };
    let Some(launch) = worker.launch() else {
        return failed(name, "the worker that had started this process is gone");
    };
    start_logging(&launch.log);
    let folder = std::env::current_dir().unwrap_or_default();
    tracing::info!(target: "gear", "relative paths of this process begin at {}", folder.display());
    let living = AssertUnwindSafe(|| live(name, *launch, parse, &services, &mut worker));
    let reason = match catch_unwind(living) {
        Ok(Ok(reason) | Err(reason)) => reason,
        Err(_) => "it panicked outside of a job's operator; this is a defect of Gear: please \
                   report it, with the process's log"
            .into(),
    };
    tracing::info!(target: "gear", "this process ends: {reason}");
    worker.end(reason);
    ExitCode::SUCCESS
}

fn failed(name: &str, reason: &str) -> ExitCode {
    eprintln!("{name}: it cannot run as a process of a cluster: {reason}");
    ExitCode::FAILURE
}

/// A message on its way to the worker, and who waits until it is written.
type Said = (FromChild, Option<oneshot::Sender<()>>);

/// The worker, as this process knows it.
struct Worker {
    say: UnboundedSender<Said>,
    launched: Option<oneshot::Receiver<Box<Launch>>>,
    handle: Option<oneshot::Sender<Handle>>,
}

impl Worker {
    /// Speaks with the worker on the threads of `services`, so that nothing that a job does keeps
    /// this process from hearing that its worker is gone.
    fn meet(services: &Runtime) -> Result<Self, String> {
        let input = std::io::stdin().as_fd().try_clone_to_owned();
        let stream = std::os::unix::net::UnixStream::from(input.map_err(|it| it.to_string())?);
        let inside = services.enter();
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        drop(inside);
        let stream = stream.map_err(|error| {
            format!("only a worker of gear-node can start it, with GEAR_CHILD set: {error}")
        })?;
        let (reading, mut writing) = stream.into_split();
        let (say, mut saying) = unbounded_channel::<Said>();
        services.spawn(async move {
            while let Some((message, written)) = saying.recv().await {
                // Whether the worker is gone is for the other half to find out.
                let _ = write(&mut writing, &message).await;
                if let Some(written) = written {
                    let _ = written.send(());
                }
            }
        });
        let (launch, launched) = oneshot::channel();
        let (handle, handled) = oneshot::channel();
        services.spawn(hear(reading, launch, handled, say.clone()));
        Ok(Self { say, launched: Some(launched), handle: Some(handle) })
    }

    /// Waits for what this process is to be.
    fn launch(&mut self) -> Option<Box<Launch>> {
        self.launched.take()?.blocking_recv().ok()
    }

    /// The process listens, and can be asked.
    fn running(&mut self, address: Address, handle: Handle) {
        if let Some(to) = self.handle.take() {
            let _ = to.send(handle);
        }
        let _ = self.say.send((FromChild::Running { address }, None));
    }

    /// Says why this process ends, and waits until that is said.
    fn end(self, reason: String) {
        let (written, done) = oneshot::channel();
        let _ = self.say.send((FromChild::Ended { reason }, Some(written)));
        let _ = done.blocking_recv();
    }
}

/// Hears the worker for as long as there is one; without it, this process has no reason to be.
async fn hear(
    mut reading: OwnedReadHalf,
    launch: oneshot::Sender<Box<Launch>>,
    handled: oneshot::Receiver<Handle>,
    say: UnboundedSender<Said>,
) {
    let first = read(&mut reading).await;
    let Ok(Some(ToChild::Launch(launched))) = first else {
        eprintln!("no worker says what this process is to be: {first:?}");
        std::process::exit(ORPHAN);
    };
    // Whoever waits for it ends the process if it cannot be.
    let _ = launch.send(launched);
    let handle = tokio::select! {
        biased;
        handle = handled => handle,
        // Nothing is said before the process listens, so this is the worker's end.
        _ = read::<ToChild>(&mut reading) => std::process::exit(ORPHAN),
    };
    let Ok(handle) = handle else { return };
    while let Ok(Some(message)) = read(&mut reading).await {
        let ToChild::Command { id, command } = message else { break };
        let (handle, say) = (handle.clone(), say.clone());
        tokio::spawn(async move {
            let answer = Box::new(handle.command(command).await);
            let _ = say.send((FromChild::Answer { id, answer }, None));
        });
    }
    std::process::exit(ORPHAN);
}

/// Is what the worker wants, until that ends.
fn live(
    name: &str,
    launch: Launch,
    parse: &Parse<'_>,
    services: &Runtime,
    worker: &mut Worker,
) -> Result<String, String> {
    let spec = &launch.order.spec;
    let called = parse(&spec.arguments).map_err(|error| error.to_string())?;
    let job = called.build(name).map_err(|error| error.to_string())?;
    let store = CheckpointStore::open(&launch.checkpoints).map_err(|error| error.to_string())?;
    let store = RemoteStore::new(services.handle().clone(), &store, &spec.state);
    let io = IoThread::start().map_err(|error| format!("a thread cannot be started: {error}"))?;
    let Launch { order, cluster, incarnation, masters, bind, wiring, .. } = launch;
    let at = Address(format!("{bind}:0"));
    let run = Run { wiring, at, store, io };
    match order.process.role {
        Role::AppMaster(_) => {
            let plan = called.plan(&job, order.spec.executors)?;
            let config = AppConfig { cluster, order, incarnation, masters, plan };
            run.run(AppProcess::<NoFaults>::new(config), worker)
        }
        Role::Executor(_) => {
            let program = Arc::new(called.program(&job));
            let memory = usize::try_from(order.spec.executor.memory).unwrap_or(usize::MAX);
            let config = ExecutorConfig { cluster, order, incarnation, program, memory };
            run.run(ExecutorProcess::<NoFaults>::new(config), worker)
        }
    }
}

/// What a process runs with.
struct Run {
    wiring: Wiring,
    at: Address,
    store: RemoteStore,
    io: IoThread,
}

impl Run {
    /// Runs a process on this thread until it ends, and gives its reason.
    fn run<P: Process + 'static>(self, process: P, worker: &mut Worker) -> Result<String, String> {
        let Self { wiring, at, store, io } = self;
        let (runtime, transport) = wiring.connect().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let listener = transport.listen(&at).await.map_err(|error| error.to_string())?;
            let address = Listener::<Wire>::address(&listener);
            let drivers = of_job(transport, store, io);
            let running = EventLoop::new(process, listener, drivers, Limits::default());
            worker.running(address, running.handle());
            Ok(spawned(running.run()).await)
        })
    }
}
