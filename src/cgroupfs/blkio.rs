//! `blkio.throttle.io_serviced` and `blkio.throttle.io_service_bytes`: I/O of a cgroup by block
//! device (v1).
//!
//! Kernel document: Documentation/admin-guide/cgroup-v1/blkio-controller.rst. Lines are
//! `MAJOR:MINOR OPERATION NUMBER`, counting operations in the first file and bytes in the second;
//! a last line `Total NUMBER` sums up all devices.

use super::io_stat::{DeviceIo, MAX_DEVICES};
use crate::procfs::text;

/// Merges both files by device into `devices`, which is cleared first.
///
/// Give an empty slice for a file that cannot be read.
pub fn parse(io_serviced: &[u8], io_service_bytes: &[u8], devices: &mut Vec<DeviceIo>) {
    devices.clear();
    for (number, operation, value) in text::lines(io_serviced).filter_map(parse_line) {
        if let Some(device) = entry(devices, number) {
            match operation {
                Operation::Read => device.reads = Some(value),
                Operation::Write => device.writes = Some(value),
            }
        }
    }
    for (number, operation, value) in text::lines(io_service_bytes).filter_map(parse_line) {
        if let Some(device) = entry(devices, number) {
            match operation {
                Operation::Read => device.read_bytes = Some(value),
                Operation::Write => device.written_bytes = Some(value),
            }
        }
    }
}

enum Operation {
    Read,
    Write,
}

fn parse_line(line: &[u8]) -> Option<((u32, u32), Operation, u64)> {
    let mut fields = text::fields(line);
    let number = text::device_number(fields.next()?)?;
    let operation = match fields.next()? {
        b"Read" => Operation::Read,
        b"Write" => Operation::Write,
        // Sync, Async, Discard and Total count the same operations again.
        _ => return None,
    };
    let value = text::number(fields.next()?)?;
    fields.next().is_none().then_some((number, operation, value))
}

/// The entry of a device, made if it is new and there is room.
fn entry(devices: &mut Vec<DeviceIo>, (major, minor): (u32, u32)) -> Option<&mut DeviceIo> {
    let same = |device: &DeviceIo| (device.major, device.minor) == (major, minor);
    // From the back: the lines of one device follow each other.
    let at = match devices.iter().rposition(same) {
        Some(at) => at,
        None if devices.len() < MAX_DEVICES => {
            devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
            devices.len().checked_sub(1)?
        }
        None => return None,
    };
    devices.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SERVICED: &[u8] = b"8:16 Read 12\n8:16 Write 3\n8:16 Sync 1\n8:16 Async 14\n\
        8:16 Discard 0\n8:16 Total 15\n8:0 Read 7\n8:0 Write 8\nTotal 30\n";
    const BYTES: &[u8] = b"8:0 Read 4096\n8:0 Write 8192\n8:0 Total 1\n8:16 Read 512\n\
        8:16 Write 1024\nTotal 30\n";

    #[test]
    fn merges_both_files() {
        let mut devices = vec![DeviceIo::default()];
        parse(SERVICED, BYTES, &mut devices);
        let device = |minor, read_bytes, written_bytes, reads, writes| DeviceIo {
            major: 8,
            minor,
            read_bytes: Some(read_bytes),
            written_bytes: Some(written_bytes),
            reads: Some(reads),
            writes: Some(writes),
        };
        assert_eq!(devices, [device(16, 512, 1024, 12, 3), device(0, 4096, 8192, 7, 8)]);
    }

    #[test]
    fn what_is_missing_wrong_or_cut() {
        let mut devices = Vec::new();
        parse(b"8:0 Read 5\n8:0 Write x\n", b"", &mut devices);
        assert_eq!((devices[0].reads, devices[0].writes, devices[0].read_bytes), (Some(5), None, None));
        parse(b"8:0 Read\n8 Read 1\nTotal 0\n8:0 Read 1 2\n8:0 Read 12", b"Total 0\n", &mut devices);
        assert_eq!(devices, []);
    }

    #[test]
    fn output_is_bounded() {
        let text: String = (0..MAX_DEVICES + 5).map(|n| format!("8:{n} Read 1\n")).collect();
        let mut devices = Vec::new();
        parse(text.as_bytes(), text.as_bytes(), &mut devices);
        assert_eq!(devices.len(), MAX_DEVICES);
    }

    #[test]
    fn survives_any_bytes() {
        let mut devices = Vec::new();
        fuzz::hammer(SERVICED, |bytes| {
            parse(bytes, BYTES, &mut devices);
            parse(SERVICED, bytes, &mut devices);
        });
    }
}
