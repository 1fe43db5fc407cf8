//! Texts for the word count, and what there is to count in them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::process::Dice;

/// What a word count has to come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Every word.
    pub words: BTreeMap<String, String>,
    /// Lines.
    pub lines: u64,
    /// Lines that are not UTF-8.
    pub bad_lines: u64,
}

/// Counts the words of files, in the plainest way there is.
#[must_use]
pub fn count<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Count {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = Count::default();
    for file in files {
        if file.is_empty() {
            continue;
        }
        let file = file.strip_suffix(b"\n").unwrap_or(file);
        for line in file.split(|byte| *byte == b'\n') {
            count.lines += 1;
            let Ok(line) = std::str::from_utf8(line) else {
                count.bad_lines += 1;
                continue;
            };
            for word in line.split([' ', '\t', '\x0b', '\x0c', '\r']) {
                if !word.is_empty() {
                    *words.entry(word.to_owned()).or_default() += 1;
                }
            }
        }
    }
    count.words = words.into_iter().map(|(word, times)| (word, times.to_string())).collect();
    count
}

/// Letters of two to four bytes, and spaces that part no words.
const WIDE: &str =
    "na\u{ef}ve \u{fc}ber\u{a0}all \u{2003}wide \u{1f600}\u{1f600} \u{65e5}\u{672c} the\n";

/// Files with everything in them that is apt to be miscounted, by their names.
#[must_use]
pub fn odd() -> Vec<(&'static str, Vec<u8>)> {
    let long = "w".repeat(100_000);
    let bad = |line: &[u8]| [b"good \n", line, b"\ngood good"].concat();
    Vec::from([
        ("a/plain.txt", b"the cat and the dog\nthe end\n".to_vec()),
        ("a/breaks.txt", b"a\x0bb\x0cc\rd\r\ne\tf  g\n\n\n \t \nlast".to_vec()),
        ("a/deep/er/words.md", WIDE.into()),
        ("a/long.txt", format!("{long} {long}x the\n{long}").into_bytes()),
        ("a/empty.txt", Vec::new()),
        ("a/only-break.txt", b"\n".to_vec()),
        ("b1.log", bad(b"bad \xff\xfe line")),
        ("b2.log", bad(b"\xe2\x82")),
        ("b3.log", b"\xc3\x28 bad and nothing else".to_vec()),
        ("nul.txt", b"nul\0byte the\0\n\x1f\x7f\x1c\n".to_vec()),
    ])
}

/// Lines of words of which few are frequent and many are rare, the same for the same seed.
#[must_use]
pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice::of(seed);
    let mut text = Vec::with_capacity(bytes + 128);
    while text.len() < bytes {
        for _ in 0..dice.below(14) {
            let rank = dice.below(6_000) * dice.below(6_000) / 3_000;
            text.extend_from_slice(format!("w{rank} ").as_bytes());
        }
        text.push(b'\n');
    }
    text
}

/// What of a result is wrong, shortly.
///
/// # Panics
/// If a line is no word and its count.
#[must_use]
pub fn differences(lines: &[String], expected: &Count) -> Vec<String> {
    let mut left = expected.words.clone();
    let mut wrong = Vec::new();
    for line in lines {
        let (word, count) = line.rsplit_once('\t').expect("a line is a word and a count");
        match left.remove(word) {
            Some(right) if right == count => {}
            Some(right) => wrong.push(format!("{word}: {count} instead of {right}")),
            None => wrong.push(format!("{word}: {count} once more")),
        }
    }
    wrong.extend(left.iter().map(|(word, count)| format!("{word}: {count} is missing")));
    let all = wrong.len();
    wrong.truncate(10);
    if all > 10 {
        wrong.push(format!("and {} more", all - 10));
    }
    wrong
}

/// The lines of the visible files below an output folder.
///
/// # Panics
/// If they cannot be read, or are no text.
#[must_use]
pub fn lines(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    if folder.exists() {
        crate::walk_all(folder, &mut files);
    }
    let staged = folder.join(".staged");
    let visible = files.into_iter().filter(|file| !file.starts_with(&staged));
    let texts = visible.map(|file| std::fs::read_to_string(file).expect("it is text"));
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}
