//! Where a file is: which HDFS, and the path there.

use gear_core::effect::{IoError, IoErrorKind};

const SCHEME: &str = "hdfs://";

/// True if a path is one of HDFS.
#[must_use]
pub fn is_hdfs(path: &str) -> bool {
    path.starts_with(SCHEME)
}

/// A path of HDFS, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The HDFS, as `hdfs://host:port`; `hdfs://` is the one that the configuration names.
    pub authority: String,
    /// The path on it, absolute and without a closing `/`.
    pub path: String,
}

impl Location {
    /// Takes `hdfs://host:port/path` apart.
    ///
    /// # Errors
    /// [`IoError`] for what is no such URL, or says what a URL may not say here.
    pub fn parse(url: &str) -> Result<Self, IoError> {
        let wrong =
            |reason: String| IoError { path: url.to_owned(), reason, kind: IoErrorKind::Other };
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Err(wrong("it does not begin with hdfs://".to_owned()));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.contains('@') {
            return Err(wrong(
                "a user in the URL is not understood; set HADOOP_USER_NAME, or log in with Kerberos"
                    .to_owned(),
            ));
        }
        if let Some(option) = host.find(['?', '#']) {
            return Err(wrong(format!(
                "the option {} is unknown: options of HDFS are set in the configuration below \
                 HADOOP_CONF_DIR",
                &host[option..]
            )));
        }
        // An address of version 6 has colons of its own.
        let port = host.rsplit_once(']').map_or(host, |(_, after)| after).rsplit_once(':');
        if let Some((_, port)) = port
            && port.parse::<u16>().is_err()
        {
            return Err(wrong(format!("`{port}` is no port; write hdfs://host:port/path")));
        }
        if host.starts_with(':') {
            return Err(wrong("the host is missing; write hdfs://host:port/path".to_owned()));
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err(wrong(
                "`.` and `..` are no names on HDFS; write the whole path".to_owned(),
            ));
        }
        // Two slashes are one to those who write paths, and an error to a name node.
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let path = format!("/{}", parts.join("/"));
        Ok(Self { authority: format!("{SCHEME}{host}"), path })
    }

    /// As [`Self::parse`], for what names a folder and not a pattern: options are refused by name.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_folder(url: &str) -> Result<Self, IoError> {
        if let Some((path, options)) = url.split_once('?') {
            return Err(IoError {
                path: path.to_owned(),
                reason: format!(
                    "the option `{options}` is unknown: options of HDFS are set in the \
                     configuration below HADOOP_CONF_DIR"
                ),
                kind: IoErrorKind::Other,
            });
        }
        Self::parse(url)
    }

    /// The URL of a path on the same HDFS.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, String) {
        let location = Location::parse(url).expect(url);
        (location.authority, location.path)
    }

    #[test]
    fn a_url_is_an_hdfs_and_a_path() {
        for (url, authority, path) in [
            ("hdfs://h:9000/in/*.txt", "hdfs://h:9000", "/in/*.txt"),
            ("hdfs://h:9000", "hdfs://h:9000", "/"),
            ("hdfs://service/a//b/", "hdfs://service", "/a/b"),
            ("hdfs:///a", "hdfs://", "/a"),
            ("hdfs://[::1]:9000/a?", "hdfs://[::1]:9000", "/a?"),
        ] {
            assert_eq!(parts(url), (authority.to_owned(), path.to_owned()));
        }
        assert_eq!(Location::parse("hdfs://h:1/a").unwrap().url("/b"), "hdfs://h:1/b");
    }

    #[test]
    fn what_it_may_not_say_is_refused_by_name() {
        for (url, says) in [
            ("/a", "does not begin"),
            ("hdfs://user@h:9000/a", "HADOOP_USER_NAME"),
            ("hdfs://h:nine/a", "`nine` is no port"),
            ("hdfs://h:/a", "is no port"),
            ("hdfs://:9000/a", "host is missing"),
            ("hdfs://h:9000/a/../b", "whole path"),
            ("hdfs://h:9000?replication=2", "?replication=2"),
        ] {
            let error = Location::parse(url).expect_err(url).to_string();
            assert!(error.contains(says) && error.contains(url), "{error}");
        }
        let error = Location::parse_folder("hdfs://h:9000/a?replication=2").expect_err("unknown");
        assert!(error.to_string().contains("`replication=2`"), "{error}");
    }
}
