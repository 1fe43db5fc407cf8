//! What happened, as a hash of it and, if somebody wants to read it, as text.

use std::fmt::Write as _;

use gear_core::effect::{Effect, IoRequest, StoreReply, StoreRequest};
use gear_core::message::{Input, Item, Message};
use gear_core::time::Time;
use xxhash_rust::xxh3::Xxh3;

/// The trace of a run.
pub(super) struct Trace {
    hash: Xxh3,
    /// The text, line by line; none if nobody reads it.
    text: Option<Vec<String>>,
    print: bool,
}

impl Trace {
    /// An empty trace. `keep` keeps the text, `print` prints it as it comes.
    #[must_use]
    pub(super) fn new(keep: bool, print: bool) -> Self {
        Self { hash: Xxh3::new(), text: keep.then(Vec::new), print }
    }

    /// The hash of everything so far.
    #[must_use]
    pub(super) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// The text so far.
    #[must_use]
    pub(super) fn text(&self) -> &[String] {
        self.text.as_deref().unwrap_or(&[])
    }

    /// Notes something that is described by numbers.
    pub(super) fn note(&mut self, now: Time, what: &str, numbers: &[u64]) {
        self.hash.update(&now.0.to_le_bytes());
        self.hash.update(what.as_bytes());
        numbers.iter().for_each(|number| self.hash.update(&number.to_le_bytes()));
        self.write(now, || format!("{what} {numbers:?}"));
    }

    /// Notes what a machine hears.
    pub(super) fn input(&mut self, now: Time, process: u64, place: u64, input: &Input) {
        self.note_quiet(&[now.0, 1, process, place]);
        match input {
            Input::Message { message, .. } => self.message(message),
            Input::Stored { token, reply } => {
                self.note_quiet(&[token.0]);
                match reply {
                    StoreReply::Bytes(bytes) => self.hash.update(bytes),
                    StoreReply::Names(names) => self.note_quiet(&[names.len() as u64]),
                    other => self.debug(other),
                }
            }
            Input::IoDone { token, result, .. } => {
                self.note_quiet(&[token.0, u64::from(result.is_ok())]);
            }
            Input::Executors { .. } | Input::ExecutorUp { .. } | Input::ExecutorLost { .. } => {
                self.debug(input);
            }
            Input::Start => self.hash.update(b"start"),
            Input::Stop => self.hash.update(b"stop"),
            Input::Timeout => self.hash.update(b"timeout"),
        }
        self.write(now, || format!("process {process} place {place} hears {}", shown(input)));
    }

    /// Notes what a machine wants.
    pub(super) fn effect(&mut self, now: Time, process: u64, place: u64, effect: &Effect) {
        self.note_quiet(&[now.0, 2, process, place]);
        match effect {
            Effect::Send { message, .. } => self.message(message),
            Effect::Store { token, request } => {
                self.note_quiet(&[token.0]);
                match request {
                    StoreRequest::Put { name, bytes } | StoreRequest::Create { name, bytes } => {
                        self.hash.update(name.as_bytes());
                        self.hash.update(bytes);
                    }
                    StoreRequest::Get { name } | StoreRequest::Delete { name } => {
                        self.hash.update(name.as_bytes());
                    }
                    StoreRequest::List { prefix } => self.hash.update(prefix.as_bytes()),
                }
            }
            Effect::Io { token, request, .. } => {
                self.note_quiet(&[token.0]);
                match request {
                    IoRequest::Write { path, bytes, .. } => {
                        self.hash.update(path.as_bytes());
                        self.hash.update(bytes);
                    }
                    other => self.debug(other),
                }
            }
            Effect::Notice(notice) => self.hash.update(notice.text.as_bytes()),
        }
        self.write(now, || format!("process {process} place {place} wants {}", shown(effect)));
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::Item { channel, item: Item::Batch(batch), .. } => {
                self.note_quiet(&[
                    u64::from(channel.edge),
                    u64::from(channel.from),
                    u64::from(channel.to),
                ]);
                self.hash.update(batch.bytes());
            }
            Message::Credit { channel, bytes, .. } => {
                self.note_quiet(&[u64::from(channel.edge), *bytes]);
            }
            other => self.debug(other),
        }
    }

    fn debug(&mut self, value: &impl std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.hash.update(text.as_bytes());
    }

    fn note_quiet(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.hash.update(&number.to_le_bytes()));
    }

    fn write(&mut self, now: Time, line: impl FnOnce() -> String) {
        if self.text.is_none() && !self.print {
            return;
        }
        let line = format!("{now} {}", line());
        if self.print {
            println!("{line}");
        }
        if let Some(text) = &mut self.text {
            text.push(line);
        }
    }
}

/// The most of a line that is shown.
const SHOWN_MAX: usize = 600;

fn shown(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > SHOWN_MAX {
        let cut = (0..=SHOWN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
