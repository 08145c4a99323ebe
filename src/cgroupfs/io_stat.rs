//! `io.stat`: I/O of a cgroup by block device (v2).
//!
//! Kernel document: Documentation/admin-guide/cgroup-v2.rst, "IO Interface Files". Devices are
//! whole disks; a line is `MAJOR:MINOR rbytes= wbytes= rios= wios= dbytes= dios=`.

use crate::procfs::text;

/// Most devices given out for one cgroup.
pub const MAX_DEVICES: usize = 256;

/// I/O of a cgroup on one device since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub written_bytes: Option<u64>,
    /// Reads completed.
    pub reads: Option<u64>,
    /// Writes completed.
    pub writes: Option<u64>,
}

/// Reads the devices into `devices`, which is cleared first.
///
/// Devices listed without any of the four values are left out.
pub fn parse(bytes: &[u8], devices: &mut Vec<DeviceIo>) {
    devices.clear();
    devices.extend(text::lines(bytes).filter_map(parse_line).take(MAX_DEVICES));
}

fn parse_line(line: &[u8]) -> Option<DeviceIo> {
    let mut device = None;
    let mut io = DeviceIo::default();
    for field in text::fields(line) {
        let Some(equals) = memchr::memchr(b'=', field) else {
            // Some kernels forget the newline after a device without values, so the last
            // number before the values is the one they belong to.
            device = text::device_number(field).or(device);
            continue;
        };
        let (key, value) = field.split_at_checked(equals)?;
        let slot = match key {
            b"rbytes" => &mut io.read_bytes,
            b"wbytes" => &mut io.written_bytes,
            b"rios" => &mut io.reads,
            b"wios" => &mut io.writes,
            _ => continue,
        };
        *slot = text::number(value.get(1..)?);
    }
    (io.major, io.minor) = device?;
    let has_values = [io.read_bytes, io.written_bytes, io.reads, io.writes].iter().any(Option::is_some);
    has_values.then_some(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=0 dios=3\n\
        7:0 \n253:1 7:1 8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n";

    fn all(bytes: &[u8]) -> Vec<DeviceIo> {
        let mut devices = vec![DeviceIo::default()];
        parse(bytes, &mut devices);
        devices
    }

    #[test]
    fn reads_devices_with_values() {
        let devices = all(SAMPLE);
        assert_eq!(devices.len(), 2);
        let expected = DeviceIo {
            major: 8,
            minor: 0,
            read_bytes: Some(90_430_464),
            written_bytes: Some(299_008_000),
            reads: Some(8950),
            writes: Some(1252),
        };
        assert_eq!(devices[0], expected);
        assert_eq!((devices[1].major, devices[1].minor), (8, 16));
        assert_eq!(devices[1].writes, Some(4));
    }

    #[test]
    fn what_is_missing_wrong_or_cut() {
        let devices = all(b"8:0 rbytes=x rios=3\n");
        assert_eq!((devices[0].read_bytes, devices[0].reads), (None, Some(3)));
        assert_eq!(all(b"8:0\n8:0 dios=1\nrbytes=1\n8:x rbytes=1\n8:0 rbytes=1"), []);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn output_is_bounded() {
        let text = "8:0 rbytes=1\n".repeat(MAX_DEVICES + 1);
        assert_eq!(all(text.as_bytes()).len(), MAX_DEVICES);
    }

    #[test]
    fn survives_any_bytes() {
        let mut devices = Vec::new();
        fuzz::hammer(SAMPLE, |bytes| {
            parse(bytes, &mut devices);
            assert!(devices.len() <= MAX_DEVICES);
        });
    }
}
