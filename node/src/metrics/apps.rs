//! Apps whose app master runs here.

use std::time::SystemTime;

use gear_core::host::figures::{AppFigures, RegionState};

use super::families::{Families, Label};
use super::tasks::{audit, links, watermark};

const AUDIT: [&str; 3] = [
    "gear_app_audit_checked_total",
    "gear_app_audit_gaps_total",
    "gear_app_audit_duplicates_total",
];

pub(super) fn collect(all: &mut Families, figures: &AppFigures, now: SystemTime) {
    let app = figures.app.0.to_string();
    let app: &[Label<'_>] = &[("app", &app)];
    let term = figures.term.0 as f64;
    all.gauge(("gear_app_master_term", "The term of the app's app master"), app, term);
    let committed = figures.committed.0 as f64;
    all.gauge(("gear_app_committed_epoch", "The last committed epoch"), app, committed);
    let in_flight = figures.in_flight as f64;
    let help = "Epochs that have been started and are not committed";
    all.gauge(("gear_app_epochs_in_flight", help), app, in_flight);
    let age = figures.open.as_ref().map_or(0.0, |open| open.age.as_secs_f64());
    let help = "Age of the oldest epoch that is not committed; 0 if there is none";
    all.gauge(("gear_app_epoch_age_seconds", help), app, age);
    if let Some(last) = figures.epochs.last() {
        let help = "Time from the start of the last committed epoch to its commit";
        let duration = last.duration.as_secs_f64();
        all.gauge(("gear_app_epoch_duration_seconds", help), app, duration);
        let help = "What was stored for the last committed epoch";
        all.gauge(("gear_app_epoch_size_bytes", help), app, last.bytes as f64);
    }
    let help = "Records that all sources have read, as of their last snapshots";
    all.counter(("gear_app_source_records_total", help), app, figures.records as f64);
    let help = "Records that were put aside, as of the tasks' last snapshots";
    all.counter(("gear_app_quarantined_records_total", help), app, figures.quarantined as f64);
    let help = "How often tasks were taken back to the last committed epoch";
    all.counter(("gear_app_recoveries_total", help), app, figures.recoveries as f64);
    let help = "Executors that were lost in the app master's term";
    all.counter(("gear_app_executors_lost_total", help), app, figures.restarts as f64);
    let running = figures.regions.iter().filter(|it| it.state == RegionState::Running).count();
    let down = figures.regions.len() - running;
    let help = "Regions of tasks that do not run";
    all.gauge(("gear_app_regions_down", help), app, down as f64);
    if let Some((clock, _)) = figures.min_clock {
        watermark(
            all,
            ("gear_app_watermark_seconds", "gear_app_watermark_lag_seconds"),
            app,
            clock,
            now,
        );
    }
    audit(all, AUDIT, app, figures.audit);
    links(all, app, "app_master", &figures.links);
}
