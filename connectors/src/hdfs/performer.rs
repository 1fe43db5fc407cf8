//! What sinks ask for, on HDFS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gear_core::effect::{IoError, IoErrorKind, IoRequest};

use super::OPEN_FILES_MAX;
use super::client::{Hdfs, Tell, Writer, waited_out};
use super::location::Location;
use super::trouble::Fault;

/// Performs what the sink of one task asks for, in the order in which it is called.
///
/// What may pass is waited out. A file is given up with the first error that its writer meets; its
/// task fails, and goes on from what is known to be of it.
pub struct HdfsPerformer {
    open: BTreeMap<String, (Writer, u64)>,
    uses: u64,
    tell: Tell,
    ended: Arc<AtomicBool>,
}

impl std::fmt::Debug for HdfsPerformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HdfsPerformer").field("open", &self.open.keys()).finish_non_exhaustive()
    }
}

/// How a request failed.
enum Failure {
    /// It may be worth another try.
    Fault(Fault),
    /// What the user is told.
    Final(IoError),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl HdfsPerformer {
    /// One that tells the user through `tell`, and waits for nothing once `ended` is true.
    #[must_use]
    pub fn new(tell: Tell, ended: Arc<AtomicBool>) -> Self {
        Self { open: BTreeMap::new(), uses: 0, tell, ended }
    }

    /// Performs a request whose paths are of HDFS. Not to be called on a thread of a runtime.
    ///
    /// # Errors
    /// [`IoError`]; whether the request took effect is then unknown.
    pub fn perform(&mut self, request: &IoRequest) -> Result<(), IoError> {
        match request {
            IoRequest::Write { path, offset, bytes } => {
                let at = Location::parse(path)?;
                let hdfs = Hdfs::of(&at)?;
                let bytes = Bytes::copy_from_slice(bytes);
                let handle = hdfs.handle().clone();
                handle.block_on(async {
                    if *offset == 0 {
                        self.start(&hdfs, path, &at, &bytes).await
                    } else {
                        self.append(&hdfs, path, *offset, &bytes).await
                    }
                })
            }
            IoRequest::Sync { path } => {
                let at = Location::parse(path)?;
                let hdfs = Hdfs::of(&at)?;
                let handle = hdfs.handle().clone();
                handle.block_on(self.sync(&hdfs, path))
            }
            IoRequest::CopyPrefix { from, to, len, crc } => {
                let (source, target) = pair(from, to)?;
                let hdfs = Hdfs::of(&source)?;
                let handle = hdfs.handle().clone();
                let copy = Copy { source, target, len: *len, crc: *crc };
                handle.block_on(self.copy(&hdfs, from, to, &copy))
            }
            IoRequest::Publish { from, to } => {
                let (source, target) = pair(from, to)?;
                let hdfs = Hdfs::of(&source)?;
                let handle = hdfs.handle().clone();
                handle.block_on(self.publish(&hdfs, from, to, (&source, &target)))
            }
            IoRequest::Remove { path } => {
                let at = Location::parse(path)?;
                let hdfs = Hdfs::of(&at)?;
                self.open.remove(path);
                let total = hdfs.limits().wait;
                let remove = || hdfs.remove(&at.path);
                let handle = hdfs.handle().clone();
                let removed = waited_out(path, total, self.tell, self.ended(), remove);
                handle.block_on(removed).map_err(|fault| fault.error(path))
            }
            IoRequest::Print { .. } | IoRequest::Call { .. } => Err(IoError {
                path: "standard output, or a server".to_owned(),
                reason: "it is not on HDFS; this is a defect of Gear: please report it".to_owned(),
                kind: IoErrorKind::Other,
            }),
        }
    }

    fn ended(&self) -> impl Fn() -> bool + use<> {
        let ended = Arc::clone(&self.ended);
        move || ended.load(Ordering::Relaxed)
    }

    /// A new file with its first bytes: until these have been taken nothing is lost by beginning
    /// it anew.
    async fn start(
        &mut self,
        hdfs: &Hdfs,
        url: &str,
        at: &Location,
        bytes: &Bytes,
    ) -> Result<(), IoError> {
        self.open.remove(url);
        let begin = || async {
            let writer = hdfs.create(&at.path, true).await?;
            let (writer, result) = hdfs.write(writer, bytes).await;
            result?;
            // A server that is dead is met when the bytes are sent, not when they are handed over.
            writer.ok_or_else(lost)
        };
        let began = waited_out(url, hdfs.limits().wait, self.tell, self.ended(), begin).await;
        let writer = began.map_err(|fault| fault.error(url))?;
        self.keep(hdfs, url, writer).await;
        Ok(())
    }

    async fn append(
        &mut self,
        hdfs: &Hdfs,
        url: &str,
        offset: u64,
        bytes: &Bytes,
    ) -> Result<(), IoError> {
        let Some((writer, _)) = self.open.remove(url) else { return Err(given_up(url)) };
        if writer.written != offset {
            let reason = format!("{} bytes were written, and not {offset}", writer.written);
            return Err(IoError { path: url.to_owned(), reason, kind: IoErrorKind::Damaged });
        }
        match hdfs.write(writer, bytes).await {
            (Some(writer), Ok(())) => {
                self.keep(hdfs, url, writer).await;
                Ok(())
            }
            (_, result) => Err(self.give_up(hdfs, url, result.err().unwrap_or_else(lost))),
        }
    }

    async fn sync(&mut self, hdfs: &Hdfs, url: &str) -> Result<(), IoError> {
        let Some((writer, _)) = self.open.remove(url) else { return Err(given_up(url)) };
        let (total, tell, ended) = (hdfs.limits().wait, self.tell, self.ended());
        let kept = std::cell::RefCell::new(Some(writer));
        let first = std::cell::RefCell::new(None);
        let sync = || async {
            // Absent only if the writer itself is of no use.
            let writer = kept.borrow_mut().take().ok_or_else(lost)?;
            let (writer, result) = hdfs.sync(writer).await;
            match result {
                Err(fault) if !fault.spares_the_writer() => Ok(Err(fault)),
                result => {
                    *kept.borrow_mut() = writer;
                    if let Err(fault) = &result {
                        first.borrow_mut().get_or_insert_with(|| fault.clone());
                    }
                    result.map(Ok)
                }
            }
        };
        let synced = waited_out(url, total, tell, ended, sync).await;
        match (kept.into_inner(), synced) {
            (Some(writer), Ok(Ok(()))) => {
                self.keep(hdfs, url, writer).await;
                Ok(())
            }
            // What was met first says more than what the writer says ever after.
            (_, Ok(Err(fault)) | Err(fault)) => {
                Err(self.give_up(hdfs, url, first.into_inner().unwrap_or(fault)))
            }
            (None, Ok(Ok(()))) => Err(self.give_up(hdfs, url, lost())),
        }
    }

    async fn copy(
        &mut self,
        hdfs: &Hdfs,
        from: &str,
        to: &str,
        copy: &Copy,
    ) -> Result<(), IoError> {
        self.open.remove(from);
        self.open.remove(to);
        let (total, tell, ended) = (hdfs.limits().wait, self.tell, self.ended());
        let attempt = || copy.attempt(hdfs);
        let copied = waited_out(from, total, tell, ended, attempt).await;
        let writer = copied.map_err(|fault| fault.error(from))?;
        if let Some(writer) = writer {
            self.keep(hdfs, to, writer).await;
            return Ok(());
        }
        let reason = format!("the first {} bytes are not those that were written", copy.len);
        Err(IoError { path: from.to_owned(), reason, kind: IoErrorKind::Damaged })
    }

    async fn publish(
        &mut self,
        hdfs: &Hdfs,
        from: &str,
        to: &str,
        (source, target): (&Location, &Location),
    ) -> Result<(), IoError> {
        let mut known = None;
        let closed = std::cell::Cell::new(false);
        if let Some((writer, _)) = self.open.remove(from) {
            known = Some(writer.written);
            // What was synced is there, whether this succeeds or not: the lease is recovered then.
            closed.set(hdfs.close(writer).await.is_ok());
        }
        let (total, tell, ended) = (hdfs.limits().wait, self.tell, self.ended());
        let refused = std::cell::RefCell::new(None);
        let attempt = || async {
            let (own, other) = (source.path.as_str(), target.path.as_str());
            // The first try of the usual case needs no look.
            if closed.take() {
                match hdfs.rename(own, other, false).await {
                    Err(fault) if fault.may_pass() => return Err(fault),
                    Ok(()) => return Ok(()),
                    Err(_) => {}
                }
            }
            match publish(hdfs, (from, to), (own, other), known).await {
                Err(Failure::Final(error)) => {
                    *refused.borrow_mut() = Some(error);
                    Ok(())
                }
                Err(Failure::Fault(fault)) => Err(fault),
                Ok(()) => Ok(()),
            }
        };
        let published = waited_out(from, total, tell, ended, attempt).await;
        published.map_err(|fault| fault.error(from))?;
        refused.into_inner().map_or(Ok(()), Err)
    }

    /// Keeps a file open. What is closed to make room can still be published.
    async fn keep(&mut self, hdfs: &Hdfs, url: &str, writer: Writer) {
        self.uses += 1;
        if self.open.len() >= OPEN_FILES_MAX && !self.open.contains_key(url) {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(url, _)| url.clone())
                && let Some((writer, _)) = self.open.remove(&oldest)
            {
                // If it fails, whoever needs the file recovers its lease.
                let _ = hdfs.close(writer).await;
            }
        }
        self.open.insert(url.to_owned(), (writer, self.uses));
    }

    /// A file whose writer has failed: nobody is to wait for its lease.
    fn give_up(&mut self, hdfs: &Hdfs, url: &str, fault: Fault) -> IoError {
        self.open.remove(url);
        if let Ok(at) = Location::parse(url) {
            let own = hdfs.clone();
            // Nothing follows from how it ends.
            hdfs.handle().spawn(async move { own.recover(&at.path).await });
        }
        let IoError { path, reason, kind } = fault.error(url);
        IoError { path, reason: format!("writing was given up: {reason}"), kind }
    }
}

/// A copy of a file's beginning.
struct Copy {
    source: Location,
    target: Location,
    len: u64,
    crc: u32,
}

impl Copy {
    /// The new file, synced; none if the old one does not begin with what was written.
    async fn attempt(&self, hdfs: &Hdfs) -> Result<Option<Writer>, Fault> {
        // Fences whoever still writes to it, and makes it readable.
        hdfs.recover(&self.source.path).await?;
        let source = hdfs.open(&self.source.path).await?;
        if (source.file_length() as u64) < self.len {
            return Ok(None);
        }
        let mut writer = hdfs.create(&self.target.path, true).await?;
        let mut crc = 0;
        let mut pieces = hdfs.read(&source, 0..self.len)?;
        while let Some(bytes) = pieces.next().await? {
            crc = crc32c::crc32c_append(crc, &bytes);
            let (driven, written) = hdfs.write(writer, &bytes).await;
            written?;
            writer = driven.ok_or_else(lost)?;
        }
        if crc != self.crc || writer.written != self.len {
            // It is staged, and nobody will ask for it.
            drop(writer);
            let _ = hdfs.remove(&self.target.path).await;
            return Ok(None);
        }
        let (writer, synced) = hdfs.sync(writer).await;
        synced?;
        writer.map(Some).ok_or_else(lost)
    }
}

/// Gives a file its name; that this was done before is seen by a look.
async fn publish(
    hdfs: &Hdfs,
    (from_url, to_url): (&str, &str),
    (from, to): (&str, &str),
    known: Option<u64>,
) -> Result<(), Failure> {
    if !is_there(hdfs, from).await? {
        let done = is_there(hdfs, to).await?;
        return if done { Ok(()) } else { Err(Failure::Final(Fault::Missing.error(from_url))) };
    }
    // It may be open still: of a process that is gone, or because closing it has failed.
    hdfs.recover(from).await?;
    if let Some(known) = known {
        let len = hdfs.stat(from).await?.length as u64;
        if len != known {
            let reason = format!("it has {len} bytes, and {known} were synced");
            let (path, kind) = (from_url.to_owned(), IoErrorKind::Damaged);
            return Err(Failure::Final(IoError { path, reason, kind }));
        }
    }
    match hdfs.rename(from, to, false).await {
        Ok(()) => Ok(()),
        Err(Fault::Exists(_)) => {
            if !is_there(hdfs, from).await? {
                return Ok(());
            }
            let reason = "a file of this name exists that this job did not write; move it away";
            let (path, kind) = (to_url.to_owned(), IoErrorKind::Other);
            Err(Failure::Final(IoError { path, reason: reason.to_owned(), kind }))
        }
        Err(Fault::Missing) => {
            hdfs.make_parent(to).await?;
            // The next look finds whether it was the folder that was missing.
            hdfs.rename(from, to, false).await.map_err(Failure::Fault)
        }
        // Its answer may have been lost: the next look finds that.
        Err(fault) => Err(fault.into()),
    }
}

async fn is_there(hdfs: &Hdfs, path: &str) -> Result<bool, Fault> {
    match hdfs.stat(path).await {
        Ok(_) => Ok(true),
        Err(Fault::Missing) => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn pair(from: &str, to: &str) -> Result<(Location, Location), IoError> {
    let (source, target) = (Location::parse(from)?, Location::parse(to)?);
    if source.authority == target.authority {
        return Ok((source, target));
    }
    Err(IoError {
        path: to.to_owned(),
        reason: format!("{from} is on another HDFS; keep a sink's folder on one"),
        kind: IoErrorKind::Other,
    })
}

fn lost() -> Fault {
    Fault::Transfer("the writer was lost".to_owned())
}

fn given_up(url: &str) -> IoError {
    IoError {
        path: url.to_owned(),
        reason: "writing to it was given up after an error; the task goes on with a new file when \
                 it is started again"
            .to_owned(),
        kind: IoErrorKind::Unavailable,
    }
}
