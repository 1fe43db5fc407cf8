//! Whether a file is a program that this machine runs, as far as its header says.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes of the header of a 64-bit file.
const HEADER_BYTES: usize = 64;
/// Bytes of an entry of its program header table.
const SEGMENT_BYTES: usize = 56;
/// Most entries that are looked at: real programs have about ten.
const SEGMENTS_MAX: u16 = 1_024;
/// A segment that is a part of the file to be loaded.
const LOADED: u32 = 1;

/// Why a file is no program for this machine.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error(
        "the file is no program for Linux (no ELF file): build the job on Linux, and submit \
             the binary itself, not a script or an archive"
    )]
    NoElf,
    /// It is a library or an object file.
    #[error("the file is no program but a library or an object file: submit the job's binary")]
    NoProgram,
    /// It is for another machine.
    #[error("the binary is built for {found}, and the nodes are {wanted}: build it for {wanted}")]
    Machine {
        /// What it is built for.
        found: String,
        /// What this machine is.
        wanted: &'static str,
    },
    /// A part is missing.
    #[error("the binary is truncated: it has {bytes} bytes, and its header speaks of {needed}")]
    Truncated {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// It cannot be read.
    #[error("the binary cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The number by which a file says for which processor it is.
const fn number_of(machine: &str) -> Option<u16> {
    Some(match machine.as_bytes() {
        b"x86" => 3,
        b"powerpc64" => 21,
        b"s390x" => 22,
        b"arm" => 40,
        b"x86_64" => 62,
        b"aarch64" => 183,
        b"riscv64" => 243,
        b"loongarch64" => 258,
        _ => return None,
    })
}

const MACHINES: &[&str] =
    &["x86", "powerpc64", "s390x", "arm", "x86_64", "aarch64", "riscv64", "loongarch64"];

fn name_of(number: u16) -> String {
    let known = MACHINES.iter().find(|machine| number_of(machine) == Some(number));
    known.map_or_else(|| format!("machine {number}"), |name| (*name).to_owned())
}

/// Checks that a file is a whole program for this machine.
pub(super) fn check(path: &Path) -> Result<(), ElfError> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(if header.starts_with(b"\x7fELF") {
                ElfError::Truncated { bytes, needed: HEADER_BYTES as u64 }
            } else {
                ElfError::NoElf
            });
        }
        other => other?,
    }
    if !header.starts_with(b"\x7fELF") {
        return Err(ElfError::NoElf);
    }
    let wanted = std::env::consts::ARCH;
    let machine = u16_at(&header, 18);
    let is_64 = header[4] == 2;
    let is_little = header[5] == 1;
    if !is_64 || !is_little || number_of(wanted).is_some_and(|number| number != machine) {
        let found = if is_little {
            format!("{}{}", name_of(machine), if is_64 { "" } else { " with 32 bits" })
        } else {
            "a machine with the other byte order".into()
        };
        return Err(ElfError::Machine { found, wanted });
    }
    // A program, with a fixed address or without.
    if !matches!(u16_at(&header, 16), 2 | 3) || u16_at(&header, 56) == 0 {
        return Err(ElfError::NoProgram);
    }
    let needed = needed(&mut file, &header)?;
    if needed > bytes { Err(ElfError::Truncated { bytes, needed }) } else { Ok(()) }
}

/// Bytes that a file has to have, by its header and its table of segments.
fn needed(file: &mut File, header: &[u8; HEADER_BYTES]) -> Result<u64, ElfError> {
    let (segments, entry) = (u64_at(header, 32), u16_at(header, 54));
    let count = u16_at(header, 56).min(SEGMENTS_MAX);
    let table = segments.saturating_add(u64::from(entry) * u64::from(count));
    let sections = u64::from(u16_at(header, 58)) * u64::from(u16_at(header, 60));
    let mut needed = table.max(u64_at(header, 40).saturating_add(sections));
    if table > file.metadata()?.len() || usize::from(entry) < SEGMENT_BYTES {
        return Ok(needed);
    }
    file.seek(SeekFrom::Start(segments))?;
    for _ in 0..count {
        let mut segment = vec![0; usize::from(entry)];
        file.read_exact(&mut segment)?;
        if u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]) == LOADED {
            needed = needed.max(u64_at(&segment, 8).saturating_add(u64_at(&segment, 32)));
        }
    }
    Ok(needed)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
