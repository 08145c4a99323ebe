//! Builder of netlink requests (uapi header linux/netlink.h).
//!
//! Kernel document: Documentation/userspace-api/netlink/intro.rst. It writes into the caller's
//! buffer, so that a request per process and scrape costs no allocation.

use super::attribute::aligned;

/// A request being written.
///
/// Nothing is sent without [`Request::finish`], which puts in the length.
#[must_use = "a request without its length is not valid"]
#[derive(Debug)]
pub struct Request<'b> {
    bytes: &'b mut Vec<u8>,
    /// Where its header is.
    start: usize,
}

impl<'b> Request<'b> {
    /// Clears `bytes` and writes a header. `NLM_F_REQUEST` is always set; the port is left 0,
    /// which the kernel takes for the port of the sending socket.
    pub fn start(bytes: &'b mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Self {
        bytes.clear();
        Request::append(bytes, kind, flags, sequence)
    }

    /// Like [`Request::start`], behind the requests that are in `bytes` already: the kernel takes them one after the other
    /// from one datagram.
    pub fn append(bytes: &'b mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Self {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        bytes.resize(aligned(bytes.len()), 0);
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Request { bytes, start }
    }

    /// Appends a fixed header of the message kind, padded to four bytes.
    pub fn raw(self, header: &[u8]) -> Self {
        self.bytes.extend_from_slice(header);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self
    }

    /// Appends an attribute. A value too long for an attribute (64 KiB) is left out.
    pub fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let Ok(length) = u16::try_from(value.len().saturating_add(4)) else {
            return self;
        };
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// Appends an attribute that holds those that `inner` appends.
    pub fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let at = self.bytes.len();
        let done = inner(self.attribute(kind | libc::NLA_F_NESTED as u16, &[]));
        let length = u16::try_from(done.bytes.len().saturating_sub(at)).unwrap_or(u16::MAX);
        if let Some(header) = done.bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) {
            *header = length.to_ne_bytes();
        }
        done
    }

    /// Writes the length into the header.
    pub fn finish(self) {
        let length = u32::try_from(self.bytes.len().saturating_sub(self.start)).unwrap_or(u32::MAX);
        if let Some(header) = self.bytes.get_mut(self.start..).and_then(|bytes| bytes.first_chunk_mut()) {
            *header = length.to_ne_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{attribute, message};

    #[test]
    fn builds_what_the_parser_reads() {
        let mut bytes = b"left over".to_vec();
        Request::start(&mut bytes, 18, libc::NLM_F_DUMP as u16, 9)
            .raw(&[1, 2, 3])
            .attribute(5, b"abc")
            .attribute(6, b"")
            .finish();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!(message.kind, 18);
        assert_eq!(i32::from(message.flags), libc::NLM_F_DUMP | libc::NLM_F_REQUEST);
        assert_eq!((message.sequence, message.port), (9, 0));
        assert_eq!(message.attributes(3).count(), 2);
    }

    #[test]
    fn requests_follow_each_other() {
        let mut bytes = Vec::new();
        Request::start(&mut bytes, 18, 0, 1).attribute(5, b"abc").finish();
        Request::append(&mut bytes, 19, 0, 2)
            .nested(6, |request| request.attribute(1, b"x").nested(2, |request| request.attribute(3, b"yz")))
            .attribute(7, b"")
            .finish();
        let all: Vec<_> = message::parse(&bytes).collect();
        assert_eq!([(18, 1), (19, 2)], [(all[0].kind, all[0].sequence), (all[1].kind, all[1].sequence)]);
        let outer: Vec<_> = all[1].attributes(0).collect();
        assert_eq!((outer.len(), outer[0].kind, outer[1].kind), (2, 6, 7));
        let inner: Vec<_> = attribute::parse(outer[0].value).collect();
        assert_eq!((inner[0].value, inner[1].kind), (&b"x"[..], 2));
        assert_eq!(attribute::parse(inner[1].value).next().unwrap().value, b"yz");
    }

    #[test]
    fn values_too_long_are_left_out() {
        let mut bytes = Vec::new();
        Request::start(&mut bytes, 1, 0, 0).attribute(1, &[0; 65_532]).finish();
        assert_eq!(bytes.len(), 16);
    }
}
