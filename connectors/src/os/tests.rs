use super::*;

fn text(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

fn write(path: &str, offset: u64, bytes: &[u8]) -> IoRequest {
    IoRequest::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
}

#[test]
fn requests_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (text(folder.path(), "x/.staged/a"), text(folder.path(), "x/.staged/b"));
    let to = text(folder.path(), "x/visible");
    let mut io = IoPerformer::default();
    io.perform(&write(&a, 0, b"gone")).unwrap();
    io.perform(&write(&a, 0, b"one\n")).unwrap();
    io.perform(&write(&a, 4, b"two\n")).unwrap();
    io.perform(&IoRequest::Sync { path: a.clone() }).unwrap();
    let short = io.perform(&write(&a, 100, b"x")).unwrap_err();
    assert_eq!(short.kind, IoErrorKind::Damaged);

    let copy = |crc| IoRequest::CopyPrefix { from: a.clone(), to: b.clone(), len: 4, crc };
    assert_eq!(perform(&copy(1)).unwrap_err().kind, IoErrorKind::Damaged);
    io.perform(&copy(crc32c::crc32c(b"one\n"))).unwrap();
    io.perform(&write(&b, 4, b"three\n")).unwrap();
    let publish = IoRequest::Publish { from: b.clone(), to: to.clone() };
    io.perform(&publish).unwrap();
    io.perform(&publish).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"one\nthree\n");
    assert!(!Path::new(&b).exists());

    // Killed between the link and the removal.
    fs::hard_link(&to, &b).unwrap();
    io.perform(&publish).unwrap();
    assert!(!Path::new(&b).exists());

    let clash = IoRequest::Publish { from: a.clone(), to: to.clone() };
    assert!(io.perform(&clash).unwrap_err().reason.contains("move it away"));
    assert_eq!(fs::read(&to).unwrap(), b"one\nthree\n");
    io.perform(&IoRequest::Remove { path: a.clone() }).unwrap();
    io.perform(&IoRequest::Remove { path: a.clone() }).unwrap();
    let missing = IoRequest::Publish { from: a, to: text(folder.path(), "none") };
    assert_eq!(io.perform(&missing).unwrap_err().kind, IoErrorKind::NotFound);
}

#[test]
fn lists_files_folders_and_globs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b/2.txt", "b/1.txt", "a.txt", ".hidden"] {
        perform(&write(&text(folder.path(), name), 0, name.as_bytes())).unwrap();
    }
    let mut files = OsFiles::default();
    let mut names = |pattern: &str| -> Result<Vec<String>, IoError> {
        let found = files.list(&text(folder.path(), pattern))?;
        let root = text(folder.path(), "");
        Ok(found.iter().map(|it| it.path.strip_prefix(&root).unwrap().to_owned()).collect())
    };
    assert_eq!(names("").unwrap(), [".hidden", "a.txt", "b/1.txt", "b/2.txt"]);
    assert_eq!(names("a.txt").unwrap(), ["a.txt"]);
    assert_eq!(names("*/1*").unwrap(), ["b/1.txt"]);
    assert_eq!(names("**/*.txt").unwrap(), ["a.txt", "b/1.txt", "b/2.txt"]);
    assert_eq!(names("c").unwrap_err().kind, IoErrorKind::NotFound);
    assert_eq!(names("*.csv").unwrap_err().kind, IoErrorKind::NotFound);
}

#[test]
fn a_relative_path_that_is_not_there_is_named_with_where_it_begins() {
    let here = std::env::current_dir().unwrap().display().to_string();
    let mut files = OsFiles::default();
    for pattern in ["none.txt", "none-*.txt"] {
        let reason = files.list(pattern).unwrap_err().reason;
        assert!(reason.contains(&here), "{reason}");
    }
    let reason = files.list("/none/none.txt").unwrap_err().reason;
    assert!(!reason.contains(&here), "{reason}");
}

#[test]
fn a_replaced_file_is_another_and_a_grown_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (text(folder.path(), "log"), text(folder.path(), "new"));
    perform(&write(&path, 0, b"abc")).unwrap();
    let mut files = OsFiles::default();
    let before = files.stat(&path).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(files.read_at(&path, 1, &mut buffer).unwrap(), 2);
    perform(&write(&path, 3, b"def")).unwrap();
    assert_eq!(files.stat(&path).unwrap(), FileInfo { len: 6, ..before.clone() });
    perform(&write(&other, 0, b"123")).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(files.read_at(&path, 4, &mut buffer).unwrap(), 2, "the old file is still open");
    files.open.forget(&path);
    assert_eq!(files.read_at(&path, 0, &mut buffer).unwrap_err().kind, IoErrorKind::NotFound);
    assert_ne!(files.stat(&path).unwrap().identity, before.identity);
    assert_eq!(files.read_at(&path, 0, &mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"123");
}

#[test]
fn few_files_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = OsFiles::default();
    for number in 0..3 * OPEN_FILES_MAX {
        let path = text(folder.path(), &number.to_string());
        perform(&write(&path, 0, &[number as u8])).unwrap();
        let mut byte = [0];
        assert_eq!(files.read_at(&path, 0, &mut byte).unwrap(), 1);
        assert_eq!(byte, [number as u8]);
    }
    assert_eq!(files.open.files.len(), OPEN_FILES_MAX);
}
