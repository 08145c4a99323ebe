//! poll(2): the one place where nodeprobe waits.

use std::io;
use std::os::fd::RawFd;

/// What an owner of a descriptor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data to read, or a connection to accept.
    Read,
    /// Room to write.
    Write,
}

/// A set of descriptors to wait for, built anew each turn.
#[derive(Debug, Default)]
pub struct PollSet {
    fds: Vec<libc::pollfd>,
}

impl PollSet {
    /// Empties the set and keeps its memory.
    pub fn clear(&mut self) {
        self.fds.clear();
    }

    /// Adds a descriptor.
    pub fn add(&mut self, fd: RawFd, interest: Interest) {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
        };
        self.fds.push(libc::pollfd { fd, events, revents: 0 });
    }

    /// Descriptors added so far.
    pub fn len(&self) -> usize {
        self.fds.len()
    }

    /// True when nothing was added.
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty()
    }

    /// Waits until a descriptor is ready or `timeout_ms` has passed; an interrupting signal ends the wait too.
    ///
    /// # Errors
    /// Those of poll(2) but EINTR.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<()> {
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: the pointer and the count describe the vector's own initialised elements.
        let result = unsafe { libc::poll(self.fds.as_mut_ptr(), count, timeout_ms) };
        match super::check(result) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// The descriptor at `index`, in the order of `add`, if it is ready (or broken, which reading or writing will show).
    pub fn ready(&self, index: usize) -> Option<RawFd> {
        self.fds.get(index).filter(|fd| fd.revents != 0).map(|fd| fd.fd)
    }
}
