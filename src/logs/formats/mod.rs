//! How runtimes wrap what a container writes: one file for each format, and one table of them.
//!
//! A format turns one *record* into a *piece* of a line. Runtimes cut long lines; [`Joined`] puts the pieces together again, each
//! stream for itself.

pub mod cri;
pub mod docker;
pub mod local;
pub mod plain;

use super::message::flat;
pub use super::tail::frame::Framing;

/// Bytes of a line; the rest of a longer one is dropped. Only its beginning tells what it is.
pub const LINE_BYTES: usize = 64 * 1024;

/// Which of its two outputs a container has written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// Standard output, and what does not say.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The stream of a runtime's word for it.
    pub fn of_word(word: &[u8]) -> Stream {
        if word == b"stderr" { Stream::Stderr } else { Stream::Stdout }
    }
}

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its text, without the newline.
    pub text: &'a [u8],
    /// Where it was written.
    pub stream: Stream,
    /// Whether more of the line follows.
    pub partial: bool,
}

/// A format.
#[derive(Debug)]
pub struct Format {
    /// Its name, for flags.
    pub name: &'static str,
    /// How its records follow each other.
    pub framing: Framing,
    /// The piece in a record, with a buffer for text that had to be unescaped; `None` if the record is broken.
    pub decode: for<'a> fn(&'a [u8], &'a mut Vec<u8>) -> Option<Piece<'a>>,
}

/// All formats. What has records but no files to read, such as journald, gives its messages to the pipeline itself.
pub static FORMATS: &[Format] = &[plain::FORMAT, docker::FORMAT, cri::FORMAT, local::FORMAT];

/// The format of that name.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The first record of `data` and how many bytes it takes up; `None` if it is not complete. A record that cannot be one is
/// empty and takes up what is broken.
pub fn record(framing: Framing, data: &[u8]) -> Option<(&[u8], usize)> {
    match framing {
        Framing::Lines => {
            let end = memchr::memchr(b'\n', data)?;
            Some((&data[..end], end + 1))
        }
        Framing::Lengths => local::record(data),
    }
}

/// Puts pieces of lines together.
#[derive(Debug, Default)]
pub struct Joined {
    streams: [Pending; 2],
    /// Bytes of lines beyond [`LINE_BYTES`].
    dropped: u64,
}

#[derive(Debug, Default)]
struct Pending {
    text: Vec<u8>,
    /// A piece has come, maybe an empty one.
    begun: bool,
}

impl Joined {
    /// Takes a piece: the line that is complete with it.
    pub fn push<'a>(&'a mut self, piece: Piece<'a>) -> Option<&'a [u8]> {
        let pending = &mut self.streams[piece.stream as usize];
        if !piece.partial && !pending.begun {
            let kept = piece.text.len().min(LINE_BYTES);
            self.dropped += (piece.text.len() - kept) as u64;
            return Some(&piece.text[..kept]);
        }
        if !pending.begun {
            pending.text.clear();
        }
        let kept = piece.text.len().min(LINE_BYTES - pending.text.len().min(LINE_BYTES));
        pending.text.extend_from_slice(&piece.text[..kept]);
        self.dropped += (piece.text.len() - kept) as u64;
        pending.begun = piece.partial;
        (!piece.partial).then_some(pending.text.as_slice())
    }

    /// Ends a line of `stream` whose end has not come, and frees the buffer.
    pub fn flush(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let pending = std::mem::take(&mut self.streams[stream as usize]);
        pending.begun.then_some(pending.text)
    }

    /// Bytes of lines that were too long.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.streams.iter().map(|pending| pending.text.capacity()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &[u8], stream: Stream, partial: bool) -> Piece<'_> {
        Piece { text, stream, partial }
    }

    #[test]
    fn pieces_are_joined_for_each_stream() {
        let mut joined = Joined::default();
        assert_eq!(joined.push(piece(b"a", Stream::Stdout, true)), None);
        assert_eq!(joined.push(piece(b"whole", Stream::Stderr, false)), Some(&b"whole"[..]));
        assert_eq!(joined.push(piece(b"b", Stream::Stdout, true)), None);
        assert_eq!(joined.push(piece(b"c", Stream::Stdout, false)), Some(&b"abc"[..]));
        assert_eq!(joined.push(piece(b"d", Stream::Stdout, false)), Some(&b"d"[..]));
        assert_eq!(joined.push(piece(b"e", Stream::Stdout, true)), None);
        assert_eq!(joined.flush(Stream::Stdout), Some(b"e".to_vec()));
        assert_eq!(joined.flush(Stream::Stdout), None);
    }

    #[test]
    fn lines_have_a_bound() {
        let mut joined = Joined::default();
        let long = vec![b'x'; LINE_BYTES];
        assert_eq!(joined.push(piece(&long, Stream::Stdout, true)), None);
        assert_eq!(joined.push(piece(&long, Stream::Stdout, true)), None);
        assert_eq!(joined.push(piece(b"end", Stream::Stdout, false)).map(<[u8]>::len), Some(LINE_BYTES));
        assert_eq!(joined.dropped(), LINE_BYTES as u64 + 3);
    }

    #[test]
    fn no_format_stumbles_over_any_bytes() {
        let records: [&[u8]; 4] = [
            b"a line",
            br#"{"log":"a\tline\n","stream":"stderr","time":"2026-01-02T10:00:00Z"}"#,
            b"2026-01-02T10:00:00.000000000Z stderr P a line",
            b"\x0a\x06stdout\x10\x96\x01\x1a\x06a line\x20\x01",
        ];
        for (format, record) in FORMATS.iter().zip(records) {
            let mut joined = Joined::default();
            let mut buffer = Vec::new();
            assert!((format.decode)(record, &mut buffer).is_some(), "{}", format.name);
            crate::procfs::fuzz::hammer(record, |data| {
                let mut rest = data;
                while let Some((record, taken)) = super::record(format.framing, rest) {
                    if let Some(piece) = (format.decode)(record, &mut buffer) {
                        joined.push(piece);
                    }
                    rest = &rest[taken..];
                }
                if let Some(piece) = (format.decode)(data, &mut buffer) {
                    joined.push(piece);
                }
            });
        }
    }
}
