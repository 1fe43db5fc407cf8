//! TCP over epoll: the operating system's sockets as tokio drives them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use gear_core::control::Address;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::driver::{Connection, Listener, Transport};
use crate::halves::{TokioRead, TokioWrite};

/// TCP. Addresses are `HOST:PORT`, an IPv6 address in brackets; a listener's port may be 0 for one
/// that is free.
///
/// Nothing waits to be joined with what follows (`TCP_NODELAY`): links join it themselves. There is
/// no keep-alive, since links have heartbeats.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    advertised: Option<String>,
}

impl Tcp {
    /// Listeners give their address as they are bound.
    #[must_use]
    pub const fn new() -> Self {
        Self { advertised: None }
    }

    /// Listeners give this host, a name or an IP address, with the port that they are bound to:
    /// for those bound to all of a machine's addresses, or behind a translation of addresses.
    #[must_use]
    pub fn advertising(host: impl Into<String>) -> Self {
        Self { advertised: Some(host.into()) }
    }

    /// The address to dial for who wants a listener that is bound to this one.
    #[must_use]
    pub fn advertise(&self, bound: SocketAddr) -> Address {
        let port = bound.port();
        Address(match &self.advertised {
            None => bound.to_string(),
            Some(host) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{port}")
            }
            Some(host) => format!("{host}:{port}"),
        })
    }

    /// Connects to the first of a name's addresses that answers.
    pub(crate) async fn connect(&self, to: &Address) -> io::Result<TcpStream> {
        let mut refused = None;
        let mut failed = None;
        let known = lookup_host(&to.0).await.map_err(|error| named(&error, "find", to))?;
        for address in known {
            match connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused = Some(error),
                Err(error) => failed = Some(error),
            }
        }
        // Refused by one of its addresses only, the host may still be there under another.
        let none = || ErrorKind::AddrNotAvailable.into();
        let error = failed.or(refused).unwrap_or_else(none);
        Err(named(&error, "connect to", to))
    }
}

impl Transport for Tcp {
    type Listener = TcpAccepting;
    type Read = TokioRead<OwnedReadHalf>;
    type Write = TokioWrite<OwnedWriteHalf>;

    async fn listen(&self, at: &Address) -> io::Result<TcpAccepting> {
        let inner =
            TcpListener::bind(&at.0).await.map_err(|error| named(&error, "listen at", at))?;
        let address = self.advertise(inner.local_addr()?);
        Ok(TcpAccepting { inner, address })
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        Ok(halves(self.connect(to).await?))
    }
}

fn halves(stream: TcpStream) -> Connection<Tcp> {
    let (read, write) = stream.into_split();
    (TokioRead(read), TokioWrite(write))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    prepared(TcpStream::connect(address).await?)
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    // Where nobody listens at a port out of which connections are made too, one to it can come to
    // meet itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An error that says what was tried.
pub(crate) fn named(error: &io::Error, what: &str, address: &Address) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", address.0))
}

/// A TCP listener.
#[derive(Debug)]
pub struct TcpAccepting {
    inner: TcpListener,
    address: Address,
}

impl Listener<Tcp> for TcpAccepting {
    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Connection<Tcp>> {
        Ok(halves(self.accept_stream().await?))
    }
}

impl TcpAccepting {
    /// The next connection, before it is split.
    pub(crate) async fn accept_stream(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = self.inner.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listener(transport: &Tcp, at: &str) -> TcpAccepting {
        transport.listen(&Address(at.into())).await.expect("there is a port")
    }

    #[tokio::test]
    async fn a_listener_says_its_port_and_the_host_that_it_is_to_say() {
        let bound = listener(&Tcp::new(), "127.0.0.1:0").await.address();
        assert!(bound.0.starts_with("127.0.0.1:") && !bound.0.ends_with(":0"), "{bound}");
        let mut named = listener(&Tcp::advertising("localhost"), "0.0.0.0:0").await;
        let address = named.address();
        assert!(address.0.starts_with("localhost:"), "{address}");
        let (accepted, dialed) =
            tokio::join!(named.accept(), async { Tcp::new().dial(&address).await });
        assert!(accepted.is_ok() && dialed.is_ok());
        let six = "[::1]:7".parse().expect("an address");
        assert_eq!(Tcp::new().advertise(six).0, "[::1]:7");
        assert_eq!(Tcp::advertising("fe80::1").advertise(six).0, "[fe80::1]:7");
    }

    #[tokio::test]
    async fn a_port_is_taken_once_and_errors_name_the_address() {
        let first = listener(&Tcp::new(), "127.0.0.1:0").await;
        let taken = Tcp::new().listen(&first.address()).await.expect_err("it is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(taken.to_string().contains(&first.address().0), "{taken}");
        for nonsense in ["", "no port", "127.0.0.1:70000", "127.0.0.1"] {
            let address = Address(nonsense.into());
            let error = Tcp::new().dial(&address).await.expect_err("nobody is there");
            assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            assert!(Tcp::new().listen(&address).await.is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn nothing_waits_to_be_joined() {
        let mut listener = listener(&Tcp::new(), "127.0.0.1:0").await;
        let address = listener.address();
        let (accepted, dialed) =
            tokio::join!(listener.accept(), async { Tcp::new().dial(&address).await });
        for (read, _) in [accepted, dialed].map(|halves| halves.expect("both are there")) {
            assert!(read.0.as_ref().nodelay().expect("it has the option"));
        }
    }

    #[tokio::test]
    async fn a_connection_that_meets_itself_is_refused() {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("there is a port");
        let own = socket.local_addr().expect("it is bound");
        let stream = socket.connect(own).await.expect("that is how TCP is");
        let error = prepared(stream).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
