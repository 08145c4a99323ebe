//! Netlink messages: `nlmsghdr` (uapi header linux/netlink.h).
//!
//! Kernel document: Documentation/userspace-api/netlink/intro.rst. Numbers are in the byte order
//! of the machine; messages start at multiples of four bytes.

use super::attribute::{self, Attributes, aligned, i32_at, u16_at, u32_at};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const KIND_NOOP: u16 = libc::NLMSG_NOOP as u16;
const KIND_ERROR: u16 = libc::NLMSG_ERROR as u16;
const KIND_DONE: u16 = libc::NLMSG_DONE as u16;
const KIND_OVERRUN: u16 = libc::NLMSG_OVERRUN as u16;

/// One message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: that of the request it answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket it is for.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// What a message means for the exchange it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It carries data.
    Data,
    /// The dump is complete.
    Done,
    /// The request succeeded, there is nothing more to come.
    Acknowledged,
    /// The request failed with this (positive) `errno`.
    Failed(i32),
    /// It says nothing.
    Ignored,
}

impl<'a> Message<'a> {
    /// What the message means for its exchange.
    pub fn outcome(&self) -> Outcome {
        let status = i32_at(self.payload, 0);
        match (self.kind, status) {
            (KIND_NOOP | KIND_OVERRUN, _) => Outcome::Ignored,
            // The status in it is optional.
            (KIND_DONE, None | Some(0..)) => Outcome::Done,
            (KIND_ERROR, Some(0)) => Outcome::Acknowledged,
            (KIND_DONE | KIND_ERROR, Some(errno)) => Outcome::Failed(errno.saturating_abs()),
            (KIND_ERROR, None) => Outcome::Failed(libc::EBADMSG),
            _ => Outcome::Data,
        }
    }

    /// Whether the dump changed while it was read, so that entries may be missing or doubled.
    pub fn is_interrupted(&self) -> bool {
        self.flags & libc::NLM_F_DUMP_INTR as u16 != 0
    }

    /// The attributes that follow a fixed header of `fixed` bytes in the payload.
    pub fn attributes(&self, fixed: usize) -> Attributes<'a> {
        attribute::parse(self.payload.get(aligned(fixed)..).unwrap_or_default())
    }
}

/// The messages in what one `recv` returned; ends at the first that is not complete.
pub fn parse(buffer: &[u8]) -> Messages<'_> {
    Messages { rest: buffer }
}

/// Iterator made by [`parse`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.rest, 0)?).ok()?;
        let whole = self.rest.get(..length)?;
        let message = Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            port: u32_at(whole, 12)?,
            payload: whole.get(HEADER..)?,
        };
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::Attribute;
    use crate::netlink::request::Request;
    use crate::procfs::fuzz;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Request::start(&mut bytes, kind, 0, 7).raw(payload).finish();
        bytes
    }

    fn outcome(kind: i32, payload: &[u8]) -> Outcome {
        let bytes = message(kind as u16, payload);
        parse(&bytes).next().unwrap().outcome()
    }

    #[test]
    fn messages_follow_each_other() {
        let mut buffer = message(20, b"abcd");
        buffer.extend(message(21, b""));
        let all: Vec<Message<'_>> = parse(&buffer).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence, all[0].payload), (20, 7, &b"abcd"[..]));
        assert_eq!((all[1].kind, all[1].payload), (21, &b""[..]));
    }

    #[test]
    fn a_wrong_length_ends_the_iteration() {
        let good = message(20, b"abcd");
        for length in [0u32, 15, 21, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&bad).count(), 0, "{length}");
        }
        assert_eq!(parse(&good[..19]).count(), 0);
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn outcomes() {
        assert_eq!(outcome(libc::NLMSG_DONE, &0i32.to_ne_bytes()), Outcome::Done);
        assert_eq!(outcome(libc::NLMSG_DONE, b""), Outcome::Done);
        assert_eq!(outcome(libc::NLMSG_DONE, &(-4i32).to_ne_bytes()), Outcome::Failed(4));
        assert_eq!(outcome(libc::NLMSG_ERROR, &0i32.to_ne_bytes()), Outcome::Acknowledged);
        assert_eq!(outcome(libc::NLMSG_ERROR, &(-3i32).to_ne_bytes()), Outcome::Failed(libc::ESRCH));
        assert_eq!(outcome(libc::NLMSG_ERROR, &i32::MIN.to_ne_bytes()), Outcome::Failed(i32::MAX));
        assert_eq!(outcome(libc::NLMSG_ERROR, b""), Outcome::Failed(libc::EBADMSG));
        assert_eq!(outcome(libc::NLMSG_NOOP, b""), Outcome::Ignored);
        assert_eq!(outcome(20, b""), Outcome::Data);
    }

    #[test]
    fn attributes_are_aligned_and_masked() {
        let mut bytes = Vec::new();
        let nested = 3 | libc::NLA_F_NESTED as u16;
        Request::start(&mut bytes, 20, libc::NLM_F_DUMP_INTR as u16, 0)
            .raw(b"xyz")
            .attribute(1, b"abcde")
            .attribute(nested, b"")
            .finish();
        let message = parse(&bytes).next().unwrap();
        assert!(message.is_interrupted());
        let all: Vec<Attribute<'_>> = message.attributes(3).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].value), (1, &b"abcde"[..]));
        assert_eq!((all[1].kind, all[1].value), (3, &b""[..]));
        assert_eq!(message.attributes(usize::MAX).count(), 0);
    }

    #[test]
    fn survives_any_bytes() {
        let mut sample = message(20, b"\x08\0\x01\0abcd\x05\0\x02\0e\0\0\0");
        sample.extend(message(2, b"\xff\xff\xff\xff"));
        fuzz::hammer(&sample, |bytes| {
            for message in parse(bytes) {
                let _ = (message.outcome(), message.attributes(0).count());
            }
        });
    }
}
