//! The real servers themselves: they come, can be killed, come again, and go.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_tests::services::{NAMES, Services, are_possible, lease};
use gear_tests::watchdog::watch;

/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
/// Until a killed supervisor's servers have gone, on the slowest machine.
const END_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what is being waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// Set in the process that is to be killed with its servers.
const IS_KILLED: &str = "GEAR_TEST_IS_KILLED";

/// The servers; none where there can be none.
fn start() -> Option<Services> {
    Services::start().unwrap_or_else(|error| panic!("{error}"))
}

/// The processes that were called with this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let entries = fs::read_dir("/proc").expect("this is Linux").flatten();
    let commands = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let commands = commands.map(|it| String::from_utf8_lossy(&it).replace('\0', " "));
    commands.filter(|command| command.contains(&*folder)).collect()
}

fn is_served(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn each_can_be_killed_and_started_again_with_its_port_and_its_data() {
    let _watch = watch("kill and start", TEST_MAX);
    let Some(services) = start() else { return };
    let brokers = services.brokers().to_owned();
    let s3 = services.s3_endpoint().strip_prefix("http://").expect("it is a URL").to_owned();
    let name_node = services.hdfs_url().strip_prefix("hdfs://").expect("it is a URL").to_owned();
    services.topic("words", 1, &[]).unwrap();
    services.produce("words", "a\tone\nb\ttwo\n").unwrap();
    let file = services.folder().join("file");
    fs::write(&file, "what is kept\n").expect("there is room");
    services.hdfs(&["-put", &file.to_string_lossy(), "/file"]).unwrap();
    for (name, address) in [
        ("kafka", Some(&brokers)),
        ("datanode1", None),
        ("namenode", Some(&name_node)),
        ("s3", Some(&s3)),
    ] {
        let before = services.pid(name).expect("it runs");
        services.kill(name).unwrap();
        assert_eq!(services.pid(name), None, "{name}");
        assert!(services.kill(name).is_err(), "{name} has been killed");
        if let Some(address) = address {
            assert!(!is_served(address), "{name} has been killed");
        }
        services.start_again(name).unwrap();
        let after = services.pid(name).expect("it runs again");
        assert_ne!(before, after, "{name}");
        assert!(services.start_again(name).is_err(), "{name} runs");
        if let Some(address) = address {
            assert!(is_served(address), "{name} runs");
        }
    }
    assert_eq!(services.consume("words", &["--max-messages", "2"]).unwrap(), "a\tone\nb\ttwo\n");
    services.hdfs(&["dfsadmin", "-safemode", "wait"]).unwrap();
    assert_eq!(services.hdfs(&["-cat", "/file"]).unwrap(), "what is kept\n");
    let error = services.kill("zookeeper").unwrap_err().to_string();
    assert!(error.contains("there is no server 'zookeeper'"), "{error}");

    let folder = services.folder().to_owned();
    assert!(processes_of(&folder).len() > NAMES.len(), "the servers, and who looks after them");
    drop(services);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[test]
fn nothing_is_left_of_a_test_that_is_killed() {
    let _watch = watch("a test that is killed", TEST_MAX);
    let found = std::env::temp_dir().join(format!("gear-services-found-{}", std::process::id()));
    if let Some(found) = std::env::var_os(IS_KILLED) {
        let Some(first) = lease(TEST_MAX) else { return };
        let before = first.pid("datanode2").expect("it runs");
        first.kill("datanode2").unwrap();
        drop(first);
        let second = lease(TEST_MAX).expect("they are there");
        let after = second.pid("datanode2").expect("the next test finds all of them");
        assert_ne!(before, after);
        let folder = second.folder().to_string_lossy().into_owned();
        fs::write(found, folder).expect("there is room");
        loop {
            std::thread::park();
        }
    }
    let this = std::env::current_exe().expect("this is a program");
    let name = "nothing_is_left_of_a_test_that_is_killed";
    let mut child = Command::new(this)
        .args(["--exact", name])
        .env(IS_KILLED, &found)
        .stdout(Stdio::null())
        .spawn()
        .expect("it can be started");
    let folder = loop {
        if let Ok(folder) = fs::read_to_string(&found)
            && !folder.is_empty()
        {
            break folder;
        }
        if let Some(status) = child.try_wait().expect("it is our child") {
            // It has said that there can be no servers.
            assert!(status.success(), "it could not start them");
            return;
        }
        sleep(PAUSE);
    };
    fs::remove_file(&found).expect("it is ours");
    let folder = Path::new(&folder);
    assert!(processes_of(folder).len() > NAMES.len(), "the servers, and who looks after them");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let began = Instant::now();
    while !processes_of(folder).is_empty() || folder.exists() {
        assert!(began.elapsed() < END_MAX, "{:?} are left", processes_of(folder));
        sleep(PAUSE);
    }
}

#[test]
fn a_script_says_why_the_servers_do_not_start() {
    let _watch = watch("scripts that fail", TEST_MAX);
    if !are_possible().unwrap_or_else(|error| panic!("{error}")) {
        return;
    }
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let up = |options: &str| {
        let mut command = Command::new(gear_tests::root().join("tests/services/up"));
        command.arg(folder.path()).env("GEAR_SERVICES_JVM", options);
        let ended = command.output().expect("it can be started");
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(processes_of(folder.path()), Vec::<String>::new());
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let said = up("-XX:NoSuchOption");
    assert!(said.contains("has ended") && said.contains("Unrecognized VM option"), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it has one").port();
    let ports = folder.path().join("ports");
    let mut file = fs::OpenOptions::new().append(true).open(&ports).expect("they have been chosen");
    writeln!(file, "NAMENODE={port}").expect("there is room");
    let said = up("");
    assert!(said.contains(&format!("127.0.0.1:{port} is taken")), "{said}");
}
