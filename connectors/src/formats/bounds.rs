//! What is taken from outside, and what is said about it, is bounded.

use std::fmt::{self, Write as _};

use super::{DECODED_BYTES_MAX, Error, REASON_BYTES_MAX};

/// The bytes, if they are no more than are decoded.
#[inline]
pub(super) fn bounded(bytes: &[u8]) -> Result<&[u8], Error> {
    if bytes.len() > DECODED_BYTES_MAX {
        return Err(Error::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// The beginning of what `error` says.
#[cold]
pub(super) fn reason(error: impl fmt::Display) -> String {
    let mut reason = Reason(String::new());
    // It refuses only what it has no room for, and has marked that.
    let _ = write!(reason, "{error}");
    reason.0
}

/// Takes as much text as a reason may have.
struct Reason(String);

impl fmt::Write for Reason {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const CUT: &str = "...";
        let room = REASON_BYTES_MAX - CUT.len() - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push_str(CUT);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(reason("short"), "short");
        for shift in 0..4 {
            let long = format!("{}{}", "x".repeat(shift), "\u{1f980}".repeat(100));
            let cut = reason(&long);
            assert!(cut.len() <= REASON_BYTES_MAX && cut.ends_with("..."), "{cut}");
            assert!(long.starts_with(cut.trim_end_matches('.')));
        }
        struct Parts;
        impl fmt::Display for Parts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1_000_000).try_for_each(|_| f.write_str("part "))
            }
        }
        assert_eq!(reason(Parts).len(), REASON_BYTES_MAX);
    }
}
