//! `cpu.max` (v2), `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1): the processor limit.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files", and
//! Documentation/scheduler/sched-bwc.rst. Quota and period are microseconds; their ratio is the
//! number of cores the cgroup may keep busy.

use super::number;
use crate::procfs::text;

/// The v2 limit in cores; `None` if there is no limit (`max 100000`).
pub fn parse(bytes: &[u8]) -> Option<f64> {
    let mut fields = text::fields(bytes);
    let quota = text::number(fields.next()?)?;
    let period = text::number(fields.next()?)?;
    cores(quota, period)
}

/// The v1 limit in cores, from the contents of the two files; `None` if there is no limit (-1).
pub fn parse_v1(quota: &[u8], period: &[u8]) -> Option<f64> {
    cores(number::parse(quota)?, number::parse(period)?)
}

fn cores(quota_us: u64, period_us: u64) -> Option<f64> {
    // Both are far below 2^53, so the conversion is exact.
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / period_us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn version_2() {
        assert_eq!(parse(b"150000 100000\n"), Some(1.5));
        assert_eq!(parse(b"50000 100000\n"), Some(0.5));
        assert_eq!(parse(b"max 100000\n"), None);
    }

    #[test]
    fn version_1() {
        assert_eq!(parse_v1(b"25000\n", b"100000\n"), Some(0.25));
        assert_eq!(parse_v1(b"-1\n", b"100000\n"), None);
        assert_eq!(parse_v1(b"0\n", b"100000\n"), None);
    }

    #[test]
    fn wrong_files_are_no_limit() {
        for bad in ["", "\n", "100000\n", "x 100000\n", "100000 0\n", "0 100000\n", "-1 1\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_v1(b"", b""), None);
        assert_eq!(parse_v1(b"5\n", b"0\n"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"150000 100000\n", |bytes| {
            for cores in [parse(bytes), parse_v1(bytes, b"100000\n"), parse_v1(b"1\n", bytes)] {
                assert!(cores.is_none_or(|cores| cores.is_finite() && cores > 0.0));
            }
        });
    }
}
