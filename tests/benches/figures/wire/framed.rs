//! Two bare processes that keep to the protocol of links: frames with a number and a checksum, kept
//! until they are acknowledged, in a window. What they carry less than raw TCP is the protocol's,
//! and what Gear carries less than they do is Gear's.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};

use gear_core::id::{Attempt, ChannelId, Epoch};
use gear_core::limits::{ACKNOWLEDGE_BYTES, BATCH_BYTES, CHANNEL_WINDOW_BYTES};
use gear_core::wire::frame::{Announced, FrameHeader, FrameKind, HEADER_BYTES, encode_header};

use super::raw::{self, RECORD};
use super::{launch, rate, records, used};
use crate::jobs::Watch;

/// Reads and parses what another process sends.
pub(crate) fn receive() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut child, mut output) = launch(&["framed", &address]);
    let (stream, _) = listener.accept().unwrap();
    let watch = Watch::start();
    parse(stream);
    let took = watch.seconds();
    child.wait().unwrap();
    rate(took, &[took, used(&mut output)])
}

/// Reads each frame into the place where it is parsed, and the head of the next one with it.
fn parse(mut stream: TcpStream) {
    let mut payload = vec![0; BATCH_BYTES + RECORD];
    let mut head = [0; HEADER_BYTES];
    let (mut frames, mut parsed, mut sum, all) = (0, 0, 0_u64, records());
    let (mut ahead, mut owed) = (0, 0);
    while parsed < all {
        stream.read_exact(&mut head[ahead..]).unwrap();
        let mut announced = Announced::decode(&head).unwrap();
        let (len, mut held) = (announced.len(), 0);
        ahead = 0;
        while held < len {
            let parts = &mut [IoSliceMut::new(&mut payload[held..len]), IoSliceMut::new(&mut head)];
            let count = stream.read_vectored(parts).unwrap();
            assert!(count > 0, "records are missing");
            let part = count.min(len - held);
            announced.append(&payload[held..held + part]);
            (held, ahead) = (held + part, count - part);
        }
        let (header, _) = announced.finish().unwrap();
        frames += 1;
        assert_eq!(header.number, frames);
        for record in payload[..len].chunks_exact(RECORD) {
            sum = sum.wrapping_add(raw::number(record));
            parsed += 1;
        }
        owed += len;
        if owed >= ACKNOWLEDGE_BYTES {
            owed = 0;
            stream.write_all(&frames.to_le_bytes()).unwrap();
        }
    }
    assert_eq!(sum, all * (all - 1) / 2);
}

/// Fills and sends all records.
pub(crate) fn send(to: &str) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut kept, mut spare) = (VecDeque::new(), Vec::new());
    let (mut filled, mut number, mut acknowledged, all) = (0, 0, 0, records());
    let mut in_flight = 0;
    let mut body = [7; RECORD - 1];
    while filled < all {
        let mut payload: Vec<u8> = spare.pop().unwrap_or_default();
        payload.clear();
        payload.reserve(BATCH_BYTES + RECORD);
        let before = filled;
        while payload.len() < BATCH_BYTES && filled < all {
            raw::append(&mut payload, &mut body, filled);
            filled += 1;
        }
        number += 1;
        let header = FrameHeader {
            kind: FrameKind::Batch,
            timed: false,
            channel: ChannelId::default(),
            attempt: Attempt(1),
            number,
            epoch: Epoch(1),
            count: (filled - before) as u32,
        };
        let (head, _) = encode_header(&header, &payload).unwrap();
        write(&mut stream, &head, &payload);
        in_flight += payload.len();
        kept.push_back(payload);
        while in_flight >= CHANNEL_WINDOW_BYTES {
            let mut arrived = [0; 8];
            stream.read_exact(&mut arrived).unwrap();
            let arrived = u64::from_le_bytes(arrived);
            for payload in kept.drain(..(arrived - acknowledged) as usize) {
                in_flight -= payload.len();
                spare.push(payload);
            }
            acknowledged = arrived;
        }
    }
    // What is not read yet is lost if this end goes first.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn write(stream: &mut TcpStream, head: &[u8], payload: &[u8]) {
    let parts = &mut [IoSlice::new(head), IoSlice::new(payload)];
    let mut parts = parts.as_mut_slice();
    while !parts.is_empty() {
        let count = stream.write_vectored(parts).unwrap();
        IoSlice::advance_slices(&mut parts, count);
    }
}
