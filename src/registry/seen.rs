//! Which label sets a family has, found by hash.

use crate::sys::prefetch;

/// Where a series belongs.
pub(super) enum Place {
    /// Behind the others.
    New,
    /// Into the series that starts at this offset.
    Again(u32),
    /// Nowhere: it is new, and the family is at its cap.
    Refused,
}

/// Which label sets a family has: open addressing over offsets into the family's own text.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Hash in the upper half, offset of the line plus one in the lower; 0 is free.
    slots: Vec<u64>,
    used: usize,
    /// Slots that were needed last time, when they were many.
    expected: usize,
}

impl Seen {
    /// Makes room for one more series, whose hash is `hash`, and has its place in the table fetched.
    pub(super) fn expect(&mut self, hash: u64) {
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow(self.expected.max(16));
        }
        let mask = self.slots.len() - 1;
        prefetch(&self.slots[(hash >> 32) as usize & mask]);
    }

    /// Looks for the expected series, which starts at `start` and is the end of `text` so far; notes it if it is new and not
    /// `full`.
    pub(super) fn insert(&mut self, text: &[u8], start: usize, hash: u64, full: bool) -> Place {
        let key = &text[start..];
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                if full {
                    return Place::Refused;
                }
                self.slots[at] = (hash & !0xffff_ffff) | (start as u64 + 1);
                self.used += 1;
                return Place::New;
            }
            let other = (slot as u32 - 1) as usize;
            if slot >> 32 == hash >> 32 && text[other..start].starts_with(key) {
                return Place::Again(other as u32);
            }
            at = (at + 1) & mask;
        }
    }

    /// Where the series is whose line begins with `key`, if there is one; it has not been expected.
    pub(super) fn find(&self, text: &[u8], key: &[u8], hash: u64) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let slot = self.slots[at];
            let start = (slot as u32).checked_sub(1)?;
            if slot >> 32 == hash >> 32 && text[start as usize..].starts_with(key) {
                return Some(start);
            }
            at = (at + 1) & mask;
        }
    }

    /// Doubles the table, or gives it `least` slots. The hashes in the slots say where they go: the text is not looked at.
    fn grow(&mut self, least: usize) {
        let size = (self.slots.len() * 2).max(least);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let mut at = (slot >> 32) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }

    /// Forgets all series. A large table is freed; `expected` has its size for the next scrape.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        if self.slots.len() > 1024 {
            self.expected = self.slots.len();
            self.slots = Vec::new();
        } else {
            self.slots.fill(0);
        }
    }
}

/// Mixes `part` into `state`, sixteen bytes and a multiplication a step. Seeded, because label values come from outside: a
/// container's name must not be able to choose its slot.
#[inline]
pub(crate) fn hash(part: &[u8], mut state: u64, seed: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    // The length keeps ("ab", "c") apart from ("a", "bc").
    let other = (seed ^ part.len() as u64).wrapping_mul(FACTOR);
    let step = |state: u64, low: u64, high: u64| {
        let product = u128::from(low ^ state) * u128::from(high ^ other);
        (product >> 64) as u64 ^ product as u64
    };
    let halves = |bytes: &[u8; 16]| {
        let both = u128::from_le_bytes(*bytes);
        (both as u64, (both >> 64) as u64)
    };
    // The last two words may overlap, with each other or with the step before them.
    let (low, high) = if let Some(last) = part.last_chunk::<16>() {
        for bytes in part[..part.len() - 1].as_chunks::<16>().0 {
            let (low, high) = halves(bytes);
            state = step(state, low, high);
        }
        halves(last)
    } else if let (Some(first), Some(last)) = (part.first_chunk(), part.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (part.first_chunk(), part.last_chunk()) {
        (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
    } else {
        (part.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0)
    };
    step(state, low, high)
}
