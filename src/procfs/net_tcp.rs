//! `/proc/net/tcp` and `tcp6`: the TCP sockets of a network namespace.
//!
//! Kernel document: Documentation/networking/proc_net_tcp.rst; source: net/ipv4/tcp_ipv4.c, `get_tcp4_sock`. Columns:
//! number, local end, remote end, state, queues, timer, retransmits, user, timeout, inode. Addresses are words of 32 bits in
//! the machine's byte order, printed as hexadecimal numbers.

use std::net::{IpAddr, SocketAddr};

use super::text;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own end, and the other one; IPv4 addresses in IPv6 form are IPv4 here.
    pub local: SocketAddr,
    /// The other end; all 0 of one that listens.
    pub remote: SocketAddr,
    /// State by number (include/net/tcp_states.h): 1 is established, 10 listens.
    pub state: u8,
    /// Inode number, as in `/proc/PID/fd`; 0 when no process holds it.
    pub inode: u64,
}

/// The socket of a line of either file, with or without its newline; `None` for the heading.
///
/// The files are long where there are many sockets, so they are read line by line.
pub fn parse(line: &[u8]) -> Option<Socket> {
    let mut fields = text::fields(line);
    // number
    let local = end(fields.nth(1)?)?;
    let remote = end(fields.next()?)?;
    let state = u8::try_from(hexadecimal(fields.next()?, 2)?).ok()?;
    // queues, timer, retransmits, user, timeout
    let inode = text::number(fields.nth(5)?)?;
    Some(Socket { local, remote, state, inode })
}

/// `0100007F:1F90`
fn end(field: &[u8]) -> Option<SocketAddr> {
    let colon = memchr::memchr(b':', field)?;
    let (address, port) = field.split_at_checked(colon)?;
    let port = u16::try_from(hexadecimal(port.get(1..)?, 4)?).ok()?;
    let (words, rest) = address.as_chunks::<8>();
    let mut octets = [0; 16];
    for (slot, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *slot = hexadecimal(word, 8)?.to_ne_bytes();
    }
    let address = match (words.len(), rest) {
        (1, []) => IpAddr::from(*octets.first_chunk::<4>()?),
        (4, []) => IpAddr::from(octets).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// A hexadecimal number of `digits` digits.
fn hexadecimal(field: &[u8], digits: usize) -> Option<u32> {
    let field = text::utf8(field).filter(|field| field.len() == digits && !field.starts_with('+'))?;
    u32::from_str_radix(field, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const TCP: &[u8] =
        b"   0: 0100007F:1F90 0200A8C0:C350 01 00000000:00000000 00:00000000 00000000  1000        0 12345 1 \
        0000000000000000 100 0 0 10 0\n";
    const TCP6: &[u8] =
        b"   1: 000000FD000000000000000001000000:0050 0000000000000000FFFF00000100000A:01BB 0A 00000000:00000000 \
        00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_sockets() {
        let socket = parse(TCP).unwrap();
        assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.remote, "192.168.0.2:50000".parse().unwrap());
        assert_eq!((socket.state, socket.inode), (1, 12345));
        let socket = parse(TCP6).unwrap();
        assert_eq!(socket.local, "[fd00::1]:80".parse().unwrap());
        assert_eq!(socket.remote, "10.0.0.1:443".parse().unwrap());
        assert_eq!((socket.state, socket.inode), (10, 77));
    }

    #[test]
    fn other_lines_are_none() {
        let heading = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        for line in [&heading[..], b"", b"0: 0100007F:1F90", b"0: 0100007:1F90 0:0 01 0 0 0 0 0 1"] {
            assert_eq!(parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn survives_any_bytes() {
        for sample in [TCP, TCP6] {
            fuzz::hammer(sample, |bytes| {
                let _ = parse(bytes);
            });
        }
    }
}
