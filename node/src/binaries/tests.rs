use tempfile::TempDir;

use super::*;

/// A program for this machine: the test itself.
fn program() -> Vec<u8> {
    fs::read(std::env::current_exe().expect("this is a program")).expect("it can be read")
}

fn binaries(folder: &TempDir) -> Binaries {
    Binaries::open(folder.path().into()).expect("the folder is there")
}

fn take(binaries: &Binaries, content: &[u8]) -> Result<Vec<u8>, BinaryError> {
    let mut upload = binaries.upload()?;
    for part in content.chunks(1_000_000) {
        upload.write(part)?;
    }
    upload.finish()
}

fn files(folder: &TempDir) -> usize {
    fs::read_dir(folder.path()).expect("it is there").count()
}

#[tokio::test]
async fn a_binary_is_kept_under_its_hash_and_read_before_it_is_used() {
    let folder = TempDir::new().expect("there is a folder");
    let binaries = binaries(&folder);
    let content = program();
    let hash = take(&binaries, &content).expect("it is a program");
    let path = binaries.get(&hash).await.expect("it is there");
    assert_eq!(path.file_name().and_then(|it| it.to_str()), Some(Binaries::name(&hash).as_str()));
    let mut damaged = content.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&path, damaged).expect("it can be written");
    let error = binaries.get(&hash).await.expect_err("it is damaged");
    assert!(matches!(error, BinaryError::Damaged { .. }), "{error}");
    let error = binaries.get(&hash).await.expect_err("a damaged one is not kept");
    assert!(matches!(error, BinaryError::Missing { .. }), "{error}");
}

#[test]
fn what_this_machine_cannot_run_is_refused_and_not_kept() {
    let folder = TempDir::new().expect("there is a folder");
    let binaries = binaries(&folder);
    let good = program();
    let cut = &good[..good.len() - 1_000];
    let mut foreign = good.clone();
    foreign[18] = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let mut object = good.clone();
    object[16] = 1;
    let cases: [(&[u8], &str); 6] = [
        (b"#!/bin/sh\necho no\n", "no ELF"),
        (b"", "no ELF"),
        (&good[..20], "truncated"),
        (cut, "truncated"),
        (&foreign, "is built for"),
        (&object, "library"),
    ];
    for (content, says) in cases {
        let error = take(&binaries, content).expect_err(says);
        assert!(error.to_string().contains(says), "{error} does not say {says}");
    }
    assert_eq!(files(&folder), 0);
}

#[test]
fn an_upload_that_was_cut_short_leaves_nothing() {
    let folder = TempDir::new().expect("there is a folder");
    let one = binaries(&folder);
    let mut upload = one.upload().expect("there is room");
    upload.write(b"\x7fELF").expect("there is room");
    drop(upload);
    assert_eq!(files(&folder), 0);
    fs::write(folder.path().join(".upload-9"), "x").expect("it can be written");
    binaries(&folder);
    assert_eq!(files(&folder), 0);
}

struct Elsewhere(Vec<u8>);

#[async_trait]
impl BinarySource for Elsewhere {
    async fn fetch(&self, _: &str, into: &mut Upload) -> Result<(), String> {
        into.write(&self.0).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_missing_binary_is_fetched_and_another_content_refused() {
    let content = program();
    let hash = Sha256::digest(&content).to_vec();
    let folder = TempDir::new().expect("there is a folder");
    let binaries_here = binaries(&folder);
    binaries_here.set_source(Arc::new(Elsewhere(content.clone())));
    binaries_here.get(&hash).await.expect("it can be fetched");
    let error = binaries_here.get(&[0; 32]).await.expect_err("it is another one");
    assert!(matches!(error, BinaryError::Damaged { .. }), "{error}");
    assert!(binaries_here.get(b"short").await.is_err());
}
