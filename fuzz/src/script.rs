//! Bytes as a script for a state machine: numbers, texts and answers, one after the other.

use gear_core::checkpoint::record::{Record, object_name};
use gear_core::effect::{Effect, StoreReply, StoreRequest};
use gear_core::id::{LogNumber, Token};

/// What is left of the bytes.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl Script<'_> {
    /// The next byte, if there is one.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte, or 0.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A number that is small more often than not.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=200 => byte.into(),
            201..=220 => u64::MAX - u64::from(self.byte()),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// Some bytes.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    /// An answer of the store, fitting or not.
    pub(crate) fn reply(&mut self, request: &StoreRequest) -> StoreReply {
        match self.byte() % 8 {
            0 => StoreReply::Done,
            1 => StoreReply::Exists,
            2 => StoreReply::Missing,
            3 => StoreReply::Bytes(self.bytes()),
            4 => {
                // A whole record, whatever it says.
                let record = postcard::from_bytes::<Record>(&self.bytes());
                StoreReply::Bytes(record.map_or_else(|_| Vec::new(), |record| record.encode()))
            }
            5 => {
                let count = self.byte() % 5;
                let mut names: Vec<_> =
                    (0..count).map(|_| object_name(LogNumber(self.number()))).collect();
                if self.byte().is_multiple_of(4) {
                    names.push(String::from_utf8_lossy(&self.bytes()).into_owned());
                }
                StoreReply::Names(names)
            }
            6 => {
                let retriable = self.byte().is_multiple_of(2);
                StoreReply::Failed { reason: "as the script says".to_owned(), retriable }
            }
            // What an empty store says that keeps what it is given.
            _ => match request {
                StoreRequest::List { .. } => StoreReply::Names(Vec::new()),
                StoreRequest::Get { .. } => StoreReply::Missing,
                _ => StoreReply::Done,
            },
        }
    }
}

/// The requests to the store among the effects.
pub(crate) fn requests(effects: Vec<Effect>) -> impl Iterator<Item = (Token, StoreRequest)> {
    effects.into_iter().filter_map(|effect| match effect {
        Effect::Store { token, request } => Some((token, request)),
        _ => None,
    })
}
