//! Numbered records at a rate, each with a time of its own at which it is to be appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::PATIENCE;

/// Between two looks at what is due: as late as a record may be by our own fault.
const TICK: Duration = Duration::from_millis(1);
/// Settings of its producer. It brings records soon rather than cheaply, and none of them twice,
/// and notices at once that a broker is back.
const SETTINGS: [(&str, &str); 5] = [
    ("enable.idempotence", "true"),
    ("linger.ms", "1"),
    ("queue.buffering.max.messages", "1000000"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "500"),
];

/// What is fed, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Partitions of the topic; record `n` goes to partition `n % partitions`.
    pub partitions: u32,
    /// Records a second.
    pub rate: u64,
}

/// Appends records until it is stopped.
///
/// A record that could not be appended in time keeps its time: whoever takes the difference to when
/// it came out counts all that it has waited.
#[derive(Debug)]
pub struct Feeder {
    pace: Pace,
    began: Instant,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Feeder {
    /// Begins now; `fill` appends the value of a record of this number.
    ///
    /// # Panics
    /// If there is no room for a thread.
    #[must_use]
    pub fn start(
        brokers: &str,
        topic: &str,
        pace: Pace,
        fill: impl FnMut(u64, &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        for (name, value) in SETTINGS {
            config.set(name, value);
        }
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let named = thread::Builder::new().name("feeder".to_owned());
        let thread = named.spawn(move || feed(&config, &topic, (pace, began), fill, &stopped));
        Self { pace, began, stop, thread: Some(thread.expect("there is room for a thread")) }
    }

    /// When a record was to be appended.
    #[must_use]
    pub fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.pace.rate);
        self.began + Duration::from_nanos(nanos as u64)
    }

    /// The first record that was to be appended at this time or later.
    #[must_use]
    pub fn first_after(&self, time: Instant) -> u64 {
        count((time - self.began).as_nanos(), self.pace.rate) + 1
    }

    /// Ends it, and gives how many records were appended, once the broker has them all.
    ///
    /// # Panics
    /// If the broker does not take them.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the broker takes the records")
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Records that are due after so many nanoseconds.
const fn count(nanos: u128, rate: u64) -> u64 {
    (nanos * rate as u128 / 1_000_000_000) as u64
}

fn feed(
    config: &ClientConfig,
    topic: &str,
    (pace, began): (Pace, Instant),
    mut fill: impl FnMut(u64, &mut Vec<u8>),
    stop: &AtomicBool,
) -> u64 {
    let producer: BaseProducer = config.create().expect("the settings are right");
    let mut value = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = count(began.elapsed().as_nanos(), pace.rate);
        while number < due {
            value.clear();
            fill(number, &mut value);
            let partition = (number % u64::from(pace.partitions)) as i32;
            let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&value);
            // It fails when there is no room; what is due then waits.
            if producer.send(record).is_err() {
                break;
            }
            number += 1;
        }
        producer.poll(Duration::ZERO);
        sleep(TICK);
    }
    producer.flush(PATIENCE).expect("the broker takes them");
    number
}

/// Fills records with their numbers, and letters up to so many bytes.
pub fn numbered(bytes: usize) -> impl FnMut(u64, &mut Vec<u8>) + Send + 'static {
    move |number, value| {
        value.extend_from_slice(&number.to_le_bytes());
        value.resize(bytes, b'x');
    }
}

/// The number of a record that was filled with it.
#[must_use]
pub fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_after_a_time_was_not_due_then_and_the_one_before_was() {
        let pace = Pace { partitions: 1, rate: 30_000 };
        let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let feeder = Feeder { pace, began, stop, thread: None };
        for millis in [0, 1, 10, 999, 1_234_567] {
            let time = began + Duration::from_millis(millis);
            let first = feeder.first_after(time);
            assert!(feeder.due(first) > time && feeder.due(first - 1) <= time, "{millis} ms");
        }
        let mut value = Vec::new();
        numbered(100)(7, &mut value);
        assert_eq!((number(&value), value.len()), (Some(7), 100));
        assert_eq!(number(b"short"), None);
    }
}
