//! A node that is none: it answers as it is told, and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use gear_core::app::{Left, Stage};
use gear_core::control::{
    Address, AppOutcome, AppSpec, AppStatus, ClusterStatus, Grant, ProcessId, ProcessState, Reply,
    Request, Resources, Role, Wish, WorkerStatus,
};
use gear_core::host::figures::{AppFigures, AuditFigures, ProcessFigures, TaskFigures};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{
    AppId, AppTerm, Epoch, ExecutorId, Incarnation, MasterTerm, NodeId, ProcessorId, RequestId,
    TaskId,
};
use gear_core::task::ReplayCounts;
use gear_core::time::EventTime;
use tempfile::TempDir;

use crate::api::{Api, Backend, Here, KnownNode, LocalProcess, LogTail, Peers, TurnedAway};
use crate::binaries::Binaries;
use crate::security::{Access, NodeToken};
use crate::store::CheckpointStore;

/// The app that runs, on node 1 unless told otherwise.
pub(crate) const RUNNING: AppId = AppId(1);
/// The app that has finished.
pub(crate) const FINISHED: AppId = AppId(2);

pub(crate) struct Double {
    here: Here,
    pub(crate) folder: TempDir,
    binaries: Binaries,
    checkpoints: CheckpointStore,
    /// What it was asked that changes something.
    pub(crate) asked: Mutex<Vec<(RequestId, Request)>>,
    /// What it answers instead of doing it.
    pub(crate) refuses: Mutex<Option<Answer>>,
    /// How often its master was to begin a new data folder.
    pub(crate) readmitted: Mutex<u32>,
    pub(crate) nodes: Mutex<Vec<KnownNode>>,
    pub(crate) apps: Mutex<Vec<AppStatus>>,
    pub(crate) voters: Mutex<BTreeMap<NodeId, Address>>,
}

impl Double {
    pub(crate) fn new(node: u64) -> Self {
        let folder = TempDir::new().expect("there is a folder");
        let binaries = folder.path().join("binaries");
        std::fs::create_dir(&binaries).expect("it is ours");
        let url = CheckpointStore::url_of(&folder.path().join("checkpoints"));
        let known = KnownNode {
            node: NodeId(node),
            listen: format!("127.0.0.{node}:7400"),
            http: String::new(),
            version: "0.1.0".into(),
            load: Some(0.5),
            suspected: false,
        };
        Self {
            here: Here {
                node: NodeId(node),
                cluster: Some(0xc1),
                warning: None,
                started: SystemTime::now(),
            },
            binaries: Binaries::open(binaries).expect("it is there"),
            checkpoints: CheckpointStore::open(&url).expect("it is ours"),
            asked: Mutex::default(),
            refuses: Mutex::default(),
            readmitted: Mutex::default(),
            nodes: Mutex::new(vec![known]),
            apps: Mutex::new(vec![running(NodeId(1)), finished()]),
            voters: Mutex::new([(NodeId(node), Address(format!("127.0.0.{node}:7400")))].into()),
            folder,
        }
    }

    pub(crate) fn warning(mut self, warning: &'static str) -> Self {
        self.here.warning = Some(warning);
        self
    }

    fn cluster(&self) -> ClusterStatus {
        let worker = WorkerStatus {
            incarnation: Incarnation(1),
            address: Address("127.0.0.1:7400".into()),
            capacity: Resources { slots: 4, memory: 1 << 30 },
            used: Resources { slots: 1, memory: 1 << 20 },
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            drains: false,
            alive: true,
            processes: BTreeMap::new(),
        };
        ClusterStatus {
            stale: false,
            leader: Some(NodeId(1)),
            term: MasterTerm(3),
            voters: self.voters.lock().expect("nobody panics").clone(),
            updates: 12,
            workers: [(NodeId(1), worker)].into(),
        }
    }
}

fn status(app: AppId, name: &str) -> AppStatus {
    AppStatus {
        app,
        name: name.into(),
        term: AppTerm(2),
        wish: Wish::Run,
        outcome: None,
        committed: Epoch(9),
        executors: BTreeMap::new(),
        waiting: String::new(),
        spec: AppSpec {
            name: name.into(),
            binary: vec![0xab; 32],
            arguments: vec!["--fast".into()],
            executors: 1,
            executor: Resources { slots: 1, memory: 100 },
            strategy: "spread".into(),
            state: format!("app-{}", app.0),
            ..AppSpec::default()
        },
        app_master: None,
        restarts: 0,
    }
}

pub(crate) fn running(on: NodeId) -> AppStatus {
    let grant = |port: u32| Grant {
        worker: on,
        state: ProcessState::Running { address: Address(format!("127.0.0.1:{port}")) },
    };
    let executors = [(ExecutorId(1), grant(9_001))].into();
    AppStatus { executors, app_master: Some(grant(9_000)), ..status(RUNNING, "words") }
}

fn finished() -> AppStatus {
    AppStatus { outcome: Some(AppOutcome::Finished), ..status(FINISHED, "old") }
}

fn master() -> ProcessId {
    ProcessId { app: RUNNING, role: Role::AppMaster(AppTerm(2)) }
}

pub(crate) fn figures() -> AppFigures {
    let task = TaskId { processor: ProcessorId(0), index: 0 };
    let of = TaskFigures { uid: "lines".into(), records_in: 7, ..TaskFigures::default() };
    let executor = ProcessFigures { tasks: [(task, of)].into(), ..ProcessFigures::default() };
    AppFigures {
        app: RUNNING,
        term: AppTerm(2),
        stage: Stage::Running,
        recovered: Epoch(0),
        committed: Epoch(9),
        in_flight: 1,
        open: None,
        epochs: Vec::new(),
        records: 1_000,
        quarantined: 0,
        recoveries: 0,
        restarts: 0,
        regions: Vec::new(),
        min_clock: Some((EventTime(5), task)),
        placement: [(task, ExecutorId(1))].into(),
        processors: Vec::new(),
        executors: [(ExecutorId(1), executor)].into(),
        links: BTreeMap::new(),
        audit: AuditFigures { checked: 4, gaps: 0, duplicates: 0 },
        waiting: String::new(),
        outcome: None,
    }
}

#[async_trait]
impl Backend for Double {
    fn here(&self) -> Here {
        self.here.clone()
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn turned_away(&self) -> TurnedAway {
        TurnedAway::default()
    }

    fn certificates(&self) -> Option<crate::security::Ends> {
        None
    }

    async fn request(&self, id: RequestId, request: Request) -> Answer {
        let read = matches!(request, Request::Apps | Request::Cluster);
        if let Some(refused) = self.refuses.lock().expect("nobody panics").clone().filter(|_| !read)
        {
            return refused;
        }
        let reply = match &request {
            Request::Apps => {
                let apps = self.apps.lock().expect("nobody panics").clone();
                Reply::Apps { stale: false, apps }
            }
            Request::Cluster => Reply::Cluster(self.cluster()),
            Request::Submit(_) | Request::Restart { .. } => Reply::Submitted { app: AppId(3) },
            Request::Wish { app, wish } => {
                for status in self.apps.lock().expect("nobody panics").iter_mut() {
                    if status.app == *app {
                        status.wish = *wish;
                        status.outcome = Some(AppOutcome::Stopped);
                    }
                }
                Reply::Done
            }
            _ => Reply::Done,
        };
        if !read {
            self.asked.lock().expect("nobody panics").push((id, request));
        }
        Answer::Reply(reply)
    }

    async fn readmit(&self) -> Answer {
        if let Some(refused) = self.refuses.lock().expect("nobody panics").clone() {
            return refused;
        }
        *self.readmitted.lock().expect("nobody panics") += 1;
        Answer::Reply(Reply::Done)
    }

    fn nodes(&self) -> Vec<KnownNode> {
        self.nodes.lock().expect("nobody panics").clone()
    }

    fn processes(&self) -> Vec<LocalProcess> {
        if self.here.node != NodeId(1) {
            return Vec::new();
        }
        vec![LocalProcess {
            process: master(),
            pid: None,
            figures: None,
            app: Some(Arc::new(figures())),
        }]
    }

    async fn command(&self, process: ProcessId, command: Command) -> Answer {
        match command {
            Command::Savepoint { .. } if process == master() => {
                Answer::Savepoint { epoch: Epoch(10) }
            }
            Command::Replay | Command::Drop if process == master() => {
                let counts = ReplayCounts { replayed: 3, cut: 1, ..ReplayCounts::default() };
                let epoch = Some(Epoch(10));
                Answer::Left(Left { epoch, objects: 2, counts, dropped: 4, more: false })
            }
            Command::Status if process == master() => Answer::Status(Box::new(figures())),
            _ => Answer::Refused { reason: "it does not run here".into() },
        }
    }

    async fn logs(&self, app: AppId, bytes: u64) -> std::io::Result<Vec<LogTail>> {
        let text = format!("{app} on {} says hello", self.here.node).into_bytes();
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
        let cut = keep < text.len();
        let text = text[text.len() - keep..].to_vec();
        Ok(vec![LogTail { process: "executor-1".into(), text, cut }])
    }

    fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    fn checkpoints(&self) -> &CheckpointStore {
        &self.checkpoints
    }
}

/// REST of a double.
pub(crate) fn api(double: &Arc<Double>, access: Access, token: Option<NodeToken>) -> Api {
    let peers = Peers::new(token, None).expect("there is no authority");
    Api::new(double.clone(), access, peers)
}
