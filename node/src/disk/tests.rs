use std::fs;

use gear_net::Disk as _;
use tempfile::TempDir;

use super::*;

fn request(entries: &[(&str, Option<&str>)]) -> DiskRequest {
    let entry = |(name, value): &(&str, Option<&str>)| {
        ((*name).to_owned(), value.map(|value| value.as_bytes().to_vec()))
    };
    DiskRequest::Write { entries: entries.iter().map(entry).collect() }
}

fn loaded(entries: &[(&str, &str)]) -> DiskReply {
    let entry = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    DiskReply::Loaded { entries: entries.iter().map(entry).collect() }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopening() {
    let folder = TempDir::new().expect("there is a folder");
    let path = folder.path().join("masters.redb");
    let mut disk = NodeDisk::open(&path).expect("it can be made");
    assert_eq!(disk.perform(DiskRequest::Load).await, loaded(&[]));
    let written = request(&[("b", Some("2")), ("a", Some("1")), ("c", Some("3"))]);
    assert_eq!(disk.perform(written).await, DiskReply::Written);
    assert_eq!(disk.perform(request(&[("c", None), ("a", Some("4"))])).await, DiskReply::Written);
    assert!(matches!(NodeDisk::open(&path), Err(DiskError::InUse { .. })));
    drop(disk);
    let mut disk = NodeDisk::open(&path).expect("it can be opened");
    assert_eq!(disk.perform(DiskRequest::Load).await, loaded(&[("a", "4"), ("b", "2")]));
}

#[tokio::test]
async fn the_first_write_is_answered_after_what_belongs_to_it() {
    let folder = TempDir::new().expect("there is a folder");
    let path = folder.path().join("masters.redb");
    let mark = folder.path().join("formed");
    let marked = mark.clone();
    let disk = NodeDisk::open(&path).expect("it can be made");
    let mut disk = disk.on_first_write(move || fs::write(marked, "yes"));
    disk.perform(DiskRequest::Load).await;
    assert!(!mark.exists());
    assert_eq!(disk.perform(request(&[("a", Some("1"))])).await, DiskReply::Written);
    assert!(mark.exists());
}

#[tokio::test]
async fn nothing_takes_effect_after_a_failure() {
    let folder = TempDir::new().expect("there is a folder");
    let path = folder.path().join("masters.redb");
    let disk = NodeDisk::open(&path).expect("it can be made");
    let mut disk = disk.on_first_write(|| Err(io::Error::other("the disk is full")));
    for _ in 0..2 {
        let DiskReply::Failed { reason } = disk.perform(request(&[("a", Some("1"))])).await else {
            panic!("it takes no write");
        };
        assert!(reason.contains("the disk is full") && reason.contains("masters.redb"), "{reason}");
    }
}

#[test]
fn a_file_that_has_changed_is_refused_by_name() {
    let folder = TempDir::new().expect("there is a folder");
    let path = folder.path().join("masters.redb");
    let disk = NodeDisk::open(&path).expect("it can be made");
    let value = vec![b'x'; 20_000];
    write(&disk.database, vec![("name".into(), Some(value.clone()))]).expect("it can be written");
    drop(disk);
    let intact = fs::read(&path).expect("it can be read");
    let place = intact.windows(100).position(|part| part == &value[..100]).expect("it is there");
    let mut damaged = intact.clone();
    damaged[place + 50] ^= 1;
    let mut cut = intact.clone();
    cut.truncate(intact.len() / 3);
    for (what, content) in [("damaged", damaged), ("cut", cut), ("text", b"no store".to_vec())] {
        fs::write(&path, content).expect("it can be written");
        let Err(error) = NodeDisk::open(&path) else { panic!("{what}: it was believed") };
        assert!(matches!(error, DiskError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("masters.redb"), "{what}: {error}");
    }
    fs::write(&path, intact).expect("it can be written");
    NodeDisk::open(&path).expect("the intact copy is taken");
}
