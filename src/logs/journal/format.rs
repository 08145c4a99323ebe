//! The objects of a journal file: bytes in, plain values out.
//!
//! All numbers are little-endian, all objects begin at a multiple of eight. Compact files (systemd 252) have offsets of 32 bits
//! in their arrays and entries, and eight more bytes in front of the payload of DATA. Source: `journal-def.h` of systemd.

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

use std::fmt;

/// Bytes of the header that every revision of the format has, and all that is read of it.
pub const HEADER_BYTES: usize = 208;
/// Bytes in front of every object: type, flags, size.
pub const OBJECT_BYTES: usize = 16;
/// Bytes of an ENTRY in front of its items.
pub const ENTRY_BYTES: usize = 64;
/// Bytes of an ENTRY_ARRAY in front of its slots.
pub const ARRAY_BYTES: usize = 24;
/// Bytes of a FIELD in front of the name.
pub const FIELD_BYTES: usize = 40;

/// `OBJECT_DATA`: one `NAME=value`.
pub const DATA: u8 = 1;
/// `OBJECT_FIELD`: one name.
pub const FIELD: u8 = 2;
/// `OBJECT_ENTRY`: time stamps and offsets of DATA.
pub const ENTRY: u8 = 3;
/// `OBJECT_ENTRY_ARRAY`: offsets of entries, in their order.
pub const ENTRY_ARRAY: u8 = 6;

/// `OBJECT_COMPRESSED_XZ`, a flag of DATA.
pub const OBJECT_XZ: u8 = 1;
/// `OBJECT_COMPRESSED_LZ4`.
pub const OBJECT_LZ4: u8 = 1 << 1;
/// `OBJECT_COMPRESSED_ZSTD`.
pub const OBJECT_ZSTD: u8 = 1 << 2;

/// `HEADER_INCOMPATIBLE_COMPRESSED_XZ`: some DATA may be compressed with xz.
pub const FILE_XZ: u32 = 1;
/// `HEADER_INCOMPATIBLE_COMPRESSED_LZ4`.
pub const FILE_LZ4: u32 = 1 << 1;
/// `HEADER_INCOMPATIBLE_KEYED_HASH`: hash tables, which are not read here, use siphash24.
pub const FILE_KEYED_HASH: u32 = 1 << 2;
/// `HEADER_INCOMPATIBLE_COMPRESSED_ZSTD`.
pub const FILE_ZSTD: u32 = 1 << 3;
/// `HEADER_INCOMPATIBLE_COMPACT`: offsets of 32 bits.
pub const FILE_COMPACT: u32 = 1 << 4;
/// Flags whose meaning is known here.
const KNOWN: u32 = FILE_XZ | FILE_LZ4 | FILE_KEYED_HASH | FILE_ZSTD | FILE_COMPACT;

/// Largest time stamp systemd takes for one, in microseconds: the year 3111.
const TIME_LIMIT_US: u64 = 1 << 55;
/// Largest header that is believed: it has grown by 64 bytes in ten years.
const HEADER_LIMIT: u64 = 64 * 1024;

/// Bytes of a file that are believed: offsets of pread(2), and twice as much without overflow.
pub const FILE_LIMIT: u64 = 1 << 62;

/// A 128-bit id, as it is in the file.
pub type Id = [u8; 16];

/// Why a file cannot be read as a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatError {
    /// Shorter than a header, as a file is that is just being made.
    Short,
    /// The first eight bytes are not those of a journal; of a new file they are written late.
    Signature,
    /// Incompatible flags, these ones, that a later systemd has invented.
    Incompatible(u32),
    /// A number of the header cannot be right; its name.
    Header(&'static str),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Short => f.write_str("shorter than a journal's header"),
            FormatError::Signature => f.write_str("not a journal: no LPKSHHRH at the start"),
            FormatError::Incompatible(flags) => {
                write!(f, "incompatible flags {flags:#x}: written by a systemd newer than this program knows")
            }
            FormatError::Header(what) => write!(f, "{what} in the header cannot be right"),
        }
    }
}

impl std::error::Error for FormatError {}

/// What a file's writer is doing with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// `STATE_OFFLINE`: closed; may be opened for writing again.
    Offline,
    /// `STATE_ONLINE`: being written, or left by a writer that died.
    Online,
    /// `STATE_ARCHIVED`: nothing is appended any more.
    Archived,
    /// A number unknown here.
    Other(u8),
}

/// The header, as far as reading forward needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Incompatible flags, all of them known: `FILE_…`.
    pub incompatible: u32,
    /// What the writer is doing.
    pub state: State,
    /// Of this file; stays when it is renamed.
    pub file_id: Id,
    /// Boot of the last entry.
    pub tail_boot_id: Id,
    /// Of the numbering of entries: files with the same one share it.
    pub seqnum_id: Id,
    /// Bytes of the header, where objects begin.
    pub header_size: u64,
    /// Entries in the chain of arrays.
    pub entries: u64,
    /// Number of the first entry; 0 without entries.
    pub head_seqnum: u64,
    /// Number of the last entry; 0 without entries.
    pub tail_seqnum: u64,
    /// Offset of the first array of the chain; 0 without entries.
    pub entry_array: u64,
    /// Monotonic time of the last entry, in microseconds of the boot `tail_boot_id`.
    pub tail_monotonic_us: u64,
}

impl Header {
    /// Reads a header from the first [`HEADER_BYTES`] of a file.
    ///
    /// # Errors
    /// When these are not the first bytes of a journal, or of one that a newer systemd has written.
    pub fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(FormatError::Short)?;
        if !bytes.starts_with(b"LPKSHHRH") {
            return Err(FormatError::Signature);
        }
        let number = |at: usize| u64_at(bytes, at).ok_or(FormatError::Short);
        let id = |at: usize| id_at(bytes, at).ok_or(FormatError::Short);
        let incompatible = u32_at(bytes, 12).ok_or(FormatError::Short)?;
        if incompatible & !KNOWN != 0 {
            return Err(FormatError::Incompatible(incompatible & !KNOWN));
        }
        let header = Header {
            incompatible,
            state: match bytes.get(16) {
                Some(0) => State::Offline,
                Some(1) => State::Online,
                Some(2) => State::Archived,
                other => State::Other(other.copied().unwrap_or_default()),
            },
            file_id: id(24)?,
            tail_boot_id: id(56)?,
            seqnum_id: id(72)?,
            header_size: number(88)?,
            entries: number(152)?,
            tail_seqnum: number(160)?,
            head_seqnum: number(168)?,
            entry_array: number(176)?,
            tail_monotonic_us: number(200)?,
        };
        if header.header_size < HEADER_BYTES as u64 || header.header_size > HEADER_LIMIT {
            return Err(FormatError::Header("header_size"));
        }
        Ok(header)
    }

    /// Whether offsets in arrays and entries have 32 bits.
    pub fn is_compact(&self) -> bool {
        self.incompatible & FILE_COMPACT != 0
    }

    /// Bytes of a slot of an ENTRY_ARRAY.
    pub fn slot_bytes(&self) -> u64 {
        if self.is_compact() { 4 } else { 8 }
    }

    /// Bytes of an item of an ENTRY; in files that are not compact a hash follows the offset.
    pub fn item_bytes(&self) -> usize {
        if self.is_compact() { 4 } else { 16 }
    }

    /// Bytes of a DATA in front of its payload.
    pub fn data_bytes(&self) -> usize {
        if self.is_compact() { 72 } else { 64 }
    }

    /// Whether an object can begin at `offset`.
    pub fn may_hold(&self, offset: u64) -> bool {
        offset >= self.header_size && offset < FILE_LIMIT && offset.is_multiple_of(8)
    }
}

/// What every object begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its type: [`DATA`], [`ENTRY`] …
    pub kind: u8,
    /// [`OBJECT_XZ`], [`OBJECT_LZ4`], [`OBJECT_ZSTD`].
    pub flags: u8,
    /// Bytes with this head and without padding.
    pub size: u64,
}

impl Object {
    /// Reads an object's head; `None` when it is cut or its size is less than that.
    pub fn parse(bytes: &[u8]) -> Option<Object> {
        let object = Object { kind: *bytes.first()?, flags: *bytes.get(1)?, size: u64_at(bytes, 8)? };
        (object.size >= OBJECT_BYTES as u64).then_some(object)
    }
}

/// An ENTRY without its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryHead {
    /// Its number; grows within a file.
    pub seqnum: u64,
    /// When journald took it, in microseconds since 1970.
    pub realtime_us: u64,
    /// The same in microseconds of the boot `boot_id`.
    pub monotonic_us: u64,
    /// The boot it is from.
    pub boot_id: Id,
    /// Hashes of its fields; a part of cursors.
    pub xor_hash: u64,
}

impl EntryHead {
    /// Reads the first [`ENTRY_BYTES`] of an object of type [`ENTRY`]; `None` when its numbers cannot be right.
    pub fn parse(bytes: &[u8]) -> Option<EntryHead> {
        let head = EntryHead {
            seqnum: u64_at(bytes, 16)?,
            realtime_us: u64_at(bytes, 24)?,
            monotonic_us: u64_at(bytes, 32)?,
            boot_id: id_at(bytes, 40)?,
            xor_hash: u64_at(bytes, 56)?,
        };
        // As journald itself checks them (check_object in journal-file.c).
        let is_time = |time: u64| time < TIME_LIMIT_US;
        let is_right = head.seqnum > 0
            && head.realtime_us > 0
            && is_time(head.realtime_us)
            && is_time(head.monotonic_us);
        is_right.then_some(head)
    }
}

/// Offsets of DATA in the items of an entry.
pub fn items(header: &Header, items: &[u8]) -> impl Iterator<Item = u64> {
    let compact = header.is_compact();
    items.chunks_exact(header.item_bytes()).filter_map(move |item| offset_at(compact, item))
}

/// The offset in a slot of an array, which may be 0.
pub fn slot(header: &Header, slot: &[u8]) -> Option<u64> {
    offset_at(header.is_compact(), slot)
}

/// Offset of the array after this one, 0 for the last.
pub fn next_array(array: &[u8]) -> Option<u64> {
    u64_at(array, 16)
}

/// Entries that refer to a DATA.
pub fn references(data: &[u8]) -> Option<u64> {
    u64_at(data, 56)
}

fn offset_at(compact: bool, bytes: &[u8]) -> Option<u64> {
    if compact { u32_at(bytes, 0).map(u64::from) } else { u64_at(bytes, 0) }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn id_at(bytes: &[u8], at: usize) -> Option<Id> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        bytes[16] = 2;
        bytes[24..40].fill(7);
        bytes[88..96].copy_from_slice(&272u64.to_le_bytes());
        bytes[152..160].copy_from_slice(&3u64.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_is_what_it_says() {
        let mut bytes = header();
        let read = Header::parse(&bytes).unwrap();
        assert_eq!((read.state, read.file_id, read.entries), (State::Archived, [7; 16], 3));
        assert_eq!((read.slot_bytes(), read.item_bytes(), read.data_bytes()), (8, 16, 64));
        assert!(read.may_hold(272) && !read.may_hold(273) && !read.may_hold(264) && !read.may_hold(0));
        bytes[12] = FILE_COMPACT as u8 | FILE_ZSTD as u8;
        let read = Header::parse(&bytes).unwrap();
        assert_eq!((read.slot_bytes(), read.item_bytes(), read.data_bytes()), (4, 4, 72));
    }

    #[test]
    fn what_is_no_journal_is_told_apart() {
        let mut bytes = header();
        assert_eq!(Header::parse(&bytes[..207]), Err(FormatError::Short));
        bytes[13] = 1;
        assert_eq!(Header::parse(&bytes), Err(FormatError::Incompatible(256)));
        let text = FormatError::Incompatible(256).to_string();
        assert!(text.starts_with("incompatible flags 0x100"), "{text}");
        bytes[13] = 0;
        bytes[95] = 1;
        assert_eq!(Header::parse(&bytes), Err(FormatError::Header("header_size")));
        bytes[0] = 0;
        assert_eq!(Header::parse(&bytes), Err(FormatError::Signature));
    }

    #[test]
    fn any_bytes_are_survived() {
        let sample = header();
        let regular = Header::parse(&sample).unwrap();
        crate::procfs::fuzz::hammer(&sample, |bytes| {
            let header = Header::parse(bytes).unwrap_or(regular);
            let _ = (Object::parse(bytes), EntryHead::parse(bytes), references(bytes), next_array(bytes));
            let _ = (slot(&header, bytes), items(&header, bytes).count());
        });
    }
}
