//! The children of a node: launches jobs' binaries, hears how they are doing, and ends them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gear_core::control::{Address, LaunchOrder, ProcessId, Role};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{Incarnation, NodeId};
use gear_net::{ChildEvents, Children};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command as Program};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cgroups::{CgroupError, Cgroups, Place};
use super::protocol::{CHILD, FromChild, Launch, ToChild, read, write};
use super::table::{Asked, ChildInfo, ChildState, ChildTable};
use crate::binaries::Binaries;
use crate::logs::Log;
use crate::wire::Wiring;

/// What of the node's environment a job's process is given: where programs and folders are, which
/// language and time zone, what Rust prints of a panic, and where an HDFS is, for whom, and which
/// files have the tickets and keys of Kerberos. Nothing of the node's secrets is there; besides, it
/// has what the checkpoint store is opened with.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "HADOOP_CONF_DIR",
    "HADOOP_HOME",
    "HADOOP_USER_NAME",
    "HADOOP_PROXY_USER",
    "HADOOP_TOKEN_FILE_LOCATION",
    "KRB5_CONFIG",
    "KRB5CCNAME",
    "KRB5_CLIENT_KTNAME",
    "GEAR_HDFS_CALL_SECONDS",
    "GEAR_HDFS_WAIT_SECONDS",
];
/// Time between two looks at how a child is doing.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a child's output that are read at once.
const OUTPUT_BYTES: usize = 16 * 1_024;
/// How long the output of a child that has ended is waited for: what it has started itself may
/// hold it open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a child may take until it listens; it reads its binary, and its job is built.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages to a child, or from it, that wait.
const TALK_MAX: usize = 64;
/// Names the command by which a node looks at how a child is doing; all others are higher.
const LOOK: u64 = 0;
/// Tries to run a binary that is busy, and the time between them: forks are short.
const BUSY_RETRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What a node's children have in common.
pub(crate) struct Home {
    /// The cluster.
    pub(crate) cluster: u64,
    /// The voters, as last heard.
    pub(crate) masters: Arc<Mutex<BTreeMap<NodeId, Address>>>,
    /// The URL of the checkpoint store.
    pub(crate) checkpoints: String,
    /// The host at which children listen.
    pub(crate) bind: String,
    /// How they reach others, and others reach them.
    pub(crate) wiring: Wiring,
    /// The folder of the logs.
    pub(crate) logs: PathBuf,
    /// What children log, as a filter.
    pub(crate) log: String,
    /// The jobs' binaries.
    pub(crate) binaries: Binaries,
    /// Who runs.
    pub(crate) table: ChildTable,
    /// The control groups of the children; none if they have none.
    pub(crate) cgroups: Option<Arc<Cgroups>>,
}

/// The children of a node.
pub(crate) struct Family {
    home: Rc<Home>,
    launches: u64,
    /// What ends a child, of the last launch of each process.
    running: BTreeMap<ProcessId, Rc<Notify>>,
    tasks: JoinSet<ProcessId>,
}

impl Family {
    /// Nobody yet.
    pub(crate) fn new(home: Home) -> Self {
        Self { home: Rc::new(home), launches: 0, running: BTreeMap::new(), tasks: JoinSet::new() }
    }
}

impl Children for Family {
    fn spawn(&mut self, order: LaunchOrder, events: ChildEvents) {
        while self.tasks.try_join_next().is_some() {}
        self.launches += 1;
        let (home, launch, process) = (Rc::clone(&self.home), self.launches, order.process);
        let end = Rc::new(Notify::new());
        self.running.insert(process, Rc::clone(&end));
        self.running.retain(|_, end| Rc::strong_count(end) > 1);
        let asked = home.table.starts(process, launch);
        self.tasks.spawn_local(async move {
            let one = One { home, process, launch, events };
            let reason = one.live(order, asked, &end).await;
            one.note(|info| {
                info.state = ChildState::Exited { reason: reason.clone(), at: SystemTime::now() };
            });
            tracing::info!(target: "gear", "the {process} has ended: {reason}");
            one.events.exited(process, reason);
            process
        });
    }

    fn kill(&mut self, process: ProcessId) {
        if let Some(end) = self.running.get(&process) {
            end.notify_one();
        }
    }
}

/// One launch of a process.
struct One {
    home: Rc<Home>,
    process: ProcessId,
    launch: u64,
    events: ChildEvents,
}

/// A child that has been started: itself, and the two ways to it.
struct Started {
    child: Child,
    place: Option<Place>,
    said: mpsc::Receiver<FromChild>,
    say: mpsc::Sender<ToChild>,
    /// The tasks that listen, speak and keep what is printed; dropped, they end.
    tasks: JoinSet<()>,
}

impl One {
    fn note(&self, note: impl FnOnce(&mut ChildInfo)) {
        self.home.table.note(self.process, self.launch, note);
    }

    /// From the launch to the end, and why it came.
    async fn live(
        &self,
        order: LaunchOrder,
        mut asked: mpsc::Receiver<Asked>,
        end: &Notify,
    ) -> String {
        let started = tokio::select! {
            biased;
            () = end.notified() => return "it was told to end before it had begun".into(),
            started = self.start(order) => started,
        };
        let mut started = match started {
            Ok(started) => started,
            Err(reason) => return format!("it could not be launched: {reason}"),
        };
        let mut talk = Talk::default();
        let mut looks = interval(STATUS_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let status = loop {
            tokio::select! {
                biased;
                status = started.child.wait() => break status,
                () = end.notified() => {
                    talk.reason = Some("it was told to end".into());
                    kill(&started.child);
                }
                Some(message) = started.said.recv() => self.hear(message, &mut talk),
                Some(asked) = asked.recv(), if talk.listens => talk.ask(asked, &started.say),
                _ = looks.tick() => {
                    talk.look(&started.say);
                    if !talk.listens && begun.elapsed() > START_TIMEOUT {
                        let most = START_TIMEOUT.as_secs();
                        talk.reason = Some(format!("it did not listen within {most} s"));
                        kill(&started.child);
                    }
                }
            }
        };
        let over = started.place.as_ref().and_then(Place::over);
        if let Some(place) = started.place.take() {
            place.end().await;
        }
        // What it said last is still on its way; what it has started itself may hold its output.
        let last = async {
            while let Some(message) = started.said.recv().await {
                self.hear(message, &mut talk);
            }
            while started.tasks.join_next().await.is_some() {}
        };
        let _ = timeout(OUTPUT_TIMEOUT, last).await;
        over.or(talk.reason).unwrap_or_else(|| match status {
            Ok(status) => describe(status),
            Err(error) => format!("nobody knows how it ended: {error}"),
        })
    }

    fn hear(&self, message: FromChild, talk: &mut Talk) {
        match message {
            FromChild::Running { address } => {
                talk.listens = true;
                self.note(|info| info.state = ChildState::Running { address: address.clone() });
                self.events.running(self.process, address);
            }
            FromChild::Answer { id: LOOK, answer } => {
                talk.looks = false;
                self.note(|info| info.status = Some(*answer));
            }
            FromChild::Answer { id, answer } => {
                if let Some(asker) = talk.asked.remove(&id) {
                    // Who does not wait any more does not mind.
                    let _ = asker.send(*answer);
                }
            }
            FromChild::Ended { reason } => {
                talk.reason.get_or_insert(reason);
            }
        }
    }

    /// Has the binary run, and tells it what to be.
    async fn start(&self, order: LaunchOrder) -> Result<Started, String> {
        let binary = self.home.binaries.get(&order.spec.binary).await;
        let binary = binary.map_err(|error| error.to_string())?;
        let text = |error: io::Error| error.to_string();
        let log = Log::open(&self.home.logs, self.process);
        let log = Rc::new(RefCell::new(log.map_err(|error| format!("its log: {error}"))?));
        let (here, there) = std::os::unix::net::UnixStream::pair().map_err(text)?;
        here.set_nonblocking(true).map_err(text)?;
        let here = UnixStream::from_std(here).map_err(text)?;
        let title = format!("{}: {}", order.spec.name, self.process);
        let child = spawn(&binary, &title, &self.home.checkpoints, OwnedFd::from(there)).await;
        let mut child = child.map_err(|error| format!("{}: {error}", binary.display()))?;
        self.note(|info| info.pid = child.id());
        // It waits for its launch, so that it has taken and started nothing yet.
        let place = self.confine(&order, child.id()).map_err(|error| error.to_string())?;
        let launch = ToChild::Launch(Box::new(self.home.launch(order)));
        let (reading, writing) = here.into_split();
        let (hear, said) = mpsc::channel(TALK_MAX);
        let (say, saying) = mpsc::channel(TALK_MAX);
        say.try_send(launch).expect("it is the first");
        let mut tasks = JoinSet::new();
        tasks.spawn_local(listen(reading, hear));
        tasks.spawn_local(speak(writing, saying));
        if let Some(out) = child.stdout.take() {
            tasks.spawn_local(print(out, Rc::clone(&log)));
        }
        if let Some(err) = child.stderr.take() {
            tasks.spawn_local(print(err, log));
        }
        Ok(Started { child, place, said, say, tasks })
    }

    /// Puts the process into a control group, if it is to have one.
    fn confine(&self, order: &LaunchOrder, pid: Option<u32>) -> Result<Option<Place>, CgroupError> {
        let (Some(groups), Some(pid)) = (&self.home.cgroups, pid) else { return Ok(None) };
        let granted = match self.process.role {
            Role::AppMaster(_) => order.spec.app_master,
            Role::Executor(_) => order.spec.executor,
        };
        groups.confine(self.process, self.launch, granted, pid)
    }
}

impl Home {
    fn launch(&self, order: LaunchOrder) -> Launch {
        let masters = self.masters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Launch {
            order,
            cluster: self.cluster,
            incarnation: Incarnation(crate::security::draw()),
            masters,
            checkpoints: self.checkpoints.clone(),
            bind: self.bind.clone(),
            wiring: self.wiring.clone(),
            log: self.log.clone(),
        }
    }
}

/// What a child has been asked, and has said.
#[derive(Default)]
struct Talk {
    listens: bool,
    /// True while the answer to a look is awaited.
    looks: bool,
    /// Commands that were sent.
    number: u64,
    asked: BTreeMap<u64, oneshot::Sender<Answer>>,
    reason: Option<String>,
}

impl Talk {
    fn ask(&mut self, (command, asker): Asked, say: &mpsc::Sender<ToChild>) {
        self.number += 1;
        let id = LOOK + self.number;
        if say.try_send(ToChild::Command { id, command }).is_ok() {
            self.asked.insert(id, asker);
        } else {
            let reason = "the process does not keep up with commands: ask again later".into();
            let _ = asker.send(Answer::Refused { reason });
        }
    }

    fn look(&mut self, say: &mpsc::Sender<ToChild>) {
        let asks = self.listens && !self.looks;
        if asks && say.try_send(ToChild::Command { id: LOOK, command: Command::Status }).is_ok() {
            self.looks = true;
        }
    }
}

/// Runs a job's binary, in a process group of its own and under a name that people recognise.
async fn spawn(binary: &Path, title: &str, checkpoints: &str, input: OwnedFd) -> io::Result<Child> {
    let input = File::from(input);
    for _ in 0..BUSY_RETRIES {
        let mut program = Program::new(binary);
        program.arg0(title).env_clear().env(CHILD, "1").process_group(0).kill_on_drop(true);
        program.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        program.envs(crate::store::environment(checkpoints));
        program.stdin(input.try_clone()?).stdout(Stdio::piped()).stderr(Stdio::piped());
        match program.spawn() {
            // Another child was started while the file was written, and still has it open.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                sleep(BUSY_PAUSE).await;
            }
            spawned => return spawned,
        }
    }
    Err(io::ErrorKind::ExecutableFileBusy.into())
}

/// Ends a child and what it has started.
fn kill(child: &Child) {
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::warn!(target: "gear", "process {group:?} cannot be ended: {error}");
    }
}

async fn listen(mut from: OwnedReadHalf, hear: mpsc::Sender<FromChild>) {
    loop {
        match read(&mut from).await {
            Ok(Some(message)) => {
                if hear.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                let reason = format!("it does not speak as a job of this version does: {error}");
                let _ = hear.send(FromChild::Ended { reason }).await;
                return;
            }
        }
    }
}

async fn speak(mut to: OwnedWriteHalf, mut saying: mpsc::Receiver<ToChild>) {
    while let Some(message) = saying.recv().await {
        // A child that is gone is heard of in another way.
        if write(&mut to, &message).await.is_err() {
            return;
        }
    }
}

/// Keeps what a child prints.
async fn print(mut from: impl AsyncRead + Unpin, log: Rc<RefCell<Log>>) {
    let mut buffer = vec![0; OUTPUT_BYTES];
    while let Ok(bytes) = from.read(&mut buffer).await {
        if bytes == 0 {
            return;
        }
        // A full disk must not stop the job: what it prints is lost then.
        let _ = log.borrow_mut().write(&buffer[..bytes]);
    }
}

/// How a process ended that has not said so itself.
fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => {
            "it was ended by signal 9: somebody has killed it, or the machine had no memory left"
                .into()
        }
        (Some(signal), _) => format!("it was ended by signal {signal}; its log may say more"),
        (None, Some(code)) => format!("it ended with code {code}; its log may say more"),
        (None, None) => "it ended; its log may say more".into(),
    }
}
