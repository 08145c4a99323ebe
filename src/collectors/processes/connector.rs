//! Without BPF: the kernel tells of each fork, exec and exit of the host, and what is not told with them is looked up in /proc.

use std::os::fd::{AsRawFd, RawFd};

use super::files;
use super::table::{Place, Sight, Table};
use crate::containers::{InstanceId, owners};
use crate::error::{Context, Error, Reason, Result};
use crate::host::read_bounded;
use crate::limits;
use crate::netlink::message;
use crate::netlink::proc_events::{self, Event, Told};
use crate::sys::capabilities::{self, Capability};
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::netlink::{Feed, NetlinkSocket};
use crate::world::World;

/// Room for a datagram; an event takes 76 bytes.
const DATAGRAM: usize = 4096;

/// The events, and who lives as they say.
pub struct Connector {
    events: EventSocket,
    table: Table,
    /// When events are read again, while they gather.
    read_ns: Option<MonotonicNs>,
    /// When all processes are to be listed, because events were lost.
    resync_ns: Option<MonotonicNs>,
    /// When they were last.
    listed_ns: MonotonicNs,
    dropped: u64,
}

impl Connector {
    /// Has the kernel tell of processes.
    ///
    /// # Errors
    /// `NotSupported` when it cannot (CONFIG_PROC_EVENTS), or not in this PID or user namespace; `NoPermission` without
    /// CAP_NET_ADMIN.
    pub fn open(world: &World) -> Result<Connector> {
        let events = EventSocket::open(world, limits::PROCESS_EVENTS_BUFFER)?;
        let table = Table::default();
        Ok(Connector { events, table, read_ns: None, resync_ns: None, listed_ns: world.now_ns, dropped: 0 })
    }

    /// Reads what has come, and decides when to read again.
    ///
    /// # Errors
    /// What the socket says.
    pub fn read(&mut self, world: &World) -> Result<()> {
        let mut eyes = Eyes::new(world);
        let table = &mut self.table;
        let (count, lost) = self.events.take(limits::PROCESS_EVENTS_PER_TURN, |told| {
            table.apply(told, &mut eyes);
            eyes.looks < limits::PROCESS_LOOKS_PER_TURN
        })?;
        let now_ns = clock::monotonic_ns();
        if lost > 0 {
            self.dropped += lost;
            let earliest_ns = self.listed_ns + limits::PROCESS_RESYNC_INTERVAL.as_nanos() as u64;
            self.resync_ns.get_or_insert(now_ns.max(earliest_ns));
        }
        let is_behind =
            count == limits::PROCESS_EVENTS_PER_TURN || eyes.looks >= limits::PROCESS_LOOKS_PER_TURN;
        self.read_ns = match count {
            _ if is_behind => Some(now_ns),
            0 => None,
            _ => Some(now_ns + limits::PROCESS_EVENTS_PAUSE.as_nanos() as u64),
        };
        Ok(())
    }

    /// Reads, and compares with the lists when that is due.
    ///
    /// # Errors
    /// What the socket says.
    pub fn refresh(&mut self, world: &World) -> Result<()> {
        self.read(world)?;
        let now_ns = clock::monotonic_ns();
        let is_lost = self.resync_ns.is_some_and(|at| at <= now_ns);
        let interval_ns = limits::PROCESS_LISTS_INTERVAL.as_nanos() as u64;
        if is_lost || self.listed_ns + interval_ns <= now_ns {
            let ids: Vec<InstanceId> = world.containers.living().map(|(id, ..)| id).collect();
            let is_complete = self.table.compare(&ids, is_lost, &mut Eyes::new(world));
            self.listed_ns = now_ns;
            if is_lost {
                let again_ns = now_ns + limits::PROCESS_RESYNC_INTERVAL.as_nanos() as u64;
                self.resync_ns = (!is_complete).then_some(again_ns);
            }
        }
        Ok(())
    }

    /// A container is known from now on; who lives in it was nobody's until now.
    pub fn begin_instance(&mut self, world: &World, id: InstanceId) {
        self.table.list(id, &mut Eyes::new(world));
    }

    /// Forgets an instance.
    pub fn end_instance(&mut self, id: InstanceId) {
        self.table.end_instance(id);
    }

    /// Who lives, and what has happened.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Events the kernel dropped, and processes of containers there was no room for.
    pub fn lost(&self) -> u64 {
        self.dropped + self.table.refused
    }

    /// The descriptor to wait for, unless events gather.
    pub fn fd(&self) -> Option<RawFd> {
        self.read_ns.is_none().then(|| self.events.0.socket.as_raw_fd())
    }

    /// When events are to be read again.
    pub fn read_ns(&self) -> Option<MonotonicNs> {
        self.read_ns
    }

    /// When it is to be refreshed because events were lost.
    pub fn resync_ns(&self) -> Option<MonotonicNs> {
        self.resync_ns
    }
}

/// What /proc shows now, and how often it was asked.
struct Eyes<'a> {
    world: &'a World,
    ns_per_tick: f64,
    looks: usize,
}

impl Eyes<'_> {
    fn new(world: &World) -> Eyes<'_> {
        Eyes { world, ns_per_tick: 1e9 / clock::ticks_per_second(), looks: 0 }
    }
}

impl Sight for Eyes<'_> {
    fn place(&mut self, pid: u32) -> Place {
        self.looks += 1;
        match owners::of_process(self.world, pid) {
            Ok(Some(owner)) => Place::In(Some(owner)),
            // cgroup v1 shows one that has ended in the root.
            Ok(None) => match files::is_alive(&self.world.host, pid) {
                Ok(true) => Place::In(None),
                Ok(false) => Place::Gone,
                Err(_) => Place::Unknown,
            },
            Err(_) => Place::Unknown,
        }
    }

    fn start_ns(&mut self, pid: u32) -> Option<MonotonicNs> {
        let stamp = files::stamp(&self.world.host, pid, self.ns_per_tick);
        stamp.ok().flatten().map(|stamp| stamp.start_ns)
    }

    fn members(&mut self, id: InstanceId) -> Option<Vec<u32>> {
        match self.world.containers.instance(id) {
            Some(instance) => owners::processes(self.world, instance).ok(),
            None => Some(Vec::new()),
        }
    }

    fn now_ns(&self) -> MonotonicNs {
        clock::monotonic_ns()
    }
}

/// The socket on which the kernel tells.
struct EventSocket(Feed);

impl EventSocket {
    fn open(world: &World, buffer_bytes: u32) -> Result<EventSocket> {
        // Linux 6.6 tells everybody, but nobody else may have a buffer of this size.
        if capabilities::effective_capabilities() & Capability::NetAdmin.bit() == 0 {
            return Err(Error::new(Reason::NoPermission, "process events: needs CAP_NET_ADMIN"));
        }
        // Looked at first, since opening a socket of a protocol that is not there may load a module.
        let connectors = world.host.proc("1/net/connector");
        let connectors = read_bounded(&connectors, limits::KERNEL_FILE_BYTES)
            .context("process events: /proc/net/connector")?;
        if memchr::memmem::find(&connectors, b"cn_proc").is_none() {
            return Err(Error::new(Reason::NotSupported, "process events: not in this kernel"));
        }
        let socket = NetlinkSocket::open_initial(&world.host.proc("1/ns/net"), libc::NETLINK_CONNECTOR)
            .context("process events")?;
        socket.set_receive_buffer(buffer_bytes).context("process events: receive buffer")?;
        socket.join(1 << (proc_events::GROUP - 1)).context("process events")?;
        let mut request = Vec::new();
        let number = std::process::id();
        proc_events::request_events(&mut request, number);
        socket.send(&request).context("process events")?;
        // From here on the kernel is told when it ends, however that is.
        let mut events = EventSocket(Feed::new(socket, DATAGRAM));
        events.take_answer(number + 1).context("process events")?;
        Ok(events)
    }

    /// The answer was made before the request's send returned. Events may come before it, and are left out: who they are about is
    /// found in the lists.
    fn take_answer(&mut self, wanted: u32) -> Result<()> {
        let mut answer = None;
        self.take(limits::PROCESS_EVENTS_PER_TURN, |told| {
            match told.event {
                Event::Answer { number, errno } if number == wanted => answer = Some(errno),
                _ => {}
            }
            answer.is_none()
        })?;
        match answer {
            Some(0) => Ok(()),
            Some(errno) => Err(Error::from_errno(errno)),
            // It says nothing at all in other namespaces than the initial ones.
            None => {
                Err(Error::new(Reason::NotSupported, "no answer: not the initial PID and user namespaces"))
            }
        }
    }

    /// Hands up to `max` events to `each`, until it says that it has had enough. Gives how many datagrams were read, and how many
    /// the kernel has dropped since the last call.
    fn take(&mut self, max: usize, mut each: impl FnMut(Told) -> bool) -> Result<(usize, u64)> {
        let taken = self.0.take(max, |datagram| {
            let mut wants_more = true;
            for told in message::parse(datagram).filter_map(|message| proc_events::parse(&message)) {
                wants_more &= each(told);
            }
            wants_more
        });
        taken.context("process events")
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
        // Before Linux 6.6 the kernel goes on making events for a listener that only closed its socket.
        let mut request = Vec::new();
        proc_events::request_silence(&mut request, 0);
        let _ = self.0.socket.send(&request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::test::Inhabited;

    #[test]
    fn what_cannot_be_seen_is_neither_here_nor_gone() {
        let host = Inhabited::new();
        let mut eyes = Eyes::new(&host.world);
        let here = Place::In(Some(host.id));
        assert_eq!([10, 11, 12].map(|pid| eyes.place(pid)), [here, here, Place::Gone]);
        host.hide("proc/10/cgroup");
        assert_eq!(eyes.place(10), Place::Unknown);
        host.show("proc/10/cgroup");
        // In no container, or ended in the root of cgroup v1.
        host.bed.write("proc/10/cgroup", "0::/\n");
        assert_eq!(eyes.place(10), Place::In(None));
        host.hide("proc/10/stat");
        assert_eq!((eyes.place(10), eyes.start_ns(10)), (Place::Unknown, None));
        host.hide(&Inhabited::list());
        assert_eq!(eyes.members(host.id), None);
        host.show(&Inhabited::list());
        assert_eq!(eyes.members(host.id), Some(vec![10, 11]));
    }
}
