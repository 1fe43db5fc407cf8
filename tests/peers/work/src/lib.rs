//! The work that engines written in Rust are given beside Gear, and how it is measured.
//!
//! Every engine gets the same records from the same code, and its sink hands each of them to the
//! same code, so that what is compared is the way between. What is measured goes to the standard
//! output as `sample WORK VALUE UNIT`, one line a window.

mod latency;
mod pace;
mod throughput;

use std::process;
use std::str::FromStr;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use latency::Latency;
pub use pace::Pace;
pub use throughput::Throughput;

/// The length of a record in bytes.
pub const RECORD_BYTES: usize = 100;

/// The keys that are counted.
pub const KEYS: u64 = 1_000_000;

/// The records a second at which latency is measured.
pub const RATE: u64 = 50_000;

/// A record: its number, the time at which it should be sent, and filling.
pub type Record = [u8; RECORD_BYTES];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Records of one task to one task of another process, as fast as they go.
    Pair,
    /// The same at [`RATE`], and how long each is on its way.
    Latency,
    /// Numbers of one task to one of another process that counts each of [`KEYS`].
    Keyed,
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "pair" => Ok(Self::Pair),
            "latency" => Ok(Self::Latency),
            "keyed" => Ok(Self::Keyed),
            _ => Err(format!("`{name}` is none of: pair, latency, keyed")),
        }
    }
}

/// How long is measured, from the environment: `WARM` and `WINDOW` in seconds, and `WINDOWS`.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// What goes before the first window and does not count.
    pub warm: Duration,
    /// The length of each window.
    pub window: Duration,
    /// How many windows count.
    pub count: u64,
}

impl Windows {
    /// Reads the environment.
    ///
    /// # Panics
    /// If a variable is no whole number.
    #[must_use]
    pub fn from_environment() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |text| {
                text.parse().unwrap_or_else(|_| panic!("{name}={text} is no whole number"))
            })
        };
        Self {
            warm: Duration::from_secs(number("WARM", 5)),
            window: Duration::from_secs(number("WINDOW", 5)),
            count: number("WINDOWS", 5),
        }
    }
}

/// The machine's monotonic clock in nanoseconds: the same for all its processes.
#[must_use]
pub fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Fills a record whose rest is already filled.
#[inline]
pub fn stamp(record: &mut [u8], number: u64, intended: u64) {
    record[..8].copy_from_slice(&number.to_le_bytes());
    record[8..16].copy_from_slice(&intended.to_le_bytes());
}

/// The number of a record.
///
/// # Panics
/// If it is too short to have one.
#[inline]
#[must_use]
pub fn number(record: &[u8]) -> u64 {
    u64::from_le_bytes(*record.first_chunk().expect("a record begins with its number"))
}

/// When a record should have been sent.
///
/// # Panics
/// If it is too short to have one.
#[inline]
#[must_use]
pub fn intended(record: &[u8]) -> u64 {
    number(&record[8..])
}

/// The key of a record: evenly spread over [`KEYS`], as in Gear's benchmarks.
#[inline]
#[must_use]
pub fn key(number: u64) -> u64 {
    let mut z = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    ((u128::from(z) * u128::from(KEYS)) >> 64) as u64
}

fn sample(work: &str, value: f64, unit: &str) {
    println!("sample {work} {value:.3} {unit}");
}

/// Ends the process when all windows are measured: engines have no other quick end.
fn finish() -> ! {
    process::exit(0)
}
