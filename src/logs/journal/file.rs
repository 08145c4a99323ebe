//! One journal file, entry after entry, from a position that can be kept.
//!
//! The chain of entry arrays that begins in the header names all entries in their order. Offsets in it only grow, and so do those
//! of the arrays: whatever does not is damage. So reading ends, and no entry comes twice. Damage costs the entries it is in;
//! damage of an array's head costs all behind it.

use std::io;

use super::cache::{Cache, ReadAt};
use super::format::{
    self, ARRAY_BYTES, ENTRY_BYTES, EntryHead, FormatError, HEADER_BYTES, Header, Id, Object, State,
};
use super::payload::{self, Outcome};
use super::record::{Field, LONGEST_NAME, Record, Wanted};

/// Bytes of a field that are read; journald itself takes 768 MiB, for core dumps of long ago.
pub const FIELD_LIMIT: usize = 768 * 1024;
/// Bytes of all fields of an entry together.
pub const RECORD_LIMIT: usize = 2 * 1024 * 1024;
/// Fields of an entry that are looked at: `ENTRY_FIELD_COUNT_MAX` of journald.
pub const ITEMS: usize = 1024;

/// How much may be done in one call. What is done is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Entries, damaged ones among them.
    pub entries: u64,
    /// Bytes of objects and of what is decompressed. The last entry may take it below zero, by at most [`RECORD_LIMIT`] and a bit.
    pub bytes: u64,
}

impl Budget {
    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The budget is spent.
    More,
    /// All entries that the header knew of were read.
    End,
    /// The chain of arrays leads nowhere. In a file that is being written this may pass.
    Broken,
}

/// A place in a file: what lies before it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The file, whatever its name.
    pub file_id: Id,
    /// The numbering of `seqnum`.
    pub seqnum_id: Id,
    /// Entries of the chain that have been read, or were before the first one wanted.
    pub entries: u64,
    /// Number of the last entry that was read; 0 if none was.
    pub seqnum: u64,
}

/// What went wrong since the file was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Entries that could not be read.
    pub entries: u64,
    /// Fields of other entries that could not be read.
    pub fields: u64,
    /// Fields that were cut or left out because they are too long.
    pub cut: u64,
}

/// An array of the chain.
#[derive(Debug, Clone, Copy, Default)]
struct Array {
    /// 0: none yet.
    offset: u64,
    /// Entries in the arrays before it.
    before: u64,
    slots: u64,
}

/// A journal file that is read.
#[derive(Debug)]
pub struct JournalFile<S> {
    source: S,
    key: u32,
    header: Header,
    array: Array,
    index: u64,
    seqnum: u64,
    last: u64,
    damage: Damage,
}

/// An entry, or an array, that is not what it has to be.
enum Bad {
    Entry,
    Chain,
    Io(io::Error),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Bad {
        Bad::Io(error)
    }
}

impl<S: ReadAt> JournalFile<S> {
    /// Reads the header of `source` and stands before its first entry.
    ///
    /// # Errors
    /// Those of reading, and [`FormatError`] as `InvalidData` when it is no journal, or none that can be read here.
    pub fn open(source: S, cache: &mut Cache) -> io::Result<JournalFile<S>> {
        let header = read_header(&source, cache)?;
        let key = cache.key();
        let array = Array::default();
        Ok(JournalFile {
            source,
            key,
            header,
            array,
            index: 0,
            seqnum: 0,
            last: 0,
            damage: Damage::default(),
        })
    }

    /// The header as it was read last.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file itself.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// What has been read.
    pub fn position(&self) -> Position {
        Position {
            file_id: self.header.file_id,
            seqnum_id: self.header.seqnum_id,
            entries: self.index,
            seqnum: self.seqnum,
        }
    }

    /// What could not be read so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Goes behind the last entry.
    pub fn seek_end(&mut self) {
        self.seek(self.header.entries);
        self.seqnum = self.header.tail_seqnum;
    }

    /// Goes on where another reader of the same file was. False, and nothing happens, when `position` is one of another file.
    pub fn restore(&mut self, position: &Position) -> bool {
        let is_same = position.file_id == self.header.file_id;
        if is_same {
            // After a crash of the machine the file may have fewer entries than were read.
            self.seek(position.entries.min(self.header.entries));
            self.seqnum = position.seqnum;
        }
        is_same
    }

    /// Goes before entry `index` of the chain.
    pub fn seek(&mut self, index: u64) {
        (self.array, self.index, self.last) = (Array::default(), index, 0);
    }

    /// Leaves out the next entry, which cannot be read.
    pub fn skip(&mut self) {
        self.index += 1;
        self.damage.entries += 1;
    }

    /// Whether the writer has archived the file and all of it was read.
    pub fn is_finished(&self) -> bool {
        self.header.state == State::Archived && self.index >= self.header.entries
    }

    /// Reads the header again. Call it before [`JournalFile::read`] to see what was appended.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` when the header is damaged, or another file's.
    pub fn refresh(&mut self, cache: &mut Cache) -> io::Result<()> {
        let header = read_header(&self.source, cache)?;
        if header.file_id != self.header.file_id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, FormatError::Header("file_id")));
        }
        if header.entries != self.header.entries {
            // Pages that were read before may end in the middle of what is linked now.
            cache.forget_pages(self.key);
        }
        self.header = header;
        Ok(())
    }

    /// Hands entries to `sink` until there are none, or the budget is spent.
    ///
    /// # Errors
    /// Those of pread(2), after which the same entry is tried again.
    pub fn read(
        &mut self,
        cache: &mut Cache,
        budget: &mut Budget,
        wanted: Wanted,
        sink: &mut dyn FnMut(&Record),
    ) -> io::Result<Progress> {
        while self.index < self.header.entries {
            if budget.is_spent() {
                return Ok(Progress::More);
            }
            let slot = match self.slot(cache, budget) {
                Ok(Some(slot)) => slot,
                Ok(None) => return Ok(Progress::More),
                Err(Bad::Io(error)) => return Err(error),
                Err(_) => {
                    // What the pages say of an array may be outdated at the next try.
                    cache.forget_pages(self.key);
                    return Ok(Progress::Broken);
                }
            };
            budget.entries -= 1;
            match self.entry(cache, budget, slot, wanted) {
                Ok(()) => {
                    self.index += 1;
                    self.seqnum = cache.record.head.seqnum;
                    self.damage.fields += u64::from(cache.record.damaged);
                    self.damage.cut += u64::from(cache.record.cut);
                    sink(&cache.record);
                }
                Err(Bad::Io(error)) => return Err(error),
                Err(Bad::Chain) => {
                    cache.forget_pages(self.key);
                    return Ok(Progress::Broken);
                }
                Err(Bad::Entry) => self.skip(),
            }
        }
        Ok(Progress::End)
    }

    /// Where the slot of the next entry is; `None` when the budget does not last until there.
    fn slot(&mut self, cache: &mut Cache, budget: &mut Budget) -> Result<Option<u64>, Bad> {
        if self.array.offset == 0 || self.index < self.array.before {
            self.array = self.array_at(cache, budget, self.header.entry_array, 0, 0)?;
        }
        loop {
            let within = self.index - self.array.before;
            if within < self.array.slots {
                let slot = self.array.offset + ARRAY_BYTES as u64 + within * self.header.slot_bytes();
                return Ok(Some(slot));
            }
            if budget.is_spent() {
                return Ok(None);
            }
            let mut head = [0; ARRAY_BYTES];
            let length = cache.read(&self.source, self.key, self.array.offset, &mut head)?;
            let next = format::next_array(&head[..length]).ok_or(Bad::Chain)?;
            let before = self.array.before.checked_add(self.array.slots).ok_or(Bad::Chain)?;
            self.array = self.array_at(cache, budget, next, self.array.offset, before)?;
        }
    }

    /// Reads the head of the array at `offset`, which has to be behind `previous`.
    fn array_at(
        &self,
        cache: &mut Cache,
        budget: &mut Budget,
        offset: u64,
        previous: u64,
        before: u64,
    ) -> Result<Array, Bad> {
        budget.take(ARRAY_BYTES as u64);
        if offset <= previous || !self.header.may_hold(offset) {
            return Err(Bad::Chain);
        }
        let mut head = [0; ARRAY_BYTES];
        let length = cache.read(&self.source, self.key, offset, &mut head)?;
        let object = Object::parse(&head[..length]).ok_or(Bad::Chain)?;
        let bytes = object.size.checked_sub(ARRAY_BYTES as u64).ok_or(Bad::Chain)?;
        if length < ARRAY_BYTES || object.kind != format::ENTRY_ARRAY || object.size > format::FILE_LIMIT {
            return Err(Bad::Chain);
        }
        Ok(Array { offset, before, slots: bytes / self.header.slot_bytes() })
    }

    /// Reads the entry that `slot` refers to into the cache's record.
    fn entry(
        &mut self,
        cache: &mut Cache,
        budget: &mut Budget,
        slot: u64,
        wanted: Wanted,
    ) -> Result<(), Bad> {
        let slot_bytes = self.header.slot_bytes() as usize;
        let mut bytes = [0; ENTRY_BYTES];
        let length = cache.read(&self.source, self.key, slot, &mut bytes[..slot_bytes])?;
        if length < slot_bytes {
            // The file ends within the array: there is nothing behind it.
            return Err(Bad::Chain);
        }
        let offset = format::slot(&self.header, &bytes[..slot_bytes]).ok_or(Bad::Entry)?;
        if offset <= self.last || !self.header.may_hold(offset) {
            return Err(Bad::Entry);
        }
        let length = cache.read(&self.source, self.key, offset, &mut bytes)?;
        let object = Object::parse(&bytes[..length]).ok_or(Bad::Entry)?;
        let items = object.size.checked_sub(ENTRY_BYTES as u64).ok_or(Bad::Entry)?;
        if object.kind != format::ENTRY || length < ENTRY_BYTES {
            return Err(Bad::Entry);
        }
        let head = EntryHead::parse(&bytes).ok_or(Bad::Entry)?;

        let all = items / self.header.item_bytes() as u64;
        let count = usize::try_from(all).unwrap_or(usize::MAX).min(ITEMS);
        let mut buffer = std::mem::take(&mut cache.items);
        buffer.resize(count * self.header.item_bytes(), 0);
        let length = cache.read(&self.source, self.key, offset + ENTRY_BYTES as u64, &mut buffer);
        let is_whole = matches!(length, Ok(length) if length == buffer.len());
        budget.take((ENTRY_BYTES + slot_bytes + buffer.len()) as u64);

        cache.record.clear();
        cache.record.head = head;
        cache.record.seqnum_id = self.header.seqnum_id;
        cache.record.ends = (offset.saturating_add(object.size), slot + slot_bytes as u64);
        let mut result = length.map(|_| ()).map_err(Bad::Io);
        if result.is_ok() && !is_whole {
            result = Err(Bad::Entry);
        }
        if result.is_ok() {
            self.last = offset;
            cache.record.cut += u32::from(all > ITEMS as u64);
            for data in format::items(&self.header, &buffer) {
                match self.data(cache, budget, data, offset, wanted) {
                    Ok(()) => {}
                    Err(Bad::Io(error)) => {
                        // Nothing of the entry was handed on: it may be read again.
                        self.last = 0;
                        result = Err(Bad::Io(error));
                        break;
                    }
                    Err(_) => cache.record.damaged += 1,
                }
            }
        }
        cache.items = buffer;
        result
    }

    /// Adds the DATA at `offset` to the record, if it is wanted.
    fn data(
        &self,
        cache: &mut Cache,
        budget: &mut Budget,
        offset: u64,
        entry: u64,
        wanted: Wanted,
    ) -> Result<(), Bad> {
        if wanted == Wanted::Named && cache.push_kept(self.key, offset) {
            budget.take(8);
            return Ok(());
        }
        // An entry is written after what it refers to.
        if offset >= entry || !self.header.may_hold(offset) {
            return Err(Bad::Entry);
        }
        let data_bytes = self.header.data_bytes();
        let mut start = [0; 72 + LONGEST_NAME + 1];
        let start = &mut start[..data_bytes + LONGEST_NAME + 1];
        let length = cache.read(&self.source, self.key, offset, start)?;
        let object = Object::parse(&start[..length]).ok_or(Bad::Entry)?;
        let size = object.size.checked_sub(data_bytes as u64).ok_or(Bad::Entry)?;
        if object.kind != format::DATA || length < data_bytes {
            return Err(Bad::Entry);
        }
        budget.take(length as u64);
        // A DATA that only one entry refers to will hardly be asked for again.
        let is_shared = format::references(start).is_some_and(|references| references > 1);

        let flags = object.flags & (format::OBJECT_XZ | format::OBJECT_LZ4 | format::OBJECT_ZSTD);
        if flags == 0 && wanted == Wanted::Named {
            let within = usize::try_from(size).unwrap_or(usize::MAX).min(length - data_bytes);
            let begin = &start[data_bytes..data_bytes + within];
            let field = memchr::memchr(b'=', begin).and_then(|equals| Field::named(&begin[..equals]));
            if field.is_none() {
                if is_shared {
                    cache.keep(self.key, offset, None, b"");
                }
                return Ok(());
            }
        }

        let room = FIELD_LIMIT.min(RECORD_LIMIT.saturating_sub(cache.record.len()));
        // A byte more than is wanted tells that there is more. What is compressed may, as a rule, not be larger than what it becomes.
        let count = usize::try_from(size).unwrap_or(usize::MAX).min(room + 1);
        let (mut raw, mut payload) = (std::mem::take(&mut cache.raw), std::mem::take(&mut cache.payload));
        raw.resize(count, 0);
        let read = cache.read(&self.source, self.key, offset + data_bytes as u64, &mut raw);
        let is_whole = matches!(read, Ok(length) if length == count);
        let mut result = read.map(|_| ()).map_err(Bad::Io);
        if result.is_ok() && !is_whole {
            result = Err(Bad::Entry);
        }
        if result.is_ok() {
            let outcome = payload::payload(flags, &raw, room, &mut payload);
            budget.take((raw.len() + if flags == 0 { 0 } else { payload.len() }) as u64);
            // Beyond the limit the compressed bytes end early, which is no damage.
            let is_cut = outcome == Outcome::Cut || (outcome == Outcome::Damaged && size > room as u64);
            if outcome == Outcome::Whole || is_cut {
                let name = memchr::memchr(b'=', &payload).map(|equals| &payload[..equals]);
                let field = name.and_then(Field::named);
                if wanted == Wanted::All || field.is_some() {
                    // Cut within its name it has no equals sign, and is left out.
                    if name.is_some() || !is_cut {
                        cache.record.push(field, &payload);
                    }
                    cache.record.cut += u32::from(is_cut);
                }
                if is_shared && !is_cut && wanted == Wanted::Named {
                    cache.keep(self.key, offset, field, &payload);
                }
            } else {
                result = Err(Bad::Entry);
            }
        }
        raw.clear();
        raw.shrink_to(KEPT_BYTES);
        payload.clear();
        payload.shrink_to(KEPT_BYTES);
        (cache.raw, cache.payload) = (raw, payload);
        result
    }
}

/// Room that is kept from field to field.
const KEPT_BYTES: usize = 64 * 1024;

fn read_header(source: &dyn ReadAt, cache: &mut Cache) -> io::Result<Header> {
    let mut bytes = [0; HEADER_BYTES];
    let length = cache.read_fresh(source, &mut bytes, 0)?;
    Header::parse(&bytes[..length]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
