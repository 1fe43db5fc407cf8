//! What went over a channel in an epoch, counted and hashed on both sides.

use alloc::vec::Vec;

/// Bytes that a barrier's frame carries behind the barrier.
pub const AUDIT_BYTES: usize = 24;

/// Figures of the frames since the barrier before; the barriers themselves do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Hash of each frame's number and checksum, in their order.
    pub hash: u64,
}

/// An odd number whose bits look drawn: what a product with it brings to the top depends on all
/// that was below.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Audit {
    /// Counts a frame.
    pub const fn add(&mut self, number: u64, crc: u32, records: u32) {
        self.frames += 1;
        self.records += records as u64;
        let hash = (self.hash.rotate_left(23) ^ number).wrapping_mul(SPREAD);
        self.hash = (hash.rotate_left(23) ^ crc as u64).wrapping_mul(SPREAD);
    }

    /// Appends the figures.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for figure in [self.frames, self.records, self.hash] {
            out.extend_from_slice(&figure.to_le_bytes());
        }
    }

    /// Takes the figures from the end of a payload; none if it is too short.
    pub fn split_from(payload: &mut Vec<u8>) -> Option<Self> {
        let at = payload.len().checked_sub(AUDIT_BYTES)?;
        let mut figures = payload[at..].chunks_exact(8).map(|bytes| {
            let mut figure = [0; 8];
            figure.copy_from_slice(bytes);
            u64::from_le_bytes(figure)
        });
        let audit =
            Self { frames: figures.next()?, records: figures.next()?, hash: figures.next()? };
        payload.truncate(at);
        Some(audit)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn of(frames: &[(u64, u32)]) -> Audit {
        let mut audit = Audit::default();
        frames.iter().for_each(|(number, crc)| audit.add(*number, *crc, 10));
        audit
    }

    #[test]
    fn what_is_lost_doubled_swapped_or_changed_shows() {
        let whole = of(&[(1, 7), (2, 8), (3, 7)]);
        assert_eq!((whole.frames, whole.records), (3, 30));
        let others = [
            of(&[(1, 7), (3, 7)]),
            of(&[(1, 7), (2, 8), (2, 8), (3, 7)]),
            of(&[(2, 8), (1, 7), (3, 7)]),
            of(&[(1, 7), (2, 9), (3, 7)]),
            of(&[(1, 7), (2, 8), (4, 7)]),
        ];
        others.iter().for_each(|other| assert_ne!(other.hash, whole.hash));
    }

    #[test]
    fn figures_come_back_from_behind_a_payload() {
        let audit = of(&[(1, 7), (2, 8)]);
        let mut payload = vec![1, 2, 3];
        audit.encode(&mut payload);
        assert_eq!(payload.len(), 3 + AUDIT_BYTES);
        assert_eq!(Audit::split_from(&mut payload), Some(audit));
        assert_eq!(payload, [1, 2, 3]);
        assert_eq!(Audit::split_from(&mut payload), None);
    }
}
