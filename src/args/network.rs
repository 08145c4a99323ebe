//! Networks of addresses, as flags name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses in CIDR notation: `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address: the bits behind the prefix are 0.
    pub address: IpAddr,
    /// Bits that all its addresses have in common: at most 32 with IPv4, at most 128 with IPv6.
    pub prefix: u8,
}

impl Network {
    /// The network of `prefix` bits that `address` is in; `None` when the address has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let address = match address {
            IpAddr::V4(address) if prefix <= 32 => {
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask(prefix, 32) as u32))
            }
            IpAddr::V6(address) if prefix <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask(prefix, 128)))
            }
            _ => return None,
        };
        Some(Network { address, prefix })
    }

    /// Whether it has `address` in it. An IPv4 address in IPv6 form (`::ffff:10.0.0.1`) counts as what it means.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()) & mask(self.prefix, 32) as u32 == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()) & mask(self.prefix, 128) == 0
            }
            _ => false,
        }
    }
}

/// The upper `prefix` of the lower `bits` bits.
fn mask(prefix: u8, bits: u8) -> u128 {
    let rest = u32::from(bits.saturating_sub(prefix));
    u128::MAX.checked_shl(rest).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    /// Reads `ADDRESS/PREFIX`; bits behind the prefix are taken for 0, as the peers do.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_str(text: &str) -> Result<Network, String> {
        let (address, prefix) =
            text.split_once('/').ok_or("it lacks the length of its prefix, as in 10.0.0.0/8")?;
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        // No sign and no leading zero, which `parse` would take.
        let is_plain =
            prefix.bytes().all(|byte| byte.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        prefix
            .parse()
            .ok()
            .filter(|_| is_plain)
            .and_then(|prefix| Network::new(address, prefix))
            .ok_or_else(|| format!("the length of its prefix is 0 to {most}"))
    }
}

/// Whether an address is one that networks give out to themselves, so that the internet has no route to it: RFC 1918, RFC 6598
/// (shared by customers of one carrier), RFC 4193 (`fc00::/7`), loopback and link-local ones.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn edges_of_networks() {
        for (text, inside, outside) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["9.255.255.255", "11.0.0.0", "a00::"][..],
            ),
            ("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127", "192.0.3.128"]),
            ("192.0.2.1/32", &["192.0.2.1"], &["192.0.2.0", "192.0.2.2"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:8.8.8.8"], &["::", "2001:db8::1"]),
            ("::/0", &["::", "ffff::", "2001:db8::1"], &["8.8.8.8", "::ffff:8.8.8.8"]),
            ("2001:db8::/33", &["2001:db8:7fff:ffff::"], &["2001:db8:8000::", "2001:db9::"]),
            ("2001:db8::1/128", &["2001:db8::1"], &["2001:db8::", "2001:db8::2"]),
        ] {
            let network = network(text);
            assert_eq!(network.to_string(), text);
            for address in inside {
                assert!(network.contains(ip(address)), "{address} in {text}");
            }
            for address in outside {
                assert!(!network.contains(ip(address)), "{address} in {text}");
            }
        }
    }

    #[test]
    fn every_prefix_parts_its_neighbours() {
        for prefix in 1..=32u8 {
            let first = Network::new(ip("170.170.170.170"), prefix).unwrap();
            let IpAddr::V4(address) = first.address else { panic!() };
            let beyond = address.to_bits().wrapping_add(1u32 << (32 - prefix));
            assert!(!first.contains(Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1)).into()));
            assert!(!first.contains(Ipv4Addr::from_bits(beyond).into()));
            assert!(first.contains(Ipv4Addr::from_bits(beyond.wrapping_sub(1)).into()));
        }
        for prefix in 1..=128u8 {
            let first = Network::new(ip("aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa"), prefix).unwrap();
            let IpAddr::V6(address) = first.address else { panic!() };
            let beyond = address.to_bits().wrapping_add(1u128 << (128 - prefix));
            assert!(!first.contains(Ipv6Addr::from_bits(address.to_bits().wrapping_sub(1)).into()));
            assert!(!first.contains(Ipv6Addr::from_bits(beyond).into()));
            assert!(first.contains(Ipv6Addr::from_bits(beyond.wrapping_sub(1)).into()));
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_dropped() {
        assert_eq!(network("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(network("2001:db8:ffff::1/32"), network("2001:db8::/32"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("10.0.0.0", "lacks the length of its prefix"),
            ("", "lacks the length"),
            ("10.0.0/8", "\"10.0.0\" is no IP address"),
            ("010.0.0.0/8", "is no IP address"),
            ("fe80::1%eth0/64", "is no IP address"),
            ("10.0.0.0/33", "prefix is 0 to 32"),
            ("::/129", "prefix is 0 to 128"),
            ("::/256", "prefix is 0 to 128"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/08", "0 to 32"),
            ("10.0.0.0/8/8", "0 to 32"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn private_addresses() {
        for address in [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "::1",
            "fc00::",
            "fdff::1",
            "fe80::",
            "febf:ffff::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_private(ip(address)), "{address}");
        }
        for address in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.0",
            "126.255.255.255",
            "169.253.255.255",
            "169.255.0.0",
            "8.8.8.8",
            "0.0.0.0",
            "::",
            "::2",
            "fbff::",
            "fe00::",
            "fe7f::",
            "fec0::",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(ip(address)), "{address}");
        }
    }
}
