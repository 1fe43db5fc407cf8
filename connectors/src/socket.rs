//! Lines from a TCP connection.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use gear_core::api::{Files, SourceConnector};
use gear_core::effect::IoError;

use crate::stream::LineStream;

/// Time that a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The lines that a TCP server at `address` (`host:port`) sends, as `Ref<str>`.
///
/// They cannot be read again, and a lost connection is not made anew: the stream ends when the
/// other side closes it, and the job fails when the connection breaks.
pub fn lines(address: impl Into<String>) -> Socket {
    Socket { address: address.into(), listen: false }
}

/// A TCP connection; made by [`lines`].
#[derive(Clone, Debug)]
pub struct Socket {
    address: String,
    listen: bool,
}

impl Socket {
    /// Listens at the address and reads the first connection that comes.
    #[must_use]
    pub const fn listen(mut self) -> Self {
        self.listen = true;
        self
    }
}

impl SourceConnector for Socket {
    type Source = LineStream;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec![format!("tcp:{}", self.address)])
    }

    fn source(&self) -> LineStream {
        let Self { address, listen } = self.clone();
        let what = format!("tcp:{address}");
        LineStream::new(what, Arc::new(move || open(&address, listen)))
    }

    fn rewinds(&self) -> bool {
        false
    }
}

fn open(address: &str, listen: bool) -> io::Result<Box<dyn Read + Send>> {
    if listen {
        let (connection, _) = TcpListener::bind(address)?.accept()?;
        return Ok(Box::new(connection));
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(connection) => return Ok(Box::new(connection)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::thread;

    use super::*;
    use crate::stream::tests::read_all;

    #[test]
    fn reads_what_a_server_sends() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let sender = thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            connection.write_all(b"a\nb").unwrap();
        });
        let (read, malformed) = read_all(&mut lines(address).source()).unwrap();
        sender.join().unwrap();
        assert_eq!((read, malformed.len()), (vec!["a".to_owned(), "b".to_owned()], 0));
    }
}
