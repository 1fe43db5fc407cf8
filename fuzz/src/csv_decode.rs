//! Rows from outside: what is decoded comes back from its encoding.

use gear_connectors::formats::csv;

/// The first byte chooses the delimiter and the quote, the rest is a row.
pub fn run(bytes: &[u8]) {
    let Some((choice, row)) = bytes.split_first() else { return };
    let delimiter = [b',', b';', b'\t', b'|'][usize::from(choice % 4)];
    let rows = csv::rows().delimiter(delimiter);
    let unquoted = rows.clone().quote(None);
    let _ = unquoted.decode::<Vec<String>>(row);
    let _ = rows.clone().columns(["id", "name"]).decode::<(u64, Option<f64>)>(row);
    let _ = rows.clone().columns(["id", "name"]).is_header(row);
    let Ok(fields) = rows.decode::<Vec<String>>(row) else { return };
    if fields.first().is_some_and(|first| first.starts_with('\u{feff}')) {
        // In front of a row it is a mark, and skipped.
        return;
    }
    let mut encoded = Vec::new();
    rows.encode(&fields, &mut encoded);
    assert_eq!(rows.decode::<Vec<String>>(&encoded).as_ref(), Ok(&fields));
}
