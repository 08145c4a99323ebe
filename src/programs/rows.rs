//! Sums by label set: what a map's entries become once their keys are decoded. Keys that decode to the same labels add up.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::limits;
use crate::memory::{self, Use};
use crate::registry::hash;
use crate::sys::prefetch;
use crate::sys::text::append;

/// The labels of one row as they are built: each with its length in front, so that no two sets read alike.
#[derive(Debug, Default)]
pub struct RowLabels(Vec<u8>);

impl RowLabels {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends one label, whose text `write` appends to what it is given.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn push<T, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let at = self.0.len();
        // Two pushes, since a copy of two bytes would be a call.
        self.0.push(0);
        self.0.push(0);
        let result = write(&mut self.0)?;
        // Labels are cut long before this.
        let length = u16::try_from(self.0.len() - at - 2).unwrap_or(0);
        self.0.truncate(at + 2 + usize::from(length));
        self.0[at..at + 2].copy_from_slice(&length.to_le_bytes());
        Ok(result)
    }

    /// How much there is, to come back to with [`RowLabels::truncate`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when no label was pushed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes labels off again.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

/// Rows of label sets with `stride` numbers each.
#[derive(Debug)]
pub struct Rows {
    stride: usize,
    labels: usize,
    limit: usize,
    text: Vec<u8>,
    starts: Vec<Start>,
    values: Vec<u64>,
    /// The reading that is under way or was the last; its rows are those that are told.
    reading: u32,
    /// How many they are.
    live: usize,
    /// Open addressing: a row's number plus one below, a part of its hash above; 0 is free.
    slots: Vec<u64>,
    refused: u64,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    /// Where the row's labels begin in `text`.
    at: u32,
    /// The reading it was met in last.
    reading: u32,
}

impl Rows {
    /// No rows yet. Each will have `labels` labels and `stride` numbers; at most `limit` rows are kept.
    pub fn new(labels: usize, stride: usize, limit: u32) -> Rows {
        Rows {
            stride,
            labels,
            limit: limit as usize,
            text: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
            reading: 0,
            live: 0,
            slots: vec![0; 16],
            refused: 0,
            seed: RandomState::new().build_hasher().finish(),
        }
    }

    /// Begins a new reading, with no row. Those of the last one have their places still: when memory is short, it is new ones
    /// that find none.
    pub fn begin(&mut self) {
        if (self.starts.len() - self.live) * 4 > self.starts.len() {
            self.keep(|start, _, reading| start.reading == reading);
        }
        self.values.fill(0);
        (self.live, self.refused) = (0, 0);
        self.reading = self.reading.wrapping_add(1);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Label sets that found no place since this was asked last or a reading began, counted each time one was met.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The numbers of the row with these labels, zeros if it is new; `None` when there are too many rows.
    pub fn row(&mut self, labels: &RowLabels) -> Option<&mut [u64]> {
        let hash = self.expect(labels);
        self.row_of(hash, labels)
    }

    /// Gives the labels' hash and has their place fetched from memory: whoever has other things to do in the meantime asks
    /// [`Rows::row_of`] later.
    pub fn expect(&mut self, labels: &RowLabels) -> u64 {
        // Room for one more than is asked for: another may be expected before this one comes.
        if (self.starts.len() + 2) * 4 > self.slots.len() * 3 {
            self.place(self.slots.len() * 2, |row| row);
        }
        let hash = hash(&labels.0, self.seed, self.seed);
        prefetch(&self.slots[(hash >> 32) as usize & (self.slots.len() - 1)]);
        hash
    }

    /// [`Rows::row`] for labels whose hash is known.
    pub fn row_of(&mut self, hash: u64, labels: &RowLabels) -> Option<&mut [u64]> {
        let key = &labels.0;
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        let row = loop {
            let slot = self.slots[at];
            if slot == 0 {
                let is_full = self.live >= self.limit || self.text.len() + key.len() > u32::MAX as usize;
                if is_full || !memory::admits(Use::Keys) {
                    self.refused += 1;
                    return None;
                }
                let row = self.starts.len();
                self.slots[at] = hash & !0xffff_ffff | (row as u64 + 1);
                self.starts.push(Start { at: self.text.len() as u32, reading: self.reading });
                self.live += 1;
                append(&mut self.text, key);
                (0..self.stride).for_each(|_| self.values.push(0));
                break row;
            }
            let row = (slot as u32 - 1) as usize;
            // The lengths inside say where a row ends, so a start that is equal is the whole.
            let start = &mut self.starts[row];
            if slot >> 32 == hash >> 32 && self.text[start.at as usize..].starts_with(key) {
                if start.reading != self.reading {
                    if self.live >= self.limit {
                        self.refused += 1;
                        return None;
                    }
                    start.reading = self.reading;
                    self.live += 1;
                }
                break row;
            }
            at = (at + 1) & mask;
        };
        self.values.get_mut(row * self.stride..(row + 1) * self.stride)
    }

    /// Hands every row's labels and numbers to `each`; label number `n` at `places[n]`.
    pub fn for_each(&self, places: &[usize], mut each: impl FnMut(&[&str], &[u64])) {
        let mut labels = vec![""; self.labels];
        let met = self.starts.iter().enumerate().filter(|(_, start)| start.reading == self.reading);
        for (row, start) in met {
            let mut rest = &self.text[start.at as usize..];
            for &place in &places[..self.labels] {
                let Some((length, behind)) = rest.split_first_chunk() else { break };
                let (label, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)));
                labels[place] = std::str::from_utf8(label).unwrap_or("");
                rest = behind;
            }
            each(&labels, &self.values[row * self.stride..(row + 1) * self.stride]);
        }
    }

    /// Keeps the rows of the last reading for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u64]) -> bool) {
        if self.live < self.starts.len() || !self.values.chunks_exact(self.stride).all(&mut keep) {
            self.keep(|start, values, reading| start.reading == reading && keep(values));
            self.live = self.starts.len();
        }
    }

    /// Moves the rows that stay together. It takes in nothing, so it asks for no memory; much that nobody uses then is given
    /// back.
    fn keep(&mut self, mut stays: impl FnMut(Start, &[u64], u32) -> bool) {
        // By the old number of a row: its new one plus one, as in slots.
        let mut numbers = vec![0u32; self.starts.len()];
        let (mut kept, mut bytes) = (0, 0);
        for (row, number) in numbers.iter_mut().enumerate() {
            let (start, values) = (self.starts[row], row * self.stride..(row + 1) * self.stride);
            if !stays(start, &self.values[values.clone()], self.reading) {
                continue;
            }
            let end = self.starts.get(row + 1).map_or(self.text.len(), |next| next.at as usize);
            self.text.copy_within(start.at as usize..end, bytes);
            self.starts[kept] = Start { at: bytes as u32, ..start };
            self.values.copy_within(values, kept * self.stride);
            bytes += end - start.at as usize;
            kept += 1;
            *number = kept as u32;
        }
        self.text.truncate(bytes);
        self.starts.truncate(kept);
        self.values.truncate(kept * self.stride);
        let mut size = self.slots.len();
        if size > 1024 && kept * 8 < size {
            size = (kept * 2).next_power_of_two().max(16);
            self.text.shrink_to_fit();
            self.starts.shrink_to_fit();
            self.values.shrink_to_fit();
        }
        self.place(size, |row| numbers[row as usize - 1]);
    }

    /// Makes `size` slots, in which rows have the numbers that `number` gives for theirs; 0 has none.
    fn place(&mut self, size: usize, number: impl Fn(u32) -> u32) {
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let row = number(slot as u32);
            if row == 0 {
                continue;
            }
            let mut at = (slot >> 32) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot & !0xffff_ffff | u64::from(row);
        }
    }
}

const _: () = assert!(limits::LABEL_BYTES < u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn add(rows: &mut Rows, labels: &[&str], value: u64) -> bool {
        let mut built = RowLabels::default();
        for label in labels {
            let pushed = built.push(|out| {
                out.extend_from_slice(label.as_bytes());
                Ok::<_, ()>(())
            });
            pushed.unwrap();
        }
        rows.row(&built).map(|row| row[0] += value).is_some()
    }

    fn all(rows: &Rows) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        rows.for_each(&[0, 1], |labels, values| all.push((labels.join("|"), values[0])));
        all.sort();
        all
    }

    #[test]
    fn equal_labels_add_up_and_borders_count() {
        let mut rows = Rows::new(2, 1, 100);
        for _ in 0..2 {
            assert!(add(&mut rows, &["ab", "c"], 1));
            assert!(add(&mut rows, &["a", "bc"], 2));
            assert!(add(&mut rows, &["ab", "c"], 4));
            assert_eq!(all(&rows), [("ab|c".to_owned(), 5), ("a|bc".to_owned(), 2)]);
            rows.begin();
        }
    }

    #[test]
    fn beyond_the_limit_old_rows_still_count() {
        let mut rows = Rows::new(1, 1, 3);
        for label in ["a", "b", "c", "d", "a", "e"] {
            add(&mut rows, &[label], 1);
        }
        assert_eq!((rows.len(), rows.take_refused(), rows.take_refused()), (3, 2, 0));
        assert_eq!(all(&rows)[0], ("a".to_owned(), 2));
    }

    #[test]
    fn many_rows_stay_apart_and_some_can_go() {
        let mut rows = Rows::new(1, 1, 100_000);
        for round in 0..2 {
            for label in 0..20_000 {
                assert!(add(&mut rows, &[&label.to_string()], round + label));
            }
        }
        assert_eq!(rows.len(), 20_000);
        rows.retain(|values| values[0] % 2 == 1 && values[0] < 101);
        assert_eq!(rows.len(), 50);
        assert!(all(&rows).iter().all(|(label, value)| label.parse::<u64>().unwrap() * 2 + 1 == *value));
        rows.begin();
        assert!(rows.is_empty() && all(&rows).is_empty());
    }

    #[test]
    fn rows_of_the_last_reading_have_their_places() {
        let mut rows = Rows::new(1, 1, 5);
        // Each reading has some of the last one's rows, and more of them than there may be at once.
        for reading in 0..50u64 {
            rows.begin();
            for label in reading..reading + 5 {
                assert!(add(&mut rows, &[&label.to_string()], 1) && add(&mut rows, &[&label.to_string()], 1));
            }
            assert!(!add(&mut rows, &["more"], 1));
            assert_eq!((rows.len(), rows.take_refused()), (5, 1));
            let mut expected: Vec<_> = (reading..reading + 5).map(|label| (label.to_string(), 2)).collect();
            expected.sort();
            assert_eq!(all(&rows), expected);
            assert!(rows.starts.len() <= 8, "{}", rows.starts.len());
        }
        // Rows that are not met are not among those of this reading, and are no rows of it.
        rows.begin();
        assert!(add(&mut rows, &["52"], 3));
        assert_eq!((rows.len(), all(&rows)), (1, vec![("52".to_owned(), 3)]));
        rows.retain(|_| true);
        assert_eq!((rows.len(), rows.starts.len()), (1, 1));
    }
}
