//! listen(2) again: std's backlog of 128 is too short for a flood.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

/// Sets how many connections may wait to be accepted; the kernel caps it at net.core.somaxconn.
///
/// # Errors
/// Those of listen(2).
pub fn set_backlog(listener: &TcpListener, connections: i32) -> io::Result<()> {
    // SAFETY: the descriptor is a bound socket that lives during the call; listening again only changes the backlog.
    super::check(unsafe { libc::listen(listener.as_raw_fd(), connections) }).map(drop)
}
