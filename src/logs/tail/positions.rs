//! How far files were read, from one life of nodeprobe to the next: a text file, a line per file.
//!
//! ```text
//! nodeprobe log positions 1
//! DEVICE INODE POSITION SKIP WRITTEN_NS HEAD TAIL done|open ORIGIN PATH
//! ```
//! `SKIP` is `-`, `line` or a number of bytes, `HEAD` and `TAIL` are `length:hash`, `ORIGIN` is `-` where it is `PATH`.
//! In paths, `%`, blanks and control characters are `%` and two hexadecimal digits.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::frame::Skip;
use super::print::{HEAD, Print};
use super::segment::Id;
use crate::host::read_bounded;

/// Entries that are kept, ten times what a large node has.
pub const MAX_ENTRIES: usize = 65_536;

/// Bytes of the file.
const MAX_BYTES: usize = 32 << 20;

const TITLE: &str = "nodeprobe log positions 1";

/// How far one file was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Which file.
    pub id: Id,
    /// Where the first record begins that was not given.
    pub position: u64,
    /// What is passed over there.
    pub skip: Skip,
    /// When it was written to, as far as was seen where the follower looks, in nanoseconds since 1970.
    pub written_ns: i64,
    /// Of its first bytes.
    pub head: Print,
    /// Of the bytes before the position.
    pub tail: Print,
    /// Rotated away and read to its end.
    pub done: bool,
    /// Its path without links when it was current, where that is not the path followed.
    pub origin: Option<Box<str>>,
}

/// How far the files of each followed path were read, the oldest file first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    files: HashMap<Box<str>, Vec<Entry>>,
    count: usize,
}

impl Positions {
    /// What `path` holds; nothing when there is no such file.
    ///
    /// # Errors
    /// Those of open and read, and `FileTooLarge`.
    pub fn load(path: &Path) -> io::Result<Positions> {
        match read_bounded(path, MAX_BYTES) {
            Ok(text) => Ok(Positions::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Positions::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file `path`: after a crash it holds what it did, or this.
    ///
    /// # Errors
    /// Those of writing beside it and of rename(2).
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("tmp");
        let flags = libc::O_NOFOLLOW;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&beside)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }

    /// Reads the text; lines that make no sense are left out.
    pub fn parse(text: &[u8]) -> Positions {
        let mut positions = Positions::default();
        let mut lines = text.split(|&byte| byte == b'\n');
        if lines.next() != Some(TITLE.as_bytes()) {
            return positions;
        }
        for line in lines {
            if let Some((path, entry)) = std::str::from_utf8(line).ok().and_then(parse_line) {
                positions.add(&path, entry);
            }
        }
        positions
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (path, entries) in &self.files {
            for entry in entries {
                write_line(&mut text, path, entry);
            }
        }
        text
    }

    /// Adds a file behind those of `path` that are there; beyond the bound it is left out.
    pub fn add(&mut self, path: &str, entry: Entry) {
        if self.count < MAX_ENTRIES {
            self.count += 1;
            self.files.entry(path.into()).or_default().push(entry);
        }
    }

    /// The paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(|path| &**path)
    }

    /// Takes out the files of `path`.
    pub fn take(&mut self, path: &str) -> Vec<Entry> {
        let entries = self.files.remove(path).unwrap_or_default();
        self.count -= entries.len();
        entries
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        *self = Positions::default();
    }

    /// How many files are in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn write_line(text: &mut String, path: &str, entry: &Entry) {
    let skip = match entry.skip {
        Skip::Nothing => "-".to_owned(),
        Skip::Line => "line".to_owned(),
        Skip::Bytes(left) => left.to_string(),
    };
    let _ = write!(
        text,
        "{} {} {} {skip} {} {}:{:x} {}:{:x} {} ",
        entry.id.device,
        entry.id.inode,
        entry.position,
        entry.written_ns,
        entry.head.length,
        entry.head.hash,
        entry.tail.length,
        entry.tail.hash,
        if entry.done { "done" } else { "open" },
    );
    match &entry.origin {
        Some(origin) => escape(text, origin),
        None => text.push('-'),
    }
    text.push(' ');
    escape(text, path);
    text.push('\n');
}

fn parse_line(line: &str) -> Option<(String, Entry)> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let id = Id { device: word()?.parse().ok()?, inode: word()?.parse().ok()? };
    let position = word()?.parse().ok()?;
    let skip = match word()? {
        "-" => Skip::Nothing,
        "line" => Skip::Line,
        number => Skip::Bytes(number.parse().ok()?),
    };
    let written_ns = word()?.parse().ok()?;
    let (head, tail) = (parse_print(word()?, position)?, parse_print(word()?, position)?);
    let done = match word()? {
        "done" => true,
        "open" => false,
        _ => return None,
    };
    let origin = match word()? {
        "-" => None,
        origin => Some(unescape(origin)?.into()),
    };
    let path = unescape(word()?)?;
    let entry = Entry { id, position, skip, written_ns, head, tail, done, origin };
    words.next().is_none().then_some((path, entry))
}

fn parse_print(word: &str, position: u64) -> Option<Print> {
    let (length, hash) = word.split_once(':')?;
    let print = Print { length: length.parse().ok()?, hash: u64::from_str_radix(hash, 16).ok()? };
    (usize::from(print.length) <= HEAD && u64::from(print.length) <= position).then_some(print)
}

fn escape(text: &mut String, path: &str) {
    for character in path.chars() {
        if character <= ' ' || character == '%' || character == '\x7f' {
            let _ = write!(text, "%{:02x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
}

fn unescape(word: &str) -> Option<String> {
    let mut path = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, behind)) = rest.split_once('%') {
        path.push_str(before);
        let (digits, behind) = behind.split_at_checked(2)?;
        path.push(char::from(u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?));
        rest = behind;
    }
    path.push_str(rest);
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    fn sample() -> Positions {
        let entry = Entry {
            id: Id { device: 1, inode: 2 },
            position: 300,
            skip: Skip::Nothing,
            written_ns: 1_700_000_000_000_000_001,
            head: Print::of(&[b'x'; 256]),
            tail: Print::of(b"tail"),
            done: false,
            origin: None,
        };
        let mut positions = Positions::default();
        let old = Entry { done: true, origin: Some("/data/a b%\n.log".into()), ..entry.clone() };
        positions.add("/var/log/ü.log", old);
        positions.add("/var/log/ü.log", Entry { skip: Skip::Line, ..entry.clone() });
        positions.add("/b", Entry { skip: Skip::Bytes(7), ..entry });
        positions
    }

    #[test]
    fn what_is_written_is_read() {
        let mut positions = sample();
        assert_eq!(Positions::parse(positions.text().as_bytes()), positions);
        assert_eq!(positions.take("/var/log/ü.log").len(), 2);
        assert_eq!(positions.len(), 1);
    }

    #[test]
    fn any_text_is_read() {
        let text = sample().text();
        fuzz::hammer(text.as_bytes(), |text| {
            let read = Positions::parse(text);
            assert_eq!(Positions::parse(read.text().as_bytes()), read);
        });
    }

    #[test]
    fn the_file_is_replaced() {
        let path = std::env::temp_dir().join(format!("nodeprobe-positions-{}", std::process::id()));
        assert!(Positions::load(&path).unwrap().is_empty());
        for _ in 0..2 {
            sample().save(&path).unwrap();
        }
        assert_eq!(Positions::load(&path).unwrap(), sample());
        fs::remove_file(&path).unwrap();
    }
}
