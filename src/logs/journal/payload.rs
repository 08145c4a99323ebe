//! The payload of DATA: `NAME=value`, compressed or not.

use super::format::{OBJECT_LZ4, OBJECT_XZ, OBJECT_ZSTD};
use super::{lz4, xz, zstd};

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is there.
    Whole,
    /// There was more than was asked for.
    Cut,
    /// The compressed bytes are damaged or cut; what came before may be there.
    Damaged,
}

/// Puts into `out`, emptied before, at most `max` bytes of the payload `bytes` of a DATA with these `flags`.
pub fn payload(flags: u8, bytes: &[u8], max: usize, out: &mut Vec<u8>) -> Outcome {
    out.clear();
    match flags & (OBJECT_XZ | OBJECT_LZ4 | OBJECT_ZSTD) {
        0 => {
            lz4::append(out, bytes, max);
            if bytes.len() > max { Outcome::Cut } else { Outcome::Whole }
        }
        OBJECT_LZ4 => {
            // The size of the whole stands in front of the block (compress_blob_lz4 in systemd's compress.c).
            let Some((size, block)) = bytes.split_first_chunk::<8>() else { return Outcome::Damaged };
            let size = u64::from_le_bytes(*size);
            let is_right = lz4::decode(block, max, out);
            match () {
                () if out.len() == max && size > max as u64 => Outcome::Cut,
                () if is_right && out.len() as u64 == size => Outcome::Whole,
                () => Outcome::Damaged,
            }
        }
        // A byte more than is wanted tells that there is more.
        OBJECT_ZSTD => outcome(zstd::decode(bytes, max.saturating_add(1), out), max, out),
        OBJECT_XZ => outcome(xz::decode(bytes, max.saturating_add(1), out), max, out),
        // The format forbids two at once.
        _ => Outcome::Damaged,
    }
}

/// What became of bytes that were decoded to one more than `max`.
fn outcome(is_right: bool, max: usize, out: &mut Vec<u8>) -> Outcome {
    let is_cut = out.len() > max;
    out.truncate(max);
    match is_right {
        _ if is_cut => Outcome::Cut,
        true => Outcome::Whole,
        false => Outcome::Damaged,
    }
}
