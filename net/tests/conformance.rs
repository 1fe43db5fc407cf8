//! The operating system's sockets, whole and chopped, do what a transport has to do.

use gear_core::control::Address;
use gear_net::conformance::{self, CASES, Case};
use gear_net::tcp::Tcp;
use gear_net::{Chopped, Listener, Transport};

/// Where nobody has asked for a port of its own.
fn anywhere() -> Address {
    Address("127.0.0.1:0".into())
}

async fn conforms<T: Transport>(transport: T) {
    for case in CASES {
        let mut listener = transport.listen(&anywhere()).await.expect("there is a port");
        let address = listener.address();
        if case == Case::Refused {
            drop(listener);
            assert_eq!(conformance::dial(case, &transport, &address).await, Ok(()));
            continue;
        }
        let (listened, dialed) = tokio::join!(
            conformance::listen::<T>(case, &mut listener),
            conformance::dial(case, &transport, &address),
        );
        assert_eq!((listened, dialed), (Ok(()), Ok(())));
    }
}

#[tokio::test]
async fn tcp_conforms() {
    conforms(Tcp::new()).await;
}

#[tokio::test]
async fn chopped_tcp_conforms() {
    for (seed, percent) in [(1, 10), (2, 50), (3, 90)] {
        conforms(Chopped::new(Tcp::new(), seed, percent)).await;
    }
}
