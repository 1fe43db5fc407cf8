//! A certificate authority for one cluster, and certificates for its nodes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::random;
use super::tokens::{TokenError, read_secret, write_secret};

/// A node's certificate lasts a year, an authority ten: long enough that making new ones is a
/// planned work, short enough that one that was lost ends.
pub const NODE_DAYS: u64 = 365;
/// See [`NODE_DAYS`].
pub const AUTHORITY_DAYS: u64 = 3_650;
/// Clocks of machines that are behind by less than this accept a certificate that was just made: a
/// time zone that was mistaken for another is within it.
const BACKDATED: Duration = Duration::from_secs(24 * 3_600);
/// The name that the certificate of every node bears beside its own: who dials an address of the
/// cluster may not know which node answers there.
pub const NODE_NAME: &str = "gear-node";
/// Hosts of one certificate.
const HOSTS_MAX: usize = 64;

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is one already, which somebody may trust.
    #[error(
        "{} is there already: take another folder, or remove it if nobody trusts it", .0.display()
    )]
    Exists(PathBuf),
    /// The authority is missing or damaged.
    #[error(
        "the authority in {} cannot be used: {reason}; make one with `gear-node cert init-ca`",
        folder.display()
    )]
    NoAuthority {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The name or a host cannot stand in a certificate.
    #[error("{0}")]
    BadName(String),
    /// It could not be made.
    #[error("the certificate cannot be made: {0}")]
    Failed(#[from] rcgen::Error),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] TokenError),
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM, for its owner only.
    pub key: PathBuf,
}

/// Makes an authority: `ca.pem`, which every node and client has to have, and `ca.key`, which is
/// only needed to make certificates and is best kept away from all nodes.
///
/// # Errors
/// If there is one already, or the files cannot be written.
pub fn init_authority(folder: &Path, days: u64) -> Result<Made, CertificateError> {
    let made = Made { certificate: folder.join("ca.pem"), key: folder.join("ca.key") };
    let mut params = parameters("Gear cluster authority", &[], days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write(made, &certificate.pem(), &key)
}

/// Makes a node's certificate, which serves to both ends of a connection: `NAME.pem`, `NAME.key`.
///
/// # Errors
/// If there is no authority in the folder, the name or a host is none, or there is a certificate
/// of this name.
pub fn node(
    folder: &Path,
    name: &str,
    hosts: &[String],
    days: u64,
) -> Result<Made, CertificateError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(fits)
        || name.starts_with('.')
        || name == "ca"
    {
        return Err(CertificateError::BadName(format!(
            "`{name}` is no name of a node: 1 to 64 letters, digits and any of -_., and not `ca`"
        )));
    }
    check_hosts(hosts)?;
    let made = Made {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    let issuer = authority(folder)?;
    let mut names = hosts.to_vec();
    names.push(NODE_NAME.into());
    let mut params = parameters(name, &names, days)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    write(made, &certificate.pem(), &key)
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let bad = |reason: String| CertificateError::NoAuthority { folder: folder.into(), reason };
    let path = folder.join("ca.pem");
    let certificate = fs::read_to_string(&path);
    let certificate = certificate.map_err(|error| bad(format!("{}: {error}", path.display())))?;
    let key = read_secret(&folder.join("ca.key")).map_err(|error| bad(error.to_string()))?;
    let key = KeyPair::from_pem(&key).map_err(|error| bad(format!("ca.key: {error}")))?;
    Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| bad(format!("ca.pem: {error}")))
}

fn check_hosts(hosts: &[String]) -> Result<(), CertificateError> {
    let bad = |what: String| Err(CertificateError::BadName(what));
    if hosts.is_empty() || hosts.len() > HOSTS_MAX {
        return bad(format!(
            "a node's certificate names 1 to {HOSTS_MAX} hosts: give --host for each name and \
             address by which others reach the node"
        ));
    }
    for host in hosts {
        let is_name = host.len() <= 253
            && host.split('.').all(|part| {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                !part.is_empty() && part.len() <= 63 && (part == "*" || part.chars().all(fits))
            });
        if !is_name && host.parse::<IpAddr>().is_err() {
            return bad(format!("`{host}` is neither a host's name nor an IP address"));
        }
    }
    Ok(())
}

fn parameters(
    name: &str,
    hosts: &[String],
    days: u64,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(hosts)?;
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished.push(DnType::OrganizationName, "Gear");
    params.distinguished_name = distinguished;
    params.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + Duration::from_secs(days.min(36_500) * 24 * 3_600)).into();
    Ok(params)
}

fn write(made: Made, certificate: &str, key: &KeyPair) -> Result<Made, CertificateError> {
    if let Some(there) = [&made.certificate, &made.key].into_iter().find(|it| it.exists()) {
        return Err(CertificateError::Exists(there.clone()));
    }
    write_secret(&made.key, key.serialize_pem().as_bytes())?;
    let error = |error| TokenError::Unusable { path: made.certificate.clone(), error };
    fs::write(&made.certificate, certificate).map_err(error)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|&host| host.to_owned()).collect()
    }

    #[test]
    fn an_authority_and_its_keys_are_for_their_owner() {
        let folder = TempDir::new().expect("there is a folder");
        let made = init_authority(folder.path(), AUTHORITY_DAYS).expect("it is made");
        let mode = fs::metadata(&made.key).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = init_authority(folder.path(), AUTHORITY_DAYS).expect_err("it is there");
        assert!(matches!(again, CertificateError::Exists(_)), "{again}");
    }

    #[test]
    fn a_node_needs_an_authority_a_name_and_hosts() {
        let folder = TempDir::new().expect("there is a folder");
        let make = |name: &str, of: &[&str]| node(folder.path(), name, &hosts(of), NODE_DAYS);
        let error = make("one", &["localhost"]).expect_err("there is no authority");
        assert!(error.to_string().contains("init-ca"), "{error}");
        init_authority(folder.path(), AUTHORITY_DAYS).expect("it is made");
        for name in ["", "ca", "../one", "two words", ".hidden"] {
            assert!(make(name, &["localhost"]).is_err(), "{name}");
        }
        for bad in [&[] as &[&str], &["a b"], &["a..b"], &["10.0.0.1:80"]] {
            assert!(make("one", bad).is_err(), "{bad:?}");
        }
        let made = make("one", &["localhost", "10.0.0.1", "fe80::1", "*.gear.svc"]);
        assert_eq!(made.expect("it is made").certificate, folder.path().join("one.pem"));
        assert!(matches!(make("one", &["localhost"]), Err(CertificateError::Exists(_))));
    }
}
