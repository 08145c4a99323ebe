//! Netlink attributes: `nlattr` (uapi header linux/netlink.h), and the numbers and names in them.
//!
//! Kernel document: Documentation/userspace-api/netlink/intro.rst. Numbers are in the byte order
//! of the machine; attributes start at multiples of four bytes.

/// Length of `struct nlattr`.
const HEADER: usize = 4;
/// Takes the flags for nesting and byte order off a kind.
const KIND_MASK: u16 = libc::NLA_TYPE_MASK as u16;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without the flags for nesting and byte order.
    pub kind: u16,
    /// What follows the header.
    pub value: &'a [u8],
}

/// The attributes in `bytes`, which is a payload or a nesting attribute's value; ends at the
/// first that is not complete.
pub fn parse(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// Iterator made by [`parse`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let whole = self.rest.get(..length)?;
        let attribute = Attribute { kind: u16_at(whole, 2)? & KIND_MASK, value: whole.get(HEADER..)? };
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some(attribute)
    }
}

/// The next multiple of four.
pub(super) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The number at `offset`, in the machine's byte order.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_ne_bytes)
}

/// The number at `offset`, in the machine's byte order.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_ne_bytes)
}

/// The number at `offset`, in the machine's byte order.
pub(super) fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    array_at(bytes, offset).map(i32::from_ne_bytes)
}

/// The number at `offset`, in the machine's byte order.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_ne_bytes)
}

/// The number at `offset`, in network byte order.
pub(super) fn u16_be_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_be_bytes)
}

/// The bytes of an IP address at `offset`, four or sixteen.
pub(super) fn octets_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    array_at(bytes, offset)
}

/// The text before the first NUL.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let end = memchr::memchr(0, bytes)?;
    std::str::from_utf8(bytes.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(parse(b"").count(), 0);
        assert_eq!(parse(&[0; 64]).count(), 0);
        for length in [3u16, 9, u16::MAX] {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&bytes).count(), 0, "{length}");
        }
    }

    #[test]
    fn numbers_are_checked() {
        let bytes = [0xff; 9];
        assert_eq!(u16_at(&bytes, 7), Some(u16::MAX));
        assert_eq!(u32_at(&bytes, 5), Some(u32::MAX));
        assert_eq!(i32_at(&bytes, 5), Some(-1));
        assert_eq!(u64_at(&bytes, 1), Some(u64::MAX));
        assert_eq!(u64_at(&bytes, 2), None);
        assert_eq!(u16_at(&bytes, 8), None);
        assert_eq!(u16_at(&bytes, usize::MAX), None);
    }

    #[test]
    fn text_ends_at_nul() {
        assert_eq!(text(b"eth0\0\0"), Some("eth0"));
        assert_eq!(text(b"eth0"), None);
        assert_eq!(text(b"\xff\0"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"\x08\0\x01\0abcd\x05\0\x02\0e\0\0\0", |bytes| {
            for attribute in parse(bytes) {
                let _ = (text(attribute.value), u64_at(attribute.value, 0));
            }
        });
    }
}
