//! `memory.stat`: what the memory of a cgroup is used for, v2 and v1, in bytes.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files", and
//! Documentation/admin-guide/cgroup-v1/memory.rst, section 5.2.

use crate::procfs::text;

/// What nodeprobe takes from the v2 file, in bytes, descendants included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Anonymous memory.
    pub anon: Option<u64>,
    /// Page cache, tmpfs and shared memory included.
    pub file: Option<u64>,
    /// Page cache mapped by some process.
    pub file_mapped: Option<u64>,
    /// Page cache on the inactive list, the first to be reclaimed.
    pub inactive_file: Option<u64>,
    /// Swap-backed cache: tmpfs and shared memory.
    pub shmem: Option<u64>,
}

/// What nodeprobe takes from the v1 file, in bytes.
///
/// Each is the `total_` value, descendants included, or the cgroup's own without hierarchy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStatV1 {
    /// Anonymous memory; despite its name, no mapped files.
    pub rss: Option<u64>,
    /// Page cache mapped by some process.
    pub mapped_file: Option<u64>,
    /// Page cache.
    pub cache: Option<u64>,
    /// Page cache on the inactive list, the first to be reclaimed.
    pub inactive_file: Option<u64>,
    /// Memory in swap; absent without `swapaccount`.
    pub swap: Option<u64>,
}

/// Reads the v2 file.
pub fn parse(bytes: &[u8]) -> MemoryStat {
    let mut stat = MemoryStat::default();
    let mut wanted = 5u8;
    for (key, value) in text::lines(bytes).filter_map(text::key_and_number) {
        let slot = match key {
            b"anon" => &mut stat.anon,
            b"file" => &mut stat.file,
            b"file_mapped" => &mut stat.file_mapped,
            b"inactive_file" => &mut stat.inactive_file,
            b"shmem" => &mut stat.shmem,
            _ => continue,
        };
        *slot = Some(value);
        // The second half of the file are event counts we do not need.
        wanted = wanted.saturating_sub(1);
        if wanted == 0 {
            break;
        }
    }
    stat
}

/// Reads the v1 file.
pub fn parse_v1(bytes: &[u8]) -> MemoryStatV1 {
    let mut own = MemoryStatV1::default();
    let mut total = MemoryStatV1::default();
    for (key, value) in text::lines(bytes).filter_map(text::key_and_number) {
        let slot = match key {
            b"rss" => &mut own.rss,
            b"mapped_file" => &mut own.mapped_file,
            b"cache" => &mut own.cache,
            b"inactive_file" => &mut own.inactive_file,
            b"swap" => &mut own.swap,
            b"total_rss" => &mut total.rss,
            b"total_mapped_file" => &mut total.mapped_file,
            b"total_cache" => &mut total.cache,
            b"total_inactive_file" => &mut total.inactive_file,
            b"total_swap" => &mut total.swap,
            _ => continue,
        };
        *slot = Some(value);
    }
    MemoryStatV1 {
        rss: total.rss.or(own.rss),
        mapped_file: total.mapped_file.or(own.mapped_file),
        cache: total.cache.or(own.cache),
        inactive_file: total.inactive_file.or(own.inactive_file),
        swap: total.swap.or(own.swap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const V2: &[u8] = b"anon 1000\nfile 2000\nkernel 5\nshmem 300\nfile_mapped 400\n\
        anon_thp 0\ninactive_anon 1\nactive_anon 2\ninactive_file 500\nactive_file 6\npgfault 7\n";
    const V1: &[u8] = b"cache 1\nrss 2\nrss_huge 0\nmapped_file 3\nhierarchical_memory_limit 9\n\
        total_cache 10\ntotal_rss 20\ntotal_rss_huge 0\ntotal_mapped_file 30\ntotal_swap 40\ntotal_inactive_file 50\n";

    #[test]
    fn version_2() {
        let expected = MemoryStat {
            anon: Some(1000),
            file: Some(2000),
            file_mapped: Some(400),
            inactive_file: Some(500),
            shmem: Some(300),
        };
        assert_eq!(parse(V2), expected);
    }

    #[test]
    fn version_1_prefers_totals() {
        let stat = parse_v1(V1);
        assert_eq!((stat.rss, stat.mapped_file, stat.cache), (Some(20), Some(30), Some(10)));
        assert_eq!((stat.swap, stat.inactive_file), (Some(40), Some(50)));
        let stat = parse_v1(b"cache 1\nrss 2\nmapped_file 3\ntotal_rss 20\n");
        assert_eq!((stat.rss, stat.mapped_file, stat.cache), (Some(20), Some(3), Some(1)));
    }

    #[test]
    fn what_is_missing_wrong_or_cut_is_none() {
        assert_eq!(parse(b"anon x\nfile -1\nfile_mapped\nanonymous 1\nshmem 12"), MemoryStat::default());
        assert_eq!(parse_v1(b"rss x\ncache\ntotal_mapped_file 1"), MemoryStatV1::default());
        assert_eq!(parse_v1(b""), MemoryStatV1::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(V2, |bytes| {
            let _ = parse(bytes);
        });
        fuzz::hammer(V1, |bytes| {
            let _ = parse_v1(bytes);
        });
    }
}
