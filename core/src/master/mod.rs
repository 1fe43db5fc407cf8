//! A master: one of the few that together remember what runs on the cluster.

use serde::{Deserialize, Serialize};

/// What masters say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QuorumMessage {}
