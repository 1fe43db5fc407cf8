//! How a datagram is sealed, so that only nodes of the cluster are heard, and each only once.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a datagram begins with: what it is, and its version.
const MAGIC: [u8; 4] = *b"GRg1";
/// Bytes of the sender, its life and the datagram's number.
const HEAD_BYTES: usize = MAGIC.len() + 3 * 8;
/// Bytes of the code at the end.
const CODE_BYTES: usize = 32;
/// Bytes that a seal adds.
pub(super) const SEAL_BYTES: usize = HEAD_BYTES + CODE_BYTES;
/// Senders that are remembered: more than any cluster has nodes. Only who knows the key is.
const SENDERS_MAX: usize = 10_000;
/// Numbers behind the highest that may still come, since datagrams overtake each other.
const WINDOW: u64 = 64;

/// Seals datagrams, and opens those of others.
#[derive(Clone)]
pub(super) struct Sealer {
    key: [u8; 32],
    sender: u64,
    life: u64,
    number: u64,
    heard: BTreeMap<u64, Heard>,
}

/// What has come from a sender. Clocks may be hours apart, so order is by number alone.
#[derive(Clone, Copy)]
struct Heard {
    life: u64,
    highest: u64,
    /// Which of the numbers before the highest have come: bit 0 is the one just before it.
    before: u64,
}

impl Sealer {
    /// Of a sender's life, which has to be higher than any earlier one.
    pub(super) fn new(key: [u8; 32], sender: u64, life: u64) -> Self {
        Self { key, sender, life, number: 0, heard: BTreeMap::new() }
    }

    fn code(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut code =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("it takes keys of any length");
        code.update(bytes);
        code
    }

    /// A datagram with this content.
    pub(super) fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        self.number += 1;
        let mut sealed = Vec::with_capacity(content.len() + SEAL_BYTES);
        sealed.extend_from_slice(&MAGIC);
        for number in [self.sender, self.life, self.number] {
            sealed.extend_from_slice(&number.to_le_bytes());
        }
        sealed.extend_from_slice(content);
        let code = self.code(&sealed).finalize().into_bytes();
        sealed.extend_from_slice(&code);
        sealed
    }

    /// The content of a datagram; none if it is not one of the cluster's, or has come before.
    pub(super) fn open<'a>(&mut self, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let code_at = sealed.len().checked_sub(CODE_BYTES)?;
        let (signed, code) = sealed.split_at(code_at);
        if signed.len() < HEAD_BYTES || !signed.starts_with(&MAGIC) {
            return None;
        }
        // In constant time.
        self.code(signed).verify_slice(code).ok()?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&signed[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let at = MAGIC.len();
        self.note(number(at), number(at + 8), number(at + 16)).then_some(&signed[HEAD_BYTES..])
    }

    /// False if it has come before, or is too old to know.
    fn note(&mut self, sender: u64, life: u64, number: u64) -> bool {
        if self.heard.len() >= SENDERS_MAX && !self.heard.contains_key(&sender) {
            return false;
        }
        let first = Heard { life, highest: number, before: 0 };
        let Some(heard) = self.heard.get_mut(&sender) else {
            self.heard.insert(sender, first);
            return true;
        };
        if life != heard.life {
            let is_later = life > heard.life;
            if is_later {
                *heard = first;
            }
            return is_later;
        }
        if number > heard.highest {
            let ahead = number - heard.highest;
            let shifted = heard.before.checked_shl(u32::try_from(ahead).unwrap_or(u32::MAX));
            let mark = if ahead <= WINDOW { 1 << (ahead - 1) } else { 0 };
            heard.before = shifted.unwrap_or(0) | mark;
            heard.highest = number;
            return true;
        }
        let behind = heard.highest - number;
        if behind == 0 || behind > WINDOW {
            return false;
        }
        let bit = 1 << (behind - 1);
        let is_new = heard.before & bit == 0;
        heard.before |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two() -> (Sealer, Sealer) {
        (Sealer::new([1; 32], 1, 1), Sealer::new([1; 32], 2, 1))
    }

    #[test]
    fn a_datagram_is_heard_once_and_in_any_order_within_the_window() {
        let (mut here, mut there) = two();
        let sealed: Vec<_> = (0..200_u8).map(|number| here.seal(&[number])).collect();
        for number in [10, 0, 9, 5, 80, 60, 199] {
            let open = there.open(&sealed[number]);
            assert_eq!(open, Some(&[number as u8][..]), "{number}");
            assert_eq!(there.open(&sealed[number]), None, "{number} again");
        }
        assert!(there.open(&sealed[100]).is_none(), "it is too old to know");
        assert!(there.open(&sealed[136]).is_some());
    }

    #[test]
    fn an_earlier_life_and_another_key_are_not_heard() {
        let (mut here, mut there) = two();
        let old = here.seal(b"old");
        let mut reborn = Sealer::new([1; 32], 1, 2);
        let new = reborn.seal(b"new");
        assert!(there.open(&new).is_some());
        assert!(there.open(&old).is_none());
        let mut outsider = Sealer::new([2; 32], 3, 1);
        assert!(there.open(&outsider.seal(b"let me in")).is_none());
    }

    proptest! {
        #[test]
        fn nothing_but_what_was_sealed_opens(
            content in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut here, mut there) = two();
            let sealed = here.seal(&content);
            prop_assert!(there.open(&sealed[..cut.index(sealed.len())]).is_none());
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= with.max(1);
            prop_assert!(there.open(&changed).is_none());
            prop_assert_eq!(there.open(&sealed), Some(content.as_slice()));
        }
    }
}
