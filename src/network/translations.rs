//! Where connections go in truth: NAT as connection tracking (nf_conntrack) has it, asked for by batches.

use std::io;
use std::net::SocketAddr;

use super::Namespaces;
use super::modules::Conntrack;
use crate::error::{Context, Error, Reason, Result};
use crate::host::Host;
use crate::limits;
use crate::netlink::conntrack::{self, Tuple};
use crate::netlink::message::{self, Outcome};
use crate::sys::netlink::NetlinkSocket;

/// Room for an answer: the kernel makes each in a buffer of at most a page or 8 KiB.
const DATAGRAM: usize = 8 * 1024;

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To this end instead of the one it was made to.
    Translated(SocketAddr),
    /// To the one it was made to.
    Same,
    /// It is not tracked: either it has ended, or nothing in its way looks at connections, so that none is translated; or the
    /// kernel cannot be asked ([`Conntrack::is_absent`]).
    Unknown,
}

impl Namespaces {
    /// Asks where connections made in the namespace `inode` go; each tuple's source is who connected. Answers are in the order
    /// of `tuples`.
    ///
    /// The host's namespace is asked first, where services of Kubernetes and ports of Docker are translated, then the
    /// connection's own; what is translated there is asked about on the host again. Connections over loopback never reach the
    /// host. Nothing is asked and no module loaded unless [`Namespaces::conntrack`] says `InUse`; when it says `Idle`, all
    /// answers are `Same`.
    ///
    /// # Errors
    /// `NoPermission` without CAP_NET_ADMIN, or CAP_SYS_ADMIN for namespaces other than this process's; those of sockets.
    pub fn lookup_many(&mut self, host: &Host, inode: u64, tuples: &[Tuple]) -> Result<Vec<Answer>> {
        match self.conntrack(host) {
            Conntrack::InUse => {}
            Conntrack::Idle => return Ok(vec![Answer::Same; tuples.len()]),
            Conntrack::NotLoaded | Conntrack::NoNetlink => return Ok(vec![Answer::Unknown; tuples.len()]),
        }
        let is_host = inode == self.host;
        let mut found = vec![None; tuples.len()];
        let reaches_host =
            |tuple: &Tuple| !tuple.source.ip().is_loopback() && !tuple.destination.ip().is_loopback();
        let first: Vec<(usize, Tuple)> =
            numbered(tuples).filter(|(_, tuple)| is_host || reaches_host(tuple)).collect();
        self.ask_host(host, &first, &mut found)?;
        let rest: Vec<(usize, Tuple)> = numbered(tuples).filter(|(at, _)| found[*at].is_none()).collect();
        if !is_host && !rest.is_empty() {
            self.uses += 1;
            let used = self.uses;
            if let Some(known) = self.known.get_mut(&inode) {
                known.used = used;
            }
            let socket = match self.socket(host, inode, libc::NETLINK_NETFILTER) {
                // What the host's namespace knows was found all the same.
                Err(error) if error.reason() == Reason::NoPermission => None,
                socket => socket?,
            };
            if let Some(socket) = socket {
                ask(&socket, &mut self.sequence, &rest, &mut found).context("conntrack")?;
                // As the host sees it, the connection is between the ends it was given here.
                let onward: Vec<(usize, Tuple)> = rest
                    .iter()
                    .filter_map(|(at, tuple)| {
                        let reply: Tuple = found[*at]?;
                        let onward = Tuple { source: reply.destination, destination: reply.source };
                        (onward != *tuple && reaches_host(&onward)).then_some((*at, onward))
                    })
                    .collect();
                self.ask_host(host, &onward, &mut found)?;
            }
        }
        let answer = |(tuple, reply): (&Tuple, Option<Tuple>)| match reply {
            Some(reply) if reply.source == tuple.destination => Answer::Same,
            Some(reply) => Answer::Translated(reply.source),
            None => Answer::Unknown,
        };
        Ok(tuples.iter().zip(found).map(answer).collect())
    }

    fn ask_host(
        &mut self,
        host: &Host,
        tuples: &[(usize, Tuple)],
        found: &mut [Option<Tuple>],
    ) -> Result<()> {
        if tuples.is_empty() {
            return Ok(());
        }
        // The host's namespace ends with the host, so it may be kept alive.
        let socket = match self.host_conntrack.take() {
            Some(socket) => Some(socket),
            None => self.socket(host, self.host, libc::NETLINK_NETFILTER)?,
        };
        let Some(socket) = socket else { return Ok(()) };
        ask(&socket, &mut self.sequence, tuples, found).context("conntrack")?;
        self.host_conntrack = Some(socket);
        Ok(())
    }
}

fn numbered(tuples: &[Tuple]) -> impl Iterator<Item = (usize, Tuple)> {
    tuples.iter().copied().enumerate()
}

/// Asks about `tuples` and writes the reply's tuple of those that are tracked to their places in `found`.
fn ask(
    socket: &NetlinkSocket,
    sequence: &mut u32,
    tuples: &[(usize, Tuple)],
    found: &mut [Option<Tuple>],
) -> Result<()> {
    let mut requests = Vec::with_capacity(limits::CONNTRACK_BATCH * 96);
    let mut buffer = [0; DATAGRAM];
    for batch in tuples.chunks(limits::CONNTRACK_BATCH) {
        requests.clear();
        let first = sequence.wrapping_add(1);
        let mut waiting = 0;
        for (number, (_, tuple)) in (0..).zip(batch) {
            let is_asked = conntrack::append_request(&mut requests, first.wrapping_add(number), tuple);
            waiting += usize::from(is_asked);
        }
        *sequence = sequence.wrapping_add(batch.len() as u32);
        if waiting == 0 {
            continue;
        }
        socket.send(&requests)?;
        // All answers were made while the requests were sent, so there is nothing to wait for: what is not there was dropped.
        // A bound, should somebody keep the socket busy.
        for _ in 0..2 * limits::CONNTRACK_BATCH {
            let datagram = match socket.receive_now(&mut buffer) {
                Ok(datagram) => datagram,
                // The buffer was full; what fitted is still there.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            for message in message::parse(datagram) {
                let Some((at, _)) = batch.get(message.sequence.wrapping_sub(first) as usize) else {
                    continue;
                };
                match message.outcome() {
                    // It is the answer to the whole datagram.
                    Outcome::Failed(errno @ (libc::EPERM | libc::EACCES)) => {
                        return Err(Error::from_errno(errno));
                    }
                    Outcome::Data => found[*at] = conntrack::parse(&message).or(found[*at]),
                    _ => {}
                }
                waiting = waiting.saturating_sub(1);
            }
            if waiting == 0 {
                break;
            }
        }
    }
    Ok(())
}
