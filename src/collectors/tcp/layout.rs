//! The layout of what `bpf/tcp*.bpf.c` keep in their maps and tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Spans in which the smallest round trip is kept, `RTT_SPANS`.
pub const RTT_SPANS: usize = 4;
/// A span is 2 to this power nanoseconds, `RTT_SPAN_SHIFT`.
const RTT_SPAN_SHIFT: u32 = 34;
/// Bytes of `struct cgroup_ids`.
const CGROUP_IDS: usize = 32;

/// The span a moment on the monotonic clock is in.
pub fn span(now_ns: u64) -> u32 {
    (now_ns >> RTT_SPAN_SHIFT) as u32
}

/// Takes numbers from the front of some bytes.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

/// An address as the programs write it: IPv4 in the first four bytes.
fn address(bytes: [u8; 16], family: u16) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// `struct counts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connects begun.
    pub attempts: u64,
    /// Of those, that reached ESTABLISHED.
    pub successes: u64,
    /// Of those, that did not.
    pub failures: u64,
    /// Successes that have left ESTABLISHED.
    pub closes: u64,
    /// Attempts whose socket is closed.
    pub ends: u64,
    /// Nanoseconds that successes took.
    pub connect_ns: u64,
    /// Bytes sent, of the ended ones.
    pub sent: u64,
    /// Bytes received, of the ended ones.
    pub received: u64,
    /// Segments sent again, of the ended ones.
    pub retransmits: u64,
    /// Smallest round trips of the ended ones by span.
    rtt: [u64; RTT_SPANS],
}

impl Counts {
    /// Reads a value of map `counts`.
    pub fn decode(value: &[u8]) -> Option<Counts> {
        let mut bytes = Bytes(value);
        Some(Counts {
            attempts: bytes.u64()?,
            successes: bytes.u64()?,
            failures: bytes.u64()?,
            closes: bytes.u64()?,
            ends: bytes.u64()?,
            connect_ns: bytes.u64()?,
            sent: bytes.u64()?,
            received: bytes.u64()?,
            retransmits: bytes.u64()?,
            rtt: [bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?],
        })
    }

    /// Connections that are established now.
    pub fn active(&self) -> u64 {
        self.successes.saturating_sub(self.closes)
    }

    /// True when no socket is left that could change it.
    pub fn is_settled(&self) -> bool {
        self.attempts == self.ends
    }

    /// The smallest round trip, in microseconds, of connections that ended in the last minute.
    pub fn rtt_us(&self, now_ns: u64) -> Option<u32> {
        let now = span(now_ns);
        let recent = |slot: &&u64| now.wrapping_sub((**slot >> 32) as u32) < RTT_SPANS as u32;
        self.rtt.iter().filter(recent).map(|&slot| slot as u32).filter(|&us| us > 0).min()
    }
}

/// `struct living`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Living {
    /// The pass it was added up in.
    pub pass: u32,
    /// The smallest round trip of connections heard from in the last minute, in microseconds; 0 without any.
    pub rtt_us: u32,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Segments sent again.
    pub retransmits: u64,
}

impl Living {
    /// Reads a value of map `living`.
    pub fn decode(value: &[u8]) -> Option<Living> {
        let mut bytes = Bytes(value);
        Some(Living {
            pass: bytes.u32()?,
            rtt_us: bytes.u32()?,
            sent: bytes.u64()?,
            received: bytes.u64()?,
            retransmits: bytes.u64()?,
        })
    }
}

/// Where to: `struct destination`, without its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// IPv4-mapped IPv6 is IPv4 here.
    pub address: IpAddr,
    /// In host byte order.
    pub port: u16,
}

impl Destination {
    /// The last one in order.
    pub const LAST: Destination =
        Destination { address: IpAddr::V6(Ipv6Addr::new(!0, !0, !0, !0, !0, !0, !0, !0)), port: !0 };

    /// Owner and destination of a key.
    pub fn decode(key: &[u8]) -> Option<(u64, Destination)> {
        let mut bytes = Bytes(key);
        let (owner, raw, port, family) = (bytes.u64()?, bytes.take()?, bytes.u16()?, bytes.u16()?);
        Some((owner, Destination { address: address(raw, family)?, port }))
    }

    /// The key `decode` reads.
    pub fn key(self, owner: u64) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&owner.to_ne_bytes());
        let family = match self.address {
            IpAddr::V4(address) => {
                key[8..12].copy_from_slice(&address.octets());
                libc::AF_INET
            }
            IpAddr::V6(address) => {
                key[8..24].copy_from_slice(&address.octets());
                libc::AF_INET6
            }
        };
        key[24..26].copy_from_slice(&self.port.to_ne_bytes());
        key[26..28].copy_from_slice(&(family as u16).to_ne_bytes());
        key
    }
}

/// Prints as labels have it, `10.0.0.1:80` and `[::1]:80`.
impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// `struct owner`: a set of cgroups whose tasks have connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelOwner {
    /// What keys of destinations refer to.
    pub id: u64,
    /// Number of the counts of its destinations beyond a cap.
    pub other: u32,
}

impl KernelOwner {
    /// Reads a value of map `owners`.
    pub fn decode(value: &[u8]) -> Option<KernelOwner> {
        let mut bytes = Bytes(value);
        Some(KernelOwner { id: bytes.u64()?, other: bytes.u32()? })
    }
}

/// `struct told`: a connection whose destination is translated, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// With the local port what tells it from others.
    pub since_ns: u64,
    /// How long it took to connect, in nanoseconds.
    pub connect_ns: u64,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes received so far.
    pub received: u64,
    /// Segments sent again so far.
    pub retransmits: u32,
    /// Its smallest round trip in microseconds; 0 when it was silent for a minute.
    pub rtt_us: u32,
    /// The number of its counts.
    pub number: u32,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// The process that connected, which may be gone.
    pub pid: u32,
    /// Whether it is established now.
    pub is_established: bool,
    /// Whether this is the last word about it.
    pub is_ended: bool,
    /// Its own end.
    pub local: Destination,
}

impl Told {
    /// Bytes of it.
    pub const SIZE: usize = 80;

    /// Reads a record.
    pub fn decode(record: &[u8]) -> Option<Told> {
        let mut bytes = Bytes(record);
        let (since_ns, connect_ns, sent, received) = (bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let (retransmits, rtt_us, number, netns) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let pid = bytes.u32()?;
        let (phase, family, port, _) = (bytes.u16()?, bytes.u16()?, bytes.u16()?, bytes.take::<6>()?);
        let local = Destination { address: address(bytes.take()?, family)?, port };
        let (is_established, is_ended) = (phase == 1, phase == 3);
        Some(Told {
            since_ns,
            connect_ns,
            sent,
            received,
            retransmits,
            rtt_us,
            number,
            netns,
            pid,
            is_established,
            is_ended,
            local,
        })
    }
}

/// `struct listener`: a socket that listens, as one task has it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The cgroups of the task.
    pub ids: [u8; CGROUP_IDS],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The task's process.
    pub pid: u32,
    /// Where it listens; the wildcard address for everywhere.
    pub local: Destination,
    /// Whether an IPv6 wildcard leaves out IPv4.
    pub is_v6_only: bool,
}

impl Listener {
    /// Bytes of it.
    pub const SIZE: usize = CGROUP_IDS + 32;

    /// Reads a record.
    pub fn decode(record: &[u8]) -> Option<Listener> {
        let mut bytes = Bytes(record);
        let (ids, netns, pid, raw) = (bytes.take()?, bytes.u32()?, bytes.u32()?, bytes.take()?);
        let (port, family, v6_only) = (bytes.u16()?, bytes.u16()?, bytes.u16()?);
        let local = Destination { address: address(raw, family)?, port };
        Some(Listener { ids, netns, pid, local, is_v6_only: v6_only != 0 })
    }
}

/// `struct tallies`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tallies {
    /// Connections that could not be followed for want of memory.
    pub lost: u64,
    /// Changes of sockets to and from LISTEN.
    pub listens: u64,
}

impl Tallies {
    /// Reads the value of map `tallies`.
    pub fn decode(value: &[u8]) -> Option<Tallies> {
        let mut bytes = Bytes(value);
        Some(Tallies { lost: bytes.u64()?, listens: bytes.u64()? })
    }
}

/// What is known about a number's destination being translated, `enum mark`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// Nothing yet: the kernel tells of its connections.
    #[default]
    Unknown,
    /// It is not: the kernel keeps quiet.
    Same,
    /// It is: the kernel tells of its connections.
    Translated,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    /// The words 1, 2, 3 … of eight bytes.
    fn words(count: u64) -> Vec<u8> {
        (1..=count).flat_map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn keys_are_what_the_programs_write() {
        for address in ["127.0.0.1", "10.96.0.1", "::1", "2001:db8::5"] {
            let destination = Destination { address: address.parse().unwrap(), port: 18_080 };
            let key = destination.key(7);
            assert_eq!(Destination::decode(&key), Some((7, destination)), "{address}");
            for length in 0..28 {
                assert_eq!(Destination::decode(&key[..length]), None);
            }
        }
        let v4 = Destination { address: Ipv4Addr::new(127, 0, 0, 1).into(), port: 80 };
        assert_eq!(v4.key(7)[8..14], [127, 0, 0, 1, 0, 0]);
        assert_eq!(v4.to_string(), "127.0.0.1:80");
        let v6 = Destination { address: Ipv6Addr::LOCALHOST.into(), port: 80 };
        assert_eq!(v6.to_string(), "[::1]:80");
        let mut unknown = v4.key(7);
        unknown[26] = 99;
        assert_eq!(Destination::decode(&unknown), None, "family");
    }

    #[test]
    fn counts_stand_in_their_order() {
        let counts = Counts::decode(&words(13)).unwrap();
        assert_eq!((counts.attempts, counts.successes, counts.failures), (1, 2, 3));
        assert_eq!((counts.closes, counts.ends, counts.connect_ns), (4, 5, 6));
        assert_eq!((counts.sent, counts.received, counts.retransmits), (7, 8, 9));
        assert_eq!(Counts::decode(&words(12)), None);
        assert_eq!(Counts { successes: 5, closes: 2, ..Counts::default() }.active(), 3);
        assert!(Counts { attempts: 5, ends: 5, ..Counts::default() }.is_settled());
        let living = Living::decode(&[&[1, 0, 0, 0, 9, 0, 0, 0][..], &words(3)].concat()).unwrap();
        assert_eq!((living.pass, living.rtt_us, living.sent, living.retransmits), (1, 9, 1, 3));
    }

    #[test]
    fn round_trips_of_the_last_minute_count() {
        let now_ns = 100 << RTT_SPAN_SHIFT;
        let slot = |span: u64, us: u64| span << 32 | us;
        let counts = |rtt| Counts { rtt, ..Counts::default() };
        assert_eq!(counts([slot(100, 70), slot(97, 50), 0, slot(99, 60)]).rtt_us(now_ns), Some(50));
        assert_eq!(counts([slot(100, 70), slot(96, 50), 0, slot(93, 1)]).rtt_us(now_ns), Some(70));
        assert_eq!(counts([0; RTT_SPANS]).rtt_us(now_ns), None);
        assert_eq!(counts([slot(100, 0), 0, 0, 0]).rtt_us(now_ns), None);
    }

    #[test]
    fn records_stand_in_their_order() {
        let mut record = words(4);
        record.extend([5u32, 6, 7, 8, 9].iter().flat_map(|number| number.to_ne_bytes()));
        record.extend([3u16, 2, 18_080, 0, 0, 0].iter().flat_map(|number| number.to_ne_bytes()));
        record.extend([10, 0, 0, 1]);
        record.extend([0; 12]);
        assert_eq!(record.len(), Told::SIZE);
        let told = Told::decode(&record).unwrap();
        assert_eq!((told.since_ns, told.connect_ns, told.sent, told.received), (1, 2, 3, 4));
        assert_eq!((told.retransmits, told.rtt_us, told.number, told.netns, told.pid), (5, 6, 7, 8, 9));
        assert_eq!((told.is_established, told.is_ended), (false, true));
        assert_eq!(told.local.to_string(), "10.0.0.1:18080");

        let mut record = vec![7; CGROUP_IDS];
        record.extend([8u32, 9].iter().flat_map(|number| number.to_ne_bytes()));
        record.extend([0; 16]);
        record.extend([80u16, libc::AF_INET6 as u16, 1, 0].iter().flat_map(|number| number.to_ne_bytes()));
        assert_eq!(record.len(), Listener::SIZE);
        let listener = Listener::decode(&record).unwrap();
        assert_eq!((listener.ids, listener.netns, listener.pid), ([7; CGROUP_IDS], 8, 9));
        assert_eq!((listener.local.to_string().as_str(), listener.is_v6_only), ("[::]:80", true));
        assert_eq!(Told::decode(&record[..63]), None);
        assert_eq!(Listener::decode(&record[..60]), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&words(13), |bytes| {
            let _ = (Counts::decode(bytes), Living::decode(bytes), Destination::decode(bytes));
            let _ = (Told::decode(bytes), Listener::decode(bytes), Tallies::decode(bytes));
            let _ = KernelOwner::decode(bytes);
        });
    }
}
