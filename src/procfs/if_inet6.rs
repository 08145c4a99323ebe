//! `/proc/net/if_inet6`: the IPv6 addresses of a network namespace.
//!
//! Kernel source: net/ipv6/addrconf.c, `if6_seq_show` (no document describes the file). Columns:
//! address, interface index, prefix length, scope, flags, all hexadecimal, then the name.

use std::net::Ipv6Addr;

use super::text;

/// Most addresses given out.
pub const MAX_ADDRESSES: usize = 4096;
/// Scope of loopback addresses (`IFA_HOST` in include/net/if_inet6.h).
pub const SCOPE_HOST: u32 = 0x10;
/// Scope of link-local addresses (`IFA_LINK`).
pub const SCOPE_LINK: u32 = 0x20;

/// One IPv6 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Interface name.
    pub interface: &'a str,
    /// The address.
    pub address: Ipv6Addr,
    /// The kernel's scope: 0 is global, else [`SCOPE_HOST`], [`SCOPE_LINK`] or another.
    pub scope: u32,
}

/// The addresses in the file; lines that do not fit are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Address<'_>> {
    text::lines(bytes).filter_map(parse_line).take(MAX_ADDRESSES)
}

fn parse_line(line: &[u8]) -> Option<Address<'_>> {
    let mut fields = text::fields(line);
    let address = fields.next().filter(|field| field.len() == 32)?;
    let address = Ipv6Addr::from_bits(hexadecimal(address)?);
    // interface index, prefix length
    let scope = hexadecimal(fields.nth(2)?)?;
    // flags
    let interface = text::utf8(fields.nth(1)?)?;
    Some(Address { interface, address, scope: u32::try_from(scope).ok()? })
}

fn hexadecimal(field: &[u8]) -> Option<u128> {
    // The standard function would take a sign too.
    let text = text::utf8(field).filter(|text| !text.starts_with('+'))?;
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"00000000000000000000000000000001 01 80 10 80       lo\n\
        fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
        20010db8000000000000000000000005 02 40 00 00     eth0\n";

    #[test]
    fn reads_addresses() {
        let all: Vec<Address<'_>> = parse(SAMPLE).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].interface, all[0].scope), ("lo", SCOPE_HOST));
        assert_eq!(all[0].address, Ipv6Addr::LOCALHOST);
        assert_eq!(all[1].scope, SCOPE_LINK);
        assert_eq!(all[2].address.to_string(), "2001:db8::5");
        assert_eq!(all[2].scope, 0);
    }

    #[test]
    fn lines_that_do_not_fit_are_skipped() {
        let text = b"0001 01 80 10 80 lo\n\
            +0000000000000000000000000000001 01 80 10 80 lo\n\
            g0000000000000000000000000000001 01 80 10 80 lo\n\
            00000000000000000000000000000001 01 80 10 80\n\
            00000000000000000000000000000001 01 80 10 80 eth";
        assert_eq!(parse(text).count(), 0);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
