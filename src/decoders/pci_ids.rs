//! The database of PCI ids, pci.ids: names of vendors, devices and classes.
//!
//! Sections of vendors (`8086  Intel Corporation`) and classes (`C 01  Mass storage controller`) have their devices and
//! subclasses in lines behind a tab. Kept are the places of the sections, 30 KB, and the answers of the past; a section is
//! read from the page cache when something of it is asked for the first time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use crate::host::Host;
use crate::limits;
use crate::sys::clock::MonotonicNs;
use crate::warning;

/// Where distributions have it.
const PATHS: [&str; 2] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/// How long to wait before looking for a missing file again.
const RETRY_NS: u64 = 60_000_000_000;

/// A section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Of a vendor.
    Vendor(u16),
    /// Of a class.
    Class(u8),
}

/// What was found out so far.
#[derive(Debug, Default)]
pub struct PciIds {
    index: Option<Index>,
    /// When it was looked for in vain.
    missed_ns: Option<MonotonicNs>,
    answers: HashMap<(Section, Option<u16>), Option<Box<str>>>,
}

/// Where sections are in an open file.
#[derive(Debug)]
struct Index {
    file: File,
    /// Sorted; place and length in bytes.
    sections: Vec<(Section, u32, u32)>,
}

impl PciIds {
    /// Whether there is a database.
    pub fn open(&mut self, host: &Host, now_ns: MonotonicNs) -> bool {
        if self.index.is_none() && self.missed_ns.is_none_or(|at_ns| now_ns.abs_diff(at_ns) >= RETRY_NS) {
            self.index = find(host);
            if self.index.is_none() {
                self.missed_ns = Some(now_ns);
                warning!("no {}: PCI ids have no names", PATHS.join(" and no "));
            }
        }
        self.index.is_some()
    }

    /// The name of a section, or of one of its lines.
    pub fn name(&mut self, section: Section, line: Option<u16>) -> Option<&str> {
        let index = self.index.as_ref()?;
        if self.answers.len() >= limits::PCI_ANSWERS {
            self.answers.clear();
        }
        self.answers.entry((section, line)).or_insert_with(|| index.name(section, line)).as_deref()
    }
}

fn find(host: &Host) -> Option<Index> {
    PATHS.iter().map(|path| host.rootfs(path)).filter(|path| path.is_file()).find_map(|path| {
        Index::read(File::open(&path).ok()?)
            .inspect_err(|error| warning!("{}: {error}", path.display()))
            .ok()
            .filter(|index| !index.sections.is_empty())
    })
}

impl Index {
    fn read(file: File) -> io::Result<Index> {
        let mut sections: Vec<(Section, u32, u32)> = Vec::new();
        let mut reader = BufReader::with_capacity(1 << 16, (&file).take(limits::PCI_IDS_BYTES));
        let (mut line, mut at) = (Vec::new(), 0u32);
        // Whether lines belong to the last section; behind an unknown heading they do not.
        let mut is_open = false;
        while reader.read_until(b'\n', &mut line)? > 0 {
            let length = line.len() as u32;
            if let Some(section) = section(&line) {
                sections.push((section, at, length));
                is_open = true;
            } else if line.first().is_some_and(|byte| !matches!(byte, b'\t' | b'#' | b'\n')) {
                is_open = false;
            } else if let Some(last) = sections.last_mut().filter(|_| is_open) {
                last.2 += length;
            }
            at += length;
            line.clear();
        }
        sections.sort_unstable();
        sections.shrink_to_fit();
        Ok(Index { file, sections })
    }

    fn name(&self, wanted: Section, line: Option<u16>) -> Option<Box<str>> {
        let found = self.sections.binary_search_by_key(&wanted, |(section, ..)| *section).ok()?;
        let (_, at, length) = self.sections[found];
        let mut text = vec![0; length as usize];
        self.file.read_exact_at(&mut text, u64::from(at)).ok()?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let heading = lines.next()?;
        // The file may have been written over since.
        if section(heading) != Some(wanted) {
            return None;
        }
        let (digits, skip) = match wanted {
            Section::Vendor(_) => (4, 0),
            Section::Class(_) => (2, 2),
        };
        let name = match line {
            None => heading.get(skip + digits..)?,
            Some(wanted) => lines.find_map(|line| {
                let (id, name) = line.strip_prefix(b"\t")?.split_at_checked(digits)?;
                (hexadecimal(id)? == wanted && name.starts_with(b" ")).then_some(name)
            })?,
        };
        Some(String::from_utf8_lossy(name.trim_ascii()).into())
    }
}

/// The section a line begins.
fn section(line: &[u8]) -> Option<Section> {
    let (id, name) = match line.strip_prefix(b"C ") {
        Some(class) => class.split_at_checked(2)?,
        None => line.split_at_checked(4)?,
    };
    let number = hexadecimal(id).filter(|_| name.starts_with(b" "))?;
    Some(match u8::try_from(number) {
        Ok(class) if id.len() == 2 => Section::Class(class),
        _ => Section::Vendor(number),
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |number, digit| {
        Some(number << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;
    use crate::procfs::fuzz;

    #[test]
    fn any_file_is_survived() {
        let mut number = 0;
        let bed = Bed::new();
        let text =
            b"# ids\n0010  Old\n\t8139  Card\n\t\t0010 8139  Sub\nC 01  Storage\n\t06  SATA\n\t\t01  AHCI\n";
        let mut random = fuzz::numbers(7);
        while number < 300 {
            let mut bytes = text.to_vec();
            for _ in 0..random() % 8 {
                let at = random() % bytes.len();
                bytes[at] = b"\t\n 0C#\xff"[random() % 7];
            }
            bed.write("usr/share/misc/pci.ids", &bytes);
            let mut ids = PciIds::default();
            ids.open(&bed.host, 1);
            for section in [Section::Vendor(0x10), Section::Class(1), Section::Vendor(0)] {
                let _ = (ids.name(section, None).map(str::len), ids.name(section, Some(6)).map(str::len));
            }
            number += 1;
        }
    }

    #[test]
    fn answers_are_bounded() {
        let bed = Bed::new();
        bed.write("usr/share/hwdata/pci.ids", "8086  Intel\n");
        let mut ids = PciIds::default();
        assert!(ids.open(&bed.host, 1));
        for device in 0..5000 {
            assert_eq!(ids.name(Section::Vendor(0x8086), Some(device)), None);
        }
        assert!(ids.answers.len() <= limits::PCI_ANSWERS);
        assert_eq!(ids.name(Section::Vendor(0x8086), None), Some("Intel"));
    }
}
