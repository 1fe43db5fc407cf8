//! Who else there is: nodes tell each other where they listen and how they are doing.
//!
//! It finds addresses and suspects silence. It never decides who counts for a quorum.

mod envelope;
mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat,
};
use gear_core::control::Address;
use gear_core::id::NodeId;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use envelope::Sealer;
use socket::Sealed;

/// Time between two rounds: a new node is known to all within a few of them.
const ROUND: Duration = Duration::from_millis(200);
/// Rounds without a sign, on average, after which a node is suspected.
const PHI: f64 = 8.0;
/// A node that is suspected for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// A value that was taken back is remembered for so long.
const DELETED_AFTER: Duration = Duration::from_secs(60 * 60);
/// What all of Gear's gossip is called; which cluster a node belongs to is one of its values, since
/// one that joins does not know it yet.
const CLUSTER: &str = "gear";
/// Time between two looks at who is suspected, which no message tells.
const LOOK: Duration = Duration::from_millis(500);

/// Keys of what nodes tell of themselves.
mod key {
    pub(super) const LISTEN: &str = "listen";
    pub(super) const HTTP: &str = "http";
    pub(super) const VERSION: &str = "version";
    pub(super) const ROLES: &str = "roles";
    pub(super) const CLUSTER: &str = "cluster";
    pub(super) const VOTERS: &str = "voters";
    pub(super) const LOAD: &str = "load";
}

/// A node, as gossip tells of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    /// The node.
    pub node: NodeId,
    /// Where it listens for nodes and jobs' processes.
    pub listen: Address,
    /// Where it serves REST.
    pub http: String,
    /// What it runs.
    pub version: String,
    /// What it is: `worker`, or `master,worker`.
    pub roles: String,
    /// Its cluster; none until it knows it.
    pub cluster: Option<u64>,
    /// The voters, as it has heard last.
    pub voters: BTreeMap<NodeId, Address>,
    /// Share of its processors that is in use; none if it has not said.
    pub load: Option<f64>,
    /// True if it has not been heard for a while.
    pub suspected: bool,
}

/// What a node tells of itself from the start.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    /// The node.
    pub(crate) node: NodeId,
    /// Its life: higher than that of any earlier one.
    pub(crate) life: u64,
    /// Where it listens, as others have to dial it.
    pub(crate) listen: Address,
    /// Where it serves REST, likewise.
    pub(crate) http: String,
}

/// Why gossip cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GossipError {
    /// The address is taken, or none of this machine.
    #[error("--listen {at} cannot be used for gossip over UDP: {reason}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// What the operating system said.
        reason: String,
    },
    /// Nobody knows the address at which others are to reach the node.
    #[error("nobody knows {address}, where others are to reach this node: correct --advertise")]
    Advertise {
        /// The address.
        address: String,
    },
}

/// The gossip of a node.
#[derive(Clone)]
pub struct Gossip {
    handle: Arc<ChitchatHandle>,
    nodes: Arc<Mutex<Vec<NodeInfo>>>,
    changed: watch::Receiver<u64>,
    dropped: Arc<AtomicU64>,
}

impl Gossip {
    /// Begins to gossip, with nodes that know the same key.
    pub(crate) async fn start(
        at: SocketAddr,
        me: Me,
        join: &[String],
        key: [u8; 32],
    ) -> Result<Self, GossipError> {
        let reach = tokio::net::lookup_host(&me.listen.0).await.ok();
        let reach = reach.and_then(|mut found| found.next());
        let reach = reach.ok_or_else(|| GossipError::Advertise { address: me.listen.0.clone() })?;
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(me.node.0.to_string(), me.life, reach),
            cluster_id: CLUSTER.into(),
            gossip_interval: ROUND,
            listen_addr: at,
            seed_nodes: join.to_vec(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI,
                initial_interval: 2 * ROUND,
                dead_node_grace_period: FORGOTTEN_AFTER,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: DELETED_AFTER,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let values = [
            (key::LISTEN, me.listen.0.clone()),
            (key::HTTP, me.http),
            (key::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
            (key::ROLES, "worker".to_owned()),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value)).to_vec();
        let dropped = Arc::new(AtomicU64::new(0));
        let transport = Sealed::new(Sealer::new(key, me.node.0, me.life), Arc::clone(&dropped));
        let handle = spawn_chitchat(config, values, &transport).await;
        let handle =
            handle.map_err(|error| GossipError::Listen { at, reason: format!("{error:#}") })?;
        let (change, changed) = watch::channel(0);
        let this = Self { handle: Arc::new(handle), nodes: Arc::default(), changed, dropped };
        this.look().await;
        tokio::spawn(this.clone().watch(change));
        Ok(this)
    }

    /// Every node that has been heard, this one included, by their ids.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Datagrams that were dropped since the start: of outsiders, damaged, or sent again.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until something that nodes tell has changed.
    pub(crate) async fn changed(&mut self) {
        // The other end lives as long as the runtime.
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells to which cluster this node belongs, and who votes there.
    pub(crate) async fn tell_cluster(
        &self,
        cluster: u64,
        voters: &BTreeMap<NodeId, Address>,
        is_master: bool,
    ) {
        let roles = if is_master { "master,worker" } else { "worker" };
        let told = [
            (key::CLUSTER, format!("{cluster:016x}")),
            (key::VOTERS, write_voters(voters)),
            (key::ROLES, roles.to_owned()),
        ];
        self.tell(&told).await;
    }

    /// Tells how busy this node is.
    pub(crate) async fn tell_load(&self, load: f64) {
        self.tell(&[(key::LOAD, format!("{load:.2}"))]).await;
    }

    async fn tell(&self, values: &[(&str, String)]) {
        let set = |chitchat: &mut chitchat::Chitchat| {
            for (key, value) in values {
                if chitchat.self_node_state().get(key) != Some(value.as_str()) {
                    chitchat.self_node_state().set(key, value);
                }
            }
        };
        self.handle.with_chitchat(set).await;
    }

    async fn watch(self, change: watch::Sender<u64>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let live = self.handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let mut live = live;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                changed = live.changed() => if changed.is_err() { return },
            }
            if self.look().await {
                change.send_modify(|count| *count += 1);
            }
        }
    }

    /// Takes up what nodes tell; true if something has changed.
    async fn look(&self) -> bool {
        let seen = self
            .handle
            .with_chitchat(|chitchat| {
                let me = chitchat.self_chitchat_id().clone();
                let live: Vec<_> = chitchat.live_nodes().cloned().collect();
                let states = chitchat.node_states().iter();
                let told = states.map(|(id, state)| {
                    let suspected = *id != me && !live.contains(id);
                    (id.generation_id, read_state(id, state, suspected))
                });
                told.filter_map(|(life, info)| Some((life, info?))).collect::<Vec<_>>()
            })
            .await;
        // Of the lives of one node, the last.
        let mut last: BTreeMap<NodeId, (u64, NodeInfo)> = BTreeMap::new();
        for (life, info) in seen {
            match last.get(&info.node) {
                Some((known, _)) if *known > life => {}
                _ => {
                    last.insert(info.node, (life, info));
                }
            }
        }
        let nodes: Vec<NodeInfo> = last.into_values().map(|(_, info)| info).collect();
        let mut known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != nodes;
        *known = nodes;
        changed
    }
}

fn read_state(id: &ChitchatId, state: &NodeState, suspected: bool) -> Option<NodeInfo> {
    let text = |key: &str| state.get(key).unwrap_or_default().to_owned();
    let listen = text(key::LISTEN);
    // Of some only the heartbeat has been heard so far.
    if listen.is_empty() {
        return None;
    }
    Some(NodeInfo {
        node: NodeId(id.node_id.parse().ok()?),
        listen: Address(listen),
        http: text(key::HTTP),
        version: text(key::VERSION),
        roles: text(key::ROLES),
        cluster: u64::from_str_radix(&text(key::CLUSTER), 16).ok(),
        voters: read_voters(&text(key::VOTERS)),
        load: text(key::LOAD).parse().ok(),
        suspected,
    })
}

/// Voters as one value: `ID=HOST:PORT`, parted by commas.
fn write_voters(voters: &BTreeMap<NodeId, Address>) -> String {
    let written: Vec<_> = voters.iter().map(|(node, at)| format!("{}={at}", node.0)).collect();
    written.join(",")
}

/// None if they are not all understood.
fn read_voters(text: &str) -> BTreeMap<NodeId, Address> {
    let read = |part: &str| {
        let (node, address) = part.split_once('=')?;
        Some((NodeId(node.parse().ok()?), Address(address.to_owned())))
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(read).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn start(node: u64, join: &[String], key: u8) -> Gossip {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        let at = free.local_addr().expect("it has an address");
        drop(free);
        let me = Me {
            node: NodeId(node),
            life: 1,
            listen: Address(at.to_string()),
            http: format!("http-{node}"),
        };
        Gossip::start(at, me, join, [key; 32]).await.expect("it can begin")
    }

    async fn until(mut is_so: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > Duration::from_secs(20) {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    }

    #[tokio::test]
    async fn nodes_find_each_other_and_outsiders_are_dropped_and_counted() {
        let seed = start(1, &[], 7).await;
        let at = seed.nodes()[0].listen.0.clone();
        let one = start(2, std::slice::from_ref(&at), 7).await;
        let other = start(3, std::slice::from_ref(&at), 7).await;
        let outsider = start(4, std::slice::from_ref(&at), 8).await;
        let voters = [(NodeId(1), Address(at))].into();
        seed.tell_cluster(5, &voters, true).await;
        let knows = |gossip: &Gossip| {
            let nodes = gossip.nodes();
            let told = nodes.iter().any(|it| it.cluster == Some(5) && it.voters == voters);
            told && nodes.len() == 3 && nodes.iter().all(|it| !it.suspected)
        };
        assert!(until(|| knows(&one) && knows(&other) && knows(&seed)).await, "{:?}", one.nodes());
        assert!(until(|| seed.dropped() > 0).await);
        assert_eq!(outsider.nodes().len(), 1);
        one.handle.abort();
        let suspects = || seed.nodes().iter().any(|it| it.node == NodeId(2) && it.suspected);
        assert!(until(suspects).await, "{:?}", seed.nodes());
    }

    #[test]
    fn voters_are_written_so_that_they_can_be_read() {
        let voters: BTreeMap<_, _> = [(NodeId(1), "[::1]:7"), (NodeId(u64::MAX), "host:8")]
            .map(|(node, at)| (node, Address(at.into())))
            .into();
        assert_eq!(read_voters(&write_voters(&voters)), voters);
        for wrong in ["", "1", "x=a:1", "1=a:1,2"] {
            assert_eq!(read_voters(wrong), BTreeMap::new());
        }
    }
}
