//! Writes the seeds anew that hold records of the commit log.

use std::io::Result;
use std::path::Path;

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, content) in gear_fuzz::seeds::with_records() {
        std::fs::write(corpus.join(name), content)?;
    }
    Ok(())
}
