//! Making and revoking tokens.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::CliError;
use super::output::{Output, table};
use crate::security::{Role, TokenFile};

/// Tokens for people and programs. Give the same file to every node.
#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
    /// File of the tokens, as nodes read it by --tokens
    #[arg(
        long,
        global = true,
        default_value = "gear-data/secrets/tokens.json",
        value_name = "FILE"
    )]
    file: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and print it this once
    Create {
        /// What it allows
        #[arg(long, value_enum)]
        role: Role,
        /// Whose it is [default: the role's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// List names and roles
    List,
    /// Take a token away: nodes refuse it within seconds
    Revoke {
        /// Whose it is
        name: String,
    },
}

pub(super) fn run(what: Token, to: &mut dyn Write) -> Result<(), CliError> {
    let file = TokenFile::at(&what.file);
    let mut out = Output::new(to, what.json);
    match what.command {
        Command::Create { role, name } => {
            let name = name.unwrap_or_else(|| role.to_string());
            let token = file.create(&name, role)?;
            eprintln!("this is the only time that the token `{name}` is shown");
            // Alone on its line, for a program that keeps it.
            out.show(&json!({ "name": name, "role": role, "token": token }), || token.clone())
        }
        Command::List => {
            let tokens = file.list()?;
            let entry = |(name, role): &(String, Role)| json!({ "name": name, "role": role });
            out.show(&tokens.iter().map(entry).collect::<Vec<_>>(), || {
                let row = |(name, role): &(String, Role)| vec![name.clone(), role.to_string()];
                table(&["NAME", "ROLE"], tokens.iter().map(row))
            })
        }
        Command::Revoke { name } => {
            if !file.revoke(&name)? {
                let path = what.file.display();
                return Err(CliError::Failed(format!("there is no token `{name}` in {path}")));
            }
            let done = format!("the token `{name}` is revoked");
            out.show(&json!({ "done": done }), || done.clone())
        }
    }
}
