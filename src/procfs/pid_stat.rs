//! `/proc/PID/stat`: processor time and start time of a process.
//!
//! Kernel document: Documentation/filesystems/proc.rst, table 1-4. Times are in USER_HZ ticks.

use super::text;

/// What nodeprobe takes from `/proc/PID/stat`, in USER_HZ ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidStat {
    /// Time in user mode (field 14).
    pub user_ticks: u64,
    /// Time in kernel mode (field 15).
    pub system_ticks: u64,
    /// Start time after boot (field 22).
    pub start_ticks: u64,
}

/// Reads the three times; `None` if the file is cut before the field after them.
pub fn parse(bytes: &[u8]) -> Option<PidStat> {
    // The command name may hold spaces and parentheses itself, but nothing after it does.
    let name_end = memchr::memrchr(b')', bytes)?;
    let mut fields = text::fields(bytes.get(name_end.checked_add(1)?..)?);
    // Fields 3 (state) to 13 stand before the user time.
    let user_ticks = text::number(fields.nth(11)?)?;
    let system_ticks = text::number(fields.next()?)?;
    let start_ticks = text::number(fields.nth(6)?)?;
    // With another field behind it the start time itself is complete.
    fields.next()?;
    Some(PidStat { user_ticks, system_ticks, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"1234 (a) R (b c) S 1 2 3 4 5 6 7 8 9 10 140 150 16 17 20 0 1 0 \
        22000 23 24 25\n";

    #[test]
    fn reads_times_behind_any_name() {
        let expected = PidStat { user_ticks: 140, system_ticks: 150, start_ticks: 22_000 };
        assert_eq!(parse(SAMPLE), Some(expected));
    }

    #[test]
    fn short_and_wrong_files_are_none() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 (a"), None);
        assert_eq!(parse(b"1 (a) S 1 2 3 4 5 6 7 8 9 10 140 150 16 17 20 0 1 0 220"), None);
        assert_eq!(parse(b"1 (a) S 1 2 3 4 5 6 7 8 9 10 x 150 16 17 20 0 1 0 220 1\n"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
