//! Every line exactly once: for any content, any split and any stop.

use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, IoRequest};
use gear_core::message::Partition;
use gear_core::time::{Time, WallTime};
use proptest::prelude::*;

use super::{CHUNK_BYTES, FilesSource, UNAVAILABLE_MAX, bytes_source, source};
use crate::model::ModelDisk;
use crate::random::SplitMix;

const PATH: &str = "in/a#b.txt";

/// A line or what was put aside, with its position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Line(Vec<u8>),
    Bad(String),
}

fn line(text: &str) -> Read {
    Read::Line(text.as_bytes().to_vec())
}

fn new(names: Vec<String>) -> Vec<Partition> {
    names.into_iter().map(|name| Partition { name, position: None, done: false }).collect()
}

fn cx(disk: &mut dyn Files) -> SourceContext<'_> {
    SourceContext { now: Time::ZERO, wall: WallTime(0), files: disk }
}

/// Reads until there is nothing, or as many.
fn read<S: Source>(
    source: &mut S,
    disk: &mut ModelDisk,
    limit: usize,
    bytes: impl for<'a> Fn(<S::Out as gear_core::api::Record>::View<'a>) -> Vec<u8>,
) -> Result<Vec<Read>, String> {
    let mut out = Vec::new();
    while out.len() < limit {
        match source.advance(&mut cx(disk))? {
            Advance::Record => out.push(Read::Line(bytes(source.current().1))),
            Advance::Malformed { position, .. } => out.push(Read::Bad(position)),
            Advance::NewPartition(_) | Advance::PartitionEnd(_) => {}
            Advance::Wait(_) | Advance::End => break,
        }
    }
    Ok(out)
}

fn text(view: &str) -> Vec<u8> {
    view.as_bytes().to_vec()
}

/// What the reader should give of a file, written again in the plainest way.
fn expected(content: &[u8], line_bytes_max: usize) -> Vec<Read> {
    let mut at = 0;
    let mut out = Vec::new();
    for whole in content.split_inclusive(|byte| *byte == b'\n') {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let good = line.len() <= line_bytes_max && str::from_utf8(line).is_ok();
        out.push(if good { Read::Line(line.to_vec()) } else { Read::Bad(format!("{PATH}:{at}")) });
        at += whole.len();
    }
    out
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just(b"\n".to_vec()),
        6 => "[a-zé ]{0,12}".prop_map(String::into_bytes),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(vec![0xff]),
        1 => Just("日本".as_bytes()[..4].to_vec()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn split_source(split: u64, longest: usize) -> FilesSource {
    source([PATH]).split_bytes(split).line_bytes_max(longest)
}

/// A disk that is out of reach now and then.
struct ComesAndGoes(ModelDisk, SplitMix);

impl ComesAndGoes {
    fn answers(&mut self, path: &str) -> Result<(), IoError> {
        if self.1.below(3) > 0 {
            return Ok(());
        }
        let (path, reason) = (path.to_owned(), "nobody answers".to_owned());
        Err(IoError { path, reason, kind: IoErrorKind::Unavailable })
    }
}

impl Files for ComesAndGoes {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        self.0.list(pattern)
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        self.answers(path)?;
        self.0.stat(path)
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.answers(path)?;
        // A piece at a time, as it comes over a network.
        let len = buffer.len().min(1 + self.1.below(20) as usize);
        self.0.read_at(path, offset, &mut buffer[..len])
    }
}

proptest! {
    #[test]
    fn every_line_once_though_the_files_come_and_go(
        content in content(), split in 1_u64..60, longest in 0_usize..20, stop in 0_usize..40,
        seed: u64,
    ) {
        let mut disk = ComesAndGoes(ModelDisk::new(0), SplitMix(seed));
        disk.0.put(PATH, content.clone());
        let connector = split_source(split, longest);
        let mut positions = new(connector.partitions(&mut disk).unwrap());
        let mut found = Vec::new();
        for limit in [stop, usize::MAX] {
            let mut source = connector.source();
            source.open(&positions, &mut cx(&mut disk)).unwrap();
            while found.len() < limit {
                match source.advance(&mut cx(&mut disk)).unwrap() {
                    Advance::Record => found.push(Read::Line(text(source.current().1))),
                    Advance::Malformed { position, .. } => found.push(Read::Bad(position)),
                    Advance::PartitionEnd(_) | Advance::NewPartition(_) | Advance::Wait(_) => {}
                    Advance::End => break,
                }
            }
            positions = source.positions();
        }
        found.sort();
        let mut expected = expected(&content, longest);
        expected.sort();
        prop_assert_eq!(found, expected);
        prop_assert!(positions.iter().all(|partition| partition.done));
    }

    #[test]
    fn every_line_once_whatever_the_split(
        content in content(), split in 1_u64..60, longest in 0_usize..20, stop in 0_usize..40,
    ) {
        let mut disk = ModelDisk::new(0);
        disk.put(PATH, content.clone());
        let connector = split_source(split, longest);
        let partitions = new(connector.partitions(&mut disk).unwrap());
        let mut first = connector.source();
        first.open(&partitions, &mut cx(&mut disk)).unwrap();
        let mut found = read(&mut first, &mut disk, stop, text).unwrap();
        // Goes on elsewhere, in the opposite order of the partitions.
        let mut positions = first.positions();
        positions.reverse();
        let mut second = connector.source();
        second.open(&positions, &mut cx(&mut disk)).unwrap();
        found.extend(read(&mut second, &mut disk, usize::MAX, text).unwrap());
        let mut expected = expected(&content, longest);
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
        prop_assert!(second.positions().iter().all(|partition| partition.done));
    }

    #[test]
    fn the_order_is_that_of_the_file(content in content(), split in 1_u64..60) {
        let mut disk = ModelDisk::new(0);
        disk.put(PATH, content.clone());
        let connector = split_source(split, 10_000).bytes();
        let mut source = connector.source();
        let partitions = new(connector.partitions(&mut disk).unwrap());
        source.open(&partitions, &mut cx(&mut disk)).unwrap();
        let found = read(&mut source, &mut disk, usize::MAX, <[u8]>::to_vec).unwrap();
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        let expected: Vec<_> = lines.map(|line| Read::Line(line.to_vec())).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(source.bytes_read() >= content.len() as u64);
    }

    #[test]
    fn what_is_appended_is_followed(pieces in prop::collection::vec("[ab\n]{0,9}", 1..12)) {
        let mut disk = ModelDisk::new(0);
        disk.put(PATH, "");
        let connector = source([PATH]).follow();
        let mut reader = connector.source();
        let partitions = new(connector.partitions(&mut disk).unwrap());
        reader.open(&partitions, &mut cx(&mut disk)).unwrap();
        let mut found = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            disk.append(PATH, piece.as_bytes());
            found.extend(read(&mut reader, &mut disk, usize::MAX, text).unwrap());
            if number % 3 == 2 {
                let positions = reader.positions();
                reader = connector.source();
                reader.open(&positions, &mut cx(&mut disk)).unwrap();
            }
        }
        let all = pieces.concat();
        let whole = all.rfind('\n').map_or("", |last| &all[..=last]);
        prop_assert_eq!(found, expected(whole.as_bytes(), 100));
    }

    #[test]
    fn hostile_positions_are_refused(position: Vec<u8>, name in ".{0,30}") {
        let mut disk = ModelDisk::new(0);
        disk.put(PATH, "some lines\n");
        for name in [name, format!("{PATH}#0-11"), format!("{PATH}#0-")] {
            let bad = Partition { name, position: Some(position.clone()), done: false };
            let refused = source([PATH]).source().open(&[bad], &mut cx(&mut disk));
            prop_assert!(refused.is_err());
        }
    }
}

#[test]
fn long_lines_and_chunks() {
    let mut content = Vec::new();
    for number in 0..40_u8 {
        content.extend(vec![b'a' + number % 26; usize::from(number) * CHUNK_BYTES / 16]);
        content.push(b'\n');
    }
    let mut disk = ModelDisk::new(0);
    disk.put(PATH, content.clone());
    let longest = CHUNK_BYTES + CHUNK_BYTES / 2;
    for split in [1_000_003, u64::MAX] {
        let connector = split_source(split, longest);
        let mut reader = connector.source();
        let partitions = new(connector.partitions(&mut disk).unwrap());
        reader.open(&partitions, &mut cx(&mut disk)).unwrap();
        let found = read(&mut reader, &mut disk, usize::MAX, text).unwrap();
        assert!(found == expected(&content, longest), "split {split}");
    }
}

#[test]
fn a_changed_file_is_an_error_that_says_what_to_do() {
    let connector = bytes_source(["in"]).split_bytes(8);
    let mut disk = ModelDisk::new(0);
    disk.put(PATH, "one\ntwo\nthree\nfour\n");
    assert_eq!(connector.total_bytes(&mut disk), Some(19));
    let names = connector.partitions(&mut disk).unwrap();
    assert_eq!(names, ["in/a#b.txt#0-8", "in/a#b.txt#8-16", "in/a#b.txt#16-19"]);
    let mut reader = connector.source();
    reader.open(&new(names), &mut cx(&mut disk)).unwrap();
    read(&mut reader, &mut disk, 1, <[u8]>::to_vec).unwrap();
    let positions = reader.positions();
    let mut after = |change: &dyn Fn(&mut ModelDisk)| {
        let mut changed = disk.clone();
        change(&mut changed);
        let restart = connector.source().open(&positions, &mut cx(&mut changed));
        let mut going_on = connector.source();
        going_on.open(&positions, &mut cx(&mut disk)).unwrap();
        let running = read(&mut going_on, &mut changed, usize::MAX, <[u8]>::to_vec);
        assert_eq!(running.unwrap_err(), restart.clone().unwrap_err());
        restart.unwrap_err()
    };
    let gone = after(&|disk| disk.remove(PATH));
    assert!(gone.contains("disappeared") && gone.contains("put it back"), "{gone}");
    let shrunk = after(&|disk| disk.truncate(PATH, 6));
    assert!(shrunk.contains("shrank") && shrunk.contains("--fresh"), "{shrunk}");
    let replaced = after(&|disk| disk.put(PATH, "one\ntwo\nthree\nfour\n"));
    assert!(replaced.contains("replaced") && replaced.contains(PATH), "{replaced}");
}

#[test]
fn a_rotated_file_is_followed() {
    let mut disk = ModelDisk::new(0);
    disk.put("log", "a\nb");
    disk.put("other", "x\n");
    let connector = source(["log", "other"]).follow();
    assert!(connector.discovers() && connector.total_bytes(&mut disk).is_none());
    let mut reader = connector.source();
    let partitions = new(connector.partitions(&mut disk).unwrap());
    reader.open(&partitions, &mut cx(&mut disk)).unwrap();
    let mut more = |disk: &mut ModelDisk| {
        let mut found = read(&mut reader, disk, usize::MAX, text).unwrap();
        found.sort();
        found
    };
    assert_eq!(more(&mut disk), [line("a"), line("x")]);
    disk.append("log", b"c\n");
    assert_eq!(more(&mut disk), [line("bc")]);
    disk.remove("log");
    disk.append("other", b"y\n");
    assert_eq!(more(&mut disk), [line("y")]);
    disk.put("log", "new\n");
    assert_eq!(more(&mut disk), []);
    disk.append("log", b"newer\n");
    assert_eq!(more(&mut disk), [line("new"), line("newer")]);
    // What the old file still got is read, also when the new one is longer.
    disk.append("log", b"last\nrest");
    disk.put("log", "a much longer file than the one before\n");
    let longer = line("a much longer file than the one before");
    assert_eq!(more(&mut disk), [longer, line("last"), line("rest")]);
}

#[test]
fn files_that_stay_out_of_reach_fail_the_task_in_the_end() {
    let mut disk = ModelDisk::new(0);
    disk.put(PATH, *b"a\nb\n");
    let connector = source([PATH]);
    let partitions = new(connector.partitions(&mut disk).unwrap());
    disk.set_available(false);
    let mut source = connector.source();
    source.open(&partitions, &mut cx(&mut disk)).unwrap();
    let mut now = Time::ZERO;
    let reason = loop {
        let mut cx = SourceContext { now, wall: WallTime(0), files: &mut disk };
        match source.advance(&mut cx) {
            Ok(Advance::Wait(at)) => now = at,
            Ok(other) => panic!("{other:?}"),
            Err(reason) => break reason,
        }
    };
    assert!(reason.contains("nobody answers; start again when it can be read"), "{reason}");
    assert!(now.since(Time::ZERO) >= UNAVAILABLE_MAX);
    // A position that was written before any file was seen is one from which to begin.
    disk.set_available(true);
    source.open(&source.positions(), &mut cx(&mut disk)).unwrap();
    assert_eq!(read(&mut source, &mut disk, 9, text).unwrap(), [line("a"), line("b")]);
}

#[test]
fn a_file_that_is_still_written_to_is_refused_and_can_be_followed() {
    let mut disk = ModelDisk::hdfs(0);
    let write = |offset, bytes: &[u8]| IoRequest::Write {
        path: PATH.to_owned(),
        offset,
        bytes: bytes.to_vec(),
    };
    disk.perform(&write(0, b"a\nb\n")).unwrap();
    disk.perform(&IoRequest::Sync { path: PATH.to_owned() }).unwrap();
    for split in [2, 100] {
        let whole = split_source(split, 100);
        let mut reader = whole.source();
        let partitions = new(whole.partitions(&mut disk).unwrap());
        reader.open(&partitions, &mut cx(&mut disk)).unwrap();
        let refused = read(&mut reader, &mut disk, 9, text).unwrap_err();
        assert!(
            refused.contains("up to byte 0 only") && refused.contains("follow it"),
            "{refused}"
        );
    }
    let followed = source([PATH]).follow();
    let mut reader = followed.source();
    reader.open(&new(followed.partitions(&mut disk).unwrap()), &mut cx(&mut disk)).unwrap();
    assert!(read(&mut reader, &mut disk, 9, text).unwrap().is_empty());
    let to = format!("{PATH}.closed");
    disk.perform(&IoRequest::Publish { from: PATH.to_owned(), to: to.clone() }).unwrap();
    disk.rename(&to, PATH);
    assert_eq!(read(&mut reader, &mut disk, 9, text).unwrap(), [line("a"), line("b")]);
}
