//! Texts for the word count, and what there is to count in them.

use std::collections::BTreeMap;

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
