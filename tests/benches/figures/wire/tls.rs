//! Certificates for a pair, and the same records between two bare rustls streams.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use gear_net::tls::{NODE_NAME, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::{launch, rate, raw, used};
use crate::jobs::{self, Watch};

/// Bytes of a write: more gains nothing, since a record of TLS has 16 KiB.
const SIZE: usize = 64 << 10;

/// Where the certificates of a pair are, beside its store.
pub(crate) fn files(store: &Path) -> TlsFiles {
    let there = |name| store.with_file_name(name);
    TlsFiles { ca: there("ca.pem"), cert: there("cert.pem"), key: there("key.pem") }
}

/// Makes them.
pub(crate) fn make(store: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "the pair's authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut node = CertificateParams::new(vec![NODE_NAME.into()]).unwrap();
    node.distinguished_name.push(DnType::CommonName, "a process of the pair");
    let node = node.signed_by(&key, &authority).unwrap();
    let files = files(store);
    std::fs::write(files.ca, authority.pem()).unwrap();
    std::fs::write(files.cert, node.pem()).unwrap();
    std::fs::write(files.key, key.serialize_pem()).unwrap();
}

struct Parts {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn parts(store: &Path) -> Parts {
    // Both builders find it where the process has it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = files(store);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.ca).unwrap()).unwrap();
    Parts {
        roots: Arc::new(roots),
        chain: vec![CertificateDer::from_pem_file(files.cert).unwrap()],
        key: PrivateKeyDer::from_pem_file(files.key).unwrap(),
    }
}

/// Two processes with rustls as its authors show it, over blocking sockets.
pub(crate) fn bare() -> f64 {
    let folder = jobs::temporary();
    let store = folder.path().join("store");
    make(&store);
    let Parts { roots, chain, key } = parts(&store);
    let verifier = WebPkiClientVerifier::builder(roots).build().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let mut config = config.with_single_cert(chain, key).unwrap();
    // Nobody reads them, and a socket that is closed with something unread takes back what it sent.
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut child, mut output) = launch(&["tls", &address, store.to_str().unwrap()]);
    let (stream, _) = listener.accept().unwrap();
    let tls = ServerConnection::new(config).unwrap();
    let watch = Watch::start();
    raw::parse(StreamOwned::new(tls, stream), SIZE);
    let took = watch.seconds();
    child.wait().unwrap();
    rate(took, &[took, used(&mut output)])
}

/// The sending end.
pub(crate) fn send(to: &str, store: &Path) {
    let Parts { roots, chain, key } = parts(store);
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = Arc::new(config.with_client_auth_cert(chain, key).unwrap());
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let tls = ClientConnection::new(config, ServerName::try_from(NODE_NAME).unwrap()).unwrap();
    raw::fill(StreamOwned::new(tls, stream), SIZE);
}
