//! What happened, as a hash of it and, if somebody wants to read it, as text.

use std::fmt::Write as _;

use gear_core::time::Time;
use xxhash_rust::xxh3::Xxh3;

/// The trace of a run.
pub(crate) struct Trace {
    hash: Xxh3,
    /// The text, line by line; none if nobody reads it.
    text: Option<Vec<String>>,
    print: bool,
}

impl Trace {
    /// An empty trace. `keep` keeps the text, `print` prints it as it comes.
    #[must_use]
    pub(crate) fn new(keep: bool, print: bool) -> Self {
        Self { hash: Xxh3::new(), text: keep.then(Vec::new), print }
    }

    /// The hash of everything so far.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// Takes the text so far.
    #[must_use]
    pub(crate) fn take_text(&mut self) -> Vec<String> {
        self.text.take().unwrap_or_default()
    }

    /// Notes something that is described by numbers.
    pub(crate) fn note(&mut self, now: Time, what: &str, numbers: &[u64]) {
        self.numbers(&[now.0]);
        self.bytes(what.as_bytes());
        self.numbers(numbers);
        self.write(now, || format!("{what} {numbers:?}"));
    }

    /// Notes bytes, in the hash only.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// Notes numbers, in the hash only.
    pub(crate) fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.hash.update(&number.to_le_bytes()));
    }

    /// Notes a value as it is shown, in the hash only.
    pub(crate) fn debug(&mut self, value: &impl std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.hash.update(text.as_bytes());
    }

    /// Notes a line, in the text only.
    pub(crate) fn write(&mut self, now: Time, line: impl FnOnce() -> String) {
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

/// A value for a line of the text.
pub(crate) fn shown(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > SHOWN_MAX {
        let cut = (0..=SHOWN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
