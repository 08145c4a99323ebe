//! Traffic of containers, by network namespace (`/proc/PID/net/dev`; Documentation/filesystems/proc.rst, "Networking info").
//!
//! The containers of a pod share a namespace, and the kernel does not say whose of them a packet was. Its traffic counts for
//! one of them, so that sums are right: the first by name, for as long as it lives. The host's own namespace is `node_net`'s.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::containers::InstanceId;
use crate::containers::ledger::Ledger;
use crate::containers::owners::Deserted;
use crate::containers::sweep::{Slice, Sweep};
use crate::error::{Context, Result};
use crate::event::Event;
use crate::host::{Host, read_bounded};
use crate::limits::{self, Limit};
use crate::metric::Desc;
use crate::procfs::net_dev;
use crate::registry::Registry;
use crate::sys::capabilities::{self, Capability};
use crate::sys::clock::MonotonicNs;
use crate::world::World;

static RECEIVED_BYTES: Desc =
    Desc::counter("container_net_received_bytes_total", "Bytes received.", &["interface"]);
static SENT_BYTES: Desc =
    Desc::counter("container_net_transmitted_bytes_total", "Bytes transmitted.", &["interface"]);
static RECEIVED_PACKETS: Desc =
    Desc::counter("container_net_received_packets_total", "Packets received.", &["interface"]);
static SENT_PACKETS: Desc =
    Desc::counter("container_net_transmitted_packets_total", "Packets transmitted.", &["interface"]);
static RECEIVED_DROPS: Desc =
    Desc::counter("container_net_received_drops_total", "Received packets dropped.", &["interface"]);
static SENT_DROPS: Desc = Desc::counter(
    "container_net_transmitted_drops_total",
    "Packets dropped on transmission.",
    &["interface"],
);
static RECEIVED_ERRORS: Desc =
    Desc::counter("container_net_received_errors_total", "Errors on reception.", &["interface"]);
static SENT_ERRORS: Desc =
    Desc::counter("container_net_transmitted_errors_total", "Errors on transmission.", &["interface"]);

const COUNTERS: usize = 8;
static FAMILIES: [&Desc; COUNTERS] = [
    &RECEIVED_BYTES,
    &SENT_BYTES,
    &RECEIVED_PACKETS,
    &SENT_PACKETS,
    &RECEIVED_DROPS,
    &SENT_DROPS,
    &RECEIVED_ERRORS,
    &SENT_ERRORS,
];

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "container_net",
    about: "Traffic of containers that have a network namespace",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[Need::absent(Capability::SysPtrace, "sees which network namespace a container is in")],
    metrics: &FAMILIES,
    open,
};

/// Interfaces that carry other containers' traffic, or none: bridges and their ports where containers hold containers, and what
/// every namespace has. Prefixes.
const NOT_ITS_OWN: [&str; 12] =
    ["lo", "veth", "docker", "br-", "cni", "cali", "flannel", "lxc", "lxd", "podman", "dummy", "kube-"];

struct ContainerNet {
    /// Inode number of the host's namespace.
    host: u64,
    /// A process of each container, and the namespace it is in.
    homes: HashMap<InstanceId, Home>,
    deserted: Deserted,
    namespaces: BTreeMap<u64, Namespace>,
    names: Names,
    ledger: Ledger<COUNTERS>,
    sweep: Sweep,
    /// Namespaces to be read, with who is in them.
    queue: Vec<(u64, Vec<(InstanceId, u32)>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    pid: u32,
    namespace: u64,
}

/// Another namespace than the host's.
struct Namespace {
    /// Whose its traffic is.
    owner: InstanceId,
    /// What its interfaces had counted, with the number of their name. Few: thousands of namespaces may be remembered.
    last: Vec<(u64, [u64; COUNTERS])>,
    /// When a container was seen in it.
    seen_ns: MonotonicNs,
}

impl Namespace {
    /// Keeps what an interface counts now and says what it had before; none for one interface too many.
    fn replace(&mut self, part: u64, values: [u64; COUNTERS]) -> Option<(u64, [u64; COUNTERS])> {
        if let Some((_, last)) = self.last.iter_mut().find(|(known, _)| *known == part) {
            return Some((part, std::mem::replace(last, values)));
        }
        if self.last.len() >= limits::INTERFACES_PER_CONTAINER {
            return None;
        }
        self.last.reserve_exact(1);
        self.last.push((part, values));
        Some((part, [0; COUNTERS]))
    }
}

/// Names of interfaces, numbered: containers have the same few.
#[derive(Debug, Default)]
struct Names(Vec<Box<str>>);

impl Names {
    fn number(&mut self, name: &str) -> Option<u64> {
        if let Some(known) = self.0.iter().position(|known| &**known == name) {
            return Some(known as u64);
        }
        if self.0.len() >= limits::INTERFACES {
            return None;
        }
        self.0.push(name.into());
        Some(self.0.len() as u64 - 1)
    }
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_processes(world) {
        return Ok(absent);
    }
    let may_trace = capabilities::effective_capabilities() & Capability::SysPtrace.bit() != 0;
    let host = match fs::metadata(world.host.proc("1/ns/net")) {
        // Those of containers are hidden too then, and with them all there is to tell.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !may_trace => Err(error),
        Err(_) => fs::metadata(Host::own("ns/net")),
        Ok(file) => Ok(file),
    };
    let host = host.context("/proc/1/ns/net")?.ino();
    Ok(Opened::Ready(Box::new(ContainerNet {
        host,
        homes: HashMap::new(),
        deserted: Deserted::default(),
        namespaces: BTreeMap::new(),
        names: Names::default(),
        ledger: Ledger::default(),
        sweep: Sweep::default(),
        queue: Vec::new(),
    })))
}

/// The inode number of the network namespace of a process.
fn namespace_of(host: &Host, pid: u32) -> Option<u64> {
    fs::metadata(host.proc(&format!("{pid}/ns/net"))).ok().map(|file| file.ino())
}

fn is_its_own(interface: &str) -> bool {
    !NOT_ITS_OWN.iter().any(|prefix| interface.starts_with(prefix))
}

impl ContainerNet {
    /// Looks where a living container is.
    fn find_home(&mut self, world: &World, id: InstanceId) {
        let Some(instance) = world.containers.instance(id) else { return };
        // Whoever has that number now: what counts is the namespace it is in.
        let is_there = |home: &Home| namespace_of(&world.host, home.pid) == Some(home.namespace);
        if self.homes.get(&id).is_some_and(is_there) {
            return;
        }
        // Without a list nobody says that it has moved.
        let Ok(pids) = self.deserted.processes(world, id, instance) else { return };
        let mut pids = pids.into_iter();
        match pids.find_map(|pid| Some(Home { pid, namespace: namespace_of(&world.host, pid)? })) {
            Some(home) => drop(self.homes.insert(id, home)),
            None => drop(self.homes.remove(&id)),
        }
    }

    /// By namespace other than the host's, its living containers with a process of each.
    fn inhabited(&self) -> BTreeMap<u64, Vec<(InstanceId, u32)>> {
        let mut found: BTreeMap<u64, Vec<(InstanceId, u32)>> = BTreeMap::new();
        let foreign = self.homes.iter().filter(|(_, home)| home.namespace != self.host);
        for (&id, home) in foreign {
            found.entry(home.namespace).or_default().push((id, home.pid));
        }
        found
    }

    /// Looks where the next containers are; when all have had their turn, reads what interfaces there have counted.
    fn go_on(&mut self, world: &mut World) {
        if self.sweep.is_under_way() {
            let mut sweep = std::mem::take(&mut self.sweep);
            let is_over = sweep.slice(world, |world, id, _| self.find_home(world, id));
            self.sweep = sweep;
            if !is_over {
                return;
            }
            let found = self.inhabited();
            // The only container of a pod may be on its way back: what it brought before is not to be counted again.
            let kept_ns = limits::NAMESPACE_TIME.as_nanos() as u64;
            self.namespaces.retain(|inode, namespace| {
                if found.contains_key(inode) {
                    namespace.seen_ns = world.now_ns;
                }
                namespace.seen_ns + kept_ns > world.now_ns
            });
            self.queue = found.into_iter().collect();
        }
        let mut slice = Slice::begin();
        while slice.has_room()
            && let Some((inode, mut inside)) = self.queue.pop()
        {
            slice.count();
            inside.retain(|(id, _)| world.containers.is_alive(*id));
            self.read_namespace(world, inode, &inside);
        }
    }

    fn read_namespace(&mut self, world: &mut World, inode: u64, inside: &[(InstanceId, u32)]) {
        if !self.namespaces.contains_key(&inode) && self.namespaces.len() >= limits::NAMESPACES {
            world.reached.count(Limit::Interfaces);
            return;
        }
        let Some((owner, pid)) = self.assign(world, inode, inside) else { return };
        let Some(identity) = world.containers.instance(owner).and_then(|known| known.identity) else {
            return;
        };
        // Not kept open: that would keep the namespace of a container that is gone.
        let file = world.host.proc(&format!("{pid}/net/dev"));
        let Ok(table) = read_bounded(&file, limits::KERNEL_FILE_BYTES) else { return };
        // Its number may be another process's by now.
        if namespace_of(&world.host, pid) != Some(inode) {
            return;
        }
        let Some(namespace) = self.namespaces.get_mut(&inode) else { return };
        for row in net_dev::parse(&table).filter(|row| is_its_own(row.name)) {
            let values = [
                row.received_bytes,
                row.transmitted_bytes,
                row.received_packets,
                row.transmitted_packets,
                row.received_drops,
                row.transmitted_drops,
                row.received_errors,
                row.transmitted_errors,
            ];
            // Modules for tunnels put an interface into every namespace.
            if values == [0; COUNTERS] {
                continue;
            }
            let Some((part, last)) =
                self.names.number(row.name).and_then(|part| namespace.replace(part, values))
            else {
                world.reached.count(Limit::Interfaces);
                continue;
            };
            if values.iter().zip(last).any(|(value, last)| *value < last) {
                // Another interface of that name, or another namespace of that number.
                self.ledger.rebase(owner, part, [0; COUNTERS]);
            }
            self.ledger.observe(owner, identity, part, values);
        }
    }

    /// Gives a namespace to one of the containers in it, if who had it is gone.
    fn assign(
        &mut self,
        world: &World,
        inode: u64,
        inside: &[(InstanceId, u32)],
    ) -> Option<(InstanceId, u32)> {
        let known = self.namespaces.get_mut(&inode);
        let old = known.as_ref().map(|known| known.owner);
        if let Some(still) = inside.iter().find(|(id, _)| Some(*id) == old) {
            return Some(*still);
        }
        let name = |id: InstanceId| {
            let identity = world.containers.instance(id)?.identity?;
            world.containers.identity(identity).map(|named| &named.id)
        };
        let &(owner, pid) = inside.iter().min_by_key(|(id, _)| name(*id))?;
        match known {
            Some(known) => {
                known.owner = owner;
                // What came before was the other one's.
                known.last.iter().for_each(|(part, values)| self.ledger.rebase(owner, *part, *values));
            }
            None => {
                let namespace = Namespace { owner, last: Vec::new(), seen_ns: world.now_ns };
                self.namespaces.insert(inode, namespace);
            }
        }
        Some((owner, pid))
    }
}

impl Collector for ContainerNet {
    fn event(&mut self, _world: &mut World, event: &Event) {
        self.ledger.event(event);
        if let Event::InstanceEnded(id) = event {
            self.homes.remove(id);
            self.deserted.end_instance(*id);
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        if !self.is_busy() {
            self.sweep.begin();
        }
        self.go_on(world);
        Ok(())
    }

    fn tick_ns(&self) -> Option<u64> {
        self.is_busy().then_some(0)
    }

    fn tick(&mut self, world: &mut World) {
        self.go_on(world);
    }

    fn is_busy(&self) -> bool {
        self.sweep.is_under_way() || !self.queue.is_empty()
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (identity, part, totals) in self.ledger.totals() {
            let Some(named) = world.containers.identity(identity) else { continue };
            let Some(interface) = self.names.0.get(part as usize) else { continue };
            for (desc, value) in FAMILIES.into_iter().zip(totals) {
                out.container(&named.labels, desc, &[interface], *value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_inner_containers_are_not_its_own() {
        for own in ["eth0", "net1", "ens3", "wlan0", "tailscale0", "tun0", "bond0"] {
            assert!(is_its_own(own), "{own}");
        }
        for other in ["lo", "veth12ab", "docker0", "br-0123", "cni0", "cali9", "flannel.1", "dummy0"] {
            assert!(!is_its_own(other), "{other}");
        }
    }

    #[test]
    fn names_are_numbered_up_to_a_limit() {
        let mut names = Names::default();
        assert_eq!(
            (names.number("eth0"), names.number("net1"), names.number("eth0")),
            (Some(0), Some(1), Some(0))
        );
        for number in 2..limits::INTERFACES {
            assert!(names.number(&format!("eth{number}")).is_some());
        }
        assert_eq!((names.number("one-more"), names.number("eth0")), (None, Some(0)));
    }
}
