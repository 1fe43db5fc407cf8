//! Control groups of jobs' processes: each has one of its own below the node's, where the kernel
//! keeps it within its memory, ends with it all that it has started, and says why it ended.
//!
//! `OWN/gear-NODE/` is the node's, `OWN` being the group in which it was started; in it are
//! `app-1-executor-2.3/` and the like, one for each launch. A group that gives its controllers to
//! those below it may hold no process itself, so the node moves into `OWN/gear-NODE/self/` first;
//! only the top of the hierarchy is free of that rule.

mod place;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gear_core::control::{ProcessId, Resources};
use gear_core::id::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::server::CgroupUse;

/// Controllers that are used, if they are there.
const CONTROLLERS: [&str; 2] = ["memory", "cpu"];
/// The node's own share of the processors: ten slots', so that it is heard by its cluster however
/// busy its jobs are.
const OWN_WEIGHT: &str = "1000";
/// How long processes that were killed may take to be gone: the kernel frees their memory first.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether they are.
const GONE_PAUSE: Duration = Duration::from_millis(10);

/// Why there are no control groups.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// The machine has none, or shows none to the node.
    #[error("no hierarchy of cgroup version 2 is mounted that holds this process")]
    NoHierarchy,
    /// The node may not make them.
    #[error("{}: {error}{}", path.display(), hint(error))]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// There is no limit of memory to be had.
    #[error(
        "the node's control group {} has no memory controller: delegate it (Delegate=yes in a unit \
         of systemd), or mount it as version 2", .0.display()
    )]
    NoMemory(PathBuf),
}

/// What an operator can do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": delegate the node's control group to its user (Delegate=yes in a unit of systemd)"
        }
        io::ErrorKind::ReadOnlyFilesystem => ": the container mounts control groups read-only",
        io::ErrorKind::ResourceBusy => {
            ": other processes run in the node's control group; start the node in one of its own"
        }
        _ => "",
    }
}

/// The control groups of a node that is told this of them; none if it has none.
///
/// # Errors
/// If they are required, and it cannot have them or they limit no memory.
pub(crate) async fn set_up(
    wanted: CgroupUse,
    node: NodeId,
) -> Result<Option<Arc<Cgroups>>, CgroupError> {
    let required = match wanted {
        CgroupUse::Off => return Ok(None),
        CgroupUse::Auto => false,
        CgroupUse::Required => true,
    };
    let groups = match Cgroups::open(node, required).await {
        Err(error) if !required => {
            tracing::info!(
                target: "gear",
                "what jobs' processes take is not limited, since they get no control groups: \
                 {error}"
            );
            return Ok(None);
        }
        opened => opened?,
    };
    let root = groups.root.display();
    match groups.limits_memory() {
        Ok(()) => tracing::info!(target: "gear", "jobs' processes get control groups in {root}"),
        Err(error) if required => {
            groups.close().await;
            return Err(error);
        }
        Err(error) => tracing::info!(
            target: "gear",
            "jobs' processes get control groups in {root}, without a limit of memory: {error}"
        ),
    }
    Ok(Some(Arc::new(groups)))
}

/// The control groups of a node.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// The group in which the node was started.
    own: PathBuf,
    /// The node's, below it.
    root: PathBuf,
    /// The node has moved, and was given controllers to hand on.
    moved: bool,
    /// Those of [`CONTROLLERS`] that it can use.
    controllers: Vec<&'static str>,
    /// No process is launched without a group.
    required: bool,
}

/// The control group of one launch of a process.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    process: ProcessId,
    granted: u64,
}

impl Cgroups {
    /// The groups of a node, below the one in which this process is; what an earlier life of the
    /// node has left there is ended.
    ///
    /// # Errors
    /// If the machine has none, or the node may not use them.
    async fn open(node: NodeId, required: bool) -> Result<Self, CgroupError> {
        Self::below(&own()?, node, required).await
    }

    async fn below(own: &Path, node: NodeId, required: bool) -> Result<Self, CgroupError> {
        let root = own.join(format!("gear-{:016x}", node.0));
        let left = clear(&root).await;
        if left > 0 {
            tracing::warn!(
                target: "gear",
                "an earlier life of the node had left {left} of its processes: they are ended"
            );
        }
        let given = read(&own.join("cgroup.controllers"))?;
        let has = |name: &&str| given.split_whitespace().any(|it| it == *name);
        let controllers = CONTROLLERS.into_iter().filter(has).collect();
        let mut groups = Self { own: own.into(), root, moved: false, controllers, required };
        make(&groups.root)?;
        if let Err(error) = groups.hand_on() {
            groups.close().await;
            return Err(error);
        }
        Ok(groups)
    }

    /// Has the kernel keep account of those below.
    fn hand_on(&mut self) -> Result<(), CgroupError> {
        if self.controllers.is_empty() {
            return Ok(());
        }
        let control = "cgroup.subtree_control";
        let enabled = read(&self.own.join(control))?;
        let has = |name: &str| enabled.split_whitespace().any(|it| it == name);
        let is_top = !self.own.join("cgroup.type").exists();
        if !is_top && !self.controllers.iter().all(|it| has(it)) {
            let home = self.root.join("self");
            make(&home)?;
            write(&home.join("cgroup.procs"), &std::process::id().to_string())?;
            self.moved = true;
        }
        let all = self.controllers.iter().map(|it| format!("+{it}")).collect::<Vec<_>>().join(" ");
        write(&self.own.join(control), &all)?;
        write(&self.root.join(control), &all)?;
        if self.moved && self.controllers.contains(&"cpu") {
            write(&self.root.join("self/cpu.weight"), OWN_WEIGHT)?;
        }
        Ok(())
    }

    /// That a process can be kept within its memory.
    ///
    /// # Errors
    /// If it cannot.
    fn limits_memory(&self) -> Result<(), CgroupError> {
        let has = self.controllers.contains(&"memory");
        if has { Ok(()) } else { Err(CgroupError::NoMemory(self.own.clone())) }
    }

    /// Puts a process, the launch of one that was granted this, into a group of its own, with all
    /// that it starts from now on; none if that fails and it may run without.
    ///
    /// # Errors
    /// If it must not run without.
    pub(crate) fn confine(
        &self,
        process: ProcessId,
        launch: u64,
        granted: Resources,
        pid: u32,
    ) -> Result<Option<Place>, CgroupError> {
        let place = self.place(process, launch, granted).and_then(|place| {
            place.enter(pid)?;
            Ok(place)
        });
        match place {
            Ok(place) => Ok(Some(place)),
            Err(error) if self.required => Err(error),
            Err(error) => {
                tracing::warn!(
                    target: "gear",
                    "the {process} runs without a control group of its own: {error}"
                );
                Ok(None)
            }
        }
    }

    fn place(
        &self,
        process: ProcessId,
        launch: u64,
        granted: Resources,
    ) -> Result<Place, CgroupError> {
        let folder = self.root.join(place::name(process, launch));
        make(&folder)?;
        let limit = || {
            if self.controllers.contains(&"memory") {
                let most = place::memory_max(granted.memory);
                write(&folder.join("memory.max"), &most.to_string())?;
                // What it has started is of no use without it.
                write(&folder.join("memory.oom.group"), "1")?;
            }
            if self.controllers.contains(&"cpu") {
                write(&folder.join("cpu.weight"), &place::cpu_weight(granted).to_string())?;
            }
            Ok(())
        };
        if let Err(error) = limit() {
            let _ = fs::remove_dir(&folder);
            return Err(error);
        }
        Ok(Place { folder, process, granted: granted.memory })
    }

    /// Ends all processes in the groups, and removes them as far as the kernel lets go of them: the
    /// node's own goes with the unit or container in which it runs.
    pub(crate) async fn close(&self) {
        for folder in groups(&self.root).filter(|it| !it.ends_with("self")) {
            end(&folder).await;
        }
        if self.moved {
            let none = self.controllers.iter().map(|it| format!("-{it}")).collect::<Vec<_>>();
            for folder in [&self.root, &self.own] {
                // Another node of this machine may still need it.
                let _ = write(&folder.join("cgroup.subtree_control"), &none.join(" "));
            }
            let me = std::process::id().to_string();
            let _ = write(&self.own.join("cgroup.procs"), &me);
            let _ = fs::remove_dir(self.root.join("self"));
        }
        let _ = fs::remove_dir(&self.root);
    }
}

impl Place {
    fn enter(&self, pid: u32) -> Result<(), CgroupError> {
        write(&self.folder.join("cgroup.procs"), &pid.to_string())
    }

    /// Why the kernel has ended the process, if it had too much memory.
    pub(crate) fn over(&self) -> Option<String> {
        let events = fs::read_to_string(self.folder.join("memory.events")).ok()?;
        let killed = place::value(&events, "oom_kill") > 0;
        killed.then(|| place::over(self.process.role, self.granted))
    }

    /// Ends what the process has left, and removes the group.
    pub(crate) async fn end(self) {
        end(&self.folder).await;
    }
}

/// The group in which this process is.
fn own() -> Result<PathBuf, CgroupError> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = place::own(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"));
    own.ok_or(CgroupError::NoHierarchy)
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.into();
    move |error| CgroupError::Refused { path, error }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(refused(path))
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(refused(path))
}

fn make(folder: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(refused(folder)),
    }
}

/// The groups right below one; none if it is not there.
fn groups(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path())
}

/// Ends all processes below a group, and removes it; gives how many there were.
async fn clear(folder: &Path) -> usize {
    let mut count = 0;
    for group in groups(folder) {
        count += end(&group).await;
    }
    // It is made again at once; one that stays is taken over.
    let _ = fs::remove_dir(folder);
    count
}

/// Ends all processes in a group, waits until they are gone, and removes it; gives how many there
/// were.
async fn end(folder: &Path) -> usize {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let count = processes.lines().count();
    // Kernels before 5.14 have no such file, and are told of each.
    if fs::OpenOptions::new().write(true).open(folder.join("cgroup.kill")).is_err()
        || fs::write(folder.join("cgroup.kill"), "1").is_err()
    {
        for pid in processes.lines().filter_map(|it| Pid::from_raw(it.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let began = Instant::now();
    loop {
        // What a process has made in its own group goes first.
        groups(folder).for_each(|below| drop(fs::remove_dir(below)));
        match fs::remove_dir(folder) {
            Ok(()) => return count,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return count,
            Err(error)
                if error.kind() != io::ErrorKind::ResourceBusy
                    || began.elapsed() > GONE_TIMEOUT =>
            {
                let folder = folder.display();
                tracing::warn!(target: "gear", "{folder} cannot be removed: {error}");
                return count;
            }
            Err(_) => sleep(GONE_PAUSE).await,
        }
    }
}
