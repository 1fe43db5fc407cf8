//! Catching the panics of the user's code.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use gear_core::flow::push::Guard;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs the user's code; a panic in it is a result, not a message on the terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanic;

impl CatchPanic {
    /// A guard. The first one makes guarded panics silent: they are reported with their record.
    #[must_use]
    pub fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !GUARDED.get() {
                    before(info);
                }
            }));
        });
        Self
    }
}

impl Guard for CatchPanic {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        let outer = GUARDED.replace(true);
        let result = catch_unwind(AssertUnwindSafe(call));
        GUARDED.set(outer);
        result.map_err(|panic| message(panic.as_ref()))
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked without a message".into()
    }
}

/// True if this program unwinds: where a panic aborts, no record could be put aside.
#[must_use]
pub(crate) const fn unwinds() -> bool {
    cfg!(panic = "unwind")
}
