//! Objects of the checkpoint store as snapshots, from which tables are restored.

use gear_core::api::{Key, Ref, State};
use gear_core::flow::state::{SnapshotReader, SnapshotWriter, Table};
use gear_core::id::Epoch;

/// Opens the bytes as they are, and as if their checksum were right.
pub fn run(bytes: &[u8]) {
    open(bytes);
    if let Some((body, _)) = bytes.split_last_chunk::<4>() {
        let mut mended = body.to_vec();
        mended.extend(crc32c::crc32c(body).to_le_bytes());
        open(&mended);
    }
}

fn open(bytes: &[u8]) {
    let reader = match SnapshotReader::open(bytes) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let _ = reader.meta();
    for section in reader.sections() {
        let _ = section.entries();
        restore::<u64, u64>(&reader, section.name);
        restore::<Ref<str>, String>(&reader, section.name);
        restore::<(u8, bool), Vec<u32>>(&reader, section.name);
    }
}

/// What was restored is written and restored again.
fn restore<K: Key, V: State>(reader: &SnapshotReader<'_>, section: &str) {
    for (groups, total) in [(0..4, 4), (1..3, 4), (0..1_024, 1_024)] {
        let mut table = Table::<K, V>::new(groups.clone(), total);
        if table.restore(reader, section).is_err() {
            continue;
        }
        table.restored(Epoch(1));
        let mut count = 0;
        table.for_each(|_, _, _| count += 1);
        assert_eq!(count, table.len());

        table.begin_snapshot(Epoch(2), None);
        let mut writer = SnapshotWriter::default();
        while !table.write_snapshot("again", 16, &mut writer) {}
        let object = writer.finish();
        let again = SnapshotReader::open(&object.bytes).expect("was written");
        let mut copy = Table::<K, V>::new(groups, total);
        copy.restore(&again, "again").expect("was written");
        assert_eq!(copy.len(), table.len());
    }
}
