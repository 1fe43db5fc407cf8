//! Rubbish, strangers and impostors at the ports of real nodes: each is turned away and counted,
//! and everybody else is served on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gear_core::control::{AppOutcome, Peer};
use gear_core::id::NodeId;
use gear_core::link::handshake::{Hello, Purpose, Refusal, VERSIONS, Versions};
use gear_core::wire::decode_message;
use gear_core::wire::stream::{Decoder, Entry, encode_entry, kind};
use gear_tests::cluster::Cluster;
use gear_tests::process::{Dice, Room};
use gear_tests::{rest, words};

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");
/// Longer than a node waits for whoever says nothing.
const PATIENCE: Duration = Duration::from_secs(60);
const TURNED_AWAY: &str = "gear_connections_turned_away_total";
const DROPPED: &str = "gear_gossip_datagrams_dropped_total";

/// Sends bytes, and gives what comes back until the other end closes.
fn answer(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the connection is left open")
        }
        _ => answer,
    }
}

/// What a node answers to a hello.
fn greeted(at: SocketAddr, hello: &Hello) -> Refusal {
    let mut bytes = Vec::new();
    encode_entry(kind::HELLO, hello, &mut bytes).expect("a hello is short");
    let answer = answer(at, &bytes);
    let mut decoder = Decoder::new();
    match decoder.next(&mut answer.as_slice()) {
        Ok(Some(Entry::Message(entry))) => {
            decode_message(kind::REFUSAL, entry).expect("it is refused")
        }
        other => panic!("it does not answer: {other:?}"),
    }
}

fn hello(cluster: &Cluster) -> Hello {
    let (node, number) = cluster.identity(0).expect("it is formed");
    Hello {
        versions: VERSIONS,
        cluster: number,
        from: Peer::Client(7),
        to: Peer::Node(node),
        token: 0,
        purpose: Purpose::Control,
    }
}

/// Waits until the node has counted so many more strangers.
fn wait_for_count(cluster: &mut Cluster, before: f64, more: f64) {
    let at = cluster.serves(0);
    cluster.wait_for("they are counted", |_| rest::metric(at, TURNED_AWAY) >= before + more);
}

/// The node still does what it is for.
fn assert_serves(cluster: &mut Cluster) {
    let text = [words::text(50_000, 5)];
    let name = format!("in-{}", Dice::new().below(u64::MAX));
    fs::create_dir_all(cluster.path(&name)).expect("it can be made");
    fs::write(cluster.path(&name).join("0.txt"), &text[0]).expect("it can be written");
    let (input, output) = (cluster.path(&name), cluster.path(&format!("{name}-out")));
    let arguments =
        [&*input.display().to_string(), "--out", &*output.display().to_string()].map(String::from);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let app = cluster.submit(Path::new(WORD_COUNT), 1, &arguments);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    let expected = words::count(text.iter().map(Vec::as_slice));
    assert!(words::differences(&words::lines(&output), &expected).is_empty());
}

#[test]
fn rubbish_and_silence_on_every_port_are_turned_away_and_counted() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let (listens, serves) = (cluster.listens(0), cluster.serves(0));
    let before = rest::metric(serves, TURNED_AWAY);
    let dropped = rest::metric(serves, DROPPED);
    // Who says nothing, or half of something, and waits.
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(listens).expect("it listens");
        stream.write_all(b"M\x40\0").expect("it is taken");
        silent.push(stream);
        silent.push(TcpStream::connect(serves).expect("it listens"));
    }
    let mut dice = Dice::new();
    for _ in 0..50 {
        let rubbish: Vec<u8> = (0..1 + dice.below(20_000)).map(|_| dice.below(256) as u8).collect();
        let _ = answer(listens, &rubbish[..]);
        let mut stream = TcpStream::connect(serves).expect("it listens");
        // It may be closed before all is sent.
        let _ = stream.write_all(&rubbish);
        let udp = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        udp.send_to(&rubbish[..rubbish.len().min(1_400)], listens).expect("it can be sent");
    }
    let _ = answer(listens, b"GET / HTTP/1.1\r\n\r\n");
    wait_for_count(&mut cluster, before, 50.0);
    // The kernel may drop some datagrams itself.
    cluster.wait_for("they are counted", |_| rest::metric(serves, DROPPED) >= dropped + 25.0);
    assert!(cluster.is_ready(0));
    assert_serves(&mut cluster);
    drop(silent);
}

#[test]
fn a_length_of_four_gigabytes_is_not_believed() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let (listens, serves) = (cluster.listens(0), cluster.serves(0));
    let before = rest::metric(serves, TURNED_AWAY);
    let resident = rest::metric(serves, "process_resident_memory_bytes");
    let began = Instant::now();
    for _ in 0..20 {
        // A message, and a frame of records, of which only the heads come.
        assert!(answer(listens, b"M\xff\xff\xff\xff").is_empty());
        let mut frame = vec![gear_core::wire::frame::MAGIC];
        frame.extend_from_slice(&[0xff; 64]);
        assert!(answer(listens, &frame).is_empty());
    }
    assert!(began.elapsed() < PATIENCE, "each is closed at once");
    wait_for_count(&mut cluster, before, 40.0);
    let grown = rest::metric(serves, "process_resident_memory_bytes") - resident;
    assert!(grown < 64e6, "it has taken {grown} bytes for what never came");
    // Whoever was let in is believed no more than that.
    let mut bytes = Vec::new();
    encode_entry(kind::HELLO, &hello(&cluster), &mut bytes).expect("a hello is short");
    bytes.extend_from_slice(b"M\xff\xff\xff\xff");
    let _ = answer(listens, &bytes);
    assert_serves(&mut cluster);
}

#[test]
fn strangers_hear_why_they_are_refused() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let (listens, serves) = (cluster.listens(0), cluster.serves(0));
    let before = rest::metric(serves, TURNED_AWAY);
    let sound = hello(&cluster);
    let later = Versions { lowest: VERSIONS.highest + 1, highest: VERSIONS.highest + 9 };
    let refusal = greeted(listens, &Hello { versions: later, ..sound });
    assert!(matches!(refusal, Refusal::Versions { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("upgrade"), "{refusal}");
    let refusal = greeted(listens, &Hello { cluster: sound.cluster + 1, ..sound });
    assert!(matches!(refusal, Refusal::Cluster { .. }), "{refusal:?}");
    let refusal = greeted(listens, &Hello { to: Peer::Node(NodeId(1)), ..sound });
    assert!(matches!(refusal, Refusal::Addressee { .. }), "{refusal:?}");
    wait_for_count(&mut cluster, before, 3.0);
    assert_serves(&mut cluster);
}

/// Certificates of a cluster, as its operator makes them.
struct Certificates {
    room: Room,
}

impl Certificates {
    fn new() -> Self {
        let room = Room::new(NODE);
        let _ = room.run(&["cert", "init-ca", "--dir", "certs"]).ok();
        let certificates = Self { room };
        certificates.add("node", &[]);
        certificates
    }

    fn add(&self, name: &str, more: &[&str]) {
        let arguments =
            [&["cert", "node", name, "--host", "127.0.0.1", "--dir", "certs"][..], more].concat();
        let _ = self.room.run(&arguments).ok();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.room.path("certs").join(name)
    }

    /// The options of a node with the certificate of this name, and the authority of this one.
    fn options(&self, name: &str) -> Vec<String> {
        let text = |name: &str| self.file(name).display().to_string();
        [
            ("--ca", text("ca.pem")),
            ("--cert", text(&format!("{name}.pem"))),
            ("--key", text(&format!("{name}.key"))),
            ("--cluster-key", text("cluster.key")),
        ]
        .into_iter()
        .flat_map(|(option, file)| [option.to_owned(), file])
        .collect()
    }
}

/// A node that lets in only whom the cluster's authority knows.
fn secured(certificates: &Certificates) -> Cluster {
    secured_as(certificates, "node")
}

/// The same with the certificate of this name.
fn secured_as(certificates: &Certificates, name: &str) -> Cluster {
    let mut cluster = Cluster::new(NODE, 1);
    let node = cluster.add();
    let options = certificates.options(name);
    cluster.set_options(node, &options.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.start_node(node);
    cluster.wait_for("it is formed", |cluster| cluster.identity(0).is_some_and(|it| it.1 != 0));
    cluster
}

mod client {
    //! A peer that speaks TLS with whatever certificate it has.

    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;

    fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_file_iter(file).expect("it is there");
        all.map(|it| it.expect("it is a certificate")).collect()
    }

    /// Says hello, and gives what comes back.
    pub(crate) fn greet(
        at: SocketAddr,
        (authority, name): (&Path, &Path),
        hello: &Hello,
    ) -> std::io::Result<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authority) {
            roots.add(certificate).expect("it is one");
        }
        let key = PrivateKeyDer::from_pem_file(name.with_extension("key")).expect("it is a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("they are known")
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&name.with_extension("pem")), key)
            .expect("they belong together");
        let server = ServerName::try_from("gear-node").expect("it is a name");
        let connection = ClientConnection::new(Arc::new(config), server).expect("it is sound");
        let stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut bytes = Vec::new();
        encode_entry(kind::HELLO, hello, &mut bytes).expect("a hello is short");
        stream.write_all(&bytes)?;
        let mut answer = vec![0; 1_024];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    }
}

#[test]
fn a_certificate_of_others_or_of_another_time_lets_nobody_in() {
    let certificates = Certificates::new();
    let mut cluster = secured(&certificates);
    let at = cluster.listens(0);
    let hello = hello(&cluster);
    let authority = certificates.file("ca.pem");
    let ours = certificates.file("node");
    let greet = |authority: &Path, name: &Path| client::greet(at, (authority, name), &hello);
    let welcome = greet(&authority, &ours).expect("it is let in");
    assert!(!welcome.is_empty(), "it is answered");
    // Of our authority, and over since long ago: the first, for the log names one a second.
    of_years(&certificates, "old", (2020, 2021));
    let old = greet(&authority, &certificates.file("old"));
    assert!(!old.is_ok_and(|it| !it.is_empty()), "who is out of date is let in");
    cluster.wait_for("the log says so", |cluster| cluster.logs().contains("has expired"));
    let others = Certificates::new();
    let stranger = greet(&authority, &others.file("node"));
    assert!(!stranger.is_ok_and(|it| !it.is_empty()), "a stranger is let in");
    // In the clear, it is not even understood.
    assert!(answer_is_no_welcome(at, &hello));
    assert!(!greet(&authority, &ours).expect("it is let in").is_empty(), "others are served on");
}

fn answer_is_no_welcome(at: SocketAddr, hello: &Hello) -> bool {
    let mut bytes = Vec::new();
    encode_entry(kind::HELLO, hello, &mut bytes).expect("a hello is short");
    let answer = answer(at, &bytes);
    let mut decoder = Decoder::new();
    !matches!(decoder.next(&mut answer.as_slice()), Ok(Some(Entry::Message(_))))
}

/// A certificate of the cluster's authority from the begin of one year to that of another.
fn of_years(certificates: &Certificates, name: &str, (from, until): (i32, i32)) {
    let begin = |year| {
        let years = u64::try_from(year - 1970).expect("it is later");
        Duration::from_secs((years * 365 + (years + 1) / 4) * 24 * 3_600)
    };
    lasting(certificates, name, (begin(from), begin(until)));
}

/// The same, its begin and its end counted from 1970.
fn lasting(certificates: &Certificates, name: &str, (from, until): (Duration, Duration)) {
    let text = |name: &str| fs::read_to_string(certificates.file(name)).expect("it is there");
    let key = rcgen::KeyPair::from_pem(&text("ca.key")).expect("it is a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&text("ca.pem"), key).expect("it is one");
    let names = vec!["gear-node".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("they are names");
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + from;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + until;
    let key = rcgen::KeyPair::generate().expect("there is entropy");
    let certificate = params.signed_by(&key, &issuer).expect("it signs");
    fs::write(certificates.file(&format!("{name}.pem")), certificate.pem()).expect("it can be");
    let of_key = certificates.file(&format!("{name}.key"));
    fs::write(&of_key, key.serialize_pem()).expect("it can be written");
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&of_key, owner_only).expect("it is ours");
}

#[test]
fn a_certificate_that_ends_while_its_node_runs_is_told_of_and_replaced_without_a_restart() {
    let certificates = Certificates::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    let day = Duration::from_secs(24 * 3_600);
    let life = Duration::from_secs(10);
    lasting(&certificates, "short", (now - day, now + life));
    let mut cluster = secured_as(&certificates, "short");
    let text = |cluster: &Cluster, text: &str| cluster.logs().contains(text);
    cluster.wait_for("its end is told", |cluster| text(cluster, "short.pem expires on"));
    let (at, hello) = ([cluster.listens(0), cluster.serves(0)], hello(&cluster));
    let (authority, ours) = (certificates.file("ca.pem"), certificates.file("node"));
    let greet = |at| client::greet(at, (&authority, &ours), &hello);
    cluster.wait_for("nobody takes it any more", |_| at.iter().all(|at| greet(*at).is_err()));
    cluster.wait_for("the node says so", |cluster| text(cluster, "short.pem has expired on"));
    certificates.add("next", &[]);
    for end in ["key", "pem"] {
        let file = |name: &str| certificates.file(&format!("{name}.{end}"));
        fs::copy(file("next"), file("short")).expect("they are ours");
    }
    cluster.wait_for("it is taken again", |_| {
        at.iter().all(|at| greet(*at).is_ok_and(|answer| !answer.is_empty()))
    });
    assert!(text(&cluster, "short.pem was replaced"), "{}", cluster.logs());
    assert!(!cluster.has_ended(0));
}

#[test]
fn a_node_whose_own_certificate_is_of_no_use_does_not_start_and_says_why() {
    let certificates = Certificates::new();
    of_years(&certificates, "old", (2020, 2021));
    of_years(&certificates, "early", (2090, 2091));
    certificates.add("soon", &["--days", "3"]);
    let room = Room::new(NODE);
    let start = |options: &[String]| {
        let at = ["start", "--data", "data", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let options = options.iter().map(String::as_str);
        room.run(&at.into_iter().chain(options).collect::<Vec<_>>())
    };
    start(&certificates.options("old")).refused(&[
        &certificates.file("old.pem").display().to_string(),
        "has expired on 2021-01-01T00:00:00Z",
        "`gear-node cert node NAME --host HOST`",
    ]);
    start(&certificates.options("early")).refused(&[
        "early.pem",
        "is not valid before 2090-01-01T00:00:00Z",
        "clock",
    ]);
    let mixed: Vec<String> =
        certificates.options("node").iter().map(|it| it.replace("node.key", "soon.key")).collect();
    start(&mixed).refused(&["soon.key is not that of the certificate", "node.pem"]);
    let others = Certificates::new();
    let foreign = [&others.options("node")[..2], &certificates.options("node")[2..]].concat();
    start(&foreign).refused(&["node.pem is not signed by the authority", "ca.pem"]);
    // One that ends soon serves, and is warned of.
    let cluster = secured_as(&certificates, "soon");
    let logs = cluster.logs();
    assert!(logs.contains("soon.pem expires on "), "{logs}");
    let lasting = secured_as(&certificates, "node").logs();
    assert!(!lasting.contains("expires on "), "{lasting}");
}

#[test]
fn a_handshake_that_is_played_again_opens_nothing() {
    let certificates = Certificates::new();
    let mut cluster = secured(&certificates);
    let (listens, hello) = (cluster.listens(0), hello(&cluster));
    let proxy = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let at = proxy.local_addr().expect("it has an address");
    let recorder = std::thread::spawn(move || {
        let (client, _) = proxy.accept().expect("somebody comes");
        record(client, listens)
    });
    let (authority, name) = (certificates.file("ca.pem"), certificates.file("node"));
    let welcome = client::greet(at, (&authority, &name), &hello).expect("it is let in");
    assert!(!welcome.is_empty(), "it is answered");
    let (said, heard) = recorder.join().expect("it has recorded");
    assert!(said.len() > 500 && heard.len() > 500, "{} and {}", said.len(), heard.len());
    for _ in 0..10 {
        let again = answer(listens, &said);
        assert!(again.len() < heard.len(), "it goes as far as the real one did");
    }
    cluster
        .wait_for("the log says so", |cluster| cluster.logs().contains("a connection is refused"));
    let welcome = client::greet(listens, (&authority, &name), &hello).expect("it is let in");
    assert!(!welcome.is_empty(), "others are served on");
}

/// Carries bytes between a client and a node until one of them ends, and gives what each has said.
fn record(mut client: TcpStream, node: SocketAddr) -> (Vec<u8>, Vec<u8>) {
    let mut node = TcpStream::connect(node).expect("it listens");
    let (mut from, mut to) =
        (client.try_clone().expect("a socket"), node.try_clone().expect("a socket"));
    let there = std::thread::spawn(move || carry(&mut from, &mut to));
    let heard = carry(&mut node, &mut client);
    (there.join().expect("it has carried"), heard)
}

fn carry(from: &mut TcpStream, to: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        all.extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    all
}

#[test]
fn a_binary_that_cannot_run_is_refused_when_it_is_submitted() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let at = cluster.serves(0).to_string();
    let room = Room::new(NODE);
    let sound = fs::read(WORD_COUNT).expect("it is there");
    let mut foreign = sound.clone();
    // The field of the header that says for which processor it is.
    foreign[18..20].copy_from_slice(&[0xf3, 0]);
    room.write("foreign", &foreign);
    room.write("truncated", &sound[..sound.len() / 2]);
    room.write("empty", b"");
    room.write("text", "this is no program\n");
    let submit = |file: &str| {
        let path = room.path(file);
        room.run(&["submit", "--cluster", &at, path.to_str().expect("it is text")])
    };
    submit("foreign").refused(&["built for riscv64"]);
    submit("truncated").refused(&["truncated"]);
    submit("empty").refused(&["no program"]);
    submit("text").refused(&["no program"]);
    // Runs here, and knows nothing of being a job.
    room.run(&["submit", "--cluster", &at, "/bin/true"]).refused(&["job"]);
    room.run(&["submit", "--cluster", &at, "/bin/false"]).refused(&["job"]);
    assert_serves(&mut cluster);
}
