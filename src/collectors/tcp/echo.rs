//! ICMP echo requests and the replies to them (RFC 792, RFC 4443).

use crate::sys::icmp::Version;

/// Bytes of a message: eight of header and the cookie.
pub const LENGTH: usize = 16;

/// Protocol number of ICMP in an IPv4 header.
const ICMP: u8 = 1;

/// What an echo carries there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The identifier, by which programs tell their echoes from others'.
    pub id: u16,
    /// The sequence number.
    pub sequence: u16,
    /// The payload, which nobody who did not see the request can know.
    pub cookie: u64,
}

impl Echo {
    /// The request. The checksum of an IPv6 one is the kernel's to fill in.
    pub fn request(self, version: Version) -> [u8; LENGTH] {
        let mut message = [0; LENGTH];
        message[0] = match version {
            Version::V4 => 8,
            Version::V6 => 128,
        };
        message[4..6].copy_from_slice(&self.id.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        message[8..].copy_from_slice(&self.cookie.to_be_bytes());
        if version == Version::V4 {
            let checksum = !sum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        message
    }

    /// What a packet from a raw socket, over IPv4 with its IP header, replies to; `None` when it is no reply to such a request. The
    /// kernel has checked what comes over IPv6, and of IPv4 only the IP header.
    pub fn parse_reply(version: Version, packet: &[u8]) -> Option<Echo> {
        let message = match version {
            Version::V4 => {
                let (&first, &protocol) = (packet.first()?, packet.get(9)?);
                let words = usize::from(first & 0xf);
                if first >> 4 != 4 || words < 5 || protocol != ICMP {
                    return None;
                }
                packet.get(4 * words..)?
            }
            Version::V6 => packet,
        };
        let message: &[u8; LENGTH] = message.try_into().ok()?;
        let is_reply = match version {
            Version::V4 => message[0] == 0 && sum(message) == 0xffff,
            Version::V6 => message[0] == 129,
        };
        if !is_reply || message[1] != 0 {
            return None;
        }
        let [.., a, b, c, d] = *message.first_chunk::<8>()?;
        Some(Echo {
            id: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
            cookie: u64::from_be_bytes(*message.last_chunk()?),
        })
    }
}

/// The sum in ones' complement of what a checksum is made of (RFC 1071); 0xffff where the right checksum is in it.
fn sum(message: &[u8; LENGTH]) -> u16 {
    let (words, _) = message.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const ECHO: Echo = Echo { id: 0x1234, sequence: 0xfffe, cookie: 0x0123_4567_89ab_cdef };

    /// The reply to `request` as a raw socket gives it.
    fn reply(version: Version, request: [u8; LENGTH]) -> Vec<u8> {
        let mut message = request;
        match version {
            Version::V4 => {
                message[0] = 0;
                message[2..4].fill(0);
                let checksum = !sum(&message);
                message[2..4].copy_from_slice(&checksum.to_be_bytes());
                let mut packet = fuzz::captured("45000024f1a5000040011234c0000201c0000202");
                packet.extend_from_slice(&message);
                packet
            }
            Version::V6 => {
                message[0] = 129;
                message.to_vec()
            }
        }
    }

    #[test]
    fn a_request_is_what_ping_would_send() {
        // The checksum by another program.
        let expected = fuzz::captured("080047a71234fffe0123456789abcdef");
        assert_eq!(ECHO.request(Version::V4), *expected);
        assert_eq!(sum(&ECHO.request(Version::V4)), 0xffff);
        assert_eq!(ECHO.request(Version::V6), *fuzz::captured("800000001234fffe0123456789abcdef"));
    }

    #[test]
    fn replies_are_taken_and_nothing_else() {
        for version in [Version::V4, Version::V6] {
            let good = reply(version, ECHO.request(version));
            assert_eq!(Echo::parse_reply(version, &good), Some(ECHO));
            // The request itself, as it is seen on loopback.
            let start = good.len() - LENGTH;
            let mut request = good.clone();
            request[start..].copy_from_slice(&ECHO.request(version));
            assert_eq!(Echo::parse_reply(version, &request), None);
            let mut code = good.clone();
            code[start + 1] = 1;
            assert_eq!(Echo::parse_reply(version, &code), None);
            let mut longer = good.clone();
            longer.push(0);
            assert_eq!(Echo::parse_reply(version, &longer), None);
        }
        let good = reply(Version::V4, ECHO.request(Version::V4));
        for at in 20..36 {
            let mut damaged = good.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Echo::parse_reply(Version::V4, &damaged), None, "byte {at}");
        }
        // With an option in the IP header.
        let mut long = good.clone();
        long[0] = 0x46;
        long.splice(20..20, [1, 1, 1, 0]);
        assert_eq!(Echo::parse_reply(Version::V4, &long), Some(ECHO));
        let mut udp = good;
        udp[9] = 17;
        assert_eq!(Echo::parse_reply(Version::V4, &udp), None);
    }

    #[test]
    fn any_bytes_are_survived() {
        for version in [Version::V4, Version::V6] {
            fuzz::hammer(&reply(version, ECHO.request(version)), |bytes| {
                Echo::parse_reply(version, bytes);
            });
        }
    }
}
