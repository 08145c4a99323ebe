//! poll(2): the one place where nodeprobe waits.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// How long to rest when poll(2) itself fails for want of memory.
const WITHOUT_MEMORY: Duration = Duration::from_millis(50);

/// True when `fd`, a pipe, takes PIPE_BUF bytes without a wait, or is broken, which writing will show; waits for that at most
/// `timeout_ms`.
pub fn has_room(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    loop {
        // SAFETY: one initialised element.
        let result = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        if result >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return result > 0;
        }
    }
}

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

    /// Waits until a descriptor is ready or `timeout_ms` has passed; an interrupting signal ends the wait too. Where the kernel
    /// has no memory for it, it is a short sleep: then nothing is ready, and the next wait may do better.
    ///
    /// # Errors
    /// Those of poll(2) but EINTR, ENOMEM and EAGAIN.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<()> {
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: the pointer and the count describe the vector's own initialised elements.
        let result = unsafe { libc::poll(self.fds.as_mut_ptr(), count, timeout_ms) };
        match super::check(result).map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::EINTR), _)) => Ok(()),
            Err((Some(libc::ENOMEM | libc::EAGAIN), _)) => {
                std::thread::sleep(WITHOUT_MEMORY);
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// The descriptor at `index`, in the order of `add`, if it is ready (or broken, which reading or writing will show).
    pub fn ready(&self, index: usize) -> Option<RawFd> {
        self.fds.get(index).filter(|fd| fd.revents != 0).map(|fd| fd.fd)
    }
}
