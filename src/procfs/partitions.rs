//! `/proc/partitions`: the names of all block devices, partitions among them.
//!
//! Kernel document: Documentation/filesystems/proc.rst.

use super::text;

/// Most devices given out.
pub const MAX_DEVICES: usize = 16_384;

/// A disk or a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Its name, such as `nvme0n1p1`.
    pub name: &'a str,
}

/// The devices in the file; the heading and lines that do not fit are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Device<'_>> {
    text::lines(bytes).filter_map(parse_line).take(MAX_DEVICES)
}

fn parse_line(line: &[u8]) -> Option<Device<'_>> {
    let mut fields = text::fields(line);
    let major = text::number32(fields.next()?)?;
    let minor = text::number32(fields.next()?)?;
    // blocks of 1 KiB
    let name = text::utf8(fields.nth(1)?)?;
    Some(Device { major, minor, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] =
        b"major minor  #blocks  name\n\n   8        0  268435456 sda\n 259 1 1024 nvme0n1p1\n";

    #[test]
    fn reads_devices() {
        let all: Vec<Device<'_>> = parse(SAMPLE).collect();
        let device = |major, minor, name| Device { major, minor, name };
        assert_eq!(all, [device(8, 0, "sda"), device(259, 1, "nvme0n1p1")]);
    }

    #[test]
    fn output_is_bounded() {
        let many = "8 1 1 sda1\n".repeat(MAX_DEVICES + 1);
        assert_eq!(parse(many.as_bytes()).count(), MAX_DEVICES);
        assert_eq!(parse(b"8 1 1\n8 x 1 sda\n8 1 1 \xff\n8 0 1 sda").count(), 0);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
