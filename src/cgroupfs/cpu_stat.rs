//! `cpu.stat`: processor time and throttling of a cgroup, v2 and v1.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files" (microseconds)
//! and Documentation/scheduler/sched-bwc.rst, "Statistics" (v1, nanoseconds).

use crate::procfs::text;

/// Processor time and throttling since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// `usage_usec`: time used; only v2 (v1 has it in `cpuacct.usage`).
    pub usage_us: Option<u64>,
    /// `user_usec`: part of it in user mode; only v2.
    pub user_us: Option<u64>,
    /// `system_usec`: part of it in kernel mode; only v2.
    pub system_us: Option<u64>,
    /// `nr_throttled`: periods in which the cgroup was throttled.
    pub throttled_periods: Option<u64>,
    /// Time the cgroup was throttled, from v2's `throttled_usec` or v1's `throttled_time`.
    ///
    /// Nanoseconds, the finer of the two units.
    pub throttled_ns: Option<u64>,
}

/// Reads either version of the file; their keys do not collide.
pub fn parse(bytes: &[u8]) -> CpuStat {
    let mut stat = CpuStat::default();
    for (key, value) in text::lines(bytes).filter_map(text::key_and_number) {
        match key {
            b"usage_usec" => stat.usage_us = Some(value),
            b"user_usec" => stat.user_us = Some(value),
            b"system_usec" => stat.system_us = Some(value),
            b"nr_throttled" => stat.throttled_periods = Some(value),
            b"throttled_usec" => stat.throttled_ns = value.checked_mul(1000),
            b"throttled_time" => stat.throttled_ns = Some(value),
            _ => {}
        }
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const V2: &[u8] = b"usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n\
        core_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 4\nthrottled_usec 77\n\
        nr_bursts 0\nburst_usec 0\n";

    #[test]
    fn version_2() {
        let stat = parse(V2);
        assert_eq!(stat.usage_us, Some(5000));
        assert_eq!((stat.user_us, stat.system_us), (Some(3000), Some(2000)));
        assert_eq!((stat.throttled_periods, stat.throttled_ns), (Some(4), Some(77_000)));
    }

    #[test]
    fn version_1() {
        let stat = parse(b"nr_periods 10\nnr_throttled 4\nthrottled_time 123456\n");
        assert_eq!((stat.throttled_periods, stat.throttled_ns), (Some(4), Some(123_456)));
        assert_eq!(stat.usage_us, None);
    }

    #[test]
    fn what_is_missing_wrong_or_cut_is_none() {
        // Without the cpu controller v2 has the usage lines only.
        let stat = parse(b"usage_usec 1\nuser_usec x\nsystem_usec\nthrottled_usec 18446744073709551615\n");
        assert_eq!(stat.usage_us, Some(1));
        assert_eq!((stat.user_us, stat.system_us, stat.throttled_ns), (None, None, None));
        assert_eq!(parse(b"usage_usec 12"), CpuStat::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(V2, |bytes| {
            let _ = parse(bytes);
        });
    }
}
