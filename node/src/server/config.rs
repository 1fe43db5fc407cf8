//! What a node is told at its start: by its command line, its environment, a file, or nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gear_core::control::Resources;
use gear_core::master::quorum::VOTERS_MAX;
use serde::Deserialize;

use super::security::SecurityOptions;
use crate::options::{cores, machine_memory, parse_bytes, parse_duration};

/// Where a node listens unless it is told.
const LISTEN: &str = "127.0.0.1:7400";
/// Where it serves REST unless it is told.
pub const HTTP: &str = "127.0.0.1:7480";
/// Its data folder unless it is told.
const DATA: &str = "gear-data";
/// How long its work may take to move away when it is told to end, unless it is told: less than
/// the half minute after which systemd and Kubernetes, as they are set up here, end it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// What it logs unless it is told; gossip says in every round whom it hears.
const LOG_LEVEL: &str = "info,chitchat=warn";

/// Start a node of a cluster.
///
/// Every option can stand on the command line, in the environment (GEAR_NODE_ and its name) or in
/// the file of --config, as TOML: name = value, with lists for those that can be given more than
/// once. The command line wins over the environment, that over the file, and that over the default.
#[derive(Args, Clone, Debug, Default)]
pub struct StartOptions {
    /// Folder of all that the node keeps [default: gear-data]
    #[arg(long, env = "GEAR_NODE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address for other nodes and jobs' processes, TCP and UDP [default: 127.0.0.1:7400]
    #[arg(long, env = "GEAR_NODE_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Host at which others reach the node, if it is not that of --listen
    #[arg(long, env = "GEAR_NODE_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,

    /// Address of the REST interface [default: 127.0.0.1:7480]
    #[arg(long, env = "GEAR_NODE_HTTP", value_name = "HOST:PORT")]
    pub http: Option<String>,

    /// Address (--listen) of a node of the cluster to join; can be given more than once. Without
    /// it, the first start of a node begins a cluster
    #[arg(long, env = "GEAR_NODE_JOIN", value_name = "HOST:PORT", value_delimiter = ',')]
    pub join: Vec<String>,

    /// Masters of the cluster that this node begins: with more than one, it waits for as many
    /// nodes, which then vote for good [default: 1]
    #[arg(long, env = "GEAR_NODE_MASTERS", value_name = "N")]
    pub masters: Option<u32>,

    /// Processes that run here at once, by their slots [default: the machine's cores, at least 4]
    #[arg(long, env = "GEAR_NODE_SLOTS", value_name = "N")]
    pub slots: Option<u32>,

    /// Memory that processes here may take together, such as 8G [default: half of the machine's]
    #[arg(long, env = "GEAR_NODE_MEMORY", value_name = "BYTES")]
    pub memory: Option<String>,

    /// What jobs can ask of a node; can be given more than once
    #[arg(long, env = "GEAR_NODE_LABEL", value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<String>,

    /// Checkpoint store that every node reaches, such as file:///mnt/gear, or s3://BUCKET/FOLDER,
    /// gs://, az:// or hdfs:// in builds with it [default: a folder in the data folder, for
    /// clusters on one machine that share it]
    #[arg(long, env = "GEAR_NODE_CHECKPOINTS", value_name = "URL")]
    pub checkpoints: Option<String>,

    /// How bytes go over connections [default: auto]
    #[arg(long, env = "GEAR_NODE_TRANSPORT", value_name = "KIND", value_enum)]
    pub transport: Option<TransportKind>,

    /// Control groups of jobs' processes, which keep each within its memory; `auto`: where the node
    /// may make them [default: auto]
    #[arg(long, env = "GEAR_NODE_CGROUPS", value_name = "USE", value_enum)]
    pub cgroups: Option<CgroupUse>,

    /// Certificates, keys and tokens.
    #[command(flatten)]
    pub security: SecurityOptions,

    /// Listen beyond this machine though nobody has to say who they are
    #[arg(long, env = "GEAR_NODE_INSECURE")]
    pub insecure: bool,

    /// How long a node that gets SIGTERM may take to move its work to others before it ends, such
    /// as 20s; 0 ends it at once, as SIGINT and a second signal do [default: 20s]
    #[arg(long, env = "GEAR_NODE_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<String>,

    /// How the log is written [default: text]
    #[arg(long, env = "GEAR_NODE_LOG", value_name = "FORMAT", value_enum)]
    pub log: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, or a filter such as gear=debug [default: info]
    #[arg(long, env = "GEAR_NODE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// File with these options
    #[arg(long, env = "GEAR_NODE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How bytes go over connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// The best that the machine has.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

impl TransportKind {
    /// Its name, as a transport is chosen by it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Whether jobs' processes run in control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CgroupUse {
    /// Where the node may make them.
    #[default]
    Auto,
    /// They do not.
    Off,
    /// They do, each within its memory, or the node does not start.
    Required,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs, an object a line.
    Json,
}

/// What the file of --config holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileOptions {
    data: Option<PathBuf>,
    listen: Option<String>,
    advertise: Option<String>,
    http: Option<String>,
    #[serde(default)]
    join: Vec<String>,
    masters: Option<u32>,
    slots: Option<u32>,
    memory: Option<String>,
    #[serde(default)]
    label: BTreeMap<String, String>,
    checkpoints: Option<String>,
    transport: Option<TransportKind>,
    cgroups: Option<CgroupUse>,
    #[serde(default)]
    security: SecurityOptions,
    insecure: Option<bool>,
    drain_timeout: Option<String>,
    log: Option<LogFormat>,
    log_level: Option<String>,
}

/// Why a node cannot be started as it is told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the file {} of --config cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An option does not mean anything.
    #[error("--{option} {value}: {reason}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a node is told, from everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where it listens for nodes and jobs' processes.
    pub listen: SocketAddr,
    /// The host at which others reach it, if it is another one.
    pub advertise: Option<String>,
    /// Where it serves REST.
    pub http: SocketAddr,
    /// Nodes of the cluster to join.
    pub join: Vec<String>,
    /// Masters of the cluster that it begins.
    pub masters: u32,
    /// What its processes may take together.
    pub capacity: Resources,
    /// What jobs can ask of it.
    pub labels: BTreeMap<String, String>,
    /// The URL of the checkpoint store; none for a folder in the data folder.
    pub checkpoints: Option<String>,
    /// How bytes go over connections.
    pub transport: TransportKind,
    /// Whether jobs' processes run in control groups.
    pub cgroups: CgroupUse,
    /// Certificates, keys and tokens.
    pub security: SecurityOptions,
    /// It may listen openly.
    pub insecure: bool,
    /// How long its work may take to move away when it is told to end.
    pub drain_timeout: Duration,
    /// How the log is written.
    pub log: LogFormat,
    /// What is logged.
    pub log_level: String,
}

impl Config {
    /// What the options come to, with the file that they name and the defaults.
    ///
    /// # Errors
    /// [`ConfigError`], for the user.
    pub fn resolve(options: StartOptions) -> Result<Self, ConfigError> {
        let file = match &options.config {
            None => FileOptions::default(),
            Some(path) => {
                let wrong = |reason: String| ConfigError::File { path: path.clone(), reason };
                let text =
                    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
                toml::from_str(&text).map_err(|error| wrong(error.to_string()))?
            }
        };
        let memory = match options.memory.or(file.memory) {
            None => machine_memory() / 2,
            Some(text) => {
                let parsed = parse_bytes(&text);
                parsed.map_err(|reason| value("memory", &text, reason))?
            }
        };
        let slots = options.slots.or(file.slots).unwrap_or_else(|| cores().max(SLOTS_MIN));
        let masters = options.masters.or(file.masters).unwrap_or(1);
        if masters == 0 || masters as usize > VOTERS_MAX {
            let reason = format!("a cluster has 1 to {VOTERS_MAX} masters, best 1, 3 or 5");
            return Err(value("masters", &masters.to_string(), reason));
        }
        let mut labels = file.label;
        for label in &options.label {
            let Some((key, of)) = label.split_once('=') else {
                return Err(value("label", label, "write KEY=VALUE".into()));
            };
            labels.insert(key.to_owned(), of.to_owned());
        }
        let drain_timeout = match options.drain_timeout.or(file.drain_timeout) {
            None => DRAIN_TIMEOUT,
            Some(text) => {
                let parsed = parse_duration(&text);
                parsed.map_err(|reason| value("drain-timeout", &text, reason))?
            }
        };
        let join = if options.join.is_empty() { file.join } else { options.join };
        let text = |given: Option<String>, file: Option<String>, default: &str| {
            given.or(file).unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            data: options.data.or(file.data).unwrap_or_else(|| DATA.into()),
            listen: address("listen", &text(options.listen, file.listen, LISTEN))?,
            advertise: options.advertise.or(file.advertise),
            http: address("http", &text(options.http, file.http, HTTP))?,
            join,
            masters,
            capacity: Resources { slots, memory },
            labels,
            checkpoints: options.checkpoints.or(file.checkpoints),
            transport: options.transport.or(file.transport).unwrap_or_default(),
            cgroups: options.cgroups.or(file.cgroups).unwrap_or_default(),
            security: options.security.or(file.security),
            insecure: options.insecure || file.insecure.unwrap_or(false),
            drain_timeout,
            log: options.log.or(file.log).unwrap_or_default(),
            log_level: text(options.log_level, file.log_level, LOG_LEVEL),
        })
    }
}

/// Slots of the smallest machine: a job that is tried out gets more than one executor there too.
const SLOTS_MIN: u32 = 4;

fn value(option: &'static str, value: &str, reason: String) -> ConfigError {
    ConfigError::Value { option, value: value.to_owned(), reason }
}

fn address(option: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |reason: String| value(option, text, reason);
    let found = std::net::ToSocketAddrs::to_socket_addrs(text).map_err(|error| {
        wrong(format!("this is no address of this machine, such as 127.0.0.1:7400: {error}"))
    })?;
    let found: Vec<_> = found.collect();
    found.first().copied().ok_or_else(|| wrong("nobody knows this host".into()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn file(text: &str) -> (TempDir, StartOptions) {
        let folder = TempDir::new().expect("there is a folder");
        let path = folder.path().join("gear.toml");
        std::fs::write(&path, text).expect("it can be written");
        (folder, StartOptions { config: Some(path), ..StartOptions::default() })
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_that_over_the_default() {
        let text = "masters = 3\nslots = 7\nmemory = \"2G\"\njoin = [\"a:1\"]\n\
                    cgroups = \"off\"\ndrain-timeout = \"1m\"\n\
                    log = \"json\"\nlog-level = \"warn\"\n\
                    [label]\nzone = \"b\"\ndisk = \"ssd\"\n";
        let (_folder, mut options) = file(text);
        options.slots = Some(9);
        options.label = vec!["zone=a".into()];
        let config = Config::resolve(options).expect("it means something");
        assert_eq!((config.masters, config.join), (3, vec!["a:1".to_owned()]));
        assert_eq!(config.capacity, Resources { slots: 9, memory: 2 << 30 });
        assert_eq!((config.log, config.log_level.as_str()), (LogFormat::Json, "warn"));
        assert_eq!(config.drain_timeout, Duration::from_secs(60));
        assert_eq!(config.cgroups, CgroupUse::Off);
        let labels = [("disk", "ssd"), ("zone", "a")];
        assert_eq!(config.labels, labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!(config.data, PathBuf::from(DATA));
    }

    #[test]
    fn what_means_nothing_is_refused_by_its_option() {
        let default = StartOptions::default;
        let cases = [
            (StartOptions { listen: Some("nowhere".into()), ..default() }, "--listen nowhere"),
            (StartOptions { http: Some("127.0.0.1:x".into()), ..default() }, "--http"),
            (StartOptions { masters: Some(0), ..default() }, "--masters 0"),
            (StartOptions { memory: Some("much".into()), ..default() }, "--memory much"),
            (StartOptions { drain_timeout: Some("1".into()), ..default() }, "--drain-timeout 1"),
            (StartOptions { label: vec!["fast".into()], ..default() }, "--label fast"),
        ];
        for (options, says) in cases {
            let error = Config::resolve(options).expect_err(says);
            assert!(error.to_string().contains(says), "{error}");
        }
        let (_folder, options) = file("mastres = 3");
        let error = Config::resolve(options).expect_err("a word is misspelt");
        assert!(error.to_string().contains("mastres"), "{error}");
    }
}
