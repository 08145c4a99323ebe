//! Hash tables of the patterns: open addressing over hashes that are good already, small at first, doubled when three quarters
//! full, up to a bound. No entry is ever removed alone, so a probe ends at the first free slot.

use super::HOLE_MEMBERS;

/// Slots of a table that holds something.
const LEAST: usize = 16;

/// What a table has in its slots.
pub trait Entry: Copy + Default {
    /// Its hash; 0 if the slot is free.
    fn key(&self) -> u64;
}

/// A table of entries.
#[derive(Debug, Default)]
pub struct Table<E> {
    slots: Vec<E>,
    used: usize,
}

impl<E: Entry> Table<E> {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<E>()
    }

    /// The entry with this key.
    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<&E> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = key as usize;
        loop {
            // An empty table has no slot at all.
            let entry = self.slots.get(at & mask)?;
            if entry.key() == key {
                return Some(entry);
            }
            if entry.key() == 0 {
                return None;
            }
            at += 1;
        }
    }

    /// The entry with this key, to be changed but for its key.
    pub fn find_mut(&mut self, key: u64) -> Option<&mut E> {
        let at = self.place(key)?;
        self.slots.get_mut(at).filter(|entry| entry.key() == key)
    }

    /// Adds an entry whose key, not 0, is not there; false if there are `most` already.
    pub fn insert(&mut self, entry: E, most: usize) -> bool {
        if self.used >= most {
            return false;
        }
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let bigger = vec![E::default(); (self.slots.len() * 2).max(LEAST)];
            for old in std::mem::replace(&mut self.slots, bigger) {
                if old.key() != 0 {
                    self.put(old);
                }
            }
        }
        self.put(entry);
        self.used += 1;
        true
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &E> {
        self.slots.iter().filter(|entry| entry.key() != 0)
    }

    /// The same, to be changed but for their keys.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.slots.iter_mut().filter(|entry| entry.key() != 0)
    }

    fn place(&self, key: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = key as usize & mask;
        while self.slots[at].key() != key && self.slots[at].key() != 0 {
            at = (at + 1) & mask;
        }
        Some(at)
    }

    fn put(&mut self, entry: E) {
        if let Some(at) = self.place(entry.key()) {
            self.slots[at] = entry;
        }
    }
}

/// A signature that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// The hash of its tokens.
    pub hash: u64,
    /// Its pattern, as an index of roots.
    pub root: u32,
    /// Its own number.
    pub node: u32,
}

impl Entry for Known {
    #[inline(always)]
    fn key(&self) -> u64 {
        self.hash
    }
}

/// A signature with one token left out, and who has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hole {
    /// The hash of its tokens, with the hole.
    pub hash: u64,
    /// Nodes that have it, while it is closed; an open one has the node of the folded pattern first.
    pub members: [u16; HOLE_MEMBERS],
    /// How many they are.
    pub count: u8,
    /// Whether one of them has a wildcard in the hole.
    pub wild: bool,
    /// Whether its members have been folded: whoever comes is folded at once.
    pub open: bool,
}

impl Entry for Hole {
    #[inline(always)]
    fn key(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_again_up_to_the_bound() {
        let mut table = Table::<Known>::default();
        assert!(table.find(7).is_none() && table.find_mut(7).is_none());
        for number in 1..=1000u32 {
            // Many keys for one slot.
            let hash = u64::from(number) << 8;
            assert!(table.insert(Known { hash, root: number, node: 0 }, 1000));
        }
        assert!(!table.insert(Known { hash: 1, root: 1, node: 0 }, 1000));
        assert_eq!(table.find(500 << 8).map(|known| known.root), Some(500));
        assert!(table.find(1).is_none());
        assert_eq!(table.entries().count(), 1000);
    }
}
