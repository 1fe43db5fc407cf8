//! What a job sees of a record: all of it, or its value.

use gear_core::api::{Record, Ref};

use crate::kafka::port::Parts;
use crate::kafka::record::Message;

/// What of a record a source gives.
pub trait Shape: Send + Sync + 'static {
    /// What it gives.
    type Out: Record;

    /// What keeps this record from being given, if anything does.
    fn refuse(parts: &Parts<'_>) -> Option<&'static str>;

    /// What is given of a record that is not refused.
    fn view<'a>(message: Message<'a>) -> <Self::Out as Record>::View<'a>;
}

/// The whole record, as a [`Message`].
#[derive(Clone, Copy, Debug)]
pub enum Whole {}

/// The value, as bytes.
#[derive(Clone, Copy, Debug)]
pub enum Bytes {}

/// The value, as text.
#[derive(Clone, Copy, Debug)]
pub enum Text {}

const NO_VALUE: &str = "the record has no value";

impl Shape for Whole {
    type Out = Message<'static>;

    #[inline]
    fn refuse(parts: &Parts<'_>) -> Option<&'static str> {
        parts.headers.is_none().then_some("a header's name is not UTF-8")
    }

    #[inline]
    fn view(message: Message<'_>) -> Message<'_> {
        message
    }
}

impl Shape for Bytes {
    type Out = Ref<[u8]>;

    #[inline]
    fn refuse(parts: &Parts<'_>) -> Option<&'static str> {
        parts.value.is_none().then_some(NO_VALUE)
    }

    #[inline]
    fn view(message: Message<'_>) -> &[u8] {
        message.value.unwrap_or_default()
    }
}

impl Shape for Text {
    type Out = Ref<str>;

    #[inline]
    fn refuse(parts: &Parts<'_>) -> Option<&'static str> {
        let Some(value) = parts.value else { return Some(NO_VALUE) };
        std::str::from_utf8(value).is_err().then_some("the value is not UTF-8")
    }

    #[inline]
    fn view(message: Message<'_>) -> &str {
        message.text().unwrap_or_default()
    }
}
