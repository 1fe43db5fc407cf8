//! A master: one of the few that together remember what runs on the cluster.

pub mod quorum;

pub use quorum::QuorumMessage;
