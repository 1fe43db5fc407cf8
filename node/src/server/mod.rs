//! A node of a cluster: one process that runs a worker, perhaps a master, and serves people.

pub(crate) mod certificates;
mod cluster;
mod config;
mod control;
pub(crate) mod folder;
pub(crate) mod formation;
mod leaving;
mod machine;
mod security;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gear_core::control::Address;
use gear_core::host::NodeConfig;
use gear_core::id::{Incarnation, NodeId};
use gear_core::master::quorum::Formation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use certificates::KnownEnds;
pub use cluster::Cluster;
pub use config::{CgroupUse, Config, ConfigError, HTTP, LogFormat, StartOptions, TransportKind};
use control::{Control, Orders, Running};
use folder::{DataFolder, FolderError, Identity};
use formation::{Candidate, Step, step};
pub use security::SecurityOptions;
use security::{Secured, SecurityError};

use crate::api::backend::ThisNode;
use crate::api::{Api, PeerBinaries, Peers, ServeError, Served};
use crate::binaries::Binaries;
use crate::child::cgroups::{self, CgroupError, Cgroups};
use crate::child::{ChildTable, Home};
use crate::disk::{DiskError, NodeDisk};
use crate::gossip::{Gossip, GossipError, Me};
use crate::options::cores;
use crate::store::{CheckpointStore, StoreError};
use crate::wire::{Certificates, WireError, Wiring};

/// Threads that serve REST, gossip and the transfer of binaries.
const SERVICE_THREADS: usize = 2;
/// Time between two looks at how busy the machine is.
const LOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long the masters may take to say who votes; the next look asks again.
const VOTERS_TIMEOUT: Duration = Duration::from_secs(2);
/// What seals gossip where everybody on the machine may take part: it keeps nobody out.
const OPEN_KEY: [u8; 32] = *b"gear gossip with no cluster key.";

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// It is told what means nothing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its data folder is not usable.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its master's disk is not usable.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The checkpoint store is not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Gossip cannot begin.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// Nodes and jobs' processes cannot be reached.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Strangers could come in, or a certificate cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Jobs' processes would not be limited.
    #[error("--cgroups required: {0}")]
    Cgroups(#[from] CgroupError),
    /// REST cannot be served.
    #[error(transparent)]
    Http(#[from] ServeError),
    /// The operating system does not let us.
    #[error("the node cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The node has ended by itself.
    #[error("the node has ended: {0}")]
    Ended(String),
    /// Two clusters answer.
    #[error(
        "two clusters answer at the addresses of --join, {one:016x} and {other:016x}: give those \
         of one cluster"
    )]
    Torn {
        /// One.
        one: u64,
        /// The other.
        other: u64,
    },
}

/// Runs a node until it is told to end.
pub fn start(options: StartOptions) -> ExitCode {
    let ended = Config::resolve(options).map_err(StartError::from).and_then(|config| {
        start_logging(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SERVICE_THREADS)
            .thread_name("gear-services")
            .enable_all()
            .build()?;
        runtime.block_on(serve(config))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gear-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let to = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let to = to.with_writer(std::io::stderr);
    // A program that logs already keeps its own way.
    let _ = match config.log {
        LogFormat::Text => to.with_target(false).try_init(),
        LogFormat::Json => to.json().try_init(),
    };
}

/// What a node keeps of itself while it runs.
struct Kept {
    folder: Arc<DataFolder>,
    identity: Mutex<Identity>,
}

impl Kept {
    /// Takes the folder, and counts this life of the node.
    fn open(config: &Config) -> Result<Self, FolderError> {
        let folder = Arc::new(DataFolder::open(&config.data)?);
        let known = folder.identity()?;
        let mut identity = known.unwrap_or_else(|| Identity::new(NodeId(crate::security::draw())));
        identity.life += 1;
        folder.write_identity(&identity)?;
        Ok(Self { folder, identity: Mutex::new(identity) })
    }

    fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is kept, durably.
    fn change(&self, change: impl FnOnce(&mut Identity)) -> Result<(), FolderError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = identity.clone();
        change(&mut changed);
        if changed != *identity {
            self.folder.write_identity(&changed)?;
            *identity = changed;
        }
        Ok(())
    }
}

async fn serve(config: Config) -> Result<(), StartError> {
    let kept = Arc::new(Kept::open(&config)?);
    // The folder is this process's, so that whoever runs below its groups is an orphan.
    let groups = cgroups::set_up(config.cgroups, kept.identity().node).await?;
    let ended = live(config, kept, groups.clone()).await;
    if let Some(groups) = groups {
        groups.close().await;
    }
    ended
}

async fn live(
    config: Config,
    kept: Arc<Kept>,
    groups: Option<Arc<Cgroups>>,
) -> Result<(), StartError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let identity = kept.identity();
    let secured = Secured::new(&config, &kept.folder.secrets())?;
    let wiring = Wiring {
        transport: config.transport.name().into(),
        advertise: config.advertise.clone(),
        certificates: secured.files.as_ref().map(|files| Certificates {
            authority: files.authority.clone(),
            certificate: files.certificate.clone(),
            key: files.key.clone(),
        }),
    };
    let control = Control::listen(config.listen, wiring)?;
    let listen = control.address().clone();
    let http = crate::api::listen(config.http)?;
    let me = Me {
        node: identity.node,
        life: identity.life,
        listen: listen.clone(),
        http: reached_at(http.local_addr()?, &listen),
    };
    let mut seeds = config.join.clone();
    seeds.extend(identity.voters.values().map(|at| at.0.clone()).filter(|at| *at != listen.0));
    let gossip =
        Gossip::start(config.listen, me, &seeds, secured.gossip_key().unwrap_or(OPEN_KEY)).await?;
    let url = config.checkpoints.clone();
    let url = url.unwrap_or_else(|| CheckpointStore::url_of(&kept.folder.checkpoints()));
    let cluster = Cluster::new(cluster::Parts {
        config: config.clone(),
        folder: Arc::clone(&kept.folder),
        node: identity.node,
        gossip: gossip.clone(),
        table: ChildTable::default(),
        binaries: Binaries::open(kept.folder.binaries())?,
        checkpoints: CheckpointStore::open(&url)?,
    });
    let scheme = if secured.files.is_some() { "https" } else { "http" };
    let warning = secured.exposure.warning();
    let known = KnownEnds::default();
    if let Some(ends) = secured.ends {
        known.set(ends);
    }
    let files = secured.files.clone();
    let served = serve_rest(&cluster, secured, http, known.clone())?;
    let mut watching = JoinSet::new();
    if let Some(files) = files {
        watching.spawn(certificates::watch(files, known, served.certificate()));
    }
    println!("{} listens at {listen}", identity.node);
    println!("REST        {scheme}://{}", served.address());
    println!("data folder {}", kept.folder.root().display());
    if let Some(warning) = warning {
        println!("{warning}");
        tracing::warn!(target: "gear", "{warning}");
    }
    let begun = tokio::select! {
        biased;
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
        begun = begin(&config, &kept, control, gossip, &cluster, groups) => begun?,
    };
    let Begun { mut running, mut follower } = begun;
    let mut leaves = false;
    let mut outcome = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => {
            leaves = true;
            Ok(())
        }
        reason = &mut running.ended => Err(ended(reason)),
        error = follower.follow() => Err(error),
    };
    if leaves {
        outcome = tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            reason = &mut running.ended => Err(ended(reason)),
            () = leaving::leave(&cluster, &kept, config.drain_timeout) => Ok(()),
        };
    }
    tracing::info!(target: "gear", "the node ends");
    served.end();
    tokio::task::block_in_place(|| running.stop());
    outcome
}

/// The control thread has ended by itself.
fn ended(reason: Result<String, tokio::sync::oneshot::error::RecvError>) -> StartError {
    StartError::Ended(reason.unwrap_or_else(|_| "its control thread has failed".into()))
}

/// Serves REST from now on: who asks before the cluster is formed is told what it waits for.
fn serve_rest(
    cluster: &Cluster,
    secured: Secured,
    listener: std::net::TcpListener,
    ends: KnownEnds,
) -> Result<Served, StartError> {
    let Secured { exposure, key, access, files, .. } = secured;
    let token = crate::api::node_token(key.as_ref());
    let authority = files.as_ref().map(|files| files.authority.as_path());
    let peers = Peers::new(token, authority).map_err(SecurityError::from)?;
    let (me, nodes) = (cluster.node(), cluster.clone());
    let others = move || nodes.nodes().into_iter().filter(|it| it.node != me).collect();
    cluster.binaries().set_source(Arc::new(PeerBinaries::new(peers.clone(), others)));
    let backend = Arc::new(ThisNode::new(cluster.clone(), exposure.warning(), ends));
    Ok(crate::api::serve(Api::new(backend, access, peers), listener, files.as_ref())?)
}

/// Where others reach a socket: at the host of another one if it is bound to all of them.
fn reached_at(bound: std::net::SocketAddr, listen: &Address) -> String {
    match listen.0.rsplit_once(':') {
        Some((host, _)) if bound.ip().is_unspecified() => format!("{host}:{}", bound.port()),
        _ => bound.to_string(),
    }
}

/// A node that takes part in its cluster.
struct Begun {
    running: Running,
    follower: Follower,
}

/// Waits for the cluster, and takes part in it.
async fn begin(
    config: &Config,
    kept: &Arc<Kept>,
    control: Control,
    mut gossip: Gossip,
    cluster: &Cluster,
    cgroups: Option<Arc<Cgroups>>,
) -> Result<Begun, StartError> {
    let (id, voters) = belong(config, kept, &control, &mut gossip, cluster).await?;
    let identity = kept.identity();
    let is_master = voters.contains_key(&identity.node);
    let formation = match (is_master, identity.formed) {
        (_, true) => Formation::Before,
        (true, false) => Formation::First,
        (false, false) => Formation::Joins,
    };
    let disk = NodeDisk::open(&kept.folder.masters())?;
    let marks = Arc::clone(kept);
    let disk = disk.on_first_write(move || {
        marks.change(|identity| identity.formed = true).map_err(std::io::Error::other)
    });
    let masters = Arc::new(Mutex::new(voters.clone()));
    let host = config.listen.ip();
    let home = Home {
        cluster: id,
        masters: Arc::clone(&masters),
        checkpoints: cluster.checkpoints().url().to_owned(),
        bind: if host.is_ipv6() { format!("[{host}]") } else { host.to_string() },
        wiring: control.wiring().clone(),
        logs: kept.folder.logs(),
        log: config.log_level.clone(),
        binaries: cluster.binaries().clone(),
        table: cluster.children().clone(),
        cgroups,
    };
    let node = NodeConfig {
        cluster: id,
        node: identity.node,
        incarnation: Incarnation(crate::security::draw()),
        address: control.address().clone(),
        masters: voters.clone(),
        formation: Some(formation),
        seed: crate::security::draw(),
        capacity: config.capacity,
        labels: config.labels.clone(),
    };
    gossip.tell_cluster(id, &voters, is_master).await;
    let begun = control.run(Orders { config: node, disk, home }).await;
    let failed = || StartError::Ended("its control thread has failed".into());
    let (handle, running) = begun.ok_or_else(failed)?;
    cluster.formed(id, handle.clone());
    tracing::info!(target: "gear", "{} is part of cluster {id:016x}", identity.node);
    let follower =
        Follower { cluster: cluster.clone(), id, kept: Arc::clone(kept), gossip, handle, masters };
    Ok(Begun { running, follower })
}

/// Waits until it is known which cluster this node belongs to, and keeps that.
async fn belong(
    config: &Config,
    kept: &Kept,
    control: &Control,
    gossip: &mut Gossip,
    cluster: &Cluster,
) -> Result<(u64, BTreeMap<NodeId, Address>), StartError> {
    let me = Candidate {
        node: kept.identity().node,
        listen: control.address().clone(),
        joins: !config.join.is_empty(),
        masters: config.masters,
    };
    let mut said = String::new();
    loop {
        match step(&me, &kept.identity(), &gossip.nodes()) {
            Step::Belong { cluster, voters } => {
                // On disk before anybody is told: see the module `formation`.
                kept.change(|identity| {
                    identity.cluster = Some(cluster);
                    identity.voters.clone_from(&voters);
                })?;
                return Ok((cluster, voters));
            }
            Step::Begin { voters } => {
                kept.change(|identity| {
                    identity.cluster = Some(crate::security::draw());
                    identity.voters = voters;
                })?;
            }
            Step::Torn { one, other } => return Err(StartError::Torn { one, other }),
            Step::Wait { reason } => {
                if reason != said {
                    tracing::info!(target: "gear", "the cluster is not formed yet: {reason}");
                    cluster.waits(reason.clone());
                    said = reason;
                }
                gossip.changed().await;
            }
        }
    }
}

/// Keeps up with the cluster.
struct Follower {
    cluster: Cluster,
    id: u64,
    kept: Arc<Kept>,
    gossip: Gossip,
    handle: gear_net::Handle,
    masters: Arc<Mutex<BTreeMap<NodeId, Address>>>,
}

impl Follower {
    /// Runs for as long as the node; gives why it must not go on.
    async fn follow(&mut self) -> StartError {
        let mut looks = interval(LOAD_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(error) = self.introduce() {
                return error;
            }
            tokio::select! {
                () = self.gossip.changed() => {}
                _ = looks.tick() => {
                    self.gossip.tell_load(load()).await;
                    if let Err(error) = leaving::come_back(&self.cluster, &self.kept).await {
                        return error.into();
                    }
                    if let Err(error) = self.learn_voters().await {
                        return error;
                    }
                }
            }
        }
    }

    /// Tells the node where others listen.
    fn introduce(&self) -> Option<StartError> {
        let me = self.cluster.node();
        let nodes = self.gossip.nodes();
        for node in nodes.iter().filter(|it| it.node != me && !it.suspected) {
            match node.cluster {
                Some(cluster) if cluster == self.id => {
                    self.handle.known(node.node, node.listen.clone());
                }
                Some(other) if self.cluster.config().join.contains(&node.listen.0) => {
                    let folder = self.kept.folder.root().into();
                    let foreign = FolderError::Foreign { folder, found: self.id, wanted: other };
                    return Some(foreign.into());
                }
                _ => {}
            }
        }
        None
    }

    /// Keeps who votes, so that this node finds them after a restart, and others through it.
    async fn learn_voters(&self) -> Result<(), StartError> {
        use gear_core::control::{Reply, Request};

        let asking = self.cluster.request(Request::Cluster);
        let Ok(Reply::Cluster(status)) = timeout(VOTERS_TIMEOUT, asking).await else {
            return Ok(());
        };
        if status.stale || status.voters.is_empty() {
            return Ok(());
        }
        let is_master = status.voters.contains_key(&self.cluster.node());
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&status.voters);
        self.gossip.tell_cluster(self.id, &status.voters, is_master).await;
        self.kept.change(|identity| identity.voters = status.voters)?;
        Ok(())
    }
}

/// Share of the processors that is in use, as of the last minute; 0 where nobody says.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
    (load / f64::from(cores().max(1))).min(1.0)
}
