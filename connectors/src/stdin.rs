//! Standard input.

use std::io;
use std::sync::Arc;

use gear_core::api::{Files, SourceConnector};
use gear_core::effect::IoError;

use crate::stream::LineStream;

/// The lines of standard input, as `Ref<str>`.
///
/// It cannot be read again, so a job that reads it is at most once after a crash: what had been
/// read since the last epoch is gone.
#[must_use]
pub const fn lines() -> Stdin {
    Stdin
}

/// Standard input; made by [`lines`].
#[derive(Clone, Copy, Debug)]
pub struct Stdin;

impl SourceConnector for Stdin {
    type Source = LineStream;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec!["stdin".to_owned()])
    }

    fn source(&self) -> LineStream {
        LineStream::new("stdin".to_owned(), Arc::new(|| Ok(Box::new(io::stdin()))))
    }

    fn rewinds(&self) -> bool {
        false
    }

    fn reads_stdin(&self) -> bool {
        true
    }
}
