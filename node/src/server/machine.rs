//! The drivers of a node: its disk, its clock and its children.

use gear_connectors::os::OsFiles;
use gear_net::clock::SystemClock;
use gear_net::{Drivers, Platform};

use crate::child::Family;
use crate::disk::NodeDisk;
use crate::drivers::{Nothing, notice};
use crate::embedded::CatchPanic;
use crate::wire::Wire;

/// The machine of a node.
pub(super) struct NodeMachine;

impl Platform for NodeMachine {
    type Transport = Wire;
    type Disk = NodeDisk;
    type Store = Nothing;
    type Io = Nothing;
    type Children = Family;
    type Clock = SystemClock;
    type Files = OsFiles;
    type Guard = CatchPanic;
}

/// The drivers of a node.
pub(super) fn of_node(transport: Wire, disk: NodeDisk, children: Family) -> Drivers<NodeMachine> {
    Drivers {
        transport,
        disk,
        store: Nothing,
        io: Nothing,
        children,
        clock: SystemClock::default(),
        files: OsFiles::default(),
        guard: CatchPanic::new(),
        notice: Box::new(notice),
    }
}
