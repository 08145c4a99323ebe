//! The ways into the kernel: `bpf/tcp*.bpf.c`, loaded and attached, and their maps.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use super::layout::{Bytes, Counts, Destination, KernelOwner, Listener, Living, Mark, Tallies, Told};
pub use crate::args::TcpDoor as Door;
use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::procfs::trace_format;
use crate::sys::bpf::{Iterator, Links, Loaded, Map, Object, Ring};
use crate::world::World;
use crate::{debug, info, limits};

/// Ranges of ports the program has room for, `PORT_RANGES`.
const PORT_RANGES: usize = 4;
/// Networks the program has room for, `NETWORKS`.
const NETWORKS: usize = limits::PUBLIC_NETWORKS;

/// The programs, attached, and their maps.
pub struct Kernel {
    /// How connections are followed.
    pub door: Door,
    owners: Map,
    destinations: Map,
    removed: Map,
    counts: Map,
    control: Map,
    tallies: Map,
    free_numbers: Map,
    connections: Map,
    sockets: Option<Sockets>,
    _links: Links,
    pass: u32,
}

/// What can only be had where programs may look into sockets.
struct Sockets {
    living: Map,
    marks: Map,
    told: Map,
    listening: Map,
    /// Connections of translated destinations that have ended.
    ring: Ring,
    live: Iterator,
    listeners: Iterator,
}

impl Kernel {
    /// Loads and attaches the programs, and has them count what is connected already.
    ///
    /// # Errors
    /// What the kernel says to the best of the ways in that is not just missing.
    pub fn open(world: &World) -> Result<Kernel> {
        // Before Linux 5.11 tracing programs may not use the storage of sockets; some kernels have no type information.
        let is_missing = |error: &Error| matches!(error.reason(), Reason::NotSupported | Reason::NoBtf);
        let mut first = None;
        let wanted = |door: &Door| world.config.tcp_door.is_none_or(|wanted| wanted == *door);
        for door in Door::ALL.into_iter().filter(wanted) {
            match Kernel::load(world, door).context(format_args!("tcp by {}", door.word())) {
                Ok(kernel) => {
                    if door == Door::Tracepoint {
                        info!("tcp: without type information bytes, retransmits and latency are absent");
                    }
                    return Ok(kernel);
                }
                Err(error) if is_missing(&error) || door == Door::Tracepoint => {
                    debug!("{error}");
                    // The later ways have needs of their own; why the best one cannot be gone says more.
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(Reason::Failed, "no way in")))
    }

    fn load(world: &World, door: Door) -> Result<Kernel> {
        let mut object = match door {
            Door::Storage => Object::open("tcp", include_bytes!(concat!(env!("OUT_DIR"), "/tcp.bpf.o.gz"))),
            Door::Table => {
                Object::open("tcp", include_bytes!(concat!(env!("OUT_DIR"), "/tcp_hash.bpf.o.gz")))
            }
            Door::Tracepoint => {
                Object::open("tcp", include_bytes!(concat!(env!("OUT_DIR"), "/tcp_plain.bpf.o.gz")))
            }
        }?;
        let destinations = world.config.tcp_destinations;
        // Each owner needs a number for what is beyond its cap; number 0 is for what is beyond theirs.
        let numbers = destinations + limits::TCP_OWNERS + 1;
        let mut sizes = vec![
            ("owners", limits::TCP_OWNERS),
            ("removed", limits::TCP_OWNERS),
            ("destinations", destinations),
            ("counts", numbers),
            ("free_numbers", numbers),
        ];
        if door != Door::Tracepoint {
            sizes.extend([("living", numbers), ("marks", numbers), ("listening", limits::TCP_LISTENERS)]);
        }
        for (map, entries) in sizes {
            object.set_max_entries(map, entries)?;
        }
        object.set_constants(&settings(world, door)?)?;
        let has_third = door != Door::Tracepoint && is_preempted(&world.host);
        if door != Door::Tracepoint {
            object.set_enabled("on_state_third", has_third)?;
        }
        let loaded = object.load()?;
        let mut kernel = Kernel::of(&loaded, door)?;
        // The last one pushed is handed out first, so the numbers in use stay small.
        for number in (1..numbers).rev() {
            kernel.free_numbers.push(&number.to_ne_bytes())?;
        }
        kernel._links.append(loaded.attach_program("on_state").context("on_state")?);
        if door != Door::Tracepoint {
            kernel._links.append(loaded.attach_program("on_state_again").context("on_state_again")?);
            if has_third {
                kernel._links.append(loaded.attach_program("on_state_third").context("on_state_third")?);
            }
            let adopted = loaded.iterator("adopted", None)?;
            kernel.adopt(&adopted)?;
        }
        Ok(kernel)
    }

    fn of(loaded: &Loaded, door: Door) -> Result<Kernel> {
        let connections = loaded.map("connections")?;
        let sockets = match door {
            Door::Tracepoint => None,
            Door::Storage | Door::Table => Some(Sockets::of(loaded, &connections)?),
        };
        Ok(Kernel {
            door,
            owners: loaded.map("owners")?,
            destinations: loaded.map("destinations")?,
            removed: loaded.map("removed")?,
            counts: loaded.map("counts")?,
            control: loaded.map("control")?,
            tallies: loaded.map("tallies")?,
            free_numbers: loaded.map("free_numbers")?,
            connections,
            sockets,
            _links: Links::default(),
            pass: 0,
        })
    }

    /// Has connections that were made before the programs were attached followed from now on. Those to a port that is
    /// listened on were made by somebody else.
    fn adopt(&self, adopted: &Iterator) -> Result<()> {
        let mut ports: Vec<[u8; 8]> = Vec::new();
        let Some(sockets) = &self.sockets else {
            return Ok(());
        };
        self.each_listener(|listener| {
            let mut key = [0; 8];
            key[..4].copy_from_slice(&listener.netns.to_ne_bytes());
            key[4..].copy_from_slice(&u32::from(listener.local.port).to_ne_bytes());
            ports.push(key);
        })?;
        ports.sort_unstable();
        ports.dedup();
        for key in ports.iter().take(limits::TCP_LISTENERS as usize) {
            sockets.listening.set(key, &[0; 4])?;
        }
        adopted.run(1, |_| {})?;
        ports.iter().try_for_each(|key| sockets.listening.delete(key))
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
        let Some(sockets) = &mut self.sockets else {
            return Ok(());
        };
        self.control.set(&[0; 4], &control)?;
        sockets.live.run(Told::SIZE, |record| {
            if let Some(record) = Told::decode(record) {
                told(record);
            }
        })?;
        let pass = self.pass;
        sockets.living.for_first(count, |number, value| {
            if let Some(living) = Living::decode(value).filter(|living| living.pass == pass) {
                each(number, living);
            }
        })
    }

    /// Takes up to `max` records of connections that have ended from the ring; gives how many.
    pub fn take_told(&mut self, max: usize, mut each: impl FnMut(Told)) -> usize {
        let Some(sockets) = &mut self.sockets else {
            return 0;
        };
        sockets.ring.consume(max, |record| {
            if let Some(record) = Told::decode(record) {
                each(record);
            }
        })
    }

    /// Hands every listening socket, once for each task that has it open, to `each`; false when only user space can look for
    /// them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_listener(&self, mut each: impl FnMut(Listener)) -> Result<bool> {
        let Some(sockets) = &self.sockets else {
            return Ok(false);
        };
        sockets.listeners.run(Listener::SIZE, |record| {
            if let Some(listener) = Listener::decode(record) {
                each(listener);
            }
        })?;
        Ok(true)
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
        let marks = self.sockets.as_ref().map(|sockets| &sockets.marks);
        marks.map_or(Ok(()), |marks| marks.set(&number.to_ne_bytes(), &(mark as u32).to_ne_bytes()))
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
    pub fn ring_fd(&self) -> Option<RawFd> {
        self.sockets.as_ref().map(|sockets| sockets.ring.as_raw_fd())
    }

    /// All maps.
    pub fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        let sockets = self.sockets.iter();
        let of_sockets = sockets.flat_map(|all| [&all.living, &all.marks, &all.told, &all.listening]);
        [
            &self.owners,
            &self.destinations,
            &self.removed,
            &self.counts,
            &self.control,
            &self.tallies,
            &self.free_numbers,
            &self.connections,
        ]
        .into_iter()
        .chain(of_sockets)
        .for_each(|map| each(map.as_raw_fd()));
    }
}

impl Sockets {
    fn of(loaded: &Loaded, connections: &Map) -> Result<Sockets> {
        let told = loaded.map("told")?;
        Ok(Sockets {
            living: loaded.map("living")?,
            marks: loaded.map("marks")?,
            listening: loaded.map("listening")?,
            ring: Ring::open(&told)?,
            told,
            live: loaded.iterator("live", Some(connections))?,
            listeners: loaded.iterator("listeners", None)?,
        })
    }
}

/// `settings` of the programs.
fn settings(world: &World, door: Door) -> Result<Vec<u8>> {
    let config = &world.config;
    // The kernel's inode numbers of namespaces have 32 bits. The tracepoint does not know of them.
    let host = world.namespaces.as_ref().filter(|_| door != Door::Tracepoint);
    let host_netns = host.map_or(0, |namespaces| namespaces.host() as u32);
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
    let fields = if door == Door::Tracepoint { fields(&world.host)? } else { [0; 8] };
    bytes.extend(fields.into_iter().flat_map(u16::to_ne_bytes));
    Ok(bytes)
}

/// Whether one task can take the place of another in the middle of a program on a tracepoint, as since Linux 7.0.
fn is_preempted(host: &Host) -> bool {
    let release = read_bounded(&host.proc("sys/kernel/osrelease"), 256).unwrap_or_default();
    let major = release.split(|byte| *byte == b'.').next().and_then(|major| std::str::from_utf8(major).ok());
    major.and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major >= 7)
}

/// Where the fields of the classic tracepoint's record are.
fn fields(host: &Host) -> Result<[u16; 8]> {
    const FORMAT: &str = "events/sock/inet_sock_set_state/format";
    let mounts = ["kernel/tracing", "kernel/debug/tracing"].map(|mount| host.sys(mount).join(FORMAT));
    let read = mounts.iter().find_map(|path| read_bounded(path, limits::KERNEL_FILE_BYTES).ok());
    let format = read.ok_or_else(|| Error::new(Reason::NotFound, format!("tracefs: no {FORMAT}")))?;
    let format = String::from_utf8_lossy(&format);
    let field = |name: &str| {
        trace_format::field(&format, name)
            .ok_or_else(|| Error::new(Reason::NotSupported, format!("{FORMAT} has no {name}")))
    };
    let (socket, protocol) = (field("skaddr")?, field("protocol")?);
    Ok([
        socket.offset,
        field("oldstate")?.offset,
        field("newstate")?.offset,
        field("dport")?.offset,
        protocol.offset,
        protocol.size,
        field("daddr_v6")?.offset,
        // Four bytes on 32-bit kernels.
        socket.size,
    ])
}
