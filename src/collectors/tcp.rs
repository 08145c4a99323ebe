//! TCP connections of containers, counted in the kernel by `bpf/tcp.bpf.c` and read on the timer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::containers::hierarchies::Place;
use crate::containers::{Containers, IdentityId, InstanceId};
use crate::error::{Context, Reason, Result};
use crate::event::Event;
use crate::limits;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::bpf::{Links, Loaded, Map, Object};
use crate::sys::clock::MonotonicNs;
use crate::world::World;

static SUCCESSES: Desc = Desc::counter(
    "container_net_tcp_successful_connects_total",
    "Outbound TCP connections established.",
    &["destination", "actual_destination"],
);
static FAILURES: Desc = Desc::counter(
    "container_net_tcp_failed_connects_total",
    "Outbound TCP connections refused, timed out or given up.",
    &["destination"],
);
static ACTIVE: Desc = Desc::gauge(
    "container_net_tcp_active_connections",
    "Outbound TCP connections that are established now; absent at 0.",
    &["destination", "actual_destination"],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_tcp_connections_lost_total",
    "Outbound connections that could not be followed because the kernel had no memory for it.",
    &[],
);
static DESTINATIONS: Desc = Desc::state(
    "nodeprobe_tcp_destinations",
    "Destinations in the kernel's table, those outside containers included.",
    &[],
);
static CAPACITY: Desc = Desc::state("nodeprobe_tcp_destinations_limit", "Room in that table.", &[]);
static OTHER: Desc = Desc::counter(
    "nodeprobe_tcp_overflow_connects_total",
    "Connects counted into `~other` because a container had too many destinations or the table was full.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "tcp",
    about: "Outbound TCP connections of containers by destination, with eBPF",
    default: Enable::Auto,
    refresh: When::Interval,
    metrics: &[&SUCCESSES, &FAILURES, &ACTIVE, &LOST, &DESTINATIONS, &CAPACITY, &OTHER],
    open,
};

/// The destination of what is beyond a cap, and the container of what no table had room for.
const OTHER_LABEL: &str = "~other";

/// `struct counts` of the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    attempts: u64,
    successes: u64,
    failures: u64,
    closes: u64,
}

impl Counts {
    fn decode(data: &[u8]) -> Option<Counts> {
        let (words, _) = data.as_chunks::<8>();
        let word = |at: usize| words.get(at).map(|word| u64::from_ne_bytes(*word));
        Some(Counts { attempts: word(0)?, successes: word(1)?, failures: word(2)?, closes: word(3)? })
    }

    fn add(&mut self, more: Counts) {
        self.attempts += more.attempts;
        self.successes += more.successes;
        self.failures += more.failures;
        self.closes += more.closes;
    }

    fn active(self) -> u64 {
        self.successes.saturating_sub(self.closes)
    }

    /// True when no socket is left that could change it.
    fn is_settled(self) -> bool {
        self.attempts == self.successes + self.failures && self.successes == self.closes
    }
}

/// `struct destination` of the program, without its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Destination {
    address: IpAddr,
    port: u16,
}

impl Destination {
    /// The last one in order.
    const LAST: Destination =
        Destination { address: IpAddr::V6(Ipv6Addr::new(!0, !0, !0, !0, !0, !0, !0, !0)), port: !0 };

    /// Owner and destination of a key.
    fn decode(key: &[u8]) -> Option<(u64, Destination)> {
        let (owner, rest) = key.split_first_chunk::<8>()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (family, _) = rest.split_first_chunk::<2>()?;
        let address = match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => Ipv4Addr::new(address[0], address[1], address[2], address[3]).into(),
            libc::AF_INET6 => Ipv6Addr::from(*address).into(),
            _ => return None,
        };
        Some((u64::from_ne_bytes(*owner), Destination { address, port: u16::from_ne_bytes(*port) }))
    }

    fn label(self) -> String {
        match self.address {
            IpAddr::V4(address) => format!("{address}:{}", self.port),
            IpAddr::V6(address) => format!("[{address}]:{}", self.port),
        }
    }
}

/// What a series is about: `None` is `~other`.
type Target = Option<Destination>;

/// The tasks of one set of cgroups that have connected.
#[derive(Debug)]
struct Owner {
    /// `struct cgroup_ids`, its key in the kernel.
    key: Box<[u8]>,
    /// The container, once it is known.
    instance: Option<InstanceId>,
    /// Per target of the kernel's tables the counts read last; only of containers.
    rows: HashMap<Target, Row>,
    /// The sum over its keys in the kernel, and since when it is that.
    sum: Counts,
    unchanged_ns: MonotonicNs,
    /// Its keys are removed as they are met in the next read.
    leaving: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    counts: Counts,
    /// Counts into `~other` because its container has too many destinations already.
    folded: bool,
}

/// What an identity has done with one target, all its instances together.
#[derive(Debug, Clone)]
struct Total {
    label: Box<str>,
    successes: u64,
    failures: u64,
}

struct Tcp {
    owners_map: Map,
    destinations_map: Map,
    stray_map: Map,
    lost_map: Map,
    _links: Links,
    owners: HashMap<u64, Owner>,
    totals: BTreeMap<(IdentityId, Target), Total>,
    stray: Counts,
    lost: u64,
    /// Attempts of containers counted into `~other`.
    overflow: u64,
    /// Keys without an owner in the last read.
    orphans: HashSet<Box<[u8]>>,
    destinations: u64,
}

fn open(world: &mut World) -> Result<Opened> {
    if !world.host.is_live() {
        return Ok(Opened::Absent(Reason::NotLive, "the observed root is not a running host".to_owned()));
    }
    let loaded = load(world).context("tcp.bpf.c")?;
    let collector = Tcp {
        owners_map: loaded.map("owners")?,
        destinations_map: loaded.map("destinations")?,
        stray_map: loaded.map("stray")?,
        lost_map: loaded.map("lost")?,
        _links: loaded.attach().context("tcp.bpf.c")?,
        owners: HashMap::new(),
        totals: BTreeMap::new(),
        stray: Counts::default(),
        lost: 0,
        overflow: 0,
        orphans: HashSet::new(),
        destinations: 0,
    };
    Ok(Opened::Ready(Box::new(collector)))
}

fn load(world: &World) -> Result<Loaded> {
    static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tcp.bpf.o.gz"));
    let mut object = Object::open("tcp", OBJECT)?;
    object.set_max_entries("owners", limits::TCP_OWNERS)?;
    object.set_max_entries("destinations", world.config.tcp_destinations)?;
    // `settings` of the program: namespace, cap, four ranges of ports.
    let host_netns =
        std::fs::metadata(world.host.proc("1/ns/net")).map_or(0, |namespace| namespace.ino() as u32);
    let mut settings = Vec::with_capacity(24);
    settings.extend_from_slice(&host_netns.to_ne_bytes());
    settings.extend_from_slice(&world.config.tcp_destinations_per_container.to_ne_bytes());
    for range in 0..4 {
        let (first, last) = world.config.ephemeral_ports.get(range).copied().unwrap_or((1, 0));
        settings.extend_from_slice(&first.to_ne_bytes());
        settings.extend_from_slice(&last.to_ne_bytes());
    }
    object.set_constants(&settings)?;
    object.load()
}

/// The container a task in these cgroups (`struct cgroup_ids`) belongs to: the first known one, most preferred place first.
///
/// A unit only if there is nothing else: on hybrid hosts runtimes leave the tasks of containers in v2 where the runtime's own
/// service is.
fn instance_of(containers: &Containers, key: &[u8]) -> Option<InstanceId> {
    let (ids, _) = key.as_chunks::<8>();
    let known = || {
        let places = Place::ALL.into_iter().zip(ids);
        places.filter_map(|(place, id)| containers.of_cgroup(place, u64::from_ne_bytes(*id)))
    };
    known().find(|&id| !is_unit(containers, id)).or_else(|| known().next())
}

fn is_unit(containers: &Containers, id: InstanceId) -> bool {
    containers.instance(id).is_some_and(|instance| instance.runtime.is_unit())
}

/// `struct owner` of the program: its id, and what it did beyond its cap.
fn decode_owner(value: &[u8]) -> Option<(u64, Counts)> {
    let (id, rest) = value.split_first_chunk::<8>()?;
    Some((u64::from_ne_bytes(*id), Counts::decode(rest.get(8..)?)?))
}

impl Tcp {
    /// Reads the kernel's tables: who connected, and what they did.
    fn read(&mut self, containers: &Containers, now_ns: MonotonicNs) -> Result<()> {
        let mut sums: HashMap<u64, Counts> = HashMap::new();
        let mut news: Vec<(u64, Target, Counts)> = Vec::new();
        self.owners_map.for_each(|key, value| {
            let Some((id, other)) = decode_owner(value) else {
                return;
            };
            let owner = self.owners.entry(id).or_insert_with(|| Owner {
                key: key.into(),
                instance: None,
                rows: HashMap::new(),
                sum: Counts::default(),
                unchanged_ns: now_ns,
                leaving: false,
            });
            // A unit may turn out to be a container's runtime, once the container is known.
            if owner.instance.is_none_or(|id| is_unit(containers, id)) {
                owner.instance = instance_of(containers, key).or(owner.instance);
            }
            sums.insert(id, other);
            if other.attempts > 0 {
                news.push((id, None, other));
            }
        })?;
        let mut leaving_keys: Vec<(u64, Box<[u8]>)> = Vec::new();
        let mut orphans: HashSet<Box<[u8]>> = HashSet::new();
        let mut destinations = 0;
        self.destinations_map.for_each(|key, value| {
            destinations += 1;
            let (Some((id, destination)), Some(counts)) = (Destination::decode(key), Counts::decode(value))
            else {
                return;
            };
            sums.entry(id).or_default().add(counts);
            match self.owners.get(&id) {
                Some(owner) if owner.leaving => leaving_keys.push((id, key.into())),
                Some(owner) if owner.instance.is_some() => news.push((id, Some(destination), counts)),
                // Not a container, or not known yet: then all of it is news later.
                Some(_) => {}
                // Made after the owners were read; or left over, if it is still so next time.
                None => {
                    orphans.insert(key.into());
                }
            }
        })?;
        self.destinations = destinations;
        for (id, target, counts) in news {
            self.attribute(containers, id, target, counts);
        }
        for key in self.orphans.intersection(&orphans) {
            self.destinations_map.delete(key)?;
        }
        self.orphans = orphans;
        self.release(&sums, &leaving_keys, containers, now_ns)
    }

    /// Adds what an owner's key has counted since it was read last to the identity its container has now.
    fn attribute(&mut self, containers: &Containers, owner: u64, target: Target, counts: Counts) {
        let Some(owner) = self.owners.get_mut(&owner) else {
            return;
        };
        let instance = owner.instance.and_then(|id| containers.instance(id));
        let identity = instance.and_then(|instance| instance.identity);
        // Where counters have ended already, what is counted now would stay for ever.
        let Some(identity) = identity.filter(|&identity| containers.identity(identity).is_some()) else {
            return;
        };
        let mut row = owner.rows.get(&target).copied().unwrap_or_default();
        if !row.folded && !self.totals.contains_key(&(identity, target)) {
            let mine = (identity, None)..=(identity, Some(Destination::LAST));
            row.folded = self.totals.range(mine).count() >= limits::TCP_DESTINATIONS_PER_IDENTITY;
        }
        let target_now = if row.folded { None } else { target };
        let total = self.totals.entry((identity, target_now)).or_insert_with(|| Total {
            label: target_now.map_or_else(|| OTHER_LABEL.to_owned(), Destination::label).into(),
            successes: 0,
            failures: 0,
        });
        total.successes += counts.successes.saturating_sub(row.counts.successes);
        total.failures += counts.failures.saturating_sub(row.counts.failures);
        if target_now.is_none() {
            self.overflow += counts.attempts.saturating_sub(row.counts.attempts);
        }
        row.counts = counts;
        owner.rows.insert(target, row);
    }

    /// Removes owners from the kernel's tables whose counts nothing can change any more: those of dead containers without
    /// sockets; and those that are no containers, so that nobody misses them, after a while. In two steps, so that what
    /// changed in between is seen.
    fn release(
        &mut self,
        sums: &HashMap<u64, Counts>,
        leaving_keys: &[(u64, Box<[u8]>)],
        containers: &Containers,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        for (id, owner) in &mut self.owners {
            // It was not idle after all.
            owner.leaving &= sums.get(id).copied().unwrap_or_default() == owner.sum;
        }
        for (_, key) in
            leaving_keys.iter().filter(|(id, _)| self.owners.get(id).is_some_and(|owner| owner.leaving))
        {
            self.destinations_map.delete(key)?;
        }
        let mut left = Vec::new();
        for (&id, owner) in &mut self.owners {
            let sum = sums.get(&id).copied().unwrap_or_default();
            if owner.leaving {
                left.push(id);
                continue;
            }
            if sum != owner.sum {
                (owner.sum, owner.unchanged_ns) = (sum, now_ns);
                continue;
            }
            let idle_ns = now_ns.saturating_sub(owner.unchanged_ns);
            let done = match owner.instance {
                Some(id) => containers.instance(id).is_none_or(|instance| !instance.is_alive()),
                None => idle_ns > limits::TCP_STRANGER_IDLE.as_nanos() as u64,
            };
            owner.leaving = done && sum.is_settled();
        }
        for id in left {
            let Some(owner) = self.owners.remove(&id) else {
                continue;
            };
            self.owners_map.delete(&owner.key)?;
        }
        Ok(())
    }
}

impl Collector for Tcp {
    fn event(&mut self, _world: &mut World, event: &Event) {
        if let Event::IdentityEnded(identity) = event {
            self.totals.retain(|(known, _), _| known != identity);
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.read(&world.containers, world.now_ns)?;
        let zero = [0; 4];
        self.stray = self.stray_map.get(&zero)?.and_then(|value| Counts::decode(&value)).unwrap_or_default();
        let lost = self.lost_map.get(&zero)?;
        self.lost = lost.and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?))).unwrap_or(0);
        Ok(())
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for ((identity, _), total) in &self.totals {
            let Some(named) = world.containers.identity(*identity) else {
                continue;
            };
            // Without address translation the actual destination is the destination.
            out.container(&named.labels, &SUCCESSES, &[&total.label, &total.label], total.successes as f64);
            out.container(&named.labels, &FAILURES, &[&total.label], total.failures as f64);
        }
        for owner in self.owners.values() {
            let instance = owner.instance.and_then(|id| world.containers.instance(id));
            let Some(instance) = instance.filter(|instance| instance.is_alive()) else {
                continue;
            };
            let Some(identity) = instance.identity else {
                continue;
            };
            let Some(named) = world.containers.identity(identity) else {
                continue;
            };
            for (target, row) in owner.rows.iter().filter(|(_, row)| row.counts.active() > 0) {
                let target = if row.folded { None } else { *target };
                let Some(total) = self.totals.get(&(identity, target)) else {
                    continue;
                };
                out.container(
                    &named.labels,
                    &ACTIVE,
                    &[&total.label, &total.label],
                    row.counts.active() as f64,
                );
            }
        }
        if self.stray.attempts > 0 {
            let labels = world.node.labels.with(&[("container_id", OTHER_LABEL), ("app_id", "")]);
            out.container(&labels, &SUCCESSES, &[OTHER_LABEL, OTHER_LABEL], self.stray.successes as f64);
            out.container(&labels, &FAILURES, &[OTHER_LABEL], self.stray.failures as f64);
            if self.stray.active() > 0 {
                out.container(&labels, &ACTIVE, &[OTHER_LABEL, OTHER_LABEL], self.stray.active() as f64);
            }
        }
        out.add(&LOST, &[], self.lost as f64);
        out.add(&DESTINATIONS, &[], self.destinations as f64);
        out.add(&CAPACITY, &[], f64::from(world.config.tcp_destinations));
        out.add(&OTHER, &[], (self.overflow + self.stray.attempts) as f64);
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        for map in [&self.owners_map, &self.destinations_map, &self.stray_map, &self.lost_map] {
            each(map.as_raw_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_decode_as_the_program_writes_them() {
        let mut key = Vec::new();
        key.extend_from_slice(&7u64.to_ne_bytes());
        key.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        key.extend_from_slice(&18080u16.to_ne_bytes());
        key.extend_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        key.extend_from_slice(&[0; 4]);
        let (owner, destination) = Destination::decode(&key).unwrap();
        assert_eq!((owner, destination.label().as_str()), (7, "127.0.0.1:18080"));
        let v6 = Destination { address: Ipv6Addr::LOCALHOST.into(), port: 80 };
        assert_eq!(v6.label(), "[::1]:80");
        for length in 0..28 {
            assert!(Destination::decode(&key[..length]).is_none());
        }
        assert!(decode_owner(&[0; 47]).is_none());
    }
}
