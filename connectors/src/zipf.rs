//! Zipf's distribution.

use crate::random::SplitMix;

/// Draws keys of which the `k`-th is as likely as `1 / (k + 1) ^ exponent`.
///
/// Rejection-inversion (Hörmann and Derflinger, 1996): no table, and about one try a key.
#[derive(Clone, Debug)]
pub struct Zipf {
    keys: f64,
    exponent: f64,
    first: f64,
    last: f64,
    near: f64,
}

/// Tries before the most frequent key is taken; the chance of a second one is below a half.
const TRIES_MAX: u32 = 64;

impl Zipf {
    /// `keys` and `exponent` are at least 1 and 0.
    #[must_use]
    pub fn new(keys: u64, exponent: f64) -> Self {
        let exponent = if exponent.is_finite() { exponent.max(0.0) } else { 1.0 };
        let keys = keys.max(1) as f64;
        let mut zipf = Self { keys, exponent, first: 0.0, last: 0.0, near: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(keys + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The key of a random number, below the number of keys.
    #[must_use]
    pub fn sample(&self, random: u64) -> u64 {
        let mut random = SplitMix(random);
        for _ in 0..TRIES_MAX {
            let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let u = self.last + uniform * (self.first - self.last);
            let x = self.inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.keys);
            if k - x <= self.near || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u64 - 1;
            }
        }
        0
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the density from 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        // Near 0, where the exponent is 1, the quotient has no value of its own.
        let factor = if power.abs() > 1e-8 { power.exp_m1() / power } else { 1.0 + power / 2.0 };
        factor * log
    }

    fn inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        let factor = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 };
        (factor * x).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_those_of_zipf() {
        for exponent in [0.0, 0.5, 1.0, 1.2, 2.0] {
            let (keys, draws) = (20_u64, 200_000_u64);
            let zipf = Zipf::new(keys, exponent);
            let mut found = vec![0_u64; keys as usize];
            let mut random = SplitMix(7);
            (0..draws).for_each(|_| found[zipf.sample(random.next()) as usize] += 1);
            let weight = |key: u64| 1.0 / ((key + 1) as f64).powf(exponent);
            let sum: f64 = (0..keys).map(weight).sum();
            for key in 0..keys {
                let expected = draws as f64 * weight(key) / sum;
                let difference = (found[key as usize] as f64 - expected).abs();
                assert!(difference < 5.0 * expected.sqrt() + 1.0, "{exponent} {key} {found:?}");
            }
        }
    }
}
