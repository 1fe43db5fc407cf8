//! Text that reads like English to a program that counts words.
//!
//! Words are drawn from a vocabulary of 200,000 by the law of Zipf and Mandelbrot,
//! `1 / (rank + 2.7)`, which is how often words occur in English prose. The most frequent ones are
//! real; the others are made of syllables and get longer as they get rarer, so that a word of the
//! text has about five letters. Every eighth or so has a comma or a full stop attached, behind a
//! full stop a capital follows, and lines break between 60 and 80 characters: as in real text, what
//! lies between spaces has many more forms than the vocabulary has words. It is ASCII, like most
//! of English; it has no topics, so that rare words do not come in flocks, which is a little harder
//! on caches than prose is.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

const VOCABULARY: usize = 200_000;
const FREQUENT: &str = "the of and to in a is that for it as was with be by on not he i this are \
    or his from at which but have an had they you were their one all we can her has there been if \
    more when will would who so no she other its may these what them than some him time into only \
    do such my new about out also two any up first could our then most see me should after said \
    your very between made many over like those did now even well where must people through how \
    same work being because man life before each much under years way great state both use upon \
    own used however us part good world make three while long day without just men general during \
    another little found here system does down number case against might still back right know \
    place every between own since against come";
const ONSETS: &[&str] = &[
    "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "pr",
    "ch", "sh", "th", "gr", "cl", "br", "pl", "",
];
const NUCLEI: &[&str] = &["a", "e", "i", "o", "u", "ea", "ou", "ai", "io", "ee"];
const CODAS: &[&str] = &["", "", "n", "r", "s", "t", "l", "m", "d", "ck", "ng", "nt", "st", "ly"];

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn vocabulary(random: &mut Random) -> Vec<String> {
    let mut words: Vec<String> = FREQUENT.split_whitespace().map(str::to_owned).collect();
    let mut known: std::collections::HashSet<String> = words.iter().cloned().collect();
    while words.len() < VOCABULARY {
        let rarity = (words.len() as f64).log10();
        let syllables = 1 + random.below(((rarity - 1.0) * 1.1).max(1.0).round() as usize);
        let mut word = String::new();
        for _ in 0..syllables {
            word.push_str(random.of(ONSETS));
            word.push_str(random.of(NUCLEI));
        }
        word.push_str(random.of(CODAS));
        if known.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// Draws in constant time: the method of aliases (Walker, 1977; Vose, 1991).
struct Aliases(Vec<(f64, usize)>);

impl Aliases {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let weights: Vec<f64> = weights.collect();
        let total: f64 = weights.iter().sum();
        let count = weights.len() as f64;
        let mut scaled: Vec<f64> = weights.iter().map(|weight| weight * count / total).collect();
        let mut table: Vec<(f64, usize)> = (0..scaled.len()).map(|place| (1.0, place)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..scaled.len()).partition(|place| scaled[*place] < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            table[less] = (scaled[less], more);
            scaled[more] -= 1.0 - scaled[less];
            if scaled[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self(table)
    }

    fn draw(&self, random: &mut Random) -> usize {
        let place = random.below(self.0.len());
        let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let (keep, other) = self.0[place];
        if uniform < keep { place } else { other }
    }
}

/// Writes about so many bytes of text, unless the file is there already; gives the number of words.
pub(crate) fn write(path: &Path, bytes: usize) -> u64 {
    let count = path.with_extension("words");
    let known = std::fs::read_to_string(&count).ok().and_then(|text| text.parse().ok());
    if let (Some(words), true) = (known, path.exists()) {
        return words;
    }
    let mut random = Random(2_024);
    let words = vocabulary(&mut random);
    let aliases = Aliases::new((0..words.len()).map(|rank| 1.0 / (rank as f64 + 2.7)));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let (mut written, mut line, mut width, mut total) = (0, String::new(), 70, 0_u64);
    let mut capital = true;
    while written < bytes {
        let word = &words[aliases.draw(&mut random)];
        if !line.is_empty() {
            if line.len() + word.len() > width {
                line.push('\n');
                out.write_all(line.as_bytes()).unwrap();
                written += line.len();
                line.clear();
                width = 60 + random.below(20);
            } else {
                line.push(' ');
            }
        }
        if std::mem::take(&mut capital) {
            line.extend(word[..1].chars().map(|first| first.to_ascii_uppercase()));
            line.push_str(&word[1..]);
        } else {
            line.push_str(word);
        }
        match random.below(16) {
            0 => {
                line.push('.');
                capital = true;
            }
            1 => line.push(','),
            _ => {}
        }
        total += 1;
    }
    line.push('\n');
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
    std::fs::write(count, total.to_string()).unwrap();
    total
}
