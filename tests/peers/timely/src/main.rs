//! Gear's benchmarks for timely dataflow: `peer-timely plain|flat pair|latency|keyed PROCESS
//! ADDRESS ADDRESS`, started twice, with one worker each: the source is in process 0 and all else
//! in process 1.

mod records;

use std::env;
use std::time::Duration;

use peer_work::{Latency, Pace, RECORD_BYTES, Throughput, Work, key, stamp};
use rustc_hash::FxHashMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::ExchangeCore;
use timely::dataflow::operators::{Operator, Probe};
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use crate::records::{Flat, Holder, Input, Plain};

/// Records of one timestamp. Timely has no flow control: a source asks how far the sink has come.
const ROUND_RECORDS: u64 = 8192;

/// Rounds that may be on their way: enough that the source never waits for an answer.
const ROUNDS_MAX: u64 = 4;

/// How long a source without anything to send waits.
const PAUSE: Duration = Duration::from_micros(20);

const SINK: u64 = 1;

const KEY_BYTES: usize = 8;

fn main() -> Result<(), String> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: plain|flat WORK PROCESS ADDRESS ADDRESS");
    let is_flat = match next()?.as_str() {
        "plain" => false,
        "flat" => true,
        other => return Err(format!("`{other}` is none of: plain, flat")),
    };
    let work: Work = next()?.parse()?;
    let process = next()?.parse().map_err(|_| "PROCESS is 0 or 1")?;
    let addresses = vec![next()?, next()?];
    let communication = CommunicationConfig::Cluster {
        threads: 1,
        process,
        addresses,
        report: false,
        zerocopy: false,
    };
    let config = timely::Config { communication, worker: WorkerConfig::default() };
    timely::execute(config, move |worker| match (work, is_flat) {
        (Work::Pair, false) => pair::<Plain<RECORD_BYTES>>(worker),
        (Work::Pair, true) => pair::<Flat<RECORD_BYTES>>(worker),
        (Work::Latency, false) => latency::<Plain<RECORD_BYTES>>(worker),
        (Work::Latency, true) => latency::<Flat<RECORD_BYTES>>(worker),
        (Work::Keyed, false) => keyed::<Plain<KEY_BYTES>>(worker),
        (Work::Keyed, true) => keyed::<Flat<KEY_BYTES>>(worker),
    })?;
    Ok(())
}

/// Sends all records to the other process, where `take` sees each.
fn exchange<const BYTES: usize, H: Holder<BYTES>>(
    worker: &mut Worker,
    mut take: impl FnMut(&[u8]) + 'static,
) -> (Input<H>, ProbeHandle<u64>) {
    let mut input = Input::new();
    let probe = ProbeHandle::new();
    worker.dataflow::<u64, _, _>(|scope| {
        let records = input.to_stream(scope);
        let pact = ExchangeCore::new(|_: &H::Item<'_>| SINK);
        records
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "sink", |_, _| {
                move |input, _| {
                    input.for_each(|_, records: &mut H| records.each(&mut take));
                }
            })
            .probe_with(&probe);
    });
    (input, probe)
}

/// Sends as fast as the sink takes, with what is on its way bounded.
fn send<const BYTES: usize, H: Holder<BYTES>>(
    worker: &mut Worker,
    mut input: Input<H>,
    probe: &ProbeHandle<u64>,
    fill: impl Fn(&mut [u8], u64),
) {
    let mut record = [0x5a; BYTES];
    for number in 0.. {
        if number % ROUND_RECORDS == 0 {
            let round = number / ROUND_RECORDS;
            input.advance_to(round);
            worker.step();
            let late = round.saturating_sub(ROUNDS_MAX);
            worker.step_or_park_while(None, || probe.less_than(&late));
        }
        fill(&mut record, number);
        H::send(&mut input, &record);
    }
}

/// What the process of the sink does until it has measured enough.
fn serve<const BYTES: usize, H: Holder<BYTES>>(worker: &mut Worker, input: Input<H>) {
    input.close();
    loop {
        worker.step_or_park(None);
    }
}

fn pair<H: Holder<RECORD_BYTES>>(worker: &mut Worker) {
    let mut throughput = Throughput::new("pair");
    let (input, probe) = exchange::<_, H>(worker, move |record| throughput.take(record));
    if worker.index() == 0 {
        send(worker, input, &probe, |record, number| stamp(record, number, 0));
    } else {
        serve(worker, input);
    }
}

fn keyed<H: Holder<KEY_BYTES>>(worker: &mut Worker) {
    let mut throughput = Throughput::new("keyed");
    let mut counts: FxHashMap<u64, u64> = FxHashMap::default();
    let (input, probe) = exchange::<_, H>(worker, move |key| {
        *counts.entry(peer_work::number(key)).or_insert(0) += 1;
        throughput.count();
    });
    if worker.index() == 0 {
        send(worker, input, &probe, |record, number| {
            record.copy_from_slice(&key(number).to_le_bytes());
        });
    } else {
        serve(worker, input);
    }
}

fn latency<H: Holder<RECORD_BYTES>>(worker: &mut Worker) {
    let mut latency = Latency::new();
    let (mut input, _) = exchange::<_, H>(worker, move |record| latency.take(record));
    if worker.index() != 0 {
        serve(worker, input);
        return;
    }
    let mut pace = Pace::default();
    let mut record = [0x5a; RECORD_BYTES];
    loop {
        let mut last = None;
        while let Some((number, intended)) = pace.due() {
            stamp(&mut record, number, intended);
            H::send(&mut input, &record);
            last = Some(number);
        }
        match last {
            Some(number) => {
                input.advance_to(number + 1);
                worker.step();
            }
            None => {
                worker.step_or_park(Some(PAUSE));
            }
        }
    }
}
