//! What can be wrong with certificates, in words for who can mend it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem;
use rustls::{AlertDescription, CertificateError, Error};

/// Why a node's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there, or not what it has to be.
    #[error("{} cannot be read: {reason}; make the files with `gear-node cert`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has no certificate.
    #[error("{} has no certificate; it has to be one in PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The authority's certificate is none of an authority.
    #[error("{} is no certificate of an authority: {reason}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit together.
    #[error(
        "the certificate {} cannot be used with the key {}: {reason}", cert.display(), key.display()
    )]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TlsError {
    pub(super) fn read(path: &Path) -> impl Fn(pem::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Read {
            path: path.clone(),
            reason: match error {
                pem::Error::Io(error) => error.to_string(),
                pem::Error::NoItemsFound => "there is no key in PEM in it".into(),
                other => other.to_string(),
            },
        }
    }
}

/// A handshake or a record that failed. Its kind tells it from a connection that broke.
pub(super) fn failed(error: &Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, explain(error))
}

fn explain(error: &Error) -> String {
    let text = match error {
        Error::NoCertificatesPresented => {
            "the peer shows no certificate; start it with those of this cluster"
        }
        Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the peer's certificate has expired, or the clocks differ; renew it with \
                 `gear-node cert`"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the peer's certificate is not valid yet; compare the clocks of both machines"
            }
            CertificateError::UnknownIssuer => {
                "the peer's certificate is not signed by this cluster's authority; it belongs to \
                 another cluster"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the peer's certificate is none of a node; make one with `gear-node cert`"
            }
            _ => return format!("the peer's certificate is refused: {error}"),
        },
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer wants a certificate and got none; start this side with one"
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the peer says that this side's certificate has expired; renew it with `gear-node cert`"
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError,
        ) => {
            "the peer does not accept this side's certificate: another authority has signed it, so \
             it belongs to another cluster"
        }
        Error::InvalidMessage(_) => {
            "the peer does not speak TLS; either both sides are started with --insecure, or neither"
        }
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => return format!("the peer does not speak TLS 1.3 as it has to: {error}"),
        _ => return format!("TLS has failed: {error}"),
    };
    text.into()
}
