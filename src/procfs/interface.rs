//! Which network interfaces of the node are reported.
//!
//! Names follow systemd's predictable scheme (`systemd.net-naming-scheme(7)`) or the older kernel
//! and distribution ones. Virtual interfaces of containers (`veth*`, `cni0`, `docker0`,
//! `flannel.1`, `lxc*`, `dummy0`) match none of the patterns and so are left out.

/// A piece of a name pattern.
#[derive(Clone, Copy)]
enum Piece {
    /// These lower-case letters, in either case.
    Letters(&'static str),
    /// One or more decimal digits.
    Digits,
    /// One or more hexadecimal digits.
    HexDigits,
}

use Piece::{Digits, HexDigits, Letters};

/// The accepted names. A name matches if it starts like one of them, so that VLANs (`eth0.5`) and
/// port suffixes (`enp3s0f1np1`) are accepted too.
const TRACKED: &[&[Piece]] = &[
    &[Letters("eth"), Digits],
    &[Letters("eno"), Digits],
    &[Letters("ens"), Digits],
    &[Letters("enp"), Digits, Letters("s"), Digits],
    // With a PCI domain: enP4p65s0.
    &[Letters("enp"), Digits, Letters("p"), Digits, Letters("s"), Digits],
    // By hardware address, and enX0 of Xen guests.
    &[Letters("enx"), HexDigits],
    &[Letters("em"), Digits],
    &[Letters("bond"), Digits],
    &[Letters("p"), Digits, Letters("p"), Digits],
    &[Letters("br"), Digits],
    &[Letters("vmbr"), Digits],
];

/// Whether an interface of the host is reported.
pub fn is_tracked_interface(name: &str) -> bool {
    TRACKED
        .iter()
        .any(|pattern| pattern.iter().try_fold(name.as_bytes(), |rest, piece| take(rest, *piece)).is_some())
}

/// What follows `piece` at the start of `name`, if it is there.
fn take(name: &[u8], piece: Piece) -> Option<&[u8]> {
    let taken = match piece {
        Letters(letters) => {
            let start = name.get(..letters.len())?;
            if !start.eq_ignore_ascii_case(letters.as_bytes()) {
                return None;
            }
            letters.len()
        }
        Digits => name.iter().take_while(|b| b.is_ascii_digit()).count(),
        HexDigits => name.iter().take_while(|b| b.is_ascii_hexdigit()).count(),
    };
    if taken == 0 { None } else { name.get(taken..) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn host_interfaces_are_tracked() {
        for name in ["eth0", "eth10", "eth0.100", "eno1", "ens5", "ens3f0", "enp3s0", "enp3s0f1"] {
            assert!(is_tracked_interface(name), "{name}");
        }
        for name in ["enP4p65s0", "enP30832s1", "enx001122aabbcc", "enX0", "em1", "bond0"] {
            assert!(is_tracked_interface(name), "{name}");
        }
        for name in ["p1p1", "p5p2", "br0", "vmbr0", "ETH0", "enp3s0np0"] {
            assert!(is_tracked_interface(name), "{name}");
        }
    }

    #[test]
    fn others_are_not() {
        for name in ["lo", "docker0", "cni0", "veth12ab", "flannel.1", "lxc1234", "dummy0", ""] {
            assert!(!is_tracked_interface(name), "{name}");
        }
        for name in ["eth", "enp3", "enp3s", "enx", "br-0123456789ab", "bridge", "p1", "cali1"] {
            assert!(!is_tracked_interface(name), "{name}");
        }
        for name in ["tunl0", "wlan0", "virbr0", "cilium_host", "kube-ipvs0", "ifb0", "xeth0"] {
            assert!(!is_tracked_interface(name), "{name}");
        }
    }

    #[test]
    fn survives_any_name() {
        fuzz::hammer(b"enP4p65s0", |bytes| {
            let _ = is_tracked_interface(&String::from_utf8_lossy(bytes));
        });
    }
}
