//! Fingerprints: whether a file still holds what was read of it.

/// Bytes at the beginning of a file that stand for all of it.
pub const HEAD: usize = 256;

/// Bytes before a position that stand for all before it.
pub const TAIL: usize = 64;

/// The hash of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Print {
    /// How many; 0 knows nothing and fits everything.
    pub length: u16,
    /// FNV-1a of them. It is written to a file, so it is not std's, which may change.
    pub hash: u64,
}

impl Print {
    /// That of all of `data`, at most 65,535 bytes of it.
    pub fn of(data: &[u8]) -> Print {
        let data = data.get(..usize::from(u16::MAX)).unwrap_or(data);
        if data.is_empty() {
            return Print::default();
        }
        let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Print { length: data.len() as u16, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        assert_eq!(Print::of(b""), Print::default());
        assert_eq!(Print::of(b"a"), Print { length: 1, hash: 0xaf63_dc4c_8601_ec8c });
        assert_eq!(Print::of(b"foobar"), Print { length: 6, hash: 0x8594_4171_f739_67e8 });
    }
}
