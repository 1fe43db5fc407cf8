//! A connection: two ends, and a pipe of bytes each way.

use std::collections::VecDeque;

use gear_core::id::ConnectionId;
use gear_core::time::Time;

use crate::random::Random;

/// Which end of a connection: 0 has dialled, 1 has accepted.
pub(crate) type Side = usize;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The ends.
    pub(crate) ends: [End; 2],
    /// The pipe that leads away from each end.
    pub(crate) pipes: [Pipe; 2],
    /// Where the dialler wanted to.
    pub(crate) to: usize,
    /// The other end has accepted.
    pub(crate) accepted: bool,
    /// The dialler has heard that it has.
    pub(crate) dialed: bool,
    /// It is broken: nothing that is written arrives, whether an end knows it or not.
    pub(crate) severed: bool,
}

/// An end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// The process; none before it has accepted.
    pub(crate) process: Option<usize>,
    /// Its machine.
    pub(crate) machine: usize,
    /// What the process calls it.
    pub(crate) id: ConnectionId,
    /// The process holds it open.
    pub(crate) open: bool,
    /// Its machine has lost its power, so the other end hears nothing of its end.
    pub(crate) silent: bool,
}

/// What travels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The sender has let go.
    Fin,
}

/// Bytes on their way from one end to the other, in order.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    segments: VecDeque<Segment>,
    /// The number of the first of them.
    first: u64,
    /// When the last of them arrives.
    last_at: Time,
}

impl Pipe {
    /// Something is sent that arrives at this time at the earliest. Gives its number and when it
    /// arrives: never before what was sent before.
    pub(crate) fn push(&mut self, segment: Segment, at: Time) -> (u64, Time) {
        self.segments.push_back(segment);
        self.last_at = self.last_at.max(at);
        (self.first + self.segments.len() as u64 - 1, self.last_at)
    }

    /// Nothing arrives before this time.
    pub(crate) fn not_before(&mut self, at: Time) {
        self.last_at = self.last_at.max(at);
    }

    /// What arrives with a number: all up to it that has not arrived, bytes in one piece if
    /// `together`.
    pub(crate) fn arrive(&mut self, number: u64, together: bool) -> Vec<Segment> {
        let count = (number + 1).saturating_sub(self.first).min(self.segments.len() as u64);
        self.first += count;
        let mut arrived: Vec<Segment> = Vec::new();
        for segment in self.segments.drain(..count as usize) {
            match (arrived.last_mut(), segment) {
                (Some(Segment::Bytes(before)), Segment::Bytes(bytes)) if together => {
                    before.extend_from_slice(&bytes);
                }
                (_, segment) => arrived.push(segment),
            }
        }
        arrived
    }

    /// What is on its way is lost.
    pub(crate) fn cut(&mut self) {
        self.first += self.segments.len() as u64;
        self.segments.clear();
    }

    /// The number of the last segment on its way.
    pub(crate) fn last(&self) -> Option<u64> {
        (!self.segments.is_empty()).then(|| self.first + self.segments.len() as u64 - 1)
    }
}

/// Most pieces of one write.
const PIECES_MAX: u64 = 4;

/// Cuts bytes in pieces, none of them empty.
pub(crate) fn chop(mut bytes: Vec<u8>, random: &mut Random) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for _ in 0..random.below(PIECES_MAX) {
        if bytes.len() < 2 {
            break;
        }
        // Short pieces are those that cut through a length or a checksum.
        let most = if random.permille(500) { bytes.len().min(20) } else { bytes.len() };
        let rest = bytes.split_off(1 + random.place(most - 1));
        pieces.push(std::mem::replace(&mut bytes, rest));
    }
    pieces.push(bytes);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(byte: u8) -> Segment {
        Segment::Bytes(vec![byte])
    }

    #[test]
    fn a_pipe_keeps_its_order_whatever_arrives_first() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.push(bytes(1), Time(9)), (0, Time(9)));
        assert_eq!(pipe.push(bytes(2), Time(5)), (1, Time(9)));
        assert_eq!(pipe.push(Segment::Fin, Time(11)), (2, Time(11)));
        assert_eq!(pipe.arrive(1, true), [Segment::Bytes(vec![1, 2])]);
        assert!(pipe.arrive(0, true).is_empty(), "it has arrived before");
        assert_eq!(pipe.arrive(2, false), [Segment::Fin]);
        assert_eq!(pipe.last(), None);
        pipe.push(bytes(3), Time(12));
        pipe.cut();
        assert!(pipe.arrive(3, false).is_empty());
        assert_eq!(pipe.push(bytes(4), Time(13)).0, 4);
    }

    #[test]
    fn pieces_make_the_whole() {
        let mut cut = false;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let whole: Vec<u8> = (0..random.between(1, 60) as u8).collect();
            let pieces = chop(whole.clone(), &mut random);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            cut |= pieces.len() > 1;
            assert_eq!(pieces.concat(), whole);
        }
        assert!(cut);
    }
}
