//! The job that copies lines from HDFS to HDFS, for as long as there may be more of them.

use std::process::ExitCode;

use gear_node::prelude::*;

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// File to follow
    #[arg(long)]
    from: String,

    /// Folder to write to
    #[arg(long)]
    to: String,
}

fn main() -> ExitCode {
    gear_node::main("hdfs-lines", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { from, to } = app.options().clone();
    // What is written is seen with the next epoch.
    app.source("lines", hdfs::source([from]).follow())
        .sink("out", hdfs::lines_sink::<Ref<str>>(to).roll_bytes(1));
    Ok(())
}
