//! A broker that asks who one is: what a job says that is not let in, or may not do all that it has
//! to, and that it works once it may; and no password is in what is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use gear_tests::process::{Ended, Room, Running};
use gear_tests::services::{GUEST, Lease, lease};

const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_words");
/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(240);
/// Words that are counted.
const WORDS: u64 = 3_000;
/// Different words.
const VOCABULARY: u64 = 40;

/// Two topics of a test, and a job between them.
struct Place {
    services: Lease,
    room: Room,
    from: String,
    to: String,
    user: &'static str,
    /// Where the job finds the brokers, and how.
    way: Vec<String>,
}

impl Place {
    /// None if there can be no servers.
    fn new(test: &str) -> Option<Self> {
        let services = lease(TEST_MAX)?;
        let (from, to) = (format!("{test}-words"), format!("{test}-counts"));
        for topic in [&from, &to] {
            services.topic(topic, 2, &[]).expect("it is made");
        }
        // What another test has allowed for the job's own names.
        for of in ["--transactional-id", "--group"] {
            let all = ["--remove", "--force", of, "gear.", "--resource-pattern-type", "prefixed"];
            services.acl(&all).expect("the broker takes it");
        }
        let way = vec!["--brokers".to_owned(), services.sasl_brokers().to_owned()];
        Some(Self { services, room: Room::new(JOB), from, to, user: GUEST.0, way })
    }

    /// Starts the job with a password for its source and another one for its sink.
    fn start(&self, (password, sink): (&str, &str), more: &[&str]) -> Running {
        let topics = ["--from", &self.from, "--to", &self.to, "--user", self.user];
        let always = ["--epoch-interval", "100ms", "--log", "info"];
        let way: Vec<&str> = self.way.iter().map(String::as_str).collect();
        let mut command = self.room.command(&[&topics[..], &always, &way, more].concat());
        command.env("SASL_PASSWORD", password).env("SASL_SINK_PASSWORD", sink);
        self.room.start_command(command)
    }

    /// Runs the job to the end of its topic.
    fn run(&self, passwords: (&str, &str)) -> Ended {
        let ended = self.start(passwords, &["--until-end"]).wait();
        for password in [passwords.0, passwords.1] {
            assert!(!ended.err.contains(password) && !ended.out.contains(password), "{ended:?}");
        }
        ended
    }

    fn allow(&self, options: &[&str]) {
        let user = format!("User:{}", self.user);
        let add = ["--add", "--allow-principal", &user];
        self.services.acl(&[&add[..], options].concat()).expect("the broker takes it");
    }

    /// Allows all that the job does.
    fn allow_all(&self) {
        self.allow(&["--operation", "Read", "--topic", &self.from]);
        self.allow(&["--operation", "Read", "--operation", "Write", "--topic", &self.to]);
        let own = ["--resource-pattern-type", "prefixed"];
        let id = ["--operation", "Write", "--operation", "Describe", "--transactional-id", "gear."];
        self.allow(&[&id[..], &own].concat());
        self.allow(&[&["--operation", "Read", "--group", "gear."][..], &own].concat());
    }

    /// Takes back what was allowed for a topic.
    fn forbid(&self, operation: &str, topic: &str) {
        let user = format!("User:{}", self.user);
        let remove = ["--remove", "--force", "--allow-principal", &user];
        let what = ["--operation", operation, "--topic", topic];
        self.services.acl(&[&remove[..], &what].concat()).expect("the broker takes it");
    }

    /// Puts words in.
    fn feed(&self) {
        let mut lines = String::new();
        for number in 0..WORDS {
            writeln!(lines, "{number}\tw{}", number % VOCABULARY).expect("text takes text");
        }
        self.services.produce(&self.from, &lines).expect("the broker takes them");
    }

    /// Asserts that every count of every word is there once, each word's in order.
    fn judge(&self, words: u64) {
        let most = (words + 1).to_string();
        let options = ["--max-messages", &most, "--timeout-ms", "3000"];
        let found = self.services.consume(&self.to, &options).expect("it is read");
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for line in found.lines() {
            let (word, count) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
            let last = last.entry(word).or_default();
            *last += 1;
            assert_eq!(count.trim_end(), last.to_string(), "of {word}");
        }
        assert_eq!(last.values().sum::<u64>(), words);
        assert_eq!(last.len() as u64, VOCABULARY);
    }
}

#[test]
fn each_right_that_is_missing_is_named_and_with_all_of_them_it_works() {
    let Some(place) = Place::new("rights") else { return };
    place.feed();
    let at = place.services.sasl_brokers().to_owned();
    let passwords = (GUEST.1, GUEST.1);
    let own = ["--resource-pattern-type", "prefixed"];
    let allow_own = |options: &[&str]| place.allow(&[options, &own].concat());
    let refused =
        |says: &str| place.run(passwords).refused(&[&at, says, "give this user the right"]);

    refused(&format!("the topic `{}`", place.from));
    place.allow(&["--operation", "Read", "--topic", &place.from]);
    refused(&format!("the topic `{}`", place.to));
    // He may see that it is there, and no more.
    place.allow(&["--operation", "Describe", "--topic", &place.to]);
    refused("Transactional Id authorization failed");
    allow_own(&["--operation", "Write", "--operation", "Describe", "--transactional-id", "gear."]);
    refused("Group authorization failed");
    allow_own(&["--operation", "Read", "--group", "gear."]);
    refused("Topic authorization failed");
    place.allow(&["--operation", "Write", "--topic", &place.to]);
    // The epoch's number is an offset of the topic.
    refused("Failed to commit offsets to transaction");
    place.allow(&["--operation", "Read", "--topic", &place.to]);
    let _ = place.run(passwords).ok();
    place.judge(WORDS);
}

#[test]
fn a_password_that_is_wrong_is_said_at_once_and_not_shown() {
    let Some(place) = Place::new("password") else { return };
    place.allow_all();
    let at = place.services.sasl_brokers();
    let says = [at, "Authentication failed: Invalid username or password"];
    for passwords in [("hunter2", "hunter2"), (GUEST.1, "hunter2")] {
        let began = Instant::now();
        place.run(passwords).refused(&says);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}

#[test]
fn a_right_that_is_taken_back_while_a_job_runs_ends_it_and_nothing_is_lost() {
    let Some(place) = Place::new("back") else { return };
    place.allow_all();
    for (operation, topic) in [("Read", &place.from), ("Write", &place.to)] {
        place.feed();
        let before = place.room.last_record("kafka-words");
        let mut job = place.start((GUEST.1, GUEST.1), &[]);
        let runs = job.wait_until(|| place.room.last_record("kafka-words") >= before + 5);
        assert!(runs, "{}", job.err());
        place.forbid(operation, topic);
        place.feed();
        job.wait().refused(&[place.services.sasl_brokers(), "authorization failed"]);
        place.allow(&["--operation", operation, "--topic", topic]);
    }
    let mut job = place.start((GUEST.1, GUEST.1), &[]);
    let before = place.room.last_record("kafka-words");
    let runs = job.wait_until(|| place.room.last_record("kafka-words") >= before + 10);
    assert!(runs, "{}", job.err());
    place.judge(4 * WORDS);
    assert!(!job.has_ended(), "{}", job.err());
}

#[test]
fn over_tls_only_a_broker_that_is_trusted_hears_of_a_user_and_only_who_knows_the_password_is_one() {
    const PASSWORD: &str = "not-said-to-anybody";
    let Some(mut place) = Place::new("tls") else { return };
    place.services.user("keeper", PASSWORD).expect("the broker takes him");
    place.user = "keeper";
    place.allow_all();
    place.feed();
    let (at, authority) = place.services.tls_brokers();
    let (at, trusting) = (at.to_owned(), ["--tls-ca".to_owned(), authority.to_owned()]);
    place.way = vec!["--brokers".to_owned(), at.clone()];
    place.way.extend(trusting);
    let refused = |place: &Place, passwords, says: &[&str]| {
        place.run(passwords).refused(&[&[at.as_str()], says].concat());
    };
    let wrong = ["Authentication failed", "SCRAM-SHA-256"];
    refused(&place, ("hunter2", "hunter2"), &wrong);
    refused(&place, (PASSWORD, "hunter2"), &wrong);
    let _ = place.run((PASSWORD, PASSWORD)).ok();
    place.judge(WORDS);

    // Another broker's certificate.
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("it is made");
    place.room.write("other.pem", key.cert.pem());
    let other = place.room.path("other.pem");
    *place.way.last_mut().expect("it was put there") = other.display().to_string();
    refused(&place, (PASSWORD, PASSWORD), &["certificate verify failed"]);
}
