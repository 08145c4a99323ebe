//! What a costly decoder said of its inputs in the last refresh: bounded, and forgetting those that are gone.

use std::collections::HashMap;

use crate::limits;
use crate::memory::{self, Use};

/// What an entry takes beside its bytes.
const ENTRY: usize = 96;

/// Answers by the bytes of the input.
#[derive(Default)]
pub struct Cache {
    answers: HashMap<Box<[u8]>, Remembered>,
    /// What it takes, to be kept below the bound.
    bytes: usize,
    /// The refresh that is running.
    generation: u32,
    /// Which state of the tables the answers are from.
    version: u32,
}

struct Remembered {
    /// The refresh that asked last.
    generation: u32,
    /// Label text; `None`: the key is left out.
    text: Option<Box<[u8]>>,
}

impl Cache {
    /// A refresh begins.
    pub fn begin(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// A refresh is over: what it did not ask for is no key any more.
    pub fn end(&mut self) {
        let Cache { answers, bytes, generation, .. } = self;
        answers.retain(|key, answer| {
            let stays = answer.generation == *generation;
            if !stays {
                *bytes = bytes.saturating_sub(answer.size(key));
            }
            stays
        });
        if answers.capacity() > 1024 && answers.len() < answers.capacity() / 4 {
            answers.shrink_to_fit();
        }
    }

    /// Forgets everything unless it is from this `version` of the tables.
    pub fn of_version(&mut self, version: u32) {
        if self.version != version {
            self.answers.clear();
            (self.bytes, self.version) = (0, version);
        }
    }

    /// The answer for `key`, if there is one; an inner `None` leaves the key out.
    pub fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        let answer = self.answers.get_mut(key)?;
        answer.generation = self.generation;
        Some(answer.text.as_deref())
    }

    /// Remembers an answer, if there is room; for a new key also if there is memory for what it is needed for.
    pub fn put(&mut self, key: &[u8], text: Option<&[u8]>, needed: Use) {
        let answer = Remembered { generation: self.generation, text: text.map(Box::from) };
        let size = answer.size(key);
        let old = self.answers.get_mut(key);
        let others = self.bytes - old.as_ref().map_or(0, |old| old.size(key));
        if others + size > limits::DECODED_BYTES {
            return;
        }
        match old {
            Some(old) => *old = answer,
            None if memory::admits(needed) => drop(self.answers.insert(key.into(), answer)),
            None => return,
        }
        self.bytes = others + size;
    }
}

impl Remembered {
    fn size(&self, key: &[u8]) -> usize {
        ENTRY + key.len() + self.text.as_ref().map_or(0, |text| text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_asks_for_are_forgotten() {
        let mut cache = Cache::default();
        cache.begin();
        assert_eq!(cache.get(b"a"), None);
        cache.put(b"a", Some(b"text"), Use::Patterns);
        cache.put(b"b", None, Use::Patterns);
        cache.end();
        cache.begin();
        assert_eq!(cache.get(b"a"), Some(Some(&b"text"[..])));
        cache.end();
        assert_eq!((cache.answers.len(), cache.bytes), (1, ENTRY + 5));
        cache.begin();
        assert_eq!(cache.get(b"b"), None);
        cache.of_version(1);
        assert_eq!(cache.get(b"a"), None, "the tables are other ones");
        cache.end();
        assert_eq!((cache.answers.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn it_is_bounded() {
        let mut cache = Cache::default();
        cache.begin();
        for number in 0..200_000u32 {
            cache.put(&number.to_ne_bytes(), Some(b"text"), Use::Patterns);
            cache.put(&number.to_ne_bytes(), Some(b"text"), Use::Patterns);
        }
        let size = ENTRY + 8;
        assert!(cache.bytes <= limits::DECODED_BYTES && cache.bytes > limits::DECODED_BYTES - size);
        assert_eq!(cache.bytes, cache.answers.len() * size);
        cache.put(&[0; 9_000_000], None, Use::Patterns);
        assert_eq!(cache.bytes, cache.answers.len() * size);
    }
}
