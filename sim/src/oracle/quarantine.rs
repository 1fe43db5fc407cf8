//! The quarantine holds exactly the poison records, each once.

use super::counted;

/// Compares what should have been put aside with what was: operators and bytes. Of an app that was
/// ended early, `part` of it is enough.
#[must_use]
pub fn judge(
    expected: &[(String, Vec<u8>)],
    found: Vec<(String, Vec<u8>)>,
    part: bool,
) -> Vec<String> {
    let mut difference = counted(found);
    for (operator, bytes) in expected {
        *difference.entry((operator.clone(), cut(bytes))).or_default() -= 1;
    }
    let is_wrong = |count: i64| count > 0 || count < 0 && !part;
    let wrong = difference.into_iter().filter(|(_, count)| is_wrong(*count));
    let wrong = wrong.map(|((operator, bytes), count)| {
        let what = if count > 0 { "too often" } else { "too rarely" };
        let count = count.abs();
        format!("quarantine: {bytes:02x?} of {operator} was put aside {count} times {what}")
    });
    wrong.take(5).collect()
}

/// A record as the quarantine keeps it.
fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(gear_core::limits::QUARANTINED_BYTES_MAX)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_put_aside_once() {
        let poison = |byte| ("op".to_owned(), vec![byte]);
        assert!(judge(&[poison(1), poison(2)], vec![poison(2), poison(1)], false).is_empty());
        assert_eq!(judge(&[poison(1)], vec![poison(1), poison(1)], true).len(), 1, "twice");
        assert_eq!(judge(&[poison(1)], vec![], false).len(), 1, "lost");
        assert!(judge(&[poison(1)], vec![], true).is_empty(), "not read yet");
        assert_eq!(judge(&[], vec![poison(1)], true).len(), 1, "never poison");
    }
}
