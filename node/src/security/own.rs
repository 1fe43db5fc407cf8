//! Whether others will take a node's own certificate, and for how long: its operator hears it at
//! the start and in time, and not from every peer that turns the node away.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, InconsistentKeys};

use super::certificates::NODE_NAME;
use super::tls::{self, Files, TlsError};

/// A certificate that ends within this time is warned of: long enough to make another one without
/// haste.
pub const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3_600);
/// The same for the authority's, with which those of all nodes have to be made anew.
pub const AUTHORITY_WARN_BEFORE: Duration = Duration::from_secs(60 * 24 * 3_600);
/// The last second of the year 9999 since 1970: no certificate lasts longer.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Why no other node would take a node's certificate.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// A file is missing or damaged.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// Certificate and key are of different nodes, or of different times.
    #[error(
        "the key {} is not that of the certificate {}: give --cert and --key the two files that \
         `gear-node cert node` has made together", key.display(), certificate.display()
    )]
    OtherKey {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// It is over.
    #[error(
        "the certificate {} has expired on {}: make another one with `gear-node cert node NAME \
         --host HOST` and give it with --cert and --key; or set this machine's clock, if it is \
         not {}", certificate.display(), date(*since), date(*now)
    )]
    Expired {
        /// The certificate, and those between it and the authority.
        certificate: PathBuf,
        /// When.
        since: SystemTime,
        /// What this machine's clock says.
        now: SystemTime,
    },
    /// It is for later.
    #[error(
        "the certificate {} is not valid before {}: set this machine's clock, if it is not {}; or \
         make another one with `gear-node cert node NAME --host HOST` and give it with --cert and \
         --key", certificate.display(), date(*from), date(*now)
    )]
    NotYet {
        /// The certificate, and those between it and the authority.
        certificate: PathBuf,
        /// From when on it is.
        from: SystemTime,
        /// What this machine's clock says.
        now: SystemTime,
    },
    /// Another authority has signed it.
    #[error(
        "the certificate {} is not signed by the authority {}: give --ca, --cert and --key files \
         of one cluster, as `gear-node cert` makes them", certificate.display(),
        authority.display()
    )]
    Foreign {
        /// The certificate.
        certificate: PathBuf,
        /// The authority that is trusted.
        authority: PathBuf,
    },
    /// It is for something else.
    #[error(
        "the certificate {} is not one that nodes take: {reason}; make one with `gear-node cert \
         node NAME --host HOST`", certificate.display()
    )]
    NotOfNode {
        /// The certificate.
        certificate: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A time as people write it, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn system(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// When the certificates end that a node shows and trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Its own.
    pub node: SystemTime,
    /// The authority's; the last one's, if it trusts several.
    pub authority: SystemTime,
}

impl Ends {
    /// What the operator has to do soon, or should have done.
    #[must_use]
    pub fn warnings(&self, files: &Files, now: SystemTime) -> Vec<String> {
        let expires = |end: SystemTime| if end > now { "expires" } else { "has expired" };
        let mut warnings = Vec::new();
        if self.node < now + WARN_BEFORE {
            warnings.push(format!(
                "the certificate {} {} on {}, and nobody takes this node in after that: make \
                 another one with `gear-node cert node NAME --host HOST` and put it and its key \
                 in the place of these; connections from then on use it, without a restart",
                files.certificate.display(),
                expires(self.node),
                date(self.node)
            ));
        }
        if self.authority < now + AUTHORITY_WARN_BEFORE {
            warnings.push(format!(
                "the certificate {} of the cluster's authority {} on {}: make another authority \
                 with `gear-node cert init-ca`, add its certificate to this file on every node \
                 and client, then replace the nodes' certificates by ones of the new authority, \
                 and take the old one away",
                files.authority.display(),
                expires(self.authority),
                date(self.authority)
            ));
        }
        warnings
    }
}

/// Looks at a node's certificate as those do whom it dials, and who dial it. Gives how long it and
/// that of the authority last; nobody but the operator looks at when the authority's ends.
///
/// # Errors
/// If they would not take it, or a file cannot be used.
pub fn check(files: &Files, now: SystemTime) -> Result<Ends, OwnError> {
    let (chain, trusted) = tls::own(files).map_err(|error| match error {
        TlsError::Unfit {
            error: Error::InconsistentKeys(InconsistentKeys::KeyMismatch), ..
        } => {
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            OwnError::OtherKey { certificate, key }
        }
        other => OwnError::Files(other),
    })?;
    let certificate = files.certificate.clone();
    let wrong = match verify(&chain, trusted.clone(), now) {
        Ok(()) => {
            let end = |it: &CertificateDer<'static>| end(it, &trusted);
            let authorities = tls::authorities(files)?;
            let authority = authorities.iter().map(end).max().expect("one has signed it");
            return Ok(Ends { node: end(&chain[0]), authority });
        }
        Err(wrong) => wrong,
    };
    Err(match wrong {
        CertificateError::ExpiredContext { not_after, .. } => {
            OwnError::Expired { certificate, since: system(not_after), now }
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            OwnError::NotYet { certificate, from: system(not_before), now }
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            OwnError::Foreign { certificate, authority: files.authority.clone() }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let reason = format!("it does not bear the name {NODE_NAME}");
            OwnError::NotOfNode { certificate, reason }
        }
        other => OwnError::NotOfNode { certificate, reason: other.to_string() },
    })
}

/// When a certificate ends. Its time is what is looked at first: whoever shows it at the end of all
/// times hears when its own was.
fn end(
    certificate: &CertificateDer<'static>,
    trusted: &std::sync::Arc<rustls::RootCertStore>,
) -> SystemTime {
    let last = SystemTime::UNIX_EPOCH + LAST;
    match verify(std::slice::from_ref(certificate), trusted.clone(), last) {
        Err(CertificateError::ExpiredContext { not_after, .. }) => system(not_after),
        _ => last,
    }
}

/// Shows a certificate to both ends of a connection.
fn verify(
    chain: &[CertificateDer<'static>],
    trusted: std::sync::Arc<rustls::RootCertStore>,
    at: SystemTime,
) -> Result<(), CertificateError> {
    let (first, between) = chain.split_first().expect("a chain is never empty");
    let unbuilt = |error: &dyn std::fmt::Display| {
        CertificateError::Other(rustls::OtherError(std::sync::Arc::new(std::io::Error::other(
            error.to_string(),
        ))))
    };
    let refused = |error: Error| match error {
        Error::InvalidCertificate(wrong) => wrong,
        other => unbuilt(&other),
    };
    let provider = tls::provider();
    let who_dials =
        WebPkiServerVerifier::builder_with_provider(trusted.clone(), provider.clone()).build();
    let who_dials = who_dials.map_err(|error| unbuilt(&error))?;
    let name = ServerName::try_from(NODE_NAME).expect("it is a name");
    let _ = who_dials.verify_server_cert(first, between, &name, &[], unix(at)).map_err(refused)?;
    let who_is_dialled = WebPkiClientVerifier::builder_with_provider(trusted, provider).build();
    let who_is_dialled = who_is_dialled.map_err(|error| unbuilt(&error))?;
    let _ = who_is_dialled.verify_client_cert(first, between, unix(at)).map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::certificates::{init_authority, node};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn made(folder: &Path, days: u64) -> Files {
        let authority = init_authority(folder, 100).expect("it is made").certificate;
        let made = node(folder, "one", &["localhost".into()], days).expect("it is made");
        Files { authority, certificate: made.certificate, key: made.key }
    }

    fn folder() -> TempDir {
        TempDir::new().expect("there is a folder")
    }

    #[test]
    fn one_that_lasts_is_taken_and_one_that_ends_soon_is_warned_of() {
        let place = folder();
        let files = made(place.path(), 30);
        let now = SystemTime::now();
        let ends = check(&files, now).expect("it is sound");
        for (end, days) in [(ends.node, 30), (ends.authority, 100)] {
            let after = end.duration_since(now + (days - 1) * DAY).expect("it lasts");
            assert!(after <= DAY + Duration::from_secs(60), "{after:?}");
        }
        assert_eq!(check(&files, now + 17 * DAY).expect("it is sound"), ends);
        let warnings = |days: u32| ends.warnings(&files, now + days * DAY);
        assert!(warnings(15).is_empty(), "{:?}", warnings(15));
        let [soon] = &warnings(17)[..] else { panic!("{:?}", warnings(17)) };
        for part in ["one.pem expires on", &date(ends.node), "without a restart"] {
            assert!(soon.contains(part), "{soon}");
        }
        let [over, authority] = &warnings(45)[..] else { panic!("{:?}", warnings(45)) };
        assert!(over.contains("one.pem has expired on"), "{over}");
        assert!(authority.contains("authority expires on"), "{authority}");
        assert!(warnings(101)[1].contains("authority has expired on"), "{:?}", warnings(101));
    }

    #[test]
    fn an_authority_that_has_expired_is_noticed_and_one_beside_it_is_enough() {
        let (place, elsewhere) = (folder(), folder());
        // The node's certificate lasts longer than what has signed it.
        let authority = init_authority(place.path(), 10).expect("it is made").certificate;
        let made = node(place.path(), "one", &["localhost".into()], 100).expect("it is made");
        let files = Files { authority, certificate: made.certificate, key: made.key };
        let later = SystemTime::now() + 20 * DAY;
        let ends = check(&files, later).expect("peers take it still");
        let [warning] = &ends.warnings(&files, later)[..] else { panic!("{ends:?}") };
        for part in ["ca.pem", "authority has expired on", &date(ends.authority), "init-ca"] {
            assert!(warning.contains(part), "{warning}");
        }
        let next = init_authority(elsewhere.path(), 1_000).expect("it is made").certificate;
        let read = |path| std::fs::read_to_string(path).expect("it is there");
        let both = read(&files.authority) + &read(&next);
        std::fs::write(&files.authority, both).expect("it is ours");
        let ends = check(&files, later).expect("peers take it");
        assert!(ends.warnings(&files, later).is_empty(), "{ends:?}");
    }

    #[test]
    fn one_of_another_time_is_named_with_its_days() {
        let place = folder();
        let files = made(place.path(), 30);
        let now = SystemTime::now();
        let error = check(&files, now + 31 * DAY).expect_err("it is over");
        let OwnError::Expired { since, .. } = &error else { panic!("{error}") };
        let text = error.to_string();
        for part in ["one.pem", &date(*since), &date(now + 31 * DAY), "gear-node cert node"] {
            assert!(text.contains(part), "{text}");
        }
        let error = check(&files, now - 2 * DAY).expect_err("it has not begun");
        let OwnError::NotYet { from, .. } = &error else { panic!("{error}") };
        let text = error.to_string();
        for part in ["one.pem", &date(*from), &date(now - 2 * DAY), "clock"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn clocks_an_hour_apart_agree_on_a_certificate_that_was_just_made() {
        let place = folder();
        let files = made(place.path(), 30);
        let hour = Duration::from_secs(3_600);
        for behind in [hour, hour + Duration::from_secs(600), 14 * hour] {
            let clock = SystemTime::now() - behind;
            let ends = check(&files, clock).expect("it has begun");
            assert!(ends.warnings(&files, clock).is_empty(), "{behind:?} behind");
        }
    }

    #[test]
    fn one_that_does_not_fit_its_key_or_its_authority_is_told_from_one_that_does() {
        let (place, elsewhere) = (folder(), folder());
        let (ours, theirs) = (made(place.path(), 30), made(elsewhere.path(), 30));
        let now = SystemTime::now();
        let mixed = Files { key: theirs.key.clone(), ..ours.clone() };
        let error = check(&mixed, now).expect_err("the key is another's");
        assert!(matches!(error, OwnError::OtherKey { .. }), "{error}");
        let text = error.to_string();
        for file in [&mixed.certificate, &mixed.key] {
            assert!(text.contains(&file.display().to_string()), "{text}");
        }
        let foreign = Files { authority: theirs.authority.clone(), ..ours.clone() };
        let error = check(&foreign, now).expect_err("nobody there knows it");
        assert!(matches!(error, OwnError::Foreign { .. }), "{error}");
        // What the authority itself shows is for signing only.
        let key = place.path().join("ca.key");
        let own = Files { certificate: ours.authority.clone(), key, ..ours };
        let error = check(&own, now).expect_err("it is none of a node");
        assert!(matches!(error, OwnError::NotOfNode { .. }), "{error}");
        let missing = Files { certificate: place.path().join("none.pem"), ..theirs };
        assert!(matches!(check(&missing, now), Err(OwnError::Files(_))));
    }
}
