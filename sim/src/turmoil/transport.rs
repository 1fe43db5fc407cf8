//! The simulated sockets as a transport.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use gear_core::control::Address;
use gear_net::halves::{TokioRead, TokioWrite};
use gear_net::{Connection, Listener, Transport};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};

use super::shared::Shared;

/// The sockets of one machine; addresses are `m<machine>:<port>`.
#[derive(Clone)]
pub(crate) struct Sockets {
    shared: Rc<Shared>,
    machine: usize,
}

impl Sockets {
    pub(crate) const fn new(shared: Rc<Shared>, machine: usize) -> Self {
        Self { shared, machine }
    }
}

/// The machine and port that an address names.
pub(crate) fn parse(address: &Address) -> Option<(usize, u16)> {
    let (machine, port) = address.0.strip_prefix('m')?.split_once(':')?;
    Some((machine.parse().ok()?, port.parse().ok()?))
}

/// The name of a machine in the simulated network.
pub(crate) fn name(machine: usize) -> String {
    format!("m{machine}")
}

/// The address of a port of a machine.
pub(crate) fn address(machine: usize, port: u16) -> Address {
    Address(format!("m{machine}:{port}"))
}

impl Transport for Sockets {
    type Listener = Accepting;
    type Read = TokioRead<OwnedReadHalf>;
    type Write = TokioWrite<OwnedWriteHalf>;

    async fn listen(&self, at: &Address) -> io::Result<Accepting> {
        let (machine, port) = parse(at).ok_or(ErrorKind::InvalidInput)?;
        if machine != self.machine {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let inner = TcpListener::bind(("0.0.0.0", port)).await?;
        self.shared.state.borrow_mut().listeners.insert((machine, port));
        Ok(Accepting { inner, shared: Rc::clone(&self.shared), at: (machine, port) })
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        let (machine, port) = parse(to).ok_or(ErrorKind::InvalidInput)?;
        match TcpStream::connect((name(machine), port)).await {
            Ok(stream) => Ok(halves(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                // The simulated network refuses at once what it cannot deliver. Where that says
                // nothing about who listens, a dial gets no answer, as on a real network.
                if self.shared.refuses(self.machine, (machine, port)) {
                    return Err(error);
                }
                pending().await
            }
            Err(error) => Err(error),
        }
    }
}

fn halves(stream: TcpStream) -> Connection<Sockets> {
    let (read, write) = stream.into_split();
    (TokioRead(read), TokioWrite(write))
}

/// A simulated listener.
pub(crate) struct Accepting {
    inner: TcpListener,
    shared: Rc<Shared>,
    at: (usize, u16),
}

impl Listener<Sockets> for Accepting {
    fn address(&self) -> Address {
        address(self.at.0, self.at.1)
    }

    async fn accept(&mut self) -> io::Result<Connection<Sockets>> {
        Ok(halves(self.inner.accept().await?.0))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().listeners.remove(&self.at);
    }
}
