//! What connectors keep in an epoch's record: a tag, a version, and postcard.

use serde::{Serialize, de::DeserializeOwned};

/// Encodes a value behind the tag of its kind and the version of its format.
pub(crate) fn encode<T: Serialize>(tag: u8, version: u8, value: &T) -> Result<Vec<u8>, String> {
    postcard::to_extend(value, vec![tag, version])
        .map_err(|error| format!("the sink's account cannot be encoded: {error}"))
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// What does not fit, for the user.
pub(crate) fn decode<T: DeserializeOwned>(
    tag: u8,
    version: u8,
    what: &str,
    bytes: &[u8],
) -> Result<T, String> {
    let rest = match bytes {
        [found, ..] if *found != tag => {
            return Err(format!(
                "{what}: it was written by a connector of another kind; give the changed sink or \
                 source a new name, or start over with --fresh"
            ));
        }
        [_, found, ..] if *found != version => {
            return Err(format!(
                "{what}: it has format version {found} and this binary reads version {version}; \
                 go on with the binary that wrote it, or start over with --fresh"
            ));
        }
        [_, _, rest @ ..] => rest,
        _ => return Err(damaged(what)),
    };
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        _ => Err(damaged(what)),
    }
}

fn damaged(what: &str) -> String {
    format!("{what}: the bytes are damaged; restore the checkpoint store, or use --fresh")
}
