//! The two sockets: one on which the kernel sends a record of each exit, one for questions.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::processes::Delays;
use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::limits;
use crate::netlink::generic;
use crate::netlink::message::{self, Message, Outcome};
use crate::netlink::taskstats::{self, Exit};
use crate::sys::namespace::NetworkNamespace;
use crate::sys::netlink::NetlinkSocket;

/// Room for a datagram: the record of an exit has at most two structures of 688 bytes, and there are versions to come.
const DATAGRAM: usize = 16 * 1024;

/// Opens a socket in the initial network namespace, the only one in which the kernel has the family.
fn open_socket(host: &Host) -> Result<NetlinkSocket> {
    let home = NetworkNamespace::own().context("the own network namespace")?;
    let socket = match NetworkNamespace::open(&host.proc("1/ns/net")) {
        Ok(initial) => NetlinkSocket::open_in(&initial, &home, libc::NETLINK_GENERIC),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            NetlinkSocket::open(libc::NETLINK_GENERIC)
        }
        Err(error) => Err(error),
    };
    socket.context("generic netlink")
}

/// Questions about processes.
pub struct Queries {
    socket: NetlinkSocket,
    family: u16,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Queries {
    /// Opens the socket; gives with it the version of the kernel's records.
    ///
    /// # Errors
    /// `NotSupported` when the kernel has no taskstats, `NoPermission` without CAP_NET_ADMIN.
    pub fn open(host: &Host) -> Result<(Queries, u16)> {
        let socket = open_socket(host)?;
        let answer = vec![0; DATAGRAM];
        let mut queries = Queries { socket, family: 0, sequence: 0, request: Vec::new(), answer };
        generic::request_family(&mut queries.request, 0, taskstats::FAMILY);
        queries.family = queries
            .exchange(|message, _| Some(generic::parse(message)?.id))
            .map_err(|error| match error.reason() {
                Reason::NotFound => error.with_reason(Reason::NotSupported),
                _ => error,
            })
            .context("family TASKSTATS")?;
        taskstats::request_tgid(&mut queries.request, queries.family, 0, std::process::id());
        let version = queries
            .exchange(|message, family| taskstats::parse(message, family)?.version())
            .context("taskstats: query")?;
        Ok((queries, version))
    }

    /// Sends the request and takes what `pick` finds in the answer.
    fn exchange<T>(&mut self, pick: impl Fn(&Message<'_>, u16) -> Option<T>) -> Result<T> {
        self.socket.send(&self.request)?;
        let datagram = self.socket.receive(&mut self.answer)?;
        for message in message::parse(datagram) {
            if let Outcome::Failed(errno) = message.outcome() {
                return Err(Error::from_errno(errno));
            }
            if let Some(found) = pick(&message, self.family) {
                return Ok(found);
            }
        }
        Err(Error::new(Reason::Failed, "an answer of an unknown kind"))
    }

    /// Asks about processes and hands each one's delays to `each`; one that is gone is left out.
    ///
    /// # Errors
    /// `NoPermission` when CAP_NET_ADMIN was given up; what the socket says.
    pub fn ask(&mut self, pids: &[u32], mut each: impl FnMut(u32, &Delays)) -> Result<()> {
        for batch in pids.chunks(limits::DELAY_QUERY_BATCH) {
            let first = self.sequence;
            self.request.clear();
            for &pid in batch {
                taskstats::append_tgid(&mut self.request, self.family, self.sequence, pid);
                self.sequence = self.sequence.wrapping_add(1);
            }
            // The kernel answers all of them before send returns.
            self.socket.send(&self.request)?;
            let mut left = batch.len();
            while left > 0 {
                let datagram = match self.socket.receive_now(&mut self.answer) {
                    Ok(datagram) => datagram,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("taskstats: answers"),
                };
                for message in message::parse(datagram) {
                    let at = message.sequence.wrapping_sub(first) as usize;
                    let Some(&pid) = batch.get(at) else { continue };
                    left = left.saturating_sub(1);
                    match message.outcome() {
                        Outcome::Failed(libc::ESRCH) => {}
                        Outcome::Failed(errno) => {
                            return Err(Error::from_errno(errno)).context("taskstats: query");
                        }
                        _ => {
                            if let Some(stats) = taskstats::parse(&message, self.family) {
                                each(pid, &stats.delays_ns());
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Records of exits.
pub struct ExitSocket {
    socket: NetlinkSocket,
    family: u16,
    datagram: Vec<u8>,
    /// What the kernel had dropped when it was asked last.
    dropped: u32,
}

impl ExitSocket {
    /// Opens the socket and has the kernel send a record of each exit to it, keeping up to about `buffer_bytes`.
    ///
    /// # Errors
    /// `NoPermission` without CAP_NET_ADMIN, `NotSupported` outside the initial user and PID namespaces.
    pub fn open(host: &Host, queries: &Queries, buffer_bytes: u32) -> Result<ExitSocket> {
        let socket = open_socket(host)?;
        socket.set_receive_buffer(buffer_bytes).context("taskstats: receive buffer")?;
        let possible = read_bounded(&host.sys("devices/system/cpu/possible"), limits::KERNEL_FILE_BYTES)
            .context("/sys/devices/system/cpu/possible")?;
        let possible = String::from_utf8_lossy(&possible);
        let mut request = Vec::new();
        taskstats::request_exits(&mut request, queries.family, 1, possible.trim());
        socket.send(&request).context("taskstats: exits")?;
        let mut exits =
            ExitSocket { socket, family: queries.family, datagram: vec![0; DATAGRAM], dropped: 0 };
        exits.await_acknowledgement().context("taskstats: exits")?;
        exits.newly_dropped();
        Ok(exits)
    }

    /// Records of exits may come before it, and are left out.
    fn await_acknowledgement(&mut self) -> Result<()> {
        loop {
            let datagram = match self.socket.receive(&mut self.datagram) {
                Ok(datagram) => datagram,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in message::parse(datagram) {
                match message.outcome() {
                    Outcome::Acknowledged => return Ok(()),
                    Outcome::Failed(errno) => return Err(Error::from_errno(errno)),
                    _ => {}
                }
            }
        }
    }

    /// Hands up to `max` records to `each`. Gives how many datagrams were read, and how many records the kernel has dropped since
    /// the last call.
    ///
    /// # Errors
    /// What the socket says but for drops.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(&Exit<'_>)) -> Result<(usize, u64)> {
        let mut lost = 0;
        for count in 0..max {
            match self.socket.receive_now(&mut self.datagram) {
                Ok(datagram) => {
                    for message in message::parse(datagram) {
                        if let Some(exit) = taskstats::parse_exit(&message, self.family) {
                            each(&exit);
                        }
                    }
                }
                // ENOBUFS comes once, at the first record that found no room; how many more did is known when all are read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((count, lost + self.newly_dropped().unwrap_or(0)));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost += self.newly_dropped().unwrap_or(1);
                }
                Err(error) => return Err(error).context("taskstats: exits"),
            }
        }
        Ok((max, lost))
    }

    /// `None` where the kernel does not tell.
    fn newly_dropped(&mut self) -> Option<u64> {
        let dropped = self.socket.dropped().ok()?;
        let new = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        Some(u64::from(new))
    }
}

impl AsRawFd for ExitSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
