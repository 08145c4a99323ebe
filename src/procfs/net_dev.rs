//! `/proc/net/dev` (or `/proc/PID/net/dev`): traffic of the interfaces of a network namespace.
//!
//! Kernel document: Documentation/filesystems/proc.rst, "Networking info in /proc/net".

use super::text;

/// Most interfaces given out.
pub const MAX_INTERFACES: usize = 4096;

/// Totals of one interface since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Errors on reception, all kinds.
    pub received_errors: u64,
    /// Received packets dropped, for want of room or because nobody wanted them.
    pub received_drops: u64,
    /// Bytes transmitted.
    pub transmitted_bytes: u64,
    /// Packets transmitted.
    pub transmitted_packets: u64,
    /// Errors on transmission.
    pub transmitted_errors: u64,
    /// Packets dropped on transmission.
    pub transmitted_drops: u64,
}

/// The interfaces in the file; the two heading lines and what is not an interface are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Interface<'_>> {
    text::lines(bytes).filter_map(parse_line).take(MAX_INTERFACES)
}

fn parse_line(line: &[u8]) -> Option<Interface<'_>> {
    // Counters may touch the colon ("eth0:123"); names never have one.
    let (name, counters) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    let name = text::utf8(name.trim_ascii()).filter(|name| !name.is_empty())?;
    let mut counters = text::fields(counters.get(1..)?).map(text::number);
    let received_bytes = counters.next()??;
    let received_packets = counters.next()??;
    let received_errors = counters.next()??;
    let received_drops = counters.next()??;
    // fifo frame compressed multicast
    let transmitted_bytes = counters.nth(4)??;
    let transmitted_packets = counters.next()??;
    let transmitted_errors = counters.next()??;
    let transmitted_drops = counters.next()??;
    Some(Interface {
        name,
        received_bytes,
        received_packets,
        received_errors,
        received_drops,
        transmitted_bytes,
        transmitted_packets,
        transmitted_errors,
        transmitted_drops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"Inter-|   Receive          |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
        lo:    3193      29    0    0    0     0          0         0     3194      30    0    0\n  \
        eth0:108080078    3982    1    2    3     4     5      6   179483    2300    6    7    0\n";

    #[test]
    fn reads_interfaces() {
        let all: Vec<Interface<'_>> = parse(SAMPLE).collect();
        assert_eq!(all.len(), 2);
        let eth0 = Interface {
            name: "eth0",
            received_bytes: 108_080_078,
            received_packets: 3982,
            received_errors: 1,
            received_drops: 2,
            transmitted_bytes: 179_483,
            transmitted_packets: 2300,
            transmitted_errors: 6,
            transmitted_drops: 7,
        };
        assert_eq!(all[1], eth0);
        assert_eq!(all[0].transmitted_packets, 30);
    }

    #[test]
    fn short_nameless_and_cut_lines_are_skipped() {
        let text = b"eth0: 1 2 3 4 5 6 7 8 9 10 11\n : 1 2 3 4 5 6 7 8 9 10 11 12\n\xff: 1 2 3 4 5 6 7 8 9 10 11 12\n\
            eth1: 1 x 3 4 5 6 7 8 9 10 11 12\neth2: 1 2 3 4 5 6 7 8 9 10 11 12";
        assert_eq!(parse(text).count(), 0);
    }

    #[test]
    fn output_is_bounded() {
        let text = "a: 1 2 3 4 5 6 7 8 9 10 11 12\n".repeat(MAX_INTERFACES + 1);
        assert_eq!(parse(text.as_bytes()).count(), MAX_INTERFACES);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
