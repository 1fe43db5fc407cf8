//! The suite, between two ends on one thread.

use gear_core::control::Address;
use gear_net::conformance::{self, CASES, Case};
use gear_net::{Listener, Transport};

/// Where nobody has asked for a port of its own.
pub(crate) fn anywhere() -> Address {
    Address("127.0.0.1:0".into())
}

/// Runs every case.
pub(crate) async fn conforms<T: Transport>(transport: T) {
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
