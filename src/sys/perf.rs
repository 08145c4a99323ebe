//! Perf events, for BPF programs that sample.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_CPU_CLOCK`, which need no hardware: virtual machines often have none.
const TYPE_SOFTWARE: u32 = 1;
const CPU_CLOCK: u64 = 0;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// The first version of `struct perf_event_attr`, which every kernel takes.
const ATTR_SIZE: usize = 64;

/// A clock that ticks every `period_ns` of time processor 0 works, for whatever runs there; it counts nothing until a BPF
/// program is attached.
///
/// # Errors
/// EACCES or EPERM as `kernel.perf_event_paranoid` says, ENOENT without perf events.
pub fn open_cpu_clock(period_ns: u64) -> io::Result<OwnedFd> {
    /// `struct perf_event_attr`, version 0 (linux/perf_event.h).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        bp_addr: u64,
    }
    const { assert!(size_of::<Attr>() == ATTR_SIZE) };
    let attr = Attr {
        kind: TYPE_SOFTWARE,
        size: ATTR_SIZE as u32,
        config: CPU_CLOCK,
        sample_period: period_ns,
        ..Attr::default()
    };
    let (any_process, processor, no_group) = (-1, 0, -1);
    // SAFETY: the attributes have the size they say; the other arguments are numbers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            any_process,
            processor,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    let fd = super::check(fd as libc::c_int)?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
