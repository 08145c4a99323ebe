//! System calls and C libraries: the only `unsafe` code of nodeprobe, behind safe functions.

pub mod bpf;
pub mod capabilities;
pub mod clock;
pub mod file;
pub mod heap;
pub mod icmp;
pub mod inotify;
pub mod interface;
pub mod namespace;
pub mod netlink;
pub mod perf;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod text;
pub mod zlib;

use std::io;

/// The result of a system call that returns -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Asks the processor to fetch what will be looked at soon.
#[inline]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint without any effect on memory, for a valid address, with an instruction that every x86_64 has.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((&raw const *place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
