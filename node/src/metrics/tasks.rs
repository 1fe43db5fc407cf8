//! Tasks and links of the executors that run here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use gear_core::control::{Peer, ProcessId};
use gear_core::host::figures::{AuditFigures, LinkFigures, ProcessFigures, TaskFigures};
use gear_core::task::{LATENCY_BOUNDS, Latency};
use gear_core::time::EventTime;

use super::families::{Families, Label};
use super::proc::process_label;
use super::since_epoch;

pub(super) fn collect(
    all: &mut Families,
    process: &ProcessId,
    figures: &ProcessFigures,
    now: SystemTime,
) {
    let app = process.app.0.to_string();
    for (task, figures) in &figures.tasks {
        let index = task.index.to_string();
        let labels: &[Label<'_>] = &[("app", &app), ("processor", &figures.uid), ("task", &index)];
        counters(all, labels, figures);
        gauges(all, labels, figures);
        latency(all, labels, &figures.latency);
        connector(all, labels, figures);
        let names = ("gear_task_watermark_seconds", "gear_task_watermark_lag_seconds");
        watermark(all, names, labels, figures.watermark, now);
    }
    links(all, &[("app", &app)], &process_label(process), &figures.links);
}

fn counters(all: &mut Families, task: &[Label<'_>], of: &TaskFigures) {
    let mut count = |name, help, value: u64| all.counter((name, help), task, value as f64);
    let help = "Records that a task took from its inputs, or read";
    count("gear_task_records_in_total", help, of.records_in);
    count("gear_task_records_out_total", "Records that a task sent", of.records_out);
    let help = "Bytes of what a task took from its inputs, or read";
    count("gear_task_bytes_in_total", help, of.bytes_in);
    count("gear_task_bytes_out_total", "Bytes that a task sent", of.bytes_out);
    let help = "Records that a task put aside";
    count("gear_task_quarantined_records_total", help, of.quarantined);
    let help = "Records that came too late for their window";
    count("gear_task_late_records_total", help, of.late);
    let help = "Time in which a task could do nothing because what it sends to took nothing";
    let blocked = of.blocked.as_secs_f64();
    all.counter(("gear_task_blocked_seconds_total", help), task, blocked);
}

fn gauges(all: &mut Families, task: &[Label<'_>], of: &TaskFigures) {
    let mut gauge = |name, help, value: u64| all.gauge((name, help), task, value as f64);
    gauge("gear_task_queue_bytes", "Bytes that wait at a task's inputs", of.queue_bytes);
    if let Some(credit) = of.credit_bytes {
        let help = "Bytes that a task may send at once, over the channel that has least";
        gauge("gear_task_credit_bytes", help, credit);
    }
    gauge("gear_task_state_bytes", "Bytes of a task's state", of.state_bytes);
    let help = "Bytes of a sink's output that are not yet visible";
    gauge("gear_task_output_bytes", help, of.output_bytes);
    let help = "The last epoch of which a task has taken a snapshot";
    gauge("gear_task_snapshot_epoch", help, of.epoch.0);
    let help = "Bytes that a task has stored for its last snapshot";
    gauge("gear_task_snapshot_size_bytes", help, of.snapshot_bytes);
    let help = "Time from the barrier of a task's last snapshot until all of it was stored";
    let duration = of.snapshot.as_secs_f64();
    all.gauge(("gear_task_snapshot_duration_seconds", help), task, duration);
    let help = "How long the oldest epoch has been committed whose output is not yet visible";
    let age = of.output_age.as_secs_f64();
    all.gauge(("gear_task_output_age_seconds", help), task, age);
}

/// What connectors show: a source of Kafka, how far it is behind in each partition.
fn connector(all: &mut Families, task: &[Label<'_>], of: &TaskFigures) {
    let help = "What a connector shows of itself: `figure` says what, `of` says of what";
    for figure in &of.connector {
        let more = [("figure", figure.name.as_str()), ("of", figure.of.as_str())];
        let labels: Vec<Label<'_>> = task.iter().copied().chain(more).collect();
        all.gauge(("gear_connector", help), &labels, figure.value as f64);
    }
}

/// How long what sources read takes to come to a task; nothing for a task that reads it itself.
fn latency(all: &mut Families, task: &[Label<'_>], of: &Latency) {
    if of.count() == 0 {
        return;
    }
    let help = "Time from a source to a task's input, sampled once an epoch and input by the \
                epoch's barrier, which waits in the same queues as the records before it; over \
                two machines as exact as their clocks agree";
    let counts = LATENCY_BOUNDS.iter().zip(of.counts);
    let counts = counts.map(|(micros, count)| (*micros as f64 / 1e6, count));
    let sum = of.sum.as_secs_f64();
    all.histogram(("gear_task_latency_seconds", help), task, counts, of.longer, sum);
}

/// A clock and its lag; nothing before the first event and after the last.
pub(super) fn watermark(
    all: &mut Families,
    (clock, lag): (&'static str, &'static str),
    labels: &[Label<'_>],
    time: EventTime,
    now: SystemTime,
) {
    if time == EventTime::MIN || time == EventTime::MAX {
        return;
    }
    let seconds = time.0 as f64 / 1e6;
    all.gauge((clock, "Event time up to which all is known, since 1970"), labels, seconds);
    let help = "How far the watermark is behind this machine's clock";
    all.gauge((lag, help), labels, since_epoch(now) - seconds);
}

/// What comparing has found, of all links of an app or of one.
pub(super) fn audit(
    all: &mut Families,
    names: [&'static str; 3],
    labels: &[Label<'_>],
    figures: AuditFigures,
) {
    let [checked, gaps, duplicates] = names;
    let help = "Comparisons of what was sent over a channel in an epoch and what came";
    all.counter((checked, help), labels, figures.checked as f64);
    let help = "Frames before which some were missing, and comparisons that failed";
    all.counter((gaps, help), labels, figures.gaps as f64);
    let help = "Frames that came twice and were dropped";
    all.counter((duplicates, help), labels, figures.duplicates as f64);
}

const LINK_AUDIT: [&str; 3] = [
    "gear_link_audit_checked_total",
    "gear_link_audit_gaps_total",
    "gear_link_audit_duplicates_total",
];

pub(super) fn links(
    all: &mut Families,
    app: &[Label<'_>],
    process: &str,
    figures: &BTreeMap<Peer, LinkFigures>,
) {
    for (peer, figures) in figures {
        let peer = match peer {
            Peer::Node(_) => "node".to_owned(),
            Peer::AppMaster(..) => "app_master".to_owned(),
            Peer::Executor(_, executor) => format!("executor_{}", executor.0),
            Peer::Client(_) => "client".to_owned(),
        };
        let labels: Vec<Label<'_>> =
            app.iter().copied().chain([("process", process), ("peer", peer.as_str())]).collect();
        let mut count = |name, help, value: u64| all.counter((name, help), &labels, value as f64);
        let help = "Connections of a link after the first";
        count("gear_link_reconnects_total", help, figures.reconnects);
        count("gear_link_bytes_in_total", "Bytes that came over a link", figures.bytes_in);
        let help = "Bytes that were written to a link";
        count("gear_link_bytes_out_total", help, figures.bytes_out);
        audit(all, LINK_AUDIT, &labels, figures.audit);
    }
}
