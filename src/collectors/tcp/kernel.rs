//! What `bpf/tcp*.bpf.c` keep in the kernel: the layout of their maps, and the way in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use crate::debug;
use crate::error::{Context, Reason, Result};
use crate::limits;
use crate::sys::bpf::{Iterator, Links, Loaded, Map, Object, Ring};
use crate::world::World;

/// Spans in which the smallest round trip is kept, `RTT_SPANS`.
pub const RTT_SPANS: usize = 4;
/// A span is 2 to this power nanoseconds, `RTT_SPAN_SHIFT`.
const RTT_SPAN_SHIFT: u32 = 34;
/// Ranges of ports the program has room for, `PORT_RANGES`.
const PORT_RANGES: usize = 4;
/// Networks the program has room for, `NETWORKS`.
const NETWORKS: usize = limits::PUBLIC_NETWORKS;
/// Bytes of `struct cgroup_ids`.
pub const CGROUP_IDS: usize = 32;
/// Bytes of `struct told`.
const TOLD: usize = 80;
/// Bytes of `struct listener`.
const LISTENER: usize = CGROUP_IDS + 32;

/// The span a moment on the monotonic clock is in.
pub fn span(now_ns: u64) -> u32 {
    (now_ns >> RTT_SPAN_SHIFT) as u32
}

/// Takes numbers from the front of some bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
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
    pass: u32,
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
    fn decode(value: &[u8]) -> Option<Living> {
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
    fn key(self, owner: u64) -> [u8; 32] {
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
    fn decode(value: &[u8]) -> Option<KernelOwner> {
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
    fn decode(record: &[u8]) -> Option<Told> {
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
    fn decode(record: &[u8]) -> Option<Listener> {
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
    fn decode(value: &[u8]) -> Option<Tallies> {
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

/// The programs, attached, and their maps.
pub struct Kernel {
    owners: Map,
    destinations: Map,
    removed: Map,
    counts: Map,
    living: Map,
    marks: Map,
    control: Map,
    tallies: Map,
    free_numbers: Map,
    listening: Map,
    told: Map,
    connections: Map,
    /// Connections of translated destinations that have ended.
    ring: Ring,
    live: Iterator,
    listeners: Iterator,
    _links: Links,
    pass: u32,
}

impl Kernel {
    /// Loads and attaches the programs, and has them count what is connected already.
    ///
    /// # Errors
    /// What the kernel says to the last of the ways in.
    pub fn open(world: &World) -> Result<Kernel> {
        static STORAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tcp.bpf.o.gz"));
        static HASH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tcp_hash.bpf.o.gz"));
        let opened = Kernel::load(world, STORAGE).context("tcp.bpf.c");
        match opened {
            // Before Linux 5.11 tracing programs may not use the storage of sockets.
            Err(error) if error.reason() == Reason::NotSupported => {
                debug!("tcp: {error}; trying a table instead");
                Kernel::load(world, HASH).context("tcp_hash.bpf.c")
            }
            opened => opened,
        }
    }

    fn load(world: &World, object: &[u8]) -> Result<Kernel> {
        let mut object = Object::open("tcp", object)?;
        let destinations = world.config.tcp_destinations;
        // Each owner needs a number for what is beyond its cap; number 0 is for what is beyond theirs.
        let numbers = destinations + limits::TCP_OWNERS + 1;
        for (map, entries) in [
            ("owners", limits::TCP_OWNERS),
            ("removed", limits::TCP_OWNERS),
            ("destinations", destinations),
            ("counts", numbers),
            ("living", numbers),
            ("marks", numbers),
            ("free_numbers", numbers),
            ("listening", limits::TCP_LISTENERS),
        ] {
            object.set_max_entries(map, entries)?;
        }
        object.set_constants(&settings(world))?;
        let loaded = object.load()?;
        let mut kernel = Kernel::of(&loaded)?;
        // The last one pushed is handed out first, so the numbers in use stay small.
        for number in (1..numbers).rev() {
            kernel.free_numbers.push(&number.to_ne_bytes())?;
        }
        kernel._links.append(loaded.attach_program("on_state").context("on_state")?);
        kernel._links.append(loaded.attach_program("on_state_again").context("on_state_again")?);
        kernel.adopt(&loaded.iterator("adopted", None)?)?;
        Ok(kernel)
    }

    fn of(loaded: &Loaded) -> Result<Kernel> {
        let connections = loaded.map("connections")?;
        let told = loaded.map("told")?;
        Ok(Kernel {
            owners: loaded.map("owners")?,
            destinations: loaded.map("destinations")?,
            removed: loaded.map("removed")?,
            counts: loaded.map("counts")?,
            living: loaded.map("living")?,
            marks: loaded.map("marks")?,
            control: loaded.map("control")?,
            tallies: loaded.map("tallies")?,
            free_numbers: loaded.map("free_numbers")?,
            listening: loaded.map("listening")?,
            ring: Ring::open(&told)?,
            told,
            live: loaded.iterator("live", Some(&connections))?,
            listeners: loaded.iterator("listeners", None)?,
            connections,
            _links: Links::default(),
            pass: 0,
        })
    }

    /// Has connections that were made before the programs were attached followed from now on. Those to a port that is
    /// listened on were made by somebody else.
    fn adopt(&self, adopted: &Iterator) -> Result<()> {
        let mut ports: Vec<[u8; 8]> = Vec::new();
        self.each_listener(|listener| {
            let mut key = [0; 8];
            key[..4].copy_from_slice(&listener.netns.to_ne_bytes());
            key[4..].copy_from_slice(&u32::from(listener.local.port).to_ne_bytes());
            ports.push(key);
        })?;
        ports.sort_unstable();
        ports.dedup();
        for key in ports.iter().take(limits::TCP_LISTENERS as usize) {
            self.listening.set(key, &[0; 4])?;
        }
        adopted.run(1, |_| {})?;
        ports.iter().try_for_each(|key| self.listening.delete(key))
    }

    /// Hands every owner with its key to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_owner(&mut self, mut each: impl FnMut(&[u8], KernelOwner)) -> Result<()> {
        self.owners.for_each(|key, value| {
            if let Some(owner) = KernelOwner::decode(value) {
                each(key, owner);
            }
        })
    }

    /// Hands every destination with its owner and number to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_destination(&mut self, mut each: impl FnMut(u64, Destination, u32)) -> Result<()> {
        self.destinations.for_each(|key, value| {
            if let (Some((owner, destination)), Some(number)) = (Destination::decode(key), Bytes(value).u32())
            {
                each(owner, destination, number);
            }
        })
    }

    /// Hands the counts of the first `count` numbers to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_counts(&mut self, count: u32, mut each: impl FnMut(u32, Counts)) -> Result<()> {
        self.counts.for_first(count, |number, value| {
            if let Some(counts) = Counts::decode(value) {
                each(number, counts);
            }
        })
    }

    /// Adds up what connections that have not ended have done so far: the sums of the first `count` numbers go to `each`,
    /// connections the kernel has to tell of to `told`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_living(
        &mut self,
        count: u32,
        is_nat_in_use: bool,
        mut told: impl FnMut(Told),
        mut each: impl FnMut(u32, Living),
    ) -> Result<()> {
        self.pass = self.pass.wrapping_add(1).max(1);
        let mut control = [0; 8];
        control[..4].copy_from_slice(&self.pass.to_ne_bytes());
        control[4..].copy_from_slice(&u32::from(is_nat_in_use).to_ne_bytes());
        self.control.set(&[0; 4], &control)?;
        self.live.run(TOLD, |record| {
            if let Some(record) = Told::decode(record) {
                told(record);
            }
        })?;
        let pass = self.pass;
        self.living.for_first(count, |number, value| {
            if let Some(living) = Living::decode(value).filter(|living| living.pass == pass) {
                each(number, living);
            }
        })
    }

    /// Takes up to `max` records of connections that have ended from the ring; gives how many.
    pub fn take_told(&mut self, max: usize, mut each: impl FnMut(Told)) -> usize {
        self.ring.consume(max, |record| {
            if let Some(record) = Told::decode(record) {
                each(record);
            }
        })
    }

    /// Hands every listening socket, once for each task that has it open, to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_listener(&self, mut each: impl FnMut(Listener)) -> Result<()> {
        self.listeners.run(LISTENER, |record| {
            if let Some(listener) = Listener::decode(record) {
                each(listener);
            }
        })
    }

    /// What the programs counted about themselves.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tallies(&self) -> Result<Tallies> {
        let value = self.tallies.get(&[0; 4])?;
        Ok(value.and_then(|value| Tallies::decode(&value)).unwrap_or_default())
    }

    /// Says what is known about a number's destination.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mark(&self, number: u32, mark: Mark) -> Result<()> {
        self.marks.set(&number.to_ne_bytes(), &(mark as u32).to_ne_bytes())
    }

    /// Removes the key of a destination, so that nobody new finds its number.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_destination(&self, owner: u64, destination: Destination) -> Result<()> {
        self.destinations.delete(&destination.key(owner))
    }

    /// Gives an owner room for as many new destinations as it has lost so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn note_removed(&self, owner: u64, removed: u32) -> Result<()> {
        self.removed.set(&owner.to_ne_bytes(), &removed.to_ne_bytes())
    }

    /// Removes the key of an owner.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_owner(&self, key: &[u8], owner: u64) -> Result<()> {
        self.owners.delete(key)?;
        self.removed.delete(&owner.to_ne_bytes())
    }

    /// Gives a number that nothing refers to any more to whoever needs one next.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn give_back(&self, number: u32) -> Result<()> {
        self.counts.set(&number.to_ne_bytes(), &vec![0; self.counts.value_size()])?;
        self.mark(number, Mark::Unknown)?;
        self.free_numbers.push(&number.to_ne_bytes())
    }

    /// What becomes readable when many connections of translated destinations have ended.
    pub fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// All maps.
    pub fn maps(&self) -> [RawFd; 12] {
        [
            &self.owners,
            &self.destinations,
            &self.removed,
            &self.counts,
            &self.living,
            &self.marks,
            &self.control,
            &self.tallies,
            &self.free_numbers,
            &self.listening,
            &self.told,
            &self.connections,
        ]
        .map(AsRawFd::as_raw_fd)
    }
}

/// `settings` of the programs.
fn settings(world: &World) -> Vec<u8> {
    let config = &world.config;
    // The kernel's inode numbers of namespaces have 32 bits.
    let host_netns = world.namespaces.as_ref().map_or(0, |namespaces| namespaces.host() as u32);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&host_netns.to_ne_bytes());
    bytes.extend_from_slice(&config.tcp_destinations_per_container.to_ne_bytes());
    for range in 0..PORT_RANGES {
        let (first, last) = config.ephemeral_ports.get(range).copied().unwrap_or((1, 0));
        bytes.extend_from_slice(&first.to_ne_bytes());
        bytes.extend_from_slice(&last.to_ne_bytes());
    }
    let networks = config.public_networks.as_deref();
    bytes.extend_from_slice(&u32::from(networks.is_some()).to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for at in 0..NETWORKS {
        let network = networks.and_then(|networks| networks.get(at));
        let (address, mask, family) = network.map_or(([0; 16], [0xff; 16], 0), |network| {
            let (family, bits, address) = match network.address {
                IpAddr::V4(address) => (libc::AF_INET, 32, u128::from(address.to_bits()) << 96),
                IpAddr::V6(address) => (libc::AF_INET6, 128, address.to_bits()),
            };
            let rest = 128 - u32::from(network.prefix.min(bits));
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            (address.to_be_bytes(), mask.to_be_bytes(), family as u64)
        });
        bytes.extend_from_slice(&address);
        bytes.extend_from_slice(&mask);
        bytes.extend_from_slice(&family.to_ne_bytes());
    }
    bytes
}
