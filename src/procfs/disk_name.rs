//! Names of block devices: which are whole disks, and which disk a partition lies on.
//!
//! Kernel document: Documentation/admin-guide/devices.txt; partitions get their names in
//! `add_partition`, block/partitions/core.c.

/// Whether a kernel name is that of a whole disk we report.
///
/// Partitions are not, nor are loop, RAM, optical, floppy and zvol devices.
pub fn whole_device(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
    let lettered = ["sd", "hd", "vd", "xvd"];
    let numbered = ["dm-", "md", "nbd", "rbd", "mmcblk"];
    lettered.iter().filter_map(|p| name.strip_prefix(p)).any(letters)
        || numbered.iter().filter_map(|p| name.strip_prefix(p)).any(digits)
        || name
            .strip_prefix("nvme")
            .and_then(|rest| rest.split_once('n'))
            .is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
}

/// The name of the whole disk a partition lies on, or `name` itself if it is a whole disk.
///
/// The partition number follows the disk's name, with a `p` between if that ends in a digit:
/// `sda1`, `nvme0n1p4`.
pub fn whole_name(name: &str) -> Option<&str> {
    if whole_device(name) {
        return Some(name);
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return None;
    }
    let whole =
        stem.strip_suffix('p').filter(|disk| disk.ends_with(|c: char| c.is_ascii_digit())).unwrap_or(stem);
    whole_device(whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn tells_whole_devices() {
        for name in ["sda", "sdaa", "hdb", "vdc", "xvdba", "dm-0", "md127", "nvme10n2", "rbd0"] {
            assert!(whole_device(name), "{name}");
        }
        assert!(whole_device("mmcblk0") && whole_device("nbd15"));
        for name in ["sda1", "sd", "dm-", "md0p1", "nvme0n1p1", "nvme0", "nvme0c0n1", "loop0"] {
            assert!(!whole_device(name), "{name}");
        }
        for name in ["", "ram0", "sr0", "fd0", "zd16", "mmcblk0p2", "mmcblk0boot0", "nbd0p1"] {
            assert!(!whole_device(name), "{name}");
        }
    }

    #[test]
    fn takes_partition_numbers_off() {
        assert_eq!(whole_name("xvda12"), Some("xvda"));
        assert_eq!(whole_name("md0p1"), Some("md0"));
        assert_eq!(whole_name("sdp1"), Some("sdp"));
        assert_eq!(whole_name("sda"), Some("sda"));
        for name in ["", "1", "p1", "loop0p1", "nvme0", "mmcblk0boot0", "sda1p1"] {
            assert_eq!(whole_name(name), None, "{name}");
        }
    }

    #[test]
    fn survives_any_name() {
        fuzz::hammer(b"nvme0n1p4", |bytes| {
            let name = String::from_utf8_lossy(bytes);
            let whole = whole_name(&name);
            assert!(whole.is_none_or(whole_device));
        });
    }
}
