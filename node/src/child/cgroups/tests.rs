//! Groups in a folder that looks like the kernel's, and in the kernel's own where that is allowed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use gear_core::control::Role;
use gear_core::id::{AppId, ExecutorId};
use tempfile::TempDir;

use super::*;

const NODE: NodeId = NodeId(0xab);
const PROCESS: ProcessId = ProcessId { app: AppId(1), role: Role::Executor(ExecutorId(2)) };
const GRANTED: Resources = Resources { slots: 2, memory: 512 << 20 };

/// A group as a unit of systemd has it, with these controllers.
fn unit(controllers: &str) -> TempDir {
    let own = TempDir::new().expect("there is a folder");
    for (name, text) in [
        ("cgroup.type", "domain"),
        ("cgroup.controllers", controllers),
        ("cgroup.subtree_control", ""),
    ] {
        fs::write(own.path().join(name), text).expect("it is ours");
    }
    own
}

fn text(own: &Path, path: &str) -> String {
    let path = own.join("gear-00000000000000ab").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn a_process_is_put_where_its_limits_are_and_the_node_makes_room() {
    let own = unit("cpuset cpu io memory pids");
    let own = own.path();
    let groups = Cgroups::below(own, NODE, true).await.expect("all is there");
    groups.limits_memory().expect("there is a controller");
    assert_eq!(text(own, "self/cgroup.procs"), std::process::id().to_string());
    assert_eq!(text(own, "../cgroup.subtree_control"), "+memory +cpu");
    assert_eq!(text(own, "cgroup.subtree_control"), "+memory +cpu");
    let place = groups.confine(PROCESS, 4, GRANTED, 77).expect("it is ours").expect("it has one");
    let of = |name: &str| text(own, &format!("app-1-executor-2.4/{name}"));
    assert_eq!(of("memory.max"), (768_u64 << 20).to_string());
    assert_eq!((of("cgroup.procs"), of("cpu.weight")), ("77".into(), "200".into()));
    assert_eq!(place.over(), None, "the kernel says nothing of it");
    fs::write(place.folder.join("memory.events"), "oom 1\noom_kill 0\n").expect("it is ours");
    assert_eq!(place.over(), None);
    fs::write(place.folder.join("memory.events"), "oom 1\noom_kill 1\n").expect("it is ours");
    let reason = place.over().expect("it was ended");
    assert!(reason.contains("512 MiB") && reason.contains("--memory"), "{reason}");
}

#[tokio::test]
async fn who_is_left_of_an_earlier_life_is_ended() {
    let own = unit("");
    let left = own.path().join("gear-00000000000000ab/app-9-executor-1.1");
    fs::create_dir_all(&left).expect("it is ours");
    for (name, text) in [("cgroup.procs", ""), ("cgroup.kill", "")] {
        fs::write(left.join(name), text).expect("it is ours");
    }
    let other = own.path().join("gear-00000000000000ac/app-9-executor-1.1");
    fs::create_dir_all(&other).expect("it is ours");
    fs::write(other.join("cgroup.kill"), "").expect("it is ours");
    let groups = Cgroups::below(own.path(), NODE, false).await.expect("it needs nothing");
    assert_eq!(fs::read_to_string(left.join("cgroup.kill")).expect("it is there"), "1");
    let untouched = fs::read_to_string(other.join("cgroup.kill")).expect("it is there");
    assert_eq!(untouched, "", "it is another node's");
    let error = groups.limits_memory().expect_err("there is no controller");
    assert!(error.to_string().contains("Delegate=yes"), "{error}");
    assert!(!own.path().join("gear-00000000000000ab/self").exists(), "the node need not move");
}

#[tokio::test]
async fn a_node_that_may_not_says_why_and_one_that_must_does_not_go_on() {
    let own = unit("memory");
    // A folder can be no file: as good as a kernel that refuses, whoever tests.
    let control = own.path().join("cgroup.subtree_control");
    fs::remove_file(&control).expect("it is ours");
    fs::create_dir(&control).expect("it is ours");
    let error = Cgroups::below(own.path(), NODE, false).await.expect_err("it is refused");
    assert!(error.to_string().contains("cgroup.subtree_control"), "{error}");
    let gone = Path::new("/nonexistent/group");
    let error = Cgroups::below(gone, NODE, false).await.expect_err("there is none");
    assert!(error.to_string().contains("/nonexistent/group"), "{error}");
    for (required, refused) in [(true, true), (false, false)] {
        let own = unit("");
        let groups = Cgroups::below(own.path(), NODE, required).await.expect("it needs nothing");
        fs::remove_dir(&groups.root).expect("it is empty");
        fs::write(&groups.root, "").expect("it is ours");
        let confined = groups.confine(PROCESS, 1, GRANTED, 77);
        assert_eq!(confined.is_err(), refused, "{confined:?}");
        assert!(!matches!(confined, Ok(Some(_))));
    }
}

/// The kernel's groups, below one of this test's own; none, loudly, where that is not allowed.
async fn real(node: u64, limits: bool) -> Option<Cgroups> {
    let node = NodeId(node << 32 | u64::from(std::process::id()));
    let skipped = |why: &dyn std::fmt::Display| {
        eprintln!("SKIPPED: the kernel's control groups cannot be used here: {why}");
    };
    match Cgroups::open(node, true).await {
        Err(error) => {
            skipped(&error);
            None
        }
        Ok(groups) => match groups.limits_memory() {
            Err(error) if limits => {
                groups.close().await;
                skipped(&error);
                None
            }
            _ => Some(groups),
        },
    }
}

/// A shell in a group of its own that does this once it is there: a command is one more process
/// unless the shell becomes it.
fn shell(groups: &Cgroups, script: &str, granted: Resources) -> (std::process::Child, Place) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let place = groups.confine(PROCESS, 1, granted, child.id());
    let place = place.expect("it was allowed before").expect("it has one");
    let mut go = child.stdin.take().expect("it is piped");
    go.write_all(b"go\n").expect("it reads");
    (child, place)
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|it| !it.contains(") Z "))
}

#[tokio::test]
async fn the_kernel_ends_what_a_process_left_and_the_group_is_gone() {
    let Some(groups) = real(1, false).await else { return };
    // In a session of its own, where no signal to the process's group reaches it.
    let script = "setsid sleep 300 >/dev/null & echo $!";
    let (child, place) = shell(&groups, script, GRANTED);
    let out = child.wait_with_output().expect("it ends");
    let left = String::from_utf8(out.stdout).expect("it is a number");
    assert!(is_alive(&left), "{left:?}");
    let folder = place.folder.clone();
    place.end().await;
    assert!(!is_alive(&left) && !folder.exists(), "{left:?} in {}", folder.display());
    let (mut orphan, _forgotten) = shell(&groups, "exec sleep 300", GRANTED);
    // The node's next life begins while this one's children still run.
    assert_eq!(clear(&groups.root).await, 1);
    assert!(!orphan.wait().expect("it ends").success());
    assert!(!groups.root.exists());
}

#[tokio::test]
async fn the_kernel_keeps_a_process_within_its_memory() {
    let Some(groups) = real(2, true).await else { return };
    let granted = Resources { slots: 1, memory: 1 << 20 };
    // More than the margin; tail holds all of a line.
    let (mut child, place) = shell(&groups, "head -c 400M /dev/zero | tail", granted);
    assert!(!child.wait().expect("it ends").success());
    let reason = place.over().expect("it had too much");
    assert!(reason.contains("over its memory of 1 MiB"), "{reason}");
    place.end().await;
    groups.close().await;
}
