//! Catches the panics of the simulated jobs, in silence.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use gear_core::flow::push::Guard;

thread_local! {
    static SILENT: Cell<u32> = const { Cell::new(0) };
}

/// Runs `call` and gives the panic's message if it panicked; nothing is printed.
///
/// # Errors
/// The message of the panic.
pub fn catch<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if SILENT.get() == 0 {
                loud(info);
            }
        }));
    });
    SILENT.set(SILENT.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    SILENT.set(SILENT.get() - 1);
    result.map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}

/// The guard of simulated tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Catch;

impl Guard for Catch {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        catch(call)
    }
}
