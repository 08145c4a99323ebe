//! The first block of an .xz stream with LZMA2, as journald wrote it by default until 2014: pure, bounded, and believing nothing.
//!
//! Source: "The .xz File Format" 1.1, and the LZMA specification of the LZMA SDK. Check sums are not looked at: journald writes
//! none. What was decoded is the dictionary.

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

use super::lz4::{append, repeat};

/// What an .xz stream begins with.
const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// Bytes of a stream's header.
const STREAM_HEADER: usize = 12;
/// The filter LZMA2.
const LZMA2: u8 = 0x21;

// Places of probabilities in one array, after the specification's names.
const IS_MATCH: usize = 0;
const IS_REP: usize = IS_MATCH + 12 * 16;
const IS_REP_G0: usize = IS_REP + 12;
const IS_REP_G1: usize = IS_REP_G0 + 12;
const IS_REP_G2: usize = IS_REP_G1 + 12;
const IS_REP0_LONG: usize = IS_REP_G2 + 12;
const POS_SLOT: usize = IS_REP0_LONG + 12 * 16;
const POS_SPECIAL: usize = POS_SLOT + 4 * 64;
const ALIGN: usize = POS_SPECIAL + 115;
const MATCH_LENGTH: usize = ALIGN + 16;
const REP_LENGTH: usize = MATCH_LENGTH + LENGTH_CODER;
const LITERAL: usize = REP_LENGTH + LENGTH_CODER;
/// Probabilities of a coder of lengths: two choices, 16 times 8 for short ones, the same for middle ones, 256 for long ones.
const LENGTH_CODER: usize = 2 + 128 + 128 + 256;
/// Probabilities for each context of a literal.
const LITERAL_CODER: usize = 0x300;
/// LZMA2 allows no more bits for the context of literals.
const LITERAL_BITS: u8 = 4;

/// Appends to `out`, which has to be empty, what the stream holds, until it has `max` bytes. False when the stream is damaged; what
/// came before stays.
pub fn decode(stream: &[u8], max: usize, out: &mut Vec<u8>) -> bool {
    blocks(stream, max, out).is_some()
}

fn blocks(stream: &[u8], max: usize, out: &mut Vec<u8>) -> Option<()> {
    let rest = stream.strip_prefix(MAGIC).and_then(|_| stream.get(STREAM_HEADER..))?;
    // An index instead of a block: there is nothing in it.
    let words = usize::from(*rest.first()?);
    if words == 0 {
        return Some(());
    }
    let (header, mut rest) = rest.split_at_checked(words.saturating_add(1).saturating_mul(4))?;
    let flags = *header.get(1)?;
    let mut fields = header.get(2..)?;
    // Sizes, compressed and not, that may be there and are not needed.
    for bit in [0x40, 0x80] {
        if flags & bit != 0 {
            while take(&mut fields)? & 0x80 != 0 {}
        }
    }
    if flags & 0x3f != 0 || take(&mut fields)? != LZMA2 {
        return None;
    }

    let mut coder = Coder::default();
    loop {
        let control = take(&mut rest)?;
        match control {
            0 => return Some(()),
            1 | 2 => {
                let size = size(&mut rest)?;
                if control == 1 {
                    coder.begin = out.len();
                }
                let (bytes, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                append(out, bytes, max);
                if bytes.len() < size && out.len() < max {
                    return None;
                }
                rest = after;
            }
            3..0x80 => return None,
            _ => {
                let high = usize::from(control & 0x1f) << 16;
                let decoded = size(&mut rest)?.saturating_add(high);
                let encoded = size(&mut rest)?;
                if control >= 0xe0 {
                    coder.begin = out.len();
                }
                if control >= 0xc0 {
                    coder.properties(take(&mut rest)?)?;
                } else if control >= 0xa0 {
                    coder.reset();
                }
                let (bytes, after) = rest.split_at_checked(encoded).unwrap_or((rest, &[]));
                let end = out.len().saturating_add(decoded).min(max);
                coder.chunk(bytes, end, out)?;
                rest = after;
            }
        }
        if out.len() >= max {
            return Some(());
        }
    }
}

/// A size of 16 bits, big end first, less one.
fn size(rest: &mut &[u8]) -> Option<usize> {
    let bytes = [take(rest)?, take(rest)?];
    Some(usize::from(u16::from_be_bytes(bytes)).saturating_add(1))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// What goes on from chunk to chunk.
#[derive(Default)]
struct Coder {
    /// Empty until a chunk has brought properties.
    probabilities: Vec<u16>,
    literal_context: u8,
    literal_position: u8,
    position: u8,
    state: usize,
    /// The last four distances, less one.
    distances: [u32; 4],
    /// Where in the output the dictionary begins.
    begin: usize,
}

/// The range coder over one chunk.
struct Range<'a> {
    probabilities: &'a mut [u16],
    rest: &'a [u8],
    range: u32,
    code: u32,
}

impl Coder {
    /// Takes properties, and forgets what was learnt.
    fn properties(&mut self, byte: u8) -> Option<()> {
        if byte >= 9 * 5 * 5 {
            return None;
        }
        (self.literal_context, self.literal_position, self.position) = (byte % 9, byte / 9 % 5, byte / 45);
        if self.literal_context.saturating_add(self.literal_position) > LITERAL_BITS {
            return None;
        }
        self.probabilities.resize(LITERAL.saturating_add(LITERAL_CODER << LITERAL_BITS), 0);
        self.reset();
        Some(())
    }

    fn reset(&mut self) {
        self.probabilities.fill(1024);
        self.state = 0;
        self.distances = [0; 4];
    }

    /// Decodes a chunk until `out` has `end` bytes.
    fn chunk(&mut self, bytes: &[u8], end: usize, out: &mut Vec<u8>) -> Option<()> {
        let (first, rest) = bytes.split_first_chunk::<5>()?;
        let [_, code @ ..] = *first;
        let mut range = Range {
            probabilities: &mut self.probabilities,
            rest,
            range: u32::MAX,
            code: u32::from_be_bytes(code),
        };
        while out.len() < end {
            let at = out.len().saturating_sub(self.begin);
            let place = at & ((1usize << self.position).wrapping_sub(1));
            let state = self.state;
            let context = (state << 4).saturating_add(place);
            if range.bit(IS_MATCH.saturating_add(context))? == 0 {
                let before = if at == 0 { 0 } else { usize::from(*out.last()?) };
                let low = at & ((1usize << self.literal_position).wrapping_sub(1));
                let coder =
                    (low << self.literal_context) | before >> 8u8.saturating_sub(self.literal_context);
                let base = LITERAL.saturating_add(LITERAL_CODER.saturating_mul(coder));
                let [distance, ..] = self.distances;
                let matched = if state < 7 { None } else { Some(back(out, distance, self.begin)?) };
                out.push(range.literal(base, matched)?);
                self.state = match state {
                    0..4 => 0,
                    4..10 => state.saturating_sub(3),
                    _ => state.saturating_sub(6),
                };
                continue;
            }
            let is_early = state < 7;
            let mut length = 1;
            if range.bit(IS_REP.saturating_add(state))? == 0 {
                length = range.length(MATCH_LENGTH, place)?;
                let distance = range.distance(length)?;
                let [first, second, third, _] = self.distances;
                self.distances = [distance, first, second, third];
                self.state = if is_early { 7 } else { 10 };
            } else {
                let [first, second, third, fourth] = self.distances;
                let mut is_short = false;
                if range.bit(IS_REP_G0.saturating_add(state))? == 0 {
                    is_short = range.bit(IS_REP0_LONG.saturating_add(context))? == 0;
                } else if range.bit(IS_REP_G1.saturating_add(state))? == 0 {
                    self.distances = [second, first, third, fourth];
                } else if range.bit(IS_REP_G2.saturating_add(state))? == 0 {
                    self.distances = [third, first, second, fourth];
                } else {
                    self.distances = [fourth, first, second, third];
                }
                if is_short {
                    self.state = if is_early { 9 } else { 11 };
                } else {
                    length = range.length(REP_LENGTH, place)?;
                    self.state = if is_early { 8 } else { 11 };
                }
            }
            let [distance, ..] = self.distances;
            back(out, distance, self.begin)?;
            repeat(out, usize::try_from(distance).ok()?.saturating_add(1), length, end);
        }
        Some(())
    }
}

/// The byte that is `distance` and one before the end of `out`; `None` when the dictionary, from `begin`, does not reach that far.
fn back(out: &[u8], distance: u32, begin: usize) -> Option<u8> {
    let at = out.len().checked_sub(usize::try_from(distance).ok()?)?.checked_sub(1)?;
    out.get(at).copied().filter(|_| at >= begin)
}

impl Range<'_> {
    fn normalise(&mut self) -> Option<()> {
        if self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(take(&mut self.rest)?);
        }
        Some(())
    }

    fn bit(&mut self, at: usize) -> Option<u32> {
        self.normalise()?;
        let probability = self.probabilities.get_mut(at)?;
        let bound = (self.range >> 11).wrapping_mul(u32::from(*probability));
        if self.code < bound {
            self.range = bound;
            *probability = probability.wrapping_add(2048u16.wrapping_sub(*probability) >> 5);
            Some(0)
        } else {
            self.range = self.range.wrapping_sub(bound);
            self.code = self.code.wrapping_sub(bound);
            *probability = probability.wrapping_sub(*probability >> 5);
            Some(1)
        }
    }

    /// `count` bits, the highest first.
    fn tree(&mut self, base: usize, count: u32) -> Option<usize> {
        let mut symbol = 1usize;
        for _ in 0..count {
            symbol = symbol << 1 | self.bit(base.saturating_add(symbol))? as usize;
        }
        Some(symbol ^ 1 << count)
    }

    /// `count` bits, the lowest first.
    fn reverse_tree(&mut self, base: usize, count: u32) -> Option<u32> {
        let (mut symbol, mut value) = (1usize, 0u32);
        for place in 0..count {
            let bit = self.bit(base.saturating_add(symbol))?;
            symbol = symbol << 1 | bit as usize;
            value |= bit << place;
        }
        Some(value)
    }

    /// A literal; with the byte at the last distance when it follows a repetition.
    fn literal(&mut self, base: usize, matched: Option<u8>) -> Option<u8> {
        let mut symbol = 1usize;
        let (mut byte, mut offset) = (usize::from(matched.unwrap_or_default()), 0x100usize);
        if matched.is_none() {
            offset = 0;
        }
        while symbol < 0x100 {
            byte <<= 1;
            let expected = byte & offset;
            let at = base.saturating_add(offset).saturating_add(expected).saturating_add(symbol);
            let bit = self.bit(at)? as usize;
            symbol = symbol << 1 | bit;
            offset &= if bit == 0 { !expected } else { expected };
        }
        Some(symbol as u8)
    }

    fn length(&mut self, base: usize, place: usize) -> Option<usize> {
        let short = base.saturating_add(2).saturating_add(place << 3);
        if self.bit(base)? == 0 {
            return Some(self.tree(short, 3)?.saturating_add(2));
        }
        if self.bit(base.saturating_add(1))? == 0 {
            return Some(self.tree(short.saturating_add(128), 3)?.saturating_add(10));
        }
        Some(self.tree(base.saturating_add(2 + 128 + 128), 8)?.saturating_add(18))
    }

    /// A distance, less one, of a repetition of `length` bytes.
    fn distance(&mut self, length: usize) -> Option<u32> {
        let class = length.saturating_sub(2).min(3);
        let slot = self.tree(POS_SLOT.saturating_add(class << 6), 6)?;
        if slot < 4 {
            return u32::try_from(slot).ok();
        }
        let count = u32::try_from((slot >> 1).saturating_sub(1)).ok()?;
        let base = (2 | u32::try_from(slot).ok()? & 1).wrapping_shl(count);
        if slot < 14 {
            let at = POS_SPECIAL.saturating_add(usize::try_from(base).ok()?).saturating_sub(slot);
            return Some(base | self.reverse_tree(at, count)?);
        }
        let mut direct = 0u32;
        for _ in 4..count {
            self.normalise()?;
            self.range >>= 1;
            let bit = u32::from(self.code >= self.range);
            self.code = self.code.wrapping_sub(self.range & 0u32.wrapping_sub(bit));
            direct = direct << 1 | bit;
        }
        Some(base.wrapping_add(direct << 4).wrapping_add(self.reverse_tree(ALIGN, 4)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz::{captured, hammer};

    /// [`text`], by xz with journald's settings: LZMA2, preset 0, no check sum.
    const STREAM: &str = "\
        fd377a585a000000ff12d9410200210110000000a8708e86e00270006d5d00269146acd06f74b8a578d81f122f6fa751\
        dbc765b8dd0c66e53228671a08b5b65baa292ffed3e149c076d73d4f7b074136547a37ecf6261682e0d2cd79ad34687b\
        0b5e47316eaa21a9b580180f27fbb0affc243f5965fe0286687fb79cd3ff25ac67926ac2b260731e4ba484da00000000\
        00018101f10400000ee30a12a8000afc020000000000595a";

    fn text() -> Vec<u8> {
        let lines = (0..12).map(|line| format!("{line} one two three one two three four five one two"));
        let mut text = format!("MESSAGE={}", lines.collect::<Vec<_>>().join(" ")).into_bytes();
        text.extend(0..40);
        text
    }

    #[test]
    fn a_stream_is_decoded_as_far_as_asked_for() {
        let (stream, text) = (captured(STREAM), text());
        for max in (0..text.len() + 10).step_by(7) {
            let mut out = Vec::new();
            assert!(decode(&stream, max, &mut out));
            assert_eq!(out, text[..max.min(text.len())]);
        }
    }

    #[test]
    fn what_is_not_compressed_is_copied() {
        let mut stream = captured(STREAM)[..24].to_vec();
        stream.extend_from_slice(b"\x01\0\x02abc\x02\0\x00d\0");
        let mut out = Vec::new();
        assert!(decode(&stream, 100, &mut out));
        assert_eq!(out, b"abcd");
    }

    #[test]
    fn damage_ends_it() {
        let stream = captured(STREAM);
        for end in 0..80 {
            assert!(!decode(&stream[..end], 4096, &mut Vec::new()), "{end} bytes");
        }
        hammer(&stream, |bytes| {
            let mut out = Vec::new();
            decode(bytes, 4096, &mut out);
            assert!(out.len() <= 4096);
        });
    }
}
