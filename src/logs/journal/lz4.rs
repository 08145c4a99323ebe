//! One block of LZ4, as journald writes it: pure, bounded, and believing nothing.
//!
//! Source: `lz4_Block_format.md` of the lz4 project.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

/// Shortest repetition; the format's `minmatch`.
const SHORTEST: usize = 4;

/// Appends to `out` what `block` holds, until `out` has `max` bytes. False when the block is damaged; what came before stays.
pub fn decode(block: &[u8], max: usize, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let mut rest = block;
    while let Some(token) = take(&mut rest) {
        let Some(literals) = length(&mut rest, token >> 4) else { return false };
        let Some((copied, after)) = rest.split_at_checked(literals) else {
            append(out, rest, max);
            return false;
        };
        rest = after;
        append(out, copied, max);
        // The last sequence has literals only.
        if rest.is_empty() || out.len() >= max {
            return true;
        }
        let (Some(low), Some(high)) = (take(&mut rest), take(&mut rest)) else { return false };
        let distance = usize::from(u16::from_le_bytes([low, high]));
        let Some(count) = length(&mut rest, token & 15) else { return false };
        if distance == 0 || distance > out.len().saturating_sub(begin) {
            return false;
        }
        repeat(out, distance, count.saturating_add(SHORTEST), max);
        if out.len() >= max {
            return true;
        }
    }
    true
}

/// Appends `count` bytes that begin `distance` bytes, which `out` has, before its end, until it has `max` bytes.
pub(super) fn repeat(out: &mut Vec<u8>, distance: usize, count: usize, max: usize) {
    let mut left = count.min(max.saturating_sub(out.len()));
    // What is copied may reach into what is being written, which repeats it: then in pieces of what there is.
    while left > 0 {
        let from = out.len().saturating_sub(distance);
        let piece = left.min(distance);
        let Some(until) = from.checked_add(piece).filter(|until| *until <= out.len() && piece > 0) else {
            return;
        };
        out.extend_from_within(from..until);
        left = left.saturating_sub(piece);
    }
}

/// Appends `bytes` until `out` has `max` bytes.
pub(super) fn append(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let room = max.saturating_sub(out.len());
    out.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

/// A length of four bits, with the bytes that continue 15.
fn length(rest: &mut &[u8], bits: u8) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let byte = take(rest)?;
            length = length.checked_add(usize::from(byte))?;
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `abcd`, the last 4 bytes 5 bytes long, `xyz`: by hand, after the format's text.
    const BLOCK: &[u8] = b"\x41abcd\x04\x00\x30xyz";

    #[test]
    fn literals_and_repetitions() {
        let mut out = Vec::new();
        assert!(decode(BLOCK, 100, &mut out));
        assert_eq!(out, b"abcdabcdaxyz");
        out.clear();
        // 15 + 5 repetitions of one byte, and 19 more.
        assert!(decode(b"\x1fa\x01\x00\x05\x00", 100, &mut out));
        assert_eq!(out, b"a".repeat(1 + 15 + 5 + 4));
    }

    #[test]
    fn no_more_than_asked_for() {
        for max in 0..13 {
            let mut out = Vec::new();
            assert!(decode(BLOCK, max, &mut out));
            assert_eq!(out, b"abcdabcdaxyz"[..max.min(12)]);
        }
    }

    #[test]
    fn damage_ends_it() {
        let mut out = Vec::new();
        assert!(!decode(b"\x40abc", 100, &mut out), "literals beyond the end");
        assert_eq!(out, b"abc");
        assert!(!decode(b"\x14a\x02\x00", 100, &mut Vec::new()), "a distance beyond the start");
        assert!(!decode(b"\x14a\x00\x00", 100, &mut Vec::new()), "no distance");
        crate::procfs::fuzz::hammer(BLOCK, |bytes| {
            let mut out = b"before".to_vec();
            decode(bytes, 4096, &mut out);
            assert!(out.len() <= 4096 && out.starts_with(b"before"));
        });
    }
}
