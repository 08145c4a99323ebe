//! Files that hold a single number: `memory.current`, `memory.max`, `cpuacct.usage`,
//! `memory.limit_in_bytes` and the like.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files", and
//! Documentation/admin-guide/cgroup-v1/memory.rst. The unit is that of the file.

use crate::procfs::text;

/// v1 writes "no limit" as the largest number of whole pages, just below 2^63.
const LARGEST_MEMORY_LIMIT: u64 = 1 << 62;

/// The number; `None` for `max`, for negative numbers and for anything else.
pub fn parse(bytes: &[u8]) -> Option<u64> {
    text::number(bytes.trim_ascii())
}

/// A memory limit in bytes, of v2 or v1; `None` if there is no limit.
pub fn parse_memory_limit(bytes: &[u8]) -> Option<u64> {
    parse(bytes).filter(|limit| *limit <= LARGEST_MEMORY_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn numbers() {
        assert_eq!(parse(b"4096\n"), Some(4096));
        assert_eq!(parse(b"0"), Some(0));
        for none in ["max\n", "-1\n", "", "\n", "1 2\n", "18446744073709551616\n"] {
            assert_eq!(parse(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn memory_limits() {
        assert_eq!(parse_memory_limit(b"536870912\n"), Some(536_870_912));
        assert_eq!(parse_memory_limit(b"4611686018427387904\n"), Some(1 << 62));
        assert_eq!(parse_memory_limit(b"4611686018427387905\n"), None);
        assert_eq!(parse_memory_limit(b"9223372036854771712\n"), None);
        assert_eq!(parse_memory_limit(b"max\n"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"536870912\n", |bytes| {
            let _ = (parse(bytes), parse_memory_limit(bytes));
        });
    }
}
