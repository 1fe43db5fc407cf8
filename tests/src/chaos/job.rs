//! A job whose committed output is known to the line, whatever happens while it runs: running
//! counts and windows, over two sources that give so many records a second.

use std::path::Path;

use gear_connectors::model::ModelDisk;
use gear_core::dsl::Settings;
use gear_node::prelude::*;
use sim::{Difference, Lines};

/// How the job is called.
pub const NAME: &str = "chaos";
/// Keys of the running counts: few enough that each is seen in every epoch.
const KEYS: u64 = 400;
/// Keys of the windows.
const WINDOW_KEYS: u64 = 40;
/// Partitions of each source: more than tasks, so that they are shared out.
const PARTITIONS: u32 = 4;

/// What the job is told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Records of each source
    #[arg(long)]
    pub count: u64,

    /// Records of each source in a second
    #[arg(long)]
    pub rate: u64,

    /// What the records depend on
    #[arg(long)]
    pub seed: u64,

    /// Folder for the output
    #[arg(long)]
    pub out: String,
}

impl std::fmt::Debug for Options {
    /// What tells this job from another one. The count does not: tests let one that has no end go
    /// on with an end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count: _, rate, seed, out } = self;
        f.debug_struct("Options")
            .field("rate", rate)
            .field("seed", seed)
            .field("out", out)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// What the job is called with, with tasks of each processor and the time between two epochs
    /// such as `200ms`.
    #[must_use]
    pub fn arguments(&self, parallelism: u32, epoch_interval: &str) -> Vec<String> {
        let Self { count, rate, seed, out } = self;
        vec![
            format!("--count={count}"),
            format!("--rate={rate}"),
            format!("--seed={seed}"),
            format!("--out={out}"),
            format!("--parallelism={parallelism}"),
            format!("--epoch-interval={epoch_interval}"),
        ]
    }
}

/// Two pipelines that share nothing but the app: each goes back without the other.
///
/// # Errors
/// None.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { count, rate, seed, out } = app.options().clone();
    let numbers = generate::source().keys(KEYS);
    app.source("numbers", numbers.count(count).rate(rate).seed(seed).partitions(PARTITIONS))
        .key_by(|(_, key)| *key)
        .count("counts")
        .updates()
        // Seen with every epoch; the other sink writes on in its files to the end.
        .sink("counts-out", files::sink(format!("{out}/counts"), write_count).roll_bytes(1));
    let times = generate::source().keys(WINDOW_KEYS);
    app.source("times", times.count(count).rate(rate).seed(!seed).partitions(PARTITIONS))
        // A window a second of the job's own time: one closes every second.
        .event_time("at", move |(sequence, _)| {
            EventTime::from_millis((sequence * 1_000 / rate.max(1)) as i64)
        })
        .watermarks(Watermarks::monotonic())
        .key_by(|(_, key)| *key)
        .window(Tumbling::of(seconds(1)))
        // Does not depend on the order in which partitions meet.
        .fold("sums", (0, 0), |(count, sum): &mut (u64, u64), (sequence, _)| {
            *count += 1;
            *sum = sum.wrapping_add(sequence.wrapping_mul(sequence));
        })
        .sink("sums-out", files::sink(format!("{out}/sums"), write_sum));
    Ok(())
}

fn write_count((key, count): (u64, u64), out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{key}\t{count}\n").as_bytes());
}

fn write_sum((key, window, (count, sum)): (u64, Window, (u64, u64)), out: &mut Vec<u8>) {
    let start = window.start.0;
    out.extend_from_slice(format!("{key}\t{start}\t{count}\t{sum}\n").as_bytes());
}

/// The folders of the output, relative to that of the options.
pub const FOLDERS: [&str; 2] = ["counts", "sums"];

/// What the simulator's reference model says that the job leaves.
///
/// # Panics
/// If the model does not know the job.
#[must_use]
pub fn expected(options: &Options) -> Lines {
    let options = Options { out: "out".into(), ..options.clone() };
    let job = gear_node::build(NAME, options, Settings::default(), job);
    let job = job.expect("the job is sound");
    sim::modelled(&job, &ModelDisk::new(0)).expect("the model knows all that the job does")
}

/// How the visible files of an output folder differ from what should be there.
#[must_use]
pub fn compare(expected: &Lines, out: &Path) -> Difference {
    let mut all = Difference::default();
    for folder in FOLDERS {
        let should = expected.get(&format!("out/{folder}")).cloned().unwrap_or_default();
        let is = crate::words::lines(&out.join(folder));
        let Difference { lost, doubled, told } = sim::compare(folder, &should, &is);
        all.lost += lost;
        all.doubled += doubled;
        all.told.extend(told);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_counts_every_record_once() {
        let options = Options { count: 2_000, rate: 500, seed: 3, out: String::new() };
        let lines = expected(&options);
        assert_eq!(lines["out/counts"].len(), 2_000);
        let counted = |line: &String| -> u64 {
            line.split('\t').nth(2).and_then(|it| it.parse().ok()).expect("it is a count")
        };
        assert_eq!(lines["out/sums"].iter().map(counted).sum::<u64>(), 2_000);
        let starts = lines["out/sums"].iter().filter_map(|line| line.split('\t').nth(1));
        assert_eq!(starts.collect::<std::collections::BTreeSet<_>>().len(), 4, "four seconds");
        let folder = tempfile::TempDir::new().expect("there is a folder");
        let missing = compare(&lines, folder.path());
        assert_eq!(missing.lost, lines.values().map(|it| it.len() as u64).sum::<u64>());
    }
}
