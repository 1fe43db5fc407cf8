//! Checkpoint stores by their URL, and what machines ask of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use gear_core::effect::{Blob, StoreReply, StoreRequest};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use url::Url;

mod cloud;
#[cfg(feature = "hdfs")]
mod hdfs;
#[cfg(test)]
mod tests;

#[cfg(feature = "server")]
pub(crate) use cloud::environment;

/// How long a store is waited for that does not answer a probe: somebody waits in front of it.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(8);
/// Between two tries.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// Why a checkpoint store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is no URL of a store that is known.
    #[error(
        "{url} names no checkpoint store ({reason}): give a folder that all nodes share, such as \
         file:///mnt/gear"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a kind that this build does without.
    #[error(
        "{url}: this build has no {kind}: build gear-node, and the jobs that it is to run, with \
         --features {feature}, or give a folder that all nodes share, such as file:///mnt/gear"
    )]
    Feature {
        /// What was given.
        url: String,
        /// What it would need.
        kind: &'static str,
        /// What it comes with.
        feature: &'static str,
    },
    /// It cannot be opened.
    #[error("the checkpoint store {url} cannot be opened: {reason}")]
    Open {
        /// The store.
        url: String,
        /// What it said.
        reason: String,
    },
    /// It does not do what a commit log needs.
    #[error(
        "the checkpoint store {url} cannot keep checkpoints: {reason}; every node has to reach it, \
         and it has to create an object only if there is none of its name"
    )]
    Probe {
        /// The store.
        url: String,
        /// What it did.
        reason: String,
    },
}

/// The checkpoint store of a cluster: a folder for each app in it.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    url: String,
    objects: Arc<dyn ObjectStore>,
}

impl CheckpointStore {
    /// Opens a store by its URL. A local folder is made if it is missing; what a store in a cloud
    /// needs besides its URL is taken from the environment.
    ///
    /// # Errors
    /// [`StoreError`], for the user.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Url { url: url.into(), reason };
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        match parsed.scheme() {
            "file" => {}
            #[cfg(feature = "hdfs")]
            "hdfs" => return Ok(Self { url: url.into(), objects: Arc::new(hdfs::open(url)?) }),
            #[cfg(not(feature = "hdfs"))]
            "hdfs" => {
                let url = url.into();
                return Err(StoreError::Feature { url, kind: "HDFS", feature: "hdfs" });
            }
            _ => return Ok(Self { url: url.into(), objects: cloud::open(&parsed)? }),
        }
        let folder: PathBuf =
            parsed.to_file_path().map_err(|()| wrong("its path is not absolute".into()))?;
        let failed = |reason: String| StoreError::Open { url: url.into(), reason };
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
        let objects = local(&folder).map_err(|error| failed(describe(&error)))?;
        Ok(Self { url: url.into(), objects })
    }

    /// The URL of a local folder.
    ///
    /// # Panics
    /// If the path is not absolute.
    #[must_use]
    pub fn url_of(folder: &Path) -> String {
        Url::from_file_path(folder).expect("the path is absolute").into()
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of an app, by the `state` of its spec.
    #[must_use]
    pub fn app(&self, state: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.objects), format!("apps/{state}")))
    }

    /// The folder of a job that runs in one process, by its name.
    #[must_use]
    pub fn job(&self, name: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.objects), format!("jobs/{name}")))
    }

    /// The folders of all apps, each named by the `state` of its spec.
    #[must_use]
    pub fn apps(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.objects), "apps"))
    }

    /// Checks that the store does what a commit log needs, with an object under this name, which
    /// no other probe may use. One that does not answer is waited for, some seconds.
    ///
    /// # Errors
    /// [`StoreError::Probe`] with what it did instead.
    pub async fn probe(&self, name: &str) -> Result<(), StoreError> {
        let store: &dyn ObjectStore = &*self.objects;
        let wrong = |reason| StoreError::Probe { url: self.url.clone(), reason };
        let prefix = format!("probes/{name}");
        let object = format!("{prefix}/object");
        let create = |content: &[u8]| StoreRequest::Create {
            name: object.clone(),
            bytes: Blob::from(content.to_vec()),
        };
        let get = || StoreRequest::Get { name: object.clone() };
        let list = || StoreRequest::List { prefix: format!("{prefix}/") };
        let delete = || StoreRequest::Delete { name: object.clone() };
        let began = Instant::now();
        loop {
            match perform(store, get()).await {
                StoreReply::Missing => break,
                StoreReply::Failed { retriable: true, .. } if began.elapsed() < PROBE_WAIT_MAX => {
                    tokio::time::sleep(PROBE_PAUSE).await;
                }
                StoreReply::Failed { reason, .. } => {
                    return Err(wrong(format!("asked for an object: {reason}")));
                }
                reply => {
                    let reason = format!("asked for an object that nobody made: {reply:?}");
                    return Err(wrong(reason));
                }
            }
        }
        let steps = [
            ("create an object", create(b"first"), StoreReply::Done),
            ("refuse to create it again", create(b"second"), StoreReply::Exists),
            ("read it back", get(), StoreReply::Bytes(b"first".to_vec())),
            ("list it", list(), StoreReply::Names(vec![object.clone()])),
            ("remove it", delete(), StoreReply::Done),
            ("find it removed", get(), StoreReply::Missing),
        ];
        for (what, request, wanted) in steps {
            let reply = perform(store, request).await;
            if reply != wanted {
                return Err(wrong(match reply {
                    StoreReply::Failed { reason, .. } => format!("asked to {what}: {reason}"),
                    StoreReply::Done if wanted == StoreReply::Exists => {
                        format!("asked to {what}, it replaced it")
                    }
                    reply => format!("asked to {what}, it answered {reply:?}"),
                }));
            }
        }
        Ok(())
    }

    /// Leaves an object under this name, for another node to find.
    ///
    /// # Errors
    /// [`StoreError::Probe`] with what the store did instead.
    pub async fn leave(&self, name: &str) -> Result<(), StoreError> {
        let (name, bytes) = (left(name), Blob::from(Vec::new()));
        match perform(&*self.objects, StoreRequest::Create { name, bytes }).await {
            StoreReply::Done => Ok(()),
            reply => {
                let reason = format!("asked to create an object, it answered {reply:?}");
                Err(StoreError::Probe { url: self.url.clone(), reason })
            }
        }
    }

    /// Whether a node has left an object under this name.
    pub async fn finds(&self, name: &str) -> bool {
        let found = perform(&*self.objects, StoreRequest::Get { name: left(name) }).await;
        matches!(found, StoreReply::Bytes(_))
    }

    /// Takes the object away that was left under this name.
    pub async fn clear(&self, name: &str) {
        // One that stays is empty, and nobody asks for it again.
        let _ = perform(&*self.objects, StoreRequest::Delete { name: left(name) }).await;
    }
}

/// What is left for another node to find.
fn left(name: &str) -> String {
    format!("probes/{name}/left")
}

/// A store in a local folder, whose writes are durable when they are answered.
pub(crate) fn local(folder: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true)))
}

/// Removes what writes have left that a kill cut short: the store writes an object as `NAME#1` and
/// then gives it its name. Only for a process that has the folder to itself.
pub(crate) fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_digits = |end: &str| !end.is_empty() && end.bytes().all(|it| it.is_ascii_digit());
        let is_cut = || name.to_str()?.rsplit_once('#').map(|(_, end)| is_digits(end));
        if entry.file_type()?.is_dir() {
            sweep(&entry.path())?;
        } else if is_cut() == Some(true) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Performs one request.
pub(crate) async fn perform(store: &dyn ObjectStore, request: StoreRequest) -> StoreReply {
    match request {
        StoreRequest::Put { name, bytes } => put(store, &name, bytes, PutMode::Overwrite).await,
        StoreRequest::Create { name, bytes } => put(store, &name, bytes, PutMode::Create).await,
        StoreRequest::Get { name } => match get(store, &name).await {
            Ok(bytes) => StoreReply::Bytes(bytes),
            Err(Error::NotFound { .. }) => StoreReply::Missing,
            Err(error) => failed(&error),
        },
        StoreRequest::List { prefix } => match list(store, &prefix).await {
            Ok(names) => StoreReply::Names(names),
            Err(error) => failed(&error),
        },
        StoreRequest::Delete { name } => match store.delete(&name.into()).await {
            Ok(()) | Err(Error::NotFound { .. }) => StoreReply::Done,
            Err(error) => failed(&error),
        },
    }
}

async fn put(store: &dyn ObjectStore, name: &str, bytes: Blob, mode: PutMode) -> StoreReply {
    let options = PutOptions { mode, ..PutOptions::default() };
    match store.put_opts(&name.into(), PutPayload::from(Bytes::from_owner(bytes)), options).await {
        Ok(_) => StoreReply::Done,
        Err(Error::AlreadyExists { source, .. }) if is_undecided(&*source) => {
            StoreReply::Failed { reason: describe(&*source), retriable: true }
        }
        Err(Error::AlreadyExists { .. }) => StoreReply::Exists,
        Err(error) => failed(&error),
    }
}

/// True if S3 says that somebody else is about to create or to remove what was to be created:
/// whether there will be one is not known, and the client takes it for a yes.
fn is_undecided(error: &dyn std::error::Error) -> bool {
    describe(error).contains("ConditionalRequestConflict")
}

async fn get(store: &dyn ObjectStore, name: &str) -> Result<Vec<u8>, Error> {
    Ok(store.get(&name.into()).await?.bytes().await?.to_vec())
}

async fn list(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, Error> {
    let found: Vec<_> = store.list(Some(&prefix.into())).try_collect().await?;
    let mut names: Vec<String> =
        found.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    Ok(names)
}

fn failed(error: &Error) -> StoreReply {
    // What the user may not do, and what the store cannot, will not be better the next time.
    let retriable = !matches!(
        error,
        Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
    );
    StoreReply::Failed { reason: describe(error), retriable }
}

/// The error, what caused it, and what can be done about it, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    let advice = if text.contains(MACHINE_KEYS) {
        "; there are no keys in the environment, and this machine has none of its own"
    } else if text.contains("403 Forbidden") || text.contains("401 Unauthorized") {
        "; look at the keys in the environment, and at what they may do"
    } else {
        ""
    };
    without_page(&text) + advice
}

/// Where a machine in a cloud is asked for keys of its own.
const MACHINE_KEYS: &str = "//169.254.169.254/";

/// What is said without the page of XML that a server has said it with, but for its code and its
/// message: a wrong signature comes with a dozen lines about how it would be right.
fn without_page(text: &str) -> String {
    let Some(begin) = text.find("<?xml").or_else(|| text.find("<Error>")) else {
        return text.to_owned();
    };
    let (before, page) = text.split_at(begin);
    let part = |name: &str| {
        let (_, rest) = page.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let said: Vec<String> = ["Code", "Message"].into_iter().filter_map(part).collect();
    format!("{before}{}", said.join(": "))
}
