//! Making certificates.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::CliError;
use super::output::Output;
use crate::security::certificates::{AUTHORITY_DAYS, Made, NODE_DAYS, init_authority, node};
use crate::security::tokens::write_secret;
use crate::security::{hex, random};

/// Certificates for the nodes of a cluster.
#[derive(Args, Debug)]
pub(super) struct Cert {
    #[command(subcommand)]
    command: Command,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the authority of a cluster, and its key for gossip and between nodes
    InitCa {
        /// Folder for the files
        #[arg(long, default_value = "gear-certs", value_name = "DIR")]
        dir: PathBuf,
        /// Days until it ends
        #[arg(long, default_value_t = AUTHORITY_DAYS)]
        days: u64,
    },
    /// Make the certificate of a node
    Node {
        /// Name of the node, and of the files
        name: String,
        /// Name or address by which others reach the node; can be given more than once
        #[arg(long, required = true, value_delimiter = ',')]
        host: Vec<String>,
        /// Folder of the authority, and for the files
        #[arg(long, default_value = "gear-certs", value_name = "DIR")]
        dir: PathBuf,
        /// Days until it ends
        #[arg(long, default_value_t = NODE_DAYS)]
        days: u64,
    },
}

pub(super) fn run(what: Cert, to: &mut dyn Write) -> Result<(), CliError> {
    let mut out = Output::new(to, what.json);
    match what.command {
        Command::InitCa { dir, days } => {
            let Made { certificate, key } = init_authority(&dir, days)?;
            let shared = dir.join("cluster.key");
            write_secret(&shared, hex(&random::<32>()).as_bytes())?;
            out.show(&json!({ "ca": certificate, "key": key, "cluster_key": shared }), || {
                format!(
                    "authority    {}  (give it to every node and client)\n\
                     its key      {}  (keep it away from the nodes)\n\
                     cluster key  {}  (give it to every node)\n",
                    certificate.display(),
                    key.display(),
                    shared.display()
                )
            })
        }
        Command::Node { name, host, dir, days } => {
            let Made { certificate, key } = node(&dir, &name, &host, days)?;
            out.show(&json!({ "certificate": certificate, "key": key }), || {
                format!("certificate  {}\nits key      {}\n", certificate.display(), key.display())
            })
        }
    }
}
