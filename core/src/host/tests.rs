//! Handshake and control connections between two ends whose bytes are cut anywhere.

use alloc::vec;
use alloc::vec::Vec;

use super::control::Control;
use super::process::{ACCEPTED, ProcessEffect, ProcessInput};
use super::sockets::{Heard, Local, Sockets};
use crate::control::{Address, ControlMessage, Peer, Request};
use crate::id::{AppTerm, ConnectionId, NodeId, RequestId};
use crate::limits::{HANDSHAKE_TIMEOUT, PING_INTERVAL, SILENCE_MAX, STRANGERS_MAX};
use crate::link::handshake::{Door, Purpose, Refusal, Standing, VERSIONS, Versions};
use crate::time::{Duration, Time};
use crate::wire::stream::{encode_entry, kind};

const A: Peer = Peer::Node(NodeId(1));
const B: Peer = Peer::Node(NodeId(2));

fn sockets(peer: Peer) -> Sockets {
    Sockets::new(Local { cluster: 9, peer, token: 0 })
}

fn door(here: Peer) -> Door {
    Door { versions: VERSIONS, cluster: 9, here, token: None, term: AppTerm(0) }
}

fn address() -> Address {
    Address("b:1".into())
}

fn received(sockets: &mut Sockets, connection: ConnectionId, bytes: &[u8]) -> Vec<ProcessEffect> {
    let mut out = Vec::new();
    let bytes = bytes.to_vec();
    sockets.handle(Time(1), ProcessInput::Received { connection, bytes }, &mut out);
    out
}

fn bytes_of(effects: &[ProcessEffect]) -> Vec<u8> {
    let written = effects.iter().filter_map(|effect| match effect {
        ProcessEffect::Write { bytes, .. } => Some(bytes.as_slice()),
        _ => None,
    });
    written.flatten().copied().collect()
}

/// What A says when it dials B.
fn hello_of(a: &mut Sockets) -> (ConnectionId, Vec<u8>) {
    let mut out = Vec::new();
    let connection = a.dial(Time(0), (B, &address()), Purpose::Control, &mut out);
    assert_eq!(out, [ProcessEffect::Dial { connection, to: address() }]);
    out.clear();
    a.handle(Time(0), ProcessInput::Dialed { connection }, &mut out);
    (connection, bytes_of(&out))
}

#[test]
fn both_know_each_other_wherever_the_bytes_are_cut() {
    let there = ConnectionId(ACCEPTED | 1);
    let (_, hello) = hello_of(&mut sockets(A));
    for cut in 0..=hello.len() {
        let (mut a, mut b) = (sockets(A), sockets(B));
        let (here, hello) = hello_of(&mut a);
        b.handle(Time(0), ProcessInput::Accepted { connection: there }, &mut Vec::new());
        for part in [&hello[..cut], &hello[cut..], b"behind"] {
            if !part.is_empty() {
                assert_eq!(received(&mut b, there, part), []);
            }
        }
        let Some(Heard::Asked { connection, hello }) = b.next_heard() else { panic!("asked") };
        assert_eq!((connection, hello.from, hello.to), (there, A, B));
        let welcome = door(B).judge(&hello, Standing::Known).expect("it is welcome");
        let mut out = Vec::new();
        b.welcome(there, &welcome, &mut out);
        let behind = Heard::Bytes { connection: there, bytes: b"behind".to_vec() };
        assert_eq!(b.next_heard(), Some(behind));
        received(&mut a, here, &[bytes_of(&out).as_slice(), b"more"].concat());
        let up = Heard::Up { connection: here, to: B, purpose: Purpose::Control };
        assert_eq!(a.next_heard(), Some(up));
        let more = Heard::Bytes { connection: here, bytes: b"more".to_vec() };
        assert_eq!(a.next_heard(), Some(more));
        assert_eq!((a.next_timeout(), b.next_timeout()), (None, None));
    }
}

#[test]
fn whoever_is_refused_hears_why_and_whether_to_come_again() {
    for (refusal, gone) in [(Refusal::GivenUp, true), (Refusal::Unknown, false)] {
        let (mut a, mut b) = (sockets(A), sockets(B));
        let (here, hello) = hello_of(&mut a);
        let there = ConnectionId(ACCEPTED | 1);
        b.handle(Time(0), ProcessInput::Accepted { connection: there }, &mut Vec::new());
        received(&mut b, there, &hello);
        let mut out = Vec::new();
        b.refuse(there, &refusal, &mut out);
        assert_eq!(out.last(), Some(&ProcessEffect::Close { connection: there }));
        assert_eq!(b.turned_away(), 1);
        received(&mut a, here, &bytes_of(&out));
        let reason = alloc::string::ToString::to_string(&refusal);
        assert_eq!(a.next_heard(), Some(Heard::Down { connection: here, gone, reason }));
    }
}

#[test]
fn both_ends_tell_their_people_of_another_version_once() {
    let (here, there) = (VERSIONS, Versions { lowest: 7, highest: 9 });
    let refusal = Refusal::Versions { here, there };
    let (mut a, mut b) = (sockets(A), sockets(B));
    for time in 0..2 {
        let (here, hello) = hello_of(&mut a);
        let there = ConnectionId(ACCEPTED | time);
        b.handle(Time(0), ProcessInput::Accepted { connection: there }, &mut Vec::new());
        received(&mut b, there, &hello);
        let mut out = Vec::new();
        b.refuse(there, &refusal, &mut out);
        let heard = received(&mut a, here, &bytes_of(&out));
        for out in [&out, &heard] {
            let mut notices = out.iter().filter_map(|effect| match effect {
                ProcessEffect::Notice(notice) => Some(&notice.text),
                _ => None,
            });
            let text = notices.next();
            assert_eq!(text.is_some(), time == 0, "{out:?}");
            let says = ["versions 7 to 9", "upgrade"];
            assert!(text.is_none_or(|it| says.iter().all(|part| it.contains(part))), "{text:?}");
        }
    }
}

#[test]
fn rubbish_and_silence_end_a_connection_and_nothing_else() {
    let mut b = sockets(B);
    let rubbish = ConnectionId(ACCEPTED | 1);
    b.handle(Time(0), ProcessInput::Accepted { connection: rubbish }, &mut Vec::new());
    let out = received(&mut b, rubbish, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(out, [ProcessEffect::Close { connection: rubbish }]);
    assert!(matches!(b.next_heard(), Some(Heard::Down { gone: false, .. })));
    let silent = ConnectionId(ACCEPTED | 2);
    b.handle(Time(0), ProcessInput::Accepted { connection: silent }, &mut Vec::new());
    assert_eq!(b.next_timeout(), Some(Time(0) + HANDSHAKE_TIMEOUT));
    let mut out = Vec::new();
    b.handle_timeout(Time(0) + HANDSHAKE_TIMEOUT, &mut out);
    assert_eq!(out, [ProcessEffect::Close { connection: silent }]);
    assert_eq!((b.next_timeout(), b.turned_away()), (None, 2));
}

#[test]
fn strangers_are_only_so_many() {
    let mut b = sockets(B);
    for number in 0..=STRANGERS_MAX as u64 {
        let connection = ConnectionId(ACCEPTED | number);
        let mut out = Vec::new();
        b.handle(Time(0), ProcessInput::Accepted { connection }, &mut out);
        let is_last = number == STRANGERS_MAX as u64;
        assert_eq!(out.contains(&ProcessEffect::Close { connection }), is_last);
        assert_eq!(b.turned_away(), u64::from(is_last));
    }
}

#[test]
fn a_peer_that_stays_silent_is_asked_and_then_dialled_anew() {
    let (mut a, mut control) = (sockets(A), Control::default());
    control.know(B, &address());
    let request = RequestId { client: 1, number: 1 };
    let message = ControlMessage::Request { id: request, request: Request::Apps };
    let mut out = Vec::new();
    control.send(Time(0), B, &message, &mut a, &mut out);
    let ProcessEffect::Dial { connection, .. } = out[0] else { panic!("it dials: {out:?}") };
    out.clear();
    control.dialed(Time(0), (connection, B), &mut out);
    assert!(!bytes_of(&out).is_empty(), "what waited is sent");
    out.clear();
    let mut now = Time(0);
    let mut pings = 0;
    while let Some(at) = control.next_timeout() {
        assert!(at > now, "time goes on");
        now = at;
        control.handle_timeout(now, &mut a, &mut out);
        pings += bytes_of(&out).len().min(1);
        out.clear();
    }
    assert_eq!(now, Time(0) + SILENCE_MAX);
    assert!(pings >= 2 && now > Time(0) + PING_INTERVAL);
    // At once it would be the same again.
    control.send(now, B, &message, &mut a, &mut out);
    assert_eq!(out, vec![]);
    control.send(now + Duration::from_secs(1), B, &message, &mut a, &mut out);
    assert!(matches!(out[..], [ProcessEffect::Dial { .. }]), "{out:?}");
}

#[test]
fn a_peer_is_answered_where_it_was_heard_last() {
    let (mut a, mut control) = (sockets(A), Control::default());
    let [newer, older] = [ConnectionId(ACCEPTED | 2), ConnectionId(ACCEPTED | 1)];
    // The hello over the older one was held up.
    control.welcomed(Time(0), newer, B);
    control.welcomed(Time(0), older, B);
    let mut ping = Vec::new();
    encode_entry(kind::PING, &(), &mut ping).expect("short");
    let mut out = Vec::new();
    assert!(control.received(Time(1), (newer, &ping), &mut a, (&mut Vec::new(), &mut out)));
    control.down(Time(2), older);
    out.clear();
    let request = RequestId { client: 1, number: 1 };
    let message = ControlMessage::Request { id: request, request: Request::Apps };
    control.send(Time(3), B, &message, &mut a, &mut out);
    assert!(
        matches!(out[..], [ProcessEffect::Write { connection, .. }] if connection == newer),
        "{out:?}"
    );
}
