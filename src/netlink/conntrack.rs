//! `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_NEW`: entries of connection tracking (uapi headers
//! linux/netfilter/nfnetlink.h and linux/netfilter/nfnetlink_conntrack.h).
//!
//! Kernel source: net/netfilter/nf_conntrack_netlink.c, `ctnetlink_get_conntrack`. It needs CAP_NET_ADMIN over the socket's
//! network namespace. Several requests may share a datagram; each gets an answer in a datagram of its own, made before send(2)
//! returns: the entry, or `NLMSG_ERROR` with ENOENT. Without CAP_NET_ADMIN only the first gets one, with EPERM.

use std::net::{IpAddr, SocketAddr};

use super::attribute::{self, octets_at, u16_be_at};
use super::message::Message;
use super::request::Request;

// libc has not all of these; they are enum values of linux/netfilter/nfnetlink_conntrack.h.
const MSG_NEW: u16 = 0;
const MSG_GET: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Length of `struct nfgenmsg`: family, version, two bytes of resource id.
const NFGENMSG: usize = 4;

/// The two ends of a TCP connection as one direction of its packets has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where the packets come from.
    pub source: SocketAddr,
    /// Where they go.
    pub destination: SocketAddr,
}

impl Tuple {
    /// The tuple of a connection from `source` to `destination`; IPv4 addresses in IPv6 form (`::ffff:1.2.3.4`) become IPv4.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Tuple {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Tuple { source: plain(source), destination: plain(destination) }
    }
}

/// The kind of a message of the subsystem.
const fn kind(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | message
}

/// Appends a request for the entry of the TCP connection whose original direction (that of its first packet) is `tuple`, behind
/// the requests that are in `bytes` already.
///
/// False, and nothing appended, when the ends are of different families.
pub fn append_request(bytes: &mut Vec<u8>, sequence: u32, tuple: &Tuple) -> bool {
    let mut append = |family: i32, source: (u16, &[u8]), destination: (u16, &[u8])| {
        Request::append(bytes, kind(MSG_GET), 0, sequence)
            .raw(&[family as u8, libc::NFNETLINK_V0 as u8, 0, 0])
            .nested(CTA_TUPLE_ORIG, |request| {
                request
                    .nested(CTA_TUPLE_IP, |request| {
                        request.attribute(source.0, source.1).attribute(destination.0, destination.1)
                    })
                    .nested(CTA_TUPLE_PROTO, |request| {
                        request
                            .attribute(CTA_PROTO_NUM, &[libc::IPPROTO_TCP as u8])
                            .attribute(CTA_PROTO_SRC_PORT, &tuple.source.port().to_be_bytes())
                            .attribute(CTA_PROTO_DST_PORT, &tuple.destination.port().to_be_bytes())
                    })
            })
            .finish();
    };
    match (tuple.source.ip(), tuple.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            append(libc::AF_INET, (CTA_IP_V4_SRC, &source.octets()), (CTA_IP_V4_DST, &destination.octets()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            append(libc::AF_INET6, (CTA_IP_V6_SRC, &source.octets()), (CTA_IP_V6_DST, &destination.octets()))
        }
        _ => return false,
    }
    true
}

/// Reads an entry: the tuple of its reply direction. Its source is who really answers, its destination is where the connection
/// comes from as that one sees it. `None` for other messages and for one without that tuple. The answer is to the request with
/// the message's sequence number.
pub fn parse(message: &Message<'_>) -> Option<Tuple> {
    if message.kind != kind(MSG_NEW) {
        return None;
    }
    let reply = message.attributes(NFGENMSG).find(|attribute| attribute.kind == CTA_TUPLE_REPLY)?;
    let mut addresses = (None, None);
    let mut ports = (None, None);
    for attribute in attribute::parse(reply.value) {
        match attribute.kind {
            CTA_TUPLE_IP => addresses = addresses_of(attribute.value),
            CTA_TUPLE_PROTO => ports = ports_of(attribute.value),
            _ => {}
        }
    }
    Some(Tuple {
        source: SocketAddr::new(addresses.0?, ports.0?),
        destination: SocketAddr::new(addresses.1?, ports.1?),
    })
}

fn addresses_of(value: &[u8]) -> (Option<IpAddr>, Option<IpAddr>) {
    let v4 = |value| octets_at::<4>(value, 0).map(IpAddr::from);
    let v6 = |value| octets_at::<16>(value, 0).map(IpAddr::from);
    let (mut source, mut destination) = (None, None);
    for attribute in attribute::parse(value) {
        match attribute.kind {
            CTA_IP_V4_SRC => source = v4(attribute.value),
            CTA_IP_V4_DST => destination = v4(attribute.value),
            CTA_IP_V6_SRC => source = v6(attribute.value),
            CTA_IP_V6_DST => destination = v6(attribute.value),
            _ => {}
        }
    }
    (source, destination)
}

fn ports_of(value: &[u8]) -> (Option<u16>, Option<u16>) {
    let (mut source, mut destination) = (None, None);
    for attribute in attribute::parse(value) {
        match attribute.kind {
            CTA_PROTO_SRC_PORT => source = u16_be_at(attribute.value, 0),
            CTA_PROTO_DST_PORT => destination = u16_be_at(attribute.value, 0),
            _ => {}
        }
    }
    (source, destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{self, Outcome};
    use crate::procfs::fuzz;

    /// What Linux 6.18 answered about 10.1.1.1:45482 -> 10.96.0.11:80, translated to 10.1.1.2:8080.
    const V4: &str = "\
        d400000000010200070000001c300000020000003400018014000180080001000a010101080002000a60000b1c000280050001000600\
        000006000200b1aa000006000300005000003400028014000180080001000a010102080002000a0101011c0002800500010006000000\
        060002001f90000006000300b1aa000008000300000001ae080008000000000008000c005f7307e708000b0000000002080007000006\
        977e300004802c0001800500010003000000050002000a000000050003000a00000006000400230000000600050023000000";
    /// About [fd00:1::1]:52900 -> [fd00:96::11]:80, translated to [fd00:1::2]:8080.
    const V6: &str = "\
        0401000000010200090000001c3000000a0000004c0001802c00018014000300fd00000100000000000000000000000114000400fd00\
        00960000000000000000000000111c000280050001000600000006000200cea4000006000300005000004c0002802c00018014000300\
        fd00000100000000000000000000000214000400fd0000010000000000000000000000011c0002800500010006000000060002001f90\
        000006000300cea4000008000300000001ae080008000000000008000c00d07ce1ac08000b0000000002080007000006978030000480\
        2c0001800500010003000000050002000a000000050003000a00000006000400230000000600050023000000";
    /// About 10.1.1.1:1 -> 10.96.0.11:80, of which there is no entry.
    const NONE: &str = "\
        5c00000002000000080000001c300000feffffff48000000010101000800000000000000020000003400018014000180080001000a01\
        0101080002000a60000b1c000280050001000600000006000200000100000600030000500000";

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple::new(source.parse().unwrap(), destination.parse().unwrap())
    }

    fn entry(text: &str) -> Option<Tuple> {
        let bytes = fuzz::captured(text);
        parse(&message::parse(&bytes).next()?)
    }

    #[test]
    fn reads_entries() {
        assert_eq!(entry(V4), Some(tuple("10.1.1.2:8080", "10.1.1.1:45482")));
        assert_eq!(entry(V6), Some(tuple("[fd00:1::2]:8080", "[fd00:1::1]:52900")));
        assert_eq!(entry(NONE), None);
        let bytes = fuzz::captured(NONE);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!((message.sequence, message.outcome()), (8, Outcome::Failed(libc::ENOENT)));
    }

    /// The kernel sends a request back with an error: it took these bytes for what they are.
    #[test]
    fn requests_are_what_the_kernel_reads() {
        let mut bytes = Vec::new();
        assert!(append_request(&mut bytes, 8, &tuple("10.1.1.1:1", "10.96.0.11:80")));
        let sent_back = fuzz::captured(NONE);
        let body = 16 + 4 + 16; // header, errno, header of the request
        assert_eq!(bytes.len(), 0x48);
        assert_eq!(bytes[16..], sent_back[body..]);
    }

    #[test]
    fn requests_share_a_datagram() {
        let mut bytes = Vec::new();
        assert!(append_request(&mut bytes, 1, &tuple("[::ffff:10.1.1.1]:1", "10.1.1.2:2")));
        assert!(!append_request(&mut bytes, 2, &tuple("[fd00::1]:1", "10.1.1.2:2")));
        assert!(append_request(&mut bytes, 3, &tuple("[fd00::1]:1", "[fd00::2]:2")));
        let all: Vec<_> =
            message::parse(&bytes).map(|message| (message.sequence, message.payload[0])).collect();
        assert_eq!(all, [(1, libc::AF_INET as u8), (3, libc::AF_INET6 as u8)]);
    }

    #[test]
    fn survives_any_bytes() {
        for sample in [V4, V6, NONE] {
            fuzz::hammer(&fuzz::captured(sample), |bytes| {
                for message in message::parse(bytes) {
                    let _ = parse(&message);
                }
            });
        }
    }
}
