//! `RTM_GETLINK` and `RTM_NEWLINK`: network interfaces, their state and traffic (uapi headers
//! linux/rtnetlink.h and linux/if_link.h).
//!
//! Kernel document: Documentation/netlink/specs/rt-link.yaml; also rtnetlink(7).

use super::attribute::{i32_at, text, u32_at, u64_at};
use super::message::Message;
use super::request::Request;

/// Length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
/// Offset of `ifi_index` in it.
const IFI_INDEX: usize = 4;
/// Offset of `ifi_flags` in it.
const IFI_FLAGS: usize = 8;
/// `IF_OPER_UP` of the uapi header linux/if.h.
const OPERSTATE_UP: u8 = libc::IF_OPER_UP as u8;

/// Totals of one interface since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets received.
    pub received_packets: u64,
    /// Packets transmitted.
    pub transmitted_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes transmitted.
    pub transmitted_bytes: u64,
    /// Bad packets received.
    pub receive_errors: u64,
    /// Packets that could not be transmitted.
    pub transmit_errors: u64,
    /// Good packets received and dropped.
    pub receive_dropped: u64,
    /// Packets dropped on their way out.
    pub transmit_dropped: u64,
}

/// One interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: &'a str,
    /// `IFF_*` of linux/if.h.
    pub flags: u32,
    /// RFC 2863 operational state, an `IF_OPER_*` of linux/if.h.
    pub operstate: Option<u8>,
    /// Traffic. Of a kernel without `IFLA_STATS64` these are 32-bit counters that wrap.
    pub stats: Option<LinkStats>,
}

impl Link<'_> {
    /// Whether the operational state is "up"; the loopback interface's never is.
    pub fn is_up(&self) -> bool {
        self.operstate == Some(OPERSTATE_UP)
    }

    /// Whether it is switched on (`IFF_UP`), as the loopback interface usually is; it may lack a carrier.
    pub fn is_enabled(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }
}

/// Writes a request for all interfaces of the socket's network namespace.
pub fn request_all(bytes: &mut Vec<u8>, sequence: u32) {
    Request::start(bytes, libc::RTM_GETLINK, libc::NLM_F_DUMP as u16, sequence).raw(&[0; IFINFOMSG]).finish();
}

/// Writes a request for the interface of this index.
pub fn request_one(bytes: &mut Vec<u8>, sequence: u32, index: u32) {
    let mut header = [0; IFINFOMSG];
    if let Some(slot) = header.get_mut(IFI_INDEX..).and_then(|h| h.first_chunk_mut()) {
        *slot = index.to_ne_bytes();
    }
    Request::start(bytes, libc::RTM_GETLINK, 0, sequence).raw(&header).finish();
}

/// Reads an `RTM_NEWLINK`; `None` for other messages and for one without index or name.
pub fn parse<'a>(message: &Message<'a>) -> Option<Link<'a>> {
    if message.kind != libc::RTM_NEWLINK {
        return None;
    }
    let index = u32::try_from(i32_at(message.payload, IFI_INDEX)?).ok()?;
    let flags = u32_at(message.payload, IFI_FLAGS)?;
    let mut name = None;
    let mut operstate = None;
    let mut stats = None;
    let mut stats_32 = None;
    for attribute in message.attributes(IFINFOMSG) {
        match attribute.kind {
            libc::IFLA_IFNAME => name = text(attribute.value),
            libc::IFLA_OPERSTATE => operstate = attribute.value.first().copied(),
            libc::IFLA_STATS64 => stats = stats_of(|at| u64_at(attribute.value, at.checked_mul(8)?)),
            libc::IFLA_STATS => {
                stats_32 = stats_of(|at| u32_at(attribute.value, at.checked_mul(4)?).map(u64::from))
            }
            _ => {}
        }
    }
    Some(Link { index, name: name?, flags, operstate, stats: stats.or(stats_32) })
}

/// The order is that of both `rtnl_link_stats64` and `rtnl_link_stats`.
fn stats_of(counter: impl Fn(usize) -> Option<u64>) -> Option<LinkStats> {
    Some(LinkStats {
        received_packets: counter(0)?,
        transmitted_packets: counter(1)?,
        received_bytes: counter(2)?,
        transmitted_bytes: counter(3)?,
        receive_errors: counter(4)?,
        transmit_errors: counter(5)?,
        receive_dropped: counter(6)?,
        transmit_dropped: counter(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    /// An interface `eth0` whose counters are 10, 11, 12 ... (64 bits) and 0, 1, 2 ... (32 bits).
    fn reply(with_64: bool, name: &[u8]) -> Vec<u8> {
        let wide: Vec<u8> = (10..35u64).flat_map(u64::to_ne_bytes).collect();
        let narrow: Vec<u8> = (0..24u32).flat_map(u32::to_ne_bytes).collect();
        let mut header = [0; IFINFOMSG];
        header[4..8].copy_from_slice(&2i32.to_ne_bytes());
        header[8..12].copy_from_slice(&0x1043u32.to_ne_bytes());
        let mut bytes = Vec::new();
        let mut request = Request::start(&mut bytes, libc::RTM_NEWLINK, 0, 1)
            .raw(&header)
            .attribute(libc::IFLA_IFNAME, name)
            .attribute(libc::IFLA_OPERSTATE, &[6])
            .attribute(99, b"unknown");
        if with_64 {
            request = request.attribute(libc::IFLA_STATS64, &wide);
        }
        request.attribute(libc::IFLA_STATS, &narrow).finish();
        bytes
    }

    #[test]
    fn reads_a_link() {
        let bytes = reply(true, b"eth0\0");
        let link = parse(&message::parse(&bytes).next().unwrap()).unwrap();
        assert_eq!((link.index, link.name), (2, "eth0"));
        assert!(link.is_up() && link.is_enabled());
        let stats = link.stats.unwrap();
        assert_eq!((stats.received_packets, stats.transmitted_packets), (10, 11));
        assert_eq!((stats.received_bytes, stats.transmitted_bytes), (12, 13));
        assert_eq!((stats.receive_errors, stats.transmit_errors), (14, 15));
        assert_eq!((stats.receive_dropped, stats.transmit_dropped), (16, 17));
    }

    #[test]
    fn falls_back_to_32_bit_counters() {
        let bytes = reply(false, b"eth0\0");
        let link = parse(&message::parse(&bytes).next().unwrap()).unwrap();
        assert_eq!(link.stats.unwrap().transmit_dropped, 7);
    }

    #[test]
    fn what_is_missing_is_none() {
        let nameless = reply(true, b"eth0"); // not terminated
        assert_eq!(parse(&message::parse(&nameless).next().unwrap()), None);
        let payload = &[0; IFINFOMSG];
        let mut message = Message { kind: libc::RTM_NEWADDR, flags: 0, sequence: 0, port: 0, payload };
        assert_eq!(parse(&message), None);
        message.kind = libc::RTM_NEWLINK;
        message.payload = &payload[..7];
        assert_eq!(parse(&message), None);
    }

    #[test]
    fn requests() {
        let mut bytes = Vec::new();
        request_all(&mut bytes, 3);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!((message.kind, message.payload), (libc::RTM_GETLINK, &[0; 16][..]));
        request_one(&mut bytes, 3, 5);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!(u32_at(message.payload, 4), Some(5));
        assert_eq!(i32::from(message.flags), libc::NLM_F_REQUEST);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&reply(true, b"eth0\0"), |bytes| {
            for message in message::parse(bytes) {
                let _ = parse(&message);
            }
        });
    }
}
