//! Windows over readings that come out of order, with updates for late ones and a place for those
//! that come too late.
//!
//! `cargo run --release -p gear-node --example late_events -- --readings 200000`
//!
//! Sensors send a reading every now and then; most arrive within five seconds, some within twenty,
//! a few minutes later. A window's result is there when the watermark has passed its end; a
//! reading that comes within another fifteen seconds corrects it; what comes later still is kept
//! in a folder of its own, so that each reading is in a window or there, and none in both.
//! `--epoch-interval` says how soon results can be seen.

use std::process::ExitCode;

use gear_node::prelude::*;

/// What the job can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Readings in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub readings: u64,

    /// Readings a second; the sensors' own time goes as much faster
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub rate: u64,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "out/late_events")]
    pub out: String,
}

/// What a sensor has measured.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct Reading {
    /// Which sensor.
    pub sensor: u64,
    /// When it measured, which is not when the reading came.
    pub at: EventTime,
    /// What it measured.
    pub degrees: i64,
}

fn main() -> ExitCode {
    gear_node::main_with("late-events", job, |_, report| {
        for (windows, task, figures) in report.tasks.iter().filter(|(.., it)| it.late > 0) {
            println!("{windows}, task {}: {} readings came too late", task.index, figures.late);
        }
        Ok(())
    })
}

/// Two kinds of windows over the readings of some sensors.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { readings, rate, out } = app.options().clone();
    let sensors = generate::source().count(readings).rate(rate).partitions(4).map(reading);
    let readings = app
        .source("sensors", sensors)
        .event_time("measured", |reading| reading.at)
        // Four partitions: one that is silent for so long does not hold the others' windows open.
        .watermarks(Watermarks::bounded(seconds(5)).idle_after(seconds(2)))
        .fork();

    let hottest = readings
        .clone()
        .key_by(|reading| reading.sensor)
        .window(Tumbling::of(seconds(10)).allowed_lateness(seconds(15)))
        .fold("hottest", (0, i64::MIN), |(count, hottest): &mut (u64, i64), reading| {
            *count += 1;
            *hottest = reading.degrees.max(*hottest);
        });
    hottest.late().sink("late", files::sink(format!("{out}/late"), write_reading).suffix(".tsv"));
    hottest.sink("per-10s", files::sink(format!("{out}/per_10s"), write_hottest).suffix(".tsv"));

    let counts = readings
        .key_by(|reading| reading.sensor)
        .window(Sliding::of(minutes(1), seconds(10)))
        .count("last-minute");
    let late = files::sink(format!("{out}/late_for_minute"), write_reading).suffix(".tsv");
    counts.late().sink("late-for-minute", late);
    counts.sink("per-minute", files::sink(format!("{out}/per_minute"), write_count).suffix(".tsv"));
    Ok(())
}

/// The reading that comes as number `sequence`, made of a random number.
fn reading(sequence: u64, random: u64) -> Reading {
    // The sensors together send a hundred readings a second.
    let came = EventTime::from_millis(sequence as i64 * 10);
    let delay = match random % 100 {
        0 => minutes(2),
        1..5 => millis(5_000 + random / 100 % 15_000),
        _ => millis(random / 100 % 5_000),
    };
    let degrees = (random >> 40) as i64 % 40 - 10;
    Reading { sensor: random >> 32 & 7, at: came - delay, degrees }
}

fn write_reading(reading: Reading, out: &mut Vec<u8>) {
    let Reading { sensor, at, degrees } = reading;
    line(out, &[&sensor, &at.0, &degrees]);
}

fn write_hottest((sensor, window, (count, degrees)): (u64, Window, (u64, i64)), out: &mut Vec<u8>) {
    line(out, &[&sensor, &window.start.0, &count, &degrees]);
}

fn write_count((sensor, window, count): (u64, Window, u64), out: &mut Vec<u8>) {
    line(out, &[&sensor, &window.start.0, &count]);
}

fn line(out: &mut Vec<u8>, fields: &[&dyn std::fmt::Display]) {
    let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
    out.extend_from_slice(fields.join("\t").as_bytes());
    out.push(b'\n');
}
