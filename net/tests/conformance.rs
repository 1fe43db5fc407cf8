//! The operating system's sockets, whole and chopped, do what a transport has to do.

mod suite;

use gear_net::Chopped;
use gear_net::runtime::{Runtime, TransportChoice};
use gear_net::tcp::Tcp;
use gear_net::uring::Uring;

#[tokio::test]
async fn tcp_conforms() {
    suite::conforms(Tcp::new()).await;
}

#[tokio::test]
async fn chopped_tcp_conforms() {
    for (seed, percent) in [(1, 10), (2, 50), (3, 90)] {
        suite::conforms(Chopped::new(Tcp::new(), seed, percent)).await;
    }
}

/// Whether this machine lets the tests use io_uring; says so where it does not.
fn ring() -> Option<Runtime> {
    let ring = Runtime::new(TransportChoice::Uring);
    ring.inspect_err(|error| eprintln!("not tried: {error}")).ok()
}

#[test]
fn uring_conforms() {
    let Some(ring) = ring() else { return };
    ring.block_on(suite::conforms(Uring::new(Tcp::new())));
    ring.block_on(suite::conforms(ring.sockets(Tcp::new())));
}

#[test]
fn chopped_uring_conforms() {
    let Some(ring) = ring() else { return };
    for (seed, percent) in [(1, 10), (2, 50), (3, 90)] {
        ring.block_on(suite::conforms(Chopped::new(Uring::new(Tcp::new()), seed, percent)));
    }
}
