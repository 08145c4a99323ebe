//! System calls and C libraries: the only `unsafe` code of nodeprobe, behind safe functions.

pub mod bpf;
pub mod clock;
pub mod inotify;
pub mod netlink;
pub mod perf;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod zlib;

use std::io;

/// The result of a system call that returns -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
