//! `/proc/stat`: processor time of the node and its boot time.
//!
//! Kernel document: Documentation/filesystems/proc.rst, "Miscellaneous kernel statistics in
//! /proc/stat". Times are in USER_HZ ticks, which is 1/100 s on every architecture we build for.

use super::text;

/// Time all processors together spent in each mode since boot, in USER_HZ ticks.
///
/// Guest time is not listed: the kernel already counts it in `user` and `nice`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Normal processes in user mode.
    pub user: u64,
    /// Niced processes in user mode.
    pub nice: u64,
    /// Kernel mode.
    pub system: u64,
    /// Idle.
    pub idle: u64,
    /// Idle while some task waited for I/O.
    pub iowait: u64,
    /// Servicing interrupts.
    pub irq: u64,
    /// Servicing soft interrupts.
    pub softirq: u64,
    /// Taken by the hypervisor for other guests.
    pub steal: u64,
}

/// What nodeprobe takes from `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The `cpu` line; `None` when it is missing or has fewer than eight columns.
    pub cpu: Option<CpuTimes>,
    /// Number of `cpuN` lines, that is of processors online; 0 only if the file has none.
    pub logical_cores: usize,
    /// Boot time, seconds since 1970.
    pub boot_time_s: Option<u64>,
}

/// Reads the `cpu`, `cpuN` and `btime` lines and stops there.
pub fn parse(bytes: &[u8]) -> Stat {
    let mut stat = Stat::default();
    // The `intr` line between them can have 100 kB on large machines; `lines` jumps over it.
    for line in text::lines(bytes) {
        if let Some(rest) = line.strip_prefix(b"cpu") {
            match rest.first() {
                Some(b' ') => stat.cpu = cpu_times(rest),
                Some(b'0'..=b'9') => stat.logical_cores = stat.logical_cores.saturating_add(1),
                _ => {}
            }
        } else if let Some(seconds) = line.strip_prefix(b"btime ") {
            stat.boot_time_s = text::number(seconds);
            break;
        }
    }
    stat
}

fn cpu_times(columns: &[u8]) -> Option<CpuTimes> {
    let mut numbers = text::fields(columns).map(text::number);
    let mut next = || numbers.next().flatten();
    Some(CpuTimes {
        user: next()?,
        nice: next()?,
        system: next()?,
        idle: next()?,
        iowait: next()?,
        irq: next()?,
        softirq: next()?,
        steal: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"cpu  10 2 3 40 5 6 7 8 9 1\n\
        cpu0 5 1 1 20 2 3 3 4 5 0\n\
        cpu11 5 1 2 20 3 3 4 4 4 1\n\
        intr 987 0 0 1 0 0\n\
        ctxt 123\n\
        btime 1700000000\n\
        processes 5\n\
        softirq 4 1 1 1 1\n";

    #[test]
    fn reads_times_cores_and_boot_time() {
        let stat = parse(SAMPLE);
        let expected =
            CpuTimes { user: 10, nice: 2, system: 3, idle: 40, iowait: 5, irq: 6, softirq: 7, steal: 8 };
        assert_eq!(stat.cpu, Some(expected));
        assert_eq!(stat.logical_cores, 2);
        assert_eq!(stat.boot_time_s, Some(1_700_000_000));
    }

    #[test]
    fn too_few_columns_and_other_lines() {
        let stat = parse(b"cpu  1 2 3 4 5 6 7\ncpufreq 1\nbtime x\n");
        assert_eq!(stat, Stat::default());
        assert_eq!(parse(b"cpu  1 2 3 4 5 6 7 -8\n").cpu, None);
        assert_eq!(parse(b""), Stat::default());
    }

    #[test]
    fn a_cut_last_line_is_not_used() {
        let stat = parse(b"cpu  1 2 3 4 5 6 7 8\ncpu0 1\nbtime 17000");
        assert!(stat.cpu.is_some());
        assert_eq!(stat.boot_time_s, None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
