//! `pci_vendor`, `pci_device`, `pci_class` and `pci_subclass`: what a PCI device is.
//!
//! The peer pads vendors to two digits and so never finds one below 0x1000; here they are found, and unknown ones are shown
//! with all their digits.

use super::pci_ids::{PciIds, Section};
use super::{Answer, Asks, Built, Decoder, Gives, Keeps, Names, Options, Spec, Takes, input};
use crate::programs::config;
use crate::sys::text::append;

/// The row of `pci_vendor`.
pub static VENDOR: Spec = Spec {
    name: "pci_vendor",
    about: "the number of a PCI vendor to its name in pci.ids, or `unknown pci vendor: 0xNNNN`",
    ..row(|_, _| lookup(vendor))
};

/// The row of `pci_device`.
pub static DEVICE: Spec = Spec {
    name: "pci_device",
    about: "vendor << 16 + device to the device's name in pci.ids, or `unknown pci device: 0xNNNNNNNN`",
    ..row(|_, _| lookup(device))
};

/// The row of `pci_class`.
pub static CLASS: Spec = Spec {
    name: "pci_class",
    about: "the number of a PCI class to its name in pci.ids, or `unknown pci class: 0xNN`",
    ..row(|_, _| lookup(class))
};

/// The row of `pci_subclass`.
pub static SUBCLASS: Spec = Spec {
    name: "pci_subclass",
    about: "class << 8 + subclass to the subclass's name in pci.ids, or `unknown pci subclass: 0xNN (class 0xNN)`",
    ..row(|_, _| lookup(subclass))
};

/// What the four have in common.
const fn row(build: fn(&config::Decoder, Options) -> Built) -> Spec {
    Spec {
        name: "",
        about: "",
        takes: Takes::Decimal,
        gives: Gives::Text,
        keeps: Keeps::Nothing,
        asks: Asks::Nothing,
        build,
    }
}

/// From a number to a name, or to what is said without one.
type Find = fn(&mut PciIds, u64) -> Result<&str, String>;

struct Lookup {
    find: Find,
}

#[allow(clippy::unnecessary_wraps)] // It is what `build` wants.
fn lookup(find: Find) -> Built {
    Ok(Box::new(Lookup { find }))
}

impl Decoder for Lookup {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let ids = &mut names.tables.pci;
        if !ids.open(names.host, names.now_ns) {
            append(out, b"missing pci.ids db");
            return Ok(Answer::TextForNow);
        }
        let number = input::unsigned(input)?;
        match (self.find)(ids, number) {
            Ok(name) => append(out, name.as_bytes()),
            Err(unknown) => append(out, unknown.as_bytes()),
        }
        Ok(Answer::Text)
    }
}

fn vendor(ids: &mut PciIds, number: u64) -> Result<&str, String> {
    let vendor = u16::try_from(number).ok();
    vendor
        .and_then(|vendor| ids.name(Section::Vendor(vendor), None))
        .ok_or_else(|| format!("unknown pci vendor: {number:#06x}"))
}

fn device(ids: &mut PciIds, number: u64) -> Result<&str, String> {
    let vendor = u16::try_from(number >> 16).ok();
    vendor
        .and_then(|vendor| ids.name(Section::Vendor(vendor), Some(number as u16)))
        .ok_or_else(|| format!("unknown pci device: {number:#010x}"))
}

fn class(ids: &mut PciIds, number: u64) -> Result<&str, String> {
    let class = u8::try_from(number).ok();
    class
        .and_then(|class| ids.name(Section::Class(class), None))
        .ok_or_else(|| format!("unknown pci class: {number:#04x}"))
}

fn subclass(ids: &mut PciIds, number: u64) -> Result<&str, String> {
    let (above, subclass) = (number >> 8, number as u8);
    class(ids, above)?;
    let class = u8::try_from(above).unwrap_or_default();
    ids.name(Section::Class(class), Some(u16::from(subclass)))
        .ok_or_else(|| format!("unknown pci subclass: {subclass:#04x} (class {class:#04x})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    const IDS: &str = "#\n# List of PCI ID's\n\n0010  Allied Telesis, Inc (Wrong ID)\n\t8139  AT-2500TX V3\n\
        # a comment\n8086  Intel Corporation\n\t0007  82379AB\n\t1237  440FX - 82441FX PMC [Natoma]\n\
        \t\t1af4 1100  Qemu virtual machine\n\t1af4  Fits\nFFFE  VMWare Inc (temporary ID)\nS 01  Skipped\n\t06  not a class\n\
        C 00  Unclassified device\nC 01  Mass storage controller\n\t00  SCSI storage controller\n\t06  SATA controller\n\
        \t\t01  AHCI 1.0\n\t08  Caf\u{e9}";

    #[test]
    fn names() {
        let mut bed = Bed::new();
        bed.write("usr/share/misc/pci.ids", IDS);
        let mut name = |spec, number: u64| bed.decode(spec, number.to_string()).unwrap();
        for (spec, number, text) in [
            (&VENDOR, 0x8086, "Intel Corporation"),
            (&VENDOR, 0x0010, "Allied Telesis, Inc (Wrong ID)"),
            (&VENDOR, 0xfffe, "VMWare Inc (temporary ID)"),
            (&VENDOR, 0x1af4, "unknown pci vendor: 0x1af4"),
            (&VENDOR, 0x11, "unknown pci vendor: 0x0011"),
            (&VENDOR, 0x1_8086, "unknown pci vendor: 0x18086"),
            (&DEVICE, 0x8086_1237, "440FX - 82441FX PMC [Natoma]"),
            (&DEVICE, 0x0010_8139, "AT-2500TX V3"),
            (&DEVICE, 0x8086_0007, "82379AB"),
            (&DEVICE, 0x8086_1af4, "Fits"),
            (&DEVICE, 0x8086_1100, "unknown pci device: 0x80861100"),
            (&DEVICE, 0x0011_0001, "unknown pci device: 0x00110001"),
            (&DEVICE, u64::MAX, "unknown pci device: 0xffffffffffffffff"),
            (&CLASS, 1, "Mass storage controller"),
            (&CLASS, 0, "Unclassified device"),
            (&CLASS, 2, "unknown pci class: 0x02"),
            (&CLASS, 0x101, "unknown pci class: 0x101"),
            (&SUBCLASS, 0x0106, "SATA controller"),
            (&SUBCLASS, 0x0108, "Caf\u{e9}"),
            (&SUBCLASS, 0x0206, "unknown pci class: 0x02"),
            (&SUBCLASS, 0x0101, "unknown pci subclass: 0x01 (class 0x01)"),
            (&SUBCLASS, 0x1_0106, "unknown pci class: 0x101"),
        ] {
            assert_eq!(name(spec, number), text);
        }
        for spec in [&VENDOR, &DEVICE, &CLASS, &SUBCLASS] {
            for bad in [&b""[..], b"-1", b"x", b"\xff"] {
                assert!(bed.decode(spec, bad).unwrap_err().ends_with(" is not a decimal number"));
            }
        }
    }

    #[test]
    fn without_a_database() {
        let mut bed = Bed::new();
        bed.write("usr/share/misc/pci.ids", "no ids at all\n");
        for spec in [&VENDOR, &DEVICE, &CLASS, &SUBCLASS] {
            assert_eq!(bed.decode(spec, "1").unwrap(), "missing pci.ids db");
            assert_eq!(bed.decode(spec, b"\xff").unwrap(), "missing pci.ids db");
        }
        bed.write("usr/share/hwdata/pci.ids", IDS);
        assert_eq!(bed.decode(&CLASS, "1").unwrap(), "missing pci.ids db");
        bed.now_ns += 60_000_000_000;
        assert_eq!(bed.decode(&CLASS, "1").unwrap(), "Mass storage controller");
    }
}
