//! A sink of counts that takes the time until the first of them: then all records are counted.

use std::time::Instant;

use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;

use super::MEASURED;

/// The counts of so many records.
pub(crate) const fn sink(records: u64) -> Counted {
    Counted(records)
}

pub(crate) struct Counted(u64);

impl SinkConnector for Counted {
    type Sink = CountedSink;

    fn sink(&self, _: &SinkTask) -> CountedSink {
        CountedSink { records: self.0, counted: 0, began: Instant::now() }
    }

    fn transactional(&self) -> bool {
        true
    }
}

pub(crate) struct CountedSink {
    records: u64,
    counted: u64,
    began: Instant,
}

impl Sink for CountedSink {
    type In = (u64, u64);

    fn open(&mut self, _: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        // Its source begins as soon as every task is open.
        self.began = Instant::now();
        Ok(())
    }

    #[inline(always)]
    fn write(
        &mut self,
        _: Meta,
        (_, count): (u64, u64),
        _: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        if self.counted == 0 {
            println!("{MEASURED}{}", self.began.elapsed().as_secs_f64());
        }
        self.counted += count;
        Ok(())
    }

    fn prepare(
        &mut self,
        _: Epoch,
        last: bool,
        _: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        if last && self.counted != self.records {
            return Err("records were lost, or counted twice".into());
        }
        Ok(Vec::new())
    }

    fn commit(&mut self, _: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }
}
