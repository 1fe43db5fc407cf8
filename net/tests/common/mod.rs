//! The operating system's sockets as a transport, for the tests.

use std::io;

use gear_core::control::Address;
use gear_net::{Connection, Listener, Transport};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// TCP; addresses are `host:port`.
#[derive(Clone, Debug)]
pub(crate) struct Tcp;

/// Where nobody has asked for a port of its own.
pub(crate) fn anywhere() -> Address {
    Address("127.0.0.1:0".into())
}

impl Transport for Tcp {
    type Listener = Accepting;
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    async fn listen(&self, at: &Address) -> io::Result<Accepting> {
        Ok(Accepting(TcpListener::bind(&at.0).await?))
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        Ok(TcpStream::connect(&to.0).await?.into_split())
    }
}

/// A TCP listener.
#[derive(Debug)]
pub(crate) struct Accepting(TcpListener);

impl Listener<Tcp> for Accepting {
    fn address(&self) -> Address {
        Address(self.0.local_addr().expect("a listener has an address").to_string())
    }

    async fn accept(&mut self) -> io::Result<Connection<Tcp>> {
        Ok(self.0.accept().await?.0.into_split())
    }
}
