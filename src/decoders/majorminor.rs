//! `majorminor`: names of block devices.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::host::{Host, read_bounded};
use crate::limits;
use crate::procfs::partitions;
use crate::sys::clock::MonotonicNs;
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "majorminor",
    about: "the kernel's number of a block device (`new_encode_dev`) to its name, or `unknown:MAJOR:MINOR`",
    takes: Takes::AtLeast(4),
    gives: Gives::Text,
    keeps: Keeps::LastKnown,
    asks: Asks::Nothing,
    build: plain::<MajorMinor>,
};

/// The host's block devices.
#[derive(Debug, Default)]
pub struct Partitions {
    /// When they were read; `None`: never yet.
    read_ns: Option<MonotonicNs>,
    /// Sorted by number.
    devices: Vec<((u32, u32), Box<str>)>,
}

impl Partitions {
    /// The name of a device. The file is read at most once in a refresh: when something is unknown, or it is old.
    fn name(&mut self, host: &Host, now_ns: MonotonicNs, number: (u32, u32)) -> Result<Option<&str>, String> {
        let is_old = self
            .read_ns
            .is_none_or(|read_ns| u128::from(now_ns.abs_diff(read_ns)) >= limits::PARTITIONS_AGE.as_nanos());
        let is_known = self.devices.binary_search_by_key(&number, |(number, _)| *number).is_ok();
        if self.read_ns != Some(now_ns) && (is_old || !is_known) {
            self.read(host)?;
            self.read_ns = Some(now_ns);
        }
        let found = self.devices.binary_search_by_key(&number, |(number, _)| *number);
        Ok(found.ok().map(|at| &*self.devices[at].1))
    }

    fn read(&mut self, host: &Host) -> Result<(), String> {
        let path = host.proc("partitions");
        let bytes = read_bounded(&path, limits::KERNEL_FILE_BYTES)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.devices.clear();
        self.devices.extend(
            partitions::parse(&bytes).map(|device| ((device.major, device.minor), device.name.into())),
        );
        self.devices.sort_unstable();
        Ok(())
    }
}

#[derive(Default)]
struct MajorMinor;

impl Decoder for MajorMinor {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let device = input::u32_at_start(input)?;
        let (major, minor) = (device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xf_ff00));
        match names.tables.partitions.name(names.host, names.now_ns, (major, minor))? {
            Some(name) => {
                append(out, name.as_bytes());
                Ok(Answer::TextForNow)
            }
            None => {
                append(out, format!("unknown:{major}:{minor}").as_bytes());
                Ok(Answer::Unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    const ONE: &str = "major minor  #blocks  name\n\n   8        0  268435456 sda\n";

    #[test]
    fn devices() {
        let mut bed = Bed::new();
        let error = bed.decode(&SPEC, [0; 4]).unwrap_err();
        assert!(error.contains("proc/partitions: "), "{error}");
        bed.write("proc/partitions", format!("{ONE} 259 1 1024 nvme0n1p1\n 253 300 1 dm-300\n"));
        let mut name = |device: u32| bed.decode(&SPEC, device.to_ne_bytes()).unwrap();
        assert_eq!(name(0x0080_0000 | 8 << 8), "unknown:8:2048");
        assert_eq!(name(8 << 8), "sda");
        assert_eq!(name(259 << 8 | 1), "nvme0n1p1");
        // Minor 300: its low byte, and the rest above the major number.
        assert_eq!(name(0x0010_0000 | 253 << 8 | 44), "dm-300");
        assert_eq!(name(u32::MAX), "unknown:4095:1048575");
        assert_eq!(bed.decode(&SPEC, [0, 8, 0, 0, 0xff, 0xff]).unwrap(), "sda");
        assert_eq!(bed.decode(&SPEC, [0, 8]), Err("2 bytes instead of 4".to_owned()));
    }

    #[test]
    fn the_file_is_read_once_a_refresh() {
        let mut bed = Bed::new();
        bed.write("proc/partitions", ONE);
        assert_eq!(bed.decode(&SPEC, [16, 8, 0, 0]).unwrap(), "unknown:8:16");
        bed.write(
            "proc/partitions",
            ONE.replace("sda", "new").replace("   0  2", "  16  2") + "8 1 1 part\n",
        );
        assert_eq!(bed.decode(&SPEC, [16, 8, 0, 0]).unwrap(), "unknown:8:16");
        bed.now_ns += 1;
        assert_eq!(bed.decode(&SPEC, [0, 8, 0, 0]).unwrap(), "sda", "known and not old");
        assert_eq!(bed.decode(&SPEC, [16, 8, 0, 0]).unwrap(), "new");
        bed.write("proc/partitions", ONE.replace("sda", "newer").replace("   0  2", "  16  2"));
        bed.now_ns += 9_999_999_999;
        assert_eq!(bed.decode(&SPEC, [16, 8, 0, 0]).unwrap(), "new");
        bed.now_ns += 1;
        assert_eq!(bed.decode(&SPEC, [16, 8, 0, 0]).unwrap(), "newer");
    }
}
