//! Commands from other threads.

use gear_core::host::process::{Answer, Command, ProcessEffect, ProcessInput};
use gear_core::id::{Epoch, NodeId};
use gear_net::tcp::Tcp;
use gear_net::{EventLoop, Handle, Limits};
use tokio::task::LocalSet;

use super::drivers::{Machine, drivers};
use super::scripted::Scripted;
use super::{Listener, Transport, anywhere, exit};

fn savepoint(name: &str) -> Command {
    Command::Savepoint { name: name.into() }
}

/// Runs a process; `beside` has its handle, on a thread of its own.
fn run<T: Send + 'static>(
    process: Scripted,
    beside: impl AsyncFnOnce(Handle) -> T + Send + 'static,
) -> (String, T) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let listener = Tcp::new().listen(&anywhere()).await.expect("there is a port");
        assert!(!listener.address().0.is_empty());
        let machine = Machine::default();
        let running = EventLoop::new(process, listener, drivers(&machine), Limits::default());
        let handle = running.handle();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(beside(handle))
        });
        let reason = running.run().await;
        (reason, other.join().expect("it asks and is answered"))
    })
}

#[test]
fn every_command_is_answered_once_in_any_order() {
    let mut open = Vec::new();
    let process = Scripted::new(move |input, out| match input {
        ProcessInput::Command { id, command: Command::Savepoint { name } } => {
            open.push((id, name.parse().unwrap()));
            if open.len() == 3 {
                for (id, epoch) in open.drain(..).rev() {
                    let answer = Answer::Savepoint { epoch: Epoch(epoch) };
                    out.push(ProcessEffect::Answer { id, answer });
                }
            }
        }
        ProcessInput::Known { node, .. } => out.push(exit(&format!("{node}"))),
        _ => {}
    });
    let (reason, answers) = run(process, async |handle| {
        let (one, two, three) = (savepoint("1"), savepoint("2"), savepoint("3"));
        let (one, two, three) =
            tokio::join!(handle.command(one), handle.command(two), handle.command(three));
        handle.known(NodeId(5), anywhere());
        [one, two, three]
    });
    assert_eq!(reason, "node 5");
    assert_eq!(answers, [1, 2, 3].map(|epoch| Answer::Savepoint { epoch: Epoch(epoch) }));
}

#[test]
fn whoever_asks_a_loop_that_ends_is_refused() {
    let process = Scripted::new(move |input, out| {
        if let ProcessInput::Command { .. } = input {
            out.push(exit("asked"));
        }
    });
    let (_, answers) = run(process, async |handle| {
        // The first is heard and never answered, the last is never heard.
        [handle.command(savepoint("a")).await, handle.command(savepoint("b")).await]
    });
    for answer in answers {
        let Answer::Refused { reason } = answer else { panic!("{answer:?}") };
        assert!(reason.contains("has ended"), "{reason}");
    }
}
