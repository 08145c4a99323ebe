//! Which cgroups a process was in when it ended: from `bpf/exits.bpf.c`.

use crate::containers::hierarchies::Place;
use crate::containers::owners::CgroupIds;
use crate::error::{Context, Result};
use crate::sys::bpf::{Links, Map, Object, Ring};

/// `struct ended` of `bpf/exits.bpf.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Where it was.
    pub ids: CgroupIds,
    /// The process.
    pub process: u32,
    /// The thread that exited.
    pub thread: u32,
    /// Whether it looked like the last one.
    pub is_last: bool,
    /// Whether its process had others, so that what it has waited comes as a sum of its own.
    pub has_sum: bool,
}

impl Ended {
    fn decode(data: &[u8]) -> Option<Ended> {
        let (words, rest) = data.split_first_chunk::<32>()?;
        let mut ids = [0; Place::ALL.len()];
        for (id, word) in ids.iter_mut().zip(words.as_chunks::<8>().0) {
            *id = u64::from_ne_bytes(*word);
        }
        let (process, rest) = rest.split_first_chunk()?;
        let (thread, rest) = rest.split_first_chunk()?;
        let (is_last, rest) = rest.split_first_chunk()?;
        let has_sum = rest.first_chunk()?;
        let word = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes);
        let (is_last, has_sum) = (word(is_last) != 0, word(has_sum) != 0);
        Some(Ended { ids, process: word(process), thread: word(thread), is_last, has_sum })
    }
}

/// The program, attached.
pub struct Owners {
    ring: Ring,
    records: Map,
    _links: Links,
}

impl Owners {
    /// Loads and attaches the program. `tells_threads`: also of threads that are not the last of their process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(tells_threads: bool) -> Result<Owners> {
        static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/exits.bpf.o.gz"));
        let mut object = Object::open("exits", OBJECT)?;
        object.set_constants(&u32::from(tells_threads).to_ne_bytes())?;
        let loaded = object.load().context("exits.bpf.c")?;
        let records = loaded.map("records")?;
        let ring = Ring::open(&records)?;
        let links = loaded.attach().context("exits.bpf.c")?;
        Ok(Owners { ring, records, _links: links })
    }

    /// Hands up to `max` records to `each`; gives how many.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(Ended)) -> usize {
        self.ring.consume(max, |data| {
            if let Some(ended) = Ended::decode(data) {
                each(ended);
            }
        })
    }

    /// The map it keeps in the kernel.
    pub fn map(&self) -> &Map {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_bytes_decode_or_do_not() {
        let mut data = Vec::new();
        for id in 1..=4u64 {
            data.extend_from_slice(&id.to_ne_bytes());
        }
        for word in [10u32, 11, 1, 1] {
            data.extend_from_slice(&word.to_ne_bytes());
        }
        let ended = Ended { ids: [1, 2, 3, 4], process: 10, thread: 11, is_last: true, has_sum: true };
        assert_eq!(Ended::decode(&data), Some(ended));
        for length in 0..data.len() {
            assert_eq!(Ended::decode(&data[..length]), None);
        }
    }
}
