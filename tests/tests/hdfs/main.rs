//! HDFS: its source, its sink and the checkpoint store on it, against a real `NameNode` and two
//! real `DataNode`s that are killed, started again and filled, against two `NameNode`s, and behind
//! Kerberos.

mod cluster;
mod driver;
mod failover;
mod jobs;
mod kerberos;
mod objects;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use gear_core::effect::{IoError, IoRequest, Notice};
use gear_tests::services::{Kind, Lease, lease_of};
use tempfile::TempDir;

/// Longer than any of these tests takes on a machine with other work.
const BOUND: Duration = Duration::from_secs(300);

/// The servers, and a folder on them for one test.
struct Place {
    services: Lease,
    folder: String,
}

impl Place {
    /// None if there can be no servers.
    fn new(test: &str) -> Option<Self> {
        Self::of(Kind::Usual, test)
    }

    fn of(kind: Kind, test: &str) -> Option<Self> {
        let services = lease_of(kind, BOUND)?;
        let folder = format!("{}/{test}", services.hdfs_url());
        Some(Self { services, folder })
    }

    /// The URL of a file in the folder.
    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// The path of a file in the folder, for Hadoop's shell.
    fn path(&self, name: &str) -> String {
        let url = self.url(name);
        url.strip_prefix(self.services.hdfs_url()).expect("it begins so").to_owned()
    }

    /// What Hadoop's own shell does.
    fn hdfs(&self, arguments: &[&str]) -> String {
        self.services.hdfs(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A folder as Hadoop's own shell copies it to this machine.
    fn fetch(&self, name: &str) -> (TempDir, PathBuf) {
        let folder = TempDir::new().expect("there is room for a temporary folder");
        let local = folder.path().join("fetched");
        self.hdfs(&["-get", &self.path(name), local.to_str().expect("it is text")]);
        (folder, local)
    }

    /// Puts files there, through our own sink's driver.
    fn put(&self, files: &[(&str, &[u8])]) {
        let mut performer = driver::performer();
        for (name, content) in files {
            let (staged, visible) = (self.url(&format!(".staged/{name}")), self.url(name));
            let requests = [write(&staged, 0, content), sync(&staged), publish(&staged, &visible)];
            for request in requests {
                performer.perform(&request).expect("it can be written");
            }
        }
    }

    fn kill(&self, server: &str) {
        self.services.kill(server).unwrap_or_else(|error| panic!("{error}"));
    }

    fn start_again(&self, server: &str) {
        self.services.start_again(server).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Stops servers for as long as it lives: their connections stay, and nobody answers.
struct Frozen(Vec<String>);

impl Frozen {
    fn new(place: &Place, names: &[&str]) -> Self {
        let pid = |name: &&str| place.services.pid(name).expect("it runs").to_string();
        let frozen = Self(names.iter().map(pid).collect());
        assert!(frozen.signal("-STOP"), "they run");
        frozen
    }

    /// False if one has ended.
    fn signal(&self, signal: &str) -> bool {
        let status = Command::new("kill").arg(signal).args(&self.0).stderr(Stdio::null()).status();
        status.expect("there is a kill").success()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Those that were killed meanwhile need not go on.
        self.signal("-CONT");
    }
}

fn tell(notice: Notice) {
    println!("{notice:?}");
}

fn write(path: &str, offset: u64, bytes: &[u8]) -> IoRequest {
    IoRequest::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
}

fn sync(path: &str) -> IoRequest {
    IoRequest::Sync { path: path.to_owned() }
}

fn copy(from: &str, to: &str, bytes: &[u8]) -> IoRequest {
    let (len, crc) = (bytes.len() as u64, crc32c::crc32c(bytes));
    IoRequest::CopyPrefix { from: from.to_owned(), to: to.to_owned(), len, crc }
}

fn publish(from: &str, to: &str) -> IoRequest {
    IoRequest::Publish { from: from.to_owned(), to: to.to_owned() }
}

fn remove(path: &str) -> IoRequest {
    IoRequest::Remove { path: path.to_owned() }
}

/// The bytes of a file, through our own source's driver.
fn read(url: &str) -> Result<Vec<u8>, IoError> {
    use gear_core::api::Files as _;

    let mut files = gear_connectors::hdfs::HdfsFiles::new(tell);
    let mut content = Vec::new();
    let mut buffer = vec![0; 100_000];
    loop {
        match files.read_at(url, content.len() as u64, &mut buffer) {
            Ok(0) => return Ok(content),
            Ok(len) => content.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind == gear_core::effect::IoErrorKind::Unavailable => {}
            Err(error) => return Err(error),
        }
    }
}
