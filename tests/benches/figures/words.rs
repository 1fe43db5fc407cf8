//! COST: how many cores it takes to outrun the plain program that counts words.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gear_connectors::files;
use gear_core::api::Ref;
use gear_core::api::source::{Source, SourceConnector};
use gear_core::dsl::{App, Flow, Stream};
use rustc_hash::FxBuildHasher;

use crate::jobs::{self, How, Watch};
use crate::row::Row;
use crate::text;

const BYTES: usize = 512 << 20;
const COPY_BYTES: usize = 8 << 20;
/// Words of a copy, about.
pub(crate) const COPY_WORDS: usize = COPY_BYTES / 6;
const NAME: &str = "plain read_line and FxHashMap";

pub(crate) fn rows() -> Vec<Row> {
    let second = Duration::from_secs(1);
    let prepare = move |parallelism| {
        move || -> (crate::row::Measure, crate::row::Measure) {
            let path = jobs::folder().join("words.txt");
            text::write(&path, BYTES);
            let size = std::fs::metadata(&path).unwrap().len() as f64 / 1e6;
            let other = path.clone();
            let mut checked = false;
            let subject = move || {
                let (took, words) = gear(&path, How::parallel(parallelism, second));
                if !std::mem::replace(&mut checked, true) {
                    let out = jobs::temporary();
                    plain(&path, &out.path().join("counts"));
                    assert_eq!(words, sorted(&out.path().join("counts")), "another result");
                }
                size / took
            };
            let reference = move || {
                let out = jobs::temporary();
                let watch = Watch::start();
                plain(&other, &out.path().join("counts"));
                size / watch.seconds()
            };
            (Box::new(subject), Box::new(reference))
        }
    };
    vec![
        Row::against("COST: word count, 1 core, 1 s epochs", "MB/s", 0.6, NAME, prepare(1)),
        Row::against("COST: word count, 2 cores, 1 s epochs", "MB/s", 1.1, NAME, prepare(2)),
    ]
}

/// The job of `node/examples/word_count.rs`, up to its sink.
pub(crate) fn counts<S>(
    app: &mut App,
    source: S,
) -> Stream<(Ref<str>, u64), impl Flow<Out = (Ref<str>, u64)> + use<S>>
where
    S: SourceConnector,
    S::Source: Source<Out = Ref<str>>,
{
    app.source("lines", source)
        .flat_map::<Ref<str>, _>("split", |line, words| {
            line.split(is_space).filter(|word| !word.is_empty()).for_each(|word| words.push(word));
        })
        .key_by_ref(|word: &&str| *word)
        .count("counts")
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn gear(path: &Path, how: How) -> (f64, Vec<String>) {
    let out = jobs::temporary();
    let folder = out.path().to_string_lossy().into_owned();
    let path = path.to_string_lossy().into_owned();
    let (took, _) = jobs::run(how, |app| {
        let write = |(word, count): (&str, u64), out: &mut Vec<u8>| {
            out.extend_from_slice(word.as_bytes());
            out.push(b'\t');
            out.extend_from_slice(count.to_string().as_bytes());
            out.push(b'\n');
        };
        let sink = files::sink::<(Ref<str>, u64)>(folder.clone(), write).suffix(".tsv");
        counts(app, files::source([path.clone()])).sink("files", sink);
    });
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(out.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tsv") {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort_unstable();
    (took, lines)
}

/// What a good engineer writes in ten minutes.
fn plain(path: &Path, out: &Path) {
    let mut counts: HashMap<Box<str>, u64, FxBuildHasher> = HashMap::default();
    let mut input = BufReader::with_capacity(1 << 16, File::open(path).unwrap());
    let mut line = String::new();
    while input.read_line(&mut line).unwrap() > 0 {
        for word in line.split(is_space).filter(|word| !word.is_empty()) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.into(), 1);
                }
            }
        }
        line.clear();
    }
    let mut out = BufWriter::new(File::create(out).unwrap());
    for (word, count) in &counts {
        writeln!(out, "{word}\t{count}").unwrap();
    }
    out.flush().unwrap();
}

fn sorted(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Two files with the same few megabytes of text.
pub(crate) fn copies() -> [PathBuf; 2] {
    let files = ["copy-1.txt", "copy-2.txt"].map(|name| jobs::folder().join(name));
    for path in &files {
        text::write(path, COPY_BYTES);
    }
    files
}
