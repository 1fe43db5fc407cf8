//! Mutual TLS over another transport: both sides show a certificate of the cluster's authority.
//!
//! TLS 1.3 only, without tickets: every connection is a full handshake. Neither who dials nor who
//! listens waits for it: the first read or write does, so that a stranger who says nothing holds
//! nobody up, and an error of the handshake is one of that read or write.

mod error;
mod session;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gear_core::control::Address;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

pub use error::TlsError;
use session::Session;
pub use session::{TlsRead, TlsWrite};

use crate::driver::{Connection, Listener, Transport};

/// The name that the certificate of every node bears, beside its own: whoever dials may not know
/// which node answers at an address.
pub const NODE_NAME: &str = "gear-node";

/// Time between two looks whether the files are others, if connections begin.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Where a node's part of the cluster's certificates is, each file in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificates of the cluster's authority.
    pub ca: PathBuf,
    /// This node's certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// The key of this node's certificate.
    pub key: PathBuf,
}

/// Another transport, with TLS.
#[derive(Clone, Debug)]
pub struct Tls<T> {
    inner: T,
    kept: Arc<Mutex<Kept>>,
}

/// How both kinds of connections begin.
#[derive(Clone, Debug)]
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// What the files held last, and when that was looked at.
#[derive(Debug)]
struct Kept {
    files: TlsFiles,
    stamps: [Stamp; 3],
    looked: Instant,
    interval: Duration,
    configs: Configs,
}

/// Tells a file from one that has taken its place: when it was written, its length and its number;
/// none if there is no file.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let of = fs::metadata(path).ok()?;
    Some((of.mtime(), of.mtime_nsec(), of.len(), of.ino()))
}

impl TlsFiles {
    fn stamps(&self) -> [Stamp; 3] {
        [&self.ca, &self.cert, &self.key].map(|path| stamp(path))
    }
}

impl Configs {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(files)?);
        let (chain, key) = (chain(files)?, key(files)?);
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable {
            cert: files.cert.clone(),
            key: files.key.clone(),
            reason: error.to_string(),
        };
        let client = client(&provider, &roots, chain.clone(), key.clone_key());
        let client = client.map_err(|error| unusable(&error))?;
        let server = server(&provider, &roots, chain, key).map_err(|error| unusable(&error))?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

impl Kept {
    fn current(&mut self) -> Configs {
        if self.looked.elapsed() >= self.interval {
            self.looked = Instant::now();
            // Taken before the files are read: what comes meanwhile is another stamp.
            let stamps = self.files.stamps();
            if stamps != self.stamps
                && let Ok(configs) = Configs::read(&self.files)
            {
                (self.stamps, self.configs) = (stamps, configs);
            }
        }
        self.configs.clone()
    }
}

fn current(kept: &Mutex<Kept>) -> Configs {
    kept.lock().unwrap_or_else(PoisonError::into_inner).current()
}

impl<T: Transport> Tls<T> {
    /// Secures a transport with the certificates in these files. They are looked at again every
    /// [`LOOK_INTERVAL`].
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, or they do not fit together.
    pub fn new(inner: T, files: &TlsFiles) -> Result<Self, TlsError> {
        Self::looking_every(inner, files, LOOK_INTERVAL)
    }

    /// The same, but for the time between two looks.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn looking_every(inner: T, files: &TlsFiles, interval: Duration) -> Result<Self, TlsError> {
        let (files, stamps) = (files.clone(), files.stamps());
        let configs = Configs::read(&files)?;
        let kept = Kept { files, stamps, looked: Instant::now(), interval, configs };
        Ok(Self { inner, kept: Arc::new(Mutex::new(kept)) })
    }
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let path = &files.ca;
    let certificates = CertificateDer::pem_file_iter(path).map_err(TlsError::read(path))?;
    for certificate in certificates {
        let certificate = certificate.map_err(TlsError::read(path))?;
        roots.add(certificate).map_err(|error| TlsError::Authority {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { path: path.clone() });
    }
    Ok(roots)
}

fn chain(files: &TlsFiles) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let path = &files.cert;
    let chain = CertificateDer::pem_file_iter(path).map_err(TlsError::read(path))?;
    let chain: Result<Vec<_>, _> = chain.collect();
    let chain = chain.map_err(TlsError::read(path))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: path.clone() });
    }
    Ok(chain)
}

fn key(files: &TlsFiles) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(&files.key).map_err(TlsError::read(&files.key))
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

impl<T: Transport> Transport for Tls<T> {
    type Listener = TlsAccepting<T>;
    type Read = TlsRead<T::Read, T::Write>;
    type Write = TlsWrite<T::Read, T::Write>;

    async fn listen(&self, at: &Address) -> io::Result<TlsAccepting<T>> {
        let inner = self.inner.listen(at).await?;
        Ok(TlsAccepting { inner, kept: Arc::clone(&self.kept) })
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        let halves = self.inner.dial(to).await?;
        let name = ServerName::try_from(NODE_NAME).expect("it is a name");
        let tls = ClientConnection::new(current(&self.kept).client, name);
        let tls = tls.map_err(|error| error::failed(&error))?;
        Ok(Session::split(tls.into(), halves))
    }
}

/// A listener whose connections are secured.
#[derive(Debug)]
pub struct TlsAccepting<T: Transport> {
    inner: T::Listener,
    kept: Arc<Mutex<Kept>>,
}

impl<T: Transport> Listener<Tls<T>> for TlsAccepting<T> {
    fn address(&self) -> Address {
        self.inner.address()
    }

    async fn accept(&mut self) -> io::Result<Connection<Tls<T>>> {
        let halves = self.inner.accept().await?;
        let tls = ServerConnection::new(current(&self.kept).server);
        let tls = tls.map_err(|error| error::failed(&error))?;
        Ok(Session::split(tls.into(), halves))
    }
}
