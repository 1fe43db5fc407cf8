//! Operators that are fused into one loop.

use gear_connectors::{blackhole, generate};

use crate::jobs::{self, How};
use crate::row::{Row, Target};

const RECORDS: u64 = 200_000_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::alone("fused map+filter+map", "M records/s", Target::AtLeast(100.0), || {
        Box::new(|| {
            let (took, _) = jobs::run(How::on_threads(1), |app| {
                // One in sixteen leaves the task, so that nothing can be left out.
                app.source("numbers", generate::from_fn(RECORDS, 1, |number| number))
                    .map("spread", |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                    .filter("some", |number: &u64| number >> 60 == 0)
                    .map("shift", |number: u64| number >> 3)
                    .sink("drop", blackhole::sink());
            });
            RECORDS as f64 / took / 1e6
        })
    })]
}
