//! A job that writes to HDFS, beside a plain program that writes the same bytes, in one run.
//!
//! `export GEAR_SERVICES_JVM="-Xmx1g -XX:TieredStopAtLevel=4"`, then
//! `cargo bench -p gear-benches --features services --bench hdfs [-- MIB [ROUNDS]]`

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gear_core::dsl::Settings;
use gear_node::prelude::*;
use gear_tests::services::Services;
use gear_tests::watchdog::watch;
use hdfs_native::{Client, ClientBuilder, WriteOptions};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Bytes of a record, its line break included.
const RECORD_BYTES: usize = 128;
/// Bytes that the plain program writes at once.
const CHUNK_BYTES: usize = 256 * 1_024;
/// Longer than any run takes.
const BOUND: Duration = Duration::from_secs(1_800);

#[derive(clap::Args, Clone, Debug)]
struct Options {
    out: String,
    records: u64,
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { out, records } = app.options().clone();
    app.source("numbers", generate::source().count(records))
        .sink("files", hdfs::sink::<(u64, u64)>(out, |(number, _), out| write_line(number, out)));
    Ok(())
}

/// A record that costs little to make: its number in binary, and letters.
fn write_line(number: u64, out: &mut Vec<u8>) {
    let mut line = [b'x'; RECORD_BYTES];
    line[..8].copy_from_slice(&number.to_le_bytes());
    line[RECORD_BYTES - 1] = b'\n';
    out.extend_from_slice(&line);
}

/// The same bytes, made and written by a plain program, in bytes a second.
async fn plain(client: &Client, path: &str, records: u64) -> f64 {
    let began = Instant::now();
    let mut file = client.create(path, WriteOptions::default()).await.unwrap();
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    for number in 0..records {
        write_line(number, &mut buffer);
        if buffer.len() >= CHUNK_BYTES {
            let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK_BYTES));
            file.write_bytes(Bytes::from(full)).await.unwrap();
        }
    }
    file.write_bytes(Bytes::from(buffer)).await.unwrap();
    file.hsync().await.unwrap();
    file.close().await.unwrap();
    (records * RECORD_BYTES as u64) as f64 / began.elapsed().as_secs_f64()
}

/// A job with an epoch a second, exactly once, in bytes a second.
fn gear(out: String, records: u64) -> f64 {
    let settings = Settings { parallelism: 1, ..Settings::default() };
    let job = gear_node::build("bench-hdfs", Options { out, records }, settings, job).unwrap();
    let state = TempDir::new().unwrap();
    let options = gear_node::RuntimeOptions {
        state: Some(state.path().to_owned()),
        parallelism: Some(1),
        ..Default::default()
    };
    let report = gear_node::run(&job, "bench", &options).unwrap();
    assert_eq!(report.records, records);
    (records * RECORD_BYTES as u64) as f64 / report.took.as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|it| it.parse().ok()).collect();
    let mib = numbers.first().copied().unwrap_or(512);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let records = mib * MIB / RECORD_BYTES as u64;
    let _watch = watch("the benchmark of HDFS", BOUND);
    let Some(services) = Services::start().unwrap() else { return ExitCode::FAILURE };
    let url = services.hdfs_url().to_owned();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let client = ClientBuilder::new().with_url(&url).with_io_runtime(runtime.handle().clone());
    let client = client.build().unwrap();
    let (mut plainly, mut by_gear) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (one, other) = (format!("/plain-{round}"), format!("/gear-{round}"));
        let reference = runtime.block_on(plain(&client, &one, records));
        let figure = gear(format!("{url}{other}"), records);
        for path in [&one, &other] {
            assert!(runtime.block_on(client.delete(path, true)).unwrap());
        }
        println!(
            "{:8.1} MiB/s plain  {:8.1} MiB/s gear",
            reference / MIB as f64,
            figure / MIB as f64
        );
        // The first round warms the servers.
        if round > 0 {
            plainly.push(reference);
            by_gear.push(figure);
        }
    }
    let ratios = plainly.iter().zip(&by_gear).map(|(plain, gear)| gear / plain).collect();
    println!(
        "{mib} MiB, {rounds} rounds, medians: plain {:.1} MiB/s, gear {:.1} MiB/s, ratio {:.2}",
        median(plainly) / MIB as f64,
        median(by_gear) / MIB as f64,
        median(ratios)
    );
    ExitCode::SUCCESS
}
