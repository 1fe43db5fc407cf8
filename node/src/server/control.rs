//! The control thread of a node: its sockets, its disk, its children, and what decides.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use gear_core::control::Address;
use gear_core::host::{NoFaults, NodeConfig, NodeProcess};
use gear_net::runtime::spawned;
use gear_net::{EventLoop, Handle, Limits, Listener, Transport as _};
use tokio::sync::oneshot;

use super::machine::of_node;
use crate::child::{Family, Home};
use crate::disk::NodeDisk;
use crate::wire::{Wire, WireError, Wiring};

/// What the thread needs once the cluster is formed.
pub(super) struct Orders {
    pub(super) config: NodeConfig,
    pub(super) disk: NodeDisk,
    pub(super) home: Home,
}

/// The thread, which listens and waits for its orders.
pub(super) struct Control {
    address: Address,
    wiring: Wiring,
    orders: oneshot::Sender<Orders>,
    handle: oneshot::Receiver<Handle>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<String>,
    thread: JoinHandle<()>,
}

/// A thread that runs a node.
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    /// Why it has ended by itself.
    pub(super) ended: oneshot::Receiver<String>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread, which listens there.
    pub(super) fn listen(at: SocketAddr, wiring: Wiring) -> Result<Self, WireError> {
        let (bound, binding) = std::sync::mpsc::channel();
        let (orders, ordered) = oneshot::channel();
        let (handling, handle) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let connecting = wiring.clone();
        let thread = std::thread::Builder::new().name("gear-control".into()).spawn(move || {
            let (runtime, transport) = match connecting.connect() {
                Ok(connected) => connected,
                Err(error) => {
                    let _ = bound.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async move {
                let listener = match transport.listen(&Address(at.to_string())).await {
                    Ok(listener) => listener,
                    Err(error) => {
                        let _ = bound.send(Err(WireError::Listen(error)));
                        return;
                    }
                };
                let _ = bound.send(Ok(Listener::<Wire>::address(&listener)));
                let Ok(Orders { config, disk, home }) = ordered.await else { return };
                let drivers = of_node(transport, disk, Family::new(home));
                let process = NodeProcess::<NoFaults>::new(config);
                let running = EventLoop::new(process, listener, drivers, Limits::default());
                let _ = handling.send(running.handle());
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    reason = spawned(running.run()) => {
                        let _ = ending.send(reason);
                    }
                }
            });
        })?;
        let gone = || io::Error::other("the control thread has ended");
        let address = binding.recv().map_err(|_| gone())??;
        Ok(Self { address, wiring, orders, handle, stop, ended, thread })
    }

    /// Where it listens, as others have to dial it.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// How it reaches others.
    pub(super) fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Has the thread run the node.
    pub(super) async fn run(self, orders: Orders) -> Option<(Handle, Running)> {
        let Self { orders: to, handle, stop, ended, thread, .. } = self;
        to.send(orders).ok()?;
        let handle = handle.await.ok()?;
        Some((handle, Running { stop, ended, thread }))
    }
}

impl Running {
    /// Ends the node: its connections, and its children with it.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        // A panic in the thread has been printed there.
        let _ = self.thread.join();
    }
}
