//! TCP connections of containers and where they listen: counted in the kernel by `bpf/tcp*.bpf.c` and read on the timer.

mod by_files;
mod echo;
mod kernel;
mod layout;
mod listeners;
mod peers;
mod ping;
mod rows;
mod table;
mod total;

use std::net::IpAddr;
use std::os::fd::RawFd;

use self::kernel::{Door, Kernel};
use self::layout::Tallies;
use self::listeners::Listeners;
use self::peers::Peers;
use self::ping::Pinger;
pub use self::rows::{Row, RowKey};
use self::table::Table;
use self::total::{OTHER_LABEL, Total};
use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Error, Reason, Result};
use crate::event::Event;
use crate::info;
use crate::limits;
use crate::metric::Desc;
use crate::registry::{ConstLabels, Registry};
use crate::sys::capabilities::Capability;
use crate::world::World;

static LISTENS: Desc = Desc::state(
    "container_net_tcp_listen_info",
    "1 for an address the container listens at, 0 for ten minutes after it stopped.",
    &["listen_addr", "proxy"],
);
static SUCCESSES: Desc = Desc::counter(
    "container_net_tcp_successful_connects_total",
    "Outbound TCP connections established.",
    &["destination", "actual_destination"],
);
static CONNECT_TIME: Desc = Desc::counter(
    "container_net_tcp_connection_time_seconds_total",
    "Time it took to establish them, in seconds.",
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
static RETRANSMITS: Desc = Desc::counter(
    "container_net_tcp_retransmits_total",
    "Segments of outbound TCP connections sent again, the first ones of connects included; absent at 0.",
    &["destination", "actual_destination"],
);
static SENT: Desc = Desc::counter(
    "container_net_tcp_bytes_sent_total",
    "Bytes of payload sent over outbound TCP connections, retransmitted ones once.",
    &["destination", "actual_destination"],
);
static RECEIVED: Desc = Desc::counter(
    "container_net_tcp_bytes_received_total",
    "Bytes of payload received over outbound TCP connections.",
    &["destination", "actual_destination"],
);
static LATENCY: Desc = Desc::gauge(
    "container_net_latency_seconds",
    "Smallest round trip of TCP connections to an address that were heard from in the last minute, or with --ping-upstreams the last echo's, in seconds.",
    &["destination_ip"],
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
static UNRESOLVED: Desc = Desc::counter(
    "nodeprobe_tcp_unresolved_connects_total",
    "Connections to translated destinations whose actual one could not be found out in time.",
    &[],
);
static DOOR: Desc = Desc::state(
    "nodeprobe_tcp_door_info",
    "How connections are followed: storage (of sockets), table or tracepoint, which knows no bytes, retransmits and latency.",
    &["door"],
);
static NAT: Desc = Desc::state(
    "nodeprobe_nat_info",
    "Whether connection tracking is asked for actual destinations, or why not.",
    &["state"],
);
static PINGS: Desc = Desc::counter(
    "nodeprobe_pings_total",
    "Echo requests of --ping-upstreams, by what came of them: answered, unanswered, failed to be sent; absent without it.",
    &["result"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "tcp",
    about: "Outbound TCP connections of containers by destination, and where they listen, with eBPF",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::absent(Capability::Bpf, "follows connections"),
        Need::absent(Capability::Perfmon, "the same"),
        Need::less(
            Capability::SysAdmin,
            "enters containers' network namespaces: listeners, open connections, connection tracking, echoes",
        ),
        Need::less(Capability::SysPtrace, "finds these namespaces, and whose sockets are"),
        Need::less(Capability::NetAdmin, "asks connection tracking who answers behind NAT"),
        Need::flag(Capability::NetRaw, "sends echoes, --ping-upstreams", |config| config.ping_upstreams),
    ],
    metrics: &[
        &LISTENS,
        &SUCCESSES,
        &CONNECT_TIME,
        &FAILURES,
        &ACTIVE,
        &RETRANSMITS,
        &SENT,
        &RECEIVED,
        &LATENCY,
        &LOST,
        &DESTINATIONS,
        &CAPACITY,
        &OTHER,
        &UNRESOLVED,
        &DOOR,
        &NAT,
        &PINGS,
    ],
    open: |world| Ok(Opened::Ready(Box::new(open(world)?))),
};

/// The collector; also for who wants more of it than metrics.
pub struct Tcp {
    kernel: Kernel,
    table: Table,
    peers: Peers,
    listeners: Listeners,
    /// With `--ping-upstreams` only.
    pinger: Option<Pinger>,
    tallies: Tallies,
    unresolved: u64,
    refreshed_ns: u64,
}

/// Loads and attaches its programs.
///
/// # Errors
/// Why it cannot work here.
pub fn open(world: &mut World) -> Result<Tcp> {
    if !world.host.is_live() {
        return Err(Error::new(Reason::NotLive, "the observed root is not a running host"));
    }
    let collector = Tcp {
        kernel: Kernel::open(world)?,
        table: Table::default(),
        peers: Peers::default(),
        listeners: Listeners::default(),
        pinger: world.config.ping_upstreams.then(|| Pinger::new(world)),
        tallies: Tallies::default(),
        unresolved: 0,
        refreshed_ns: 0,
    };
    Ok(collector)
}

impl Tcp {
    /// Finds out who answers for connections the kernel told of.
    fn resolve(&mut self, world: &mut World) -> Result<()> {
        let Some(namespaces) = world.namespaces.as_mut() else {
            return Ok(());
        };
        let target = |number| self.table.target(number);
        match self.peers.resolve(&self.kernel, &world.host, namespaces, target, world.now_ns) {
            Err(error) if error.reason() == Reason::NoPermission => {
                info!("tcp: actual destinations are not looked for: {error}");
                self.peers.deny();
                Ok(())
            }
            resolved => resolved,
        }
    }

    /// Echoes know better than connections, which may have been silent: they are of now, and of the path alone.
    fn collect_latencies(&self, world: &World, out: &mut Registry) {
        let now_ns = world.now_ns;
        let mut say = |identity, address: IpAddr, seconds| {
            if let Some(named) = world.containers.identity(identity) {
                out.container(&named.labels, &LATENCY, &[&address.to_string()], seconds);
            }
        };
        let pinger = self.pinger.as_ref();
        for (&(identity, address), us) in &self.table.latencies {
            if pinger.and_then(|pinger| pinger.answer(identity, address, now_ns)).is_none() {
                say(identity, address, f64::from(*us) / 1e6);
            }
        }
        for (identity, address, ns) in pinger.into_iter().flat_map(|pinger| pinger.answers(now_ns)) {
            say(identity, address, ns as f64 / 1e9);
        }
    }

    fn collect_total(&self, labels: &ConstLabels, total: &Total, out: &mut Registry) {
        out.container(labels, &FAILURES, &[&total.label], total.failures as f64);
        for split in &total.splits {
            // A destination that only ever failed, or that somebody else always answered for.
            if split.values.is_zero() && total.splits.len() > 1 && split.active == 0 {
                continue;
            }
            let (values, pair) = (&split.values, [&*total.label, &*split.label]);
            out.container(labels, &SUCCESSES, &pair, values.successes as f64);
            out.container(labels, &CONNECT_TIME, &pair, values.connect_ns as f64 / 1e9);
            if split.active > 0 {
                out.container(labels, &ACTIVE, &pair, split.active as f64);
            }
            if self.kernel.door == Door::Tracepoint {
                continue;
            }
            if values.retransmits > 0 {
                out.container(labels, &RETRANSMITS, &pair, values.retransmits as f64);
            }
            if values.successes > 0 || values.sent > 0 || values.received > 0 {
                out.container(labels, &SENT, &pair, values.sent as f64);
                out.container(labels, &RECEIVED, &pair, values.received as f64);
            }
        }
    }
}

impl Collector for Tcp {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        self.kernel.ring_fd().into_iter().for_each(&mut *wait);
        if let Some(pinger) = &self.pinger {
            pinger.fds(wait);
        }
    }

    fn ready(&mut self, world: &mut World, fd: RawFd) -> Result<()> {
        if let Some(pinger) = self.pinger.as_mut().filter(|_| Some(fd) != self.kernel.ring_fd()) {
            pinger.ready(fd);
            return Ok(());
        }
        self.peers.observe_ended(&mut self.kernel);
        // The first connection to a new destination wakes us, so that the next ones are known to be translated.
        if self.peers.is_any_pending(|number| self.table.target(number).is_none()) {
            self.table.learn(&mut self.kernel, &world.containers, world.now_ns)?;
        }
        self.resolve(world)
    }

    fn event(&mut self, _world: &mut World, event: &Event) {
        if let Event::IdentityEnded(identity) = event {
            self.table.end(*identity);
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        // The tracepoint does not tell of connections.
        if let Some(namespaces) = world.namespaces.as_mut().filter(|_| self.kernel.door != Door::Tracepoint) {
            self.peers.look(namespaces.conntrack(&world.host));
        }
        let now_ns = world.now_ns;
        self.refreshed_ns = now_ns;
        self.table.read(&mut self.kernel, &mut self.peers, &world.containers, now_ns)?;
        // After the counts were read: what is in them has been told of.
        self.peers.observe_ended(&mut self.kernel);
        let resolved = self.resolve(world);
        self.peers.count_active(now_ns);
        self.tallies = self.kernel.tallies()?;
        let is_asked = self.table.is_unplaced;
        let listeners = self.listeners.refresh(&self.kernel, self.tallies.listens, is_asked, world);
        let at_home = (self.kernel.door == Door::Tracepoint).then_some(&self.listeners.at_home);
        self.unresolved += self.table.attribute(&mut self.peers, &world.containers, at_home, now_ns);
        self.table.release(&self.kernel, &mut self.peers, &world.containers, now_ns)?;
        if let Some(pinger) = &mut self.pinger {
            pinger.forget(&world.containers, now_ns);
        }
        // What one part could not do keeps none of the others from being counted.
        resolved.and(listeners)
    }

    fn deadline_ns(&self) -> Option<u64> {
        let age_ns = limits::TCP_TOLD_AGE.as_nanos() as u64;
        self.peers.has_translated().then_some(self.refreshed_ns + age_ns)
    }

    fn tick_ns(&self) -> Option<u64> {
        self.pinger.as_ref()?.tick_ns()
    }

    fn tick(&mut self, world: &mut World) {
        if let Some(pinger) = &mut self.pinger {
            pinger.tick(&self.table.totals, world);
        }
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (identity, address, proxy, is_open) in self.listeners.all() {
            if let Some(named) = world.containers.identity(identity) {
                let labels = [&*address.to_string(), proxy.word()];
                out.container(&named.labels, &LISTENS, &labels, f64::from(u8::from(is_open)));
            }
        }
        for ((identity, _), total) in &self.table.totals {
            if let Some(named) = world.containers.identity(*identity) {
                self.collect_total(&named.labels, total, out);
            }
        }
        self.collect_latencies(world, out);
        if let Some(stray) = &self.table.stray {
            let labels = world.container_labels.with(&[("container_id", OTHER_LABEL), ("app_id", "")]);
            self.collect_total(&labels, stray, out);
        }
        out.add(&LOST, &[], self.tallies.lost as f64);
        out.add(&DESTINATIONS, &[], self.table.destinations as f64);
        out.add(&CAPACITY, &[], f64::from(world.config.tcp_destinations));
        out.add(&OTHER, &[], self.table.overflow as f64);
        out.add(&UNRESOLVED, &[], self.unresolved as f64);
        out.add(&DOOR, &[self.kernel.door.word()], 1.0);
        out.add(&NAT, &[self.peers.state()], 1.0);
        if let Some(pinger) = &self.pinger {
            let results = pinger.results();
            out.add(&PINGS, &["answered"], results.answered as f64);
            out.add(&PINGS, &["unanswered"], results.unanswered as f64);
            out.add(&PINGS, &["failed"], results.failed as f64);
        }
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        self.kernel.maps(each);
    }
}
