//! The audit of the channels agrees: nothing was missing before what came, and what the two ends of
//! a channel have counted and hashed in an epoch is the same.

use gear_core::link::LinkFigures;

/// The figures of a link.
///
/// # Errors
/// The rule that is broken.
pub fn judge(figures: &LinkFigures) -> Result<(), String> {
    let LinkFigures { gaps, failed, checked, .. } = figures;
    if *gaps > 0 {
        return Err(format!("audit: something was missing on a link {gaps} times"));
    }
    if *failed > 0 {
        return Err(format!("audit: {failed} of {checked} epochs of channels do not agree"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_differences_are_seen() {
        let good = LinkFigures { checked: 9, duplicates: 3, repeated: 4, ..LinkFigures::default() };
        judge(&good).unwrap();
        assert!(judge(&LinkFigures { gaps: 1, ..good }).is_err());
        assert!(judge(&LinkFigures { failed: 1, ..good }).is_err());
    }
}
