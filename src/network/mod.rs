//! Network namespaces of containers, and what the kernel knows in each: addresses, TCP sockets, translated connections.
//!
//! A namespace is named by the inode number of `/proc/PID/ns/net`, and entered through the process last seen in it. Nothing
//! of it is held open between calls but in the host's: an open socket would keep a dead container's interfaces alive. A process
//! that is gone is no error; its namespace just has nothing to say until another process in it is noted.

pub mod modules;
mod sockets;
mod translations;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::{Context, Error, Reason, Result};
use crate::host::Host;
use crate::limits;
use crate::netlink::message::{self, Message, Outcome};
use crate::netlink::{address, link};
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::icmp::{EchoSocket, Version};
use crate::sys::namespace::NetworkNamespace;
use crate::sys::netlink::NetlinkSocket;

use modules::{BuiltIn, Conntrack};

pub use sockets::Socket;
pub use translations::Answer;

/// Room for a netlink datagram: the kernel fills at most 32 KiB of it.
const DATAGRAM: usize = 32 * 1024;

/// Addresses of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Addresses {
    usable: Vec<IpAddr>,
    loopback: Vec<IpAddr>,
}

/// A namespace some process was seen in.
#[derive(Debug, Default)]
struct Known {
    /// The process last seen in it; none of the host's, which is entered through process 1, and none once it is gone.
    pid: Option<u32>,
    /// When it was asked about last, by the count of such times.
    used: u64,
    addresses: Option<Addresses>,
    /// When they were read, successfully or not.
    read_ns: Option<MonotonicNs>,
}

/// The network namespaces of a running host.
#[derive(Debug)]
pub struct Namespaces {
    /// Where this process is.
    home: NetworkNamespace,
    /// Inode number of the host's namespace, that of process 1.
    host: u64,
    known: HashMap<u64, Known>,
    uses: u64,
    sequence: u32,
    built_in: BuiltIn,
    conntrack: Option<(MonotonicNs, Conntrack)>,
    /// To ask conntrack in the host's namespace.
    host_conntrack: Option<NetlinkSocket>,
}

impl Namespaces {
    /// Knows of the host's namespace and no other. Where that of process 1 may not be looked at, because it has rights that this
    /// process lacks, this process is taken to be in it.
    ///
    /// # Errors
    /// `NotFound` when the host is a copy of files.
    pub fn new(host: &Host) -> Result<Namespaces> {
        let home = NetworkNamespace::own().context("the own network namespace")?;
        let of_host = match NetworkNamespace::open(&host.proc("1/ns/net")) {
            Ok(namespace) => namespace.inode(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => home.inode(),
            Err(error) => return Err(error).context("/proc/1/ns/net"),
        };
        Ok(Namespaces {
            home,
            host: of_host,
            known: HashMap::new(),
            uses: 0,
            sequence: 0,
            built_in: BuiltIn::read(host),
            conntrack: None,
            host_conntrack: None,
        })
    }

    /// Inode number of the host's namespace.
    pub fn host(&self) -> u64 {
        self.host
    }

    /// Namespaces known, the host's among them once it was asked about.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Notes that the process `pid` (as the host numbers it) is in the namespace `inode`, or was a moment ago. The one that was
    /// noted before stays while it is there: the new one may be gone by the time it is needed. Beyond
    /// [`limits::NETWORK_NAMESPACES`] the namespace not noted or asked about for longest is forgotten.
    pub fn note(&mut self, host: &Host, inode: u64, pid: u32) {
        self.uses += 1;
        let used = self.uses;
        if !self.known.contains_key(&inode) && self.known.len() >= limits::NETWORK_NAMESPACES {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used).map(|(&inode, _)| inode);
            oldest.map(|oldest| self.known.remove(&oldest));
        }
        let known = self.known.entry(inode).or_default();
        known.used = used;
        let is_there = |pid: u32| {
            let file = std::fs::metadata(host.proc(&format!("{pid}/ns/net")));
            file.is_ok_and(|file| file.ino() == inode)
        };
        if known.pid == Some(pid) || known.pid.is_some_and(is_there) {
            return;
        }
        // The kernel gives a number to the next namespace as soon as it is free, so this may be another one.
        *known = Known { pid: Some(pid), used, ..Known::default() };
    }

    /// Notes which namespace the process `pid` (as the host numbers it) is in; gives its inode number, or `None` when the process
    /// is gone.
    ///
    /// # Errors
    /// `NoPermission` without CAP_SYS_PTRACE, or under a security module.
    pub fn note_process(&mut self, host: &Host, pid: u32) -> Result<Option<u64>> {
        match NetworkNamespace::open(&host.proc(&format!("{pid}/ns/net"))) {
            Ok(namespace) => {
                self.note(host, namespace.inode(), pid);
                Ok(Some(namespace.inode()))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("/proc/PID/ns/net"),
        }
    }

    /// Opens a socket for echo requests with the identifier `id` in the namespace `inode`; `None` when no process is known to be
    /// in it any more. The socket keeps the namespace and its interfaces alive, so it is for a short while.
    ///
    /// # Errors
    /// `NoPermission` without CAP_SYS_ADMIN or CAP_NET_RAW; those of sockets.
    pub fn open_echo(
        &mut self,
        host: &Host,
        inode: u64,
        version: Version,
        id: u16,
    ) -> Result<Option<EchoSocket>> {
        let Some(namespace) = self.enter(host, inode)? else { return Ok(None) };
        let socket = EchoSocket::open_in(&namespace, &self.home, version, id);
        socket.map(Some).context("ICMP socket in a network namespace")
    }

    /// Forgets a namespace. Those that are not noted or asked about any more go by themselves, once others need the room.
    pub fn forget(&mut self, inode: u64) {
        self.known.remove(&inode);
    }

    /// The addresses others can reach in the namespace `inode`: those of all its interfaces that are switched on, but for
    /// loopback, link-local and multicast ones. `None` when it is not known or cannot be entered; of one whose process is gone
    /// the last ones known. They are up to [`limits::NAMESPACE_ADDRESSES_AGE`] old.
    pub fn addresses(&mut self, host: &Host, inode: u64) -> Option<&[IpAddr]> {
        self.fresh(host, inode).map(|addresses| addresses.usable.as_slice())
    }

    /// Like [`Namespaces::addresses`] those of 127.0.0.0/8 and ::1.
    pub fn loopback_addresses(&mut self, host: &Host, inode: u64) -> Option<&[IpAddr]> {
        self.fresh(host, inode).map(|addresses| addresses.loopback.as_slice())
    }

    /// Whether conntrack can be asked, and has anything to say; up to [`limits::CONNTRACK_STATE_AGE`] old.
    pub fn conntrack(&mut self, host: &Host) -> Conntrack {
        let now_ns = clock::monotonic_ns();
        let max_age_ns = limits::CONNTRACK_STATE_AGE.as_nanos() as u64;
        match self.conntrack {
            Some((read_ns, state)) if now_ns.saturating_sub(read_ns) <= max_age_ns => state,
            _ => {
                let state = self.built_in.conntrack(host);
                self.conntrack = Some((now_ns, state));
                state
            }
        }
    }

    fn fresh(&mut self, host: &Host, inode: u64) -> Option<&Addresses> {
        if inode == self.host {
            self.known.entry(inode).or_default();
        }
        self.uses += 1;
        let (now_ns, used) = (clock::monotonic_ns(), self.uses);
        let max_age_ns = limits::NAMESPACE_ADDRESSES_AGE.as_nanos() as u64;
        let known = self.known.get_mut(&inode)?;
        known.used = used;
        if known.read_ns.is_none_or(|read_ns| now_ns.saturating_sub(read_ns) > max_age_ns) {
            known.read_ns = Some(now_ns);
            let read = self.read_addresses(host, inode);
            let known = self.known.get_mut(&inode)?;
            if let Ok(Some(addresses)) = read {
                known.addresses = Some(addresses);
            }
        }
        self.known.get(&inode)?.addresses.as_ref()
    }

    /// The files of a process in the namespace; `None` when none is known.
    fn process(&self, host: &Host, inode: u64) -> Option<PathBuf> {
        if inode == self.home.inode() {
            return Some(Host::own(""));
        }
        if inode == self.host {
            return Some(host.proc("1"));
        }
        let pid = self.known.get(&inode)?.pid?;
        Some(host.proc(&pid.to_string()))
    }

    /// Opens the namespace; `None` when no process is known to be in it any more.
    fn enter(&mut self, host: &Host, inode: u64) -> Result<Option<NetworkNamespace>> {
        let Some(process) = self.process(host, inode) else { return Ok(None) };
        let opened = match NetworkNamespace::open(&process.join("ns/net")) {
            // The number is another process's by now, or the process has moved.
            Ok(namespace) if namespace.inode() != inode => None,
            Ok(namespace) => Some(namespace),
            Err(error) if is_gone(&error) => None,
            Err(error) => return Err(error).context("/proc/PID/ns/net"),
        };
        if let Some(known) = self.known.get_mut(&inode).filter(|_| opened.is_none()) {
            known.pid = None;
        }
        Ok(opened)
    }

    /// Opens a socket in the namespace; `None` when it cannot be found any more.
    fn socket(&mut self, host: &Host, inode: u64, protocol: i32) -> Result<Option<NetlinkSocket>> {
        let Some(namespace) = self.enter(host, inode)? else { return Ok(None) };
        let socket = NetlinkSocket::open_in(&namespace, &self.home, protocol);
        socket.map(Some).context("netlink socket in a network namespace")
    }

    /// Does something in the host's namespace, such as opening a socket, which stays there.
    ///
    /// # Errors
    /// Those of entering it; `action` was not run then.
    pub fn in_host<T>(&mut self, host: &Host, action: impl FnOnce() -> T) -> Result<T> {
        let namespace = self.enter(host, self.host)?;
        let namespace =
            namespace.ok_or_else(|| Error::new(Reason::NotFound, "process 1 is elsewhere now"))?;
        Ok(namespace.run(&self.home, action)?)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn read_addresses(&mut self, host: &Host, inode: u64) -> Result<Option<Addresses>> {
        let Some(socket) = self.socket(host, inode, libc::NETLINK_ROUTE)? else { return Ok(None) };
        let mut request = Vec::new();
        let mut enabled = HashSet::new();
        let sequence = self.next_sequence();
        link::request_all(&mut request, sequence);
        dump(&socket, sequence, &request, |message| {
            let link = link::parse(message);
            enabled.extend(link.filter(link::Link::is_enabled).map(|link| link.index));
        })
        .context("RTM_GETLINK")?;
        let mut found = Addresses::default();
        let sequence = self.next_sequence();
        address::request_all(&mut request, sequence);
        dump(&socket, sequence, &request, |message| {
            let Some(address) = address::parse(message) else { return };
            if address.is_link_local() || address.is_multicast() || !enabled.contains(&address.link_index) {
                return;
            }
            let of_its_kind = match address.address.is_loopback() {
                true => &mut found.loopback,
                false => &mut found.usable,
            };
            if of_its_kind.len() < limits::NAMESPACE_ADDRESSES && !of_its_kind.contains(&address.address) {
                of_its_kind.push(address.address);
            }
        })
        .context("RTM_GETADDR")?;
        Ok(Some(found))
    }
}

/// Whether the error says that the process is gone.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Sends a request for a dump and hands every message of its reply to `each`, at most [`limits::NAMESPACE_ENTRIES`]; the
/// socket is of no use after that.
fn dump(
    socket: &NetlinkSocket,
    sequence: u32,
    request: &[u8],
    mut each: impl FnMut(&Message<'_>),
) -> Result<()> {
    socket.send(request)?;
    let mut buffer = vec![0; DATAGRAM];
    let mut entries = 0;
    while entries < limits::NAMESPACE_ENTRIES {
        let datagram = socket.receive(&mut buffer)?;
        for message in message::parse(datagram).filter(|message| message.sequence == sequence) {
            match message.outcome() {
                Outcome::Data => {
                    entries += 1;
                    each(&message);
                }
                Outcome::Done | Outcome::Acknowledged => return Ok(()),
                // Of a family that the kernel lacks (IPv6 switched off) there is nothing to tell.
                Outcome::Failed(libc::ENOENT | libc::EAFNOSUPPORT) => return Ok(()),
                Outcome::Failed(errno) => return Err(Error::from_errno(errno)),
                Outcome::Ignored => {}
            }
        }
        if datagram.is_empty() {
            return Err(Error::new(Reason::Failed, "an empty answer"));
        }
    }
    Ok(())
}
