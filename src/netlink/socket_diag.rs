//! `SOCK_DIAG_BY_FAMILY`: the TCP sockets of a network namespace (uapi headers linux/sock_diag.h and linux/inet_diag.h).
//!
//! Kernel source: net/ipv4/inet_diag.c; also sock_diag(7). A dump of IPv6 sockets holds those that are connected over IPv4
//! too. The kernel loads the modules inet_diag and tcp_diag for the first who asks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::attribute::{octets_at, u16_be_at, u32_at, u64_at};
use super::message::Message;
use super::request::Request;

// libc does not have these; they are of linux/sock_diag.h and linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// Length of `struct inet_diag_sockid`.
const SOCKID: usize = 48;

// Offsets in `struct inet_diag_msg`.
const FAMILY: usize = 0;
const STATE: usize = 1;
const LOCAL_PORT: usize = 4;
const REMOTE_PORT: usize = 6;
const LOCAL_ADDRESS: usize = 8;
const REMOTE_ADDRESS: usize = 24;
const COOKIE: usize = 44;
const INODE: usize = 68;
/// Its length.
const INET_DIAG_MSG: usize = 72;

/// States of a socket by number (include/net/tcp_states.h); a mask of states has the bit of each.
pub mod state {
    /// Connected.
    pub const ESTABLISHED: u8 = 1;
    /// Connecting.
    pub const SYN_SENT: u8 = 2;
    /// Closed by both ends; no socket any more, only its ports are kept.
    pub const TIME_WAIT: u8 = 6;
    /// Waiting for connections.
    pub const LISTEN: u8 = 10;
    /// All states.
    pub const ALL: u32 = !0;

    /// The mask of one state.
    pub const fn mask(state: u8) -> u32 {
        1u32.wrapping_shl(state as u32)
    }
}

/// The version of IP a socket was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    fn number(self) -> u8 {
        match self {
            Family::V4 => libc::AF_INET as u8,
            Family::V6 => libc::AF_INET6 as u8,
        }
    }
}

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// One of [`state`].
    pub state: u8,
    /// What it was made for, whatever it is connected over.
    pub family: Family,
    /// Its own end; IPv4 addresses in IPv6 form are IPv4 here.
    pub local: SocketAddr,
    /// The other end; all 0 of one that listens.
    pub remote: SocketAddr,
    /// Inode number, as in `/proc/PID/fd`; 0 when no process holds it.
    pub inode: u32,
    /// Its number that is never used again, as `bpf_get_socket_cookie` gives it.
    pub cookie: Option<u64>,
    /// Id of the v2 cgroup it was made in; since Linux 5.8, and not of one that only keeps its ports.
    pub cgroup_id: Option<u64>,
    /// Whether an IPv6 one that listens on all addresses leaves out IPv4; since Linux 4.2, of those that listen.
    pub is_v6_only: Option<bool>,
}

/// Writes a request for all TCP sockets made for `family` that are in one of the states of the mask `states`, in the network
/// namespace of the socket it is sent by.
pub fn request_tcp(bytes: &mut Vec<u8>, sequence: u32, family: Family, states: u32) {
    Request::start(bytes, SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP as u16, sequence)
        .raw(&[family.number(), libc::IPPROTO_TCP as u8, 0, 0])
        .raw(&states.to_ne_bytes())
        .raw(&[0; SOCKID])
        .finish();
}

/// Reads a socket; `None` for other messages, other families and messages that are too short.
pub fn parse(message: &Message<'_>) -> Option<Socket> {
    if message.kind != SOCK_DIAG_BY_FAMILY || message.payload.len() < INET_DIAG_MSG {
        return None;
    }
    let bytes = message.payload;
    let family = match i32::from(*bytes.get(FAMILY)?) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    let address = |at| {
        Some(match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(octets_at::<4>(bytes, at)?)),
            Family::V6 => IpAddr::from(octets_at::<16>(bytes, at)?).to_canonical(),
        })
    };
    let mut cgroup_id = None;
    let mut is_v6_only = None;
    for attribute in message.attributes(INET_DIAG_MSG) {
        match attribute.kind {
            INET_DIAG_CGROUP_ID => cgroup_id = u64_at(attribute.value, 0),
            INET_DIAG_SKV6ONLY => is_v6_only = attribute.value.first().map(|value| *value != 0),
            _ => {}
        }
    }
    // Two numbers of 32 bits, the lower half first.
    let (lower, upper) = (u32_at(bytes, COOKIE)?, u32_at(bytes, COOKIE.saturating_add(4))?);
    Some(Socket {
        state: *bytes.get(STATE)?,
        family,
        local: SocketAddr::new(address(LOCAL_ADDRESS)?, u16_be_at(bytes, LOCAL_PORT)?),
        remote: SocketAddr::new(address(REMOTE_ADDRESS)?, u16_be_at(bytes, REMOTE_PORT)?),
        inode: u32_at(bytes, INODE)?,
        cookie: Some(u64::from(upper) << 32 | u64::from(lower)),
        cgroup_id,
        is_v6_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    /// What Linux 6.18 tells of a socket that listens on [::]:8080 and of the two connections it took, over IPv6 and IPv4.
    const DUMP: &str = "\
        8400000014000200050000001c3000000a0a00001f900000000000000000000000000000000000000000000000000000000000000000\
        00000000000004100000000000000000000002000000090000000000000078d17301050008000000000005000b000000000008000f00\
        000000000c001500010000000000000006001600120000007c00000014000200050000001c3000000a0100001f90b1aa000000000000\
        00000000ffff0a01010200000000000000000000ffff0a01010100000000051000000000000000000000000000000000000000000000\
        00000000050008000000000008000f00000000000c001500010000000000000006001600120000007c00000014000200050000001c30\
        00000a0100001f90cea4fd000001000000000000000000000002fd000001000000000000000000000001000000000610000000000000\
        0000000000000000000000000000000000000000050008000000000008000f00000000000c0015000100000000000000060016001200\
        0000";

    #[test]
    fn reads_sockets() {
        let bytes = fuzz::captured(DUMP);
        let sockets: Vec<Socket> = message::parse(&bytes).map(|message| parse(&message).unwrap()).collect();
        let [listening, v4, v6] = &sockets[..] else { panic!("{sockets:?}") };
        assert_eq!((listening.state, listening.family), (state::LISTEN, Family::V6));
        assert_eq!((listening.local, listening.remote.port()), ("[::]:8080".parse().unwrap(), 0));
        assert_eq!((listening.is_v6_only, listening.cgroup_id), (Some(false), Some(1)));
        assert_eq!((listening.inode, listening.cookie), (24367480, Some(4100)));
        assert_eq!((v6.state, v6.cookie, v6.is_v6_only), (state::ESTABLISHED, Some(4102), None));
        assert_eq!(v6.local, "[fd00:1::2]:8080".parse().unwrap());
        assert_eq!(v6.remote, "[fd00:1::1]:52900".parse().unwrap());
        assert_eq!((v4.family, v4.local), (Family::V6, "10.1.1.2:8080".parse().unwrap()));
        assert_eq!((v4.remote, v4.inode), ("10.1.1.1:45482".parse().unwrap(), 0));
    }

    #[test]
    fn requests_hold_family_and_states() {
        let mut bytes = Vec::new();
        request_tcp(&mut bytes, 5, Family::V6, state::mask(state::LISTEN));
        assert_eq!(bytes.len(), 16 + 56);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!((message.kind, message.payload[..4].to_vec()), (20, vec![10, 6, 0, 0]));
        assert_eq!(u32_at(message.payload, 4), Some(1 << 10));
        assert_eq!(parse(&message), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&fuzz::captured(DUMP), |bytes| {
            for message in message::parse(bytes) {
                let _ = parse(&message);
            }
        });
    }
}
