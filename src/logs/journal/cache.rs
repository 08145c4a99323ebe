//! What is kept of files that were read: some pages, and small DATA objects that many entries share.
//!
//! One cache for all files: they are read in turn, and its size does not grow with their number.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::record::{Field, Record};

/// Bytes of a page.
const PAGE: usize = 4096;
/// Pages kept: those of one entry, and of the array it stands in, with room for fields that are far away.
const PAGES: usize = 24;
/// DATA objects kept. Each takes at most 48 bytes and its value.
const OBJECTS: usize = 1024;
/// Longest `NAME=value` that is kept; longer ones hardly repeat.
const OBJECT_BYTES: usize = 256;

/// Bytes with an address: a file, or in tests a slice.
pub trait ReadAt {
    /// Reads at most `buffer` from `offset`; 0 at the end.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

/// A page of a file.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// The file's key; 0 for an unused page.
    key: u32,
    number: u64,
    length: usize,
    /// When it was last used.
    used: u64,
}

/// A DATA object.
#[derive(Debug, Clone, Default)]
struct Kept {
    key: u32,
    offset: u64,
    field: Option<Field>,
    /// Empty for a field that is not wanted.
    payload: Box<[u8]>,
}

/// Pages, objects, and the buffers that reading takes.
#[derive(Debug)]
pub struct Cache {
    pages: [Page; PAGES],
    bytes: Vec<u8>,
    clock: u64,
    latest: usize,
    objects: Vec<Kept>,
    keys: u32,
    preads: u64,
    pub(super) record: Record,
    pub(super) items: Vec<u8>,
    pub(super) raw: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new()
    }
}

impl Cache {
    /// An empty cache.
    pub fn new() -> Cache {
        Cache {
            pages: [Page::default(); PAGES],
            bytes: vec![0; PAGE * PAGES],
            clock: 0,
            latest: 0,
            objects: vec![Kept::default(); OBJECTS],
            keys: 0,
            preads: 0,
            record: Record::default(),
            items: Vec::new(),
            raw: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A key for a file that was opened; no other file has had it.
    pub fn key(&mut self) -> u32 {
        self.keys = self.keys.wrapping_add(1).max(1);
        self.keys
    }

    /// How often a file was read from since the start.
    pub fn preads(&self) -> u64 {
        self.preads
    }

    /// Bytes that are allocated.
    pub fn size(&self) -> usize {
        let kept = self.objects.capacity() * size_of::<Kept>();
        let payloads: usize = self.objects.iter().map(|kept| kept.payload.len()).sum();
        self.bytes.len()
            + kept
            + payloads
            + self.items.capacity()
            + self.raw.capacity()
            + self.payload.capacity()
    }

    /// Forgets the pages of a file, which has grown since. Objects stay: they do not change once they are linked.
    pub(super) fn forget_pages(&mut self, key: u32) {
        for page in &mut self.pages {
            if page.key == key {
                page.key = 0;
            }
        }
    }

    /// Reads past the pages, which may be older than what is asked for.
    pub(super) fn read_fresh(
        &mut self,
        source: &dyn ReadAt,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.preads += 1;
        source.read_at(buffer, offset)
    }

    /// Puts bytes from `offset` into `buffer`; fewer at the end of the file.
    pub(super) fn read(
        &mut self,
        source: &dyn ReadAt,
        key: u32,
        mut offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            if rest.len() >= PAGE {
                let length = self.read_fresh(source, rest, offset)?;
                if length == 0 {
                    break;
                }
                done += length;
                offset += length as u64;
                continue;
            }
            let page = self.page(source, key, offset / PAGE as u64)?;
            let page = page.get((offset % PAGE as u64) as usize..).unwrap_or_default();
            let length = page.len().min(rest.len());
            if length == 0 {
                break;
            }
            rest[..length].copy_from_slice(&page[..length]);
            done += length;
            offset += length as u64;
        }
        Ok(done)
    }

    fn page(&mut self, source: &dyn ReadAt, key: u32, number: u64) -> io::Result<&[u8]> {
        self.clock += 1;
        let is = |page: &Page| page.key == key && page.number == number;
        let place = if is(&self.pages[self.latest]) {
            self.latest
        } else if let Some(place) = self.pages.iter().position(is) {
            place
        } else {
            let oldest = self
                .pages
                .iter()
                .enumerate()
                .min_by_key(|(_, page)| if page.key == 0 { 0 } else { page.used });
            let place = oldest.map_or(0, |(place, _)| place);
            self.pages[place].key = 0;
            self.preads += 1;
            let length = source
                .read_at(&mut self.bytes[place * PAGE..][..PAGE], number.saturating_mul(PAGE as u64))?;
            self.pages[place] = Page { key, number, length, used: 0 };
            place
        };
        self.latest = place;
        self.pages[place].used = self.clock;
        Ok(&self.bytes[place * PAGE..][..self.pages[place].length])
    }

    fn place(key: u32, offset: u64) -> usize {
        let mixed = ((offset / 8) ^ (u64::from(key) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % OBJECTS
    }

    /// Adds a kept object to the record; false if it is not kept.
    pub(super) fn push_kept(&mut self, key: u32, offset: u64) -> bool {
        let kept = &self.objects[Cache::place(key, offset)];
        if kept.key != key || kept.offset != offset {
            return false;
        }
        if kept.field.is_some() {
            self.record.push(kept.field, &kept.payload);
        }
        true
    }

    /// Keeps the DATA object at `offset`: the payload of a wanted field, or that it is none.
    pub(super) fn keep(&mut self, key: u32, offset: u64, field: Option<Field>, payload: &[u8]) {
        if payload.len() <= OBJECT_BYTES {
            let payload = if field.is_some() { payload.into() } else { Box::default() };
            self.objects[Cache::place(key, offset)] = Kept { key, offset, field, payload };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_once_until_forgotten() {
        let mut cache = Cache::new();
        let file: Vec<u8> = (0..PAGE * 30 + 10).map(|at| (at / 7) as u8).collect();
        let key = cache.key();
        let mut buffer = vec![0; 100];
        for _ in 0..2 {
            for offset in [0, 50, PAGE - 1, PAGE * 3 - 50, PAGE * 30 - 90] {
                assert_eq!(cache.read(&file, key, offset as u64, &mut buffer).unwrap(), 100);
                assert_eq!(buffer, file[offset..offset + 100]);
            }
        }
        assert_eq!(cache.preads(), 6);
        assert_eq!(cache.read(&file, key, PAGE as u64 * 30, &mut buffer).unwrap(), 10, "the end");
        assert_eq!(cache.read(&file, key, PAGE as u64 * 31, &mut buffer).unwrap(), 0);
        assert_eq!(cache.read(&file, key, u64::MAX - 1, &mut buffer).unwrap(), 0);
        let mut large = vec![0; PAGE * 3];
        assert_eq!(cache.read(&file, key, 5, &mut large).unwrap(), PAGE * 3);
        assert_eq!(large, file[5..PAGE * 3 + 5]);
        let before = cache.preads();
        cache.forget_pages(key);
        cache.read(&file, key, 0, &mut buffer).unwrap();
        assert_eq!(cache.preads(), before + 1);
    }

    #[test]
    fn objects_belong_to_a_file() {
        let mut cache = Cache::new();
        let (one, two) = (cache.key(), cache.key());
        cache.keep(one, 4096, Some(Field::Pid), b"_PID=1");
        cache.keep(two, 8192, None, b"OTHER=1");
        assert!(cache.push_kept(one, 4096));
        assert_eq!(cache.record.field(Field::Pid), Some(&b"1"[..]));
        assert!(cache.push_kept(two, 8192));
        assert_eq!(cache.record.fields().count(), 1, "an unwanted field is known and not handed on");
        assert!(!cache.push_kept(two, 4096) && !cache.push_kept(one, 8192));
        cache.keep(one, 16, Some(Field::Message), &[b'x'; OBJECT_BYTES + 1]);
        assert!(!cache.push_kept(one, 16), "too long");
    }
}
