//! Perf events, for BPF programs that sample.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// The first version of `struct perf_event_attr`, which every kernel takes.
const ATTR_SIZE: usize = 64;
/// Its bit `freq`: the sample period is a frequency.
const FREQUENCY: u64 = 1 << 10;

/// What happens again and again (perf_event_open(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event {
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// After how many of them there is a sample.
    pub every: Every,
}

/// How often an event gives a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Every {
    /// Never: it is only counted.
    #[default]
    Never,
    /// Each time this many have happened (for clocks: nanoseconds).
    Period(u64),
    /// About this often per second.
    Frequency(u64),
}

impl Event {
    /// The processor's clock, which needs no hardware: virtual machines often have none. A sample every `period_ns` the
    /// processor works.
    pub fn cpu_clock(period_ns: u64) -> Event {
        /// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_CPU_CLOCK`.
        const SOFTWARE_CPU_CLOCK: (u32, u64) = (1, 0);
        let (kind, config) = SOFTWARE_CPU_CLOCK;
        Event { kind, config, every: Every::Period(period_ns) }
    }

    /// Opens it for whatever runs on processor `cpu`; nothing happens until a BPF program is attached.
    ///
    /// # Errors
    /// EACCES or EPERM as `kernel.perf_event_paranoid` says, ENOENT or EOPNOTSUPP where there is no such event.
    pub fn open(self, cpu: u32) -> io::Result<OwnedFd> {
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
        let (sample_period, flags) = match self.every {
            Every::Never => (0, 0),
            Every::Period(period) => (period, 0),
            Every::Frequency(frequency) => (frequency, FREQUENCY),
        };
        let attr = Attr {
            kind: self.kind,
            size: ATTR_SIZE as u32,
            config: self.config,
            sample_period,
            flags,
            ..Attr::default()
        };
        let (any_process, no_group) = (-1, -1);
        // SAFETY: the attributes have the size they say; the other arguments are numbers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                any_process,
                cpu as libc::c_int,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        let fd = super::check(fd as libc::c_int)?;
        // SAFETY: the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
