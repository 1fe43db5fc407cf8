//! Real servers for the tests that talk to them: a Kafka broker, an HDFS of a `NameNode` and two
//! `DataNode`s, and an S3 server. `tests/services` has the scripts that start them, and says more.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::watchdog::{Watch, watch};

/// The servers' names, but for those of other kinds.
pub const NAMES: [&str; 5] = ["namenode", "datanode1", "datanode2", "kafka", "s3"];

/// Which servers there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`NAMES`]: a Kafka broker, an HDFS and an S3 server.
    Usual,
    /// An HDFS of two `NameNode`s, and nothing else.
    HighlyAvailable,
    /// An HDFS behind Kerberos with a KDC, and nothing else.
    Kerberos,
    /// The same with data that is encrypted on its way.
    KerberosPrivacy,
}

impl Kind {
    /// The servers' names, in the order in which they are started.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &NAMES,
            Self::HighlyAvailable => &["namenode", "namenode2", "datanode1", "datanode2"],
            Self::Kerberos | Self::KerberosPrivacy => {
                &["kdc", "namenode", "datanode1", "datanode2"]
            }
        }
    }

    /// What `up` is told.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[],
            Self::HighlyAvailable => &["--ha"],
            Self::Kerberos => &["--kerberos"],
            Self::KerberosPrivacy => &["--kerberos-privacy"],
        }
    }

    /// The script that downloads what they need.
    const fn warm(self) -> &'static str {
        match self {
            Self::Usual | Self::HighlyAvailable => "warm",
            Self::Kerberos | Self::KerberosPrivacy => "warm-kerberos",
        }
    }
}

/// The bucket of the S3 server.
pub const BUCKET: &str = "gear";
/// Who may use it, as in `tests/services/lib.sh`: the id of the key, and the key.
pub const S3_KEY: (&str, &str) = ("gear", "known-to-every-test");
/// A user of the broker's listener with passwords, who may do what he was granted, and the
/// password, as in `tests/services/servers/server.properties`.
pub const GUEST: (&str, &str) = ("guest", "known-to-every-test");

/// `required`: not to have servers is a failure. `off`: there are to be none.
const WANTED: &str = "GEAR_TEST_SERVICES";
/// What the scripts exit with where there can be no servers.
const UNAVAILABLE: i32 = 69;
/// The first start on a machine downloads 140 MB, and makes archives of classes.
const WARM_MAX: Duration = Duration::from_secs(900);
/// The scripts themselves wait for 60 s at most.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// Killed servers end at once, but for the slowest machine.
const END_MAX: Duration = Duration::from_secs(15);
/// Between two looks at what is being waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// Of each server's log, shown if a test fails.
const LOG_LINES: usize = 15;

/// Why there are no servers, or one does not do what it was told.
#[derive(Debug, Error)]
pub enum ServicesError {
    /// This machine can have none, and is to.
    #[error("GEAR_TEST_SERVICES=required, but there can be no servers here: {0}")]
    Unavailable(String),
    /// The environment asks for something that there is not.
    #[error("GEAR_TEST_SERVICES={0}: it is `required` or `off`, or it is not set")]
    Wanted(String),
    /// A script has failed.
    #[error("tests/services/{command}: {said}")]
    Failed {
        /// The script and its arguments.
        command: String,
        /// What it has said.
        said: String,
    },
}

/// Servers of their own for whoever started them. Dropped, they are killed and their data is
/// gone; likewise if this process ends in whatever way.
#[derive(Debug)]
pub struct Services {
    kind: Kind,
    folder: PathBuf,
    supervisor: Child,
    /// Its end tells the supervisor that nobody needs the servers any more.
    input: Option<ChildStdin>,
    /// What `up` has printed, by name.
    addresses: BTreeMap<String, String>,
}

/// The servers of a test binary, in the hands of one test.
#[derive(Debug)]
pub struct Lease {
    kind: Kind,
    shared: MutexGuard<'static, [Shared; KINDS]>,
    _watch: Watch,
}

/// Kinds of servers that a test binary may have at once.
const KINDS: usize = 4;

/// What has become of a test binary's servers.
#[derive(Debug)]
enum Shared {
    NotStarted,
    Unavailable,
    Failed(String),
    Running(Services),
}

/// One lock for all: there are no more than two processors for them and the test.
static SHARED: Mutex<[Shared; KINDS]> = Mutex::new([const { Shared::NotStarted }; KINDS]);

/// The servers of this test binary, started by the first test that asks, for one test at a time,
/// which may take so long. None if there can be none: the test is to end then.
///
/// # Panics
/// If they do not start, or if there are to be some and there can be none.
#[must_use]
pub fn lease(bound: Duration) -> Option<Lease> {
    lease_of(Kind::Usual, bound)
}

/// As [`lease`], of servers of this kind.
///
/// # Panics
/// As [`lease`].
#[must_use]
pub fn lease_of(kind: Kind, bound: Duration) -> Option<Lease> {
    // A test that has failed leaves them in any state, which is put right below.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let own = &mut shared[kind as usize];
    if let Shared::NotStarted = own {
        *own = match Services::start_with(kind) {
            Ok(Some(services)) => Shared::Running(services),
            Ok(None) => Shared::Unavailable,
            Err(error) => Shared::Failed(error.to_string()),
        };
    }
    let services = match own {
        Shared::Running(services) => services,
        // The next tests need not wait for the same again.
        Shared::Failed(reason) => panic!("{reason}"),
        Shared::Unavailable | Shared::NotStarted => return None,
    };
    services.start_missing().unwrap_or_else(|error| panic!("{error}"));
    Some(Lease { kind, shared, _watch: watch("a test with servers", bound) })
}

impl Deref for Lease {
    type Target = Services;

    fn deref(&self) -> &Services {
        let Shared::Running(services) = &self.shared[self.kind as usize] else {
            unreachable!("it was leased")
        };
        services
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
        }
    }
}

/// Whether there can be servers on this machine: what they need has been downloaded then. If not,
/// that is said in one line on standard error.
///
/// # Errors
/// If there can be none but the environment says that there are to be.
pub fn are_possible() -> Result<bool, ServicesError> {
    are_possible_of(Kind::Usual)
}

/// The same of servers of this kind.
fn are_possible_of(kind: Kind) -> Result<bool, ServicesError> {
    static SAID: [Once; KINDS] = [const { Once::new() }; KINDS];
    let wanted = std::env::var_os(WANTED).unwrap_or_default();
    let Some(reason) = why_impossible(&wanted, script(kind.warm()))? else { return Ok(true) };
    let what = match kind {
        Kind::Usual => "REAL SERVERS (Kafka, HDFS, S3)",
        Kind::HighlyAvailable => "AN HDFS OF TWO NAME NODES",
        Kind::Kerberos | Kind::KerberosPrivacy => "AN HDFS BEHIND KERBEROS",
    };
    SAID[kind as usize].call_once(|| say(&format!("\nNOT TESTED WITH {what}: {reason}\n")));
    Ok(false)
}

/// Why there are to be no servers, after this command has tried to get what they need.
fn why_impossible(wanted: &OsStr, mut warm: Command) -> Result<Option<String>, ServicesError> {
    let is_required = match wanted.to_str() {
        Some("") => false,
        Some("required") => true,
        Some("off") => return Ok(Some(format!("{WANTED}=off"))),
        _ => return Err(ServicesError::Wanted(wanted.to_string_lossy().into_owned())),
    };
    let _watch = watch("tests/services/warm", WARM_MAX);
    let failed = |said| ServicesError::Failed { command: "warm".into(), said };
    let mut child = warm.spawn().map_err(|error| failed(error.to_string()))?;
    let said = listen(&mut child);
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let said = said.join().unwrap_or_default();
    match status.code() {
        Some(0) => Ok(None),
        Some(UNAVAILABLE) if is_required => Err(ServicesError::Unavailable(said)),
        Some(UNAVAILABLE) => Ok(Some(said.lines().next().unwrap_or_default().to_owned())),
        _ => Err(failed(said)),
    }
}

/// Says something where everybody sees it: what the macros print the harness keeps to itself.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A script of `tests/services`, apart from what the terminal sends to the tests.
fn script(name: &str) -> Command {
    let mut command = Command::new(crate::root().join("tests/services").join(name));
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Collects what a script says on standard error, and shows it: the first start takes long.
fn listen(child: &mut Child) -> JoinHandle<String> {
    let stderr = child.stderr.take().expect("it is a pipe");
    thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            say(&(line + "\n"));
        }
        said
    })
}

impl Services {
    /// Starts servers and waits until they serve. None, and one line on standard error, if there
    /// can be none on this machine.
    ///
    /// # Errors
    /// If one does not start, and if there can be none but the environment says that there are
    /// to be.
    pub fn start() -> Result<Option<Self>, ServicesError> {
        Self::start_with(Kind::Usual)
    }

    /// As [`Self::start`], servers of this kind.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(kind: Kind) -> Result<Option<Self>, ServicesError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        if !are_possible_of(kind)? {
            return Ok(None);
        }
        let _watch = watch("the start of the servers", COMMAND_MAX);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("gear-services-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let failed = |said| ServicesError::Failed { command: "up".into(), said };
        let mut up = script("up");
        up.arg("--hold").args(kind.options()).arg(&folder).stdin(Stdio::piped());
        let mut supervisor = up.spawn().map_err(|error| failed(error.to_string()))?;
        let said = listen(&mut supervisor);
        let input = supervisor.stdin.take();
        let mut printed = String::new();
        let stdout = supervisor.stdout.as_mut().expect("it is a pipe");
        stdout.read_to_string(&mut printed).map_err(|error| failed(error.to_string()))?;
        let addresses: BTreeMap<_, _> = printed
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !addresses.is_empty() {
            return Ok(Some(Self { kind, folder, supervisor, input, addresses }));
        }
        drop(input);
        let _ = supervisor.wait();
        Err(failed(said.join().unwrap_or_default()))
    }

    fn address(&self, name: &str) -> &str {
        let address = self.addresses.get(name);
        address.unwrap_or_else(|| panic!("servers of the kind {:?} have no {name}", self.kind))
    }

    /// Where Kafka's clients begin: `host:port`.
    #[must_use]
    pub fn brokers(&self) -> &str {
        self.address("KAFKA_BROKERS")
    }

    /// The same where clients have to say who they are (SASL/PLAIN without TLS), such as [`GUEST`].
    #[must_use]
    pub fn sasl_brokers(&self) -> &str {
        self.address("KAFKA_SASL_BROKERS")
    }

    /// The same over TLS (SASL/PLAIN, or SCRAM-SHA-256 for who is a [`user`](Self::user)), and the
    /// file with the certificate that a client has to trust there.
    #[must_use]
    pub fn tls_brokers(&self) -> (&str, &str) {
        (self.address("KAFKA_TLS_BROKERS"), self.address("KAFKA_TLS_CA"))
    }

    /// The HDFS: `hdfs://host:port`, or of two `NameNode`s what the configuration in
    /// [`Self::hadoop`] calls it.
    #[must_use]
    pub fn hdfs_url(&self) -> &str {
        self.address("HDFS_URL")
    }

    /// The folder that `HADOOP_CONF_DIR` is to name.
    #[must_use]
    pub fn hadoop(&self) -> PathBuf {
        self.folder.join("hadoop")
    }

    /// One of two `NameNode`s: `hdfs://host:port`.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn name_node(&self, name: &str) -> String {
        let ports = fs::read_to_string(self.folder.join("ports")).expect("they were chosen");
        let mut ports = ports.lines().filter_map(|line| line.split_once('='));
        let port = ports.find(|(listener, _)| listener.eq_ignore_ascii_case(name));
        format!("hdfs://127.0.0.1:{}", port.expect("it is one of the servers").1)
    }

    /// The environment of a process that is to use an HDFS behind Kerberos, as the user whose
    /// keytab is in it.
    #[must_use]
    pub fn kerberos_variables(&self) -> Vec<(&'static str, String)> {
        let names = ["HADOOP_CONF_DIR", "KRB5_CONFIG", "KRB5_CLIENT_KTNAME"];
        names.map(|name| (name, self.address(name).to_owned())).into()
    }

    /// The S3 server: `http://host:port`.
    #[must_use]
    pub fn s3_endpoint(&self) -> &str {
        self.address("S3_ENDPOINT")
    }

    /// The environment of a process that is to use the S3 server.
    #[must_use]
    pub fn s3_variables(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", self.s3_endpoint()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", S3_KEY.0),
            ("AWS_SECRET_ACCESS_KEY", S3_KEY.1),
        ]
    }

    /// The folder in which the S3 server keeps the objects of its bucket as files.
    #[must_use]
    pub fn bucket(&self) -> PathBuf {
        self.folder.join("s3/data").join(BUCKET)
    }

    /// The folder with all that the servers have written.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process of a server; none if it does not run.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        let pid = fs::read_to_string(self.folder.join(name).join("pid")).ok()?;
        let pid = pid.trim().parse().ok()?;
        // The number of one that has ended may be another's by now.
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mark = format!("-Dgear.server={}", self.folder.join(name).display());
        command.split(|byte| *byte == 0).any(|it| it == mark.as_bytes()).then_some(pid)
    }

    /// Kills a server as `kill -9` does; it has ended then.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self, name: &str) -> Result<(), ServicesError> {
        self.run("kill", &[name]).map(drop)
    }

    /// Starts one that was killed, with its ports and its data, and waits until it serves. A
    /// `NameNode` may be in safe mode until its `DataNode`s have reported.
    ///
    /// # Errors
    /// If it does not start, or runs.
    pub fn start_again(&self, name: &str) -> Result<(), ServicesError> {
        self.run("start", &[name]).map(drop)
    }

    /// Starts those that do not run.
    fn start_missing(&self) -> Result<(), ServicesError> {
        for name in self.kind.names() {
            if self.pid(name).is_none() {
                self.start_again(name)?;
            }
        }
        if self.kind == Kind::HighlyAvailable && self.active()?.is_none() {
            self.activate("namenode")?;
        }
        Ok(())
    }

    /// Which of two `NameNode`s is active, if one is.
    ///
    /// # Errors
    /// If there is only one.
    pub fn active(&self) -> Result<Option<String>, ServicesError> {
        let name = self.run("active", &[])?;
        Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty()))
    }

    /// Makes one of two `NameNode`s the active one, or `none`; one that is active, and that has not
    /// been killed, becomes standby first.
    ///
    /// # Errors
    /// If it refuses.
    pub fn activate(&self, name: &str) -> Result<(), ServicesError> {
        self.run("active", &[name]).map(drop)
    }

    /// Makes a topic, with settings such as `retention.ms=1000`.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn topic(
        &self,
        name: &str,
        partitions: u32,
        settings: &[&str],
    ) -> Result<(), ServicesError> {
        let partitions = partitions.to_string();
        self.run("topic", &[&[name, &partitions], settings].concat()).map(drop)
    }

    /// Says what users may do, with the options of Kafka's own program, such as `["--add",
    /// "--allow-principal", "User:guest", "--operation", "Read", "--topic", "words"]`.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn acl(&self, options: &[&str]) -> Result<(), ServicesError> {
        self.run("acl", options).map(drop)
    }

    /// Gives a user a password with which he comes by SCRAM-SHA-256.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn user(&self, name: &str, password: &str) -> Result<(), ServicesError> {
        self.run("user", &[name, password]).map(drop)
    }

    /// Says how many bytes a second clients of this id may produce.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn quota(&self, client_id: &str, bytes: u32) -> Result<(), ServicesError> {
        self.run("quota", &[client_id, &bytes.to_string()]).map(drop)
    }

    /// Appends `key<TAB>value` lines to a topic, by Kafka's own producer.
    ///
    /// # Errors
    /// If the producer fails.
    pub fn produce(&self, topic: &str, lines: &str) -> Result<(), ServicesError> {
        self.run_with("produce", &[topic], lines).map(drop)
    }

    /// The committed records of a topic as `key<TAB>value` lines, by Kafka's own consumer, with
    /// options such as `--max-messages 10`.
    ///
    /// # Errors
    /// If the consumer fails.
    pub fn consume(&self, topic: &str, options: &[&str]) -> Result<String, ServicesError> {
        self.run("consume", &[&[topic], options].concat())
    }

    /// What Hadoop's own shell prints: `["-cat", "/file"]`, `["dfsadmin", "-safemode", "get"]`.
    ///
    /// # Errors
    /// If it fails.
    pub fn hdfs(&self, arguments: &[&str]) -> Result<String, ServicesError> {
        self.run("hdfs", arguments)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Result<String, ServicesError> {
        self.run_with(name, arguments, "")
    }

    /// What a script prints.
    fn run_with(
        &self,
        name: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, ServicesError> {
        let called = format!("{name} {}", arguments.join(" "));
        let _watch = watch(format!("tests/services/{called}"), COMMAND_MAX);
        let failed = |said| ServicesError::Failed { command: called.clone(), said };
        let mut command = script(name);
        command.args(arguments).env("GEAR_SERVICES_DIR", &self.folder).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let input = input.to_owned();
        let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        // One that does not read all of it says why itself.
        let _ = writer.join();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Shows the ends of the servers' logs.
    fn show_logs(&self) {
        for name in self.kind.names() {
            let log = self.folder.join(name).join("log");
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
            println!("--- the end of {}\n{}", log.display(), end.join("\n"));
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
        }
        drop(self.input.take());
        let began = Instant::now();
        while self.supervisor.try_wait().is_ok_and(|it| it.is_none()) {
            if began.elapsed() > END_MAX {
                let _ = self.supervisor.kill();
            }
            sleep(PAUSE);
        }
        // It has done so itself, unless it was killed.
        if self.folder.exists() {
            let _ = self.run("down", &["--now"]);
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_java() -> Command {
        let mut warm = script("warm");
        warm.env("JAVA_HOME", "/nowhere");
        warm
    }

    #[test]
    fn without_java_tests_are_skipped() {
        let reason = why_impossible(OsStr::new(""), without_java()).unwrap();
        assert!(reason.expect("there is no Java").contains("there is no Java"));
    }

    #[test]
    fn without_java_it_is_a_failure_where_servers_are_required() {
        let error = why_impossible(OsStr::new("required"), without_java()).unwrap_err();
        assert!(matches!(&error, ServicesError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("a JDK of 17 or later is needed"), "{error}");
    }

    #[test]
    fn a_wish_is_heard_and_a_misspelt_one_is_an_error() {
        assert!(why_impossible(OsStr::new("off"), without_java()).unwrap().is_some());
        let error = why_impossible(OsStr::new("require"), without_java()).unwrap_err();
        assert!(matches!(&error, ServicesError::Wanted(it) if it == "require"), "{error}");
    }
}
