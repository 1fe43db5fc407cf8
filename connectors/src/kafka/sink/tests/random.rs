//! Crashes in every gap, zombies, rescaling, lost answers, brokers that break: what a reader of
//! committed records finds is what was put in, once and in order.

use std::collections::BTreeSet;

use super::*;
use crate::kafka::sink::SEGMENT_BYTES;
use crate::random::SplitMix;

const PARTITIONS: u32 = 3;
const KEYS: u64 = 7;
const STEPS: u64 = 3_000;
const SEEDS: u64 = 150;

/// An epoch that has committed.
#[derive(Clone, Default)]
struct Record {
    epoch: u64,
    /// Records that the source had read.
    position: u64,
    accounts: Vec<(Vec<u8>, Vec<ObjectRef>)>,
}

struct World {
    random: SplitMix,
    clock: Clock,
    cluster: ModelCluster,
    store: Store,
    sink: KafkaSink<Pair>,
    tasks: Vec<Task>,
    /// Tasks of earlier attempts whose processes live on.
    zombies: Vec<Task>,
    /// Epochs that tasks have not yet heard of, by task.
    unheard: Vec<VecDeque<u64>>,
    last: Record,
    started: u64,
    /// Where the source was at the barriers of open epochs.
    positions: VecDeque<(u64, u64)>,
    position: u64,
    attempt: u64,
    faults: ProducerFaults,
    fenced: u64,
    rescaled: u64,
    /// Epochs of whose output a part was committed.
    parted: BTreeSet<(String, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let cluster = ModelCluster::new();
        cluster.create(TOPIC, PARTITIONS);
        let rate = |random: &mut SplitMix| random.below(4) * 20;
        let faults = ProducerFaults {
            refused: rate(&mut random),
            lost: rate(&mut random),
            broken: rate(&mut random),
            unfenced: false,
        };
        let memory = random.below(3) as usize * 50;
        let segment = [1, 60, SEGMENT_BYTES][random.below(3) as usize];
        let timeout = ["60000", "200"][random.below(2) as usize];
        let sink = sink().memory_bytes(memory).segment_bytes(segment);
        let mut world = Self {
            random,
            clock: Clock::start(),
            cluster,
            store: Store::new(),
            sink: sink.set("transaction.timeout.ms", timeout),
            tasks: Vec::new(),
            zombies: Vec::new(),
            unheard: Vec::new(),
            last: Record::default(),
            started: 0,
            positions: VecDeque::new(),
            position: 0,
            attempt: 0,
            faults,
            fenced: 0,
            rescaled: 0,
            parted: BTreeSet::new(),
        };
        world.deploy(2);
        world
    }

    /// All tasks begin from the last record.
    fn deploy(&mut self, parallelism: usize) {
        self.attempt += 1;
        self.position = self.last.position;
        self.positions.clear();
        self.unheard = vec![VecDeque::new(); parallelism];
        self.tasks.clear();
        for index in 0..parallelism {
            let ours = self.last.accounts.iter().enumerate();
            let ours = ours.filter(|(old, _)| old % parallelism == index);
            let pending: Vec<_> = ours
                .map(|(old, (bytes, objects))| Pending {
                    index: old as u32,
                    bytes: bytes.clone(),
                    objects: objects.clone(),
                })
                .collect();
            let producers =
                ModelProducers::new(self.cluster.clone(), self.random.next(), self.faults);
            let which = (index as u32, parallelism as u32, self.attempt);
            self.clock.advance(1);
            self.tasks.push(Task::open(&self.sink, which, producers, &pending, self.clock));
        }
    }

    fn crash(&mut self) {
        for task in std::mem::take(&mut self.tasks) {
            // What a dead process had asked for may still be carried out.
            if self.random.below(3) == 0 {
                self.zombies.push(task);
            }
        }
        let parallelism = 1 + self.random.below(4) as usize;
        self.rescaled += u64::from(parallelism != self.unheard.len());
        self.deploy(parallelism);
    }

    fn read(&mut self) {
        let (key, number) = (self.position % KEYS, self.position / KEYS);
        let task = (key % self.tasks.len() as u64) as usize;
        if self.tasks[task].takes() {
            self.tasks[task].write(&format!("k{key}"), &number.to_string(), self.clock);
            self.position += 1;
        }
    }

    fn barrier(&mut self) {
        if self.tasks.iter().all(Task::takes) && self.positions.len() < 4 {
            self.started += 1;
            self.positions.push_back((self.started, self.position));
            for task in &mut self.tasks {
                task.prepare(self.started, self.clock);
            }
            // An epoch is given up now and then: it joins the next.
            if self.positions.len() > 1 && self.random.below(10) == 0 {
                self.positions.pop_front();
            }
        }
    }

    /// Appends the oldest epoch to the log once all tasks have reported it.
    fn append(&mut self) {
        let Some(&(epoch, position)) = self.positions.front() else { return };
        if self.tasks.iter().all(|task| task.is_reported(epoch)) {
            self.positions.pop_front();
            let accounts = self.tasks.iter().map(|task| task.account(epoch)).collect();
            self.last = Record { epoch, position, accounts };
            for (_, objects) in &self.last.accounts {
                let is_kept = |object: &ObjectRef| self.store.contains_key(&object.name);
                assert!(objects.iter().all(is_kept), "the record names what is not stored");
            }
            self.unheard.iter_mut().for_each(|unheard| unheard.push_back(epoch));
        }
    }

    /// Something happens to a task, or to one that should be dead.
    fn turn(&mut self) {
        let count = self.tasks.len() + self.zombies.len();
        let place = self.random.below(count as u64) as usize;
        let (task, unheard) = match place.checked_sub(self.tasks.len()) {
            None => (&mut self.tasks[place], Some(&mut self.unheard[place])),
            Some(zombie) => (&mut self.zombies[zombie], None),
        };
        match self.random.below(4) {
            0 => {
                task.call();
            }
            1 => {
                task.store(&mut self.store);
            }
            2 => {
                task.hear(self.clock);
            }
            _ => {
                if let Some(epoch) = unheard.and_then(VecDeque::pop_front) {
                    task.commit(epoch, self.clock);
                }
            }
        }
        task.collect(self.clock);
        let id = format!("gear.app.sink.{}", self.random.below(4));
        let mark = self.cluster.mark(&id, TOPIC).filter(|mark| mark.segments > 0);
        self.parted.extend(mark.map(|mark| (id, mark.epoch)));
        if let Some(failed) = &task.failed {
            assert!(failed.contains("another producer has the transactional id"), "{failed}");
            self.fenced += 1;
            match place.checked_sub(self.tasks.len()) {
                None => self.crash(),
                Some(zombie) => drop(self.zombies.remove(zombie)),
            }
        }
    }

    fn step(&mut self) {
        self.clock.advance(self.random.below(2_000));
        match self.random.below(1_000) {
            0..250 => self.read(),
            250..280 => self.barrier(),
            280..330 => self.append(),
            330..333 => self.crash(),
            333..335 => {
                let id = format!("gear.app.sink.{}", self.random.below(4));
                self.cluster.expire(&id);
            }
            335..336 => self.cluster.set_down(true),
            336..360 => self.cluster.set_down(false),
            360 => self.zombies.clear(),
            _ => self.turn(),
        }
    }

    /// No more faults: everything that was read is made visible.
    fn end(&mut self) {
        self.cluster.set_down(false);
        self.faults = ProducerFaults::default();
        for task in self.tasks.iter_mut().chain(&mut self.zombies) {
            task.producers.faults = self.faults;
        }
        for _ in 0..100_000 {
            self.clock.advance(2_000);
            if self.last.epoch < self.started || self.position > self.last.position {
                self.barrier();
            }
            self.append();
            self.turn();
            let quiet = |task: &Task| {
                let asks = task.io.next_due().is_some() || !task.calls.is_empty();
                task.failed.is_none() && !asks && task.answers.is_empty()
            };
            let is_done = |task: &Task| task.writer.is_open() && task.writer.waiting().bytes == 0;
            if self.position == self.last.position
                && self.zombies.iter().chain(&self.tasks).all(quiet)
                && self.tasks.iter().all(is_done)
            {
                return;
            }
            if self.zombies.len() > 8 {
                self.zombies.clear();
            }
        }
        panic!("it does not come to rest");
    }

    /// Each key's records are there once, in the order in which they were read.
    fn judge(&self, seed: u64) {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in committed(&self.cluster, PARTITIONS).into_iter().flatten() {
            found.entry(key).or_default().push(value);
        }
        for key in 0..KEYS {
            let count = self.position / KEYS + u64::from(key < self.position % KEYS);
            let wanted: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let found = found.remove(&format!("k{key}")).unwrap_or_default();
            assert_eq!(found, wanted, "seed {seed}, key {key}");
        }
        assert!(found.is_empty());
    }
}

#[test]
fn whatever_happens_each_record_is_committed_once_and_in_order() {
    let (mut fenced, mut rescaled, mut epochs, mut parted) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.end();
        world.judge(seed);
        fenced += world.fenced;
        rescaled += world.rescaled;
        epochs += world.last.epoch;
        parted += world.parted.len() as u64;
    }
    // What the test is about has happened.
    assert!(fenced > SEEDS / 2, "{fenced} fenced");
    assert!(rescaled > SEEDS * 2, "{rescaled} rescaled");
    assert!(epochs > SEEDS * 5, "{epochs} epochs");
    assert!(parted > SEEDS / 2, "{parted} in several transactions");
}
