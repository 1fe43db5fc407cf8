//! What a file sink writes into an epoch's record, and what can be told from it.

use std::collections::BTreeSet;

use gear_core::api::Files;
use gear_core::effect::{IoError, IoErrorKind};
use gear_core::id::{Attempt, Epoch};
use gear_core::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::versioned;

const TAG: u8 = b'F';
const VERSION: u8 = 1;
/// Digits of a task's index in a file's name, so that names sort; larger ones are longer.
const INDEX_DIGITS: usize = 5;
/// Digits of an epoch in a file's name.
const EPOCH_DIGITS: usize = 6;

/// What a task's sink had staged when the epoch was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) epoch: Epoch,
    pub(crate) names: Names,
    /// Rises with each start of the task: no two starts write to one staged file.
    pub(crate) generation: u64,
    pub(crate) closed: Vec<Closed>,
    pub(crate) open: Option<Open>,
}

/// Where files are and what they are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) folder: String,
    pub(crate) prefix: String,
    pub(crate) suffix: String,
}

/// A file that gets its visible name when `epoch` has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) epoch: Epoch,
    pub(crate) staged: String,
    pub(crate) visible: String,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// A file that is still written to: what of it belongs to the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) staged: String,
    pub(crate) len: u64,
    pub(crate) crc: u32,
    pub(crate) since: WallTime,
}

impl Account {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        versioned::encode(TAG, VERSION, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        versioned::decode(TAG, VERSION, "the account of a file sink", bytes)
    }
}

impl Names {
    /// The name of the file that the task of this index closed at this epoch.
    ///
    /// A task closes one file an epoch and epochs only rise, so that names are never used twice,
    /// whatever the parallelism was in between.
    pub(crate) fn visible(&self, index: u32, epoch: Epoch) -> String {
        let Self { folder, prefix, suffix } = self;
        format!("{folder}/{prefix}-{index:0INDEX_DIGITS$}-{:0EPOCH_DIGITS$}{suffix}", epoch.0)
    }

    pub(crate) fn staged(
        &self,
        index: u32,
        (generation, attempt): (u64, Attempt),
        number: u64,
    ) -> String {
        let Self { folder, prefix, .. } = self;
        format!("{folder}/.staged/{prefix}-{index}-{generation:x}-{:x}-{number}", attempt.0)
    }

    /// True if a sink of these names gives this name to a file, up to and with the epoch.
    fn is_visible(&self, path: &str, until: Epoch) -> bool {
        let numbers = path
            .strip_prefix(&self.folder)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(&self.prefix))
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(&self.suffix));
        let parsed = numbers.and_then(|numbers| {
            let (index, epoch) = numbers.split_once('-')?;
            Some((index.parse().ok()?, epoch.parse().ok()?))
        });
        // Formatted again, since a number can be written in more ways than the one of the sink.
        parsed.is_some_and(|(index, epoch)| {
            epoch <= until.0 && self.visible(index, Epoch(epoch)) == path
        })
    }

    fn is_staged(&self, path: &str) -> bool {
        let fields = path
            .strip_prefix(&self.folder)
            .and_then(|rest| rest.strip_prefix("/.staged/"))
            .and_then(|rest| rest.strip_prefix(&self.prefix))
            .and_then(|rest| rest.strip_prefix('-'));
        fields.is_some_and(|fields| {
            let fields: Vec<&str> = fields.split('-').collect();
            let hex = |field: &&str| {
                !field.is_empty() && field.bytes().all(|digit| digit.is_ascii_hexdigit())
            };
            (3..=4).contains(&fields.len()) && fields.iter().all(hex)
        })
    }
}

/// The files that a sink has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Those with their visible names.
    pub visible: Vec<String>,
    /// Those that are staged, and what crashes left there.
    pub staged: Vec<String>,
}

/// The files that exist of those that the accounts of an epoch's record name: what a start from
/// the beginning has to remove. An account of another kind of sink is passed over.
///
/// # Errors
/// [`IoError`] if an account is damaged, or if a folder cannot be listed.
pub fn written<'a>(
    accounts: impl IntoIterator<Item = &'a [u8]>,
    files: &mut dyn Files,
) -> Result<Written, IoError> {
    let mut visible = BTreeSet::new();
    let mut staged = BTreeSet::new();
    for bytes in accounts.into_iter().filter(|bytes| bytes.first() == Some(&TAG)) {
        let account = Account::decode(bytes).map_err(|reason| IoError {
            path: "commit log".to_owned(),
            reason,
            kind: IoErrorKind::Damaged,
        })?;
        let names = &account.names;
        let mut found = Vec::new();
        // Some file systems pass over what is hidden in a folder.
        for folder in [names.folder.clone(), format!("{}/.staged", names.folder)] {
            match files.list(&folder) {
                Err(error) if error.kind == IoErrorKind::NotFound => {}
                listed => found.extend(listed?),
            }
        }
        for file in found {
            if names.is_visible(&file.path, account.epoch) {
                visible.insert(file.path);
            } else if names.is_staged(&file.path) {
                staged.insert(file.path);
            }
        }
    }
    Ok(Written { visible: visible.into_iter().collect(), staged: staged.into_iter().collect() })
}
