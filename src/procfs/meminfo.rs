//! `/proc/meminfo`: memory of the node.
//!
//! Kernel document: Documentation/filesystems/proc.rst, "meminfo". The file says kB and means
//! 1024 bytes; everything here is in bytes.

use super::text;

/// What nodeprobe takes from `/proc/meminfo`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`: usable memory.
    pub total_bytes: Option<u64>,
    /// `MemFree`: memory in no use at all.
    pub free_bytes: Option<u64>,
    /// `MemAvailable`: what new programs could get without swapping.
    pub available_bytes: Option<u64>,
    /// `Cached`: page cache, shared memory included.
    pub cached_bytes: Option<u64>,
}

/// Reads the four sizes and stops when it has them: they stand within the first lines.
pub fn parse(bytes: &[u8]) -> MemInfo {
    let mut info = MemInfo::default();
    let mut wanted = 4u8;
    for line in text::lines(bytes) {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let slot = match name {
            b"MemTotal" => &mut info.total_bytes,
            b"MemFree" => &mut info.free_bytes,
            b"MemAvailable" => &mut info.available_bytes,
            b"Cached" => &mut info.cached_bytes,
            _ => continue,
        };
        *slot = text::kilobytes(value.get(1..).unwrap_or_default());
        wanted = wanted.saturating_sub(1);
        if wanted == 0 {
            break;
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"MemTotal:       24669116 kB\n\
        MemFree:        20000000 kB\n\
        MemAvailable:   22000000 kB\n\
        Buffers:           12345 kB\n\
        Cached:             1024 kB\n\
        SwapCached:            7 kB\n\
        HugePages_Total:       0\n";

    #[test]
    fn kilobytes_are_1024_bytes() {
        let info = parse(SAMPLE);
        assert_eq!(info.total_bytes, Some(24_669_116 * 1024));
        assert_eq!(info.free_bytes, Some(20_000_000 * 1024));
        assert_eq!(info.available_bytes, Some(22_000_000 * 1024));
        assert_eq!(info.cached_bytes, Some(1024 * 1024));
    }

    #[test]
    fn what_is_missing_or_wrong_is_none() {
        let info = parse(b"MemTotal: 5 kB\nMemFree: x kB\nno colon\nMemAvailable:\nSwapCached: 1 kB\n");
        assert_eq!(info.total_bytes, Some(5120));
        assert_eq!(info.free_bytes, None);
        assert_eq!(info.available_bytes, None);
        assert_eq!(info.cached_bytes, None);
        assert_eq!(parse(b"MemTotal: 5 MB\n"), MemInfo::default());
        assert_eq!(parse(b"MemTotal: 5 kB"), MemInfo::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
