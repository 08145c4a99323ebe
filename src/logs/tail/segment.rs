//! One file that is read: an inode, and how far.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use super::Counters;
use super::frame::{self, Framing, Record, Skip};
use super::positions::Entry;
use super::print::{HEAD, Print, TAIL};
use crate::host::{Host, process_root};
use crate::sys::clock::MonotonicNs;
use crate::sys::file::open_below;

/// What a file is, as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id {
    /// The device, `st_dev`.
    pub device: u64,
    /// The inode on it; used again when the file is gone.
    pub inode: u64,
}

/// What stat(2) said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which file.
    pub id: Id,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written to, in nanoseconds since 1970.
    pub written_ns: i64,
    /// Whether it has a name.
    pub named: bool,
}

impl Seen {
    /// The same, from `metadata`.
    pub fn of(metadata: &Metadata) -> Seen {
        Seen {
            id: Id { device: metadata.dev(), inode: metadata.ino() },
            size: metadata.size(),
            written_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            named: metadata.nlink() > 0,
        }
    }
}

/// Opens a regular file for reading, and nothing else: opening a FIFO would wake its writer, a device may do anything.
///
/// # Errors
/// Those of open(2); `InvalidInput` for what is no regular file.
pub fn open(host: &Host, real: &str) -> io::Result<(File, Seen)> {
    // A container may change its directories while we look, and its links mean another root than ours.
    let root = process_root(real);
    let below = real[root.len()..].trim_start_matches('/');
    let file = match open_below(&host.rootfs(root), Path::new(below)) {
        // Before Linux 5.6. What containers have below a root of their own is left alone there.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && root.is_empty() => {
            let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
            OpenOptions::new().read(true).custom_flags(flags).open(host.rootfs(real))?
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok((file, Seen::of(&metadata)))
}

/// How a read went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There may be more.
    More,
    /// That was all there is.
    End,
    /// What was read before is no longer there.
    Changed,
}

/// A file that is read, and what is known of it.
#[derive(Debug)]
pub struct Segment {
    /// Which file.
    pub id: Id,
    /// Its path without links when it was where the follower looks.
    pub origin: Rc<str>,
    /// Where the first record begins that was not given yet.
    pub position: u64,
    /// What is passed over there.
    pub skip: Skip,
    /// Of the first bytes.
    pub head: Print,
    /// Of the last bytes before `position`.
    pub tail: Print,
    /// Its size when somebody looked.
    pub size: u64,
    /// When it was written to, as then seen.
    pub written_ns: i64,
    /// The same when it was last seen where the follower looks. Its writer may go on for a while, when others already write to
    /// the files that come after it.
    pub stood_ns: i64,
    /// Whether it had a name then.
    pub named: bool,
    /// The open file.
    pub file: Option<File>,
    /// Whether it was read up to `size`.
    pub at_end: bool,
    /// Since when nothing was added.
    pub quiet_since_ns: MonotonicNs,
    /// Whether it was read since the last search for files to close.
    pub used: bool,
}

impl Segment {
    /// A file not read yet.
    pub fn new(seen: Seen, origin: &Rc<str>, now_ns: MonotonicNs) -> Segment {
        Segment {
            id: seen.id,
            origin: Rc::clone(origin),
            position: 0,
            skip: Skip::Nothing,
            head: Print::default(),
            tail: Print::default(),
            size: seen.size,
            written_ns: seen.written_ns,
            stood_ns: seen.written_ns,
            named: seen.named,
            file: None,
            at_end: false,
            quiet_since_ns: now_ns,
            used: true,
        }
    }

    /// A file of the followed `path` that was read before, up to where `entry` says.
    pub fn resumed(entry: &Entry, path: &Rc<str>, now_ns: MonotonicNs) -> Segment {
        Segment {
            id: entry.id,
            origin: entry.origin.as_deref().map_or_else(|| Rc::clone(path), Rc::from),
            position: entry.position,
            skip: entry.skip,
            head: entry.head,
            tail: entry.tail,
            size: entry.position,
            written_ns: entry.written_ns,
            stood_ns: entry.written_ns,
            named: true,
            file: None,
            at_end: false,
            quiet_since_ns: now_ns,
            used: true,
        }
    }

    /// How far it was read, to be kept for the followed `path`.
    pub fn entry(&self, path: &str, done: bool) -> Entry {
        Entry {
            id: self.id,
            position: self.position,
            skip: self.skip,
            written_ns: self.stood_ns,
            head: self.head,
            tail: self.tail,
            done,
            origin: (*self.origin != *path).then(|| self.origin.as_ref().into()),
        }
    }

    /// Takes note of what stat(2) said; `touched`: somebody wrote, whatever it said.
    pub fn observe(&mut self, seen: Seen, touched: bool, now_ns: MonotonicNs, counters: &mut Counters) {
        if seen.size < self.position {
            self.cut(counters);
        }
        if seen.size != self.size || seen.written_ns != self.written_ns {
            self.quiet_since_ns = now_ns;
            self.at_end = false;
        }
        self.at_end &= !touched;
        (self.size, self.written_ns, self.named) = (seen.size, seen.written_ns, seen.named);
    }

    /// It was truncated: all that is there now is new.
    pub fn cut(&mut self, counters: &mut Counters) {
        counters.truncations += 1;
        counters.lost_bytes += self.size.saturating_sub(self.position);
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.position = 0;
        self.skip = Skip::Nothing;
        (self.head, self.tail) = (Print::default(), Print::default());
        self.at_end = false;
    }

    /// Gives the file it is read from; false when that does not hold what was read of it.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn attach(&mut self, file: File) -> io::Result<bool> {
        let same = holds(&file, self.position, self.head, self.tail)?;
        self.file = Some(file);
        Ok(same)
    }

    /// Reads up to `budget` bytes, or a record if that is longer; hands whole records to `each`. With `last`, what the file ends
    /// with is one too.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(
        &mut self,
        framing: Framing,
        budget: usize,
        last: bool,
        buffer: &mut [u8],
        counters: &mut Counters,
        each: &mut dyn FnMut(Record<'_>),
    ) -> io::Result<(usize, Outcome)> {
        let Some(file) = &self.file else {
            return Ok((0, Outcome::End));
        };
        self.used = true;
        // The bytes before the position are read along, to see that they still are what they were.
        let before = usize::from(self.tail.length);
        let from = self.position - before as u64;
        let mut want = (before + budget.max(4096)).min(buffer.len());
        loop {
            let got = read_at(file, &mut buffer[..want], from)?;
            if got < before || Print::of(&buffer[..before]) != self.tail {
                counters.truncations += 1;
                self.begin_again();
                return Ok((0, Outcome::Changed));
            }
            let data = &buffer[before..got];
            let end = got < want;
            let taken = frame::split(framing, &mut self.skip, data, |record| {
                counters.records += 1;
                each(record);
            });
            let mut bytes = taken.bytes;
            if bytes == 0 && !end && want < buffer.len() {
                want = buffer.len();
                continue;
            }
            counters.too_long += taken.too_long;
            counters.lost_bytes += taken.damaged;
            if end && last {
                let left = &data[bytes..];
                match frame::rest(framing, self.skip, left) {
                    Some(record) => {
                        counters.records += 1;
                        each(record);
                    }
                    None => counters.lost_bytes += left.len() as u64,
                }
                bytes = data.len();
            }
            counters.bytes += bytes as u64;
            if end {
                self.size = from + got as u64;
                self.at_end = true;
            }
            if bytes > 0 {
                self.position += bytes as u64;
                let read = before + bytes;
                self.tail = Print::of(&buffer[read.saturating_sub(TAIL)..read]);
                if usize::from(self.head.length) < HEAD {
                    let mut head = [0; HEAD];
                    let length = (HEAD as u64).min(self.position) as usize;
                    let got = read_at(file, &mut head[..length], 0)?;
                    self.head = Print::of(&head[..got]);
                }
            }
            return Ok((bytes, if end { Outcome::End } else { Outcome::More }));
        }
    }

    /// Begins at the end, or where the last record begins that has no end yet.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn go_to_end(&mut self, framing: Framing, buffer: &mut [u8]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let from = self.size.saturating_sub(frame::MAX_RECORD as u64);
        let got = read_at(file, &mut buffer[..frame::MAX_RECORD], from)?;
        let end = match framing {
            Framing::Lines => memchr::memrchr(b'\n', &buffer[..got]).map_or(0, |at| at + 1),
            Framing::Lengths => got,
        };
        self.position = from + end as u64;
        if end == 0 && from > 0 {
            // In the middle of a line beyond the bound.
            (self.position, self.skip) = (from + got as u64, Skip::Line);
        }
        (self.head, self.tail) = prints(file, self.position)?;
        Ok(())
    }

    /// Bytes not given yet, the beginning of a record included.
    pub fn lag_bytes(&self) -> u64 {
        self.size.saturating_sub(self.position)
    }
}

/// The fingerprints of a file read up to `position`.
///
/// # Errors
/// Those of read(2).
pub fn prints(file: &File, position: u64) -> io::Result<(Print, Print)> {
    let (mut head, mut tail) = ([0; HEAD], [0; TAIL]);
    let head_length = position.min(HEAD as u64);
    let head_got = read_at(file, &mut head[..head_length as usize], 0)?;
    let tail_length = position.min(TAIL as u64);
    let tail_got = read_at(file, &mut tail[..tail_length as usize], position - tail_length)?;
    Ok((Print::of(&head[..head_got]), Print::of(&tail[..tail_got])))
}

/// Whether a file was read up to `position` with these fingerprints.
///
/// # Errors
/// Those of read(2).
pub fn holds(file: &File, position: u64, head: Print, tail: Print) -> io::Result<bool> {
    let mut buffer = [0; HEAD];
    for (print, at) in [(head, 0), (tail, position.saturating_sub(u64::from(tail.length)))] {
        let length = usize::from(print.length).min(HEAD);
        let got = read_at(file, &mut buffer[..length], at)?;
        if Print::of(&buffer[..got]) != print {
            return Ok(false);
        }
    }
    Ok(file.metadata()?.len() >= position)
}

/// Reads until `buffer` is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], from + got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
