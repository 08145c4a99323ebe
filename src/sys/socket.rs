//! Sockets and interfaces, where std has no call: a longer backlog, sockets that systemd opened, interface numbers.

use std::ffi::CString;
use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

/// Sets how many connections may wait to be accepted; the kernel caps it at net.core.somaxconn.
///
/// # Errors
/// Those of listen(2).
pub fn set_backlog(listener: &TcpListener, connections: i32) -> io::Result<()> {
    // SAFETY: the descriptor is a bound socket that lives during the call; listening again only changes the backlog.
    super::check(unsafe { libc::listen(listener.as_raw_fd(), connections) }).map(drop)
}

/// Sets how many bytes the kernel keeps of what a client has not taken yet, for all connections accepted from now on (SO_SNDBUF
/// of socket(7): the kernel doubles it, and grows it no more).
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_send_buffer(listener: &TcpListener, bytes: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_SNDBUF);
    // SAFETY: the kernel reads one int from a live variable.
    let result =
        unsafe { libc::setsockopt(listener.as_raw_fd(), level, option, (&raw const bytes).cast(), size) };
    super::check(result).map(drop)
}

/// Begins to connect and does not wait: the socket, which never blocks, can be written to once it is connected or has failed.
///
/// # Errors
/// Those of connect(2) that are known at once: ENETUNREACH without a route, EACCES and EPERM from a firewall.
pub fn begin_connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = super::check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor is new and ours, and a TCP socket.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: pointer and size are those of the address; the descriptor is the stream's.
    match super::check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), size) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// The number of the network interface `name` in this network namespace (if_nametoindex(3)).
///
/// # Errors
/// ENODEV when there is none.
pub fn interface_number(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the name is NUL-terminated.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        number => Ok(number),
    }
}

/// Takes over the listening socket number `number` of those this process was started with, the first being descriptor 3.
///
/// # Errors
/// EBADF, or ENOTSOCK and EINVAL for what does not listen; one that is not of TCP over IPv4 or IPv6.
pub fn inherited_listener(number: u32) -> io::Result<TcpListener> {
    const FIRST: libc::c_int = 3;
    let fd = FIRST + libc::c_int::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    if option(fd, libc::SO_ACCEPTCONN)? == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // Addresses of others, such as a path, are none that std's listener knows.
    if !matches!(option(fd, libc::SO_DOMAIN)?, libc::AF_INET | libc::AF_INET6) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "systemd passed a socket that is not TCP"));
    }
    // SAFETY: the descriptor is a socket; children must not inherit it.
    super::check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it was passed to this process to be used once, which is here.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

/// The socket option `name`, a number.
fn option(fd: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointer and size are those of the number; the descriptor is looked at only.
    super::check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut size)
    })?;
    Ok(value)
}
