//! Counts the words of files.
//!
//! `cargo run --release -p gear-node --example word_count -- PATH...`

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::process::ExitCode;

use gear_node::prelude::*;

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// Files, folders and globs to read
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,

    /// Folder for the counts
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: String,

    /// How many of the most frequent words to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
}

fn main() -> ExitCode {
    gear_node::main_with("word-count", job, |options, _| print_top(options))
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { paths, out, .. } = app.options().clone();
    app.source("lines", files::source(paths))
        .flat_map::<Ref<str>, _>("split", |line, words| {
            line.split(is_space).filter(|word| !word.is_empty()).for_each(|word| words.push(word));
        })
        .key_by_ref(|word| *word)
        .count("counts")
        .sink("files", files::sink::<(Ref<str>, u64)>(out, write_count).suffix(".tsv"));
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

/// Prints the most frequent words from the files that the job has left.
fn print_top(options: &Options) -> Result<()> {
    let mut top = BinaryHeap::new();
    for entry in std::fs::read_dir(&options.out)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "tsv") {
            continue;
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let Some((word, count)) = line.rsplit_once('\t') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            top.push(Reverse((count, Reverse(word.to_string()))));
            if top.len() > options.top {
                top.pop();
            }
        }
    }
    for Reverse((count, Reverse(word))) in top.into_sorted_vec() {
        println!("{count:>12}  {word}");
    }
    Ok(())
}
