//! What a node is told about certificates, keys and tokens, and what that comes to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde::Deserialize;

use super::config::Config;
use crate::security::tls::{self, TlsError};
use crate::security::tokens::read_secret;
use crate::security::{
    Access, ClusterKey, Ends, Exposure, ExposureError, Listening, NodeToken, OwnError, TokenError,
    TokenFile, own, unhex,
};

/// Bytes of a cluster's key at least: nobody tries them all.
const KEY_BYTES_MIN: usize = 16;

/// Certificates, keys and tokens of a node.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecurityOptions {
    /// Certificate of the cluster's authority (see `gear-node cert`)
    #[arg(long, env = "GEAR_NODE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Certificate of this node
    #[arg(long, env = "GEAR_NODE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// Key of the certificate, for its owner only
    #[arg(long, env = "GEAR_NODE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Key that the cluster's nodes share, for its owner only [default: secrets/cluster.key in
    /// the data folder, if it is there]
    #[arg(long, env = "GEAR_NODE_CLUSTER_KEY", value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,

    /// Tokens for REST (see `gear-node token`) [default: secrets/tokens.json in the data folder]
    #[arg(long, env = "GEAR_NODE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

impl SecurityOptions {
    /// These, and those of another place where these say nothing.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            ca: self.ca.or(other.ca),
            cert: self.cert.or(other.cert),
            key: self.key.or(other.key),
            cluster_key: self.cluster_key.or(other.cluster_key),
            tokens: self.tokens.or(other.tokens),
        }
    }

    fn files(&self) -> Result<Option<tls::Files>, SecurityError> {
        match (&self.ca, &self.cert, &self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => Ok(Some(tls::Files {
                authority: ca.clone(),
                certificate: cert.clone(),
                key: key.clone(),
            })),
            _ => Err(SecurityError::Partly),
        }
    }
}

/// Why a node is not as secure as it is told to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecurityError {
    /// A certificate without the rest.
    #[error("--ca, --cert and --key go together: give all of them, or none")]
    Partly,
    /// The cluster's key is none.
    #[error(
        "{} is no key of a cluster: it holds {KEY_BYTES_MIN} bytes or more in hexadecimal digits, \
         as `gear-node cert init-ca` makes it", .0.display()
    )]
    Key(PathBuf),
    /// Gossip would be open.
    #[error(
        "--listen can be reached from other machines, and there is no key that the nodes share: \
         give the file cluster.key that `gear-node cert init-ca` made with --cluster-key"
    )]
    NoKey,
    /// Other nodes could not fetch binaries here.
    #[error(
        "--listen {listen} can be reached from other machines, and --http {http} cannot: nodes \
         fetch jobs' binaries over REST, so give --http an address that they reach"
    )]
    Unreachable {
        /// The one.
        listen: SocketAddr,
        /// The other.
        http: SocketAddr,
    },
    /// The node would be open to strangers.
    #[error(transparent)]
    Exposure(#[from] ExposureError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No other node would take this one's certificate.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// A secret's file cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// With what a node keeps strangers out.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) exposure: Exposure,
    pub(super) key: Option<ClusterKey>,
    pub(super) access: Access,
    pub(super) files: Option<tls::Files>,
    /// When the certificates end, if there are any.
    pub(super) ends: Option<Ends>,
}

impl Secured {
    /// As a node is told, with the folder of its own secrets.
    pub(super) fn new(config: &Config, secrets: &Path) -> Result<Self, SecurityError> {
        let options = &config.security;
        let (listen, http) = (config.listen, config.http);
        if http.ip().is_loopback() && !listen.ip().is_loopback() {
            return Err(SecurityError::Unreachable { listen, http });
        }
        let files = options.files()?;
        let ends = match &files {
            Some(files) => Some(own::check(files, SystemTime::now())?),
            None => None,
        };
        let own = secrets.join("cluster.key");
        let key = match &options.cluster_key {
            Some(path) => Some(cluster_key(path)?),
            None if own.exists() => Some(cluster_key(&own)?),
            None => None,
        };
        let tokens = options.tokens.clone().unwrap_or_else(|| secrets.join("tokens.json"));
        let node = key.as_ref().map(NodeToken::of);
        let has = |open| Access::new(Some(TokenFile::at(&tokens)), node.as_ref(), open);
        let tokens_known = has(false)?.has_tokens();
        let exposure = Listening {
            nodes: config.listen,
            http: config.http,
            nodes_tls: files.is_some(),
            http_tls: files.is_some(),
            tokens: tokens_known,
            insecure: config.insecure,
        }
        .exposure()?;
        if exposure == Exposure::Secured && !config.listen.ip().is_loopback() && key.is_none() {
            return Err(SecurityError::NoKey);
        }
        Ok(Self { exposure, key, access: has(exposure != Exposure::Secured)?, files, ends })
    }

    /// With what gossip is sealed; none if there is no key.
    pub(super) fn gossip_key(&self) -> Option<[u8; 32]> {
        Some(self.key.as_ref()?.derive("gear gossip 1"))
    }
}

fn cluster_key(path: &Path) -> Result<ClusterKey, SecurityError> {
    let bytes = unhex(read_secret(path)?.trim()).filter(|it| it.len() >= KEY_BYTES_MIN);
    bytes.map(ClusterKey::new).ok_or_else(|| SecurityError::Key(path.into()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::config::StartOptions;
    use super::*;
    use crate::security::Role;
    use crate::security::tokens::write_secret;

    fn config(options: StartOptions) -> Config {
        Config::resolve(options).expect("it means something")
    }

    fn secured(config: &Config, place: &TempDir) -> Result<Secured, SecurityError> {
        Secured::new(config, place.path())
    }

    #[test]
    fn loopback_is_open_until_there_are_tokens() {
        let place = TempDir::new().expect("there is a folder");
        let config = config(StartOptions::default());
        let open = secured(&config, &place).expect("nothing is needed");
        assert_eq!(open.exposure, Exposure::Loopback);
        assert_eq!(open.access.principal(None).map(|it| it.role), Some(Role::Admin));
        let tokens = TokenFile::at(place.path().join("tokens.json"));
        tokens.create("anna", Role::Viewer).expect("it is made");
        let closed = secured(&config, &place).expect("they can be read");
        assert_eq!(closed.access.principal(None), None);
    }

    #[test]
    fn beyond_loopback_it_is_refused_unless_insecure_is_said() {
        let place = TempDir::new().expect("there is a folder");
        let listen = Some("0.0.0.0:7400".to_owned());
        let half = StartOptions { listen, ..StartOptions::default() };
        let error = secured(&config(half.clone()), &place).expect_err("REST is not reached");
        assert!(error.to_string().contains("--http"), "{error}");
        let open = StartOptions { http: Some("0.0.0.0:7480".to_owned()), ..half };
        let error = secured(&config(open.clone()), &place).expect_err("it is open");
        assert!(error.to_string().contains("--insecure"), "{error}");
        let insecure = StartOptions { insecure: true, ..open };
        let said = secured(&config(insecure), &place).expect("it is wanted so");
        assert_eq!(said.exposure, Exposure::Insecure);
    }

    #[test]
    fn a_key_is_read_from_the_secrets_and_seals_gossip() {
        let place = TempDir::new().expect("there is a folder");
        let config = config(StartOptions::default());
        assert_eq!(secured(&config, &place).expect("it needs none").gossip_key(), None);
        let path = place.path().join("cluster.key");
        write_secret(&path, "ab".repeat(32).as_bytes()).expect("it is ours");
        let one = secured(&config, &place).expect("it is a key").gossip_key();
        assert!(one.is_some());
        write_secret(&path, "cd".repeat(32).as_bytes()).expect("it is ours");
        assert_ne!(secured(&config, &place).expect("it is a key").gossip_key(), one);
        for damage in ["", "abcd", "no key"] {
            write_secret(&path, damage.as_bytes()).expect("it is ours");
            let error = secured(&config, &place).expect_err("it is none");
            assert!(error.to_string().contains("init-ca"), "{error}");
        }
    }

    #[test]
    fn a_certificate_goes_with_its_key() {
        let place = TempDir::new().expect("there is a folder");
        let mut config = config(StartOptions::default());
        config.security.cert = Some("one.pem".into());
        let error = secured(&config, &place).expect_err("the rest is missing");
        assert!(matches!(error, SecurityError::Partly), "{error}");
    }
}
