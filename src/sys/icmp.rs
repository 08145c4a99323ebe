//! Raw sockets that send ICMP echo requests and get the replies to them (icmp(7), raw(7)). What is in the packets is the
//! caller's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::clock::{self, WallNs};
use super::namespace::NetworkNamespace;

// libc does not have these; they are of linux/icmp.h and linux/icmpv6.h.
const ICMP_FILTER: libc::c_int = 1;
const ICMP_ECHOREPLY: u32 = 0;
const ICMPV6_FILTER: libc::c_int = 1;
const ICMPV6_ECHO_REPLY: usize = 129;

/// Room for a control message with a time, and for one more.
const CONTROL: usize = 128;

/// The version of IP a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

impl Version {
    /// The one an address is of.
    pub fn of(address: IpAddr) -> Version {
        if address.is_ipv4() { Version::V4 } else { Version::V6 }
    }
}

/// A socket for echo requests of one version of IP.
#[derive(Debug)]
pub struct EchoSocket {
    fd: OwnedFd,
    version: Version,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// The packet: IPv4 with its IP header, IPv6 without.
    pub packet: &'a [u8],
    /// When the kernel got it, or, where it does not say, when it was read.
    pub wall_ns: WallNs,
}

/// Space as aligned as control messages are.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl EchoSocket {
    /// Opens one in the network namespace this thread is in. Only echo replies with the identifier `id` reach it; whom they are
    /// for the kernel cannot tell.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW over the namespace; EAFNOSUPPORT where the kernel has no IPv6.
    pub fn open(version: Version, id: u16) -> io::Result<EchoSocket> {
        let (family, protocol) = match version {
            Version::V4 => (libc::AF_INET, libc::IPPROTO_ICMP),
            Version::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = super::check(unsafe { libc::socket(family, kind, protocol) })?;
        // SAFETY: the descriptor is new and ours.
        let socket = EchoSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) }, version };
        // A bit for each type: set ones are kept away.
        match version {
            Version::V4 => socket.set(libc::SOL_RAW, ICMP_FILTER, &[!(1u32 << ICMP_ECHOREPLY)])?,
            Version::V6 => {
                let mut filter = [u32::MAX; 8];
                filter[ICMPV6_ECHO_REPLY / 32] &= !(1 << (ICMPV6_ECHO_REPLY % 32));
                socket.set(libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
            }
        }
        socket.keep_only(id)?;
        socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &[1])?;
        Ok(socket)
    }

    /// Opens one in `namespace`, where it stays; `home` is where this thread is. It keeps the namespace alive.
    ///
    /// # Errors
    /// Those of [`NetworkNamespace::run`] and of [`EchoSocket::open`].
    pub fn open_in(
        namespace: &NetworkNamespace,
        home: &NetworkNamespace,
        version: Version,
        id: u16,
    ) -> io::Result<EchoSocket> {
        namespace.run(home, || EchoSocket::open(version, id))?
    }

    /// Drops what has another identifier before it is queued: a flood of replies to somebody else wakes nobody here. The filter
    /// sees what would be read: IPv4 from the IP header on, IPv6 from the ICMP header on.
    fn keep_only(&self, id: u16) -> io::Result<()> {
        let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let length_of_header = statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0);
        let none = statement(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, 0);
        let is_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let mut filter = [
            if self.version == Version::V4 { length_of_header } else { none },
            statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 4),
            libc::sock_filter { code: is_equal, jt: 0, jf: 1, k: u32::from(id) },
            statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
            statement(libc::BPF_RET | libc::BPF_K, 0),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        let size = size_of_val(&program) as libc::socklen_t;
        // SAFETY: pointer and size are those of the program, which points at its statements and has their number.
        super::check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size,
            )
        })
        .map(drop)
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: &[u32]) -> io::Result<()> {
        let size = size_of_val(value) as libc::socklen_t;
        // SAFETY: pointer and size are those of the numbers.
        super::check(unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, name, value.as_ptr().cast(), size)
        })
        .map(drop)
    }

    /// Sends an ICMP message. Never waits.
    ///
    /// # Errors
    /// ENETUNREACH and EHOSTUNREACH without a route, EPERM when a filter is against it, EAGAIN and ENOBUFS when queues are full,
    /// EAFNOSUPPORT for an address of the other version.
    pub fn send(&self, to: IpAddr, message: &[u8]) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (fd, data, length) = (self.fd.as_raw_fd(), message.as_ptr().cast(), message.len());
        let sent = match to {
            IpAddr::V4(to) => {
                let name = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: 0,
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
                    sin_zero: [0; 8],
                };
                let size = size_of_val(&name) as libc::socklen_t;
                // SAFETY: the pointers and sizes are those of the message and of the address.
                unsafe { libc::sendto(fd, data, length, flags, (&raw const name).cast(), size) }
            }
            IpAddr::V6(to) => {
                let name = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: to.octets() },
                    sin6_scope_id: 0,
                };
                let size = size_of_val(&name) as libc::socklen_t;
                // SAFETY: the pointers and sizes are those of the message and of the address.
                unsafe { libc::sendto(fd, data, length, flags, (&raw const name).cast(), size) }
            }
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next packet; `None` when there is none now. What of it does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        // SAFETY: all bytes 0 are valid for the plain numbers and null pointers these consist of.
        let (mut name, mut header): (libc::sockaddr_in6, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut control = Control([0; CONTROL]);
        let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of_val(&name) as libc::socklen_t;
        header.msg_iov = &raw mut data;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = CONTROL as _;
        // SAFETY: the header points at an address, one buffer and control space that live during the call, with their sizes.
        let read = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        let Ok(length) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            let is_empty = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if is_empty { Ok(None) } else { Err(error) };
        };
        let source = match self.version {
            Version::V4 => {
                // SAFETY: the space of a sockaddr_in6 is larger than a sockaddr_in and as aligned, and both are plain numbers; a
                // socket of this family writes a sockaddr_in.
                let name: libc::sockaddr_in = unsafe { (&raw const name).cast::<libc::sockaddr_in>().read() };
                Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes()).into()
            }
            Version::V6 => Ipv6Addr::from(name.sin6_addr.s6_addr).into(),
        };
        let wall_ns = timestamp_ns(&header).unwrap_or_else(clock::wall_ns);
        Ok(Some(Received { source, packet: &buffer[..length.min(buffer.len())], wall_ns }))
    }
}

/// `SCM_TIMESTAMPNS` of what recvmsg(2) filled in.
fn timestamp_ns(header: &libc::msghdr) -> Option<WallNs> {
    // SAFETY: the control space the header points at is as aligned as a cmsghdr, and the kernel wrote its length; the macros
    // stay within it.
    unsafe {
        let mut each = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = each.as_ref() {
            let is_time = message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SO_TIMESTAMPNS;
            let size = libc::CMSG_LEN(size_of::<libc::timespec>() as u32) as usize;
            if is_time && message.cmsg_len as usize >= size {
                let time = libc::CMSG_DATA(each).cast::<libc::timespec>().read_unaligned();
                return (time.tv_sec as u64).checked_mul(1_000_000_000)?.checked_add(time.tv_nsec as u64);
            }
            each = libc::CMSG_NXTHDR(header, each);
        }
    }
    None
}

impl AsRawFd for EchoSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
