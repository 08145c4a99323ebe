//! Network interfaces of the host, from rtnetlink (rtnetlink(7)) in its network namespace, else from /proc/1/net/dev.

use std::collections::HashMap;

use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::kernel_file::KernelFile;
use crate::limits::{self, Limit, Reached};
use crate::metric::Desc;
use crate::netlink::message::{self, Outcome};
use crate::netlink::{address, link};
use crate::procfs::{interface::is_tracked_interface, net_dev};
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::netlink::NetlinkSocket;
use crate::sys::process;
use crate::world::World;

static RECEIVED_BYTES: Desc =
    Desc::counter("node_net_received_bytes_total", "Bytes received.", &["interface"]);
static SENT_BYTES: Desc =
    Desc::counter("node_net_transmitted_bytes_total", "Bytes transmitted.", &["interface"]);
static RECEIVED_PACKETS: Desc =
    Desc::counter("node_net_received_packets_total", "Packets received.", &["interface"]);
static SENT_PACKETS: Desc =
    Desc::counter("node_net_transmitted_packets_total", "Packets transmitted.", &["interface"]);
static UP: Desc =
    Desc::state("node_net_interface_up", "1 if the interface's operational state is up.", &["interface"]);
static IP: Desc =
    Desc::state("node_net_interface_ip", "An address of the interface; always 1.", &["interface", "ip"]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_net",
    about: "Physical network interfaces of the host",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[Need::less(
        Capability::SysPtrace,
        "sees that it is in the host's network: addresses and states of interfaces",
    )],
    metrics: &[&RECEIVED_BYTES, &SENT_BYTES, &RECEIVED_PACKETS, &SENT_PACKETS, &UP, &IP],
    open,
};

/// Room for a netlink datagram: the kernel fills at most 32 KiB of it.
const DATAGRAM: usize = 32 * 1024;

/// Beyond this many links (veth pairs of containers), links are dumped only once a minute and asked for one by one between.
const DUMP_LINKS: usize = 64;

struct NodeNet {
    source: Source,
    interfaces: Vec<Interface>,
}

enum Source {
    Netlink { socket: NetlinkSocket, sequence: u32, links: usize, dumped_ns: u64 },
    Files { net_dev: KernelFile },
}

#[derive(Debug, Default)]
struct Interface {
    name: String,
    index: u32,
    up: Option<bool>,
    addresses: Vec<String>,
    /// Received and sent bytes, received and sent packets.
    counters: [u64; 4],
}

fn open(world: &mut World) -> Result<Opened> {
    let socket = || NetlinkSocket::open(libc::NETLINK_ROUTE);
    let inside = if world.host.is_live() {
        process::inside_namespace(&world.host.proc("1/ns/net"), &Host::own("ns/net"), socket)
            .and_then(|opened| opened)
    } else {
        Err(std::io::ErrorKind::NotFound.into())
    };
    let source = match inside {
        Ok(socket) => Source::Netlink { socket, sequence: 0, links: 0, dumped_ns: 0 },
        Err(_) => Source::Files { net_dev: KernelFile::new(world.host.proc("1/net/dev")) },
    };
    let mut collector = NodeNet { source, interfaces: Vec::new() };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

impl NodeNet {
    fn refresh_from_files(&mut self, world: &mut World) -> Result<()> {
        let Source::Files { net_dev } = &mut self.source else {
            return Ok(());
        };
        let mut buffer = Vec::new();
        let table = net_dev.read(&mut world.kept_files, &mut buffer).context("/proc/1/net/dev")?;
        self.interfaces = net_dev::parse(table)
            .filter(|row| is_tracked_interface(row.name))
            .take(limits::INTERFACES)
            .map(|row| {
                let state = read_bounded(&world.host.sys(&format!("class/net/{}/operstate", row.name)), 64);
                Interface {
                    name: row.name.to_owned(),
                    up: state.ok().map(|state| state.trim_ascii() == b"up"),
                    counters: [
                        row.received_bytes,
                        row.transmitted_bytes,
                        row.received_packets,
                        row.transmitted_packets,
                    ],
                    ..Interface::default()
                }
            })
            .collect();
        Ok(())
    }

    fn refresh_from_netlink(&mut self, now_ns: u64, reached: &mut Reached) -> Result<()> {
        let Source::Netlink { socket, sequence, links, dumped_ns } = &mut self.source else {
            return Ok(());
        };
        let minute_ns = limits::LIMITS_INTERVAL.as_nanos() as u64;
        let mut request = Vec::new();
        if *dumped_ns != 0 && *links > DUMP_LINKS && now_ns.saturating_sub(*dumped_ns) < minute_ns {
            for interface in &mut self.interfaces {
                *sequence += 1;
                link::request_one(&mut request, *sequence, interface.index);
                let outcome = exchange(socket, *sequence, &request, |message| {
                    if let Some(link) = link::parse(message) {
                        interface.take(&link);
                    }
                });
                // An interface that went away is gone from the next dump.
                if outcome.as_ref().is_err_and(|error| error.reason() != Reason::NotFound) {
                    outcome.context("RTM_GETLINK")?;
                }
            }
            return Ok(());
        }
        let mut found: HashMap<u32, Interface> = HashMap::new();
        *sequence += 1;
        *links = 0;
        link::request_all(&mut request, *sequence);
        exchange(socket, *sequence, &request, |message| {
            let Some(link) = link::parse(message) else { return };
            *links += 1;
            if is_tracked_interface(link.name) {
                if found.len() >= limits::INTERFACES {
                    return reached.count(Limit::Interfaces);
                }
                let interface = found.entry(link.index).or_default();
                interface.name = link.name.to_owned();
                interface.index = link.index;
                interface.take(&link);
            }
        })
        .context("RTM_GETLINK")?;
        *sequence += 1;
        address::request_all(&mut request, *sequence);
        exchange(socket, *sequence, &request, |message| {
            let Some(address) = address::parse(message) else {
                return;
            };
            if address.is_link_local() || address.is_multicast() {
                return;
            }
            if let Some(interface) = found.get_mut(&address.link_index) {
                interface.addresses.push(address.address.to_string());
            }
        })
        .context("RTM_GETADDR")?;
        *dumped_ns = now_ns;
        self.interfaces = found.into_values().collect();
        self.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }
}

impl Interface {
    fn take(&mut self, link: &link::Link<'_>) {
        self.up = Some(link.is_up());
        if let Some(stats) = &link.stats {
            self.counters = [
                stats.received_bytes,
                stats.transmitted_bytes,
                stats.received_packets,
                stats.transmitted_packets,
            ];
        }
    }
}

/// Sends a request and hands every message of its reply to `each`.
fn exchange(
    socket: &NetlinkSocket,
    sequence: u32,
    request: &[u8],
    mut each: impl FnMut(&message::Message<'_>),
) -> Result<()> {
    socket.send(request)?;
    let dump = request.get(6..8).is_some_and(|flags| {
        let dump = libc::NLM_F_DUMP as u16;
        u16::from_ne_bytes([flags[0], flags[1]]) & dump == dump
    });
    let mut buffer = vec![0; DATAGRAM];
    loop {
        for message in message::parse(socket.receive(&mut buffer)?) {
            // The end of an earlier exchange that broke off.
            if message.sequence != sequence {
                continue;
            }
            match message.outcome() {
                Outcome::Data => {
                    each(&message);
                    if !dump {
                        return Ok(());
                    }
                }
                Outcome::Done | Outcome::Acknowledged => return Ok(()),
                Outcome::Failed(errno) => return Err(Error::from_errno(errno)),
                Outcome::Ignored => {}
            }
        }
    }
}

impl Collector for NodeNet {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        match self.source {
            Source::Netlink { .. } => self.refresh_from_netlink(world.now_ns, &mut world.reached),
            Source::Files { .. } => self.refresh_from_files(world),
        }
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        for interface in &self.interfaces {
            for (desc, value) in [&RECEIVED_BYTES, &SENT_BYTES, &RECEIVED_PACKETS, &SENT_PACKETS]
                .iter()
                .zip(interface.counters)
            {
                out.add(desc, &[&interface.name], value as f64);
            }
            if let Some(up) = interface.up {
                out.add(&UP, &[&interface.name], f64::from(u8::from(up)));
            }
            for address in &interface.addresses {
                out.add(&IP, &[&interface.name, address], 1.0);
            }
        }
    }
}
