//! `/proc/PID/mountinfo`: the mounts a process sees.
//!
//! Kernel document: Documentation/filesystems/proc.rst, section 3.5. A line is
//! `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPEROPTIONS`, with
//! space, tab, newline and backslash in names written as octal escapes.

use std::borrow::Cow;

use super::text;

/// Most mounts given out; the kernel's own default limit (`fs.mount-max`) is 100,000.
pub const MAX_MOUNTS: usize = 100_000;

/// One mount. Names are decoded; they borrow from the input unless they held an escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Id of the mount, as in `/proc/PID/fdinfo`.
    pub mount_id: u32,
    /// Major device number; 0 for file systems without a device of their own.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// The directory of the file system that is mounted.
    pub root: Cow<'a, str>,
    /// Where it is mounted, as the process sees it.
    pub mount_point: Cow<'a, str>,
    /// File system type, such as `ext4`.
    pub fs_type: Cow<'a, str>,
    /// What was mounted, a device or any other text; may be empty.
    pub source: Cow<'a, str>,
    /// Options of the file system, separated by commas.
    pub super_options: Cow<'a, str>,
}

/// The mounts in the file; lines that do not fit are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text::lines(bytes).filter_map(parse_line).take(MAX_MOUNTS)
}

fn parse_line(line: &[u8]) -> Option<Mount<'_>> {
    // One space between fields, not any white space: a source can be empty.
    let mut fields = line.splitn(7, |byte| *byte == b' ');
    let mount_id = text::number32(fields.next()?)?;
    let (major, minor) = text::device_number(fields.nth(1)?)?;
    let root = decode(fields.next()?);
    let mount_point = decode(fields.next()?);
    let optional = fields.nth(1)?;
    let described = match optional.strip_prefix(b"- ") {
        Some(rest) => rest,
        None => optional.get(memchr::memmem::find(optional, b" - ")?.checked_add(3)?..)?,
    };
    let mut fields = described.splitn(3, |byte| *byte == b' ');
    Some(Mount {
        mount_id,
        major,
        minor,
        root,
        mount_point,
        fs_type: decode(fields.next()?),
        source: decode(fields.next()?),
        super_options: decode(fields.next()?),
    })
}

/// Replaces `\NNN` by its byte; bytes that are not UTF-8 become the replacement character.
fn decode(name: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', name).is_none() {
        return String::from_utf8_lossy(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        if let Some((escaped, after)) = octal_escape(rest) {
            decoded.push(escaped);
            rest = after;
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn octal_escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\")?.split_first_chunk::<3>()?;
    let value = digits.iter().try_fold(0u8, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(digit)
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] =
        b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
        22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        40 27 0:40 / /empty rw - tmpfs  rw,size=1k\n";

    #[test]
    fn reads_mounts() {
        let all: Vec<Mount<'_>> = parse(SAMPLE).collect();
        assert_eq!(all.len(), 3);
        let first = &all[0];
        assert_eq!((first.mount_id, first.major, first.minor), (36, 98, 0));
        assert_eq!((&*first.root, &*first.mount_point), ("/mnt1", "/mnt 2"));
        assert_eq!((&*first.fs_type, &*first.source), ("ext3", "/dev/root"));
        assert_eq!(&*first.super_options, "rw,errors=continue");
        assert_eq!(&*all[1].fs_type, "proc");
        assert!(matches!(all[1].mount_point, Cow::Borrowed("/proc")));
        assert_eq!((&*all[2].source, &*all[2].super_options), ("", "rw,size=1k"));
    }

    #[test]
    fn escapes() {
        assert_eq!(decode(b"a\\040b\\011c\\134d"), "a b\tc\\d");
        assert_eq!(decode(b"\\777\\08\\"), "\\777\\08\\"); // not escapes
        assert_eq!(decode(b"\\303\\251"), "\u{e9}");
        assert_eq!(decode(b"\xff"), "\u{fffd}");
        assert_eq!(decode(b"\\377"), "\u{fffd}");
    }

    #[test]
    fn lines_that_do_not_fit_are_skipped() {
        let text = b"36 35 98:0 /mnt1 /mnt rw shared:2 ext3 /dev/root rw\n\
            36 35 98 /mnt1 /mnt rw - ext3 /dev/root rw\n\
            x 35 98:0 /mnt1 /mnt rw - ext3 /dev/root rw\n\
            36 35 98:0 /mnt1 /mnt rw - ext3 /dev/root\n\
            36 35 98:0 /mnt1 /mnt rw - ext3 /dev/root rw,cu";
        assert_eq!(parse(text).count(), 0);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
