//! Asks the processor for memory that is about to be written.

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes between what is written and what is asked for: about ten records of 100 bytes, in whose
/// time a line comes from another core. What a batch's buffer has beyond a full batch is more.
const AHEAD: usize = 1_024;

/// Asks for two lines ahead of what `buffer` holds: as many as a record of 100 bytes writes to, and
/// the copy of a longer one has enough stores on their way by itself.
///
/// A buffer that comes back from a reader on another core has its lines there, and stores wait for
/// each other in their order. Asked for in time, the lines come while records are made.
#[inline(always)]
pub(crate) fn for_writing(buffer: &[u8]) {
    let at = buffer.as_ptr_range().end.wrapping_add(AHEAD);
    line(at);
    line(at.wrapping_add(LINE));
}

/// Asks for one line.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "there is no safe way to say it")]
fn line(at: *const u8) {
    // SAFETY: the instruction changes nothing that a program can see, whatever the address.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// Asks for one line.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
#[expect(unsafe_code, reason = "there is no safe way to say it")]
fn line(at: *const u8) {
    // SAFETY: the instruction changes nothing that a program can see, whatever the address.
    unsafe {
        core::arch::asm!(
            "prfm pstl1keep, [{}]",
            in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// On other processors stores take what they take.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn line(_: *const u8) {}
