//! TLS as REST uses it: whose certificates are trusted, and which one is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::tokens::{TokenError, read_secret};

/// The files of a node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that are trusted, in PEM.
    pub authority: PathBuf,
    /// The node's certificate, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM, for its owner only.
    pub key: PathBuf,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or damaged.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key's file cannot be used.
    #[error(transparent)]
    Key(#[from] TokenError),
    /// The files do not fit each other.
    #[error("the certificate {} cannot be used: {error}", path.display())]
    Unfit {
        /// The certificate.
        path: PathBuf,
        /// What is wrong with it.
        error: rustls::Error,
    },
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::File { path: path.into(), reason };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() { Err(bad("there is no certificate in it".into())) } else { Ok(found) }
}

/// Trusts the authorities of a file.
fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let bad = |error: rustls::Error| TlsError::File {
            path: path.into(),
            reason: format!("a certificate in it cannot be trusted: {error}"),
        };
        roots.add(certificate).map_err(bad)?;
    }
    Ok(roots)
}

/// The certificate of the node with those between it and the authority, and whom the node trusts.
///
/// # Errors
/// If the files are missing, damaged, or the key is not that of the certificate.
pub(super) fn own(
    files: &Files,
) -> Result<(Vec<CertificateDer<'static>>, Arc<RootCertStore>), TlsError> {
    let chain = certificates(&files.certificate)?;
    let unfit = |error| TlsError::Unfit { path: files.certificate.clone(), error };
    CertifiedKey::from_der(chain.clone(), key(files)?, &provider()).map_err(unfit)?;
    Ok((chain, Arc::new(roots(&files.authority)?)))
}

/// The certificates of the authorities that a node trusts.
pub(super) fn authorities(files: &Files) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&files.authority)
}

/// The certificate that a node shows, with those between it and the authority.
///
/// # Errors
/// If the file is missing or damaged.
pub fn shown(files: &Files) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&files.certificate)
}

fn key(files: &Files) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_secret(&files.key)?;
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::File { path: files.key.clone(), reason: error.to_string() })
}

/// How REST is served: people show tokens, not certificates.
///
/// # Errors
/// If the files are missing, damaged, or do not fit each other.
pub fn server(files: &Files) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = key(files)?;
    let unfit = |error| TlsError::Unfit { path: files.certificate.clone(), error };
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// How REST is asked: trusts the authorities of a file and nobody else; without one, nobody.
///
/// # Errors
/// If the file is missing or damaged.
pub fn client(authority: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match authority {
        Some(path) => roots(path)?,
        None => RootCertStore::empty(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::certificates::{init_authority, node};
    use super::*;

    fn made(folder: &Path) -> Files {
        let authority = init_authority(folder, 1).expect("it is made").certificate;
        let made = node(folder, "one", &["localhost".into()], 1).expect("it is made");
        Files { authority, certificate: made.certificate, key: made.key }
    }

    #[test]
    fn what_the_command_makes_serves() {
        let folder = TempDir::new().expect("there is a folder");
        let files = made(folder.path());
        server(&files).expect("they fit each other");
        client(Some(&files.authority)).expect("it is an authority");
        client(None).expect("it trusts nobody");
    }

    #[test]
    fn damaged_and_foreign_files_are_named() {
        let folder = TempDir::new().expect("there is a folder");
        let files = made(folder.path());
        let other = TempDir::new().expect("there is a folder");
        let foreign = Files { key: made(other.path()).key, ..files.clone() };
        let error = server(&foreign).expect_err("the key is another's");
        assert!(error.to_string().contains("one.pem"), "{error}");
        fs::write(&files.certificate, "rubbish").expect("it is ours");
        let error = server(&files).expect_err("it is rubbish");
        assert!(error.to_string().contains("one.pem"), "{error}");
        let error = client(Some(&folder.path().join("none.pem"))).expect_err("it is missing");
        assert!(error.to_string().contains("none.pem"), "{error}");
    }
}
