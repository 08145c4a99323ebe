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
use crate::sys::netlink::{Feed, NetlinkSocket};

/// Room for a datagram: the record of an exit has at most two structures of 688 bytes, and there are versions to come.
const DATAGRAM: usize = 16 * 1024;

/// Opens a socket in the initial network namespace, the only one in which the kernel has the family.
fn open_socket(host: &Host) -> Result<NetlinkSocket> {
    NetlinkSocket::open_initial(&host.proc("1/ns/net"), libc::NETLINK_GENERIC).context("generic netlink")
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
    feed: Feed,
    family: u16,
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
        await_acknowledgement(&socket).context("taskstats: exits")?;
        Ok(ExitSocket { feed: Feed::new(socket, DATAGRAM), family: queries.family })
    }

    /// Hands up to `max` records to `each`. Gives how many datagrams were read, and how many records the kernel has dropped since
    /// the last call.
    ///
    /// # Errors
    /// What the socket says but for drops.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(&Exit<'_>)) -> Result<(usize, u64)> {
        let family = self.family;
        let taken = self.feed.take(max, |datagram| {
            message::parse(datagram)
                .filter_map(|message| taskstats::parse_exit(&message, family))
                .for_each(|exit| each(&exit));
            true
        });
        taken.context("taskstats: exits")
    }
}

/// Records of exits may come before it, and are left out.
fn await_acknowledgement(socket: &NetlinkSocket) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let datagram = match socket.receive(&mut buffer) {
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

impl AsRawFd for ExitSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.feed.socket.as_raw_fd()
    }
}
