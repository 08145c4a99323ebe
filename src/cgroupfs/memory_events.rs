//! `memory.events` (v2): processes of a cgroup killed for lack of memory.
//!
//! Kernel document: Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files". The v1 file
//! `memory.oom_control` has an `oom_kill` line too (since Linux 4.13) and can be read the same.

use crate::procfs::text;

/// What nodeprobe takes from `memory.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// `oom_kill`: processes killed by any kind of OOM killer.
    pub oom_kills: Option<u64>,
    /// `oom_group_kill`: times the whole cgroup was killed at once (since Linux 5.17).
    pub oom_group_kills: Option<u64>,
}

/// Reads the two counters.
pub fn parse(bytes: &[u8]) -> MemoryEvents {
    let mut events = MemoryEvents::default();
    for (key, value) in text::lines(bytes).filter_map(text::key_and_number) {
        match key {
            b"oom_kill" => events.oom_kills = Some(value),
            b"oom_group_kill" => events.oom_group_kills = Some(value),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"low 0\nhigh 1\nmax 20\noom 3\noom_kill 2\noom_group_kill 1\n";

    #[test]
    fn reads_both_counters() {
        let events = parse(SAMPLE);
        assert_eq!((events.oom_kills, events.oom_group_kills), (Some(2), Some(1)));
    }

    #[test]
    fn version_1() {
        let events = parse(b"oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        assert_eq!((events.oom_kills, events.oom_group_kills), (Some(4), None));
    }

    #[test]
    fn what_is_missing_wrong_or_cut_is_none() {
        assert_eq!(parse(b"oom 3\noom_kill x\noom_group_kill 1"), MemoryEvents::default());
        assert_eq!(parse(b""), MemoryEvents::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
