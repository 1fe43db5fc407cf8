//! A node of a cluster: one process that runs a worker, perhaps a master, and serves people.

pub(crate) mod folder;
