//! An HDFS behind Kerberos: who has a ticket may use it, and who has none is told what to do.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gear_core::control::AppOutcome;
use gear_node::store::CheckpointStore;
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::{Ended, Room};
use gear_tests::services::Kind;
use gear_tests::words;

use super::{Place, jobs};

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_hdfs_word_count");
const CHAOS: &str = env!("CARGO_BIN_EXE_job_chaos");
const NODE: &str = env!("CARGO_BIN_EXE_node_program");

/// Longer than it takes to refuse somebody on the slowest machine, and no wait for what may pass.
const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// An HDFS behind Kerberos, and a folder on it for one test.
struct Realm(Place);

impl Realm {
    /// None if there can be no servers.
    fn new(kind: Kind, test: &str) -> Option<Self> {
        let realm = Self(Place::of(kind, test)?);
        realm.0.hdfs(&["-mkdir", "-p", &realm.0.path("in")]);
        Some(realm)
    }

    /// Puts a file there, with Hadoop's own shell.
    fn put(&self, room: &Room, name: &str, content: &[u8]) {
        room.write(name, content);
        let file = room.path(name).display().to_string();
        self.0.hdfs(&["-put", &file, &self.0.path("in")]);
    }

    /// A command of who has a keytab, and keeps tickets in the room.
    fn command(&self, room: &Room, arguments: &[&str]) -> Command {
        let mut command = jobs::command(room, arguments, "60");
        command.envs(self.0.services.kerberos_variables());
        command.env("KRB5CCNAME", room.path("tickets")).env("LC_ALL", "C");
        command
    }

    /// The same of who has only what is in the cache.
    fn without_keytab(&self, room: &Room, arguments: &[&str]) -> Command {
        let mut command = self.command(room, arguments);
        command.env_remove("KRB5_CLIENT_KTNAME");
        command
    }
}

/// Runs to its end what is to be refused at once.
fn refused(room: &Room, command: Command, texts: &[&str]) -> Ended {
    let began = Instant::now();
    let ended = room.start_command(command).wait().refused(texts);
    assert!(began.elapsed() < REFUSAL_MAX, "it took {:?}: {ended:?}", began.elapsed());
    ended
}

/// Counts words from HDFS to HDFS with checkpoints there, and is killed once.
fn words_are_counted(kind: Kind) {
    let Some(realm) = Realm::new(kind, "words") else { return };
    let room = Room::new(WORD_COUNT);
    let texts: Vec<Vec<u8>> = (0..2).map(|seed| words::text(4 << 20, seed)).collect();
    for (name, text) in ["0.txt", "1.txt"].iter().zip(&texts) {
        realm.put(&room, name, text);
    }
    let (input, out) = (realm.0.url("in"), realm.0.url("out"));
    let checkpoints = realm.0.url("checkpoints");
    let arguments =
        [&input, "--out", &out, "--checkpoints", &checkpoints, "--epoch-interval", "50ms"];
    let mut first = room.start_command(realm.command(&room, &arguments));
    // It has logged in then.
    first.wait_until(|| room.path("tickets").exists());
    let _ = first.kill();
    let _ = room.start_command(realm.command(&room, &arguments)).wait().ok();
    let expected = words::count(texts.iter().map(Vec::as_slice));
    assert!(jobs::counted(&realm.0, "out") == expected.words);
}

#[test]
fn words_are_counted_of_who_has_a_keytab() {
    words_are_counted(Kind::Kerberos);
}

#[test]
fn words_are_counted_over_connections_that_are_encrypted() {
    words_are_counted(Kind::KerberosPrivacy);
}

#[test]
fn who_cannot_log_in_hears_at_once_why_and_what_to_do() {
    let Some(realm) = Realm::new(Kind::Kerberos, "refused") else { return };
    let room = Room::new(WORD_COUNT);
    realm.put(&room, "a.txt", b"the cat and the dog\n");
    let (input, out) = (realm.0.url("in"), realm.0.url("out"));
    let arguments = [input.as_str(), "--out", &out];
    let says = ["logging in with Kerberos failed", "kinit", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"];
    refused(&room, realm.without_keytab(&room, &arguments), &says);

    let mut missing = realm.command(&room, &arguments);
    missing.env("KRB5_CLIENT_KTNAME", room.path("none.keytab"));
    refused(&room, missing, &says);

    // A library that cannot be loaded, whatever this machine has.
    room.write("libraries/libgssapi_krb5.so.2", "");
    let mut without = realm.command(&room, &arguments);
    without.env("LD_LIBRARY_PATH", room.path("libraries"));
    refused(&room, without, &["libgssapi_krb5", "install"]);

    let mut simple = realm.command(&room, &arguments);
    simple.env_remove("HADOOP_CONF_DIR").env("GEAR_HDFS_WAIT_SECONDS", "2");
    refused(&room, simple, &["wants Kerberos", "HADOOP_CONF_DIR"]);

    let checkpoints = realm.0.url("gear");
    let stored = [&arguments[..], &["--checkpoints", &checkpoints]].concat();
    refused(&room, realm.without_keytab(&room, &stored), &["checkpoint store", "kinit"]);
    // And with all of it:
    let _ = room.start_command(realm.command(&room, &stored)).wait().ok();
    assert_eq!(jobs::counted(&realm.0, "out")["the"], "2");
}

#[test]
fn a_ticket_that_has_expired_is_said_to_have() {
    let Some(realm) = Realm::new(Kind::Kerberos, "old") else { return };
    let room = Room::new(WORD_COUNT);
    realm.put(&room, "a.txt", b"the cat and the dog\n");
    let file = realm.0.services.hadoop().join("krb5.conf");
    let usual = std::fs::read_to_string(file).expect("it was written");
    let short = usual.replace("[libdefaults]", "[libdefaults]\n  ticket_lifetime = 2s");
    room.write("short.conf", short);
    let (input, out) = (realm.0.url("in"), realm.0.url("out"));
    let mut logs_in = realm.command(&room, &[&input, "--out", &out]);
    logs_in.env("KRB5_CONFIG", room.path("short.conf"));
    // It may end while the ticket is good, or not.
    let _ = room.start_command(logs_in).wait();
    assert!(room.path("tickets").exists(), "it has logged in");
    let began = Instant::now();
    let mut number = 0;
    let ended = loop {
        number += 1;
        let (state, out) = (format!("state-{number}"), realm.0.url(&format!("out-{number}")));
        let command = realm.without_keytab(&room, &[&input, "--out", &out, "--state", &state]);
        let ended = room.start_command(command).wait();
        if ended.err.contains("Ticket expired") {
            break ended;
        }
        assert!(began.elapsed() < REFUSAL_MAX, "it does not expire: {ended:?}");
    };
    ended.refused(&["logging in with Kerberos failed", "kinit"]);
}

#[test]
fn a_kdc_that_is_away_is_waited_for() {
    let Some(realm) = Realm::new(Kind::Kerberos, "away") else { return };
    let room = Room::new(WORD_COUNT);
    realm.put(&room, "a.txt", b"the cat and the dog\n");
    realm.0.kill("kdc");
    let (input, out) = (realm.0.url("in"), realm.0.url("out"));
    let mut run = room.start_command(realm.command(&room, &[&input, "--out", &out]));
    let err = room.path(".process-1.err");
    let says = || std::fs::read_to_string(&err).is_ok_and(|it| it.contains("KRB5_CONFIG"));
    assert!(run.wait_until(says), "{}", run.err());
    realm.0.start_again("kdc");
    let _ = run.wait().ok();
    assert_eq!(jobs::counted(&realm.0, "out")["the"], "2");
}

#[test]
fn a_node_hands_its_app_what_it_logs_in_with() {
    let Some(realm) = Realm::new(Kind::Kerberos, "cluster") else { return };
    let mut cluster = Cluster::new(NODE, 1);
    let variables = realm.0.services.kerberos_variables();
    let tickets = cluster.path("tickets").display().to_string();
    let mut variables: Vec<_> = variables.iter().map(|(name, at)| (*name, at.as_str())).collect();
    variables.push(("KRB5CCNAME", &tickets));
    // Not on that HDFS: a store there would have it handed over anyway.
    let checkpoints = CheckpointStore::url_of(&cluster.path("checkpoints"));
    cluster.keep_checkpoints_at(&checkpoints, &variables);
    cluster.start_nodes(1);
    let options = Options { count: 2_000, rate: 1_000, seed: 2, out: realm.0.url("out") };
    let app = cluster.submit(Path::new(CHAOS), 2, &options.arguments(2, "200ms"));
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let (_kept, fetched) = realm.0.fetch("out");
    let difference = job::compare(&job::expected(&options), &fetched);
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}
