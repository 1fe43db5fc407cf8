//! What bytes go over: the transport that the user chose, with TLS if there are certificates.

use std::path::PathBuf;

use gear_net::either::Either;
use gear_net::runtime::{Runtime, Sockets, TransportChoice};
use gear_net::tcp::Tcp;
use gear_net::tls::{Tls, TlsError, TlsFiles};
use serde::{Deserialize, Serialize};

/// The transport of a process of a cluster.
pub(crate) type Wire = Either<Sockets, Tls<Sockets>>;

/// What a process is told of its transport.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wiring {
    /// The name of a transport, or `auto`.
    pub(crate) transport: String,
    /// The host at which others reach it, if it is not the one at which it listens.
    pub(crate) advertise: Option<String>,
    /// The certificates of the cluster; without them everything goes in the clear.
    pub(crate) certificates: Option<Certificates>,
}

/// The files of a node's part of the cluster's certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Certificates {
    /// Certificates of the authority.
    pub(crate) authority: PathBuf,
    /// The node's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Why a process has no transport.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The transport does not exist.
    #[error("{0}")]
    Choice(String),
    /// A port is taken, or an address none of this machine.
    #[cfg(feature = "server")]
    #[error("--listen: {0}: end who listens there, or give this node an address of its own")]
    Listen(std::io::Error),
    /// There is no runtime for it.
    #[error("{0}")]
    Runtime(#[from] std::io::Error),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Wiring {
    /// The runtime of this thread, and its transport.
    pub(crate) fn connect(&self) -> Result<(Runtime, Wire), WireError> {
        let choice: TransportChoice = self.transport.parse().map_err(WireError::Choice)?;
        let runtime = Runtime::new(choice)?;
        tracing::debug!(target: "gear", "{}", runtime.description());
        let tcp = self.advertise.clone().map_or_else(Tcp::new, Tcp::advertising);
        let sockets = runtime.sockets(tcp);
        let wire = match &self.certificates {
            None => Either::A(sockets),
            Some(of) => {
                let (ca, cert, key) =
                    (of.authority.clone(), of.certificate.clone(), of.key.clone());
                Either::B(Tls::new(sockets, &TlsFiles { ca, cert, key })?)
            }
        };
        Ok((runtime, wire))
    }
}
