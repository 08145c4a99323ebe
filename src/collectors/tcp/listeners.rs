//! Where containers listen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::by_files;
use super::kernel::Kernel;
use super::layout::Destination;
use super::table::instance_of;
use crate::containers::{IdentityId, InstanceId};
use crate::error::Result;
use crate::limits::{self, Limit};
use crate::sys::clock::{self, MonotonicNs};
use crate::world::World;

/// Who serves at an address in place of the container: label `proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxy {
    /// Nobody.
    None,
    /// The runtime, which passes on what comes to a published port.
    Dockerd,
}

impl Proxy {
    /// The label value, whatever the runtime: as coroot-node-agent has it.
    pub fn word(self) -> &'static str {
        match self {
            Proxy::None => "",
            Proxy::Dockerd => "dockerd",
        }
    }
}

/// The key of one series.
type Key = (IdentityId, SocketAddr, Proxy);

/// All addresses containers listen at, and did a short while ago.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Since when it is closed.
    known: BTreeMap<Key, Option<MonotonicNs>>,
    /// The kernel's count of changes at the last look, and when that was and what it cost.
    changes: Option<u64>,
    looked_ns: MonotonicNs,
    cost_ns: u64,
    /// Where the programs do not know of namespaces: whether a container is in the host's.
    pub at_home: HashMap<InstanceId, bool>,
}

impl Listeners {
    /// Every address with whether it is open.
    pub fn all(&self) -> impl Iterator<Item = (IdentityId, SocketAddr, Proxy, bool)> {
        self.known
            .iter()
            .map(|(&(identity, address, proxy), closed)| (identity, address, proxy, closed.is_none()))
    }

    /// Looks again if anything changed (`changes` is the kernel's count of that), `is_asked`, or the last look is old.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn refresh(
        &mut self,
        kernel: &Kernel,
        changes: u64,
        is_asked: bool,
        world: &mut World,
    ) -> Result<()> {
        let now_ns = world.now_ns;
        let age_ns = now_ns.saturating_sub(self.looked_ns);
        let is_affordable = age_ns >= self.cost_ns * u64::from(limits::TCP_LISTENERS_PATIENCE);
        let is_old = age_ns >= limits::TCP_LISTENERS_AGE.as_nanos() as u64;
        let is_due = (is_old || is_asked || self.changes != Some(changes)) && is_affordable;
        if is_due {
            let began_ns = clock::monotonic_ns();
            let (mut found, is_complete) = look(kernel, world, &mut self.at_home)?;
            found.sort_unstable_by_key(|open| (open.instance, open.netns, open.local));
            found.dedup_by_key(|open| (open.instance, open.netns, open.local));
            let open = open_addresses(&found, world);
            self.update(open, is_complete, world);
            (self.changes, self.looked_ns) = (Some(changes), now_ns);
            self.cost_ns = clock::monotonic_ns().saturating_sub(began_ns);
        }
        self.add_published(world);
        // Gauges of what is dead end with it.
        let alive: BTreeSet<IdentityId> =
            world.containers.living().filter_map(|(_, instance, _)| instance.identity).collect();
        self.known.retain(|(identity, ..), closed| {
            let told_ns = limits::TCP_LISTEN_CLOSED.as_nanos() as u64;
            alive.contains(identity) && closed.is_none_or(|at| now_ns.saturating_sub(at) < told_ns)
        });
        Ok(())
    }

    fn update(&mut self, open: BTreeSet<(IdentityId, SocketAddr)>, is_complete: bool, world: &mut World) {
        let now_ns = world.now_ns;
        for ((identity, address, proxy), closed) in &mut self.known {
            if is_complete && *proxy == Proxy::None && !open.contains(&(*identity, *address)) {
                closed.get_or_insert(now_ns);
            }
        }
        for (identity, address) in open {
            self.put((identity, address, Proxy::None), world);
        }
    }

    /// Opens an address. Beyond the cap of its container the one that is closed for longest makes room.
    fn put(&mut self, key: Key, world: &mut World) {
        let of_identity = |(known, _): &(&Key, &Option<MonotonicNs>)| known.0 == key.0;
        let is_new = !self.known.contains_key(&key);
        if is_new && self.known.iter().filter(of_identity).count() >= limits::TCP_LISTENS_PER_CONTAINER {
            let closed = self.known.iter().filter(of_identity);
            let oldest = closed.filter_map(|(key, closed)| Some(((*closed)?, *key))).min();
            let Some((_, oldest)) = oldest else {
                world.reached.count(Limit::Listens);
                return;
            };
            self.known.remove(&oldest);
        }
        self.known.insert(key, None);
    }

    /// Ports that runtimes publish are open as long as the container lives.
    fn add_published(&mut self, world: &mut World) {
        self.known.retain(|(.., proxy), _| *proxy == Proxy::None);
        if world.containers.living().all(|(_, instance, _)| instance.published().is_empty()) {
            return;
        }
        let host = world.namespaces.as_mut().and_then(|namespaces| {
            let inode = namespaces.host();
            Some(namespaces.addresses(&world.host, inode)?.to_vec())
        });
        let host = host.unwrap_or_default();
        let mut published: Vec<Key> = Vec::new();
        for (_, instance, _) in world.containers.living() {
            let Some(identity) = instance.identity else {
                continue;
            };
            let keys = instance.published().iter().flat_map(|published| {
                let of_family =
                    host.iter().filter(|address| address.is_ipv4() == published.is_ipv4()).copied();
                let addresses: Vec<IpAddr> = match published.ip().is_unspecified() {
                    true if !host.is_empty() => of_family.collect(),
                    _ => vec![published.ip()],
                };
                addresses.into_iter().map(|address| SocketAddr::new(address, published.port()))
            });
            // One more than the cap, so that it is seen to be one.
            let keys = keys.take(limits::TCP_LISTENS_PER_CONTAINER + 1);
            published.extend(keys.map(|address| (identity, address, Proxy::Dockerd)));
        }
        for key in published {
            self.put(key, world);
        }
    }
}

/// A listening socket that a container has open.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// The container.
    pub instance: InstanceId,
    /// Inode number of the socket's network namespace.
    pub netns: u64,
    /// A process in it.
    pub pid: u32,
    /// Where it listens; the wildcard address for everywhere.
    pub local: Destination,
    /// Whether an IPv6 wildcard leaves out IPv4.
    pub is_v6_only: bool,
}

fn look(
    kernel: &Kernel,
    world: &mut World,
    at_home: &mut HashMap<InstanceId, bool>,
) -> Result<(Vec<Open>, bool)> {
    let mut found = Vec::new();
    let is_complete = kernel.each_listener(|listener| {
        if let Some(instance) = instance_of(&world.containers, &listener.ids) {
            let (netns, pid, local) = (u64::from(listener.netns), listener.pid, listener.local);
            found.push(Open { instance, netns, pid, local, is_v6_only: listener.is_v6_only });
        }
    })?;
    Ok(if is_complete { (found, true) } else { by_files::listeners(world, at_home) })
}

/// The addresses at which the sockets found can be reached, by who has them open.
fn open_addresses(found: &[Open], world: &mut World) -> BTreeSet<(IdentityId, SocketAddr)> {
    let mut open = BTreeSet::new();
    let mut counts: BTreeMap<IdentityId, usize> = BTreeMap::new();
    for listener in found {
        let port = listener.local.port;
        if world.config.is_ephemeral(port) {
            continue;
        }
        let Some(identity) =
            world.containers.instance(listener.instance).and_then(|instance| instance.identity)
        else {
            continue;
        };
        for address in reached_at(listener, world) {
            let address = (identity, SocketAddr::new(address, port));
            let count = counts.entry(identity).or_default();
            if open.contains(&address) {
                continue;
            }
            if *count >= limits::TCP_LISTENS_PER_CONTAINER {
                world.reached.count(Limit::Listens);
                continue;
            }
            *count += 1;
            open.insert(address);
        }
    }
    open
}

/// The addresses of a listener: its own, or all of its network namespace.
fn reached_at(listener: &Open, world: &mut World) -> Vec<IpAddr> {
    let address = listener.local.address;
    let netns = listener.netns;
    let Some(namespaces) = world.namespaces.as_mut() else {
        return vec![address];
    };
    namespaces.note(&world.host, netns, listener.pid);
    let is_host = netns == namespaces.host();
    if address.is_loopback() {
        // What listens there cannot be reached from outside, but by the host's own processes.
        return if is_host { vec![address] } else { Vec::new() };
    }
    if !address.is_unspecified() {
        return vec![address];
    }
    let mut addresses = Vec::new();
    if let Some(usable) = namespaces.addresses(&world.host, netns) {
        addresses.extend_from_slice(usable);
    } else {
        return vec![address];
    }
    if is_host {
        addresses.extend_from_slice(namespaces.loopback_addresses(&world.host, netns).unwrap_or_default());
    }
    let has_both = address.is_ipv6() && !listener.is_v6_only;
    addresses.retain(|known| has_both || known.is_ipv4() == address.is_ipv4());
    addresses
}
