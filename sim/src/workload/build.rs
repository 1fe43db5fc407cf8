//! A plan made a job, through the same builder that authors use.

use gear_core::api::DeadLetter;
use gear_core::clock::Watermarks;
use gear_core::dsl::{App, FromInput, Job, Settings, Sliding, Stream, Tumbling};
use gear_core::flow::window::Window;
use gear_core::time::Duration;

use super::folders::Folders;
use super::plan::{Op, Plan, Step};
use super::sink::Files;
use super::source::Rows;
use super::tally::Tally;
use super::topics::Topics;
use super::{Row, is_poison};
use crate::random::mix;

/// What a job is built with, besides its plan.
#[derive(Clone, Debug)]
pub struct Build {
    /// What each source reads.
    pub sources: Vec<Rows>,
    /// Tasks of a processor that has no number of its own.
    pub parallelism: u32,
    /// Moves the parallelism of those that have.
    pub shift: u32,
    /// Key groups of the app.
    pub key_groups: u32,
    /// How watermarks follow from the rows.
    pub watermarks: Watermarks,
    /// The length of a window.
    pub window: Duration,
    /// How long a window takes records behind its end.
    pub lateness: Duration,
    /// The sinks.
    pub files: Files,
    /// Topics in the place of the sources and sinks.
    pub topics: Option<Topics>,
    /// Folders in the place of the sinks.
    pub folders: Option<Folders>,
}

/// A job, and what the oracles have to know of it.
pub struct Built {
    /// The job.
    pub job: Job,
    /// What has to be compared, and how.
    pub sinks: Vec<Judged>,
    /// Operators written by hand: their names and salts.
    pub tallies: Vec<(String, u64)>,
    /// Sinks that get the rows of a source as they come, by the number of the source.
    pub ordered: Vec<String>,
}

/// How the output of a sink is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Its rows are those of the model, each as often.
    Exact {
        /// The sink.
        sink: String,
    },
    /// What became of each record depends on the schedule, but each became something.
    Late {
        /// The windows' operator.
        operator: String,
        /// The sink of the windows' values.
        values: String,
        /// The sink of the late records.
        late: String,
        /// Windows overlap.
        sliding: bool,
    },
}

type Plain = Stream<Row, FromInput<Row>>;

struct Builder<'a> {
    build: &'a Build,
    pool: Vec<Option<Plain>>,
    /// The late windows' streams in the pool: values and late records.
    late: Vec<(usize, usize, String, bool)>,
    tallies: Vec<(String, u64)>,
}

/// Builds the job of a plan.
///
/// # Panics
/// If the builder refuses it: every plan is a valid job.
#[must_use]
pub fn build(plan: &Plan, build: &Build) -> Built {
    let settings = Settings { parallelism: build.parallelism, key_groups: build.key_groups };
    let mut app = App::new("simulated", (), settings);
    let mut builder = Builder { build, pool: Vec::new(), late: Vec::new(), tallies: Vec::new() };
    let mut ordered = Vec::new();
    for (number, rows) in build.sources.iter().enumerate() {
        let watermarks = build.watermarks.clone();
        if let Some(stream) = build.folders.and_then(|it| it.read(&mut app, number, &watermarks)) {
            builder.pool.push(Some(stream));
            continue;
        }
        let Some(topics) = &build.topics else {
            let source = app.source(&format!("source-{number}"), rows.clone());
            builder.pool.push(Some(source.watermarks(watermarks).fork()));
            continue;
        };
        let stream = topics.read(&mut app, number, watermarks);
        let name = format!("order-{number}");
        topics.write(stream.clone(), &name);
        ordered.push(name);
        builder.pool.push(Some(stream));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        builder.step(number, *step);
    }
    let exact = |name: &String| Judged::Exact { sink: name.clone() };
    let mut sinks: Vec<Judged> = ordered.iter().map(exact).collect();
    let Builder { pool, late, tallies, .. } = builder;
    for (place, stream) in pool.into_iter().enumerate() {
        if let Some(stream) = stream {
            let name = format!("sink-{place}");
            if !late.iter().any(|(values, late, ..)| *values == place || *late == place) {
                sinks.push(exact(&name));
            }
            match (&build.topics, &build.folders) {
                (Some(topics), _) => topics.write(stream, &name),
                (None, Some(folders)) => folders.write(stream, &name),
                (None, None) => stream.sink(&name, build.files),
            }
        }
    }
    let judged = late.into_iter().map(|(values, late, operator, sliding)| Judged::Late {
        operator,
        values: format!("sink-{values}"),
        late: format!("sink-{late}"),
        sliding,
    });
    sinks.extend(judged);
    let job = app.finish();
    let job = job.unwrap_or_else(|errors| panic!("the plan {plan:?} is refused: {errors:?}"));
    Built { job, sinks, tallies, ordered }
}

impl Builder<'_> {
    fn step(&mut self, number: usize, step: Step) {
        let stream = self.pool[step.stream].take().expect("a plan takes open streams");
        let name = format!("op-{number}");
        let salt = step.salt;
        let result = match step.op {
            Op::Union(other) => {
                let other = self.pool[other].take().expect("a plan takes open streams");
                self.parallel(step, stream.union(&name, other).map(&format!("{name}m"), |row| row))
            }
            Op::Branch => {
                let (yes, no) =
                    stream.branch(&name, move |row| mix(row.1 ^ salt).is_multiple_of(2));
                self.pool.push(Some(no));
                yes
            }
            Op::DeadLetters => self.dead_letters(step, &name, stream),
            Op::Fork => {
                let fork = stream.fork();
                self.pool.push(Some(fork.clone()));
                fork
            }
            Op::Rebalance => stream.rebalance().fork(),
            Op::PartitionBy => stream
                .partition_by(&name, move |row, tasks| mix(row.0 ^ salt) as usize % tasks)
                .map(&format!("{name}m"), |row| row)
                .fork(),
            Op::Map
            | Op::Filter
            | Op::FlatMap
            | Op::Chain
            | Op::TryMap
            | Op::PanickingMap
            | Op::PanickingFlatMap => self.plain(step, &name, stream),
            Op::Tumbling | Op::Sliding | Op::Late { .. } => self.windowed(step, &name, stream),
            Op::Tally => {
                self.tallies.push((name.clone(), salt));
                self.keyed(step, &name, stream)
            }
            _ => self.keyed(step, &name, stream),
        };
        self.pool[step.stream] = Some(result);
    }

    fn parallel<C>(&self, step: Step, stream: Stream<Row, C>) -> Plain
    where
        C: gear_core::dsl::Flow<Out = Row>,
    {
        if step.own_parallelism {
            let own = 1 + (step.salt as u32 % 3 + self.build.shift) % 3;
            stream.set_parallelism(own.min(self.build.key_groups)).fork()
        } else {
            stream.fork()
        }
    }

    fn plain(&mut self, step: Step, name: &str, stream: Plain) -> Plain {
        let salt = step.salt;
        match step.op {
            Op::Map => self.parallel(step, stream.map(name, move |row| rekeyed(row, salt))),
            Op::Filter => {
                let keep = move |row: &Row| !mix(row.0 ^ salt).is_multiple_of(4);
                self.parallel(step, stream.filter(name, keep))
            }
            Op::FlatMap => {
                let stream = stream.flat_map::<Row, _>(name, move |row, out| {
                    (0..mix(row.0 ^ salt) % 4).for_each(|copy| out.push(copied(&row, copy)));
                });
                self.parallel(step, stream)
            }
            Op::Chain => self.chain(step, name, stream),
            Op::TryMap => {
                self.parallel(step, stream.try_map::<Row, _, _>(name, move |row| tried(row, salt)))
            }
            Op::PanickingMap => {
                let map = move |row: Row| {
                    assert!(!is_poison(&row, salt), "poison");
                    rekeyed(row, salt)
                };
                self.parallel(step, stream.map(name, map))
            }
            _ => {
                let stream = stream.flat_map::<Row, _>(name, move |row, out| {
                    out.push(copied(&row, 0));
                    assert!(!is_poison(&row, salt), "poison");
                    out.push(copied(&row, 1));
                });
                self.parallel(step, stream)
            }
        }
    }

    /// The operator that refuses rows stands between one that emits several for each, and one that
    /// panics for some: then what it gave away for the same row has to be taken back.
    fn dead_letters(&mut self, step: Step, name: &str, stream: Plain) -> Plain {
        let salt = step.salt;
        let panics = salt.is_multiple_of(4);
        let (rows, letters) = stream
            .flat_map::<Row, _>(&format!("{name}a"), move |row, out| {
                (0..3).for_each(|copy| out.push(copied(&row, copy)));
            })
            .try_map::<Row, _, _>(&format!("{name}b"), move |row| {
                assert!(!panics || !is_poison(row, salt ^ 1), "panics at {}", row.0);
                tried(row, salt ^ 2)
            })
            .dead_letters();
        let letters = letters.map(&format!("{name}l"), |letter: DeadLetter<'_>| {
            let row = letter.record::<Row>().expect("it was a row");
            // Not its event time: that of an update is of whichever row came last.
            let reason = letter.reason.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
            (mix(row.0 ^ reason), row.1, row.2, letter.operator.to_owned())
        });
        self.pool.push(Some(letters.fork()));
        let rows = rows.map(&format!("{name}c"), move |row| {
            assert!(!is_poison(&row, salt ^ 3), "poison");
            row
        });
        self.parallel(step, rows)
    }

    fn chain(&mut self, step: Step, name: &str, stream: Plain) -> Plain {
        let salt = step.salt;
        let tried_name = format!("{name}t");
        let stream = stream
            .map(&format!("{name}a"), move |row| rekeyed(row, salt))
            .filter(&format!("{name}b"), move |row| !mix(row.0 ^ salt).is_multiple_of(5))
            .flat_map::<Row, _>(&format!("{name}c"), move |row, out| {
                out.push(copied(&row, 0));
                out.push(copied(&row, 1));
            })
            .try_map::<Row, _, _>(&tried_name, move |row| tried(row, salt ^ 1))
            .map(&format!("{name}d"), move |row| {
                assert!(!is_poison(&row, salt ^ 2), "poison");
                row
            });
        self.parallel(step, stream)
    }

    fn keyed(&self, step: Step, name: &str, stream: Plain) -> Plain {
        let salt = step.salt;
        let after = format!("{name}m");
        match step.op {
            Op::Count => {
                let counts = stream.key_by(|row| row.1).count(name);
                self.parallel(
                    step,
                    counts.map(&after, move |(key, count)| checked(value(count, key), salt)),
                )
            }
            Op::Updates => {
                let counts = stream.key_by(|row| row.1).count(name).updates();
                self.parallel(
                    step,
                    counts.map(&after, move |(key, count)| checked(value(count, key), salt)),
                )
            }
            Op::Fold | Op::PanickingFold => {
                let panics = step.op == Op::PanickingFold;
                let sums = stream.key_by(|row| row.1).fold(name, 0_u64, move |sum, row: Row| {
                    *sum = sum.wrapping_add(mix(row.0 ^ salt));
                    assert!(!(panics && is_poison(&row, salt)), "poison");
                });
                self.parallel(
                    step,
                    sums.map(&after, move |(key, sum)| checked(value(sum, key), salt)),
                )
            }
            Op::Reduce => {
                let highest = stream.key_by(|row| row.1).reduce(name, |a: Row, b: Row| a.max(b));
                self.parallel(step, highest.map(&after, move |(_, row)| checked(row, salt)))
            }
            Op::Tally => {
                let tally = Tally::new(salt);
                self.parallel(step, stream.key_by(|row| row.1).process(name, tally))
            }
            Op::Broadcast => {
                let all = stream.broadcast().key_by(|row: &Row| row.clone());
                self.parallel(step, all.distinct(name).map(&after, move |row| checked(row, salt)))
            }
            _ => {
                let first = stream.key_by(|row| row.1).distinct(name);
                // Which row is the first depends on the schedule; only its key does not.
                let keys = first.map(&after, |row| value(0, row.1));
                self.parallel(step, keys.map(&format!("{name}n"), move |row| checked(row, salt)))
            }
        }
    }

    fn windowed(&mut self, step: Step, name: &str, stream: Plain) -> Plain {
        let sliding = matches!(step.op, Op::Sliding | Op::Late { sliding: true });
        let (size, late, salt) = (self.build.window, self.build.lateness, step.salt);
        let keyed = stream.key_by(|row| row.1);
        let windowed = if sliding {
            keyed.window(Sliding::of(size * 2, size).allowed_lateness(late))
        } else {
            keyed.window(Tumbling::of(size).allowed_lateness(late))
        };
        let counts = windowed.count(name);
        if matches!(step.op, Op::Late { .. }) {
            self.pool.push(Some(counts.late()));
            self.late.push((step.stream, self.pool.len() - 1, name.to_owned(), sliding));
        }
        let after = format!("{name}m");
        if matches!(step.op, Op::Late { .. }) {
            let row = |(key, window, count): (u64, Window, u64)| {
                (count, key, window.start.0, String::new())
            };
            if salt % 3 > 0 {
                return self.parallel(step, counts.map(&after, row));
            }
            // The windows' own processor parts its values, beside the late records.
            let parts = counts.split(&format!("{name}s"), 2, |value| value.0 as usize % 2);
            let mut parts = parts.into_iter();
            let (Some(even), Some(odd)) = (parts.next(), parts.next()) else {
                unreachable!("two branches were asked for");
            };
            return self.parallel(step, even.union(&format!("{name}u"), odd).map(&after, row));
        }
        let rows = counts.map(&after, move |(key, window, count)| {
            checked((count, key, window.start.0, String::new()), salt)
        });
        self.parallel(step, rows)
    }
}

/// The row, if it is not poison to the third of all operators behind keyed ones.
fn checked(row: Row, salt: u64) -> Row {
    assert!(!salt.is_multiple_of(3) || !is_poison(&row, salt ^ 3), "poison");
    row
}

fn value(value: u64, key: u64) -> Row {
    (value, key, 0, String::new())
}

/// The row under another key, of fewer.
fn rekeyed(mut row: Row, salt: u64) -> Row {
    row.1 = mix(row.1 ^ salt) % 23;
    row
}

fn copied(row: &Row, copy: u64) -> Row {
    (mix(row.0 ^ (copy + 1)), row.1, row.2, row.3.clone())
}

fn tried(row: &Row, salt: u64) -> Result<Row, String> {
    if is_poison(row, salt) { Err(format!("{} is poison", row.0)) } else { Ok(row.clone()) }
}
