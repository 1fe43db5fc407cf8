//! The examples that read from Kafka, against real servers: killed again and again, and as the
//! README says that they are tried out.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use gear_tests::process::{Dice, Room};
use gear_tests::services::{Lease, Services, lease};
use gear_tests::words;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

const COUNTS: &str = env!("CARGO_BIN_EXE_job_kafka_counts");
const HDFS: &str = env!("CARGO_BIN_EXE_job_kafka_to_hdfs");
const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_hdfs_word_count");
/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
/// Longer than a broker needs on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Milliseconds in which what should not come would have come.
const QUIET: &str = "3000";
/// 2026-11-20T08:00:00Z, in milliseconds.
const SINCE: i64 = 1_795_161_600_000;

/// A plain producer.
struct Writer(ThreadedProducer<DefaultProducerContext>);

impl Writer {
    fn new(services: &Services) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", services.brokers()).set("enable.idempotence", "true");
        Self(config.set("linger.ms", "1").create().expect("the settings are right"))
    }

    /// Writes a record some time soon; [`Self::flush`] waits for it.
    fn queue(&self, topic: &str, partition: i32, (key, value): (&str, &str), timestamp: i64) {
        let trace = OwnedHeaders::new().insert(Header { key: "trace", value: Some(key) });
        let record = BaseRecord::to(topic).partition(partition).key(key).payload(value);
        let mut record = Some(record.timestamp(timestamp).headers(trace));
        while let Some(next) = record.take() {
            if let Err((error, same)) = self.0.send(next) {
                assert!(error.to_string().contains("Queue full"), "{error}");
                sleep(Duration::from_millis(5));
                record = Some(same);
            }
        }
    }

    fn flush(&self) {
        self.0.flush(PATIENCE).expect("the broker takes them");
    }
}

/// A time as a post has it, so many milliseconds after [`SINCE`].
fn at(millis: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis((SINCE + millis).unsigned_abs());
    humantime::format_rfc3339_millis(time).to_string()
}

fn post(millis: i64, text: &str) -> String {
    format!(r#"{{"at": "{}", "text": "{text}"}}"#, at(millis))
}

/// So many records of a topic, as Kafka's own consumer shows them.
fn first(services: &Lease, topic: &str, count: usize, options: &[&str]) -> Vec<String> {
    let count = count.to_string();
    let all = [&["--max-messages", &count, "--timeout-ms", "90000"], options].concat();
    let found = services.consume(topic, &all).expect("it is read");
    found.lines().map(str::to_owned).collect()
}

/// All records of a topic.
fn all(services: &Lease, topic: &str, options: &[&str]) -> Vec<String> {
    let found = services.consume(topic, &[&["--timeout-ms", QUIET], options].concat());
    found.expect("it is read").lines().map(str::to_owned).collect()
}

/// Starts the job so many times, and kills it after a few epochs.
fn kill_again_and_again(room: &Room, app: &str, arguments: &[&str], kills: u32) {
    let mut dice = Dice::new();
    let mut killed = 0;
    for _ in 0..kills {
        let until = room.last_record(app) + 2 + dice.below(4);
        let mut job = room.start(arguments);
        if !job.wait_until(|| room.last_record(app) >= until) {
            let _ = job.wait().ok();
            break;
        }
        let _ = job.kill();
        killed += 1;
    }
    assert!(killed > 0, "nothing was killed");
}

/// Posts of half an hour, a little out of order, in two partitions; every hundredth is none.
struct Posts {
    counts: BTreeMap<String, u64>,
    dead: Vec<String>,
}

impl Posts {
    const COUNT: i64 = 120_000;
    const SPACING: i64 = 15;
    const POISON: &str = "no post";

    fn write(writer: &Writer) -> Self {
        let mut posts = Self { counts: BTreeMap::new(), dead: Vec::new() };
        for partition in 0..2 {
            for number in 0..50 {
                let old = post(number, "old");
                writer.queue("said", partition, ("old", &old), SINCE - 50 + number);
            }
        }
        let mut dice = Dice::new();
        let mut offsets = [50, 50];
        for number in 0..Self::COUNT {
            let partition = number % 2;
            let key = format!("k{number}");
            let said = number * Self::SPACING + 4_000 - dice.below(4_000) as i64;
            let word = format!("w{}", dice.below(40));
            let text = post(said, &format!("{word} all"));
            let value = if number % 100 == 7 { Self::POISON } else { &text };
            // Kafka has had each since it was said, or a little longer.
            let came = SINCE + number * Self::SPACING;
            writer.queue("said", partition as i32, (&key, value), came);
            let offset = &mut offsets[partition as usize];
            if value == Self::POISON {
                posts.dead.push(format!(
                    "trace:{key},gear.topic:said,gear.partition:{partition},gear.offset:{offset},\
                     gear.operator:parse,gear.reason:line 1 column 2: expected ident,\
                     gear.record-type:kafka.Message\t{key}\t{value}"
                ));
            } else {
                let minute = at(said / 60_000 * 60_000).replace(".000Z", "Z");
                for word in [&word, "all"] {
                    *posts.counts.entry(format!("{word}\t{minute}")).or_default() += 1;
                }
            }
            *offset += 1;
        }
        // What ends all windows.
        for partition in 0..2 {
            writer.queue("said", partition, ("end", &post(7_200_000, "end")), SINCE + 7_200_000);
        }
        writer.flush();
        posts.dead.sort();
        posts
    }
}

#[test]
fn words_per_minute_are_counted_once_and_what_is_late_or_no_post_goes_aside() {
    let Some(services) = lease(TEST_MAX) else { return };
    // Not those that the README makes.
    for topic in ["said", "said-counts", "said-late", "said-dead"] {
        services.topic(topic, 2, &[]).expect("it is made");
    }
    let writer = Writer::new(&services);
    let posts = Posts::write(&writer);
    let room = Room::new(COUNTS);
    let arguments = ["--brokers", services.brokers(), "--since", "2026-11-20T08:00:00Z"];
    let topics = ["--from", "said", "--to", "said-counts", "--late", "said-late"];
    let more = ["--dead", "said-dead", "--epoch-interval", "50ms"];
    let arguments = [&arguments[..], &topics, &more].concat();
    kill_again_and_again(&room, "kafka-counts", &arguments, 4);
    let mut job = room.start(&arguments);
    let _ = first(&services, "said-counts", posts.counts.len(), &[]);
    // All windows are over by now, and nothing corrects them any more.
    for number in 0..3 {
        writer.queue("said", number % 2, ("late", &post(1, "too late")), SINCE + 7_200_000);
    }
    writer.flush();
    let _ = first(&services, "said-late", 6, &[]);
    assert!(!job.has_ended(), "it goes on for ever: {}", job.err());
    job.interrupt();
    let stopped = job.wait();
    assert_eq!(stopped.code, Some(130), "{stopped:?}");

    let mut counts = BTreeMap::new();
    for line in all(&services, "said-counts", &[]) {
        let (minute, count) = line.rsplit_once(' ').expect("a count is a minute and a number");
        let before = counts.insert(minute.to_owned(), count.parse().expect("it is a number"));
        assert_eq!(before, None, "{minute} twice");
    }
    assert!(counts == posts.counts, "{} counts of {}", counts.len(), posts.counts.len());
    let mut late = all(&services, "said-late", &["--formatter-property", "print.timestamp=true"]);
    late.sort();
    let expected = |word| vec![format!("CreateTime:{}\tnull\t{word}", SINCE + 1); 3];
    assert_eq!(late, ["late", "too"].map(expected).concat());
    let mut dead = all(&services, "said-dead", &["--formatter-property", "print.headers=true"]);
    dead.sort();
    assert!(dead == posts.dead, "{} of {}: {:?}", dead.len(), posts.dead.len(), dead.first());
}

#[test]
fn each_record_is_on_hdfs_once_however_often_the_job_is_killed() {
    const RECORDS: u64 = 200_000;
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("archived", 2, &[]).expect("it is made");
    let writer = Writer::new(&services);
    writer.queue("archived", 0, ("old", "old"), SINCE - 1);
    let mut expected = Vec::new();
    for number in 0..RECORDS {
        let (key, value) = (format!("k{}", number % 100), format!("value {number}"));
        let partition = number % 2;
        writer.queue("archived", partition as i32, (&key, &value), SINCE + number as i64);
        let offset = number / 2 + 1 - partition;
        expected.push(format!("archived\t{partition}\t{offset}\t{key}\t{value}"));
    }
    writer.flush();
    let room = Room::new(HDFS);
    let out = format!("{}/archived", services.hdfs_url());
    let arguments = ["--brokers", services.brokers(), "--topic", "archived", "--out", &out];
    let more = ["--since", "2026-11-20T08:00:00Z", "--until-end", "--epoch-interval", "50ms"];
    let arguments = [&arguments[..], &more].concat();
    kill_again_and_again(&room, "kafka-hdfs", &arguments, 3);
    let _ = room.run(&arguments).ok();
    let found = services.hdfs(&["-cat", "/archived/*.tsv"]).expect("it is there");
    let mut found: Vec<_> = found.lines().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len());
    let differs = found.iter().zip(&expected).find(|(found, expected)| *found != expected);
    assert_eq!(differs, None, "found and expected");
}

/// The commands below a title of the README, and what it says that they print.
fn told(title: &str) -> (String, Option<String>) {
    let readme = fs::read_to_string(gear_tests::root().join("README.md")).expect("there is one");
    let (_, section) = readme.split_once(&format!("\n{title}\n")).expect("it has this title");
    let section = section.split("\n#").next().unwrap_or_default();
    let block = |language: &str| {
        let (_, block) = section.split_once(&format!("\n```{language}\n"))?;
        Some(block.split_once("```")?.0.to_owned())
    };
    (block("sh").expect("it says how it is tried out"), block("text"))
}

/// Does what the README says below a title, but for building and ending the servers, and gives what
/// was printed.
fn try_out(services: &Lease, room: &Room, title: &str, (name, program): (&str, &str)) -> String {
    let (commands, _) = told(title);
    let kept = commands.lines().filter(|line| {
        !line.starts_with("cargo build ") && !line.starts_with("tests/services/down")
    });
    let commands: Vec<_> = kept.collect();
    let root = gear_tests::root();
    for file in ["README.md", "ARCHITECTURE.md"] {
        room.write(file, fs::read(root.join(file)).expect("there is one"));
    }
    let services_folder = format!("{}/tests/services/", root.display());
    let script = commands
        .join("\n")
        .replace("tests/services/", &services_folder)
        .replace(&format!("target/release/examples/{name} "), &format!("{program} "))
        // Where somebody would look again, a test waits.
        .replace("--max-messages", "--timeout-ms 90000 --max-messages");
    assert!(script.contains(program), "it is run: {script}");
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c"]);
    // Nothing is left behind by one that fails; there may be nothing to end.
    command.arg(format!("trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{script}"));
    command.current_dir(room.path(".")).stdin(Stdio::null());
    command.env("GEAR_SERVICES_DIR", services.folder()).env("LC_ALL", "C");
    let output = command.output().expect("there is a bash");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn words_per_minute_come_out_as_the_readme_says() {
    const TITLE: &str = "### Words per minute, from Kafka to Kafka";
    let Some(services) = lease(TEST_MAX) else { return };
    let room = Room::new(COUNTS);
    let printed = try_out(&services, &room, TITLE, ("kafka_counts", COUNTS));
    assert_eq!(printed, told(TITLE).1.expect("it says what is printed"));
}

#[test]
fn records_come_to_hdfs_as_the_readme_says() {
    const TITLE: &str = "### From Kafka to HDFS";
    let Some(services) = lease(TEST_MAX) else { return };
    let room = Room::new(HDFS);
    let printed = try_out(&services, &room, TITLE, ("kafka_hdfs", HDFS));
    let expected = told(TITLE).1.expect("it says what is printed");
    assert!(printed.ends_with(&expected), "{printed}");
}

#[test]
fn words_on_hdfs_are_counted_as_the_readme_says() {
    let Some(services) = lease(TEST_MAX) else { return };
    let room = Room::new(WORD_COUNT);
    let printed = try_out(&services, &room, "## HDFS", ("hdfs_word_count", WORD_COUNT));
    let texts = ["README.md", "ARCHITECTURE.md"].map(|name| fs::read(room.path(name)).unwrap());
    let expected = words::count(texts.iter().map(Vec::as_slice)).words;
    let counts = printed.lines().filter_map(|line| line.rsplit_once('\t'));
    let counts: BTreeMap<_, _> = counts.map(|(word, n)| (word.to_owned(), n.to_owned())).collect();
    assert!(counts == expected, "{} of {}: {printed}", counts.len(), expected.len());
}
