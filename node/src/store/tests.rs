use tempfile::TempDir;

use super::*;

fn store(folder: &TempDir) -> CheckpointStore {
    CheckpointStore::open(&CheckpointStore::url_of(folder.path())).expect("it can be opened")
}

#[tokio::test]
async fn a_local_folder_passes_the_probe_twice_and_keeps_nothing_of_it() {
    let folder = TempDir::new().expect("there is a folder");
    let store = store(&folder);
    for _ in 0..2 {
        store.probe("here").await.expect("it does what is needed");
    }
    let left = list(&*store.objects, "probes/").await.expect("it can be listed");
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn a_probe_that_meets_another_is_refused_by_name() {
    let folder = TempDir::new().expect("there is a folder");
    let store = store(&folder);
    put(&*store.objects, "probes/here/object", Blob::from(vec![1]), PutMode::Create).await;
    let error = store.probe("here").await.expect_err("it is taken");
    assert!(error.to_string().contains("an object that nobody made"), "{error}");
}

#[tokio::test]
async fn apps_have_folders_of_their_own() {
    let folder = TempDir::new().expect("there is a folder");
    let store = store(&folder);
    let (one, other) = (store.app("app-1"), store.app("app-2"));
    let create = |bytes: &[u8]| StoreRequest::Create {
        name: "log/1".into(),
        bytes: Blob::from(bytes.to_vec()),
    };
    assert_eq!(perform(&*one, create(b"a")).await, StoreReply::Done);
    assert_eq!(perform(&*other, create(b"b")).await, StoreReply::Done);
    let get = StoreRequest::Get { name: "log/1".into() };
    assert_eq!(perform(&*one, get.clone()).await, StoreReply::Bytes(b"a".to_vec()));
    assert_eq!(perform(&*other, get).await, StoreReply::Bytes(b"b".to_vec()));
    let names = perform(&*one, StoreRequest::List { prefix: "log/".into() }).await;
    assert_eq!(names, StoreReply::Names(vec!["log/1".into()]));
    assert!(folder.path().join("apps/app-2/log/1").exists());
}

#[test]
fn a_page_of_a_server_is_told_by_its_code_and_its_message() {
    let page = "403 Forbidden: <?xml version='1.0'?>\n<Error>\n<Code>SignatureDoesNotMatch</Code>\n\
                <Message>It is\nnot yours.</Message><StringToSign>AWS4</StringToSign></Error>";
    assert_eq!(without_page(page), "403 Forbidden: SignatureDoesNotMatch: It is not yours.");
    assert_eq!(without_page("<Error><Code>Busy"), "");
    assert_eq!(without_page("no page"), "no page");
    let denied = Error::Generic { store: "S3", source: page.into() };
    let denied = describe(&denied);
    assert!(denied.contains("SignatureDoesNotMatch") && denied.contains("the keys"), "{denied}");
    assert!(!denied.contains("StringToSign"), "{denied}");
}

#[test]
fn what_is_no_store_is_refused_with_an_example() {
    for url in ["", "/tmp/x", "file://host/x", "ftp://x/y"] {
        let error = CheckpointStore::open(url).expect_err(url);
        assert!(error.to_string().contains("file:///mnt/gear"), "{error}");
    }
}

#[test]
fn a_url_of_a_cloud_is_checked_before_it_is_opened() {
    for (url, says) in [
        ("s3:///folder", "no bucket"),
        ("gs:bucket", "no bucket"),
        ("s3://key:secret@bucket/x", "keys come from the environment"),
        ("az://container?sig=x", "keys come from the environment"),
    ] {
        let error = CheckpointStore::open(url).expect_err(url).to_string();
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }
    #[cfg(feature = "server")]
    assert_eq!(environment("file:///mnt/gear"), []);
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
#[test]
fn a_cloud_that_this_build_is_without_is_named_with_its_feature() {
    for (url, kind, feature) in [
        ("s3://bucket/gear", "no S3", "--features s3"),
        ("gs://bucket", "no Google Cloud Storage", "--features gcs"),
        ("az://container", "no Azure Blob Storage", "--features azure"),
    ] {
        let error = CheckpointStore::open(url).expect_err(url).to_string();
        assert!(error.contains(kind) && error.contains(feature), "{error}");
    }
}

#[cfg(not(feature = "hdfs"))]
#[test]
fn an_hdfs_that_this_build_is_without_is_named_with_its_feature() {
    let error = CheckpointStore::open("hdfs://127.0.0.1:9000/gear").expect_err("there is none");
    let error = error.to_string();
    assert!(error.contains("no HDFS") && error.contains("--features hdfs"), "{error}");
}

#[cfg(feature = "hdfs")]
#[test]
fn the_url_of_an_hdfs_is_checked_before_anybody_is_asked() {
    for (url, says) in [
        ("hdfs://127.0.0.1:9000/gear?replication=2", "`replication=2` is unknown"),
        ("hdfs://me@127.0.0.1:9000/gear", "HADOOP_USER_NAME"),
    ] {
        let error = CheckpointStore::open(url).expect_err(url).to_string();
        assert!(error.contains(says) && error.contains("cannot be opened"), "{error}");
    }
}
