//! `RTM_GETADDR` and `RTM_NEWADDR`: the addresses of network interfaces (uapi headers
//! linux/rtnetlink.h and linux/if_addr.h).
//!
//! Kernel document: Documentation/netlink/specs/rt-addr.yaml; also rtnetlink(7).

use std::net::IpAddr;

use super::attribute::u32_at;
use super::message::Message;
use super::request::Request;

/// Length of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// Offset of `ifa_scope` in it.
const IFA_SCOPE: usize = 3;
/// Offset of `ifa_index` in it.
const IFA_INDEX: usize = 4;

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub link_index: u32,
    /// The address.
    pub address: IpAddr,
    /// `RT_SCOPE_*` of linux/rtnetlink.h.
    pub scope: u8,
}

impl Address {
    /// Whether the address is link-local: 169.254.0.0/16 or fe80::/10.
    ///
    /// The scope does not tell, because routable IPv4 addresses can be given scope "link".
    pub fn is_link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }

    /// Whether the address is a multicast group, such as ff02::1.
    pub fn is_multicast(&self) -> bool {
        self.address.is_multicast()
    }
}

/// Writes a request for all IPv4 and IPv6 addresses of the socket's network namespace.
pub fn request_all(bytes: &mut Vec<u8>, sequence: u32) {
    Request::start(bytes, libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, sequence).raw(&[0; IFADDRMSG]).finish();
}

/// Reads an `RTM_NEWADDR`; `None` for other messages and for one without an IP address.
pub fn parse(message: &Message<'_>) -> Option<Address> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let scope = message.payload.get(IFA_SCOPE).copied()?;
    let link_index = u32_at(message.payload, IFA_INDEX)?;
    let mut address = None;
    let mut local = None;
    for attribute in message.attributes(IFADDRMSG) {
        match attribute.kind {
            libc::IFA_ADDRESS => address = ip_address(attribute.value),
            libc::IFA_LOCAL => local = ip_address(attribute.value),
            _ => {}
        }
    }
    Some(Address {
        link_index,
        // On point-to-point links IFA_ADDRESS is the other end.
        address: local.or(address)?,
        scope,
    })
}

fn ip_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    fn reply(scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut header = vec![2, 24, 0, scope];
        header.extend(3u32.to_ne_bytes());
        let mut bytes = Vec::new();
        let mut request = Request::start(&mut bytes, libc::RTM_NEWADDR, 0, 1).raw(&header);
        for (kind, value) in attributes {
            request = request.attribute(*kind, value);
        }
        request.finish();
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Address> {
        parse(&message::parse(bytes).next()?)
    }

    #[test]
    fn reads_addresses() {
        let peer = (libc::IFA_ADDRESS, &[10, 0, 0, 2][..]);
        let local = (libc::IFA_LOCAL, &[10, 0, 0, 1][..]);
        let address = read(&reply(0, &[peer, local])).unwrap();
        assert_eq!(address.link_index, 3);
        assert_eq!(address.address.to_string(), "10.0.0.1");
        assert!(!address.is_link_local() && !address.is_multicast());
        let octets = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let address = read(&reply(253, &[(libc::IFA_ADDRESS, &octets)])).unwrap();
        assert_eq!((address.scope, address.is_link_local()), (253, true));
    }

    #[test]
    fn kinds_of_addresses() {
        let of = |address: &str| Address { link_index: 1, address: address.parse().unwrap(), scope: 0 };
        assert!(of("169.254.1.1").is_link_local() && of("febf::1").is_link_local());
        assert!(of("224.0.0.1").is_multicast() && of("ff02::1").is_multicast());
        assert!(!of("2001:db8::1").is_link_local() && !of("192.168.0.1").is_multicast());
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(read(&reply(0, &[])), None);
        assert_eq!(read(&reply(0, &[(libc::IFA_LOCAL, &[1, 2, 3])])), None);
        let mut bytes = Vec::new();
        request_all(&mut bytes, 1);
        assert_eq!(read(&bytes), None); // another kind of message
        Request::start(&mut bytes, libc::RTM_NEWADDR, 0, 1).raw(&[2, 24, 0, 0]).finish();
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&reply(0, &[(libc::IFA_LOCAL, &[10, 0, 0, 1])]), |bytes| {
            for message in message::parse(bytes) {
                let _ = parse(&message);
            }
        });
    }
}
