//! A node's data folder: one process at a time, of one cluster for good.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gear_core::control::Address;
use gear_core::id::NodeId;
use serde::{Deserialize, Serialize};

/// The version of the folder's layout.
const LAYOUT: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by process {holder}: end that one, or give this node a \
         folder of its own with --data", folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// The operating system does not let us.
    #[error("the data folder {} cannot be used: {path}: {error}", folder.display(),
            path = path.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// The file or folder in it.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// What it says of itself cannot be read.
    #[error(
        "{} is damaged ({reason}): put an intact copy back; without it nobody knows to which \
         cluster the folder belongs", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs elsewhere.
    #[error(
        "the data folder {} belongs to cluster {found:016x}, and the cluster to be joined is \
         {wanted:016x}: give this node another folder with --data, or join the other cluster",
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The cluster it belongs to.
        found: u64,
        /// The cluster that answered.
        wanted: u64,
    },
}

/// What a data folder says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The version of the folder's layout.
    pub(crate) layout: u32,
    /// The node, drawn once.
    pub(crate) node: NodeId,
    /// Lives of the node so far: each start has a higher number.
    pub(crate) life: u64,
    /// The cluster; none until it is known.
    pub(crate) cluster: Option<u64>,
    /// True once the master of this node has begun to store: from then on an empty disk is a lost
    /// one and does not vote.
    pub(crate) formed: bool,
    /// The voters, as last heard; none until they are known.
    pub(crate) voters: BTreeMap<NodeId, Address>,
    /// True if the node has its work moved away since it is told to end: its next life takes work
    /// again. A drain that somebody asked for stays.
    #[serde(default)]
    pub(crate) leaves: bool,
}

impl Identity {
    /// Of a node that has not been anywhere.
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            layout: LAYOUT,
            node,
            life: 0,
            cluster: None,
            formed: false,
            voters: BTreeMap::new(),
            leaves: false,
        }
    }
}

/// A data folder that this process holds, however it ends.
#[derive(Debug)]
pub(crate) struct DataFolder {
    root: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes a folder, and makes it if it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, FolderError> {
        let unusable = |path: &Path, error: io::Error| FolderError::Unusable {
            folder: root.into(),
            path: path.into(),
            error,
        };
        fs::create_dir_all(root).map_err(|error| unusable(root, error))?;
        // Children may run elsewhere, and are given paths in it.
        let root = fs::canonicalize(root).map_err(|error| unusable(root, error))?;
        let path = root.join("lock");
        let locked = lock(&path).map_err(|error| unusable(&path, error))?;
        let lock = locked.map_err(|holder| FolderError::InUse { folder: root.clone(), holder })?;
        for (name, mode) in
            [("binaries", 0o755), ("logs", 0o755), ("checkpoints", 0o755), ("secrets", 0o700)]
        {
            let path = root.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.map_err(|error| unusable(&path, error))?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The master's disk.
    pub(crate) fn masters(&self) -> PathBuf {
        self.root.join("masters.redb")
    }

    /// Binaries of jobs.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.root.join("binaries")
    }

    /// What jobs' processes print.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The checkpoint store of a cluster on one host.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Keys and tokens, for this user only.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// What the folder says of itself; none if it is new.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, FolderError> {
        let path = self.root.join("identity.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(FolderError::Unusable { folder: self.root.clone(), path, error });
            }
        };
        let damaged = |reason: String| FolderError::Damaged { path: path.clone(), reason };
        let identity: Identity =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if identity.layout == LAYOUT {
            Ok(Some(identity))
        } else {
            Err(damaged(format!(
                "its layout is {}, and this version of Gear knows {LAYOUT}",
                identity.layout
            )))
        }
    }

    /// Writes what the folder says of itself, durably and whole.
    pub(crate) fn write_identity(&self, identity: &Identity) -> Result<(), FolderError> {
        let path = self.root.join("identity.json");
        let text = serde_json::to_vec_pretty(identity).expect("an identity is plain data");
        write_whole(&path, &text, 0o644).map_err(|error| FolderError::Unusable {
            folder: self.root.clone(),
            path,
            error,
        })
    }
}

/// Writes a file so that it is there whole or as before, whenever the machine stops.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let staged = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(folder)?.sync_all()
}

/// Takes the lock; or says who has it.
fn lock(path: &Path) -> io::Result<Result<File, String>> {
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(Ok(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Ok(Err(holder))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_folder_is_one_process_s_at_a_time() {
        let place = TempDir::new().expect("there is a folder");
        let root = place.path().join("data");
        let folder = DataFolder::open(&root).expect("it can be made");
        let Err(error) = DataFolder::open(&root) else { panic!("it was taken twice") };
        let me = std::process::id().to_string();
        assert!(error.to_string().contains(&me) && error.to_string().contains("data"), "{error}");
        drop(folder);
        DataFolder::open(&root).expect("it is free again");
    }

    #[test]
    fn what_it_says_of_itself_is_kept_and_damage_is_named() {
        let place = TempDir::new().expect("there is a folder");
        let folder = DataFolder::open(place.path()).expect("it can be made");
        assert_eq!(folder.identity().expect("it can be read"), None);
        let mut identity = Identity::new(NodeId(u64::MAX));
        identity.cluster = Some(u64::MAX - 1);
        identity.voters.insert(NodeId(7), Address("127.0.0.1:7400".into()));
        folder.write_identity(&identity).expect("it can be written");
        assert_eq!(folder.identity().expect("it can be read"), Some(identity));
        let path = folder.root().join("identity.json");
        for damage in [
            "",
            "{}",
            "{\"layout\": 2, \"node\": 1, \"life\": 1, \"formed\": true, \"voters\": {}}",
        ] {
            fs::write(&path, damage).expect("it can be written");
            let error = folder.identity().expect_err("it is damaged");
            assert!(error.to_string().contains("identity.json"), "{error}");
        }
    }

    #[test]
    fn secrets_are_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = TempDir::new().expect("there is a folder");
        let folder = DataFolder::open(place.path()).expect("it can be made");
        let mode = fs::metadata(folder.secrets()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
