//! A pair over rustls: TLS 1.3, a certificate of the moment, and rustls' own buffers.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::Fallible;

const NAME: &str = "localhost";

/// The receiving side.
pub(crate) struct Server {
    certificate: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl Server {
    /// Makes a certificate.
    pub(crate) fn new() -> Fallible<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())?;
        Ok(Self { certificate, config: Arc::new(config) })
    }

    /// What the sending side has to trust, in hexadecimal digits.
    pub(crate) fn certificate(&self) -> String {
        self.certificate.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Answers the handshake with the first read.
    pub(crate) fn accept(
        &self,
        socket: TcpStream,
    ) -> Fallible<StreamOwned<ServerConnection, TcpStream>> {
        socket.set_nodelay(true)?;
        Ok(StreamOwned::new(ServerConnection::new(Arc::clone(&self.config))?, socket))
    }
}

/// The sending side, which trusts one certificate.
pub(crate) fn connect(
    socket: TcpStream,
    certificate: &str,
) -> Fallible<StreamOwned<ClientConnection, TcpStream>> {
    let digits: Vec<char> = certificate.chars().collect();
    let bytes = digits.chunks(2).map(|two| u8::from_str_radix(&String::from_iter(two), 16));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(bytes.collect::<Result<Vec<u8>, _>>()?))?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    Ok(StreamOwned::new(connection, socket))
}
