//! A checkpoint store on HDFS.
//!
//! An object is written under a name of its own, made durable by hsync, closed, and renamed: it
//! appears whole or not at all, and a rename without overwriting creates it only if there is none
//! of its name. What a crash leaves is in `.tmp` at the root, is in no listing, and is swept when
//! it is a day old.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use gear_connectors::hdfs::{Created, Fault, Objects};
use gear_core::effect::IoErrorKind;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::StoreError;

const STORE: &str = "HDFS";
/// Objects that are deleted at once: so many round trips overlap.
const DELETES_AT_ONCE: usize = 8;

/// Opens the store of a URL; nobody is asked yet.
pub(super) fn open(url: &str) -> Result<HdfsStore, StoreError> {
    let failed = |reason: String| StoreError::Open { url: url.to_owned(), reason };
    let objects = Objects::open(url).map_err(|error| failed(error.reason))?;
    Ok(HdfsStore { objects })
}

/// Objects that are files on HDFS.
#[derive(Clone, Debug)]
pub(super) struct HdfsStore {
    objects: Objects,
}

impl fmt::Display for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

/// The error of a fault, by which [`super::perform`] tells what is worth another try.
fn failed(fault: Fault, path: &Path) -> Error {
    let error = fault.error(path.as_ref());
    let (path, source) = (path.to_string(), Box::new(error.clone()));
    match error.kind {
        IoErrorKind::NotFound => Error::NotFound { path, source },
        IoErrorKind::Denied => Error::PermissionDenied { path, source },
        // Room can be made, and a name node comes back.
        IoErrorKind::Unavailable | IoErrorKind::Full => Error::Generic { store: STORE, source },
        IoErrorKind::Damaged | IoErrorKind::Other => Error::NotSupported { source },
    }
}

fn cannot(operation: &str) -> Error {
    let (operation, implementer) = (operation.to_owned(), STORE.to_owned());
    Error::NotImplemented { operation, implementer }
}

fn meta(location: Path, size: u64, millis: u64) -> ObjectMeta {
    let last_modified = (UNIX_EPOCH + Duration::from_millis(millis)).into();
    ObjectMeta { location, last_modified, size, e_tag: None, version: None }
}

#[async_trait::async_trait]
impl ObjectStore for HdfsStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        let put = match options.mode {
            PutMode::Overwrite => self.objects.put(location.as_ref(), bytes).await,
            PutMode::Create => match self.objects.create(location.as_ref(), bytes).await {
                Ok(Created::Done) => Ok(()),
                Ok(Created::Exists) => {
                    let path = location.to_string();
                    let source = "it is there".into();
                    return Err(Error::AlreadyExists { path, source });
                }
                Err(fault) => Err(fault),
            },
            PutMode::Update(_) => return Err(cannot("an update")),
        };
        put.map_err(|fault| failed(fault, location))?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(cannot("an upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let bytes = self.objects.get(location.as_ref()).await;
        let bytes = bytes.map_err(|fault| failed(fault, location))?;
        let meta = meta(location.clone(), bytes.len() as u64, 0);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            _ if options.head => 0..0,
            None => 0..meta.size,
            Some(range) => range
                .as_range(meta.size)
                .map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })?,
        };
        let part = bytes.slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(async move { Ok(part) }.into_stream().boxed());
        let (attributes, extensions) = Default::default();
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let objects = self.objects.clone();
        let deleted = locations.map(move |location| {
            let objects = objects.clone();
            async move {
                let location = location?;
                let removed = objects.remove(location.as_ref()).await;
                removed.map_err(|fault| failed(fault, &location))?;
                Ok(location)
            }
        });
        deleted.buffered(DELETES_AT_ONCE).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let objects = self.objects.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        let listed = async move {
            let found = objects.list(prefix.as_ref()).await;
            let found = found.map_err(|fault| failed(fault, &prefix))?;
            let metas = found
                .into_iter()
                .map(|(name, len, millis)| Ok(meta(Path::parse(name)?, len, millis)));
            Ok::<_, Error>(futures_util::stream::iter(metas))
        };
        listed.into_stream().try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(cannot("a list of folders"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(cannot("a copy"))
    }
}
