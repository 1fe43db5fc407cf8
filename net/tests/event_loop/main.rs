//! The loop over toy processes and the operating system's sockets.

mod drivers;
mod handles;
mod scripted;

use std::time::Duration;

use drivers::{Machine, drivers};
use gear_core::control::Address;
use gear_core::effect::{IoRequest, StoreReply, StoreRequest};
use gear_core::host::process::{ACCEPTED, DiskReply, DiskRequest, ProcessEffect, ProcessInput};
use gear_core::id::{ConnectionId, ProcessorId, TaskId, Token};
use gear_core::time::{Time, millis};
use gear_net::tcp::Tcp;
use gear_net::{EventLoop, Limits, Listener, Transport};
use scripted::Scripted;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Where nobody has asked for a port of its own.
fn anywhere() -> Address {
    Address("127.0.0.1:0".into())
}

const DIALED: ConnectionId = ConnectionId(7);
const FIRST: ConnectionId = ConnectionId(ACCEPTED);

fn exit(reason: &str) -> ProcessEffect {
    ProcessEffect::Exit { reason: reason.into() }
}

fn write(connection: ConnectionId, bytes: &[u8]) -> ProcessEffect {
    ProcessEffect::Write { connection, bytes: bytes.into() }
}

/// Runs a process beside somebody who knows where it listens; gives the process's reason.
async fn run_with<F>(
    process: Scripted,
    machine: &Machine,
    limits: Limits,
    beside: impl FnOnce(Address) -> F,
) -> String
where
    F: Future<Output = ()>,
{
    let listener = Tcp::new().listen(&anywhere()).await.expect("there is a port");
    let address = listener.address();
    let local = LocalSet::new();
    let both = local.run_until(async {
        let running = EventLoop::new(process, listener, drivers(machine), limits).run();
        let (reason, ()) = tokio::join!(running, beside(address));
        reason
    });
    timeout(Duration::from_secs(20), both).await.expect("the process ends")
}

async fn run(process: Scripted, machine: &Machine) -> String {
    run_with(process, machine, Limits::default(), |_| async {}).await
}

#[tokio::test]
async fn bytes_come_in_order_and_the_end_behind_them() {
    let process = Scripted::new(|input, out| match input {
        ProcessInput::Received { connection, bytes } => {
            out.push(ProcessEffect::Write { connection, bytes });
        }
        ProcessInput::Closed { connection } => {
            assert_eq!(connection, FIRST);
            out.push(exit("the peer has gone"));
        }
        _ => {}
    });
    let heard = process.heard();
    let machine = Machine::default();
    let reason = run_with(process, &machine, Limits::default(), |address| async move {
        let mut stream = TcpStream::connect(address.0).await.unwrap();
        let text: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let (mut read, mut write) = stream.split();
        let mut echo = vec![0; text.len()];
        let (written, read) = tokio::join!(write.write_all(&text), read.read_exact(&mut echo));
        written.unwrap();
        read.unwrap();
        assert_eq!(echo, text);
    });
    assert_eq!(reason.await, "the peer has gone");
    let heard = heard.borrow();
    assert_eq!(heard[..2], [ProcessInput::Start, ProcessInput::Accepted { connection: FIRST }]);
    assert_eq!(heard.last(), Some(&ProcessInput::Closed { connection: FIRST }));
}

#[tokio::test]
async fn last_words_are_delivered_before_the_end() {
    for last in [exit("done"), ProcessEffect::Close { connection: FIRST }] {
        let process = Scripted::new(move |input, out| match input {
            ProcessInput::Accepted { connection } => {
                out.push(write(connection, &[1; 1_000_000]));
                out.push(write(connection, b"bye"));
                out.push(last.clone());
                out.push(write(connection, b"never"));
            }
            ProcessInput::Timeout => out.push(exit("waited")),
            ProcessInput::Closed { .. } => panic!("who lets go hears nothing more"),
            _ => {}
        });
        let process = process.due(Time(1_000_000_000));
        let machine = Machine::default();
        let beside = |address: Address| async move {
            let mut stream = TcpStream::connect(address.0).await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!((all.len(), all.ends_with(b"bye")), (1_000_003, true));
        };
        run_with(process, &machine, Limits::default(), beside).await;
    }
}

#[tokio::test]
async fn dials_are_answered_refused_or_forgotten() {
    let gone = Tcp::new().listen(&anywhere()).await.unwrap().address();
    let to = gone.clone();
    let process = Scripted::new(move |input, out| match input {
        ProcessInput::Start => {
            out.push(ProcessEffect::Dial { connection: ConnectionId(1), to: to.clone() });
            out.push(ProcessEffect::Dial { connection: ConnectionId(2), to: to.clone() });
            out.push(ProcessEffect::Close { connection: ConnectionId(2) });
        }
        ProcessInput::DialFailed { connection, refused } => {
            out.push(exit(&format!("{connection} {refused}")));
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(run(process, &Machine::default()).await, "connection 1 true");
}

#[tokio::test]
async fn a_dialled_connection_carries_both_ways() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Address(listener.local_addr().unwrap().to_string());
    let process = Scripted::new(move |input, out| match input {
        ProcessInput::Start => {
            out.push(ProcessEffect::Dial { connection: DIALED, to: to.clone() });
        }
        ProcessInput::Dialed { connection } => out.push(write(connection, b"ping")),
        ProcessInput::Received { bytes, .. } => out.push(exit(&String::from_utf8(bytes).unwrap())),
        other => panic!("{other:?}"),
    });
    let beside = |_| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
    };
    let reason = run_with(process, &Machine::default(), Limits::default(), beside).await;
    assert_eq!(reason, "pong");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off_by_a_named_limit() {
    let process = Scripted::new(|input, out| match input {
        ProcessInput::Accepted { connection } => out.push(write(connection, b"go")),
        ProcessInput::Timeout => out.push(write(FIRST, &[0; 100_000])),
        ProcessInput::Closed { connection } => out.push(exit(&format!("{connection} closed"))),
        _ => {}
    });
    let process = process.every(millis(1));
    let machine = Machine::default();
    let limits = Limits { outgoing_bytes: 500_000, ..Limits::default() };
    let reason = run_with(process, &machine, limits, |address| async move {
        let mut stream = TcpStream::connect(address.0).await.unwrap();
        let mut go = [0; 2];
        stream.read_exact(&mut go).await.unwrap();
        // It does not read until it has been cut off.
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        drop(stream);
    });
    assert_eq!(reason.await, format!("{FIRST} closed"));
    let notices = machine.notices.borrow();
    let notice = &notices.first().expect("the user is told").text;
    assert!(notice.contains("500000 bytes of Limits::outgoing_bytes"), "{notice}");
}

#[tokio::test]
async fn connections_are_bounded() {
    let process = Scripted::new(|input, out| match input {
        ProcessInput::Accepted { connection } => out.push(write(connection, b"welcome")),
        ProcessInput::Received { .. } => out.push(exit("enough")),
        _ => {}
    });
    let machine = Machine::default();
    let limits = Limits { connections: 2, ..Limits::default() };
    run_with(process, &machine, limits, |address| async move {
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(&address.0).await.unwrap();
            let mut welcome = [0; 7];
            stream.read_exact(&mut welcome).await.unwrap();
            streams.push(stream);
        }
        let mut refused = TcpStream::connect(&address.0).await.unwrap();
        assert_eq!(refused.read(&mut [0; 7]).await.unwrap_or(0), 0);
        streams[0].write_all(b"x").await.unwrap();
    })
    .await;
    assert!(machine.notices.borrow()[0].text.contains("more than 2 connections"));
}

#[tokio::test]
async fn requests_are_answered_the_disk_s_and_a_task_s_in_order() {
    let name = |number: u64| format!("{number}");
    let process = Scripted::new(move |input, out| match input {
        ProcessInput::Start => {
            for number in 0..20 {
                let entries = vec![(name(number), Some(vec![number as u8]))];
                let request = DiskRequest::Write { entries };
                out.push(ProcessEffect::Disk { token: Token(number), request });
                let task = TaskId { processor: ProcessorId(0), index: (number % 2) as u32 };
                let request = IoRequest::Remove { path: name(number) };
                out.push(ProcessEffect::Io { task, token: Token(number), request });
            }
            let request = StoreRequest::Get { name: "there".into() };
            out.push(ProcessEffect::Store { token: Token(1), request });
        }
        ProcessInput::Timeout => {
            out.push(ProcessEffect::Disk { token: Token(99), request: DiskRequest::Load });
        }
        ProcessInput::Disk { token: Token(99), reply: DiskReply::Loaded { entries } } => {
            out.push(exit(&format!("{} entries", entries.len())));
        }
        _ => {}
    });
    let process = process.due(Time(300_000_000));
    let heard = process.heard();
    let machine = Machine::default();
    assert_eq!(run(process, &machine).await, "20 entries");
    let heard = heard.borrow();
    let disk = heard.iter().filter_map(|input| match input {
        ProcessInput::Disk { token, reply: DiskReply::Written } => Some(token.0),
        _ => None,
    });
    assert_eq!(disk.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    for index in 0..2 {
        let done = heard.iter().filter_map(|input| match input {
            ProcessInput::IoDone { task, token, .. } if task.index == index => Some(token.0),
            _ => None,
        });
        let expected = (0..20).filter(|number| number % 2 == u64::from(index));
        assert_eq!(done.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
    let reply = StoreReply::Missing;
    assert!(heard.contains(&ProcessInput::Stored { token: Token(1), reply }));
}

#[tokio::test]
async fn sockets_and_deadlines_are_served_while_the_process_is_busy() {
    let process = Scripted::new(|input, out| match input {
        ProcessInput::Received { connection, bytes } => {
            out.push(ProcessEffect::Write { connection, bytes });
        }
        ProcessInput::Timeout => out.push(exit("in time")),
        _ => {}
    });
    let process = process.busy().due(Time(200_000_000));
    let turns = process.turns();
    let machine = Machine::default();
    let reason = run_with(process, &machine, Limits::default(), |address| async move {
        let mut stream = TcpStream::connect(address.0).await.unwrap();
        for round in 0..20 {
            stream.write_all(&[round]).await.unwrap();
            let mut echo = [0];
            stream.read_exact(&mut echo).await.unwrap();
        }
    });
    assert_eq!(reason.await, "in time");
    assert!(turns.get() > 100, "it had turns all the while");
}

#[tokio::test]
async fn children_are_told_of() {
    let process = Scripted::new(|input, out| match input {
        ProcessInput::Start => out.push(ProcessEffect::Spawn { order: drivers::order() }),
        ProcessInput::ChildRunning { process, address } => {
            assert_eq!(address, anywhere());
            out.push(ProcessEffect::Kill { process });
        }
        ProcessInput::ChildExited { reason, .. } => out.push(exit(&reason)),
        other => panic!("{other:?}"),
    });
    assert_eq!(run(process, &Machine::default()).await, "killed");
}

#[tokio::test]
#[should_panic(expected = "the store is on fire")]
async fn a_panic_of_a_task_is_one_of_the_loop() {
    let process = Scripted::new(|input, out| {
        if input == ProcessInput::Start {
            let request = StoreRequest::Get { name: "panic".into() };
            out.push(ProcessEffect::Store { token: Token(1), request });
        }
    });
    run(process, &Machine::default()).await;
}

#[tokio::test]
#[should_panic(expected = "a process's deadline stays in the past")]
async fn a_deadline_that_stays_in_the_past_is_a_defect() {
    run(Scripted::new(|_, _| {}).always_due(), &Machine::default()).await;
}
