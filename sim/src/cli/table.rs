//! What many runs came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sim::report::{Ensemble, Report, spread};

/// For people.
pub(crate) fn text(scenario: &str, all: &Ensemble, seconds: f64) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<34} {value}");
    };
    let hours = all.simulated.as_secs_f64() / 3_600.0;
    row("scenario", scenario.to_owned());
    row("seeds", format!("{} in {seconds:.1} s", all.seeds));
    row("simulated hours", format!("{hours:.2}"));
    row("events", format!("{}, {:.0} a second", all.events, all.events as f64 / seconds));
    row("processes replaced", all.recoveries.to_string());
    row("epochs committed", all.epochs.to_string());
    row("rows of committed output", all.records.to_string());
    for (name, times) in [
        ("executor's death to new output", &all.outages.clean),
        ("  with another fault meanwhile", &all.outages.disturbed),
        ("its machine's, likewise", &all.blackouts.clean),
        ("  with another fault meanwhile", &all.blackouts.disturbed),
        ("leader's death to the next", &all.elections.clean),
        ("  with another fault meanwhile", &all.elections.disturbed),
    ] {
        if let Some((median, worst)) = spread(times) {
            let count = times.len();
            row(name, format!("median {median:.1?}, worst {worst:.1?}, {count} times"));
        }
    }
    let mut list = |title: &str, counts: &BTreeMap<&str, u64>| {
        let _ = writeln!(out, "\n{title}");
        for (what, count) in counts {
            let _ = writeln!(out, "{count:>12}  {what}");
        }
    };
    list("faults that fired", &all.fired);
    list("rare states that were reached", &all.rare);
    let _ = writeln!(out, "\n{} failures", all.failures.len());
    for (seed, failure) in &all.failures {
        let _ = writeln!(out, "seed {seed}: {}", failure.about);
        for violation in &failure.violations {
            let _ = writeln!(out, "  WRONG: {violation}");
        }
        let _ = writeln!(out, "  run it again: {}", failure.command);
    }
    out
}

/// For programs.
pub(crate) fn json(scenario: &str, all: &Ensemble, seconds: f64) -> Value {
    let failures = all.failures.iter().map(|(seed, failure)| {
        json!({
            "seed": seed,
            "about": failure.about,
            "violations": failure.violations,
            "command": failure.command,
        })
    });
    json!({
        "scenario": scenario,
        "seeds": all.seeds,
        "seconds": seconds,
        "simulated_seconds": all.simulated.as_secs_f64(),
        "events": all.events,
        "recoveries": all.recoveries,
        "epochs": all.epochs,
        "records": all.records,
        "outage_seconds": seconds_of(&all.outages.clean),
        "disturbed_outage_seconds": seconds_of(&all.outages.disturbed),
        "blackout_seconds": seconds_of(&all.blackouts.clean),
        "disturbed_blackout_seconds": seconds_of(&all.blackouts.disturbed),
        "election_seconds": seconds_of(&all.elections.clean),
        "disturbed_election_seconds": seconds_of(&all.elections.disturbed),
        "faults": all.fired,
        "rare": all.rare,
        "failures": failures.collect::<Vec<_>>(),
    })
}

/// One run, for programs.
pub(crate) fn json_of(report: &Report) -> Value {
    let mut all = Ensemble::default();
    all.add(report.clone());
    let mut value = json(report.scenario, &all, 0.0);
    value["hash"] = json!(format!("{:016x}", report.hash));
    value
}

fn seconds_of(times: &[std::time::Duration]) -> Value {
    match spread(times) {
        Some((median, worst)) => {
            json!({
                "times": times.len(),
                "median": median.as_secs_f64(),
                "worst": worst.as_secs_f64(),
            })
        }
        None => Value::Null,
    }
}
