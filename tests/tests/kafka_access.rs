//! A broker that asks who one is: what a job says that is not let in, and no password is in it.

use std::time::{Duration, Instant};

use gear_tests::process::{Ended, Room, Running};
use gear_tests::services::{GUEST, Lease, lease};

const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_words");
/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(240);

/// Two topics of a test, and a job between them.
struct Place {
    services: Lease,
    room: Room,
    from: String,
    to: String,
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
        Some(Self { services, room: Room::new(JOB), from, to })
    }

    /// Starts the job with a password for its source and another one for its sink.
    fn start(&self, (password, sink): (&str, &str), more: &[&str]) -> Running {
        let Self { services, from, to, .. } = self;
        let arguments = ["--brokers", services.sasl_brokers(), "--from", from, "--to", to];
        let user = ["--user", GUEST.0, "--epoch-interval", "100ms", "--log", "info"];
        let mut command = self.room.command(&[&arguments[..], &user, more].concat());
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
        let guest = format!("User:{}", GUEST.0);
        let add = ["--add", "--allow-principal", &guest];
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
