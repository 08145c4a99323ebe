//! Netlink sockets: requests out, datagrams in. What is inside them is parsed in `crate::netlink`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::namespace::NetworkNamespace;

/// How long a reply of the kernel may take. It is made while the request is sent, so this bounds only the pathological.
const REPLY_MS: i64 = 1000;

/// A netlink socket of one protocol.
#[derive(Debug)]
pub struct NetlinkSocket(OwnedFd);

impl NetlinkSocket {
    /// Opens a socket of `protocol` (`libc::NETLINK_ROUTE`, `libc::NETLINK_GENERIC`).
    ///
    /// # Errors
    /// EPROTONOSUPPORT when the kernel lacks the protocol.
    pub fn open(protocol: i32) -> io::Result<NetlinkSocket> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        let fd = super::check(fd)?;
        // SAFETY: the descriptor is new and ours.
        let socket = NetlinkSocket(unsafe { OwnedFd::from_raw_fd(fd) });
        let timeout = libc::timeval { tv_sec: REPLY_MS / 1000, tv_usec: 0 };
        // SAFETY: pointer and length are those of a timeval.
        super::check(unsafe {
            libc::setsockopt(
                socket.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        })?;
        Ok(socket)
    }

    /// Opens a socket of `protocol` in `namespace`, where it stays: what it asks is about that namespace. `home` is where this
    /// thread is. An open socket keeps the namespace and its interfaces alive.
    ///
    /// # Errors
    /// Those of [`NetworkNamespace::run`] and of [`NetlinkSocket::open`].
    pub fn open_in(
        namespace: &NetworkNamespace,
        home: &NetworkNamespace,
        protocol: i32,
    ) -> io::Result<NetlinkSocket> {
        namespace.run(home, || NetlinkSocket::open(protocol))?
    }

    /// Like [`NetlinkSocket::open_in`], in the namespace the file `initial` (`/proc/1/ns/net`) stands for: some protocols are
    /// there and nowhere else. Without the right to look at it, in the own one, which may be the same.
    ///
    /// # Errors
    /// Those of [`NetlinkSocket::open_in`].
    pub fn open_initial(initial: &Path, protocol: i32) -> io::Result<NetlinkSocket> {
        match NetworkNamespace::open(initial) {
            Ok(initial) => NetlinkSocket::open_in(&initial, &NetworkNamespace::own()?, protocol),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => NetlinkSocket::open(protocol),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel send to this socket what it sends to the multicast groups in `groups`, a bit each, the first the lowest.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, for most protocols.
    pub fn join(&self, groups: u32) -> io::Result<()> {
        // SAFETY: all zeros are a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        let size = size_of_val(&address) as libc::socklen_t;
        // SAFETY: pointer and length are those of the address.
        super::check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), size) }).map(drop)
    }

    /// Sends one request to the kernel.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are the slice's.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives one datagram into `buffer`; gives the part of it that was filled.
    ///
    /// # Errors
    /// EAGAIN when none comes in time, ENOBUFS when the kernel dropped some.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        self.receive_with(buffer, 0)
    }

    /// Like [`NetlinkSocket::receive`], without waiting: for answers that were made before the request's send returned.
    ///
    /// # Errors
    /// EAGAIN when there is none, ENOBUFS when the kernel dropped some.
    pub fn receive_now<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        self.receive_with(buffer, libc::MSG_DONTWAIT)
    }

    /// Has the kernel keep up to about `bytes` of datagrams that were not received yet, beyond net.core.rmem_max with
    /// CAP_NET_ADMIN.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn set_receive_buffer(&self, bytes: u32) -> io::Result<()> {
        let set = |option| {
            // SAFETY: pointer and length are those of the number.
            super::check(unsafe {
                libc::setsockopt(
                    self.0.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const bytes).cast(),
                    size_of::<u32>() as libc::socklen_t,
                )
            })
        };
        set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF)).map(drop)
    }

    /// Datagrams the kernel dropped because they were not received in time (`SK_MEMINFO_DROPS`, Linux 4.12).
    ///
    /// # Errors
    /// ENOPROTOOPT before that.
    pub fn dropped(&self) -> io::Result<u32> {
        const DROPS: usize = 8;
        let mut values = [0u32; DROPS + 1];
        let mut size = size_of_val(&values) as libc::socklen_t;
        // SAFETY: pointer and size are those of the array.
        super::check(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut size,
            )
        })?;
        Ok(values[DROPS])
    }

    fn receive_with<'a>(&self, buffer: &'a mut [u8], flags: libc::c_int) -> io::Result<&'a [u8]> {
        // SAFETY: pointer and length are the slice's.
        let read = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        let length = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        Ok(&buffer[..length.min(buffer.len())])
    }
}

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A socket to which the kernel sends by itself, faster than it is read perhaps.
#[derive(Debug)]
pub struct Feed {
    /// The socket.
    pub socket: NetlinkSocket,
    datagram: Vec<u8>,
    /// What the kernel had dropped when it was asked last.
    dropped: u32,
}

impl Feed {
    /// Reads `socket` from now on, with room for datagrams of so many bytes.
    pub fn new(socket: NetlinkSocket, datagram_bytes: usize) -> Feed {
        let mut feed = Feed { socket, datagram: vec![0; datagram_bytes], dropped: 0 };
        feed.newly_dropped();
        feed
    }

    /// Hands up to `max` datagrams to `each`, until it says that it has had enough. Gives how many were read, and how many messages
    /// the kernel has dropped since the last call.
    ///
    /// # Errors
    /// What the socket says but for drops.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<(usize, u64)> {
        let mut lost = 0;
        for count in 0..max {
            match self.socket.receive_now(&mut self.datagram) {
                Ok(datagram) if each(datagram) => {}
                Ok(_) => return Ok((count + 1, lost)),
                // ENOBUFS comes once, at the first message that found no room; how many more did is known when all are read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((count, lost + self.newly_dropped().unwrap_or(0)));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost += self.newly_dropped().unwrap_or(1);
                }
                Err(error) => return Err(error),
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
