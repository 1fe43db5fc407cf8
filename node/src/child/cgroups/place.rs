//! Where the kernel keeps the control group of a process, and what limits are written there.

use std::path::{Path, PathBuf};

use gear_core::control::{ProcessId, Resources, Role};

/// Memory that a process may take beside what its job was granted: its program, the stacks of its
/// threads, and what the allocator keeps back.
pub(super) const MARGIN_BYTES: u64 = 128 << 20;
/// One part in so many of what was granted comes on top: the allocator's loss grows with it.
pub(super) const MARGIN_SHARE: u64 = 4;
/// The weight of one slot, the kernel's own default.
const WEIGHT_OF_SLOT: u64 = 100;
/// The most that the kernel takes.
const WEIGHT_MAX: u64 = 10_000;

/// The folder of this process's control group, by the texts of `/proc/self/mountinfo` and
/// `/proc/self/cgroup`; none if no hierarchy of version 2 that holds it is mounted.
pub(super) fn own(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // Outside of what is mounted there is no way to it.
        let below = Path::new(own).strip_prefix(root).ok()?;
        let inside = below.components().all(|it| it != std::path::Component::ParentDir);
        inside.then(|| Path::new(point).join(below))
    })
}

/// The name of a launch's control group.
pub(super) fn name(process: ProcessId, launch: u64) -> String {
    let app = process.app.0;
    match process.role {
        Role::AppMaster(term) => format!("app-{app}-master-{}.{launch}", term.0),
        Role::Executor(executor) => format!("app-{app}-executor-{}.{launch}", executor.0),
    }
}

/// The most memory that a process may take before the kernel ends it.
pub(super) const fn memory_max(granted: u64) -> u64 {
    granted.saturating_add(granted / MARGIN_SHARE).saturating_add(MARGIN_BYTES)
}

/// The share of the processors where they are short; an app master, which takes no slot, has one
/// slot's, since everybody waits for it.
pub(super) fn cpu_weight(granted: Resources) -> u64 {
    (WEIGHT_OF_SLOT * u64::from(granted.slots.max(1))).min(WEIGHT_MAX)
}

/// The value of a line of a file such as `memory.events`; 0 if there is none.
pub(super) fn value(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Why a process ended that had more memory than it may.
pub(super) fn over(role: Role, granted: u64) -> String {
    let (mib, most) = (granted >> 20, memory_max(granted) >> 20);
    let act = match role {
        Role::Executor(_) => "raise --memory of gear-node submit",
        Role::AppMaster(_) => {
            "raise --memory of the node, of which an app master gets a slot's share"
        }
    };
    format!("killed: over its memory of {mib} MiB (with all else that it needs, {most} MiB); {act}")
}

#[cfg(test)]
mod tests {
    use gear_core::id::{AppId, ExecutorId};

    use super::*;

    #[test]
    fn the_own_group_is_found_wherever_it_is_mounted() {
        let systemd = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let unit = "0::/system.slice/gear.service\n";
        let path = "/sys/fs/cgroup/system.slice/gear.service";
        assert_eq!(own(systemd, unit), Some(path.into()));
        let hybrid = "40 32 0:38 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      45 32 0:43 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let both = "4:memory:/a\n0::/\n";
        assert_eq!(own(hybrid, both), Some("/sys/fs/cgroup/unified/".into()));
        // A part of the hierarchy is mounted, as some containers have it.
        let part = "45 32 0:43 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(own(part, "0::/docker/1/a\n"), Some("/sys/fs/cgroup/a".into()));
        for elsewhere in ["0::/docker/2\n", "0::/../x\n", "4:memory:/a\n"] {
            assert_eq!(own(part, elsewhere), None, "{elsewhere}");
        }
        assert_eq!(own(systemd, "0::/../x\n"), None);
        assert_eq!(own("", unit), None);
    }

    #[test]
    fn limits_leave_room_and_stay_within_what_the_kernel_takes() {
        assert_eq!(memory_max(1 << 30), (1 << 30) + (256 << 20) + (128 << 20));
        assert_eq!(memory_max(u64::MAX), u64::MAX);
        let weight = |slots| cpu_weight(Resources { slots, memory: 0 });
        assert_eq!([0, 1, 3, u32::MAX].map(weight), [100, 100, 300, 10_000]);
    }

    #[test]
    fn files_of_the_kernel_are_read_by_their_keys() {
        let text = "low 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 3\n";
        assert_eq!(value(text, "oom_kill"), 1);
        assert_eq!(value(text, "populated"), 0);
    }

    #[test]
    fn who_had_too_much_is_told_which_option_to_raise() {
        let text = over(Role::Executor(ExecutorId(1)), 512 << 20);
        assert!(text.contains("over its memory of 512 MiB") && text.contains("--memory"), "{text}");
        let process = ProcessId { app: AppId(3), role: Role::Executor(ExecutorId(2)) };
        assert_eq!(name(process, 7), "app-3-executor-2.7");
    }
}
