//! Memory and processor time of processes, as the kernel tells of them.

use std::fs;

use gear_core::control::{ProcessId, Role};

use super::families::{Families, Label};
use super::since_epoch;
use crate::api::LocalProcess;

/// Linux counts processor time for programs in hundredths of a second, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) resident_bytes: f64,
    pub(super) cpu_seconds: f64,
    /// Seconds from the machine's start to the process's.
    pub(super) started: f64,
    pub(super) threads: f64,
}

/// What a process uses; none if there is none of this number. `self` is this one.
pub(super) fn usage(process: &str) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    parse(&stat, &status)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok());
    Some(Usage {
        // One that has ended, but is not yet buried, has none.
        resident_bytes: kilobytes.unwrap_or_default() * 1024.0,
        cpu_seconds: (number(11)? + number(12)?) / TICKS_PER_SECOND,
        threads: number(17)?,
        started: number(19)? / TICKS_PER_SECOND,
    })
}

/// This process, under the names that Prometheus' own clients use.
pub(super) fn collect_self(all: &mut Families) {
    let Some(usage) = usage("self") else { return };
    let memory = ("process_resident_memory_bytes", "Memory of the node's own process");
    all.gauge(memory, &[], usage.resident_bytes);
    let cpu = ("process_cpu_seconds_total", "Processor time of the node's own process");
    all.counter(cpu, &[], usage.cpu_seconds);
    all.gauge(("process_threads", "Threads of the node's own process"), &[], usage.threads);
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let help = "Open files and sockets of the node's own process";
        all.gauge(("process_open_fds", help), &[], open.count() as f64);
    }
    let uptime = fs::read_to_string("/proc/uptime").ok();
    let uptime = uptime.and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok());
    if let Some(uptime) = uptime {
        let started = since_epoch(std::time::SystemTime::now()) - uptime + usage.started;
        let help = "When the node's own process started, in seconds since 1970";
        all.gauge(("process_start_time_seconds", help), &[], started);
    }
}

/// How a process of an app is called in labels.
pub(super) fn process_label(process: &ProcessId) -> String {
    match process.role {
        Role::AppMaster(_) => "app_master".into(),
        Role::Executor(executor) => format!("executor_{}", executor.0),
    }
}

/// A process of an app that runs here.
pub(super) fn collect_child(all: &mut Families, process: &LocalProcess) {
    let Some(usage) = process.pid.and_then(|pid| usage(&pid.to_string())) else { return };
    let app = process.process.app.0.to_string();
    let name = process_label(&process.process);
    let labels: &[Label<'_>] = &[("app", &app), ("process", &name)];
    let memory = ("gear_process_resident_memory_bytes", "Memory of a process of an app");
    all.gauge(memory, labels, usage.resident_bytes);
    let cpu = ("gear_process_cpu_seconds_total", "Processor time of a process of an app");
    all.counter(cpu, labels, usage.cpu_seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = usage("self").expect("Linux tells");
        assert!(usage.resident_bytes > 100_000.0 && usage.threads >= 1.0, "{usage:?}");
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 4200 1 2";
        let usage = parse(stat, "Name:\ta\nVmRSS:\t  2048 kB\n").expect("it is one");
        let expected =
            Usage { resident_bytes: 2_097_152.0, cpu_seconds: 3.0, started: 42.0, threads: 3.0 };
        assert_eq!(usage, expected);
        assert_eq!(parse("rubbish", ""), None);
        assert_eq!(parse("1 (a) S 1", ""), None);
    }
}
