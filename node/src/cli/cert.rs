//! Making certificates.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CliError;
use crate::security::certificates::{AUTHORITY_DAYS, Made, NODE_DAYS, init_authority, node};
use crate::security::tokens::write_secret;
use crate::security::{hex, random};

/// Certificates for the nodes of a cluster.
#[derive(Args, Debug)]
pub(super) struct Cert {
    #[command(subcommand)]
    command: Command,
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
    match what.command {
        Command::InitCa { dir, days } => {
            let Made { certificate, key } = init_authority(&dir, days)?;
            let shared = dir.join("cluster.key");
            write_secret(&shared, hex(&random::<32>()).as_bytes())?;
            writeln!(
                to,
                "authority    {}  (give it to every node and client)",
                certificate.display()
            )?;
            writeln!(to, "its key      {}  (keep it away from the nodes)", key.display())?;
            writeln!(to, "cluster key  {}  (give it to every node)", shared.display())?;
        }
        Command::Node { name, host, dir, days } => {
            let Made { certificate, key } = node(&dir, &name, &host, days)?;
            writeln!(to, "certificate  {}", certificate.display())?;
            writeln!(to, "its key      {}", key.display())?;
        }
    }
    Ok(())
}
