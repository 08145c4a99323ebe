//! `/proc/PID/stat`: processor time and start time of a process, and whether it is ending.
//!
//! Kernel document: Documentation/filesystems/proc.rst, table 1-4. Times are in USER_HZ ticks.

use super::text;

/// `PF_EXITING` of include/linux/sched.h: the first thread is on its way out.
const EXITING: u64 = 0x4;

/// What nodeprobe takes from `/proc/PID/stat`, times in USER_HZ ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidStat {
    /// Its last thread is ending or has ended (fields 9 and 20).
    pub is_ending: bool,
    /// Time in user mode (field 14).
    pub user_ticks: u64,
    /// Time in kernel mode (field 15).
    pub system_ticks: u64,
    /// Start time after boot (field 22).
    pub start_ticks: u64,
}

/// Reads the fields; `None` if the file is cut before the one after them.
pub fn parse(bytes: &[u8]) -> Option<PidStat> {
    // The command name may hold spaces and parentheses itself, but nothing after it does.
    let name_end = memchr::memrchr(b')', bytes)?;
    let mut fields = text::fields(bytes.get(name_end.checked_add(1)?..)?);
    // Fields 3 (state) to 8 stand before the flags.
    let flags: u64 = text::number(fields.nth(6)?)?;
    let user_ticks = text::number(fields.nth(4)?)?;
    let system_ticks = text::number(fields.next()?)?;
    let threads: u64 = text::number(fields.nth(4)?)?;
    let start_ticks = text::number(fields.nth(1)?)?;
    // With another field behind it the start time itself is complete.
    fields.next()?;
    let is_ending = flags & EXITING != 0 && threads <= 1;
    Some(PidStat { is_ending, user_ticks, system_ticks, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"1234 (a) R (b c) S 1 2 3 4 5 4194304 7 8 9 10 140 150 16 17 20 0 1 0 \
        22000 23 24 25\n";

    #[test]
    fn reads_times_behind_any_name() {
        let expected = PidStat { is_ending: false, user_ticks: 140, system_ticks: 150, start_ticks: 22_000 };
        assert_eq!(parse(SAMPLE), Some(expected));
    }

    #[test]
    fn the_first_of_several_threads_may_end_alone() {
        let is_ending = |threads: u32| {
            let text = format!("1 (a) Z 1 2 3 4 5 4228108 7 8 9 10 140 150 16 17 20 0 {threads} 0 220 23");
            parse(text.as_bytes()).unwrap().is_ending
        };
        assert_eq!([0, 1, 2].map(is_ending), [true, true, false]);
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
