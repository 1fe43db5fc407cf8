//! Ends a test binary in which something hangs, and says what it was.
//!
//! Whoever talks to servers that are not ours may wait in their client's library for ever, where no
//! test can interrupt it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is to end within its time; dropped, it has.
#[derive(Debug)]
#[must_use = "what is not held is not watched"]
pub struct Watch(u64);

#[derive(Debug)]
struct Watched {
    what: String,
    thread: String,
    since: Instant,
    bound: Duration,
}

#[derive(Debug)]
struct Table {
    next: u64,
    watched: BTreeMap<u64, Watched>,
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: Mutex<Table> = Mutex::new(Table { next: 0, watched: BTreeMap::new() });
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins something. If it has not ended within this time, the process is aborted, and tells what
/// was under way: this, and all else that is being watched.
pub fn watch(what: impl Into<String>, bound: Duration) -> Watch {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let look = || {
            loop {
                thread::sleep(PAUSE);
                look();
            }
        };
        let builder = thread::Builder::new().name("watchdog".into());
        builder.spawn(look).expect("the machine has room for a thread");
    });
    // The harness names a test's thread after it.
    let thread = thread::current().name().unwrap_or("a thread").to_owned();
    let mut table = table();
    let id = table.next;
    table.next += 1;
    let watched = Watched { what: what.into(), thread, since: Instant::now(), bound };
    table.watched.insert(id, watched);
    Watch(id)
}

fn look() {
    let table = table();
    if table.watched.values().all(|it| it.since.elapsed() <= it.bound) {
        return;
    }
    let mut message = "\nWATCHDOG: this process hangs and is ended. Under way were:\n".to_owned();
    for it in table.watched.values() {
        let (took, bound) = (it.since.elapsed().as_secs_f32(), it.bound.as_secs_f32());
        let is_over = if took > bound { ", TOO LONG" } else { "" };
        let line = format!(
            "  {}: {} for {took:.1} s of at most {bound:.1} s{is_over}\n",
            it.thread, it.what
        );
        message.push_str(&line);
    }
    // Not by the macro, whose output the harness keeps to itself; and not by `exit`, in which the
    // libraries that hang would have another opportunity.
    let _ = std::io::stderr().write_all(message.as_bytes());
    std::process::abort();
}

impl Drop for Watch {
    fn drop(&mut self) {
        table().watched.remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// Set in the process that is to hang.
    const HANGS: &str = "GEAR_TEST_HANGS";
    const BOUND: Duration = Duration::from_millis(300);

    #[test]
    fn what_hangs_is_named_and_ended() {
        if std::env::var_os(HANGS).is_some() {
            drop(watch("what has ended", BOUND));
            let _long = watch("what may take long", Duration::from_secs(600));
            let _short = watch("what hangs", BOUND);
            loop {
                thread::park();
            }
        }
        let this = std::env::current_exe().expect("this is a program");
        let name = thread::current().name().expect("a test has a name").to_owned();
        let ended = Command::new(this).args(["--exact", &name]).env(HANGS, "yes").output();
        let ended = ended.expect("it can be started");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(6), "{said}");
        let lines: Vec<_> = said.lines().filter(|line| line.contains(&name)).collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].contains("what may take long") && !lines[0].ends_with("TOO LONG"));
        assert!(lines[1].contains("what hangs") && lines[1].ends_with("TOO LONG"), "{said}");
    }
}
