//! The few shapes that all text files of the kernel share: lines, fields, numbers.
//!
//! Everything here borrows from the input and allocates nothing.

/// The complete lines of a file, without their newlines.
///
/// What follows the last newline is left out: the kernel ends every line, so an unfinished one
/// was cut by a short read and its last number cannot be trusted.
pub(crate) fn lines(bytes: &[u8]) -> Lines<'_> {
    Lines { rest: bytes }
}

/// Iterator made by [`lines`].
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..).unwrap_or_default();
        Some(line)
    }
}

/// The fields of a line, separated by any amount of white space.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
}

/// A decimal number that fills the whole field and fits 64 bits.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A decimal number that fits 32 bits.
pub(crate) fn number32(field: &[u8]) -> Option<u32> {
    u32::try_from(number(field)?).ok()
}

/// A line of a "flat keyed" file: `KEY VALUE`.
pub(crate) fn key_and_number(line: &[u8]) -> Option<(&[u8], u64)> {
    let space = memchr::memchr(b' ', line)?;
    let (key, value) = line.split_at_checked(space)?;
    Some((key, number(value.trim_ascii())?))
}

/// A size such as `  1024 kB`, in bytes. The kernel's kB are 1024 bytes.
pub(crate) fn kilobytes(value: &[u8]) -> Option<u64> {
    let mut fields = fields(value);
    let kilobytes = number(fields.next()?)?;
    match fields.next()? {
        b"kB" => kilobytes.checked_mul(1024),
        _ => None,
    }
}

/// A device number written `MAJOR:MINOR`.
pub(crate) fn device_number(field: &[u8]) -> Option<(u32, u32)> {
    let colon = memchr::memchr(b':', field)?;
    let (major, minor) = field.split_at_checked(colon)?;
    Some((number32(major)?, number32(minor.get(1..)?)?))
}

/// The field as text, if it is text.
pub(crate) fn utf8(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines() {
        let all: Vec<&[u8]> = lines(b"a\n\nb\ncut").collect();
        assert_eq!(all, [b"a".as_slice(), b"", b"b"]);
        assert_eq!(lines(b"").count(), 0);
    }

    #[test]
    fn fields_skip_runs_of_white_space() {
        let all: Vec<&[u8]> = fields(b"  a\t b \n").collect();
        assert_eq!(all, [b"a".as_slice(), b"b"]);
        assert_eq!(fields(b"   ").count(), 0);
    }

    #[test]
    fn numbers_are_whole_and_fit() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"1a", b"18446744073709551616"] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(number32(b"4294967295"), Some(u32::MAX));
        assert_eq!(number32(b"4294967296"), None);
    }

    #[test]
    fn keyed_sized_and_device_numbers() {
        assert_eq!(key_and_number(b"anon 12"), Some((&b"anon"[..], 12)));
        assert_eq!(key_and_number(b"anon"), None);
        assert_eq!(key_and_number(b"anon 1 2"), None);
        assert_eq!(kilobytes(b"   4 kB"), Some(4096));
        assert_eq!(kilobytes(b"   4"), None);
        assert_eq!(kilobytes(b"18446744073709551615 kB"), None);
        assert_eq!(device_number(b"8:16"), Some((8, 16)));
        assert_eq!(device_number(b"8:"), None);
        assert_eq!(device_number(b"8"), None);
    }

    #[test]
    fn survives_any_bytes() {
        crate::procfs::fuzz::hammer(b"anon 12 kB\n8:16 x\n", |bytes| {
            for line in lines(bytes) {
                let _ = (key_and_number(line), kilobytes(line), device_number(line));
                let _ = (number32(line), utf8(line), fields(line).count());
            }
        });
    }
}
