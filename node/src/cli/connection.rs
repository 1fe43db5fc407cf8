//! Which cluster is asked, and as whom.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::client::{Client, Http, Token};
use crate::security::tokens::read_secret;

/// Which cluster is asked, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// REST address of any node of the cluster
    #[arg(
        long,
        env = "GEAR_CLUSTER",
        value_name = "HOST:PORT",
        default_value = crate::server::HTTP
    )]
    pub cluster: String,

    /// File with the token to show, for its owner only; GEAR_TOKEN may hold the token itself
    #[arg(long, env = "GEAR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The token itself: an option of this name would show it to everybody on the machine
    #[arg(skip)]
    pub token: Option<String>,

    /// Certificate of the cluster's authority: asks over TLS, and trusts no other
    #[arg(long, env = "GEAR_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Connection {
    /// A client of the cluster.
    ///
    /// # Errors
    /// If the token's file or the authority's certificate cannot be used.
    pub(super) fn client(&self) -> Result<Client, CliError> {
        let token = match (&self.token_file, &self.token) {
            (Some(path), _) => Some(read_secret(path)?),
            (None, Some(token)) => Some(token.clone()),
            (None, None) => std::env::var("GEAR_TOKEN").ok().filter(|it| !it.is_empty()),
        };
        let token = token.map(|text| Token::new(&text));
        Ok(Http::new(self.ca.as_deref())?.at(&self.cluster, token))
    }
}
