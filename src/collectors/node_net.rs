//! Network interfaces of the host, from rtnetlink (rtnetlink(7)) in its network namespace, else from /proc/1/net/dev.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

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
    Netlink { socket: Routes, links: usize, dumped_ns: u64 },
    Files { net_dev: KernelFile },
}

/// What rtnetlink is asked through.
struct Routes {
    /// `None` when the answer to come is not wanted any more: the next question needs another one.
    socket: Option<NetlinkSocket>,
    sequence: u32,
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
    let source = match open_socket(&world.host) {
        Ok(socket) => {
            let socket = Routes { socket: Some(socket), sequence: 0 };
            Source::Netlink { socket, links: 0, dumped_ns: 0 }
        }
        Err(_) => Source::Files { net_dev: KernelFile::new(world.host.proc("1/net/dev")) },
    };
    let mut collector = NodeNet { source, interfaces: Vec::new() };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

/// A socket in the host's network namespace.
fn open_socket(host: &Host) -> io::Result<NetlinkSocket> {
    if !host.is_live() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let socket = || NetlinkSocket::open(libc::NETLINK_ROUTE);
    process::inside_namespace(&host.proc("1/ns/net"), &Host::own("ns/net"), socket)?
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

    fn refresh_from_netlink(&mut self, host: &Host, now_ns: u64, reached: &mut Reached) -> Result<()> {
        let Source::Netlink { socket, links, dumped_ns } = &mut self.source else {
            return Ok(());
        };
        let minute_ns = limits::LIMITS_INTERVAL.as_nanos() as u64;
        if *dumped_ns != 0 && *links > DUMP_LINKS && now_ns.saturating_sub(*dumped_ns) < minute_ns {
            for interface in &mut self.interfaces {
                let index = interface.index;
                let request = |request: &mut Vec<u8>, sequence| link::request_one(request, sequence, index);
                let outcome = socket.exchange(host, request, |message| {
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
        let mut found = Found::default();
        *links = 0;
        let told_all = socket
            .exchange(host, link::request_all, |message| {
                let Some(link) = link::parse(message) else { return };
                *links += 1;
                if is_tracked_interface(link.name) {
                    if found.interfaces.len() >= limits::INTERFACES {
                        return reached.count(Limit::Interfaces);
                    }
                    let interface = found.interfaces.entry(link.index).or_default();
                    interface.name = link.name.to_owned();
                    interface.index = link.index;
                    interface.take(&link);
                }
            })
            .context("RTM_GETLINK")?;
        found.is_cut = !told_all;
        let told_all = socket
            .exchange(host, address::request_all, |message| {
                if let Some(address) = address::parse(message)
                    && !address.is_link_local()
                    && !address.is_multicast()
                {
                    found.add(address.link_index, address.address);
                }
            })
            .context("RTM_GETADDR")?;
        if found.is_cut || !told_all {
            reached.count(Limit::Interfaces);
        }
        *dumped_ns = now_ns;
        self.interfaces = found.interfaces.into_values().collect();
        self.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }
}

/// What is found in one refresh.
#[derive(Default)]
struct Found {
    interfaces: HashMap<u32, Interface>,
    /// Of all of them.
    addresses: usize,
    /// Something was left out.
    is_cut: bool,
}

impl Found {
    /// Takes an address of the interface, if that is reported and there is room.
    fn add(&mut self, index: u32, address: IpAddr) {
        let Some(interface) = self.interfaces.get_mut(&index) else { return };
        if interface.addresses.len() >= limits::ADDRESSES_PER_INTERFACE
            || self.addresses >= limits::NAMESPACE_ADDRESSES
        {
            self.is_cut = true;
            return;
        }
        interface.addresses.push(address.to_string());
        self.addresses += 1;
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

impl Routes {
    /// Sends the request that `write` makes for a sequence number and hands every message of its reply to `each`; false when it had
    /// more than [`limits::NAMESPACE_ENTRIES`], and the rest was left.
    fn exchange(
        &mut self,
        host: &Host,
        write: impl FnOnce(&mut Vec<u8>, u32),
        mut each: impl FnMut(&message::Message<'_>),
    ) -> Result<bool> {
        let socket = match self.socket.take().map_or_else(|| open_socket(host), Ok) {
            Ok(socket) => self.socket.insert(socket),
            Err(error) => return Err(error).context("netlink socket"),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        write(&mut request, self.sequence);
        socket.send(&request)?;
        let dump = request.get(6..8).is_some_and(|flags| {
            let dump = libc::NLM_F_DUMP as u16;
            u16::from_ne_bytes([flags[0], flags[1]]) & dump == dump
        });
        let mut buffer = vec![0; DATAGRAM];
        let mut entries = 0;
        while entries < limits::NAMESPACE_ENTRIES {
            let datagram = socket.receive(&mut buffer)?;
            if datagram.is_empty() {
                return Err(Error::new(Reason::Failed, "an empty answer"));
            }
            for message in message::parse(datagram) {
                entries += 1;
                // The end of an earlier exchange that broke off.
                if message.sequence != self.sequence {
                    continue;
                }
                match message.outcome() {
                    Outcome::Data => {
                        each(&message);
                        if !dump {
                            return Ok(true);
                        }
                    }
                    Outcome::Done | Outcome::Acknowledged => return Ok(true),
                    Outcome::Failed(errno) => return Err(Error::from_errno(errno)),
                    Outcome::Ignored => {}
                }
            }
        }
        // Until the kernel has said all of it, it answers nothing else here.
        self.socket = None;
        Ok(false)
    }
}

impl Collector for NodeNet {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        match self.source {
            Source::Netlink { .. } => {
                self.refresh_from_netlink(&world.host, world.now_ns, &mut world.reached)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_interface_leave_room_for_those_of_others() {
        let mut found = Found::default();
        for index in 1..=6 {
            found.interfaces.insert(index, Interface::default());
        }
        let address = |number: usize| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        for number in 0..limits::ADDRESSES_PER_INTERFACE {
            found.add(1, address(number));
        }
        assert!(!found.is_cut, "all of them have room");
        // One that is not reported.
        found.add(7, address(0));
        assert!(!found.is_cut && found.addresses == limits::ADDRESSES_PER_INTERFACE);
        for number in 0..60_000 {
            found.add(1, address(number));
        }
        assert!(found.is_cut);
        let kept = |found: &Found, index: u32| found.interfaces[&index].addresses.len();
        assert_eq!((kept(&found, 1), found.addresses), (limits::ADDRESSES_PER_INTERFACE, kept(&found, 1)));
        // All together have a bound as well.
        for index in 2..=6 {
            for number in 0..60_000 {
                found.add(index, address(number));
            }
        }
        assert_eq!(found.addresses, limits::NAMESPACE_ADDRESSES);
        assert_eq!((1..=6).map(|index| kept(&found, index)).sum::<usize>(), limits::NAMESPACE_ADDRESSES);
    }
}
