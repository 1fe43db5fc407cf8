//! The simulated sockets do what every transport has to do, whole and chopped.

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use gear_connectors::model::ModelDisk;
use gear_core::control::Address;
use gear_net::conformance::{self, CASES, Case};
use gear_net::{Chopped, Listener, Transport};
use tokio::sync::mpsc::unbounded_channel;
use turmoil::Builder;

use super::shared::Shared;
use super::transport::{Sockets, address, name};
use crate::cluster::{Faults, Setup, Wanted};
use crate::trace::Trace;

const PORT: u16 = 7_000;

fn shared() -> Rc<Shared> {
    let wanted = Wanted {
        masters: Some(2),
        workers: Some(0),
        faults: Some(Faults::none()),
        ..Wanted::default()
    };
    let setup = Rc::new(Setup::draw(1, 1, &wanted));
    let (jobs, _) = unbounded_channel();
    Rc::new(Shared::new(setup, (ModelDisk::new(0), usize::MAX), Trace::new(false, false), jobs))
}

/// Runs a case between two machines, or on one.
fn conforms<T: Transport>(
    case: Case,
    hosts: (usize, usize),
    seed: u64,
    make: impl Fn(Sockets) -> T,
) {
    let mut sim = Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(120))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(16_384)
        .build();
    let shared = shared();
    let (listens, dials) = hosts;
    let make = |host| make(Sockets::new(Rc::clone(&shared), host));
    let (listening, dialing) = (make(listens), make(dials));
    let to = address(listens, PORT);
    let listen = async move {
        let mut listener = listening.listen(&address(listens, PORT)).await?;
        assert_eq!(listener.address(), address(listens, PORT));
        if case == Case::Refused {
            // The machine stays, and nobody listens on it.
            drop(listener);
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        conformance::listen::<T>(case, &mut listener).await.map_err(Into::into)
    };
    let dial = async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        conformance::dial(case, &dialing, &to).await.map_err(Into::into)
    };
    if listens == dials {
        sim.client(name(listens), async move {
            let (listened, dialed): (turmoil::Result, turmoil::Result) = tokio::join!(listen, dial);
            listened.and(dialed)
        });
    } else {
        sim.client(name(listens), listen);
        sim.client(name(dials), dial);
    }
    sim.run().unwrap_or_else(|error| panic!("{case:?} between {hosts:?}: {error}"));
}

#[test]
fn simulated_sockets_conform() {
    for case in CASES {
        conforms(case, (0, 1), 1, |sockets| sockets);
        conforms(case, (1, 1), 2, |sockets| sockets);
        for (seed, percent) in [(3, 10), (4, 50), (5, 90)] {
            conforms(case, (0, 1), seed, |sockets| Chopped::new(sockets, seed, percent));
        }
    }
}

#[test]
fn a_dial_that_the_network_loses_is_not_refused() {
    let mut sim = Builder::new().rng_seed(1).epoch(UNIX_EPOCH).build();
    let shared = shared();
    let sockets = Sockets::new(Rc::clone(&shared), 1);
    sim.client(name(0), async { Ok(()) });
    sim.client(name(1), async move {
        turmoil::partition(name(0).as_str(), name(1).as_str());
        shared.state.borrow_mut().links.cut(0, 1, gear_core::time::Time::MAX);
        let to = address(0, PORT);
        let dialed = tokio::time::timeout(Duration::from_secs(3), sockets.dial(&to)).await;
        assert!(dialed.is_err(), "nobody can know whether somebody listens");
        let to = Address("m0".into());
        assert!(sockets.dial(&to).await.is_err(), "an address has a port");
        Ok(())
    });
    sim.run().expect("both machines are content");
}
