//! Checkpoint stores in a cloud, each of which comes with a feature of this crate.
//!
//! A URL names bucket and folder; keys, regions and the like come from the environment, under the
//! names that the cloud's own tools give them. All of them create an object only if there is none
//! of its name, which a commit log needs; the probe at submit finds a server that does not.

use std::sync::Arc;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use std::time::Duration;

use object_store::ObjectStore;
use url::Url;

use super::StoreError;

/// A kind of store in a cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    scheme: &'static str,
    name: &'static str,
    feature: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { scheme: "s3", name: "S3", feature: "s3" },
    Kind { scheme: "gs", name: "Google Cloud Storage", feature: "gcs" },
    Kind { scheme: "az", name: "Azure Blob Storage", feature: "azure" },
];

fn kind(url: &Url) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.scheme == url.scheme())
}

/// Opens the store of a URL that is none of a local folder.
pub(super) fn open(url: &Url) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let wrong = |reason: String| StoreError::Url { url: url.to_string(), reason };
    let Some(kind) = kind(url) else {
        let reason = format!("its kind is {}, not file, hdfs, s3, gs or az", url.scheme());
        return Err(wrong(reason));
    };
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong(format!("it names no bucket, such as {}://bucket/gear", kind.scheme)));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        // Without what may be a secret.
        let url = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or(""), url.path());
        let reason = "more than a bucket and a folder is given; keys come from the environment";
        return Err(StoreError::Url { url, reason: reason.into() });
    }
    #[cfg(feature = "s3")]
    if kind.feature == "s3" {
        return within(url, s3(url));
    }
    #[cfg(feature = "gcs")]
    if kind.feature == "gcs" {
        return within(url, gcs(url));
    }
    #[cfg(feature = "azure")]
    if kind.feature == "azure" {
        return within(url, azure(url));
    }
    let (url, Kind { name, feature, .. }) = (url.to_string(), kind);
    Err(StoreError::Feature { url, kind: name, feature })
}

/// The variables of this process that the store of a URL is opened with: a job's processes, which
/// open it too, are given these and no others of their kind.
#[cfg(feature = "server")]
pub(crate) fn environment(url: &str) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let begins: &[&str] = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("s3") => &["AWS_"],
        Some("gs") => &["GOOGLE_"],
        Some("az") => &["AZURE_"],
        Some("hdfs") => &["HADOOP_", "KRB5"],
        _ => return Vec::new(),
    };
    let is_its = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|it| begins.iter().any(|begin| it.starts_with(begin)))
    };
    std::env::vars_os().filter(|(name, _)| is_its(name)).collect()
}

/// The folder of the URL in its bucket.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn within<S: ObjectStore>(
    url: &Url,
    opened: Result<S, String>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let failed = |reason| StoreError::Open { url: url.to_string(), reason };
    let folder = object_store::path::Path::from_url_path(url.path());
    let folder = folder.map_err(|error| failed(super::describe(&error)))?;
    let bucket = opened.map_err(failed)?;
    Ok(Arc::new(object_store::prefix::PrefixStore::new(bucket, folder)))
}

/// The client finds what encrypts connections where the process keeps it.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn provide_encryption() {
    // Another one that stands there already serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How often the client itself repeats a request that a server was too busy for: less than a
/// second in all, since whoever asked repeats it too, and tells the user that it does.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn retries() -> object_store::RetryConfig {
    const RETRIES: usize = 2;
    const WAIT_MIN: Duration = Duration::from_millis(100);
    const WAIT_MAX: Duration = Duration::from_millis(400);
    let mut retries = object_store::RetryConfig { max_retries: RETRIES, ..Default::default() };
    retries.backoff.init_backoff = WAIT_MIN;
    retries.backoff.max_backoff = WAIT_MAX;
    retries
}

#[cfg(feature = "s3")]
fn s3(url: &Url) -> Result<object_store::aws::AmazonS3, String> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, S3ConditionalPut};

    provide_encryption();
    let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retries());
    let endpoint =
        [Key::S3Endpoint, Key::Endpoint].iter().find_map(|it| builder.get_config_value(it));
    let allowed = builder.get_config_value(&Key::Client(object_store::ClientConfigKey::AllowHttp));
    let is_plain = endpoint.is_some_and(|it| it.starts_with("http:"));
    if is_plain && allowed.is_none_or(|it| it == "false") {
        let reason = "its endpoint (AWS_ENDPOINT_URL) is plain HTTP: set AWS_ALLOW_HTTP=true if \
                      that is meant, or give one of https";
        return Err(reason.into());
    }
    let builder = builder.with_conditional_put(S3ConditionalPut::ETagMatch);
    builder.build().map_err(|error| super::describe(&error))
}

#[cfg(feature = "gcs")]
fn gcs(url: &Url) -> Result<object_store::gcp::GoogleCloudStorage, String> {
    use object_store::gcp::GoogleCloudStorageBuilder;

    provide_encryption();
    let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
    builder.with_retry(retries()).build().map_err(|error| super::describe(&error))
}

#[cfg(feature = "azure")]
fn azure(url: &Url) -> Result<object_store::azure::MicrosoftAzure, String> {
    use object_store::azure::MicrosoftAzureBuilder;

    provide_encryption();
    let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
    builder.with_retry(retries()).build().map_err(|error| super::describe(&error))
}
