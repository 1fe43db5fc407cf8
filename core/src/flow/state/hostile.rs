//! Bytes that are no snapshot, or not the one that was written: refused, and never a panic.

use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::api::key::Key;
use crate::id::Epoch;

const GROUPS: u32 = 4;
type Values = Table<String, Vec<u64>>;

fn snapshot() -> Vec<u8> {
    let mut out = SnapshotWriter::default();
    out.set_meta(b"positions and timers");
    for name in ["counts", "sums"] {
        let mut table = Values::new(0..GROUPS, GROUPS);
        let hash = |key: &String| <String as Key>::hash(key, 0);
        for number in 0..40_u64 {
            let key = alloc::format!("a key, the {number}th");
            table.get_or_insert_with(hash(&key), &key, || alloc::vec![number; 3]);
        }
        table.begin_snapshot(Epoch(1), None);
        table.abort_snapshot();
        let key = String::from("a key, the 7th");
        table.remove(hash(&key), &key);
        table.begin_snapshot(Epoch(2), Some(Epoch(1)));
        table.abort_snapshot();
        table.begin_snapshot(Epoch(3), (name == "sums").then_some(Epoch(1)));
        while !table.write_snapshot(name, 10, &mut out) {}
    }
    out.finish().bytes
}

fn restore(bytes: &[u8]) -> Result<usize, SnapshotError> {
    let reader = SnapshotReader::open(bytes)?;
    let mut table = Values::new(0..GROUPS, GROUPS);
    for name in ["counts", "sums", "missing"] {
        table.restore(&reader, name)?;
    }
    Ok(table.len())
}

/// Makes the checksum right again, so that what lies behind it is tried.
fn seal(bytes: &mut [u8]) {
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_le_bytes();
    }
}

#[test]
fn what_was_written_is_read() {
    let bytes = snapshot();
    let reader = SnapshotReader::open(&bytes).expect("it is whole");
    assert_eq!(reader.meta(), b"positions and timers");
    let [counts, sums] = reader.sections() else { panic!("there are two sections") };
    assert_eq!((counts.name, counts.key_type, counts.state_type), ("counts", "str", "[u64]"));
    assert_eq!((counts.epoch, counts.base, counts.entries()), (Epoch(3), None, 39));
    assert_eq!((sums.base, sums.entries()), (Some(Epoch(1)), 1));
    assert_eq!(restore(&bytes), Ok(39));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = snapshot();
    for len in 0..bytes.len() {
        let mut cut = bytes[..len].to_vec();
        restore(&cut).expect_err("its end is missing");
        seal(&mut cut);
        if cut.len() > 4 {
            restore(&cut).expect_err("its end is missing, whatever the checksum");
        }
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let bytes = snapshot();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        restore(&bad).expect_err("a byte has changed");
        // With a right checksum it may be another snapshot, but is read without harm.
        for value in [0, 1, 0x7f, 0xff] {
            bad[at] = value;
            seal(&mut bad);
            let _ = restore(&bad);
        }
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = snapshot();
    bytes[4] = 2;
    seal(&mut bytes);
    let error = restore(&bytes).expect_err("it is of another version");
    assert_eq!(error, SnapshotError::Version { found: 2 });
    assert!(alloc::format!("{error}").contains("format version 2"));
}

#[test]
fn another_type_is_refused_with_what_to_do() {
    let bytes = snapshot();
    let reader = SnapshotReader::open(&bytes).expect("it is whole");
    let mut table = Table::<String, u64>::new(0..GROUPS, GROUPS);
    let error = table.restore(&reader, "counts").expect_err("the state has another type");
    let text = alloc::format!("{error}");
    for part in ["\"counts\"", "[u64]", "the program has u64", "another name"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut table = Table::<u64, Vec<u64>>::new(0..GROUPS, GROUPS);
    assert!(matches!(table.restore(&reader, "sums"), Err(SnapshotError::Type { part: "key", .. })));
    let mut table = Values::new(0..8, 8);
    let error = table.restore(&reader, "sums").expect_err("there are more groups");
    assert!(matches!(error, SnapshotError::Groups { found: 4, expected: 8, .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_without_harm(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        whole: bool,
    ) {
        if whole && bytes.len() > 6 {
            bytes[..6].copy_from_slice(b"GSNP\x01\x00");
            seal(&mut bytes);
        }
        let _ = restore(&bytes);
    }

    #[test]
    fn any_damage_under_a_right_checksum_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = snapshot();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        seal(&mut bytes);
        let _ = restore(&bytes);
    }
}
