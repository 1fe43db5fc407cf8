//! Real clusters: `gear-node` processes on this machine, each with a data folder of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_core::control::{
    AppOutcome, AppSpec, AppStatus, ControlMessage, Peer, Reply, Request, Resources,
};
use gear_core::id::{AppId, Epoch, NodeId, RequestId};
use gear_core::link::handshake::{Hello, Purpose, VERSIONS};
use gear_core::wire::stream::{encode_entry, kind};
use gear_core::wire::{Decoder, Entry, decode_message, message_kind};
use tempfile::TempDir;

use crate::system::status;

/// Longer than anything takes that is waited for, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what is being waited for.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one answer is waited for before another node is asked.
const ANSWER: Duration = Duration::from_secs(5);
/// The first port that is given to a node: below those that the kernel gives to whoever dials.
const PORTS_FROM: u16 = 20_000;
/// Ports that are given to nodes.
const PORTS: u16 = 10_000;

/// A cluster, and the folder in which all of it is.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    program: &'static str,
    masters: usize,
    nodes: Vec<Node>,
    requests: u64,
    /// The checkpoint store, if it is none in the folder.
    checkpoints: Option<String>,
    environment: Vec<(String, String)>,
}

/// A node of it.
#[derive(Debug)]
pub struct Node {
    listen: SocketAddr,
    http: SocketAddr,
    data: PathBuf,
    joins: Option<SocketAddr>,
    options: Vec<String>,
    /// The network namespace in which it runs, if it is another one.
    namespace: Option<String>,
    child: Option<Child>,
    starts: u32,
}

/// An address that nobody has now, for TCP and UDP, and that this process gives nobody else.
fn free_address() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Far from those of a test process that was started just before or after this one.
    let first = std::process::id().wrapping_mul(97) % u32::from(PORTS);
    let first = u16::try_from(first).expect("it is below a port");
    loop {
        let next = GIVEN.fetch_add(1, Ordering::Relaxed);
        let at = SocketAddr::from(([127, 0, 0, 1], PORTS_FROM + (first + next) % PORTS));
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return at;
        }
    }
}

impl Cluster {
    /// A cluster of so many nodes, of which the first few are to be masters; all are started.
    #[must_use]
    pub fn start(program: &'static str, nodes: usize, masters: usize) -> Self {
        let mut cluster = Self::new(program, masters);
        cluster.start_nodes(nodes);
        cluster
    }

    /// Adds the first nodes of the cluster, starts them, and waits until they can be asked.
    pub fn start_nodes(&mut self, nodes: usize) {
        for _ in 0..nodes {
            let node = self.add();
            self.start_node(node);
            // So that the masters are the first ones.
            if node + 1 == self.masters {
                self.wait_for("the cluster is formed", |cluster| cluster.leader().is_some());
            }
        }
        self.wait_for("every node is ready", |cluster| {
            (0..nodes).all(|node| cluster.is_ready(node))
        });
    }

    /// Whether a node says that it can be asked.
    #[must_use]
    pub fn is_ready(&self, number: usize) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.nodes[number].http)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    /// A cluster without nodes.
    ///
    /// # Panics
    /// If there is no place for it.
    #[must_use]
    pub fn new(program: &'static str, masters: usize) -> Self {
        let folder = TempDir::new().expect("there is room for a temporary folder");
        let (checkpoints, environment) = (None, Vec::new());
        Self { folder, program, masters, nodes: Vec::new(), requests: 0, checkpoints, environment }
    }

    /// Has nodes be started with this checkpoint store from now on, and with a variable.
    pub fn keep_checkpoints_at(&mut self, url: &str, variables: &[(&str, &str)]) {
        self.checkpoints = Some(url.to_owned());
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = variables.iter().map(owned).collect();
    }

    /// A path in the cluster's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One more node, which is not started.
    pub fn add(&mut self) -> usize {
        let number = self.nodes.len();
        let joins = self.nodes.first().map(|seed| seed.listen);
        self.nodes.push(Node {
            listen: free_address(),
            http: free_address(),
            data: self.path(&format!("node-{number}")),
            joins,
            options: Vec::new(),
            namespace: None,
            child: None,
            starts: 0,
        });
        number
    }

    /// One more node, in a namespace in which it has this address; it is not started.
    pub fn add_in(&mut self, namespace: String, address: Ipv4Addr) -> usize {
        let number = self.add();
        let node = &mut self.nodes[number];
        node.listen = SocketAddr::from((address, PORTS_FROM));
        node.http = SocketAddr::from((address, PORTS_FROM + 1));
        node.namespace = Some(namespace);
        node.options.push("--insecure".into());
        number
    }

    /// How many nodes there are, started or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True before the first is added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number of a node's process; none if it does not run.
    #[must_use]
    pub fn pid(&self, number: usize) -> Option<u32> {
        self.nodes[number].child.as_ref().map(Child::id)
    }

    /// Has a node be started with these options from now on, beside those that all have.
    pub fn set_options(&mut self, number: usize, options: &[&str]) {
        self.nodes[number].options = options.iter().map(|it| (*it).to_owned()).collect();
    }

    /// Leaves the cluster's folder on the disk in the end, or does not.
    pub fn keep(&mut self, keeps: bool) {
        self.folder.disable_cleanup(keeps);
    }

    /// Where a node listens.
    #[must_use]
    pub fn listens(&self, number: usize) -> SocketAddr {
        self.nodes[number].listen
    }

    /// Where a node serves REST.
    #[must_use]
    pub fn serves(&self, number: usize) -> SocketAddr {
        self.nodes[number].http
    }

    /// The data folder of a node.
    #[must_use]
    pub fn data(&self, number: usize) -> &Path {
        &self.nodes[number].data
    }

    /// Has a node join this one when it is started next.
    pub fn join(&mut self, number: usize, seed: SocketAddr) {
        self.nodes[number].joins = Some(seed);
    }

    /// True if a node has ended by itself, or was ended.
    ///
    /// # Panics
    /// If the operating system does not know it.
    pub fn has_ended(&mut self, number: usize) -> bool {
        let Some(child) = &mut self.nodes[number].child else { return true };
        let ended = child.try_wait().expect("it is our child").is_some();
        if ended {
            self.nodes[number].child = None;
        }
        ended
    }

    /// How a node is started.
    #[must_use]
    pub fn command(&self, number: usize) -> Command {
        let node = &self.nodes[number];
        let mut command = match &node.namespace {
            None => Command::new(self.program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                // It becomes the program, and keeps its number.
                command.args(["netns", "exec", namespace, self.program]);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GEAR_") {
                command.env_remove(name);
            }
        }
        // A node that is killed cannot remove them; the tests of them ask for them.
        command.env("GEAR_NODE_CGROUPS", "off");
        command.arg("start").arg("--data").arg(&node.data).current_dir(self.folder.path());
        command.args(["--listen", &node.listen.to_string(), "--http", &node.http.to_string()]);
        command.args(["--slots", "8", "--memory", "4G"]);
        let local = || format!("file://{}", self.path("checkpoints").display());
        command.args(["--checkpoints", &self.checkpoints.clone().unwrap_or_else(local)]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        match node.joins {
            Some(seed) => command.args(["--join", &seed.to_string()]),
            None => command.args(["--masters", &self.masters.to_string()]),
        };
        command.args(&node.options).stdin(Stdio::null());
        command
    }

    /// Starts a node.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn start_node(&mut self, number: usize) {
        let mut command = self.command(number);
        let node = &mut self.nodes[number];
        assert!(node.child.is_none(), "node {number} runs already");
        node.starts += 1;
        let log = self.folder.path().join(format!("node-{number}-{}.log", node.starts));
        let file = File::create(log).expect("its output can be kept");
        command.stdout(file.try_clone().expect("it is a file")).stderr(file);
        node.child = Some(command.spawn().expect("the node can be started"));
    }

    /// Ends a node as `kill -9` does.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_node(&mut self, number: usize) {
        let mut child = self.nodes[number].child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it is our child");
    }

    /// Ends a node as its operator does, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop_node(&mut self, number: usize) -> Option<i32> {
        self.end_node(number, "TERM")
    }

    /// Sends a node a signal, such as `TERM`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, number: usize, signal: &str) {
        let pid = self.pid(number).expect("it runs");
        let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
        assert!(status.expect("there is a kill").success());
    }

    /// Ends a node with a signal, and gives its exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end_node(&mut self, number: usize, signal: &str) -> Option<i32> {
        self.signal(number, signal);
        let mut child = self.nodes[number].child.take().expect("it runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "node {number} does not end");
            sleep(PAUSE);
        }
    }

    /// What all nodes have printed, for a test that has failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut paths = Vec::new();
        super::walk_all(self.folder.path(), &mut paths);
        let is_log = |path: &&PathBuf| path.extension().is_some_and(|it| it == "log");
        let text = |path: &PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            format!("--- {}\n{text}\n", path.display())
        };
        paths.iter().filter(is_log).map(text).collect()
    }

    /// What a node's folder says of it: its id, and its cluster's; none before they are known.
    #[must_use]
    pub fn identity(&self, number: usize) -> Option<(NodeId, u64)> {
        let text = fs::read(self.nodes[number].data.join("identity.json")).ok()?;
        let identity: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some((NodeId(identity["node"].as_u64()?), identity["cluster"].as_u64()?))
    }

    /// The place of the node that leads; none if none does.
    pub fn leader(&mut self) -> Option<usize> {
        for number in 0..self.nodes.len() {
            if self.nodes[number].child.is_none() {
                continue;
            }
            self.requests += 1;
            let id = RequestId { client: 1, number: self.requests };
            if let Some(Reply::Apps { stale: false, .. }) = self.ask(number, id, &Request::Apps) {
                return Some(number);
            }
        }
        None
    }

    /// What a node says of an app, if it leads.
    pub fn app_at(&mut self, number: usize, app: AppId) -> Option<AppStatus> {
        self.requests += 1;
        let id = RequestId { client: 1, number: self.requests };
        match self.ask(number, id, &Request::Apps)? {
            Reply::Apps { stale: false, apps, .. } => apps.into_iter().find(|it| it.app == app),
            _ => None,
        }
    }

    /// Has the masters do something: asks one after the other until one answers for good.
    ///
    /// # Panics
    /// If none does.
    pub fn request(&mut self, request: &Request) -> Reply {
        self.requests += 1;
        let id = RequestId { client: u64::from(std::process::id()), number: self.requests };
        let began = Instant::now();
        loop {
            for number in 0..self.nodes.len() {
                match self.ask(number, id, request) {
                    None | Some(Reply::NotLeader { .. } | Reply::Apps { stale: true, .. }) => {}
                    Some(reply) => return reply,
                }
            }
            assert!(began.elapsed() < PATIENCE, "no master answers: {}", self.logs());
            sleep(PAUSE);
        }
    }

    /// Asks a node's master once; none if it does not answer.
    pub fn try_request(&mut self, number: usize, request: &Request) -> Option<Reply> {
        self.requests += 1;
        let id = RequestId { client: u64::from(std::process::id()), number: self.requests };
        self.ask(number, id, request)
    }

    /// Asks a node's master; none if it does not answer.
    fn ask(&self, number: usize, id: RequestId, request: &Request) -> Option<Reply> {
        self.nodes[number].child.as_ref()?;
        let (node, cluster) = self.identity(number)?;
        let at = self.nodes[number].listen;
        ask(at, (node, cluster), id, request)
    }

    /// Lets every node have a binary, and gives the hash that names it.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn give_binary(&self, binary: &Path) -> Vec<u8> {
        let output = Command::new("sha256sum").arg(binary).output().expect("there is sha256sum");
        let text = String::from_utf8(output.stdout).expect("a hash is text");
        let name = text.split(' ').next().expect("a hash stands first");
        for node in &self.nodes {
            let folder = node.data.join("binaries");
            fs::create_dir_all(&folder).expect("it can be made");
            fs::copy(binary, folder.join(name)).expect("it can be copied");
        }
        let byte = |at: usize| u8::from_str_radix(&name[at..at + 2], 16).expect("it is a hash");
        (0..name.len()).step_by(2).map(byte).collect()
    }

    /// Submits a job, and gives its app.
    ///
    /// # Panics
    /// If it is refused.
    pub fn submit(
        &mut self,
        binary: &Path,
        executors: u32,
        arguments: &[impl AsRef<str>],
    ) -> AppId {
        self.submit_to(&[], binary, executors, arguments)
    }

    /// Submits a job that runs on nodes with these labels only, and gives its app.
    ///
    /// # Panics
    /// If it is refused.
    pub fn submit_to(
        &mut self,
        labels: &[(&str, &str)],
        binary: &Path,
        executors: u32,
        arguments: &[impl AsRef<str>],
    ) -> AppId {
        let one = Resources { slots: 1, memory: 256 << 20 };
        let label = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let spec = AppSpec {
            name: "words".into(),
            labels: labels.iter().map(label).collect(),
            binary: self.give_binary(binary),
            arguments: arguments.iter().map(|it| it.as_ref().to_owned()).collect(),
            executors,
            executor: one,
            app_master: one,
            strategy: "spread".into(),
            ..AppSpec::default()
        };
        match self.request(&Request::Submit(spec.into())) {
            Reply::Submitted { app } => app,
            reply => panic!("it was not submitted: {reply:?}"),
        }
    }

    /// How an app is doing.
    ///
    /// # Panics
    /// If there is none.
    pub fn app(&mut self, app: AppId) -> AppStatus {
        let Reply::Apps { apps, .. } = self.request(&Request::Apps) else {
            panic!("the masters have answered something else")
        };
        apps.into_iter().find(|status| status.app == app).expect("it was submitted")
    }

    /// Waits until an app has ended, and gives how.
    pub fn outcome(&mut self, app: AppId) -> AppOutcome {
        let mut outcome = None;
        self.wait_for("the app has ended", |cluster| {
            outcome = cluster.app(app).outcome;
            outcome.is_some()
        });
        outcome.expect("it was waited for")
    }

    /// Waits until so many more epochs of an app have committed, or until it has ended.
    pub fn wait_for_epochs(&mut self, app: AppId, more: u64) {
        let stood = self.app(app).committed;
        self.wait_for("epochs commit", |cluster| {
            let status = cluster.app(app);
            status.committed >= Epoch(stood.0 + more) || status.outcome.is_some()
        });
    }

    /// Waits until this is true.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "it never came that {what}: {}", self.logs());
            sleep(PAUSE);
        }
    }

    /// The processes of jobs that the nodes run, by their numbers in the operating system, each
    /// with what it calls itself, such as `word-count: executor 1 of app 1`.
    ///
    /// # Panics
    /// If the operating system does not say.
    #[must_use]
    pub fn processes(&self) -> BTreeMap<u32, String> {
        (0..self.nodes.len()).flat_map(|number| self.children(number)).collect()
    }

    /// Those of one node.
    ///
    /// # Panics
    /// If the operating system does not say.
    #[must_use]
    pub fn children(&self, number: usize) -> BTreeMap<u32, String> {
        let Some(node) = self.nodes[number].child.as_ref().map(Child::id) else {
            return BTreeMap::new();
        };
        let entries = fs::read_dir("/proc").expect("this is Linux").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let parent: u32 = status(pid)?.get(1)?.parse().ok()?;
            let called = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            (parent == node).then(|| (pid, called.trim_end_matches('\0').to_owned()))
        })
        .collect()
    }
}

/// True if there is a process of this number that has not ended.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    status(pid).is_some_and(|fields| !fields[0].starts_with('Z'))
}

/// Ends a process as `kill -9` does.
///
/// # Panics
/// If there is no such command.
pub fn kill(pid: u32) {
    // It may have ended by itself.
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    status.expect("there is a kill");
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                // One that has ended cannot be killed.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Asks the master of a node over its own port, as another node would.
fn ask(
    at: SocketAddr,
    (node, cluster): (NodeId, u64),
    id: RequestId,
    request: &Request,
) -> Option<Reply> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    let hello = Hello {
        versions: VERSIONS,
        cluster,
        from: Peer::Client(id.client),
        to: Peer::Node(node),
        token: 0,
        purpose: Purpose::Control,
    };
    let mut bytes = Vec::new();
    encode_entry(kind::HELLO, &hello, &mut bytes).expect("a hello is short");
    stream.write_all(&bytes).ok()?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 64 * 1_024];
    let began = Instant::now();
    while began.elapsed() < ANSWER {
        let read = stream.read(&mut buffer).ok().filter(|bytes| *bytes > 0)?;
        let mut came = &buffer[..read];
        while let Ok(Some(Entry::Message(entry))) = decoder.next(&mut came) {
            match message_kind(entry).ok()? {
                kind::WELCOME => {
                    decoder = Decoder::new();
                    decoder.admit();
                    let message = ControlMessage::Request { id, request: request.clone() };
                    let mut bytes = Vec::new();
                    encode_entry(kind::CONTROL, &message, &mut bytes).expect("it fits");
                    stream.write_all(&bytes).ok()?;
                }
                kind::CONTROL => {
                    if let ControlMessage::Reply { id: of, reply } =
                        decode_message(kind::CONTROL, entry).ok()?
                        && of == id
                    {
                        return Some(reply);
                    }
                }
                _ => {}
            }
        }
    }
    None
}
