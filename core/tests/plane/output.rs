//! Sinks that talk to a server, and whose output waits in the checkpoint store.

use std::collections::BTreeMap;

use gear_core::api::Record;
use gear_core::api::sink::{
    Answered, Request, Sink, SinkConnector, SinkContext, SinkTask, Waiting,
};
use gear_core::effect::{Blob, IoError, IoErrorKind, IoRequest};
use gear_core::flow::push::Meta;
use gear_core::id::{Epoch, Token};
use gear_core::message::{ObjectRef, Pending};
use gear_core::task::Turn;
use gear_core::time::{Duration, Time};

use crate::rig::{Plane, Restore, Rig};

const PAUSE: Duration = Duration::from_millis(100);

/// Sends an epoch's text to a server once it has committed.
struct Remote;

#[derive(Default)]
struct Sender {
    open: bool,
    text: Vec<u8>,
    kept: BTreeMap<Epoch, ObjectRef>,
    /// The request by which an epoch is sent, and the request that keeps something.
    sending: Option<(Token, Epoch)>,
    hello: Option<Token>,
}

fn call(command: &str, body: Vec<u8>) -> IoRequest {
    IoRequest::Call { service: "remote".into(), command: command.into(), body: Blob::from(body) }
}

impl SinkConnector for Remote {
    type Sink = Sender;

    fn sink(&self, task: &SinkTask) -> Sender {
        assert_eq!((&*task.app, &*task.name), ("rig", "out"));
        Sender::default()
    }

    fn transactional(&self) -> bool {
        true
    }
}

impl Sink for Sender {
    type In = String;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        self.hello = Some(cx.io.submit(call("hello", Vec::new())));
        for object in pending.iter().flat_map(|account| &account.objects) {
            let token = cx.io.fetch(object.clone());
            self.sending = Some((token, Epoch(0)));
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn write(
        &mut self,
        _: Meta,
        view: <String as Record>::View<'_>,
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        if view.len() > 5 {
            cx.io.refuse("it is too long".to_owned());
            return Ok(());
        }
        self.text.extend_from_slice(view.as_bytes());
        Ok(())
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.kept.insert(epoch, cx.io.keep(Blob::from(text)).0);
        }
        Ok(b"account".to_vec())
    }

    fn objects(&self) -> Vec<ObjectRef> {
        self.kept.values().cloned().collect()
    }

    fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Answered, String> {
        if self.hello == Some(token) {
            self.open = true;
        }
        let Some((_, epoch)) = self.sending.filter(|(sending, _)| *sending == token) else {
            return result.map(|_| Answered::Done).map_err(|error| error.to_string());
        };
        match result {
            Ok(bytes) if bytes == b"more" => {
                let request = Request::Fetch(self.kept[&epoch].clone());
                Ok(Answered::Again { request, at: cx.now })
            }
            Ok(bytes) if bytes.is_empty() => {
                self.kept.remove(&epoch);
                self.sending = None;
                Ok(Answered::Done)
            }
            Ok(bytes) => Ok(Answered::Again { request: call("send", bytes).into(), at: cx.now }),
            Err(error) if error.kind == IoErrorKind::Unavailable => {
                let request = call("send again", Vec::new()).into();
                Ok(Answered::Again { request, at: cx.now + PAUSE })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn waiting(&self) -> Waiting {
        Waiting { bytes: 7, allocated: 5, since: Some(Time::ZERO) }
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        if self.kept.contains_key(&epoch) {
            self.sending = Some((cx.io.submit(call("send", Vec::new())), epoch));
        }
        Ok(())
    }
}

fn plane() -> Plane {
    Plane::of::<String>(false, |stream| stream.sink("out", Remote))
}

fn open() -> Rig {
    let mut rig = plane().task("out", 1);
    rig.settle();
    rig.answer(Ok(Vec::new()));
    rig
}

fn away() -> Result<Vec<u8>, IoError> {
    let reason = "nobody listens".to_owned();
    Err(IoError { path: "remote".into(), reason, kind: IoErrorKind::Unavailable })
}

#[test]
fn a_sink_that_waits_for_its_server_takes_nothing_and_lets_no_barrier_pass() {
    let mut rig = plane().task("out", 1);
    rig.batch(0, &[(0, "abc".to_owned())]);
    rig.barrier(0, 1, None);
    rig.settle();
    assert!(rig.snapshots.is_empty() && rig.store.is_empty());
    rig.now = rig.now + PAUSE;
    rig.settle();
    assert_eq!(rig.task.figures().blocked, PAUSE);
    rig.answer(Ok(Vec::new()));
    rig.settle();
    assert_eq!(rig.snapshots[&1].pending, b"account");
    rig.now = rig.now + PAUSE;
    rig.settle();
    assert_eq!(rig.task.figures().blocked, PAUSE, "it waits no more");
}

#[test]
fn output_is_kept_under_a_name_of_its_task_and_attempt_before_the_epoch_is_reported() {
    let mut rig = open();
    rig.refuses = 2;
    rig.batch(0, &[(0, "abc".to_owned())]);
    rig.barrier(0, 1, None);
    rig.settle();
    assert!(rig.snapshots.is_empty(), "the store has refused the object");
    let mut tries = 0;
    while rig.snapshots.is_empty() {
        rig.now = rig.now + PAUSE;
        rig.settle();
        tries += 1;
        assert!(tries < 100, "it is not stored again");
    }
    let objects = &rig.snapshots[&1].objects;
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].name, "output/out-0/0-e0000000001-1");
    assert_eq!(rig.store[&objects[0].name], b"abc");
}

#[test]
fn what_is_asked_for_again_holds_up_the_account_of_later_epochs_only() {
    let mut rig = open();
    rig.batch(0, &[(0, "abc".to_owned())]);
    rig.barrier(0, 1, None);
    rig.settle();
    rig.committed(1);
    rig.barrier(0, 2, Some(1));
    rig.settle();
    assert_eq!(rig.snapshots.keys().collect::<Vec<_>>(), [&1]);
    // The server is away, twice; the task wakes when it is to ask again.
    for _ in 0..2 {
        rig.answer(away());
        assert!(rig.asked.is_empty());
        assert_eq!(rig.turn(), Turn::Waits(Some(rig.now + PAUSE)));
        rig.now = rig.now + PAUSE;
        rig.settle();
        assert_eq!(rig.asked.len(), 1);
    }
    // It wants the content, which is fetched from the store and sent.
    rig.answer(Ok(b"more".to_vec()));
    rig.settle();
    let [(_, IoRequest::Call { body, .. })] = &rig.asked[..] else { panic!("{:?}", rig.asked) };
    assert_eq!(body.as_ref(), b"abc");
    assert!(rig.visible.is_empty());
    rig.answer(Ok(Vec::new()));
    rig.settle();
    assert_eq!((&rig.visible[..], rig.snapshots.len()), (&[1][..], 2));
    // The account was made before the output was visible.
    assert_eq!(rig.snapshots[&2].objects, rig.snapshots[&1].objects);
    let figures = rig.task.figures();
    assert_eq!((figures.output_bytes, figures.output_age), (7, rig.now.since(Time::ZERO)));
}

#[test]
fn a_record_that_is_refused_is_put_aside_and_the_next_is_taken() {
    let mut rig = open();
    rig.batch(0, &[(0, "too long".to_owned()), (0, "abc".to_owned())]);
    rig.barrier(0, 1, None);
    rig.settle();
    let aside = rig.aside(&rig.snapshots[&1]);
    assert_eq!(aside.len(), 1);
    assert_eq!((&*aside[0].error, &*aside[0].operator), ("it is too long", "out"));
    assert_eq!(rig.store[&rig.snapshots[&1].objects[0].name], b"abc");
}

#[test]
fn an_object_that_is_not_what_was_kept_fails_the_task_by_its_name() {
    for (content, wrong) in [(None, "is missing"), (Some(b"abd"), "is not what was written")] {
        let name = "output/out-0/t1-a1-e1-1".to_owned();
        let object = ObjectRef { name: name.clone(), len: 3, crc: crc32c::crc32c(b"abc") };
        let pending = Pending { index: 0, bytes: Vec::new(), objects: vec![object] };
        let store = content.map(|content| (name.clone(), content.to_vec()));
        let restore = Restore {
            epoch: 1,
            store: store.into_iter().collect(),
            pending: vec![pending],
            ..Restore::default()
        };
        let mut rig = plane().start("out", (0, 1), 1, restore);
        rig.settle();
        let failed = rig.failed.unwrap_or_default();
        assert!(failed.contains(&name) && failed.contains(wrong), "{failed}");
    }
}
