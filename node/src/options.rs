//! The runtime's options, on the command line and in the environment.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gear_core::app::Guarantee;
use gear_core::limits::{KEY_GROUPS_DEFAULT, KEY_GROUPS_MAX};
use gear_core::time::Duration;

/// Most threads of a process: more than any machine has cores.
const THREADS_MAX: i64 = 4_096;

/// How a job runs. Every option can be given in the environment as well; the command line wins.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Runtime options")]
pub struct RuntimeOptions {
    /// Tasks of a processor that does not set its own; the machine's cores unless given
    #[arg(long, env = "GEAR_PARALLELISM", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub parallelism: Option<u32>,

    /// Threads that run the tasks; as many as --parallelism unless given
    #[arg(long, env = "GEAR_THREADS", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub threads: Option<u32>,

    /// Key groups of the job: the most that its parallelism can ever be. Fixed with its first epoch
    #[arg(long, env = "GEAR_KEY_GROUPS", value_name = "N", default_value_t = KEY_GROUPS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(KEY_GROUPS_MAX)))]
    pub key_groups: u32,

    /// Time between two epochs, such as 1s or 100ms; 0 for none but the last
    #[arg(long, env = "GEAR_EPOCH_INTERVAL", value_name = "TIME", default_value = "1s",
          value_parser = parse_duration)]
    pub epoch_interval: Duration,

    /// Folder of the job's epochs and commit log; gear-state/ and its name unless given
    #[arg(long, env = "GEAR_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Store of the job's epochs and commit log in place of that folder, such as
    /// hdfs://host:port/gear or s3://bucket/gear; a lock stays in the folder
    #[arg(long, env = "GEAR_CHECKPOINTS", value_name = "URL")]
    pub checkpoints: Option<String>,

    /// Memory for queues, buffers and state, such as 512M or 4G; a quarter of the machine's unless
    /// given
    #[arg(long, env = "GEAR_MEMORY", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,

    /// What the output may be after a failure; exactly-once unless given, as far as the sources
    /// allow it
    #[arg(long, env = "GEAR_GUARANTEE", value_name = "LEVEL", value_enum)]
    pub guarantee: Option<GuaranteeOption>,

    /// What happens to a record that does not decode or whose operator panics
    #[arg(long, env = "GEAR_ON_BAD_RECORD", value_name = "POLICY", value_enum,
          default_value_t = BadRecord::Keep)]
    pub on_bad_record: BadRecord,

    /// Write the records that were put aside to DIR, one line of JSON each
    #[arg(long, env = "GEAR_QUARANTINE", value_name = "DIR")]
    pub quarantine: Option<PathBuf>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as gear=debug
    #[arg(long, env = "GEAR_LOG", value_name = "LEVEL", default_value = "warn")]
    pub log: String,

    /// No progress bar and no summary
    #[arg(long, env = "GEAR_QUIET")]
    pub quiet: bool,

    /// Start over: remove the job's epochs and the output that they name
    #[arg(long)]
    pub fresh: bool,

    /// Take a state folder over from a process that still holds it; that process is fenced off
    #[arg(long)]
    pub take_over: bool,

    /// Go on without the state of operators that the job no longer has
    #[arg(long)]
    pub drop_state: bool,

    /// Go on from before a damaged epoch, though output may then be repeated
    #[arg(long)]
    pub fall_back: bool,

    /// Print the job's graph and do not run it
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "text")]
    pub explain: Option<Explain>,
}

/// How `--explain` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Explain {
    /// For people.
    Text,
    /// For Graphviz.
    Dot,
}

/// What the output may be after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GuaranteeOption {
    /// As if nothing had failed
    ExactlyOnce,
    /// Nothing is missing, something may be repeated
    AtLeastOnce,
}

impl From<GuaranteeOption> for Guarantee {
    fn from(option: GuaranteeOption) -> Self {
        match option {
            GuaranteeOption::ExactlyOnce => Self::ExactlyOnce,
            GuaranteeOption::AtLeastOnce => Self::AtLeastOnce,
        }
    }
}

/// What happens to a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BadRecord {
    /// It is put aside with its context, and the stream goes on
    Keep,
    /// The job stops
    Fail,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            parallelism: None,
            threads: None,
            key_groups: KEY_GROUPS_DEFAULT,
            epoch_interval: gear_core::limits::EPOCH_INTERVAL_DEFAULT,
            state: None,
            checkpoints: None,
            memory: None,
            guarantee: None,
            on_bad_record: BadRecord::Keep,
            quarantine: None,
            log: "warn".into(),
            quiet: true,
            fresh: false,
            take_over: false,
            drop_state: false,
            fall_back: false,
            explain: None,
        }
    }
}

impl RuntimeOptions {
    /// The parallelism in effect.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism.unwrap_or_else(cores).max(1)
    }

    /// The threads in effect.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads.unwrap_or_else(|| self.parallelism()).max(1)
    }

    /// The guarantee in effect.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee.unwrap_or(GuaranteeOption::ExactlyOnce).into()
    }

    /// The memory in effect, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or_else(|| machine_memory() / 4)
    }
}

pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Memory assumed where the machine does not say.
const MEMORY_UNKNOWN: u64 = 4 << 30;

/// The machine's memory in bytes, or that of the control group if it is less.
pub(crate) fn machine_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(MEMORY_UNKNOWN, |kib| kib * 1_024);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    limit.trim().parse::<u64>().map_or(total, |limit| limit.min(total))
}

/// A duration such as `1s`, `100ms`, `5m` or `0`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number: u64 = number.parse().map_err(|_| no_duration(text))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(no_duration(text)),
    }
}

fn no_duration(text: &str) -> String {
    format!("`{text}` is no time: write a number and ms, s or m, such as 100ms")
}

/// A number of bytes such as `512M`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        _ => return Err(no_bytes(text)),
    };
    let number: u64 = number.parse().map_err(|_| no_bytes(text))?;
    number.checked_shl(shift).ok_or_else(|| no_bytes(text))
}

fn no_bytes(text: &str) -> String {
    format!("`{text}` is no size: write a number and K, M or G, such as 512M")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_what_people_write() {
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert!(parse_duration("7").is_err());
        assert!(parse_duration("soon").is_err());
        assert_eq!(parse_bytes("512M"), Ok(512 << 20));
        assert_eq!(parse_bytes("4g"), Ok(4 << 30));
        assert!(parse_bytes("4x").is_err());
    }
}
