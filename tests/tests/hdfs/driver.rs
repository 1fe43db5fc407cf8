//! What sinks and sources ask for, one request at a time: each trap of HDFS by itself.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use gear_connectors::hdfs::{CALL_MAX_DEFAULT, HdfsFiles, HdfsPerformer};
use gear_core::api::Files as _;
use gear_core::effect::IoErrorKind;

use super::{Frozen, Place, copy, publish, read, remove, sync, tell, write};

pub(crate) fn performer() -> HdfsPerformer {
    HdfsPerformer::new(tell, Default::default())
}

/// Bytes of which no two places look alike.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[test]
fn a_file_is_seen_when_it_is_published_and_publishing_it_again_is_no_error() {
    let Some(place) = Place::new("publish") else { return };
    let (staged, visible) = (place.url("out/.staged/a"), place.url("out/deep/er/a"));
    let content = bytes(1_000_000);
    let mut sink = performer();
    sink.perform(&write(&staged, 0, &content[..600_000])).unwrap();
    sink.perform(&sync(&staged)).unwrap();
    sink.perform(&write(&staged, 600_000, &content[600_000..])).unwrap();
    sink.perform(&sync(&staged)).unwrap();
    sink.perform(&publish(&staged, &visible)).unwrap();
    assert!(read(&visible).unwrap() == content);
    // The answer to the first may have been lost.
    sink.perform(&publish(&staged, &visible)).unwrap();
    performer().perform(&publish(&staged, &visible)).unwrap();
    let missing = sink.perform(&publish(&staged, &place.url("out/b"))).unwrap_err();
    assert_eq!(missing.kind, IoErrorKind::NotFound, "{missing}");
    // Somebody else's file is not replaced.
    sink.perform(&write(&staged, 0, b"other")).unwrap();
    sink.perform(&sync(&staged)).unwrap();
    let exists = sink.perform(&publish(&staged, &visible)).unwrap_err();
    assert!(exists.reason.contains("did not write; move it away"), "{exists}");
    assert!(read(&visible).unwrap() == content);
    sink.perform(&remove(&staged)).unwrap();
    sink.perform(&remove(&staged)).unwrap();
    let written = sink.perform(&write(&staged, 5, b"more")).unwrap_err();
    assert!(written.reason.contains("given up"), "{written}");
}

#[test]
fn a_file_of_a_process_that_is_gone_is_closed_and_keeps_what_was_synced() {
    let Some(place) = Place::new("gone") else { return };
    let (staged, visible) = (place.url(".staged/a"), place.url("a"));
    let (synced, tail) = (bytes(10_000), [b'x'; 500]);
    let mut gone = performer();
    gone.perform(&write(&staged, 0, &synced)).unwrap();
    gone.perform(&sync(&staged)).unwrap();
    gone.perform(&write(&place.url(".staged/b"), 0, &synced)).unwrap();
    gone.perform(&sync(&place.url(".staged/b"))).unwrap();
    gone.perform(&write(&staged, 10_000, &tail)).unwrap();
    // It cannot be read before its lease is recovered, though its length is known.
    assert_eq!(HdfsFiles::new(tell).stat(&staged).unwrap().len, 10_000);
    assert_eq!(read(&staged).unwrap().len(), 0);
    let mut next = performer();
    let mut wrong = synced.clone();
    wrong[5_000] ^= 1;
    let damaged = next.perform(&copy(&staged, &place.url(".staged/c"), &wrong)).unwrap_err();
    assert_eq!(damaged.kind, IoErrorKind::Damaged, "{damaged}");
    next.perform(&copy(&staged, &place.url(".staged/c"), &synced)).unwrap();
    let recovered = read(&staged).unwrap();
    assert!(recovered.starts_with(&synced) && recovered.len() <= 10_500, "{}", recovered.len());
    // The copy goes on where the epoch ended.
    next.perform(&write(&place.url(".staged/c"), 10_000, b"new")).unwrap();
    next.perform(&sync(&place.url(".staged/c"))).unwrap();
    next.perform(&publish(&place.url(".staged/c"), &visible)).unwrap();
    assert!(read(&visible).unwrap() == [&synced[..], b"new"].concat());
    // One that waited for its commit needs no copy.
    next.perform(&publish(&place.url(".staged/b"), &place.url("b"))).unwrap();
    assert!(read(&place.url("b")).unwrap() == synced);
    let none = next.perform(&copy(&place.url("none"), &place.url("d"), &synced)).unwrap_err();
    assert_eq!(none.kind, IoErrorKind::NotFound, "{none}");
    drop(gone);
}

#[test]
fn a_writer_whose_lease_was_taken_hears_of_it_with_its_next_sync() {
    let Some(place) = Place::new("fenced") else { return };
    let (staged, mine) = (place.url(".staged/a"), place.url(".staged/b"));
    let content = bytes(5_000);
    let mut zombie = performer();
    zombie.perform(&write(&staged, 0, &content)).unwrap();
    zombie.perform(&sync(&staged)).unwrap();
    let mut next = performer();
    next.perform(&copy(&staged, &mine, &content)).unwrap();
    // It may be taken for good: it waits in the writer.
    let _ = zombie.perform(&write(&staged, 5_000, b"from the past"));
    let fenced = zombie.perform(&sync(&staged)).unwrap_err();
    assert!(fenced.reason.contains("given up"), "{fenced}");
    next.perform(&publish(&mine, &place.url("a"))).unwrap();
    assert!(read(&place.url("a")).unwrap() == content);
    assert!(!read(&staged).unwrap().ends_with(b"past"));
    // Nor when the file was overwritten or removed.
    zombie.perform(&write(&place.url(".staged/c"), 0, &content)).unwrap();
    next.perform(&remove(&place.url(".staged/c"))).unwrap();
    zombie.perform(&sync(&place.url(".staged/c"))).unwrap_err();
}

#[test]
fn safe_mode_is_waited_out_and_a_quota_is_not() {
    let Some(place) = Place::new("modes") else { return };
    let (staged, visible) = (place.url(".staged/a"), place.url("a"));
    let mut sink = performer();
    sink.perform(&write(&staged, 0, &bytes(1_000))).unwrap();
    sink.perform(&sync(&staged)).unwrap();
    place.hdfs(&["dfsadmin", "-safemode", "enter"]);
    let (done, published) = channel();
    thread::scope(|scope| {
        scope.spawn(|| done.send(sink.perform(&publish(&staged, &visible))));
        let early = published.recv_timeout(Duration::from_secs(2));
        assert!(early.is_err(), "it is in safe mode: {early:?}");
        place.hdfs(&["dfsadmin", "-safemode", "leave"]);
        published.recv().unwrap().unwrap();
    });
    assert_eq!(read(&visible).unwrap().len(), 1_000);
    // Two replicas of a block, as it may come to be.
    place.hdfs(&["dfsadmin", "-setSpaceQuota", "1m", &place.path("")]);
    let full = sink.perform(&write(&place.url(".staged/b"), 0, &bytes(1_000))).unwrap_err();
    assert_eq!(full.kind, IoErrorKind::Full, "{full}");
    assert!(full.reason.contains("quota"), "{full}");
    place.hdfs(&["dfsadmin", "-clrSpaceQuota", &place.path("")]);
    sink.perform(&write(&place.url(".staged/b"), 0, &bytes(1_000))).unwrap();
}

#[test]
fn a_name_node_that_comes_back_costs_time_and_nothing_else() {
    let Some(place) = Place::new("namenode") else { return };
    let (staged, visible) = (place.url(".staged/a"), place.url("a"));
    let content = bytes(300_000);
    let mut sink = performer();
    sink.perform(&write(&staged, 0, &content[..100_000])).unwrap();
    sink.perform(&sync(&staged)).unwrap();
    for (at, name) in [(100_000, "sync"), (200_000, "publish")] {
        sink.perform(&write(&staged, at as u64, &content[at..at + 100_000])).unwrap();
        if name == "publish" {
            sink.perform(&sync(&staged)).unwrap();
        }
        place.kill("namenode");
        thread::scope(|scope| {
            let sink = &mut sink;
            let request = if name == "sync" { sync(&staged) } else { publish(&staged, &visible) };
            let waiting = scope.spawn(move || sink.perform(&request));
            place.start_again("namenode");
            waiting.join().unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
        });
    }
    assert!(read(&visible).unwrap() == content);
}

#[test]
fn a_data_node_that_dies_ends_a_file_in_time_and_what_was_synced_is_there() {
    let Some(place) = Place::new("datanode") else { return };
    let content = bytes(64 * 1_024);
    let mut sink = performer();
    let mut staged = place.url(".staged/a");
    let mut synced = 0;
    let mut copies = 0;
    place.services.pid("datanode1").expect("it runs");
    while synced < 40 * content.len() {
        if synced == 10 * content.len() {
            place.kill("datanode1");
        }
        let wrote = sink.perform(&write(&staged, synced as u64, &content));
        match wrote.and_then(|()| sink.perform(&sync(&staged))) {
            Ok(()) => synced += content.len(),
            // As the task does when it is started again.
            Err(error) => {
                assert_eq!(error.kind, IoErrorKind::Unavailable, "{error}");
                copies += 1;
                let next = place.url(&format!(".staged/{copies}"));
                let known = content.repeat(synced / content.len());
                sink.perform(&copy(&staged, &next, &known)).unwrap();
                staged = next;
            }
        }
    }
    sink.perform(&publish(&staged, &place.url("a"))).unwrap();
    assert!(read(&place.url("a")).unwrap() == content.repeat(40));
    println!("{copies} copies");
    place.start_again("datanode1");
}

#[test]
fn a_writer_that_hangs_is_given_up_in_time_and_what_was_synced_is_there() {
    let Some(place) = Place::new("hangs") else { return };
    let content = bytes(50_000);
    let mut sink = performer();
    sink.perform(&write(&place.url(".staged/a"), 0, &content)).unwrap();
    sink.perform(&sync(&place.url(".staged/a"))).unwrap();
    let frozen = Frozen::new(&place, &["datanode1", "datanode2"]);
    sink.perform(&write(&place.url(".staged/a"), 50_000, b"more")).unwrap();
    let began = Instant::now();
    let hung = sink.perform(&sync(&place.url(".staged/a"))).unwrap_err();
    assert_eq!(hung.kind, IoErrorKind::Unavailable, "{hung}");
    assert!(began.elapsed() < 2 * CALL_MAX_DEFAULT, "{:?}", began.elapsed());
    let after = sink.perform(&write(&place.url(".staged/a"), 50_004, b"more")).unwrap_err();
    assert!(after.reason.contains("given up"), "{after}");
    drop(frozen);
    sink.perform(&copy(&place.url(".staged/a"), &place.url(".staged/b"), &content)).unwrap();
    sink.perform(&publish(&place.url(".staged/b"), &place.url("b"))).unwrap();
    assert!(read(&place.url("b")).unwrap() == content);
}

#[test]
fn folders_and_patterns_are_listed_as_hadoop_lists_them() {
    let Some(place) = Place::new("list") else { return };
    place.put(&[("a.txt", b"a"), ("deep/b.txt", b"bb"), ("deep/c.log", b""), ("_hidden", b"x")]);
    let mut files = HdfsFiles::new(tell);
    let mut names = |pattern: &str| -> Vec<String> {
        let found = files.list(&place.url(pattern)).unwrap_or_else(|error| panic!("{error}"));
        let name =
            |path: String| path.strip_prefix(&place.url("")).expect("it is in it").to_owned();
        found.into_iter().map(|file| name(file.path)).collect()
    };
    assert_eq!(names(""), ["a.txt", "deep/b.txt", "deep/c.log"]);
    assert_eq!(names("deep//"), ["deep/b.txt", "deep/c.log"]);
    assert_eq!(names("*.txt"), ["a.txt"]);
    assert_eq!(names("{a,deep/b}.txt"), ["a.txt", "deep/b.txt"]);
    assert_eq!(names("d??p"), ["deep/b.txt", "deep/c.log"]);
    assert_eq!(names("_hidden"), ["_hidden"]);
    let missing = files.list(&place.url("*.tsv")).unwrap_err();
    assert_eq!(missing.kind, IoErrorKind::NotFound, "{missing}");
    let info = files.stat(&place.url("deep/b.txt")).unwrap();
    assert_eq!((info.len, files.stat(&place.url("deep/b.txt")).unwrap()), (2, info));
    assert_eq!(files.stat(&place.url("none")).unwrap_err().kind, IoErrorKind::NotFound);
    assert_eq!(files.stat(&place.url("deep")).unwrap_err().kind, IoErrorKind::NotFound);
}
