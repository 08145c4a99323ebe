//! One frame of Zstandard, as journald writes it by default since 2020: pure, bounded, and believing nothing.
//!
//! Source: RFC 8878. Dictionaries and check sums are not looked at: journald writes none. What was decoded is the window, so
//! no memory is taken because a frame asks for it.

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

const MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of a block's content, and of its literals; `Block_Maximum_Size`.
const BLOCK: usize = 128 * 1024;
/// Bits of the longest Huffman code.
const HUFFMAN_BITS: u32 = 11;

/// How a kind of sequence codes is coded.
struct Kind {
    /// `Default_Distribution`; the first number is the accuracy.
    default: (u32, &'static [i16]),
    accuracy: u32,
    symbols: usize,
}

const LITERAL_LENGTH: Kind = Kind {
    default: (
        6,
        &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
            -1, -1, -1, -1,
        ],
    ),
    accuracy: 9,
    symbols: 36,
};
const OFFSET: Kind = Kind {
    default: (
        5,
        &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
    ),
    accuracy: 8,
    symbols: 32,
};
const MATCH_LENGTH: Kind = Kind {
    default: (
        6,
        &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
    ),
    accuracy: 9,
    symbols: 53,
};
/// Baseline and extra bits of literal length codes from 16.
const LITERAL_LENGTHS: [(u32, u32); 20] = [
    (16, 1),
    (18, 1),
    (20, 1),
    (22, 1),
    (24, 2),
    (28, 2),
    (32, 3),
    (40, 3),
    (48, 4),
    (64, 6),
    (128, 7),
    (256, 8),
    (512, 9),
    (1024, 10),
    (2048, 11),
    (4096, 12),
    (8192, 13),
    (16384, 14),
    (32768, 15),
    (65536, 16),
];
/// The same of match length codes from 32.
const MATCH_LENGTHS: [(u32, u32); 21] = [
    (35, 1),
    (37, 1),
    (39, 1),
    (41, 1),
    (43, 2),
    (47, 2),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 5),
    (131, 7),
    (259, 8),
    (515, 9),
    (1027, 10),
    (2051, 11),
    (4099, 12),
    (8195, 13),
    (16387, 14),
    (32771, 15),
    (65539, 16),
];

/// Appends to `out`, which has to be empty, what the frame holds, until it has `max` bytes. False when the frame is damaged; what
/// came before stays.
pub fn decode(frame: &[u8], max: usize, out: &mut Vec<u8>) -> bool {
    blocks(frame, max, out).is_some()
}

fn blocks(frame: &[u8], max: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = frame.strip_prefix(MAGIC)?;
    let [descriptor] = take(&mut rest)?;
    // A reserved bit has to be 0.
    if descriptor & 0x08 != 0 {
        return None;
    }
    let is_single = descriptor & 0x20 != 0;
    let window = usize::from(!is_single);
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let content = [usize::from(is_single), 2, 4, 8];
    let content = content.get(usize::from(descriptor >> 6))?;
    rest = rest.get(window.saturating_add(*dictionary).saturating_add(*content)..)?;

    let mut decoder = Decoder::default();
    loop {
        let [low, middle, high] = take(&mut rest)?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = (header >> 3) as usize;
        match header >> 1 & 3 {
            0 => {
                let (bytes, after) = rest.split_at_checked(size)?;
                append(out, bytes, max);
                rest = after;
            }
            1 => {
                let [byte] = take(&mut rest)?;
                let end = out.len().saturating_add(size.min(BLOCK)).min(max);
                out.resize(end, byte);
            }
            2 if size <= BLOCK => {
                let (bytes, after) = rest.split_at_checked(size)?;
                decoder.block(bytes, max, out)?;
                rest = after;
            }
            _ => return None,
        }
        if header & 1 == 1 || out.len() >= max {
            return Some(());
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

/// What goes on from block to block.
struct Decoder {
    /// `None` until there is one.
    huffman: Option<Huffman>,
    /// Of literal lengths, offsets and match lengths.
    tables: [Option<Fse>; 3],
    /// The last three offsets.
    offsets: [u32; 3],
    literals: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { huffman: None, tables: [None, None, None], offsets: [1, 4, 8], literals: Vec::new() }
    }
}

impl Decoder {
    fn block(&mut self, block: &[u8], max: usize, out: &mut Vec<u8>) -> Option<()> {
        let mut rest = block;
        self.literals.clear();
        self.literals(&mut rest)?;
        self.sequences(rest, max, out)
    }

    /// Decodes the literals section.
    fn literals(&mut self, rest: &mut &[u8]) -> Option<()> {
        let first = *rest.first()?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        // The bits of both sizes, of one size for kinds 0 and 1, and the bytes of the header.
        let (bits, bytes) = match (kind, format) {
            (0 | 1, 0 | 2) => (5, 1),
            (0 | 1, 1) => (12, 2),
            (0 | 1, _) => (20, 3),
            (_, 0 | 1) => (10, 3),
            (_, 2) => (14, 4),
            _ => (18, 5),
        };
        let (header, after) = rest.split_at_checked(bytes)?;
        *rest = after;
        let value = header.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let mask = (1u64 << bits).wrapping_sub(1);
        let skipped = if bits == 5 { 3 } else { 4 };
        let size = usize::try_from(value >> skipped & mask).ok().filter(|size| *size <= BLOCK)?;
        match kind {
            0 => {
                let (bytes, after) = rest.split_at_checked(size)?;
                *rest = after;
                self.literals.extend_from_slice(bytes);
            }
            1 => {
                let [byte] = take(rest)?;
                self.literals.resize(size, byte);
            }
            _ => {
                let encoded = usize::try_from(value >> 4 >> bits & mask).ok()?;
                let (mut bytes, after) = rest.split_at_checked(encoded)?;
                *rest = after;
                if kind == 2 {
                    self.huffman = Some(Huffman::read(&mut bytes)?);
                }
                let huffman = self.huffman.as_ref()?;
                if format == 0 {
                    huffman.decode(bytes, size, &mut self.literals)?;
                } else {
                    let sizes: [u8; 6] = take(&mut bytes)?;
                    let (sizes, _) = sizes.as_chunks::<2>();
                    let part = size.saturating_add(3) / 4;
                    for encoded in sizes {
                        let (stream, after) =
                            bytes.split_at_checked(usize::from(u16::from_le_bytes(*encoded)))?;
                        bytes = after;
                        huffman.decode(stream, part, &mut self.literals)?;
                    }
                    let left = size.checked_sub(self.literals.len())?;
                    huffman.decode(bytes, left, &mut self.literals)?;
                }
            }
        }
        Some(())
    }

    /// Decodes the sequences section and does what the sequences say.
    fn sequences(&mut self, mut rest: &[u8], max: usize, out: &mut Vec<u8>) -> Option<()> {
        let [first] = take(&mut rest)?;
        let count = match first {
            0..128 => u32::from(first),
            128..255 => {
                let [second] = take(&mut rest)?;
                u32::from(first & 0x7f) << 8 | u32::from(second)
            }
            255 => u32::from(u16::from_le_bytes(take(&mut rest)?)).saturating_add(0x7f00),
        };
        if count == 0 {
            append(out, &self.literals, max);
            return Some(());
        }
        let [modes] = take(&mut rest)?;
        let [lengths, offsets, matches] = &mut self.tables;
        Fse::choose(lengths, &LITERAL_LENGTH, modes >> 6, &mut rest)?;
        Fse::choose(offsets, &OFFSET, modes >> 4 & 3, &mut rest)?;
        Fse::choose(matches, &MATCH_LENGTH, modes >> 2 & 3, &mut rest)?;
        let (lengths, offsets, matches) = (lengths.as_ref()?, offsets.as_ref()?, matches.as_ref()?);

        let mut bits = Backward::new(rest)?;
        let mut length_state = lengths.begin(&mut bits)?;
        let mut offset_state = offsets.begin(&mut bits)?;
        let mut match_state = matches.begin(&mut bits)?;
        let mut literals = self.literals.as_slice();
        for at in 0..count {
            let offset_code = u32::from(offset_state.symbol);
            let offset = 1u64.checked_shl(offset_code)?.saturating_add(bits.read(offset_code)?);
            let length = extra(match_state.symbol, 32, 3, &MATCH_LENGTHS, &mut bits)?;
            let literal = extra(length_state.symbol, 16, 0, &LITERAL_LENGTHS, &mut bits)?;
            if at.saturating_add(1) < count {
                length_state = lengths.next(length_state, &mut bits)?;
                match_state = matches.next(match_state, &mut bits)?;
                offset_state = offsets.next(offset_state, &mut bits)?;
            }
            let distance = distance(&mut self.offsets, offset, literal == 0)?;

            let (copied, after) = literals.split_at_checked(literal)?;
            literals = after;
            append(out, copied, max);
            if out.len() >= max {
                return Some(());
            }
            if distance == 0 || distance > out.len() {
                return None;
            }
            repeat(out, distance, length, max);
        }
        if bits.left != 0 {
            return None;
        }
        append(out, literals, max);
        Some(())
    }
}

/// Value of a code: codes below `from` are themselves and `plus`, others have a baseline and extra bits.
fn extra(code: u8, from: u8, plus: usize, table: &[(u32, u32)], bits: &mut Backward<'_>) -> Option<usize> {
    let Some(at) = code.checked_sub(from) else { return Some(usize::from(code).saturating_add(plus)) };
    let (baseline, count) = *table.get(usize::from(at))?;
    usize::try_from(u64::from(baseline).saturating_add(bits.read(count)?)).ok()
}

/// The distance that an offset's value stands for, which may be one of the last three.
fn distance(last: &mut [u32; 3], value: u64, no_literals: bool) -> Option<usize> {
    let [first, second, third] = *last;
    let found = match value.saturating_add(u64::from(no_literals && value <= 3)) {
        _ if value > 3 => {
            let new = u32::try_from(value.saturating_sub(3)).ok()?;
            *last = [new, first, second];
            new
        }
        1 => first,
        2 => {
            *last = [second, first, third];
            second
        }
        3 => {
            *last = [third, first, second];
            third
        }
        _ => {
            let new = first.checked_sub(1)?;
            *last = [new, first, second];
            new
        }
    };
    usize::try_from(found).ok()
}

/// Bits that are read from the end of their bytes.
struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits not read yet; below zero when more were asked for than there are.
    left: isize,
}

impl<'a> Backward<'a> {
    /// Begins below the highest bit that is set, which marks the end.
    fn new(bytes: &'a [u8]) -> Option<Backward<'a>> {
        let last = bytes.last().filter(|byte| **byte != 0)?;
        let left = bytes.len().checked_mul(8)?.checked_sub(last.leading_zeros() as usize)?.checked_sub(1)?;
        Some(Backward { bytes, left: isize::try_from(left).ok()? })
    }

    /// The next `count` bits, at most 56, zeros where there are none, without moving on.
    fn peek(&self, count: u32) -> u64 {
        let count = count.min(56) as isize;
        let low = self.left.saturating_sub(count);
        let from = low.max(0) as usize;
        let bytes = self.bytes.get(from / 8..).unwrap_or_default();
        let value = match bytes.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)),
        };
        let present = self.left.clamp(0, count) as u32;
        let value = value >> (from % 8) & (1u64 << present).wrapping_sub(1);
        value << (count as u32).saturating_sub(present)
    }

    fn skip(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count as isize);
    }

    /// The next `count` bits; `None` when there are fewer.
    fn read(&mut self, count: u32) -> Option<u64> {
        let value = self.peek(count);
        self.skip(count);
        (self.left >= 0).then_some(value)
    }
}

/// A state of a table of Finite State Entropy.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    symbol: u8,
    bits: u8,
    base: u16,
}

/// A table of Finite State Entropy.
#[derive(Debug)]
struct Fse {
    accuracy: u32,
    states: Vec<State>,
}

impl Fse {
    /// The table that a mode of a sequences section stands for.
    fn choose(table: &mut Option<Fse>, kind: &Kind, mode: u8, rest: &mut &[u8]) -> Option<()> {
        match mode {
            0 => *table = Some(Fse::build(kind.default.0, kind.default.1)?),
            1 => {
                let [symbol] = take(rest)?;
                let states = vec![State { symbol, bits: 0, base: 0 }];
                *table = Some(Fse { accuracy: 0, states }).filter(|_| usize::from(symbol) < kind.symbols);
            }
            2 => *table = Some(Fse::read(rest, kind.accuracy, kind.symbols)?),
            // The last one again.
            _ => {}
        }
        table.is_some().then_some(())
    }

    /// Reads a table's description.
    fn read(rest: &mut &[u8], most: u32, symbols: usize) -> Option<Fse> {
        let bytes = *rest;
        let mut at = 0usize;
        let mut bits = |count: u32| {
            let value = forward(bytes, at, count);
            at = at.saturating_add(count as usize);
            (value, at)
        };
        let accuracy = bits(4).0.saturating_add(5);
        if accuracy > most {
            return None;
        }
        let mut probabilities: Vec<i16> = Vec::with_capacity(symbols);
        let mut remaining = 1i32 << accuracy;
        let mut end = 4;
        while remaining > 0 {
            if probabilities.len() >= symbols || end > bytes.len().saturating_mul(8) {
                return None;
            }
            // Values up to `remaining` and one; small ones take a bit less.
            let all = remaining.saturating_add(1);
            let count = 32u32.saturating_sub(all.leading_zeros());
            let short = count.saturating_sub(1);
            let (low, after) = bits(short);
            let threshold = (1u32 << count).saturating_sub(1).saturating_sub(all as u32);
            end = after;
            let value = if low < threshold {
                low
            } else {
                let (high, after) = bits(1);
                end = after;
                let value = high << short | low;
                if value >= 1 << short { value.saturating_sub(threshold) } else { value }
            };
            let probability = (value as i32).saturating_sub(1);
            remaining = remaining.saturating_sub(probability.abs());
            probabilities.push(i16::try_from(probability).ok()?);
            // How many more are 0, three at a time.
            let mut zeros = if probability == 0 { 3 } else { 0 };
            while zeros == 3 && probabilities.len() <= symbols {
                (zeros, end) = bits(2);
                probabilities.resize(probabilities.len().saturating_add(zeros as usize), 0);
            }
        }
        if remaining != 0 || probabilities.len() > symbols {
            return None;
        }
        *rest = rest.get(end.div_ceil(8)..)?;
        Fse::build(accuracy, &probabilities)
    }

    /// Makes a table of probabilities that add up to `1 << accuracy`; -1 stands for one less than 1.
    fn build(accuracy: u32, probabilities: &[i16]) -> Option<Fse> {
        let size = 1usize << accuracy;
        let mut states = vec![State::default(); size];
        let mut counts = [0u16; 256];
        let mut high = size;
        for (symbol, probability) in probabilities.iter().enumerate() {
            if *probability == -1 {
                high = high.checked_sub(1)?;
                states.get_mut(high)?.symbol = u8::try_from(symbol).ok()?;
                *counts.get_mut(symbol)? = 1;
            }
        }
        let step = (size >> 1).saturating_add(size >> 3).saturating_add(3);
        let mask = size.saturating_sub(1);
        let mut place = 0usize;
        for (symbol, probability) in probabilities.iter().enumerate() {
            let Some(count) = u16::try_from(*probability).ok().filter(|count| *count > 0) else { continue };
            *counts.get_mut(symbol)? = count;
            for _ in 0..count {
                states.get_mut(place)?.symbol = u8::try_from(symbol).ok()?;
                // The step is odd, so that all places come once; those at the end are taken.
                for _ in 0..size {
                    place = place.saturating_add(step) & mask;
                    if place < high {
                        break;
                    }
                }
            }
        }
        for state in &mut states {
            let count = counts.get_mut(usize::from(state.symbol))?;
            let next = *count;
            *count = count.saturating_add(1);
            let bits = accuracy.checked_sub(next.checked_ilog2()?)?;
            state.bits = u8::try_from(bits).ok()?;
            state.base = u16::try_from((usize::from(next) << bits).checked_sub(size)?).ok()?;
        }
        Some(Fse { accuracy, states })
    }

    fn begin(&self, bits: &mut Backward<'_>) -> Option<State> {
        self.states.get(usize::try_from(bits.read(self.accuracy)?).ok()?).copied()
    }

    fn next(&self, state: State, bits: &mut Backward<'_>) -> Option<State> {
        let more = bits.read(u32::from(state.bits))?;
        self.states.get(usize::from(state.base).saturating_add(usize::try_from(more).ok()?)).copied()
    }
}

/// `count` bits, at most 24, from bit `at`; zeros where there are none.
fn forward(bytes: &[u8], at: usize, count: u32) -> u32 {
    let bytes = bytes.get(at / 8..).unwrap_or_default();
    let value = bytes.iter().take(4).rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    value >> (at % 8) & (1u32 << count).wrapping_sub(1)
}

/// A table of Huffman codes: by the next bits, the symbol and how many of the bits are its code.
#[derive(Debug)]
struct Huffman {
    bits: u32,
    codes: Vec<(u8, u8)>,
}

impl Huffman {
    /// Reads a tree's description.
    fn read(rest: &mut &[u8]) -> Option<Huffman> {
        let [header] = take(rest)?;
        let mut weights = Vec::with_capacity(256);
        if header < 128 {
            let (mut bytes, after) = rest.split_at_checked(usize::from(header))?;
            *rest = after;
            let table = Fse::read(&mut bytes, 6, 256)?;
            let mut bits = Backward::new(bytes)?;
            let (mut now, mut then) = (table.begin(&mut bits)?, table.begin(&mut bits)?);
            // Two states take turns; the last symbol is of the one whose turn it would be when bits run out.
            while weights.len() < 255 {
                weights.push(now.symbol);
                let more = bits.read(u32::from(now.bits));
                let Some(more) = more else {
                    weights.push(then.symbol);
                    break;
                };
                let next = usize::from(now.base).saturating_add(usize::try_from(more).ok()?);
                (now, then) = (then, *table.states.get(next)?);
            }
        } else {
            let count = usize::from(header).saturating_sub(127);
            let (bytes, after) = rest.split_at_checked(count.div_ceil(2))?;
            *rest = after;
            weights.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(count));
        }
        Huffman::build(weights)
    }

    /// Makes a table of weights; that of the last symbol follows from the others.
    fn build(mut weights: Vec<u8>) -> Option<Huffman> {
        if weights.len() > 255 || weights.iter().any(|weight| u32::from(*weight) > HUFFMAN_BITS) {
            return None;
        }
        let share = |weight: u8| if weight == 0 { 0 } else { 1u32 << weight.saturating_sub(1) };
        let sum = weights.iter().fold(0u32, |sum, weight| sum.saturating_add(share(*weight)));
        let bits = sum.checked_ilog2()?.saturating_add(1);
        let left = (1u32 << bits).checked_sub(sum)?;
        if bits > HUFFMAN_BITS || !left.is_power_of_two() {
            return None;
        }
        weights.push(u8::try_from(left.ilog2().saturating_add(1)).ok()?);
        let mut codes = Vec::with_capacity(1 << bits);
        for wanted in 1..=bits.saturating_add(1) {
            let length = u8::try_from(bits.saturating_add(1).saturating_sub(wanted)).ok()?;
            for (symbol, weight) in
                weights.iter().enumerate().filter(|(_, weight)| u32::from(**weight) == wanted)
            {
                let symbol = u8::try_from(symbol).ok()?;
                codes.resize(codes.len().saturating_add(share(*weight) as usize), (symbol, length));
            }
        }
        (codes.len() == 1 << bits).then_some(Huffman { bits, codes })
    }

    /// Appends `count` symbols, which have to be all there are.
    fn decode(&self, stream: &[u8], count: usize, out: &mut Vec<u8>) -> Option<()> {
        let mut bits = Backward::new(stream)?;
        for _ in 0..count {
            let (symbol, length) = *self.codes.get(usize::try_from(bits.peek(self.bits)).ok()?)?;
            bits.skip(u32::from(length));
            if bits.left < 0 {
                return None;
            }
            out.push(symbol);
        }
        (bits.left == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz::{captured, hammer};

    /// [`text`], by `zstd -3 --no-check`: Huffman codes in four streams, tables of all kinds.
    const FRAME: &str = "\
        28b52ffd606206550800428b2520e0daa40dc24c3706fa83313ec318b841e6cb16d9bda9355849512bd40ab582fd2524\
        232221201fe5d1c1b1a191817161514131211101f1e0d0c0b0a09080706050403020100080f9f76c633a7f359f36f3f7\
        d1a3f38829f710cfa9df6f32d3e76aae9fa8297731d93ebdfb6df61faa9f2b7c2af7685bde54ba5af75d5636c5698936\
        10c451e954f4d22988252a33c9a09c68349994302000c341890e8039dbd9bcab39d86684d547e501ecd0e573a1511b10\
        86396a0e9963cc8168588ecb21348670cd5173d81c3707a321e518da7200058da001e688398c39fecc9cb51ec8a3181a\
        cb31641f6e0f6e7739c02142c41cc84c9ac64199237a3c0838802180d14336373ebadc04";

    fn text() -> Vec<u8> {
        let words = "one two three one two three four five one two";
        let lines = (0..40).map(|line| format!("{} {}", line * line * 7919 % 1000, &words[line % 9..]));
        let mut text = format!("MESSAGE={}", lines.collect::<Vec<_>>().join(" ")).into_bytes();
        text.extend(0..40);
        text
    }

    #[test]
    fn a_frame_is_decoded_as_far_as_asked_for() {
        let (frame, text) = (captured(FRAME), text());
        for max in (0..text.len() + 10).step_by(7) {
            let mut out = Vec::new();
            assert!(decode(&frame, max, &mut out));
            assert_eq!(out, text[..max.min(text.len())]);
        }
    }

    #[test]
    fn blocks_may_be_raw_or_one_byte_many_times() {
        let frame = [MAGIC, b"\x20\x06", b"\x18\0\0abc", b"\x1b\0\0d"].concat();
        let mut out = Vec::new();
        assert!(decode(&frame, 100, &mut out));
        assert_eq!(out, b"abcddd");
    }

    #[test]
    fn damage_ends_it() {
        let frame = captured(FRAME);
        for end in 0..frame.len() {
            assert!(!decode(&frame[..end], 1 << 20, &mut Vec::new()), "{end} bytes");
        }
        hammer(&frame, |bytes| {
            let mut out = Vec::new();
            decode(bytes, 4096, &mut out);
            assert!(out.len() <= 4096);
        });
    }
}
