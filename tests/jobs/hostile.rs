//! Jobs that misbehave on purpose, and jobs that need an option that no example has.

use std::process::ExitCode;

use gear_node::prelude::*;

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// Which job to run
    #[arg(long, value_enum)]
    case: Case,

    /// Records to generate
    #[arg(long, default_value_t = 10_000)]
    count: u64,

    /// Files to read, or the one that mends what is refused
    #[arg(long)]
    path: Option<String>,

    /// Folder for the output
    #[arg(long, default_value = "out")]
    out: String,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Case {
    /// An operator fails and another panics for some records
    Bad,
    /// An operator with state panics after it has changed it
    BadState,
    /// State that grows without bound
    Large,
    /// One call takes long
    Slow,
    /// The lines of a file in splits of a few bytes
    Splits,
    /// An operator refuses some records until a file is there
    Outside,
    /// A record every now and then, for ever
    Endless,
}

fn main() -> ExitCode {
    gear_node::main("hostile", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { case, count, path, out } = app.options().clone();
    let numbers = generate::from_fn(count, 4, |number| number);
    match case {
        Case::Bad => app
            .source("numbers", numbers)
            .try_map::<u64, _, _>("refuse", |number| {
                if number % 1_000 == 7 { Err(format!("{number} is refused")) } else { Ok(*number) }
            })
            .map("panic", |number| {
                assert!(number % 1_000 != 8, "{number} panics");
                number
            })
            .sink("out", files::lines_sink::<u64>(out)),
        Case::BadState => app
            .source("numbers", numbers)
            .key_by(|number| number % 10)
            .process("sum", Sum::default())
            .sink("out", files::sink::<(u64, u64)>(out, pair)),
        Case::Large => app
            .source("numbers", numbers)
            .key_by(|number| *number)
            .count("large")
            .sink("out", files::sink::<(u64, u64)>(out, pair)),
        Case::Slow => app
            .source("numbers", numbers)
            .map("sleep", |number| {
                if number == 5 {
                    std::thread::sleep(millis(700));
                }
                number
            })
            .sink("out", files::lines_sink::<u64>(out)),
        Case::Splits => app
            .source("lines", files::source(path).split_bytes(1_000))
            .map("own", |line: &str| line.to_owned())
            .sink("out", files::lines_sink::<String>(out)),
        Case::Outside => {
            let mended = std::path::PathBuf::from(path.unwrap_or_default());
            app.source("numbers", numbers.rate(2_000))
                .try_map::<u64, _, _>("check", move |number| {
                    if number % 100 == 7 && !mended.exists() {
                        Err(format!("{number} is refused"))
                    } else {
                        Ok(*number)
                    }
                })
                .sink("out", files::lines_sink::<u64>(out))
        }
        Case::Endless => app
            .source("numbers", generate::from_fn(u64::MAX, 4, |number| number).rate(2_000))
            .sink("out", files::lines_sink::<u64>(out)),
    }
    Ok(())
}

fn pair((key, value): (u64, u64), out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{key}\t{value}\n").as_bytes());
}

/// Sums the numbers of a key; for every hundredth it panics when it has already changed its sum,
/// its list and a timer.
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: ValueState<u64>,
    seen: ListState<u64>,
}

impl Process for Sum {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64);
    type Side = ();

    fn open(&mut self, states: &mut States) {
        self.sum = states.value("sum");
        self.seen = states.list("seen");
    }

    fn on_record(&mut self, number: u64, cx: &mut ProcessContext<'_, (u64, u64), ()>) {
        let sum = cx.get(self.sum).unwrap_or(0) + number;
        cx.set(self.sum, &sum);
        cx.append(self.seen, &number);
        // Fires when the input has ended.
        cx.set_event_timer(EventTime::from_seconds(1));
        if number % 100 == 13 {
            cx.set_event_timer(EventTime::from_seconds(2));
            cx.emit((number, u64::MAX));
            panic!("{number} is unlucky");
        }
    }

    fn on_event_timer(
        &mut self,
        _: EventTime,
        key: u64,
        cx: &mut ProcessContext<'_, (u64, u64), ()>,
    ) {
        let listed: u64 = cx.list(self.seen).iter().sum();
        assert_eq!(Some(listed), cx.get(self.sum), "both were taken back");
        cx.emit((key, listed));
    }
}
