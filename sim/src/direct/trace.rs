//! How the inputs and effects of the embedded process's machines are noted.

use gear_core::effect::{Effect, IoRequest, StoreReply, StoreRequest};
use gear_core::message::{Input, Item, Message};
use gear_core::time::Time;

use crate::trace::{Trace, shown};

/// Notes what a machine hears.
pub(super) fn input(trace: &mut Trace, now: Time, process: u64, place: u64, input: &Input) {
    trace.numbers(&[now.0, 1, process, place]);
    match input {
        Input::Message { message: heard, .. } => message(trace, heard),
        Input::Stored { token, reply } => {
            trace.numbers(&[token.0]);
            match reply {
                StoreReply::Bytes(bytes) => trace.bytes(bytes),
                StoreReply::Names(names) => trace.numbers(&[names.len() as u64]),
                other => trace.debug(other),
            }
        }
        Input::IoDone { token, result, .. } => {
            trace.numbers(&[token.0, u64::from(result.is_ok())]);
        }
        other => trace.debug(other),
    }
    trace.write(now, || format!("process {process} place {place} hears {}", shown(input)));
}

/// Notes what a machine wants.
pub(super) fn effect(trace: &mut Trace, now: Time, process: u64, place: u64, effect: &Effect) {
    trace.numbers(&[now.0, 2, process, place]);
    match effect {
        Effect::Send { message: said, .. } => message(trace, said),
        Effect::Store { token, request } => {
            trace.numbers(&[token.0]);
            request_to_store(trace, request);
        }
        Effect::Io { token, request, .. } => {
            trace.numbers(&[token.0]);
            request_to_disk(trace, request);
        }
        Effect::Notice(notice) => trace.bytes(notice.text.as_bytes()),
    }
    trace.write(now, || format!("process {process} place {place} wants {}", shown(effect)));
}

/// Notes a request to the checkpoint store, in the hash only.
pub(crate) fn request_to_store(trace: &mut Trace, request: &StoreRequest) {
    match request {
        StoreRequest::Put { name, bytes } | StoreRequest::Create { name, bytes } => {
            trace.bytes(name.as_bytes());
            trace.bytes(bytes);
        }
        StoreRequest::Get { name } | StoreRequest::Delete { name } => {
            trace.bytes(name.as_bytes());
        }
        StoreRequest::List { prefix } => trace.bytes(prefix.as_bytes()),
    }
}

/// Notes a request to the connectors' disk, in the hash only.
pub(crate) fn request_to_disk(trace: &mut Trace, request: &IoRequest) {
    match request {
        IoRequest::Write { path, bytes, .. } => {
            trace.bytes(path.as_bytes());
            trace.bytes(bytes);
        }
        other => trace.debug(other),
    }
}

fn message(trace: &mut Trace, message: &Message) {
    match message {
        Message::Item { channel, item: Item::Batch(batch), .. } => {
            trace.numbers(&[
                u64::from(channel.edge),
                u64::from(channel.from),
                u64::from(channel.to),
            ]);
            trace.bytes(batch.bytes());
        }
        Message::Credit { channel, bytes, .. } => {
            trace.numbers(&[u64::from(channel.edge), *bytes]);
        }
        other => trace.debug(other),
    }
}
