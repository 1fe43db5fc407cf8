//! Nodes with a network of their own: namespaces of Linux, joined by a bridge, in which cables can
//! be pulled out and packets vanish on their way.

use std::net::Ipv4Addr;
use std::process::Command;

/// A place to which no card listens: what is sent there vanishes.
const NOWHERE: &str = "02:00:00:00:00:01";

/// As many namespaces as there are to be nodes; dropped, they are gone.
#[derive(Debug)]
pub struct Network {
    tag: String,
    net: [u8; 2],
    count: usize,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(arguments).output();
    let done = done.map_err(|error| format!("ip (iproute2): {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
}

impl Network {
    /// So many namespaces on one bridge.
    ///
    /// # Errors
    /// Why this machine has none: whoever tests may not make any.
    pub fn new(count: usize) -> Result<Self, String> {
        let pid = std::process::id();
        let net = [64 + (pid % 64) as u8, (pid / 64 % 256) as u8];
        let network = Self { tag: format!("g{}", pid % 1_000_000), net, count };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        let [one, two] = net;
        ip(&["addr", "add", &format!("10.{one}.{two}.254/24"), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for number in 0..count {
            let (name, cable) = (network.name(number), network.cable(number));
            ip(&["netns", "add", &name])?;
            let there = ["peer", "name", "eth0", "netns", &name];
            ip(&[&["link", "add", &cable, "type", "veth"][..], &there].concat())?;
            ip(&["link", "set", &cable, "master", &bridge, "up"])?;
            let address = format!("{}/24", network.address(number));
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }

    fn cable(&self, number: usize) -> String {
        format!("{}c{number}", self.tag)
    }

    /// The name of a namespace.
    #[must_use]
    pub fn name(&self, number: usize) -> String {
        format!("{}n{number}", self.tag)
    }

    /// The address of whoever is in it.
    #[must_use]
    pub const fn address(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net[0], self.net[1], number as u8 + 1)
    }

    /// Pulls the cable of one out, or plugs it in again.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn plug(&self, number: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&["link", "set", &self.cable(number), state]).expect("the cable is there");
    }

    /// Has all that one sends to another vanish, or come again; what the other sends comes.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn mute(&self, from: usize, to: usize, muted: bool) {
        let (name, to) = (self.name(from), self.address(to).to_string());
        let entry = ["-n", &name, "neigh"];
        let done = if muted {
            ip(&[&entry[..], &["replace", &to, "lladdr", NOWHERE, "dev", "eth0"]].concat())
        } else {
            ip(&[&entry[..], &["del", &to, "dev", "eth0"]].concat())
        };
        done.expect("the neighbour is known");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 0..self.count {
            // With the namespace its end of the cable goes, and so the other one.
            let _ = ip(&["netns", "del", &self.name(number)]);
            let _ = ip(&["link", "del", &self.cable(number)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}
