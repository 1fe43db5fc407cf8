//! The driver for each path, by how the path begins.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, IoRequest, Notice};
use gear_core::id::TaskId;

use crate::hdfs;
use crate::os::{IoPerformer, OsFiles};
use crate::services::{Answer, Services};

/// What tells the user.
pub type Tell = fn(Notice);

/// Files to read: those of the operating system, and of HDFS.
#[derive(Debug)]
pub struct AnyFiles {
    os: OsFiles,
    hdfs: remote::Files,
}

impl AnyFiles {
    /// Files of which the user is told through `tell`.
    #[must_use]
    pub fn new(tell: Tell) -> Self {
        Self { os: OsFiles::default(), hdfs: remote::Files::new(tell) }
    }

    fn of(&mut self, path: &str) -> &mut dyn Files {
        if hdfs::is_hdfs(path) { &mut self.hdfs } else { &mut self.os }
    }
}

impl Files for AnyFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        self.of(pattern).list(pattern)
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        self.of(path).stat(path)
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.of(path).read_at(path, offset, buffer)
    }

    fn service(&mut self, kind: &str) -> Option<&mut dyn std::any::Any> {
        self.os.service(kind)
    }
}

/// Performs requests whatever their paths are, one after the other.
#[derive(Debug)]
pub struct AnyPerformer {
    os: IoPerformer,
    hdfs: remote::Performer,
}

impl AnyPerformer {
    /// One that tells the user through `tell`, and waits for nothing once `ended` is true.
    #[must_use]
    pub fn new(tell: Tell, ended: Arc<AtomicBool>) -> Self {
        Self { os: IoPerformer::default(), hdfs: remote::Performer::new(tell, ended) }
    }

    /// Performs one request. Not to be called on a thread of a runtime.
    ///
    /// # Errors
    /// [`IoError`]; whether the request took effect is then unknown.
    pub fn perform(&mut self, request: &IoRequest) -> Result<(), IoError> {
        if is_remote(request)? { self.hdfs.perform(request) } else { self.os.perform(request) }
    }
}

/// True if a request is for HDFS.
fn is_remote(request: &IoRequest) -> Result<bool, IoError> {
    let is_hdfs = hdfs::is_hdfs;
    match request {
        IoRequest::Write { path, .. } | IoRequest::Sync { path } | IoRequest::Remove { path } => {
            Ok(is_hdfs(path))
        }
        IoRequest::CopyPrefix { from, to, .. } | IoRequest::Publish { from, to } => {
            if is_hdfs(from) == is_hdfs(to) {
                return Ok(is_hdfs(from));
            }
            Err(IoError {
                path: to.clone(),
                reason: format!("{from} is on another file system; keep a sink's folder on one"),
                kind: IoErrorKind::Other,
            })
        }
        IoRequest::Print { .. } | IoRequest::Call { .. } => Ok(false),
    }
}

struct Work {
    task: TaskId,
    request: IoRequest,
    answer: Answer,
}

/// Performs the requests of tasks, those of one task in their order. A task that has asked for
/// something on HDFS gets a thread of its own, so that nobody else waits for it.
#[derive(Clone)]
pub struct IoThreads(Sender<Work>);

/// Ends the threads of an [`IoThreads`]: what is asked for on HDFS is no longer waited for.
#[derive(Debug)]
pub struct IoEnd {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for IoThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoThreads").finish_non_exhaustive()
    }
}

impl IoThreads {
    /// Starts the thread for local files. What ends it waits for it: to be dropped behind all that
    /// can ask.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(tell: Tell) -> io::Result<(IoEnd, Self)> {
        let (work, incoming) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = Builder::new().name("gear-io".into());
        let thread = thread.spawn(move || serve(&incoming, tell, &end))?;
        Ok((IoEnd { ended, thread: Some(thread) }, Self(work)))
    }

    /// Performs a request of a task, whose earlier ones come before it, and answers.
    ///
    /// # Errors
    /// The answer is given back if there are no threads any more.
    pub fn perform(&self, task: TaskId, request: IoRequest, answer: Answer) -> Result<(), Answer> {
        self.0.send(Work { task, request, answer }).map_err(|unsent| unsent.0.answer)
    }
}

impl Drop for IoEnd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed there.
            let _ = thread.join();
        }
    }
}

/// Performs what is local, and hands on what is asked of servers and what is of a task that writes
/// to HDFS: this thread alone knows which of a task's requests have been performed before.
fn serve(incoming: &Receiver<Work>, tell: Tell, ended: &Arc<AtomicBool>) {
    let mut local = IoPerformer::default();
    let mut services = Services::default();
    let mut apart: BTreeMap<TaskId, Sender<Work>> = BTreeMap::new();
    while let Ok(Work { task, request, answer }) = incoming.recv() {
        let work = match request {
            IoRequest::Call { service, command, body } => {
                services.call(task, &service, command, body, answer);
                continue;
            }
            request => Work { task, request, answer },
        };
        let remote = match is_remote(&work.request) {
            Ok(remote) => remote,
            Err(error) => {
                (work.answer)(Err(error));
                continue;
            }
        };
        if !remote && !apart.contains_key(&work.task) {
            let result = local.perform(&work.request);
            (work.answer)(result.map(|()| Vec::new()));
            continue;
        }
        let thread = apart.entry(work.task).or_insert_with(|| of_task(work.task, tell, ended));
        if let Err(unsent) = thread.send(work) {
            let Work { request, answer, .. } = unsent.0;
            // The requests behind it are answered so too: none is performed out of its order.
            let reason = "no thread performs it: none could be started, or it has panicked";
            let path = format!("{request:.40?}");
            let kind = IoErrorKind::Other;
            answer(Err(IoError { path, reason: reason.to_owned(), kind }));
        }
    }
}

/// A thread for the requests of one task; it ends with what is sent to it.
fn of_task(task: TaskId, tell: Tell, ended: &Arc<AtomicBool>) -> Sender<Work> {
    let (work, incoming) = channel::<Work>();
    let ended = Arc::clone(ended);
    let name = format!("gear-io-{}.{}", task.processor.0, task.index);
    // If none can be started, what is sent to it says so.
    let _ = Builder::new().name(name).spawn(move || {
        let mut performer = AnyPerformer::new(tell, ended);
        while let Ok(Work { request, answer, .. }) = incoming.recv() {
            answer(performer.perform(&request).map(|()| Vec::new()));
        }
    });
    work
}

#[cfg(feature = "hdfs")]
mod remote {
    pub(super) use crate::hdfs::{HdfsFiles as Files, HdfsPerformer as Performer};
}

/// What stands in for HDFS in a build without it.
#[cfg(not(feature = "hdfs"))]
mod remote {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use gear_core::api::FileInfo;
    use gear_core::effect::{IoError, IoErrorKind, IoRequest};

    use super::Tell;

    #[derive(Debug)]
    pub(super) struct Files;

    #[derive(Debug)]
    pub(super) struct Performer;

    fn without(path: &str) -> IoError {
        IoError {
            path: path.to_owned(),
            reason: "this build has no HDFS: build it with --features gear-node/hdfs".to_owned(),
            kind: IoErrorKind::Other,
        }
    }

    impl Files {
        pub(super) const fn new(_: Tell) -> Self {
            Self
        }
    }

    impl gear_core::api::Files for Files {
        fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
            Err(without(pattern))
        }

        fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
            Err(without(path))
        }

        fn read_at(&mut self, path: &str, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
            Err(without(path))
        }
    }

    impl Performer {
        pub(super) fn new(_: Tell, _: Arc<AtomicBool>) -> Self {
            Self
        }

        pub(super) fn perform(&self, request: &IoRequest) -> Result<(), IoError> {
            match request {
                IoRequest::Write { path, .. }
                | IoRequest::Sync { path }
                | IoRequest::Remove { path }
                | IoRequest::CopyPrefix { from: path, .. }
                | IoRequest::Publish { from: path, .. } => Err(without(path)),
                IoRequest::Print { .. } | IoRequest::Call { .. } => Err(without("standard output")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn silently(_: Notice) {}

    fn task(index: u32) -> TaskId {
        TaskId { index, ..TaskId::default() }
    }

    fn ask(threads: &IoThreads, task: TaskId, request: IoRequest) -> Result<Vec<u8>, IoError> {
        let (sender, answer) = channel();
        let answer_to = Box::new(move |result| sender.send(result).expect("it is waited for"));
        assert!(threads.perform(task, request, answer_to).is_ok());
        answer.recv().expect("every request is answered")
    }

    #[test]
    fn local_requests_are_performed_in_their_order_and_the_threads_end() {
        let folder = TempDir::new().expect("there is a folder");
        let path = folder.path().join("a").to_string_lossy().into_owned();
        let (_end, threads) = IoThreads::start(silently).expect("a thread starts");
        let (sender, answers) = channel();
        for number in 0..100_u64 {
            let request =
                IoRequest::Write { path: path.clone(), offset: number, bytes: vec![b'x'] };
            let sender = sender.clone();
            let answer = Box::new(move |result| sender.send((number, result)).expect("it waits"));
            assert!(threads.perform(task(0), request, answer).is_ok());
        }
        for number in 0..100 {
            assert_eq!(answers.recv().expect("it is answered"), (number, Ok(Vec::new())));
        }
    }

    #[test]
    fn a_file_keeps_to_its_file_system_and_a_server_is_no_file() {
        let (_end, threads) = IoThreads::start(silently).expect("a thread starts");
        let (from, to) = ("/a".to_owned(), "hdfs://h:1/a".to_owned());
        let mixed = ask(&threads, task(0), IoRequest::Publish { from, to }).unwrap_err();
        assert!(mixed.reason.contains("another file system"), "{mixed}");
        let (service, command, body) = ("fax".to_owned(), Vec::new(), Vec::new().into());
        let call = IoRequest::Call { service, command, body };
        assert!(ask(&threads, task(0), call).unwrap_err().reason.contains("no connector"));
    }

    #[cfg(not(feature = "hdfs"))]
    #[test]
    fn a_build_without_hdfs_names_the_feature() {
        let url = "hdfs://127.0.0.1:1/a";
        let mut files = AnyFiles::new(silently);
        let (_end, threads) = IoThreads::start(silently).expect("a thread starts");
        for error in [
            files.list(url).unwrap_err(),
            files.stat(url).unwrap_err(),
            files.read_at(url, 0, &mut [0]).unwrap_err(),
            ask(&threads, task(0), IoRequest::Sync { path: url.to_owned() }).unwrap_err(),
            // What comes behind it is performed all the same.
            ask(&threads, task(0), IoRequest::Remove { path: url.to_owned() }).unwrap_err(),
        ] {
            assert!(error.to_string().contains("--features gear-node/hdfs"), "{error}");
        }
    }
}
