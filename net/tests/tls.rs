//! Secured connections: the suite, and what happens with certificates that are not as they should.

use std::path::Path;
use std::time::Duration;

use gear_core::control::Address;
use gear_net::runtime::{Runtime, TransportChoice};
use gear_net::tcp::Tcp;
use gear_net::tls::{LOOK_INTERVAL, NODE_NAME, Tls, TlsAccepting, TlsError, TlsFiles};
use gear_net::{Chopped, Listener, ReadHalf, Transport, halves};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::task::LocalSet;

mod suite;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("there is entropy"))
        .expect("it signs itself")
}

/// The files of a node whose certificate an authority has signed, and that trusts another.
struct Node {
    folder: TempDir,
}

impl Node {
    fn new(signed_by: &Authority, trusts: &Authority, name: &str, until: i32) -> Self {
        let mut params = CertificateParams::new(vec![name.into(), "node-7".into()]).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("there is entropy");
        let cert = params.signed_by(&key, signed_by).expect("it signs");
        let node = Self { folder: tempfile::tempdir().expect("a folder") };
        node.write("ca.pem", &trusts.pem());
        node.write("cert.pem", &cert.pem());
        node.write("key.pem", &key.serialize_pem());
        node
    }

    fn of(authority: &Authority) -> Self {
        Self::new(authority, authority, NODE_NAME, 2100)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("it can be written");
    }

    fn files(&self) -> TlsFiles {
        let there = |name: &str| self.folder.path().join(name);
        TlsFiles { ca: there("ca.pem"), cert: there("cert.pem"), key: there("key.pem") }
    }

    fn tls<T: Transport>(&self, inner: T) -> Tls<T> {
        Tls::new(inner, &self.files()).expect("the files are sound")
    }
}

#[tokio::test]
async fn tls_conforms() {
    let node = Node::of(&authority("the authority"));
    suite::conforms(node.tls(Tcp::new())).await;
}

#[tokio::test]
async fn tls_over_pieces_and_in_pieces_conforms() {
    let node = Node::of(&authority("the authority"));
    suite::conforms(node.tls(Chopped::new(Tcp::new(), 1, 50))).await;
    suite::conforms(Chopped::new(node.tls(Chopped::new(Tcp::new(), 2, 90)), 3, 90)).await;
}

#[test]
fn tls_over_the_best_transport_conforms() {
    let node = Node::of(&authority("the authority"));
    let runtime = Runtime::new(TransportChoice::Auto).expect("there is one");
    runtime.block_on(suite::conforms(node.tls(runtime.sockets(Tcp::new()))));
}

/// What both sides are told, the dialling one first.
async fn errors(dials: &Node, listens: &Node) -> (String, String) {
    let (dials, listens) = (dials.tls(Tcp::new()), listens.tls(Tcp::new()));
    let mut listener = listens.listen(&suite::anywhere()).await.expect("there is a port");
    met(&dials, &mut listener).await
}

/// The same, of a listener that is there already.
async fn met(dials: &Tls<Tcp>, listener: &mut TlsAccepting<Tcp>) -> (String, String) {
    let address = listener.address();
    let dialing = async {
        let (mut read, _write) = dials.dial(&address).await.expect("it listens");
        halves::read(&mut read, &mut Vec::with_capacity(9)).await
    };
    let listening = async {
        let (mut read, _write) = listener.accept().await.expect("somebody connects");
        halves::read(&mut read, &mut Vec::with_capacity(9)).await
    };
    let (dialed, listened) = tokio::join!(dialing, listening);
    let said = |result: std::io::Result<usize>| match result {
        Ok(count) => format!("{count} bytes came"),
        Err(error) => error.to_string(),
    };
    (said(dialed), said(listened))
}

#[tokio::test]
async fn whoever_is_of_another_cluster_is_told_so() {
    let (here, there) = (authority("here"), authority("there"));
    let (dialed, listened) = errors(&Node::of(&here), &Node::of(&there)).await;
    assert!(dialed.contains("not signed by this cluster's authority"), "{dialed}");
    assert!(listened.contains("another cluster"), "{listened}");
    let intruder = Node::new(&here, &there, NODE_NAME, 2100);
    let (dialed, listened) = errors(&intruder, &Node::of(&there)).await;
    assert!(dialed.contains("another cluster"), "{dialed}");
    assert!(listened.contains("not signed by this cluster's authority"), "{listened}");
}

#[tokio::test]
async fn an_expired_certificate_is_named_on_both_sides() {
    let authority = authority("the authority");
    let (sound, old) = (Node::of(&authority), Node::new(&authority, &authority, NODE_NAME, 2021));
    let (dialed, listened) = errors(&sound, &old).await;
    assert!(dialed.contains("the peer's certificate has expired"), "{dialed}");
    assert!(listened.contains("this side's certificate has expired"), "{listened}");
    let (dialed, listened) = errors(&old, &sound).await;
    assert!(dialed.contains("this side's certificate has expired"), "{dialed}");
    assert!(listened.contains("the peer's certificate has expired"), "{listened}");
}

#[tokio::test]
async fn files_that_are_replaced_serve_the_connections_after_that() {
    let authority = authority("the authority");
    let old = Node::new(&authority, &authority, NODE_NAME, 2021);
    let there = Node::new(&authority, &authority, NODE_NAME, 2021);
    let at_once = |node: &Node, interval| {
        Tls::looking_every(Tcp::new(), &node.files(), interval).expect("they fit each other")
    };
    let (dials, listens) = (at_once(&old, Duration::ZERO), at_once(&there, Duration::ZERO));
    let mut listener = listens.listen(&suite::anywhere()).await.expect("there is a port");
    let text = "the peer's certificate has expired";
    let (dialed, _) = met(&dials, &mut listener).await;
    assert!(dialed.contains(text), "{dialed}");
    // The certificate alone, whose key is not there yet, changes nothing.
    let renewed = Node::of(&authority);
    let read = |name: &str| std::fs::read_to_string(renewed.folder.path().join(name));
    for node in [&old, &there] {
        node.write("cert.pem", &read("cert.pem").expect("it is there"));
    }
    let (dialed, _) = met(&dials, &mut listener).await;
    assert!(dialed.contains(text), "{dialed}");
    for node in [&old, &there] {
        node.write("key.pem", &read("key.pem").expect("it is there"));
    }
    let quiet = tokio::time::timeout(Duration::from_millis(500), met(&dials, &mut listener)).await;
    assert!(quiet.is_err(), "both are sound and have nothing to say: {quiet:?}");
    // Whoever looked a moment ago does not look again.
    let seldom = at_once(&old, LOOK_INTERVAL);
    old.write("cert.pem", "rubbish");
    old.write("key.pem", "rubbish");
    let quiet = tokio::time::timeout(Duration::from_millis(500), met(&seldom, &mut listener)).await;
    assert!(quiet.is_err(), "it has what it has read: {quiet:?}");
}

#[tokio::test]
async fn a_certificate_of_no_node_is_refused() {
    let authority = authority("the authority");
    let other = Node::new(&authority, &authority, "example.org", 2100);
    let (dialed, _) = errors(&Node::of(&authority), &other).await;
    assert!(dialed.contains("none of a node"), "{dialed}");
}

#[tokio::test]
async fn who_speaks_no_tls_or_shows_no_certificate_is_told_apart() {
    let node = Node::of(&authority("the authority"));
    let mut plain = Tcp::new().listen(&suite::anywhere()).await.expect("there is a port");
    let address = plain.address();
    let answering = async {
        let (_read, mut write) = plain.accept().await.expect("somebody connects");
        let mut text = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
        halves::write_all(&mut write, &mut text).await.expect("it reads");
        _read
    };
    let tls = node.tls(Tcp::new());
    let dialing = async {
        let (mut read, _write) = tls.dial(&address).await.expect("it listens");
        halves::read(&mut read, &mut Vec::with_capacity(9)).await
    };
    let (dialed, _read) = tokio::join!(dialing, answering);
    let error = dialed.expect_err("that is no TLS").to_string();
    assert!(error.contains("--insecure"), "{error}");
    let mut listener = tls.listen(&suite::anywhere()).await.expect("there is a port");
    let address = listener.address();
    let (accepted, dialed) = tokio::join!(listener.accept(), async {
        let halves = Tcp::new().dial(&address).await;
        let (read, mut write) = halves.expect("it listens");
        halves::write_all(&mut write, &mut b"GET / HTTP/1.1\r\n\r\n".to_vec()).await.expect("goes");
        (read, write)
    });
    let (mut read, _write) = accepted.expect("somebody connects");
    let error = halves::read(&mut read, &mut Vec::with_capacity(9)).await.expect_err("no TLS");
    assert!(error.to_string().contains("--insecure"), "{error}");
    drop(dialed);
}

#[tokio::test]
async fn a_stranger_who_says_nothing_holds_nobody_up() {
    let node = Node::of(&authority("the authority"));
    let tls = node.tls(Tcp::new());
    let mut listener = tls.listen(&suite::anywhere()).await.expect("there is a port");
    let address = listener.address();
    let _silent = tokio::net::TcpStream::connect(&address.0).await.expect("it listens");
    let _first = listener.accept().await.expect("the silent one");
    let dialing = async {
        let (_read, mut write) = tls.dial(&address).await.expect("it is one of us");
        halves::write_all(&mut write, &mut b"hello".to_vec()).await.expect("it listens");
        halves::shutdown(&mut write).await.expect("it listens");
    };
    let listening = async {
        let (mut read, _write) = listener.accept().await.expect("the other one");
        halves::read(&mut read, &mut Vec::with_capacity(9)).await
    };
    let both = async { tokio::join!(dialing, listening) };
    let served = tokio::time::timeout(Duration::from_secs(20), both).await;
    let (_, read) = served.expect("the other one is served");
    assert_eq!(read.expect("it came"), 5);
}

#[tokio::test]
async fn a_reader_hears_though_the_writer_has_asked_the_socket_last() {
    let node = Node::of(&authority("the authority"));
    let tls = node.tls(Tcp::new());
    let mut listener = tls.listen(&suite::anywhere()).await.expect("there is a port");
    let address = listener.address();
    // Each half in a task of its own, so that waking one is not to wake the other.
    let local = LocalSet::new();
    let (read, mut write) = tls.dial(&address).await.expect("it listens");
    let reading = local.spawn_local(answer(read));
    local.spawn_local(async move {
        halves::write_all(&mut write, &mut b"hello".to_vec()).await.expect("it listens");
        // It has nothing more to say, and is not gone.
        std::future::pending::<()>().await;
    });
    local.spawn_local(async move {
        let (read, mut write) = listener.accept().await.expect("somebody connects");
        assert_eq!(answer(read).await, 5);
        halves::write_all(&mut write, &mut b"hello".to_vec()).await.expect("it reads");
        std::future::pending::<()>().await;
    });
    let heard = local.run_until(tokio::time::timeout(Duration::from_secs(20), reading)).await;
    assert_eq!(heard.expect("the answer comes").expect("no panic"), 5);
}

async fn answer(mut half: impl ReadHalf) -> usize {
    halves::read(&mut half, &mut Vec::with_capacity(9)).await.expect("it comes")
}

#[test]
fn files_that_do_not_fit_are_named() {
    let authority = authority("the authority");
    let refused = |node: &Node| Tls::new(Tcp::new(), &node.files()).expect_err("refused");
    let (node, other) = (Node::of(&authority), Node::of(&authority));
    std::fs::copy(other.files().key, node.files().key).expect("it can be copied");
    let error = refused(&node);
    assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
    node.write("key.pem", "nothing");
    let error = refused(&node).to_string();
    assert!(error.contains("key.pem") && error.contains("no key in PEM"), "{error}");
    node.write("cert.pem", "nothing");
    let error = refused(&node);
    assert!(
        matches!(&error, TlsError::NoCertificate { path } if ends(path, "cert.pem")),
        "{error}"
    );
    std::fs::remove_file(node.files().ca).expect("it is there");
    let error = refused(&node);
    assert!(matches!(&error, TlsError::Read { path, .. } if ends(path, "ca.pem")), "{error}");
}

fn ends(path: &Path, name: &str) -> bool {
    path.ends_with(name)
}

#[tokio::test]
async fn a_refused_dial_is_refused() {
    let tls = Node::of(&authority("the authority")).tls(Tcp::new());
    let gone = Tcp::new().listen(&suite::anywhere()).await.expect("there is a port").address();
    let error = tls.dial(&Address(gone.0)).await.err().expect("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
