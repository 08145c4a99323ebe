//! What outlives this process: how far everything was read, and the patterns learned from it. One file, so that both belong
//! together: what is read again after a crash was not counted in what is restored.
//!
//! ```text
//! nodeprobe logs 1
//! positions BYTES           and so many bytes, the text of Positions
//! journal FILE SEQNUM_ID ENTRIES SEQNUM
//! source BYTES CONTAINER LABEL      and so many bytes, the text of Patterns
//! end
//! ```
//! In names, `%`, blanks and control characters are `%` and two hexadecimal digits. A file that does not end
//! as it should counts for nothing: half of it would have us read old logs as if they were new.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::sources::Sources;
use crate::host::read_bounded;
use crate::logs::journal::export::hex;
use crate::logs::journal::file::Position;
use crate::logs::tail::positions::Positions;
use crate::sys::file::birth_s;

const TITLE: &str = "nodeprobe logs 1";

/// The file in the state directory.
const NAME: &str = "logs";

/// Bytes of the file: ten times what a large node has.
const MAX_BYTES: usize = 64 << 20;

/// What was saved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Of files.
    pub positions: Positions,
    /// Of journals.
    pub journals: Vec<Position>,
    /// Of sources, by container and label.
    pub patterns: HashMap<(Box<str>, Box<str>), Box<str>>,
    /// There was a file.
    pub is_found: bool,
    /// When it was written, in seconds since 1970.
    pub saved_s: u64,
}

impl State {
    /// What `directory` holds; nothing if there is no file.
    ///
    /// # Errors
    /// Those of open and read.
    pub fn load(directory: &Path) -> io::Result<State> {
        match read_bounded(&directory.join(NAME), MAX_BYTES) {
            Ok(text) => {
                let saved_s = birth_s(&directory.join(NAME)).map_or(0, |(born_s, _)| born_s);
                Ok(State { saved_s, ..State::parse(&text) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// Reads the text.
    pub fn parse(text: &[u8]) -> State {
        let mut state = State { is_found: true, ..State::default() };
        let mut rest = text;
        if line(&mut rest) != Some(TITLE) {
            return State::default();
        }
        loop {
            match line(&mut rest) {
                Some("end") => return state,
                Some(text) if state.section(text, &mut rest).is_some() => {}
                _ => return State::default(),
            }
        }
    }

    fn section(&mut self, text: &str, rest: &mut &[u8]) -> Option<()> {
        let mut words = text.split(' ');
        let mut block = |length: &str| {
            let (block, behind) = rest.split_at_checked(length.parse().ok()?)?;
            *rest = behind;
            Some(block)
        };
        match words.next()? {
            "positions" => self.positions = Positions::parse(block(words.next()?)?),
            "journal" => {
                let (file_id, seqnum_id) = (id(words.next()?)?, id(words.next()?)?);
                let (entries, seqnum) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                self.journals.push(Position { file_id, seqnum_id, entries, seqnum });
            }
            "source" => {
                let text = block(words.next()?)?;
                let (container, label) = (plain(words.next()?)?, plain(words.next()?)?);
                self.patterns.insert((container, label), std::str::from_utf8(text).ok()?.into());
            }
            _ => return None,
        }
        Some(())
    }
}

/// Writes the file anew; the old one stays until all is written. Without fsync(2), which may take seconds on a memory card:
/// after a power cut it may be that nothing is left of it.
///
/// # Errors
/// Those of open, write and rename.
pub fn save<'a>(
    directory: &Path,
    positions: &Positions,
    journals: impl Iterator<Item = Position>,
    sources: &Sources,
    name_of: impl Fn(&super::sources::Source) -> Option<&'a str>,
) -> io::Result<()> {
    let mut text = format!("{TITLE}\n");
    let files = positions.text();
    let _ = writeln!(text, "positions {}", files.len());
    text.push_str(&files);
    for position in journals {
        let (file, numbers) = (hex(&position.file_id), hex(&position.seqnum_id));
        let _ = writeln!(text, "journal {file} {numbers} {} {}", position.entries, position.seqnum);
    }
    let mut patterns = String::new();
    let mut write = |container: &str, label: &str, patterns: &str| {
        let _ = writeln!(text, "source {} {} {}", patterns.len(), escaped(container), escaped(label));
        text.push_str(patterns);
    };
    for source in sources.iter() {
        if let Some(container) = name_of(source) {
            patterns.clear();
            source.pipeline.patterns().save(&mut patterns);
            write(container, &source.label, &patterns);
        }
    }
    sources.saved().for_each(|(container, label, patterns)| write(container, label, patterns));
    text.push_str("end\n");
    let new = directory.join(format!("{NAME}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, directory.join(NAME))
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = memchr::memchr(b'\n', rest)?;
    let (text, behind) = rest.split_at(end);
    *rest = behind.get(1..).unwrap_or_default();
    std::str::from_utf8(text).ok()
}

fn id(text: &str) -> Option<[u8; 16]> {
    let number = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}

fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '%' || c == ' ' || c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn plain(word: &str) -> Option<Box<str>> {
    let mut out = Vec::with_capacity(word.len());
    let mut parts = word.split('%');
    out.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        out.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        out.extend_from_slice(part.get(2..)?.as_bytes());
    }
    Some(String::from_utf8(out).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const TEXT: &str = "nodeprobe logs 1\npositions 26\nnodeprobe log positions 1\n\
        journal 0123456789abcdef0123456789abcdef 00000000000000000000000000000001 7 9\n\
        source 4 /docker/a%20b stdout/stderr\nabc\nsource 0 /x journald\nend\n";

    #[test]
    fn what_was_written_is_read() {
        let state = State::parse(TEXT.as_bytes());
        assert!(state.is_found);
        assert_eq!(state.journals.len(), 1);
        assert_eq!((state.journals[0].entries, state.journals[0].seqnum), (7, 9));
        assert_eq!(hex(&state.journals[0].file_id), "0123456789abcdef0123456789abcdef");
        let name = (Box::from("/docker/a b"), Box::from("stdout/stderr"));
        assert_eq!(state.patterns.get(&name).map(|text| &**text), Some("abc\n"));
        assert_eq!(state.patterns.len(), 2);
    }

    #[test]
    fn names_survive() {
        for name in ["/docker/a b", "100%", "a\nb", "", "/ä/ö"] {
            assert!(!escaped(name).contains([' ', '\n']));
            assert_eq!(plain(&escaped(name)).as_deref(), Some(name));
        }
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(plain(broken), None);
        }
    }

    #[test]
    fn survives_any_bytes() {
        assert_eq!(State::parse(b""), State::default());
        for length in 0..TEXT.len() - 1 {
            assert_eq!(State::parse(&TEXT.as_bytes()[..length]), State::default());
        }
        fuzz::hammer(TEXT.as_bytes(), |bytes| {
            let _ = State::parse(bytes);
        });
    }
}
