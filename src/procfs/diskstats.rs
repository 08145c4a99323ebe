//! `/proc/diskstats`: I/O of the node's whole disks, and which disk a partition lies on.
//!
//! Kernel document: Documentation/admin-guide/iostats.rst. Sectors here are always 512 bytes,
//! times are milliseconds.

pub use super::disk_name::whole_device;
use super::{disk_name::whole_name, text};

/// Most whole disks kept.
pub const MAX_DISKS: usize = 4096;
/// Most device numbers (disks and partitions) kept.
const MAX_NUMBERS: usize = 4 * MAX_DISKS;
const SECTOR_BYTES: u64 = 512;

/// Totals of one whole disk since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Kernel name, such as `sda`.
    pub name: &'a str,
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time all reads took together.
    pub read_time_ms: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time all writes took together.
    pub write_time_ms: u64,
    /// Time the disk had at least one request in flight.
    pub io_time_ms: u64,
}

/// The whole disks of a node, found by name or by the device number of disk or partition.
#[derive(Clone, Debug, Default)]
pub struct Disks<'a> {
    disks: Vec<Disk<'a>>,
    /// Device number and position in `disks`, sorted by number.
    numbers: Vec<((u32, u32), usize)>,
}

impl<'a> Disks<'a> {
    /// All whole disks, in the kernel's order.
    pub fn all(&self) -> &[Disk<'a>] {
        &self.disks
    }

    /// The whole disk that has this device number or holds the partition that has it.
    pub fn by_number(&self, major: u32, minor: u32) -> Option<&Disk<'a>> {
        let at = self.numbers.binary_search_by_key(&(major, minor), |(number, _)| *number).ok()?;
        self.disks.get(self.numbers.get(at)?.1)
    }

    /// The whole disk of this name.
    pub fn by_name(&self, name: &str) -> Option<&Disk<'a>> {
        self.disks.iter().find(|disk| disk.name == name)
    }
}

/// Reads all whole disks; lines with fewer than 14 fields are skipped.
pub fn parse(bytes: &[u8]) -> Disks<'_> {
    let mut disks = Disks::default();
    // A partition normally follows its disk at once, so the last disk seen is tried first.
    let mut partitions: Vec<(Disk<'_>, usize)> = Vec::new();
    for entry in text::lines(bytes).filter_map(parse_line).take(MAX_NUMBERS) {
        if !whole_device(entry.name) {
            partitions.push((entry, disks.disks.len().saturating_sub(1)));
        } else if disks.disks.len() < MAX_DISKS {
            let number = (entry.major, entry.minor);
            disks.numbers.push((number, disks.disks.len()));
            disks.disks.push(entry);
        }
    }
    for (partition, likely) in partitions {
        let Some(whole) = whole_name(partition.name) else {
            continue;
        };
        let is_parent = |disk: &Disk<'_>| disk.name == whole;
        let at = match disks.disks.get(likely).is_some_and(is_parent) {
            true => Some(likely),
            false => disks.disks.iter().position(is_parent),
        };
        let number = (partition.major, partition.minor);
        disks.numbers.extend(at.map(|at| (number, at)));
    }
    disks.numbers.sort_unstable();
    disks
}

fn parse_line(line: &[u8]) -> Option<Disk<'_>> {
    let mut fields = text::fields(line);
    let major = text::number32(fields.next()?)?;
    let minor = text::number32(fields.next()?)?;
    let name = text::utf8(fields.next()?)?;
    let mut counters: [&[u8]; 11] = [&[]; 11];
    for counter in &mut counters {
        *counter = fields.next()?;
    }
    let [reads, _, read, read_ms, writes, _, written, write_ms, _, io_ms, _] = counters;
    Some(Disk {
        name,
        major,
        minor,
        reads: text::number(reads)?,
        read_bytes: text::number(read)?.checked_mul(SECTOR_BYTES)?,
        read_time_ms: text::number(read_ms)?,
        writes: text::number(writes)?,
        written_bytes: text::number(written)?.checked_mul(SECTOR_BYTES)?,
        write_time_ms: text::number(write_ms)?,
        io_time_ms: text::number(io_ms)?,
    })
}

/// The name of the whole disk `name` is a partition of, or `name` itself if it is a whole disk;
/// `None` if no such disk is among `devices`.
pub fn parent_of<'n>(name: &'n str, devices: &[Disk<'_>]) -> Option<&'n str> {
    let whole = whole_name(name)?;
    devices.iter().any(|disk| disk.name == whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"   7       0 loop0 1 0 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
        259       0 nvme0n1 100 5 200 30 400 6 800 70 0 90 100 0 0 0 0 0 0\n\
        259       1 nvme0n1p1 1 0 1 1 1 0 1 1 0 1 1 0 0 0 0 0 0\n\
        8       1 sda1 1 0 1 1 1 0 1 1 0 1 1\n\
        8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n\
        8      16 sdb 1 2 3 4 5 6 7 8 9 10\n\
        253       0 dm-0 1 2 3 4 5 6 7 8 9 10 11\n";

    #[test]
    fn reads_whole_disks() {
        let disks = parse(SAMPLE);
        let names: Vec<&str> = disks.all().iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["nvme0n1", "sda", "dm-0"]);
        let nvme = disks.by_name("nvme0n1").unwrap();
        assert_eq!((nvme.reads, nvme.read_bytes, nvme.read_time_ms), (100, 102_400, 30));
        assert_eq!((nvme.writes, nvme.written_bytes, nvme.write_time_ms), (400, 409_600, 70));
        assert_eq!(nvme.io_time_ms, 90);
    }

    #[test]
    fn finds_disks_by_the_number_of_their_partitions() {
        let disks = parse(SAMPLE);
        let name = |major, minor| disks.by_number(major, minor).map(|disk| disk.name);
        assert_eq!(name(259, 0), Some("nvme0n1"));
        assert_eq!(name(259, 1), Some("nvme0n1"));
        assert_eq!(name(8, 1), Some("sda")); // listed before its disk
        assert_eq!(name(7, 0), None);
        assert_eq!(name(8, 16), None); // only 13 fields
    }

    #[test]
    fn parents_by_prefix() {
        let text = b"1 0 nvme0n1 0 0 0 0 0 0 0 0 0 0 0\n1 1 mmcblk0 0 0 0 0 0 0 0 0 0 0 0\n\
            1 2 sda 0 0 0 0 0 0 0 0 0 0 0\n1 3 dm-0 0 0 0 0 0 0 0 0 0 0 0\n\
            1 4 sdp 0 0 0 0 0 0 0 0 0 0 0\n";
        let disks = parse(text);
        let parent = |name| parent_of(name, disks.all());
        assert_eq!(parent("nvme0n1p4"), Some("nvme0n1"));
        assert_eq!(parent("mmcblk0p2"), Some("mmcblk0"));
        assert_eq!(parent("sda1"), Some("sda"));
        assert_eq!(parent("sdp1"), Some("sdp"));
        assert_eq!(parent("dm-0"), Some("dm-0"));
        assert_eq!(parent("sdb1"), None);
        assert_eq!(parent("loop0"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn output_is_bounded() {
        let text: String =
            (0..MAX_DISKS + 10).map(|n| format!("253 {n} dm-{n} 1 1 1 1 1 1 1 1 1 1 1\n")).collect();
        assert_eq!(parse(text.as_bytes()).all().len(), MAX_DISKS);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let disks = parse(bytes);
            assert!(disks.all().iter().all(|disk| whole_device(disk.name)));
            let _ = disks.by_number(8, 1);
            let name = String::from_utf8_lossy(bytes);
            let _ = parent_of(&name, disks.all());
        });
    }
}
