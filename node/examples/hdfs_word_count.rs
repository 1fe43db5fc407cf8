//! Counts the words of files on HDFS, into files on HDFS.
//!
//! `cargo run --release -p gear-node --features hdfs --example hdfs_word_count --
//! hdfs://HOST:PORT/in --out hdfs://HOST:PORT/out`

use std::process::ExitCode;

use gear_node::prelude::*;

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// Files, folders and globs to read, as hdfs://host:port/in/*.txt
    #[arg(required = true, value_name = "URL")]
    paths: Vec<String>,

    /// Folder for the counts, as hdfs://host:port/out
    #[arg(long, value_name = "URL")]
    out: String,
}

fn main() -> ExitCode {
    gear_node::main("hdfs-word-count", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { paths, out } = app.options().clone();
    app.source("lines", hdfs::source(paths))
        .flat_map::<Ref<str>, _>("split", |line, words| {
            line.split(is_space).filter(|word| !word.is_empty()).for_each(|word| words.push(word));
        })
        .key_by_ref(|word| *word)
        .count("counts")
        .sink("files", hdfs::sink::<(Ref<str>, u64)>(out, write_count).suffix(".tsv"));
    Ok(())
}

/// White space in the C locale: what parts words, whatever the language.
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn write_count((word, count): (&str, u64), out: &mut Vec<u8>) {
    out.extend_from_slice(word.as_bytes());
    out.push(b'\t');
    out.extend_from_slice(count.to_string().as_bytes());
    out.push(b'\n');
}
