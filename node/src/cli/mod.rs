//! The command line of `gear-node`.
//!
//! Exit codes: 0 it was done; 1 it was refused or has failed; 2 the command line is wrong; 3 no
//! cluster is reachable; 4 not allowed; 5 there is no such thing.

mod apps;
mod cert;
mod connection;
mod nodes;
mod output;
mod submit;
#[cfg(test)]
mod tests;
mod token;
mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::Code;
use crate::client::ClientError;
use crate::security::certificates::CertificateError;
use crate::security::tls::TlsError;
use crate::security::tokens::TokenError;
use crate::server::{self, StartOptions};
pub use connection::Connection;
use output::Output;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no \
                          cluster reachable, 4 not allowed, 5 not found";

/// Runs the nodes of a Gear cluster, and asks them.
#[derive(Debug, Parser)]
#[command(name = "gear-node", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node
    Start(Box<StartOptions>),
    /// Run a job's binary on the cluster
    Submit(Asking<submit::Submit>),
    /// List the apps
    Apps(Asking<apps::Apps>),
    /// Show everything about an app
    App(Asking<apps::App>),
    /// Stop an app with one last epoch
    Stop(Asking<apps::Stop>),
    /// End an app at once
    Kill(Asking<apps::Kill>),
    /// Run an app again from where it is
    Restart(Asking<apps::Restart>),
    /// Take a savepoint of an app, or list its savepoints
    Savepoint(Asking<apps::Savepoint>),
    /// Show the records that an app has put aside
    Quarantine(Asking<apps::Quarantine>),
    /// Show the ends of the logs of an app's processes
    Logs(Asking<apps::Logs>),
    /// List the nodes
    Nodes(Asking<nodes::Nodes>),
    /// Show who votes among the masters, or change it
    Voters(Asking<nodes::Voters>),
    /// Move everything away from a node, and give it nothing new
    Drain(Asking<nodes::Drain>),
    /// Let a node have work again
    Undrain(Asking<nodes::Undrain>),
    /// Watch nodes and apps
    Top(Asking<top::Top>),
    /// Make certificates for the nodes of a cluster
    Cert(cert::Cert),
    /// Make and revoke tokens for people
    Token(token::Token),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// A command that asks a cluster.
#[derive(Debug, clap::Args)]
struct Asking<C: clap::Args> {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    what: C,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The cluster did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Certificates or tokens on this machine cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of a token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A certificate was not made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The arguments do not fit each other.
    #[error("{0}")]
    Usage(String),
    /// It was done, and went wrong.
    #[error("{0}")]
    Failed(String),
    /// What was to be printed cannot be.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Client(ClientError::Unreachable { .. } | ClientError::Protocol { .. }) => 3,
            Self::Client(ClientError::Problem(problem)) => match problem.code {
                Code::NoToken | Code::NotAllowed | Code::ForeignOrigin => 4,
                Code::NotFound => 5,
                _ => 1,
            },
            _ => 1,
        }
    }
}

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Start(options) = cli.command {
        return server::start(*options);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, &mut std::io::stdout().lock())),
        Err(error) => Err(CliError::Output(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever has read enough closes the pipe.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gear-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Does what a command line asks for, but starting a node, and prints to `to`.
///
/// # Errors
/// [`CliError`], for the user.
pub async fn run(cli: Cli, to: &mut dyn Write) -> Result<(), CliError> {
    match cli.command {
        Command::Start(_) => Err(CliError::Usage("a node has a process of its own".into())),
        Command::Submit(it) => {
            submit::run(&it.connection.client()?, it.what, Output::new(to, it.json)).await
        }
        Command::Apps(it) => {
            apps::list(&it.connection.client()?, it.what, Output::new(to, it.json)).await
        }
        Command::App(it) => {
            apps::show(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Stop(it) => {
            apps::stop(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Kill(it) => {
            apps::kill(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Restart(it) => {
            apps::restart(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Savepoint(it) => {
            apps::savepoint(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Quarantine(it) => {
            apps::quarantine(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Logs(it) => {
            apps::logs(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Nodes(it) => nodes::list(&it.connection.client()?, Output::new(to, it.json)).await,
        Command::Voters(it) => {
            nodes::voters(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Drain(it) => {
            nodes::drain(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Undrain(it) => {
            nodes::undrain(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Top(it) => {
            top::run(&it.connection.client()?, &it.what, Output::new(to, it.json)).await
        }
        Command::Cert(it) => cert::run(it, to),
        Command::Token(it) => token::run(it, to),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gear-node", &mut text);
            Ok(to.write_all(&text)?)
        }
    }
}
