//! When a node may listen without being sure who speaks to it.

use std::net::{IpAddr, SocketAddr};

/// Where and how a node is about to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Links, control and gossip.
    pub nodes: SocketAddr,
    /// REST.
    pub http: SocketAddr,
    /// Whether nodes show each other certificates.
    pub nodes_tls: bool,
    /// Whether REST is served over TLS.
    pub http_tls: bool,
    /// Whether there are tokens for REST.
    pub tokens: bool,
    /// Whether the operator has said `--insecure`.
    pub insecure: bool,
}

/// How open a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine can reach it.
    Loopback,
    /// Others can reach it, and have to say who they are.
    Secured,
    /// Everybody who can reach it may do everything: the operator wants it so.
    Insecure,
}

impl Exposure {
    /// What is to be shown wherever the node shows itself; none if there is nothing to warn of.
    #[must_use]
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Insecure => Some(
                "INSECURE: everybody who reaches this node's ports may do everything with its \
                 cluster (it was started with --insecure)",
            ),
            Self::Loopback | Self::Secured => None,
        }
    }
}

/// Why a node must not listen as it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// Other machines could speak to the node without saying who they are.
    #[error(
        "--listen {0} can be reached from other machines, and there are no certificates: make \
         them with `gear-node cert init-ca` and `gear-node cert node NAME --host HOST` and give \
         --ca, --cert and --key; or say --insecure if everybody who reaches it may do everything"
    )]
    NodesWithoutTls(SocketAddr),
    /// Tokens would travel in the clear.
    #[error(
        "--http {0} can be reached from other machines, and there are no certificates: make them \
         with `gear-node cert init-ca` and `gear-node cert node NAME --host HOST` and give --ca, \
         --cert and --key; or say --insecure if everybody who reaches it may do everything"
    )]
    HttpWithoutTls(SocketAddr),
    /// Nobody could be told from anybody else.
    #[error(
        "--http {0} can be reached from other machines, and there are no tokens: make one with \
         `gear-node token create --role admin`; or say --insecure if everybody who reaches it may \
         do everything"
    )]
    HttpWithoutTokens(SocketAddr),
}

impl Listening {
    /// How open the node is.
    ///
    /// # Errors
    /// If it would be open to strangers, and nobody has said that this is wanted.
    pub const fn exposure(self) -> Result<Exposure, ExposureError> {
        let (nodes, http) = (is_open(self.nodes), is_open(self.http));
        if self.insecure {
            // Said although it does not matter: whoever asked for it is to see it.
            return Ok(Exposure::Insecure);
        }
        if nodes && !self.nodes_tls {
            return Err(ExposureError::NodesWithoutTls(self.nodes));
        }
        if http && !self.http_tls {
            return Err(ExposureError::HttpWithoutTls(self.http));
        }
        if http && !self.tokens {
            return Err(ExposureError::HttpWithoutTokens(self.http));
        }
        Ok(if nodes || http { Exposure::Secured } else { Exposure::Loopback })
    }
}

const fn is_open(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:7400";
    const OPEN: &str = "0.0.0.0:7400";

    fn listening(nodes: &str, http: &str) -> Listening {
        let address = |text: &str| text.parse().expect("an address");
        Listening {
            nodes: address(nodes),
            http: address(http),
            nodes_tls: false,
            http_tls: false,
            tokens: false,
            insecure: false,
        }
    }

    #[test]
    fn loopback_needs_nothing() {
        assert_eq!(listening(LOCAL, "[::1]:7480").exposure(), Ok(Exposure::Loopback));
        assert_eq!(Exposure::Loopback.warning(), None);
    }

    #[test]
    fn beyond_loopback_certificates_and_tokens_are_needed() {
        let nodes = listening(OPEN, LOCAL);
        assert!(matches!(nodes.exposure(), Err(ExposureError::NodesWithoutTls(_))));
        let http = listening(LOCAL, OPEN);
        assert!(matches!(http.exposure(), Err(ExposureError::HttpWithoutTls(_))));
        let tls = Listening { nodes_tls: true, http_tls: true, ..listening("[::]:7400", OPEN) };
        assert!(matches!(tls.exposure(), Err(ExposureError::HttpWithoutTokens(_))));
        let both = Listening { tokens: true, ..tls };
        assert_eq!(both.exposure(), Ok(Exposure::Secured));
        let nodes = Listening { nodes_tls: true, ..listening(OPEN, LOCAL) };
        assert_eq!(nodes.exposure(), Ok(Exposure::Secured));
    }

    #[test]
    fn insecure_is_said() {
        let insecure = Listening { insecure: true, ..listening(OPEN, OPEN) };
        assert_eq!(insecure.exposure(), Ok(Exposure::Insecure));
        assert!(Exposure::Insecure.warning().is_some_and(|it| it.contains("--insecure")));
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = listening(OPEN, LOCAL).exposure().expect_err("it is open").to_string();
        for part in ["0.0.0.0:7400", "gear-node cert", "--insecure"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
