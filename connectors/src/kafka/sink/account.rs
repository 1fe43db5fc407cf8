//! What a Kafka sink writes into an epoch's record.

use serde::{Deserialize, Serialize};

use crate::versioned;

const TAG: u8 = b'K';
const VERSION: u8 = 1;

/// The output of a task's ids when the epoch was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The epoch.
    pub(crate) epoch: u64,
    pub(crate) ids: Vec<IdAccount>,
}

/// The output under one transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdAccount {
    /// The id, which names the group of its mark too.
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) lineage: u64,
    /// Epochs that were not known to be produced, each with the number of its objects; these stand
    /// beside the account, in this order.
    pub(crate) outputs: Vec<(u64, u32)>,
}

impl Account {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        versioned::encode(TAG, VERSION, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        versioned::decode(TAG, VERSION, "the account of a Kafka sink", bytes)
    }
}
