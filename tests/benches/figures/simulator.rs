//! The direct simulator: how many events of the core's machines it drives.

use std::time::Instant;

use sim::direct::{Options, run};

use crate::row::{Row, Target};

const SEEDS: u64 = 1_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::alone("direct simulator", "k events/s", Target::AtLeast(100.0), || {
        Box::new(|| {
            let options = Options::default();
            let begin = Instant::now();
            let reports = (0..SEEDS).map(|seed| run(seed, &options));
            let events: u64 = reports.map(|report| report.events).sum();
            events as f64 / begin.elapsed().as_secs_f64() / 1e3
        })
    })]
}
