//! Who may do what, and what keeps strangers out: tokens, certificates, and when both are needed.

pub mod certificates;
pub mod exposure;
pub mod own;
pub mod tls;
pub mod tokens;

pub use exposure::{Exposure, ExposureError, Listening};
pub use own::{Ends, OwnError};
pub use tokens::{Access, ClusterKey, NodeToken, Principal, Role, TokenError, TokenFile};

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// What hexadecimal digits stand for; none if they are no such digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Bytes that nobody can guess.
///
/// # Panics
/// If the operating system has no entropy to give: nothing secret can be made then.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// A random number, not 0: what nobody else has drawn.
///
/// # Panics
/// If the operating system has no entropy to give: no two nodes could be told apart then.
pub(crate) fn draw() -> u64 {
    u64::from_le_bytes(random()).max(1)
}
