//! `cgroup.events` (v2): whether any process lives in a cgroup or below it.
//!
//! Kernel document: Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files".

use crate::procfs::text;

/// What nodeprobe takes from `cgroup.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupEvents {
    /// Whether the cgroup or a descendant holds a live process.
    pub populated: Option<bool>,
}

/// Reads the `populated` line; any value but 0 and 1 is `None`.
pub fn parse(bytes: &[u8]) -> CgroupEvents {
    let populated = text::lines(bytes)
        .filter_map(text::key_and_number)
        .find(|(key, _)| *key == b"populated")
        .and_then(|(_, value)| match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        });
    CgroupEvents { populated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn reads_populated() {
        assert_eq!(parse(b"populated 1\nfrozen 0\n").populated, Some(true));
        assert_eq!(parse(b"frozen 0\npopulated 0\n").populated, Some(false));
    }

    #[test]
    fn what_is_missing_wrong_or_cut_is_none() {
        for none in ["", "populated\n", "populated 2\n", "frozen 1\n", "populated 1"] {
            assert_eq!(parse(none.as_bytes()).populated, None, "{none:?}");
        }
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"populated 1\nfrozen 0\n", |bytes| {
            let _ = parse(bytes);
        });
    }
}
